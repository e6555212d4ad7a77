# SPDX-License-Identifier: Apache-2.0
"""A field as a few modes, ``x_it = offset_i + scale_i u_i . c_t``, and its error; lazy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.methods.common.matrix import ObservationMatrix, time_slabs

Evaluate = Callable[[slice], NDArray]


@dataclass(frozen=True)
class LowRank:
    """Spatial patterns times temporal amplitudes, with their uncertainty, in units of the anomaly.

    Attributes
    ----------
    patterns
        ``u``, shape ``(pixels, modes)``.
    amplitudes
        ``c``, shape ``(times, modes)``.
    amplitude_covariance
        Covariance of each image's amplitudes, shape ``(times, modes, modes)``.
    pattern_variance
        Variance of each pixel's pattern values, shape ``(pixels, modes)``, or None where they are
        taken as exact.
    noise
        Variance that the modes do not explain, of each pixel ``(pixels,)`` or one number.
    """

    patterns: NDArray
    amplitudes: NDArray
    amplitude_covariance: NDArray
    pattern_variance: NDArray | None
    noise: NDArray | float

    def mean(self, times: slice) -> NDArray:
        """Estimate the anomaly of some images, shape ``(times, pixels)``."""
        return self.amplitudes[times] @ self.patterns.T

    def variance(self, times: slice) -> NDArray:
        """Expected squared error of `mean`, shape ``(times, pixels)``.

        ``u^T Cov(c_t) u + sum_k E[c_tk^2] Var(u_k) + noise``.
        """
        out = np.empty((len(self.amplitudes[times]), len(self.patterns)), self.patterns.dtype)
        # Image by image: for all at once, the product would take times x pixels x modes.
        for row, covariance in zip(out, self.amplitude_covariance[times], strict=True):
            row[:] = ((self.patterns @ covariance) * self.patterns).sum(1)
        if self.pattern_variance is not None:
            own = np.diagonal(self.amplitude_covariance[times], axis1=1, axis2=2)
            power = self.amplitudes[times] ** 2 + own
            out += power.astype(out.dtype) @ self.pattern_variance.T
        # rounding can leave a quadratic form just below 0
        return np.maximum(out, 0) + np.asarray(self.noise, out.dtype)


def residual_sigma(low: LowRank, matrix: ObservationMatrix, obs: xr.DataArray) -> xr.DataArray:
    """Expected distance of an observation from a reconstruction in which it was used.

    Its variance is ``mu2 - u^T Cov(c_t) u``, the noise less the error of the mean, since the mean
    has been drawn to the observation; at least a twentieth of the noise, where the modes depend on
    few observations.
    """
    scale = matrix.scale.astype(np.float32)

    def sigma(times: slice) -> NDArray:
        noise = np.asarray(low.noise, low.patterns.dtype)
        return np.sqrt(np.maximum(2 * noise - low.variance(times), 0.05 * noise)) * scale

    return lay_out(sigma, np.dtype("f4"), matrix, obs)


def as_fields(low: LowRank, matrix: ObservationMatrix, obs: xr.DataArray) -> xr.Dataset:
    """Lay mean and error of a decomposition out on the grid of `obs`; lazy where `obs` is."""
    # the two functions below are pickled with each Dask task, and must not refer to `obs`
    dtype = obs.dtype
    offset, scale = matrix.offset.astype(dtype), matrix.scale.astype(dtype)

    def mean(times: slice) -> NDArray:
        return (low.mean(times) * scale + offset).astype(dtype, copy=False)

    def error(times: slice) -> NDArray:
        return (np.sqrt(low.variance(times)) * scale).astype(np.float32, copy=False)

    return xr.Dataset(
        {
            "mean": lay_out(mean, dtype, matrix, obs),
            "error": lay_out(error, np.dtype("f4"), matrix, obs),
        }
    )


def lay_out(
    evaluate: Evaluate, dtype: np.dtype, matrix: ObservationMatrix, obs: xr.DataArray
) -> xr.DataArray:
    """Lay the values ``(times, pixels)`` of `evaluate` out on the grid of `obs`; lazy where `obs`
    is.

    Parameters
    ----------
    evaluate
        Returns the values of a slice of images.
    dtype
        Of the values.
    matrix
        Where its pixels and images belong.
    obs
        The field, of which only dims, shape, chunks and coordinates are used.
    """
    # Time first, as the slabs go.
    template = obs.transpose("time", ...)
    values: Any
    if obs.chunks is None:
        values = np.empty(template.shape, dtype)
        for slab in time_slabs(template):
            values[slab] = _images(evaluate, slab, dtype, matrix, template.shape[1:])
    else:
        values = _lazy(evaluate, dtype, matrix, template)
    return xr.DataArray(values, dims=template.dims, coords=template.coords).transpose(*obs.dims)


def _images(
    evaluate: Evaluate,
    slab: slice,
    dtype: np.dtype,
    matrix: ObservationMatrix,
    shape: tuple[int, ...],
) -> NDArray:
    """Images of one slab of the original time axis; NaN in pixels and times that took no part."""
    flat = np.full((slab.stop - slab.start, int(np.prod(shape))), np.nan, dtype)
    # Images that took no part are not among `matrix.times`, so their numbers differ.
    first, last = np.searchsorted(matrix.times, [slab.start, slab.stop])
    if last > first:
        flat[np.ix_(matrix.times[first:last] - slab.start, matrix.pixels)] = evaluate(
            slice(first, last)
        )
    return flat.reshape(flat.shape[0], *shape)


def _lazy(
    evaluate: Evaluate, dtype: np.dtype, matrix: ObservationMatrix, template: xr.DataArray
) -> object:
    import dask
    import dask.array as da

    shape = template.shape[1:]
    # Each task is pickled with its matrix: only what lays values out.
    light = ObservationMatrix(
        np.empty(0), np.empty(0, bool), matrix.pixels, matrix.times, np.empty(0), np.empty(0)
    )
    images = dask.delayed(_images)
    blocks = []
    for slab in time_slabs(template):
        block = images(evaluate, slab, dtype, light, shape)
        blocks.append(da.from_delayed(block, (slab.stop - slab.start, *shape), dtype))
    # The slabs follow the chunks in time; this splits them in space.
    return da.concatenate(blocks).rechunk(template.chunks)
