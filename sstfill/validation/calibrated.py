# SPDX-License-Identifier: Apache-2.0
"""Scale what a method states of its error, as withheld pixels showed it must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.patches import Shape
from sstfill.validation.calibration import StratifiedScale
from sstfill.validation.distances import Distances, distance_to_data
from sstfill.validation.tails import with_tails


def calibrated(
    estimate: xr.Dataset,
    scales: Mapping[str, StratifiedScale],
    variables: Sequence[str],
    obs: xr.DataArray,
    distances: Distances | None = None,
    *,
    seed: int = 0,
    origin: Shape = (0, 0, 0),
) -> xr.Dataset:
    """Scale the error of an estimate, and the distance of its members from the mean.

    Where errors have heavier tails than a Gaussian distribution, members get these, too, see
    `sstfill.validation.tails`: most lie nearer to the mean than Gaussian ones of the same standard
    deviation, and some much farther, each in a whole region and for some days.

    The estimate must be in the space that the method saw, where the scale was found. Lazy where it
    is.

    Parameters
    ----------
    estimate
        ``mean`` and, where the method knows them, ``error`` and ``members``.
    scales
        Factors of the error by variable, see `sstfill.validation.withheld.WithheldScore.scale`; 1
        for a variable that is not there.
    variables
        Names along ``variable``, or the one name of a field.
    obs
        The observations that the estimate was made from.
    distances
        Distance of each pixel to data, if it is known; by default that of `obs`. It is needed where
        a scale has several factors.
    seed
        Of the tails of members.
    origin
        Image, row and column of the whole series with which `obs` begins.
    """
    one = StratifiedScale.single(1.0)
    every = [scales.get(name, one) for name in variables]
    several = "variable" in estimate["mean"].dims
    factor: Any
    if all(scale.is_single for scale in every):
        # One number needs no distances, which take as long as a method on a large series.
        numbers = [np.float32(scale.factor[0, 0]) for scale in every]
        factor = xr.DataArray(numbers, dims="variable") if several else numbers[0]
    else:
        factor = _factors(every, distances or distance_to_data(obs), several)
    scaled = {}
    if "error" in estimate:
        error = estimate["error"]
        scaled["error"] = (error.astype(np.float32) * factor).transpose(*error.dims)
    if "members" in estimate:
        members, mean = estimate["members"], estimate["mean"]
        # Deviations are scaled, not members, so that the mean stays.
        apart = (members - mean) * factor
        distributions = [scale.distribution for scale in every]
        apart = with_tails(apart, distributions, obs, members.attrs, seed, origin)
        # Attributes of members are for this place only.
        drawn = (mean + apart).astype(members.dtype).transpose(*members.dims)
        scaled["members"] = drawn.drop_attrs(deep=False)
    return estimate.assign(scaled)


def _factors(
    scales: Sequence[StratifiedScale], distances: Distances, several: bool
) -> xr.DataArray:
    """Return the factor of each pixel, dims of `distances`."""
    parts = []
    for number, scale in enumerate(scales):
        distance, lag = distances
        if several:
            distance, lag = distance.isel(variable=number), lag.isel(variable=number)
        factor = xr.apply_ufunc(
            _factors_of_images,
            distance,
            lag,
            kwargs={"scale": scale},
            dask="parallelized",
            output_dtypes=[np.float32],
        )
        parts.append(factor)
    if several:
        return xr.concat(parts, distances[0]["variable"]).drop_attrs(deep=False)
    return parts[0]


def _factors_of_images(distance: NDArray, lag: NDArray, *, scale: StratifiedScale) -> NDArray:
    factor = np.empty(distance.shape, np.float32)
    # Image by image, to spare memory.
    for image in np.ndindex(distance.shape[:-2]):
        factor[image] = scale.at(distance[image], lag[image])
    return factor
