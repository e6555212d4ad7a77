# SPDX-License-Identifier: Apache-2.0
"""Make one field of what several methods say, by a recipe found on withheld clouds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.validation import blend_weights as blending
from sstfill.validation.calibration import StratifiedScale
from sstfill.validation.cross_validation import BlendRecipe
from sstfill.validation.distances import distance_to_data

Near = tuple[xr.DataArray, xr.DataArray]


def combined(
    recipe: BlendRecipe,
    estimates: Sequence[xr.Dataset],
    obs: xr.DataArray,
    near: Near | None = None,
) -> xr.Dataset:
    """Blend estimates of `obs` by a recipe: ``mean`` and, where one of them states it, ``error``;
    lazy where `obs` is.

    Parameters
    ----------
    recipe
        Weights and error scales of these estimates.
    estimates
        Datasets of ``mean`` and maybe ``error``, dims of `obs`.
    obs
        What they were made from: how far a pixel is from data decides on the weights.
    near
        How far that is (`sstfill.validation.distances.distance_to_data`), where it is known, as
        from more than `obs` shows.
    """
    means = [e["mean"].transpose(*obs.dims) for e in estimates]
    sigmas = [_scaled(e, recipe.scale[:, k], obs) for k, e in enumerate(estimates)]
    if len(estimates) == 1:
        mean, sigma = means[0], sigmas[0]
    else:
        fields = [*(near or distance_to_data(obs)), *means, *sigmas]
        if obs.chunks:
            fields = [f.chunk(obs.chunksizes) for f in fields]
        mean, sigma = xr.apply_ufunc(
            _blended,
            *fields,
            kwargs={"weights": recipe.weights},
            output_core_dims=[[], []],
            join="override",
            dask="parallelized",
            output_dtypes=[obs.dtype, np.float32],
        )
    stated = any("error" in e for e in estimates)
    return xr.Dataset({"mean": mean} | ({"error": sigma} if stated else {}))


def rescaled(
    found: xr.Dataset, scale: StratifiedScale, obs: xr.DataArray, near: Near | None = None
) -> xr.Dataset:
    """Scale ``error``, where it is stated, by how far each pixel of `obs` is from data; lazy where
    `obs` is.

    `near` as in `combined`.
    """
    if "error" not in found:
        return found
    fields = [found["error"].transpose(*obs.dims), *(near or distance_to_data(obs))]
    if obs.chunks:
        fields = [f.chunk(obs.chunksizes) for f in fields]
    error = xr.apply_ufunc(
        _rescaled,
        *fields,
        kwargs={"scale": scale},
        join="override",
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    return found.assign(error=error)


def _rescaled(
    error: NDArray, distance: NDArray, lag: NDArray, *, scale: StratifiedScale
) -> NDArray:
    """Scale image by image, to spare memory."""
    out = np.empty(error.shape, np.float32)
    for at in np.ndindex(error.shape[:-2]):
        out[at] = error[at] * scale.at(distance[at], lag[at])
    return out


def _scaled(estimate: xr.Dataset, scale: NDArray, obs: xr.DataArray) -> xr.DataArray:
    """The error a method states, as it held on withheld clouds; NaN where it states none."""
    sigma = (
        estimate["error"]
        if "error" in estimate
        else xr.full_like(estimate["mean"], np.nan, dtype=np.float32)
    )
    factor = (
        xr.DataArray(scale.astype(np.float32), dims="variable")
        if "variable" in obs.dims
        else np.float32(scale[0])
    )
    return (sigma * factor).transpose(*obs.dims)


def _blended(
    distance: NDArray, lag: NDArray, *fields: NDArray, weights: blending.Weights
) -> tuple[NDArray, NDArray]:
    """Blend whole fields, image by image to spare memory; `fields` are all means, then all errors."""
    k = len(fields) // 2
    mean, sigma = np.empty(distance.shape, fields[0].dtype), np.empty(distance.shape, np.float32)
    for at in np.ndindex(distance.shape[:-2]):
        means, sigmas = (np.stack([f[at] for f in some], -1) for some in (fields[:k], fields[k:]))
        mean[at], sigma[at] = blending.mix(weights.at(distance[at], lag[at]), means, sigmas)
    return mean, sigma
