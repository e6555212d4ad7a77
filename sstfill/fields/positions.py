# SPDX-License-Identifier: Apache-2.0
"""Where the pixels are: the names of latitude and longitude, and the size of a cell in km."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sstfill.errors import InputError

LAT = ("lat", "latitude", "nav_lat", "lats", "latitudes", "gphit")
LON = ("lon", "longitude", "nav_lon", "lons", "longitudes", "long", "glamt")
KM = {"m": 1e-3, "meter": 1e-3, "metre": 1e-3, "meters": 1e-3, "metres": 1e-3, "km": 1.0}
EARTH_RADIUS = 6371.0088  # km, mean radius of WGS84


def declare(ds: xr.Dataset) -> xr.Dataset:
    """Make latitude and longitude coordinates, also where the file does not declare them so."""
    return ds.set_coords([name for name in ds.data_vars if _is_position(ds[name])])


def _is_position(da: xr.DataArray) -> bool:
    """Whether a variable is a latitude or longitude."""
    if da.dtype.kind != "f" or da.ndim not in (1, 2):
        return False
    named = str(da.name).lower() in (*LAT, *LON)
    return named or da.attrs.get("standard_name") in ("latitude", "longitude")


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
