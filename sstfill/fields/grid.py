# SPDX-License-Identifier: Apache-2.0
"""The user's grid: its axes, and a field laid on time, latitude and longitude."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from sstfill.errors import InputError
from sstfill.fields.reading import dates
from sstfill.fields.reading.positions import Roles, X, Y, at_rest, candidates, cf_roles

COORDINATE = {"Y": "latitude", "X": "longitude"}
"""Names of CF of the coordinate that lies along each axis."""
TEMPERATURE_UNITS = {
    "°C": re.compile(r"°?c|deg_?c|degrees?_c|(degrees?_)?celsius"),
    "K": re.compile(r"k|deg_?k|kelvins?|degrees?_kelvin"),
}
"""Spellings of the units of temperature, in lower case with underscores for blanks."""


class Axes(NamedTuple):
    """Names in the user's array: its dimensions, and the coordinates that locate them."""

    dims: tuple[Hashable, ...]  # (time, y, x), or (y, x) where no time was asked for
    time: Hashable | None
    lat: Hashable | None
    lon: Hashable | None


def _found(da: xr.DataArray, cf: Roles, axis: str, names: Sequence[str]) -> list[Hashable]:
    """Coordinates (or bare dimensions) that play the role of an axis.

    Index coordinates come first; among equals, those with CF attributes, then those with usual
    names in the order of `names`.
    """
    found = [*cf.get(COORDINATE[axis], []), *cf.get(axis, [])]
    present = [(name, str(name).lower()) for name in (*da.coords, *da.dims)]
    for usual in names:
        found += [name for name, lower in present if lower == usual]
    return sorted(dict.fromkeys(found), key=lambda name: name not in da.dims)


def _dim(
    da: xr.DataArray,
    found: list[Hashable],
    taken: Sequence[Hashable],
    times: Sequence[Hashable] = (),
) -> Hashable | None:
    """Return the first dimension that a coordinate other than `times` lies along, if not taken."""
    for name in found:
        if name in times or da[name].ndim != 1:
            continue
        dim = da[name].dims[0]
        if dim in da.dims and dim not in taken:
            return dim
    return None


def _position(
    da: xr.DataArray, role: str, dims: Sequence[Hashable], cf: Roles | None = None
) -> Hashable | None:
    """Name of the ``latitude`` or ``longitude`` coordinate that varies over `dims` only."""
    for name in candidates(da, role, cf):
        if 0 < da[name].ndim <= len(dims) and set(da[name].dims) <= set(dims):
            return name
    return None


def axes(da: xr.DataArray, *, time: bool = True) -> Axes:
    """Find time, y and x in an array of any dim order.

    Raises
    ------
    InputError
        No time (unless `time` is false), fewer than two spatial dims, or one dim too many.
    """
    label = repr(str(da.name)) if da.name is not None else "the array"
    cf = cf_roles(da)
    times = sorted(dates.candidates(da, cf), key=lambda name: name not in da.dims)
    t = _dim(da, times, ())
    if time and t is None:
        raise InputError(f"{label} has no time dimension among {sizes(da)}; {_time_remedy(da)}")
    taken = [t] if t is not None else []
    y = _dim(da, _found(da, cf, "Y", Y), taken, times)
    x = _dim(da, _found(da, cf, "X", X), [*taken, y], times)
    missing = (y is None) + (x is None)
    rest = [d for d in da.dims if d not in (t, y, x)]
    loose = [d for d in rest if da.sizes[d] > 1]
    if len(loose) < missing:
        loose = rest
    # Dims of no known name are y and x in the order in which they come, if there are just as many.
    if len(loose) == missing:
        if y is None:
            y = loose.pop(0)
        if x is None:
            x = loose.pop(0)
    if y is None or x is None:
        raise InputError(
            f"{label} needs two spatial dimensions beside time, has {sizes(da)}; "
            "reshape or .isel() it"
        )
    extra = next((d for d in loose if da.sizes[d] > 1), None)
    if extra is not None and t is not None and dates.is_part(t) and dates.is_part(extra):
        raise InputError(
            f"{label} has its times in two dimensions, {str(t)!r} and {str(extra)!r}; "
            f"make them one: .stack(time=({str(t)!r}, {str(extra)!r}))"
        )
    if extra is not None:
        raise InputError(
            f"{label} has an extra dimension {str(extra)!r} of size {da.sizes[extra]}; "
            f"choose one: .isel({extra}=0)"
        )
    dims = (t, y, x) if time else (y, x)
    when = next((n for n in times if n in da.coords and da[n].dims == (t,)), None)
    lat = _position(da, "latitude", (y, x), cf)
    lon = _position(da, "longitude", (y, x), cf)
    if lat is None or lon is None:
        return Axes(dims, when, None, None)
    return Axes(dims, when, lat, lon)


def _time_remedy(da: xr.DataArray) -> str:
    """Return what to do with an array that has no time: a third dimension may be it."""
    spatial = {str(name) for name in (*Y, *X)}
    others = [d for d in da.dims if str(d).lower() not in spatial and da.sizes[d] > 1]
    if da.ndim > 2 and others:
        name = str(others[0])
        return f"if {name!r} is it, rename it: .rename({{{name!r}: 'time'}})"
    return "add one: .expand_dims(time=[date])"


def sizes(da: xr.DataArray) -> str:
    """Write the dims of an array with their sizes, for a message."""
    return "(" + ", ".join(f"{d}: {n}" for d, n in da.sizes.items()) + ")"


def standardise(da: xr.DataArray) -> xr.DataArray:
    """Bring a gridded series to dims ``(time, lat, lon)`` or ``(time, y, x)``; lazy stays lazy.

    Axes are found by CF attributes (`cf_xarray`), then by usual names. Size-1 dims are squeezed;
    orientation stays. Half precision becomes float32 and foreign byte order native. Times become
    dates wherever they tell them, see `sstfill.fields.reading.dates`; without a time coordinate
    steps are taken as equal. Positions with a time dimension lose it if they are the same at all
    steps.

    Raises
    ------
    InputError
        No time or not two spatial dims, an extra dim, integer values; times that are missing,
        duplicate, not in order, or in a form that is not known; positions that move.

    >>> da = xr.DataArray(np.ones((3, 2, 1, 4)), dims=("lon", "time", "depth", "lat"))
    >>> standardise(da).dims
    ('time', 'y', 'x')
    """
    if da.dtype.kind != "f":
        raise InputError(
            f"{str(da.name)!r} holds {da.dtype} values, which have no gaps; open it with "
            "sstfill.io.open (or mask_and_scale=True), or convert it: "
            ".astype('float32').where(valid)"
        )
    if da.dtype.itemsize > 8:
        raise InputError(
            f"{str(da.name)!r} holds {da.dtype} values, which would be rounded; "
            "convert it: .astype('float64')"
        )
    found = axes(da)
    if found.lat is None:
        da = _at_rest(da, found)
        found = axes(da)
    times = dates.read_times(da, found.dims[0], dates.candidates(da))
    if da.size == 0:
        raise InputError(
            f"{str(da.name)!r} has no cells, {sizes(da)}; check the selection that made it"
        )
    coords: dict[str, Hashable | None] = {"lat": found.lat, "lon": found.lon}
    if is_rectilinear(da, found):
        new = dict(zip(found.dims, ("time", "lat", "lon"), strict=True))
    else:
        new = dict(zip(found.dims, ("time", "y", "x"), strict=True))
        coords |= {new[d]: d for d in found.dims[1:] if d in da.coords}
    kept = {}
    if times is not None:
        kept["time"] = _renamed(times.variable, new)
    for key, name in coords.items():
        if name is not None:
            kept[key] = _renamed(da[name].variable, new)
    values = _native(_renamed(da.variable, new))
    # through a Dataset: its name may be that of one of its coordinates
    return xr.Dataset({"field": values}, coords=kept)["field"].rename(da.name)


def series_times(da: xr.DataArray) -> dates.SeriesTimes | None:
    """Read the times of a field as the user has it; None if it has none."""
    return dates.read_times(da, axes(da).dims[0], dates.candidates(da))


def _at_rest(da: xr.DataArray, found: Axes) -> xr.DataArray:
    """Take the time from positions that have one; refuse those that move."""
    time, space = found.dims[0], found.dims[1:]
    still = {}
    for role in ("latitude", "longitude"):
        name = _position(da, role, found.dims)
        if name is None or not set(da[name].dims) & set(space):
            return da
        if time in da[name].dims:
            still[name] = at_rest(da[name], time)
    return da.assign_coords(still)


def is_rectilinear(da: xr.DataArray, found: Axes) -> bool:
    """Whether latitude depends on y alone, and longitude on x alone."""
    if found.lat is None or found.lon is None:
        return False
    return (*da[found.lat].dims, *da[found.lon].dims) == found.dims[-2:]


def _renamed(variable: xr.Variable, new: dict[Hashable, str]) -> xr.Variable:
    squeezed = variable.isel({d: 0 for d in variable.dims if d not in new})
    order = [d for d in new if d in squeezed.dims]
    moved = squeezed.to_base_variable().transpose(*order)
    # `_data`, for `data` would wrap what is lazy and not Dask in a new array
    return xr.Variable([new[d] for d in order], moved._data, moved.attrs, moved.encoding)


def _native(variable: xr.Variable) -> xr.Variable:
    # half precision has three digits, and compiled kernels take native floats alone
    dtype = np.dtype("f8" if variable.dtype.itemsize > 4 else "f4")
    if variable.dtype == dtype:
        return variable
    native = variable.astype(dtype, keep_attrs=True)
    native.encoding = variable.encoding
    return native


def restore(field: xr.DataArray, like: xr.DataArray) -> xr.DataArray:
    """Undo `standardise`: give `field` the dims, coords, name, attrs, encoding and dtype of `like`.

    Numbers beyond the range of half precision become its largest.
    """
    values = arrange(field, like).data
    if like.dtype.kind == "f" and values.dtype != like.dtype:
        most = np.finfo(like.dtype).max
        values = values.clip(-most, most).astype(like.dtype)
    return like.copy(deep=False, data=values)


def arrange(field: xr.DataArray, like: xr.DataArray) -> xr.DataArray:
    """Lay a standardised field out on the dims and coordinates of `like`; all else stays."""
    back = axes(like).dims
    shape = tuple(like.sizes[d] for d in back)
    if field.shape != shape:
        raise InputError(
            f"a field of shape {field.shape} cannot take the place of one of shape {shape}; "
            "keep its grid"
        )
    variable = xr.Variable(back, field.variable._data, field.attrs)
    # dims of size 1 that were squeezed come back
    full = variable.set_dims({d: like.sizes[d] for d in like.dims})
    return xr.DataArray(full, coords=like.coords, name=field.name)


def temperature_unit(units: str) -> str | None:
    """Return ``°C`` or ``K`` for any spelling of these units, None for other units.

    >>> temperature_unit("degree Celsius"), temperature_unit("kelvin"), temperature_unit("mg m-3")
    ('°C', 'K', None)
    """
    spelled = "_".join(units.lower().split())
    for unit, spelling in TEMPERATURE_UNITS.items():
        if spelling.fullmatch(spelled):
            return unit
    return None
