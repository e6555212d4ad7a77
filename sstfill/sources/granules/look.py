# SPDX-License-Identifier: Apache-2.0
"""Describe a granule without reading its fields: the first in full, the others in less time."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.errors import InputError, ReadError
from sstfill.fields import grid
from sstfill.fields.reading import dates
from sstfill.fields.reading.variables import find_fields, pick_fields
from sstfill.io.untrusted import guard
from sstfill.sources.granules.times import Times, created, moment

log = logging.getLogger(__name__)

PACKING = ("scale_factor", "add_offset", "_FillValue", "_Unsigned")
HIDDEN = ("scale_factor", "add_offset", "missing_value")
"""Attributes by which decoding changes the values of a coordinate."""


class Granule(NamedTuple):
    """One file: its times, when it was made, and its time dimension (None if it has none)."""

    path: Path
    times: Times
    created: str
    time_dim: Hashable | None


@dataclass(frozen=True, kw_only=True)
class GranuleLook:
    """What is compared between granules.

    Attributes
    ----------
    granule
        The file and its times.
    time
        Name of the time coordinate; None if it has none.
    fields
        Names of the fields to keep.
    dims, packing, units, flags
        Of each variable that has a value for each time; its dims are those beside time.
    sizes
        Length of each dimension beside time.
    place
        Values of the coordinates that locate the pixels.
    known
        All variables of the file, wanted or not.
    attrs
        Global attributes.
    """

    granule: Granule
    time: Hashable | None
    fields: list[str]
    dims: dict[str, tuple[Hashable, ...]]
    sizes: dict[Hashable, int]
    place: dict[Hashable, NDArray[Any]]
    packing: dict[str, tuple[Any, ...]]
    units: dict[str, str]
    flags: dict[str, tuple[str, ...]]
    known: frozenset[str]
    attrs: dict[Any, Any]


def raw(path: Path) -> xr.Dataset:
    """Open a granule with its values as they are stored, packed."""
    return guard.open_dataset(path, decode_cf=False)


def look(
    path: Path, variables: str | Sequence[str] | None, quality_level: int | None
) -> GranuleLook:
    """Describe a granule of which nothing is known."""
    with (
        io.reading(path),
        io.open(path, chunks={}, quality_level=quality_level) as decoded,
        raw(path) as packed,
    ):
        ds, time_dim = _with_time(decoded, path)
        try:
            # all by default: also those that `fill` would leave alone
            fields = pick_fields(ds, find_fields(ds) or None if variables is None else variables)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

        axes = grid.axes(ds[fields[0]])
        dim = axes.dims[0]
        told = dates.times_along(ds, dim)
        time = None
        if time_dim is not None and told is not None and told.names:
            time = told.names[0]
        if time is None and ds.sizes[dim] > 1:
            raise InputError(
                f"{path} has {ds.sizes[dim]} steps and no dates; "
                "add a time coordinate with CF units"
            )

        # masks, flags and errors stay: only fields that were not asked for are left out
        unwanted = set(find_fields(ds)) - set(fields)
        if told is not None:
            unwanted |= set(map(str, told.names))
        names = [name for name in _varying(ds, axes) if name not in unwanted]
        dims: dict[str, tuple[Hashable, ...]] = {}
        sizes: dict[Hashable, int] = {}
        for name in names:
            dims[name] = tuple(d for d in ds[name].dims if d != dim)
            sizes |= {d: ds.sizes[d] for d in dims[name]}
        packing, units, flags = _stated(packed, names)
        place: dict[Hashable, NDArray[Any]] = {}
        for coordinate in (axes.lat, axes.lon, *axes.dims[1:]):
            if coordinate is not None and coordinate in ds.coords:
                place[coordinate] = ds[coordinate].values
        return GranuleLook(
            granule=Granule(path, _times(ds, time_dim, path), created(ds.attrs), time_dim),
            time=time,
            fields=fields,
            dims=dims,
            sizes=sizes,
            place=place,
            packing=packing,
            units=units,
            flags=flags,
            known=frozenset(map(str, packed.variables)),
            attrs=dict(ds.attrs),
        )


def glance(path: Path, like: GranuleLook) -> GranuleLook | None:
    """Describe a granule that is probably laid out as another.

    It is several times as fast as `look`, because coordinates and masks need not be decoded.

    Returns
    -------
    GranuleLook or None
        None if the layout differs, or if the granule may be damaged: `look` tells how.
    """
    try:
        opened = guard.open_dataset(
            path, mask_and_scale=False, decode_coords=False, decode_timedelta=False
        )
    except ReadError:
        return None
    with io.reading(path), opened as ds:
        dim = like.granule.time_dim
        expected = {*like.dims, *like.place}
        if like.time is not None:
            expected.add(like.time)
        names = set(ds.variables)
        if not expected <= names or not like.known.issuperset(map(str, names)):
            return None
        for name in like.place:
            attrs = ds[name].attrs
            # decoding, which is left out here, would change the values of this coordinate
            filled = not np.all(np.isnan(attrs.get("_FillValue", np.nan)))
            if filled or any(key in attrs for key in HIDDEN):
                return None
        for name, dims in like.dims.items():
            if tuple(d for d in ds[name].dims if d != dim) != dims:
                return None
        if like.time is None and dim is not None and ds.sizes[dim] > 1:
            return None
        packing, units, flags = _stated(ds, like.dims)
        return replace(
            like,
            granule=Granule(path, _times(ds, dim, path), created(ds.attrs), dim),
            sizes={d: ds.sizes[d] for d in like.sizes},
            place={n: ds[n].values for n in like.place},
            packing=packing,
            units=units,
            flags=flags,
            attrs=dict(ds.attrs),
        )


def _varying(ds: xr.Dataset, axes: grid.Axes) -> list[str]:
    """Name the numeric variables that have a value for each time, except bounds of time."""
    dim = axes.dims[0]
    passed = {dim, axes.time}
    if axes.time is not None:
        clock = ds[axes.time]
        passed.add(clock.encoding.get("bounds", clock.attrs.get("bounds")))
    names = []
    for name, variable in ds.variables.items():
        if dim not in variable.dims or name in passed:
            continue
        stored = np.dtype(variable.encoding.get("dtype", variable.dtype))
        if stored.kind in "iuf" and variable.dtype.kind in "iuf":
            names.append(str(name))
        else:
            log.info("%s holds %s values, and is left out", name, variable.dtype)
    return names


def _stated(
    packed: xr.Dataset, names: Iterable[str]
) -> tuple[dict[str, tuple[str, ...]], dict[str, str], dict[str, tuple[str, ...]]]:
    """Return what variables state by name: their packing, their units and their flags."""
    packing, units, flags = {}, {}, {}
    for name in names:
        attrs = packed[name].attrs
        # type and packing as texts, which compare equal
        kind: list[Any] = [packed[name].dtype.newbyteorder("=")]
        packing[name] = tuple(map(str, kind + [attrs.get(key) for key in PACKING]))
        units[name] = str(attrs.get("units", ""))
        flags[name] = _flags(attrs)
    return packing, units, flags


def _flags(attrs: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return meanings, masks and values of a flag as texts that compare equal if they are."""
    meanings = " ".join(str(attrs.get("flag_meanings", "")).split())
    # lists of Python numbers: the same flags may be stored in arrays of different types
    masks = np.asarray(attrs.get("flag_masks", ())).tolist()
    values = np.asarray(attrs.get("flag_values", ())).tolist()
    return (meanings, str(masks), str(values))


def _with_time(ds: xr.Dataset, path: Path) -> tuple[xr.Dataset, Hashable | None]:
    """Give a granule that is one bare image a time dimension.

    Returns
    -------
    tuple
        The granule, and the name of the time dimension in its file; None if the file has none.
    """
    if fields := find_fields(ds):
        return ds, grid.axes(ds[fields[0]]).dims[0]
    planes = [v for v in ds.data_vars.values() if v.dtype.kind == "f" and v.ndim == 2]
    if not planes:
        return ds, None  # without fields, which `pick_fields` refuses
    time = np.array([_moment(ds, path)], "M8[ns]")
    # a scalar time coordinate is in the way of the dimension
    bare = ds.drop_vars([name for name in ds.coords if _is_moment(ds[name])])
    images = {}
    for name, variable in ds.data_vars.items():
        if set(variable.dims) >= set(planes[0].dims):
            images[name] = bare[name].expand_dims(time=time)
    return bare.assign(images), None


def _is_moment(variable: xr.DataArray | xr.Variable) -> bool:
    return variable.ndim == 0 and variable.dtype.kind == "M"


def _moment(ds: xr.Dataset, path: Path) -> np.datetime64:
    """Return the time of a bare image: a scalar variable, else by its attributes or file name."""
    for variable in ds.variables.values():
        if _is_moment(variable):
            scalar: Any = variable.values[()]
            return np.datetime64(scalar)
    for name in ds.variables:
        known = str(name).lower() in dates.TIME and not dates.is_part(name)
        if ds[name].ndim == 0 and known:
            alone = ds[[name]].reset_coords().expand_dims("time_of_image")
            told = dates.times_along(alone, "time_of_image")
            if told is not None and told.variable.dtype.kind == "M":
                return np.datetime64(told.variable.values[0])
    return moment(ds.attrs, path)


def _times(ds: xr.Dataset, dim: Hashable | None, path: Path) -> Times:
    told = None
    if dim is not None:
        try:
            told = dates.times_along(ds, dim)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    if told is None:
        times = np.atleast_1d(_moment(ds, path))
    elif not told.year_known:
        raise InputError(f"{path} has {told.note}; give it a time with its year")
    else:
        times = told.variable.values
    if times.dtype.kind != "M" or np.isnat(times).any():
        raise InputError(
            f"{path} has no dates on its time axis but {times.dtype} values ({times[:1]}); "
            "give it CF units such as 'seconds since 1981-01-01', calendar standard"
        )
    # rounded: times stored as floating days are off by milliseconds
    return (times.astype("M8[ms]") + np.timedelta64(500, "ms")).astype("M8[s]")
