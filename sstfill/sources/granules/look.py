# SPDX-License-Identifier: Apache-2.0
"""What one granule holds, without reading its fields: a full look at the first, a glance at the
others.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.errors import InputError, ReadError
from sstfill.fields import grid
from sstfill.io.untrusted import guard
from sstfill.sources.granules.times import Times, created, moment

log = logging.getLogger(__name__)

PACKING = ("scale_factor", "add_offset", "_FillValue", "_Unsigned")
HIDDEN = ("scale_factor", "add_offset", "missing_value")


class Granule(NamedTuple):
    """One file: when, made when, and the name of its time dimension, if it has one."""

    path: Path
    times: Times
    created: str
    time_dim: Hashable | None


@dataclass(frozen=True, kw_only=True)
class GranuleLook:
    """All that is compared between granules; each variable's dims are those beside time."""

    granule: Granule
    time: Hashable | None  # name of the coordinate
    fields: list[str]
    dims: dict[str, tuple[Hashable, ...]]
    sizes: dict[Hashable, int]
    place: dict[Hashable, NDArray[Any]]
    packing: dict[str, tuple[Any, ...]]
    units: dict[str, str]
    flags: dict[str, tuple[str, ...]]
    known: frozenset[str]  # all variables of the file, wanted or not
    attrs: dict[Any, Any]


def raw(path: Path) -> xr.Dataset:
    """Open a granule as it is stored, packed."""
    return guard.open_dataset(path, decode_cf=False)


def look(
    path: Path, variables: str | Sequence[str] | None, quality_level: int | None
) -> GranuleLook:
    """Look at a granule of which nothing is known."""
    with (
        io.reading(path),
        io.open(path, chunks={}, quality_level=quality_level) as stored,
        raw(path) as packed,
    ):
        ds, time_dim = _timed(stored, path)
        try:
            fields = grid.pick(ds, variables)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        found = grid.axes(ds[fields[0]])
        time = found.time if time_dim is not None else None
        dim = found.dims[0]
        if time is None and ds.sizes[dim] > 1:
            raise InputError(
                f"{path} has {ds.sizes[dim]} steps and no dates; add a time coordinate with CF units"
            )
        names = _varying(ds, found, {*grid.candidates(ds)} - {*fields})
        located = [
            n for n in (found.lat, found.lon, *found.dims[1:]) if n is not None and n in ds.coords
        ]
        return GranuleLook(
            granule=Granule(path, _times(ds, time, path), created(ds.attrs), time_dim),
            time=time,
            fields=fields,
            dims={n: tuple(d for d in ds[n].dims if d != dim) for n in names},
            sizes={d: ds.sizes[d] for n in names for d in ds[n].dims if d != dim},
            place={n: ds[n].values for n in located},
            packing={n: _packing(packed[n]) for n in names},
            units={n: _units(packed[n].attrs) for n in names},
            flags={n: _flags(packed[n].attrs) for n in names},
            known=frozenset(map(str, packed.variables)),
            attrs=dict(ds.attrs),
        )


def glance(path: Path, like: GranuleLook) -> GranuleLook | None:
    """Look at a granule that is probably laid out as another; None where it is not, or may be
    damaged.
    """
    how: dict[str, Any] = {
        "mask_and_scale": False,
        "decode_coords": False,
        "decode_timedelta": False,
    }
    try:
        opened = guard.open_dataset(path, **how)
    except ReadError:
        return None  # a full look says what is wrong
    with io.reading(path), opened as ds:
        dim = like.granule.time_dim
        wanted = {*like.dims, *like.place} | ({like.time} if like.time is not None else set())
        if not wanted <= set(ds.variables) or any(_is_changed(ds[n].attrs) for n in like.place):
            return None
        if not like.known.issuperset(map(str, ds.variables)):
            return None
        if any(tuple(d for d in ds[n].dims if d != dim) != dims for n, dims in like.dims.items()):
            return None
        if like.time is None and dim is not None and ds.sizes[dim] > 1:
            return None
        return replace(
            like,
            granule=Granule(path, _times(ds, like.time, path), created(ds.attrs), dim),
            sizes={d: ds.sizes[d] for d in like.sizes},
            place={n: ds[n].values for n in like.place},
            packing={n: _packing(ds[n]) for n in like.dims},
            units={n: _units(ds[n].attrs) for n in like.dims},
            flags={n: _flags(ds[n].attrs) for n in like.dims},
            attrs=dict(ds.attrs),
        )


def _is_changed(attrs: Mapping[Any, Any]) -> bool:
    """Whether decoding would change the values of a coordinate."""
    fill = attrs.get("_FillValue", np.nan)
    return any(key in attrs for key in HIDDEN) or not bool(np.all(np.isnan(fill)))


def _varying(ds: xr.Dataset, found: grid.Axes, dropped: set[str]) -> list[str]:
    """Variables that have a value for each time, but for bounds of time, text, and fields that are
    not wanted.
    """
    dim = found.dims[0]
    clock = ds[found.time].attrs | ds[found.time].encoding if found.time is not None else {}
    names = [
        str(n) for n, v in ds.variables.items() if dim in v.dims and n not in (dim, found.time)
    ]
    return [n for n in names if n not in dropped and n != clock.get("bounds") and _is_kept(n, ds)]


def _units(attrs: Mapping[Any, Any]) -> str:
    return str(attrs.get("units", ""))


def _flags(attrs: Mapping[Any, Any]) -> tuple[str, ...]:
    """What the numbers of a flag mean, in terms that compare equal where it is the same."""
    meanings = " ".join(str(attrs.get("flag_meanings", "")).split())
    return (
        meanings,
        *(str(np.asarray(attrs.get(k, ())).tolist()) for k in ("flag_masks", "flag_values")),
    )


def _timed(ds: xr.Dataset, path: Path) -> tuple[xr.Dataset, Hashable | None]:
    """Give a granule that is one bare image a time dimension; the name of that it has, if it has
    one.
    """
    if fields := grid.candidates(ds):
        return ds, grid.axes(ds[fields[0]]).dims[0]
    planes = [v for v in ds.data_vars.values() if v.dtype.kind == "f" and v.ndim == 2]
    if not planes:
        return ds, None
    images = [n for n, v in ds.data_vars.items() if set(v.dims) >= set(planes[0].dims)]
    bare = ds.drop_vars([c for c in ds.coords if _is_moment(ds[c])])
    expanded = {
        n: bare[n].expand_dims(time=np.array([_moment(ds, path)], "M8[ns]")) for n in images
    }
    return bare.assign(expanded), None


def _is_moment(c: xr.DataArray) -> bool:
    return c.ndim == 0 and c.dtype.kind == "M"


def _moment(ds: xr.Dataset, path: Path) -> np.datetime64:
    """Time of a bare image: a scalar coordinate, else what attributes or the name say."""
    scalar: Any = next(
        (c.values[()] for c in ds.variables.values() if c.ndim == 0 and c.dtype.kind == "M"), None
    )
    return moment(ds.attrs, path) if scalar is None else scalar


def _times(ds: xr.Dataset, name: Hashable | None, path: Path) -> Times:
    times = np.array([_moment(ds, path)]) if name is None else np.atleast_1d(ds[name].values)
    if times.dtype.kind != "M" or np.isnat(times).any():
        raise InputError(
            f"{path} has no dates on its time axis but {times.dtype} values ({times[:1]}); "
            "give it CF units such as 'seconds since 1981-01-01', calendar standard"
        )
    return (times.astype("M8[ms]") + np.timedelta64(500, "ms")).astype("M8[s]")


def _is_kept(name: str, ds: xr.Dataset) -> bool:
    stored = np.dtype(ds[name].encoding.get("dtype", ds[name].dtype))
    kept = stored.kind in "iuf" and ds[name].dtype.kind in "iuf"
    if not kept:
        log.info("%s holds %s values, and is left out", name, ds[name].dtype)
    return kept


def _packing(da: xr.DataArray) -> tuple[str, ...]:
    """How a variable is stored, in terms that compare equal where it is the same; of values as they
    are stored.
    """
    return (str(da.dtype.newbyteorder("=")), *(str(da.attrs.get(k)) for k in PACKING))
