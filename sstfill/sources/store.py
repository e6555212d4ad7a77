# SPDX-License-Identifier: Apache-2.0
"""A Zarr store that is laid out first and then filled window by window, marked incomplete until it
is whole.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import config
from sstfill.errors import InputError, ReadError, WriteError
from sstfill.io import atomic_path
from sstfill.io.atomic import flush
from sstfill.io.packing import VALID
from sstfill.io.untrusted import guard

STATE = "sstfill_state"
COMPLETE, INCOMPLETE = "complete", "incomplete"
UNITS = {"s": "seconds since 1970-01-01", "ms": "milliseconds since 1970-01-01"}


def attributes(out: Path) -> dict[str, Any] | None:
    """Global attributes of a store, None where there is nothing; `WriteError` where there is
    something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out.is_dir() and guard.is_store(out)):
        raise WriteError(
            f"cannot write {out}: there is something else than a Zarr store; choose another name"
        )
    try:
        return dict(guard.open_group(out, mode="r", use_consolidated=False).attrs)
    except ReadError as error:
        raise WriteError(
            f"cannot write {out}: there is something else than a Zarr store; choose another name"
        ) from error


def create(
    out: Path,
    ds: xr.Dataset,
    lengths: Mapping[str, int],
    zarr_format: int,
    attrs: Mapping[str, Any],
) -> None:
    """Lay a store out, whole or not at all: coordinates, what does not change in time, and room for
    the rest.

    Parameters
    ----------
    out
        The store; one that is there is replaced.
    ds
        What it will hold, maybe lazy; encodings are dropped, but integers that stand for flags stay
        integers.
    lengths
        Of the chunks, by dimension.
    zarr_format
        2 or 3.
    attrs
        Global attributes.
    """
    import dask.array

    ds = _unpacked(ds)
    still = [name for name, v in ds.data_vars.items() if "time" not in v.dims]
    layout = (
        ds.drop_vars(list(ds.data_vars))
        .drop_encoding()
        .assign({n: ds[n].drop_encoding().compute() for n in still})
    )
    encoding: dict[str, Any] = {"time": _clock(ds["time"].values) | {"chunks": (4096,)}}
    encoding |= {
        str(n): {"_FillValue": None} for n, c in layout.coords.items() if c.dtype.kind == "f"
    }
    for name in (n for n in ds.data_vars if n not in still):
        v = ds[name]
        empty = dask.array.zeros(
            v.shape, dtype=v.dtype, chunks=tuple(lengths[str(d)] for d in v.dims)
        )
        layout[name] = (v.dims, empty, v.attrs)
        encoding[str(name)] = _room(v, zarr_format) | {
            "chunks": tuple(lengths[str(d)] for d in v.dims)
        }
    layout.attrs = {str(k): config.plain(v) for k, v in {**ds.attrs, **attrs}.items()}
    with atomic_path(out) as temporary:
        layout.to_zarr(
            temporary,
            mode="w-",
            zarr_format=zarr_format,
            consolidated=False,
            compute=False,
            encoding=encoding,
        )


def _unpacked(ds: xr.Dataset) -> xr.Dataset:
    """The same without the valid ranges of packed numbers, which do not hold for the floats that
    are stored.
    """
    bare = ds.copy()
    for v in bare.variables.values():
        if v.dtype.kind == "f" and {"scale_factor", "add_offset"} & set(v.encoding):
            v.attrs = {k: value for k, value in v.attrs.items() if k not in VALID}
    return bare


def _clock(times: NDArray[np.datetime64]) -> dict[str, Any]:
    unit = "s" if (times == times.astype("M8[s]")).all() else "ms"
    return {"units": UNITS[unit], "dtype": "int64", "calendar": "proleptic_gregorian"}


def _room(v: xr.DataArray, zarr_format: int) -> dict[str, Any]:
    """Type and fill value: floats as they are, masked integers without scale as integers."""
    old = v.encoding
    kind = np.dtype(old.get("dtype", v.dtype))
    whole = (
        kind.kind in "iu" and not {"scale_factor", "add_offset"} & set(old) and "_FillValue" in old
    )
    if v.dtype.kind == "f" and not whole:
        fill: Any = v.dtype.type(np.nan)
        return {"_FillValue": fill} | ({"fill_value": fill} if zarr_format == 3 else {})
    if v.dtype.kind == "f":
        fill = kind.type(old["_FillValue"])
        return {"dtype": kind, "_FillValue": fill} | (
            {"fill_value": fill} if zarr_format == 3 else {}
        )
    return {}


def write(out: Path, box: Mapping[str, slice], values: xr.Dataset, zarr_format: int) -> None:
    """Write one window, and have it on the disk when this returns."""
    bare = values.drop_vars(list(values.coords)).drop_encoding()
    bare.to_zarr(out, mode="r+", region=dict(box), consolidated=False, zarr_format=zarr_format)
    group = guard.open_group(out, mode="r", use_consolidated=False)
    for name, v in bare.data_vars.items():
        _sync(out / str(name), group[str(name)], [box[str(d)] for d in v.dims])


def read(out: Path, box: Mapping[str, slice], until: int) -> xr.Dataset:
    """What the store has in a window, of times before number `until`."""
    here = dict(box) | {"time": slice(box["time"].start, min(box["time"].stop, until))}
    with guard.open_zarr(out, consolidated=False, chunks=None) as held:
        moving = [n for n, v in held.data_vars.items() if "time" in v.dims]
        return held[moving].drop_vars(list(held.coords)).isel(here).load()


def holds(stored: xr.Dataset | None, values: xr.Dataset) -> bool:
    """Whether a window is in the store as it came, so that there is nothing to write."""
    if stored is None or stored.sizes["time"] < values.sizes["time"]:
        return False
    return all(
        np.array_equal(v.values, values[n].values, equal_nan=v.dtype.kind == "f")
        for n, v in stored.data_vars.items()
    )


def _sync(folder: Path, array: Any, region: list[slice]) -> None:
    """Flush the chunks of a region, and the folders they lie in; chunks of nothing but fill values
    have no file.
    """
    spans = [
        range(s.start // c, -(-s.stop // c)) for s, c in zip(region, array.chunks, strict=True)
    ]
    folders = {folder}
    for number in np.ndindex(*map(len, spans)):
        path = folder / array.metadata.encode_chunk_key(
            tuple(span[i] for span, i in zip(spans, number, strict=True))
        )
        if path.exists():
            flush(path)
        folders |= {p for p in path.parents if folder in p.parents}
    for each in filter(Path.exists, folders):
        flush(each)


def grow(out: Path, begin: int, times: NDArray[np.datetime64]) -> None:
    """Make room for `times` from index `begin` on; doing so again changes nothing."""
    copied = guard.is_consolidated(out)
    group = guard.open_group(out, mode="r+", use_consolidated=False)
    clock: Any = group["time"]
    unit = next(u for u, text in UNITS.items() if text == clock.attrs["units"])
    if (times != times.astype(f"M8[{unit}]")).any():
        raise InputError(
            f"the new times of {out} are finer than the old ones ({clock.attrs['units']}); begin another store"
        )
    for _, array in group.arrays():
        named: Any = array.metadata
        dims: Any = (
            named.dimension_names
            if named.zarr_format == 3
            else array.attrs.get("_ARRAY_DIMENSIONS")
        )
        if dims and "time" in dims:
            axis = list(dims).index("time")
            array.resize((*array.shape[:axis], begin + len(times), *array.shape[axis + 1 :]))
    longer: Any = guard.open_group(out, mode="r+", use_consolidated=False)["time"]
    longer[begin:] = times.astype(f"M8[{unit}]").astype(np.int64)
    if copied:
        consolidate(out)


def mark(out: Path, attrs: Mapping[str, Any]) -> None:
    """Set global attributes, all or none."""
    copied = guard.is_consolidated(out)
    group = guard.open_group(out, mode="r+", use_consolidated=False)
    group.attrs.update({k: config.plain(v) for k, v in attrs.items()})
    if copied:
        consolidate(out)


def consolidate(out: Path) -> None:
    """Make the copy of all metadata anew; without, readers of one that was made before an update
    miss its times.
    """
    import zarr

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Consolidated metadata is currently not part", category=UserWarning
        )
        zarr.consolidate_metadata(out)


def tidy(out: Path) -> None:
    """Remove what a killed process left half written; chunks are moved in place whole."""
    for path in out.rglob("*.partial"):
        path.unlink(missing_ok=True)


def check_room(out: Path, needed: int) -> None:
    """Refuse before the first byte what might not fit, compression left out."""
    free = shutil.disk_usage(out.resolve().parent).free
    if needed > free:
        raise WriteError(
            f"cannot write {out}: it may take {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free; make "
            "room there, choose another disk, or ask for less"
        )
