# SPDX-License-Identifier: Apache-2.0
"""Where the pixels are: latitude and longitude in degrees, and the size of a cell in km.

Names and spellings are listed in ``positions.toml``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable

import cf_xarray  # also registers the .cf accessor
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields import tables
from sstfill.printable import quoted

log = logging.getLogger(__name__)

Roles = dict[str, list[Hashable]]
"""Coordinates by the axis or the coordinate of CF that they are."""
KNOWN_ROLES = 500
"""Descriptions of arrays whose roles are kept."""
_known_roles: dict[str, Roles] = {}
_TABLE = tables.load("positions")
LAT, LON = tuple(_TABLE["names"]["latitude"]), tuple(_TABLE["names"]["longitude"])
Y, X = (*LAT, *_TABLE["names"]["y"]), (*LON, *_TABLE["names"]["x"])
_UNITS = {role: frozenset(spelled) for role, spelled in _TABLE["units"].items()}
_KM = {text: unit["km"] for unit in _TABLE["length"] for text in unit["spelled"]}
_DEGREES = {text: unit["degrees"] for unit in _TABLE["angle"] for text in unit["spelled"]}

EARTH_RADIUS = 6371.0088  # km, mean radius of WGS84
HEIGHT = "perspective_point_height"
"""Height of a geostationary satellite, m: an attribute of the projection. `declare` notes it in the
encoding of the two axes, where a field finds it that is taken out of its dataset."""
SAME_PLACE = 1e-4  # degrees, some ten metres: positions in single precision are as near
STEPS_COMPARED = 16
WHOLE = 64e6
"""Bytes of positions up to which every step is compared; of larger ones `STEPS_COMPARED` are."""
FAR = 10
"""Steps of the grid from its neighbours beyond which a repeated position is a placeholder."""
PLACEHOLDERS = 8  # most different ones in a grid


def spelled(da: xr.DataArray | xr.Variable) -> str:
    """Units as the tables spell them."""
    text = str(da.attrs.get("units", "")).lower().replace("°", " deg ")
    return re.sub(r"[\s_-]+", " ", text).strip()


def declare(ds: xr.Dataset) -> xr.Dataset:
    """Make latitude and longitude coordinates, also where the file does not declare them so.

    The axes of a geostationary projection learn its height.
    """
    found = []
    for name, da in ds.data_vars.items():
        # perhaps one for each step of time
        if da.dtype.kind != "f" or da.ndim not in (1, 2, 3):
            continue
        if _is_named(da, "latitude", LAT) or _is_named(da, "longitude", LON):
            found.append(name)
    ds = ds.set_coords(found)
    heights: dict[Hashable, float] = {}
    for da in ds.data_vars.values():
        mapping = str(da.encoding.get("grid_mapping", da.attrs.get("grid_mapping", "")))
        # CF also knows the long form "projection: x y".
        for name in re.findall(r"[^\s:]+", mapping):
            if name in ds.variables and HEIGHT in ds[name].attrs:
                height = float(np.ravel(ds[name].attrs[HEIGHT])[0])
                heights |= dict.fromkeys(da.dims, height)
    for dim, height in heights.items():
        if dim in ds.coords and spelled(ds[dim]) in _DEGREES and HEIGHT not in ds[dim].encoding:
            axis = ds[dim].variable.copy(deep=False)
            axis.encoding = ds[dim].encoding | {HEIGHT: height}
            ds = ds.assign_coords({dim: axis})
    return ds


def _is_named(da: xr.DataArray, role: str, names: tuple[str, ...]) -> bool:
    known = str(da.attrs.get("standard_name", "")).lower()
    if known in ("latitude", "longitude"):
        return known == role
    return str(da.name).lower() in names or spelled(da) in _UNITS[role]


def cf_roles(da: xr.DataArray) -> Roles:
    """Find the coordinates that are an axis or a coordinate of CF, by ``T``, ``latitude`` etc.

    The answer depends on names and attributes alone, and is kept by them: `cf_xarray` takes a
    millisecond, and a fill asks dozens of times.
    """
    coords = []
    for name, c in da.coords.variables.items():
        # pint keeps the units with the values
        coords.append((name, c.dims, c.attrs, c.encoding, getattr(c._data, "units", None)))
    indexes = list(da.xindexes)
    # a user's own criteria change the roles
    options = cf_xarray.options.OPTIONS
    described = repr((da.dims, da.attrs, da.encoding, coords, indexes, options))
    roles = _known_roles.get(described)
    if roles is None:
        asked: xr.DataArray | xr.Dataset = da
        if not isinstance({**da.encoding, **da.attrs}.get("grid_mapping", ""), str):
            asked = xr.Dataset(coords=da.coords)  # cf_xarray takes any grid mapping for a text
        # cf_xarray looks at every role each time that it is asked for one
        roles = {**asked.cf.coordinates, **asked.cf.axes}
        if len(_known_roles) >= KNOWN_ROLES:
            _known_roles.clear()
        _known_roles[described] = roles
    return {role: list(names) for role, names in roles.items()}


def candidates(da: xr.DataArray, role: str, cf: Roles | None = None) -> list[Hashable]:
    """Names of the coordinates that may be the ``latitude`` or ``longitude``, best first.

    Those that CF attributes tell come first (`cf_xarray`), then usual names, then units.
    """
    names = LAT if role == "latitude" else LON
    found = list((cf if cf is not None else cf_roles(da)).get(role, []))
    found += [name for name in da.coords if str(name).lower() in names]
    found += [name for name in da.coords if spelled(da[name]) in _UNITS[role]]
    return [name for name in dict.fromkeys(found) if name in da.coords]


def at_rest(position: xr.DataArray, time: Hashable, *, whole: float = WHOLE) -> xr.DataArray:
    """Return positions that have a time dimension without it, if they are the same at all steps.

    A position that is missing at one step is taken from another. Of those that are not in memory,
    and of more than `whole` bytes, some steps are compared, the first and the last among them.

    Raises
    ------
    InputError
        They move.
    """
    n = position.sizes[time]
    steps = np.arange(n)
    if position.chunks is not None and position.nbytes > whole:
        steps = np.unique(np.linspace(0, n - 1, STEPS_COMPARED).astype(int))
        log.info("%s: positions compared at %d of %d steps", position.name, len(steps), n)
    first = position.isel({time: 0}, drop=True)
    known = _in_range(first.values.astype(np.float64))
    for step in steps[1:]:
        values = _in_range(position.isel({time: step}).values.astype(np.float64))
        apart = float(np.nanmax(np.abs(values - known), initial=0.0))
        if apart > SAME_PLACE:
            raise InputError(
                f"latitude and longitude move in time, {position.name} by {apart:.3g} degrees "
                f"between steps 0 and {step}: a pixel is another place at each step; regrid the "
                "images to one grid, for instance by pyresample, then join them: "
                "sstfill import-granules"
            )
        known = np.where(np.isnan(known), values, known)
    return first.copy(data=known.astype(position.dtype))


def _in_range(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make placeholders that are no degrees at all NaN."""
    # longitudes may have been counted around the globe once more
    return np.where(np.abs(values) <= 720, values, np.nan)


def degrees(field: xr.DataArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitude and longitude of a standardised field in degrees: both 1-D, or both ``(y, x)``.

    Placeholders of two-dimensional positions are NaN. Those of a rotated pole are degrees from it,
    among which distances are the same.

    Raises
    ------
    InputError
        Units that are none of an angle, or latitudes beyond 90 degrees.
    """
    names = ("lat", "lon") if "lat" in field.coords else ("y", "x")
    lat, lon = _angle(field[names[0]]), _angle(field[names[1]])
    if lat.ndim == 2:
        nowhere = _placeholders(lat, lon)
        lat, lon = np.where(nowhere, np.nan, lat), np.where(nowhere, np.nan, lon)
    top = float(np.nanmax(np.abs(lat), initial=0.0))
    # the pole itself, as a float, may lie a little beyond 90
    if top > 90.01:
        raise InputError(
            f"latitude reaches {top:g}, beyond 90 degrees; rename a projected coordinate to y"
        )
    return lat, lon


def _angle(coordinate: xr.DataArray) -> NDArray[np.float64]:
    values = np.asarray(coordinate.values, np.float64)
    unit = spelled(coordinate)
    if unit in _KM:
        role = "y" if coordinate.name == "lat" else "x"
        raise InputError(
            f"{coordinate.name} is in {coordinate.attrs['units']}, not in degrees; "
            f"rename a projected coordinate to {role}"
        )
    scale = _DEGREES.get(unit, 1.0)
    return values if scale == 1.0 else scale * values


def _placeholders(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True where a grid holds a number that stands for no position, such as 0, -1 or -999.

    That is a number which is no angle, or a position that a block of cells share far from all of
    its neighbours. No two cells of a grid lie at one place.
    """
    nowhere = ~(np.isfinite(lat) & np.isfinite(lon))
    beyond = ~nowhere & ((np.abs(lat) > 90.01) | (np.abs(lon) > 720))
    # Metres of a projection are beyond 90 too, but differ from cell to cell.
    if beyond.any() and np.unique(lat[beyond]).size <= PLACEHOLDERS:
        if (beyond | nowhere).all():
            return nowhere
        nowhere |= beyond
    # 0, -1 or -999 in both
    shared = lat == lon
    for axis in (0, 1):
        same = (np.diff(lat, axis=axis) == 0) & (np.diff(lon, axis=axis) == 0)
        here = np.moveaxis(shared, axis, 0)  # a view
        here[1:] |= np.moveaxis(same, axis, 0)
        here[:-1] |= np.moveaxis(same, axis, 0)
    shared &= ~nowhere
    if not shared.any():
        return nowhere
    places, count = np.unique(np.stack([lat[shared], lon[shared]]), axis=1, return_counts=True)
    # without the steps of 0 within a block of placeholders
    usual = _median(np.concatenate([step[step > 0] for step in _steps(lat, lon)]))
    for common in np.argsort(-count)[:PLACEHOLDERS]:
        at_lat, at_lon = places[:, common]
        block = (lat == at_lat) & (lon == at_lon)
        around = np.zeros_like(block)
        around[1:] |= block[:-1]
        around[:-1] |= block[1:]
        around[:, 1:] |= block[:, :-1]
        around[:, :-1] |= block[:, 1:]
        around &= ~block & ~nowhere
        apart = haversine(
            np.deg2rad(lat[around]), np.deg2rad(at_lat), np.deg2rad(lon[around] - at_lon)
        )
        if apart.size and np.median(apart) > FAR * usual:
            nowhere |= block
    return nowhere


def _steps(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Great-circle distances in km between neighbours along y, and along x, of a 2-D grid."""
    lat, lon = np.deg2rad(lat), np.deg2rad(lon)
    dy = haversine(lat[1:], lat[:-1], np.diff(lon, axis=0))
    dx = haversine(lat[:, 1:], lat[:, :-1], np.diff(lon, axis=1))
    return [dy, dx]


def cell_km(field: xr.DataArray) -> tuple[float, float]:
    """Typical grid steps ``(dy, dx)`` in km: the median great-circle distance between neighbours.

    Without latitude: the steps of ``y`` and ``x`` in their units, ``(1.0, 1.0)`` where they have
    none. An axis of one cell takes the other's step. Haversine formula: Sinnott 1984, Sky and
    Telescope 68, 159.

    Raises
    ------
    InputError
        Units that are not known, or latitudes beyond 90 degrees.
    """
    if not on_the_sphere(field):
        steps = []
        for dim in ("y", "x"):
            along = along_axis(field, dim)
            steps.append(1.0 if along is None else _median(np.abs(np.diff(along))))
        return _one_for_both(steps[0], steps[1])
    lat, lon = degrees(field)
    if lat.ndim == 2:
        dy, dx = _steps(lat, lon)
        return _one_for_both(_median(dy), _median(dx))
    lat, lon = np.deg2rad(lat), np.deg2rad(lon)
    step = np.nan
    if lon.size > 1:
        # The angle of a unit vector: neighbours across the date line lie one step apart.
        step = np.median(np.abs(np.angle(np.exp(1j * np.diff(lon)))))
    dy = haversine(lat[1:], lat[:-1], np.zeros(1))
    # at each latitude, for cells narrow towards the poles; the median is taken below
    dx = haversine(lat, lat, np.full(1, step))
    return _one_for_both(_median(dy), _median(dx))


def on_the_sphere(field: xr.DataArray) -> bool:
    """Whether a standardised field has latitudes and longitudes, perhaps of a rotated pole."""
    if "lat" in field.coords:
        return True
    return all(dim in field.coords and _is_rotated(field[dim]) for dim in ("y", "x"))


def _is_rotated(axis: xr.DataArray) -> bool:
    unit = spelled(axis)
    return unit in _DEGREES and unit not in _UNITS["scan"] and HEIGHT not in axis.encoding


def along_axis(field: xr.DataArray, dim: str) -> NDArray[np.float64] | None:
    """Coordinate of an axis of a plane in km; None where it counts cells.

    Raises
    ------
    InputError
        Its unit is not known.
    """
    if dim not in field.coords:
        return None
    axis = field[dim]
    unit = spelled(axis)
    if unit in _UNITS["none"]:
        return None
    values = np.asarray(axis.values, np.float64)
    if unit in _KM:
        return _KM[unit] * values
    if unit in _DEGREES and HEIGHT in axis.encoding:
        # An angle at the satellite is as many heights on the ground, below it.
        return np.deg2rad(_DEGREES[unit] * values) * axis.encoding[HEIGHT] * 1e-3
    told = axis.attrs["units"]
    if unit in _UNITS["scan"]:
        raise InputError(
            f"axis {dim} is in {told}, the angle at which a satellite sees a cell, and no variable "
            f"of the data has its {HEIGHT}; convert it: ds[{dim!r}] * height in km, "
            "with units 'km', or add latitude and longitude"
        )
    if unit in _DEGREES:
        raise InputError(
            f"axis {dim} is in {told} and the other axis is not, so that distances are not known; "
            "give both in degrees, or both in km"
        )
    raise InputError(
        f"axis {dim} is in {quoted(told)}, no unit of length that sstfill knows; convert it to km: "
        f"ds[{dim!r}].attrs['units'] = 'km'"
    )


def place_km(field: xr.DataArray, row: int = 0, column: int = 0) -> NDArray[np.float64]:
    """Return the places of the pixels in space, km from the middle of the Earth, ``(y, x, 3)``.

    Without latitudes: in the plane of ``y`` and ``x``. An axis that has no unit of length counts
    its cells as km, `row` or `column` of which come before the field. NaN where a grid has no
    coordinates.

    >>> field = xr.DataArray(np.zeros((1, 2, 2)), {"y": [0, 1]}, ("time", "y", "x"))
    >>> place_km(field, column=7)[0].tolist()
    [[7.0, 0.0, 0.0], [8.0, 0.0, 0.0]]
    """
    if on_the_sphere(field):
        lat, lon = map(np.deg2rad, degrees(field))
        if lat.ndim == 1:
            lat, lon = np.meshgrid(lat, lon, indexing="ij")
        up = [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]
        return EARTH_RADIUS * np.stack(up, axis=-1)
    along = []
    for dim, first in (("y", row), ("x", column)):
        own = along_axis(field, dim)
        if own is None:
            own = first + np.arange(field.sizes[dim], dtype=np.float64)
        along.append(own)
    north, east = np.meshgrid(*along, indexing="ij")
    return np.stack([east, north, np.zeros_like(north)], axis=-1)


def haversine(lat: NDArray, other: NDArray, dlon: NDArray) -> NDArray:
    """Great-circle distance in km of points in radians."""
    h = np.sin((lat - other) / 2) ** 2 + np.cos(lat) * np.cos(other) * np.sin(dlon / 2) ** 2
    # clipped: rounding takes antipodes beyond 1, of which the arcsine is NaN
    return np.asarray(2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0))))


def _median(steps: NDArray) -> float:
    known = steps[np.isfinite(steps)]
    return float(np.median(known)) if known.size else float("nan")


def _one_for_both(dy: float, dx: float) -> tuple[float, float]:
    """Let an axis of one cell, whose step is NaN, take the step of the other."""
    if not dy > 0 and not dx > 0:
        return 1.0, 1.0
    if not dy > 0:
        return dx, dx
    if not dx > 0:
        return dy, dy
    return dy, dx
