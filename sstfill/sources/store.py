# SPDX-License-Identifier: Apache-2.0
"""A Zarr store that is laid out first and then filled window by window.

It is marked incomplete until it is whole.
"""

from __future__ import annotations

import itertools
import math
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
from sstfill.fields.reading.sentinels import RANGES
from sstfill.io import atomic_path
from sstfill.io.output.atomic import flush
from sstfill.io.untrusted import guard

STATE = "sstfill_state"
COMPLETE, INCOMPLETE = "complete", "incomplete"
UNITS = {"s": "seconds since 1970-01-01", "ms": "milliseconds since 1970-01-01"}


def attributes(out: Path) -> dict[str, Any] | None:
    """Return the global attributes of a store, or None if nothing exists at that path.

    Raises
    ------
    WriteError
        Something else exists there.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        if out.is_dir() and guard.is_store(out):
            return dict(guard.open_group(out, mode="r", use_consolidated=False).attrs)
    except ReadError as error:
        raise _not_a_store(out) from error
    raise _not_a_store(out)


def _not_a_store(out: Path) -> WriteError:
    return WriteError(
        f"cannot write {out}: there is something else than a Zarr store; choose another name"
    )


def create(
    out: Path,
    ds: xr.Dataset,
    lengths: Mapping[str, int],
    zarr_format: int,
    attrs: Mapping[str, Any],
) -> None:
    """Lay a store out: coordinates, what does not change in time, and room for the rest.

    Parameters
    ----------
    out
        The store; an earlier one is replaced.
    ds
        What it will hold, maybe lazy; encodings are dropped, except that flags stay integers.
    lengths
        Of the chunks, by dimension.
    zarr_format
        2 or 3.
    attrs
        Global attributes.
    """
    import dask.array

    ds = ds.copy()
    for variable in ds.variables.values():
        # valid ranges in packed units do not hold for the floats that are stored
        if variable.dtype.kind == "f" and {"scale_factor", "add_offset"} & set(variable.encoding):
            variable.attrs = config.without(variable.attrs, RANGES)
    times = ds["time"].values
    unit = "ms"
    # milliseconds only where seconds would round the times
    if (times == times.astype("M8[s]")).all():
        unit = "s"
    clock = {"units": UNITS[unit], "dtype": "int64", "calendar": "proleptic_gregorian"}
    layout = ds.drop_vars(list(ds.data_vars)).drop_encoding()
    encoding: dict[str, Any] = {"time": clock | {"chunks": (4096,)}}
    for name, coordinate in layout.coords.items():
        if coordinate.dtype.kind == "f":
            encoding[str(name)] = {"_FillValue": None}
    for name, v in ds.data_vars.items():
        if "time" not in v.dims:
            # small, and the same at all times: it is written with the layout
            layout[name] = v.drop_encoding().compute()
    for name, v in ds.data_vars.items():
        if "time" in v.dims:
            chunks = tuple(lengths[str(dim)] for dim in v.dims)
            empty = dask.array.zeros(v.shape, dtype=v.dtype, chunks=chunks)
            layout[name] = (v.dims, empty, v.attrs)
            encoding[str(name)] = _room(v, zarr_format) | {"chunks": chunks}
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


def _room(v: xr.DataArray, zarr_format: int) -> dict[str, Any]:
    """Return type and fill value: floats as they are, masked integers without scale as integers."""
    if v.dtype.kind != "f":
        return {}
    old = v.encoding
    kind = np.dtype(old.get("dtype", v.dtype))
    packed = "scale_factor" in old or "add_offset" in old
    if kind.kind in "iu" and "_FillValue" in old and not packed:
        fill: Any = kind.type(old["_FillValue"])
        room = {"dtype": kind, "_FillValue": fill}
    else:
        fill = v.dtype.type(np.nan)
        room = {"_FillValue": fill}
    if zarr_format == 3:  # v2 takes the value of absent chunks from _FillValue
        room["fill_value"] = fill
    return room


def write(out: Path, box: Mapping[str, slice], values: xr.Dataset, zarr_format: int) -> None:
    """Write one window; it is on the disk when this returns."""
    bare = values.drop_vars(list(values.coords)).drop_encoding()
    # without coordinates, which xarray refuses in a region that they do not span
    bare.to_zarr(out, mode="r+", region=dict(box), consolidated=False, zarr_format=zarr_format)
    group = guard.open_group(out, mode="r", use_consolidated=False)
    for name, v in bare.data_vars.items():
        _sync(out / str(name), group[str(name)], [box[str(d)] for d in v.dims])


def read(out: Path, box: Mapping[str, slice], until: int) -> xr.Dataset:
    """Read what the store has in a window, of times before number `until`."""
    times = slice(box["time"].start, min(box["time"].stop, until))
    with guard.open_zarr(out, consolidated=False, chunks=None) as ds:
        moving = [n for n, v in ds.data_vars.items() if "time" in v.dims]
        return ds[moving].drop_vars(list(ds.coords)).isel({**box, "time": times}).load()


def holds(stored: xr.Dataset | None, values: xr.Dataset) -> bool:
    """Whether a window is in the store as it came, so that it need not be written."""
    if stored is None or stored.sizes["time"] < values.sizes["time"]:
        return False
    for name, held in stored.data_vars.items():
        # NumPy refuses to look for NaN in times
        if not np.array_equal(held.values, values[name].values, equal_nan=held.dtype.kind == "f"):
            return False
    return True


def _sync(folder: Path, array: Any, region: list[slice]) -> None:
    """Flush the chunks of a region and their folders to the disk."""
    spans = []
    for part, length in zip(region, array.chunks, strict=True):
        # numbers of the chunks that the region touches
        spans.append(range(part.start // length, math.ceil(part.stop / length)))
    folders = {folder}
    for number in itertools.product(*spans):
        path = folder / array.metadata.encode_chunk_key(number)
        if path.exists():  # a chunk of nothing but fill values has no file
            flush(path)
        folders |= {p for p in path.parents if folder in p.parents}
    for each in folders:
        if each.exists():
            flush(each)


def grow(out: Path, begin: int, times: NDArray[np.datetime64]) -> None:
    """Make room for `times` from index `begin` on; doing so again changes nothing."""
    copied = guard.is_consolidated(out)
    group = guard.open_group(out, mode="r+", use_consolidated=False)
    clock: Any = group["time"]
    # the unit of the first download stays, for stored times are not written again
    unit = next(u for u, text in UNITS.items() if text == clock.attrs["units"])
    if (times != times.astype(f"M8[{unit}]")).any():
        raise InputError(
            f"the new times of {out} are finer than the old ones ({clock.attrs['units']}); "
            "begin another store"
        )
    for _, array in group.arrays():
        metadata: Any = array.metadata
        if metadata.zarr_format == 3:
            dims = metadata.dimension_names
        else:
            dims = array.attrs.get("_ARRAY_DIMENSIONS")
        if dims and "time" in dims:
            axis = list(dims).index("time")
            array.resize((*array.shape[:axis], begin + len(times), *array.shape[axis + 1 :]))
    # opened anew: the object above still has the former shape
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
    """Renew the copy of all metadata, from which readers would miss the times of an update."""
    import zarr

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Consolidated metadata is currently not part", category=UserWarning
        )
        zarr.consolidate_metadata(out)


def tidy(out: Path) -> None:
    """Remove half-written files of a killed process; Zarr moves whole chunks in place."""
    for path in out.rglob("*.partial"):
        path.unlink(missing_ok=True)


def check_room(out: Path, needed: int) -> None:
    """Refuse before the first byte what might not fit uncompressed."""
    # of the folder: the store does not exist yet
    free = shutil.disk_usage(out.resolve().parent).free
    if needed > free:
        raise WriteError(
            f"cannot write {out}: it may take {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are "
            "free; make room there, choose another disk, or ask for less"
        )
