# SPDX-License-Identifier: Apache-2.0
"""The user's grid: which variables are fields, their axes, time in days, steps in km, units."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import cf_xarray  # noqa: F401  (registers the .cf accessor)
import numpy as np
import xarray as xr

from sstfill.errors import InputError, OptionError, unknown

TIME = ("time", "t", "date", "day", "dates", "days", "datetime", "ocean_time", "time_counter")
LAT = ("lat", "latitude", "nav_lat", "lats", "latitudes", "gphit")
LON = ("lon", "longitude", "nav_lon", "lons", "longitudes", "long", "glamt")
Y = (*LAT, "y", "rlat", "nj", "j", "yc", "northing", "row", "rows")
X = (*LON, "x", "rlon", "ni", "i", "xc", "easting", "col", "cols")
COORDINATE = {"T": "time", "Y": "latitude", "X": "longitude"}
"""Names of CF of the coordinate that lies along each axis."""
Roles = dict[str, list[Hashable]]
"""Coordinates by the axis or the coordinate of CF that they are."""
ANCILLARY = {
    *("quality", "flag", "flags", "mask", "masks", "lsm", "bounds", "bnds", "dtime", "source"),
    *("sources", "error", "errors", "err", "uncertainty", "sses", "std", "stdev"),
    *("count", "counts", "nobs"),
}
ANCILLARY_PHRASE = re.compile(r"standard_(error|deviation)|num(ber)?_(of_)?obs|mask")
DAYS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1 / 86400),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 1440),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1 / 24),
    **dict.fromkeys(("month", "months"), 30.436875),
    **dict.fromkeys(("year", "years"), 365.2425),
}
"""Length in days of a unit of numeric time; any other unit counts as a day."""
KM = {"m": 1e-3, "meter": 1e-3, "metre": 1e-3, "meters": 1e-3, "metres": 1e-3, "km": 1.0}
EARTH_RADIUS = 6371.0088  # km, mean radius of WGS84
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
            if values.dtype.kind == "M" or _is_cftime(values):
                found.append(name)
    for usual in names:
        found += [name for name in (*da.coords, *da.dims) if str(name).lower() == usual]
    return sorted(dict.fromkeys(found), key=lambda name: name not in da.dims)


def _is_cftime(c: xr.DataArray) -> bool:
    return c.dtype == object and c.size > 0 and hasattr(np.ravel(c.values)[0], "calendar")


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
            f"{label} has no time dimension among {_sizes(da)}; add one: .expand_dims(time=[date])"
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
            f"{label} needs two spatial dimensions beside time, has {_sizes(da)}; "
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


def _sizes(da: xr.DataArray) -> str:
    return "(" + ", ".join(f"{d}: {n}" for d, n in da.sizes.items()) + ")"


def _is_ancillary(name: Hashable, da: xr.DataArray) -> bool:
    names = f"{name} {da.attrs.get('standard_name', '')}".lower()
    if {"flag_meanings", "flag_values", "flag_masks"} & set(da.attrs):
        return True
    if ANCILLARY & set(re.split(r"[^a-z]+", names)):
        return True
    return ANCILLARY_PHRASE.search(names) is not None


def _trouble(da: xr.DataArray) -> str | None:
    try:
        axes(da)
    except InputError as error:
        return str(error)
    return None


def candidates(ds: xr.Dataset) -> list[str]:
    """Names of the fields to fill: floating, on time and two spatial dims, not ancillary.

    >>> ds = xr.Dataset({"sst": (("time", "y", "x"), np.ones((2, 3, 3)))})
    >>> candidates(ds.assign(sst_error=ds.sst))
    ['sst']
    """
    linked: set[str] = set()
    for variable in ds.variables.values():
        for link in ("ancillary_variables", "bounds"):
            linked.update(str(variable.attrs.get(link, "")).split())
    found = []
    for name, da in ds.data_vars.items():
        if da.dtype.kind != "f" or name in linked or _is_ancillary(name, da):
            continue
        if _trouble(da) is None:
            found.append(str(name))
    return found


def pick(ds: xr.Dataset, variables: str | Sequence[str] | None = None) -> list[str]:
    """Names to fill: those given, or every candidate.

    Raises
    ------
    OptionError
        A name that is not in the dataset, or an empty list.
    InputError
        Nothing given, and no candidate.
    """
    if variables is not None:
        names = [variables] if isinstance(variables, str) else list(dict.fromkeys(variables))
        if not names:
            raise OptionError(
                "variables=[] names nothing to fill; leave it out to fill every field"
            )
        for name in names:
            if name not in ds.data_vars:
                raise unknown("variable", name, candidates(ds) or map(str, ds.data_vars))
        return names
    if found := candidates(ds):
        return found
    variables_held = [f"{n} {da.dtype}{_sizes(da)}" for n, da in ds.data_vars.items()]
    held = ", ".join(variables_held) or "no variables"
    reason = "a field needs floating values on time and two spatial dims"
    for key, da in ds.data_vars.items():
        if da.dtype.kind == "f" and not _is_ancillary(key, da) and (trouble := _trouble(da)):
            reason = trouble
            break
    raise InputError(f"nothing to fill: the dataset holds {held}; {reason}")


def pick_one(ds: xr.Dataset, variable: str | None = None) -> str:
    """Name of the one field to work on; `InputError` lists them where there are several."""
    names = pick(ds, variable)
    if len(names) > 1:
        raise InputError(
            f"the dataset holds {len(names)} fields, {', '.join(names)}; "
            f"name one: variable={names[0]!r}"
        )
    return names[0]


def _check_time(time: xr.DataArray, dim: Hashable) -> None:
    values, name = time.values, time.name
    if values.dtype.kind not in "MmiufO" or any(isinstance(v, str) for v in values[:1]):
        raise InputError(
            f"time {name!r} holds {values.dtype} values; "
            f"convert it: ds[{name!r}] = pd.to_datetime(...)"
        )
    if values.size == 0:
        raise InputError(f"time {name!r} has no steps; give at least one image")
    bad = np.flatnonzero(time.isnull().values)
    if bad.size:
        raise InputError(
            f"time {name!r} is missing (NaT) at step {bad[0]}; "
            f"drop it: ds.isel({dim}=ds[{name!r}].notnull().values)"
        )
    ordered, at = np.unique(values, return_index=True)
    if ordered.size < values.size:
        first = values[np.setdiff1d(np.arange(values.size), at)[0]]
        raise InputError(
            f"time {name!r} holds {_date(first)} twice; drop one: ds.drop_duplicates({str(dim)!r})"
        )
    if (values[1:] < values[:-1]).any():
        step = int(np.flatnonzero(values[1:] < values[:-1])[0]) + 1
        raise InputError(
            f"time {name!r} goes back to {_date(values[step])} at step {step}; "
            f"sort it: ds.sortby({name!r})"
        )


def _date(value: object) -> str:
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="s"))
    return str(value)


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
        _check_time(da[found.time], found.dims[0])
    if da.size == 0:
        raise InputError(
            f"{str(da.name)!r} has no cells, {_sizes(da)}; check the selection that made it"
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


def days(field: xr.DataArray) -> np.ndarray:
    """Days since the first step, float64, of a standardised field in any calendar.

    Numeric time counts days unless its ``units`` say otherwise; without a time coordinate steps are
    one day apart.

    >>> times = np.array(["2003-01-01", "2003-01-02T12"], "M8[ns]")
    >>> days(xr.DataArray(np.zeros((2, 1, 1)), {"time": times}, ("time", "y", "x"))).tolist()
    [0.0, 1.5]
    """
    time = field["time"]
    since = time.values - time.values[0]
    if since.dtype.kind == "m":
        return since / np.timedelta64(1, "D")
    if since.dtype == object:
        return np.array([s.total_seconds() / 86400 for s in since])
    unit = str(time.attrs.get("units", "days")).split(" ")[0].lower()
    return since.astype(np.float64) * DAYS.get(unit, 1.0)


def _check_latitude(lat: xr.DataArray) -> None:
    top = float(abs(lat).max())
    if top > 90.01:
        raise InputError(
            f"latitude reaches {top:g}, beyond 90 degrees; rename a projected coordinate to y"
        )


def cell_km(field: xr.DataArray) -> tuple[float, float]:
    """Typical grid steps ``(dy, dx)`` in km: the median great-circle distance between neighbours.

    Without latitude: the steps of ``y`` and ``x`` where their units are m or km, else ``(1.0,
    1.0)``. An axis of one cell takes the other's step. Haversine formula: Sinnott 1984, Sky and
    Telescope 68, 159.
    """
    if "lat" not in field.coords:
        return _one_for_both(_projected_step(field, "y"), _projected_step(field, "x"))
    _check_latitude(field["lat"])
    lat = np.deg2rad(field["lat"].values.astype(np.float64))
    lon = np.deg2rad(field["lon"].values.astype(np.float64))
    if lat.ndim == 2:
        dy = _haversine(lat[1:], lat[:-1], np.diff(lon, axis=0))
        dx = _haversine(lat[:, 1:], lat[:, :-1], np.diff(lon, axis=1))
        return _one_for_both(_median(dy), _median(dx))
    step = np.nan
    if lon.size > 1:
        # The angle of a unit vector: neighbours across the date line lie one step apart.
        step = np.median(np.abs(np.angle(np.exp(1j * np.diff(lon)))))
    dy = _haversine(lat[1:], lat[:-1], np.zeros(1))
    dx = _haversine(lat, lat, np.full(1, step))
    return _one_for_both(_median(dy), _median(dx))


def _haversine(lat: np.ndarray, other: np.ndarray, dlon: np.ndarray) -> np.ndarray:
    h = np.sin((lat - other) / 2) ** 2 + np.cos(lat) * np.cos(other) * np.sin(dlon / 2) ** 2
    return 2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0)))


def _projected_step(field: xr.DataArray, dim: str) -> float:
    if dim not in field.coords:
        return 1.0
    scale = KM.get(str(field[dim].attrs.get("units", "")).lower())
    if scale is None:
        return 1.0
    return scale * _median(np.abs(np.diff(field[dim].values.astype(np.float64))))


def _median(steps: np.ndarray) -> float:
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
