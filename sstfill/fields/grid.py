# SPDX-License-Identifier: Apache-2.0
"""The user's grid: its axes, and a field laid on time, latitude and longitude."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import numpy as np
import xarray as xr

from sstfill.errors import InputError
from sstfill.fields.dates import TIME, check_dates, is_cftime
from sstfill.fields.positions import LAT, LON

Y = (*LAT, "y", "rlat", "nj", "j", "yc", "northing", "row", "rows")
X = (*LON, "x", "rlon", "ni", "i", "xc", "easting", "col", "cols")
COORDINATE = {"T": "time", "Y": "latitude", "X": "longitude"}
"""Names of CF of the coordinate that lies along each axis."""
Roles = dict[str, list[Hashable]]
"""Coordinates by the axis or the coordinate of CF that they are."""
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

    Index coordinates come first; among equals, those with CF attributes, then those that hold
    dates, then those with usual names in the order of `names`.
    """
    found = [*cf.get(COORDINATE[axis], []), *cf.get(axis, [])]
    if axis == "T":
        for name, values in da.coords.items():
            if values.dtype.kind == "M" or is_cftime(values):
                found.append(name)
    for usual in names:
        found += [name for name in (*da.coords, *da.dims) if str(name).lower() == usual]
    return sorted(dict.fromkeys(found), key=lambda name: name not in da.dims)


def _dim(da: xr.DataArray, found: list[Hashable], taken: Sequence[Hashable]) -> Hashable | None:
    dims = [da[n].dims[0] for n in found if da[n].ndim == 1]
    return next((d for d in dims if d in da.dims and d not in taken), None)


def _position(
    da: xr.DataArray, cf: list[Hashable], names: Sequence[str], spatial: Sequence[Hashable]
) -> Hashable | None:
    """Name of the latitude or longitude coordinate that varies over the spatial dims only, `cf`
    before those of usual names.
    """
    named = [n for n in da.coords if str(n).lower() in names]
    both = [n for n in dict.fromkeys([*cf, *named]) if n in da.coords and 0 < da[n].ndim <= 2]
    return next((n for n in both if set(da[n].dims) <= set(spatial)), None)


def axes(da: xr.DataArray, *, time: bool = True) -> Axes:
    """Find time, y and x in an array of any dim order.

    Raises
    ------
    InputError
        No time (unless `time` is false), fewer than two spatial dims, or one dim too many.
    """
    label = repr(str(da.name)) if da.name is not None else "the array"
    # cf_xarray looks at every role each time that it is asked for one.
    cf: Roles = {**da.cf.coordinates, **da.cf.axes}
    times = _found(da, cf, "T", TIME)
    t = _dim(da, times, ())
    if time and t is None:
        raise InputError(
            f"{label} has no time dimension among {sizes(da)}; add one: .expand_dims(time=[date])"
        )
    taken = [t] if t is not None else []
    y = _dim(da, [n for n in _found(da, cf, "Y", Y) if n not in times], taken)
    x = _dim(da, [n for n in _found(da, cf, "X", X) if n not in times], [*taken, y])
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
    if extra is not None:
        raise InputError(
            f"{label} has an extra dimension {str(extra)!r} of size {da.sizes[extra]}; "
            f"choose one: .isel({extra}=0)"
        )
    dims = (t, y, x) if time else (y, x)
    when = next((n for n in times if n in da.coords and da[n].dims == (t,)), None)
    lat = _position(da, cf.get("latitude", []), LAT, (y, x))
    lon = _position(da, cf.get("longitude", []), LON, (y, x))
    if lat is None or lon is None:
        return Axes(dims, when, None, None)
    return Axes(dims, when, lat, lon)


def sizes(da: xr.DataArray) -> str:
    """Write the dims of an array with their sizes, for a message."""
    return "(" + ", ".join(f"{d}: {n}" for d, n in da.sizes.items()) + ")"


def standardise(da: xr.DataArray) -> xr.DataArray:
    """Bring a gridded series to dims ``(time, lat, lon)`` or ``(time, y, x)``; lazy stays lazy.

    Axes are found by CF attributes (`cf_xarray`), then by usual names. Size-1 dims are squeezed;
    orientation stays. Half precision becomes float32 and foreign byte order native. Without a time
    coordinate steps are taken as equal.

    Raises
    ------
    InputError
        No time or not two spatial dims, an extra dim, integer values, or times that are missing,
        duplicate or not in order.

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
    if found.time is not None:
        check_dates(da[found.time], found.dims[0])
    if da.size == 0:
        raise InputError(
            f"{str(da.name)!r} has no cells, {sizes(da)}; check the selection that made it"
        )
    coords: dict[str, Hashable | None] = {"time": found.time, "lat": found.lat, "lon": found.lon}
    if is_rectilinear(da, found):
        new = dict(zip(found.dims, ("time", "lat", "lon"), strict=True))
    else:
        new = dict(zip(found.dims, ("time", "y", "x"), strict=True))
        coords |= {new[d]: d for d in found.dims[1:] if d in da.coords}
    kept = {k: _renamed(da[n].variable, new) for k, n in coords.items() if n is not None}
    values = _native(_renamed(da.variable, new))
    return xr.Dataset({"field": values}, coords=kept)["field"].rename(da.name)


def is_rectilinear(da: xr.DataArray, found: Axes) -> bool:
    """Whether latitude depends on y alone, and longitude on x alone."""
    if found.lat is None or found.lon is None:
        return False
    return (*da[found.lat].dims, *da[found.lon].dims) == found.dims[-2:]


def _renamed(variable: xr.Variable, new: dict[Hashable, str]) -> xr.Variable:
    squeezed = variable.isel({d: 0 for d in variable.dims if d not in new})
    order = [d for d in new if d in squeezed.dims]
    moved = squeezed.to_base_variable().transpose(*order)
    return xr.Variable([new[d] for d in order], moved._data, moved.attrs, moved.encoding)


def _native(variable: xr.Variable) -> xr.Variable:
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
