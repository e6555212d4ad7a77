# SPDX-License-Identifier: Apache-2.0
"""The coordinates of a synthetic ocean: a regular latitude-longitude grid and time axis."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from sstfill.errors import OptionError
from sstfill.synthetic import checks

KM_PER_DEGREE = 111.195  # of latitude, on a sphere of radius 6371 km
POLEWARD = 80.0  # beyond this the cells of a regular grid are no longer nearly square


def horizontal(
    shape: tuple[int, int], *, grid_km: float, lat: float, lon: float
) -> dict[str, xr.Variable]:
    """Return ``lat`` and ``lon`` of a grid about a centre, where its cells are square."""
    step = checks.number("grid_km", grid_km, above=0) / KM_PER_DEGREE
    centre = checks.number("lat", lat), checks.number("lon", lon)
    if abs(centre[0]) + step * shape[0] / 2 > POLEWARD:
        raise OptionError(
            f"lat {lat!r} with {shape[0]} cells of {grid_km} km reaches beyond {POLEWARD:g} "
            "degrees; give a smaller grid_km or shape, or a centre nearer the equator"
        )
    # a degree of longitude is shorter by the cosine of the latitude
    step_east = step / np.cos(np.deg2rad(centre[0]))
    if step_east * shape[1] > 360:
        raise OptionError(
            f"grid_km {grid_km!r} with {shape[1]} columns goes round the Earth; give a smaller one"
        )
    lat_values = centre[0] + step * (np.arange(shape[0]) - (shape[0] - 1) / 2)
    lon_values = centre[1] + step_east * (np.arange(shape[1]) - (shape[1] - 1) / 2)
    north = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
    east = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
    return {
        "lat": xr.Variable("lat", lat_values, {"long_name": "latitude"} | north),
        "lon": xr.Variable("lon", lon_values, {"long_name": "longitude"} | east),
    }


def temporal(times: int, *, step: str, start: str) -> xr.Variable:
    """Return ``time``: `times` instants, `step` apart, from `start`."""
    spacing = np.timedelta64(round(checks.duration("step", step) * 1e9), "ns")
    try:
        first = pd.Timestamp(start).as_unit("ns").to_datetime64()
        if np.isnat(first):
            raise ValueError("not a time")
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"start {start!r} is not a date; give one such as '2018-01-01'"
        ) from error
    # in Python's integers, which do not wrap around as those of NumPy's times do
    last = int(first.astype("int64")) + (times - 1) * int(spacing.astype("int64"))
    if last > np.iinfo("int64").max:
        raise OptionError(
            f"step {step!r} from {start!r} leaves the calendar, which ends in 2262; "
            "give a shorter step"
        )
    attrs = {"standard_name": "time", "long_name": "time", "axis": "T"}
    return xr.Variable("time", first + spacing * np.arange(times), attrs)
