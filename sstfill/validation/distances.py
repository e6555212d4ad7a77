# SPDX-License-Identifier: Apache-2.0
"""How far each pixel is from data: in its image, and in time."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields import gaps, grid


def distance_to_data(obs: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """How far each pixel is from data: km to the nearest observation in its image, days to the
    nearest of the pixel.

    Both float32 with the dims of `obs`, lazy where it is; 0 at observations, infinite where there
    are none. Of several variables, each has its own. (Without coordinates in degrees or km,
    distances are in pixels.)
    """
    seen = obs.notnull()
    space = list(obs.dims[-2:])
    one = obs.isel(variable=0, missing_dims="ignore")
    near = seen.chunk(dict.fromkeys(space, -1)) if obs.chunks else seen
    soon = seen.chunk({"time": -1, **dict.fromkeys(space, "auto")}) if obs.chunks else seen
    distance = xr.apply_ufunc(
        _distance,
        near,
        kwargs={"spacing": grid.cell_km(one)},
        input_core_dims=[space],
        output_core_dims=[space],
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    lag = xr.apply_ufunc(
        _lag,
        soon,
        kwargs={"days": grid.days(one)},
        input_core_dims=[["time"]],
        output_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    found = (distance.transpose(*obs.dims), lag.transpose(*obs.dims))
    return (
        found
        if not obs.chunks
        else (found[0].chunk(obs.chunksizes), found[1].chunk(obs.chunksizes))
    )


def _distance(observed: NDArray, spacing: tuple[float, float]) -> NDArray:
    images = observed.reshape(-1, *observed.shape[-2:])
    return gaps.distance_to_observed(images, spacing).reshape(observed.shape)


def _lag(observed: NDArray, days: NDArray) -> NDArray:
    series = np.moveaxis(observed, -1, 0)
    rows = series.reshape(len(days), -1, series.shape[-1])
    return np.moveaxis(gaps.days_to_observed(rows, days).reshape(series.shape), 0, -1)
