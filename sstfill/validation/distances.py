# SPDX-License-Identifier: Apache-2.0
"""The distance of each pixel to data: in its image, and in time."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields import gaps
from sstfill.fields.reading.dates import days_since_first
from sstfill.fields.reading.positions import cell_km

Distances = tuple[xr.DataArray, xr.DataArray]
"""Distance (km) and lag (days), as `distance_to_data` returns them."""


def distance_to_data(obs: xr.DataArray) -> Distances:
    """Measure how far each pixel is from observations; lazy where `obs` is.

    Parameters
    ----------
    obs
        Observations, NaN in the gaps, or a bool array, True where observed; of several variables,
        each has distances of its own.

    Returns
    -------
    distance, lag
        Kilometres to the nearest observation in the image, and days to the nearest observation of
        the pixel: float32, dims of `obs`, 0 at observations, infinite where there are none. Without
        coordinates in degrees or km, distances are in pixels.
    """
    observed = obs if obs.dtype == bool else obs.notnull()
    space = list(obs.dims[-2:])
    # Spacing and dates are those of any of the variables.
    one = obs.isel(variable=0, missing_dims="ignore")
    # Each of the two needs whole images, or whole series, in one block.
    images, series = observed, observed
    if obs.chunks:
        images = observed.chunk(dict.fromkeys(space, -1))
        series = observed.chunk({"time": -1, **dict.fromkeys(space, "auto")})
    distance = xr.apply_ufunc(
        _distance_in_images,
        images,
        kwargs={"spacing": cell_km(one)},
        input_core_dims=[space],
        output_core_dims=[space],
        dask="parallelized",
        output_dtypes=[np.float32],
    ).transpose(*obs.dims)
    lag = xr.apply_ufunc(
        _lag_in_series,
        series,
        kwargs={"days": days_since_first(one)},
        input_core_dims=[["time"]],
        output_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[np.float32],
    ).transpose(*obs.dims)
    if obs.chunks:
        # Back to the chunks of the field, with which the distances are combined next.
        return distance.chunk(obs.chunksizes), lag.chunk(obs.chunksizes)
    return distance, lag


def _distance_in_images(observed: NDArray, spacing: tuple[float, float]) -> NDArray:
    images = observed.reshape(-1, *observed.shape[-2:])
    return gaps.distance_to_observed(images, spacing).reshape(observed.shape)


def _lag_in_series(observed: NDArray, days: NDArray) -> NDArray:
    series = np.moveaxis(observed, -1, 0)
    # The routine takes images, so that the points of a series are laid out as one.
    rows = series.reshape(len(days), -1, series.shape[-1])
    return np.moveaxis(gaps.days_to_observed(rows, days).reshape(series.shape), 0, -1)
