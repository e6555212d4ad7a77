# SPDX-License-Identifier: Apache-2.0
"""Interpolation in time, pixel by pixel; then in space where a pixel was never observed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from sstfill.checks import check_number
from sstfill.fields.reading.dates import days_since_first
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.interpolation.variogram import Variogram
from sstfill.methods.registry import register

SAMPLE = 5000
"""About how many pixels the semivariogram is estimated from."""
BLOCK = 512
"""Series that are interpolated at once: their intermediate arrays stay in the cache."""


@register
@dataclass(frozen=True, kw_only=True)
class Interpolate:
    """Fill each pixel linearly in time between its observations, and hold the nearest one at the
    ends.

    The expected error is that of this weighting under the series' own semivariogram in time (a
    kriging variance with the weights of the linear interpolation).

    Parameters
    ----------
    limit
        Longest gap to fill, in days between the observations around it (at the ends: to the nearest
        one); longer gaps are left unfilled. None fills all.
    space
        Fill sea pixels that are never observed by harmonic (membrane) interpolation between their
        neighbours.
    """

    name: ClassVar[str] = "interpolate"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1

    limit: float | None = None
    space: bool = True

    def __post_init__(self) -> None:
        if self.limit is not None:
            check_number("limit", self.limit, 0, above=True)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        days = days_since_first(obs)
        estimated = Variogram.of(_sample(obs, sea), days)
        variogram = estimated.valid()
        limit = np.inf if self.limit is None else self.limit
        whole = obs
        if obs.chunks:  # a series must be in one block
            # Shorter blocks in space keep the size of a block about what it was.
            whole = obs.chunk({"time": -1, **dict.fromkeys(sea.dims, "auto")})
        mean, error = xr.apply_ufunc(
            in_time,
            whole,
            kwargs={"days": days, "limit": limit, "variogram": variogram},
            dask="parallelized",
            input_core_dims=[["time"]],
            output_core_dims=[["time"], ["time"]],
            output_dtypes=[obs.dtype, np.float32],
        )
        # apply_ufunc moves core dims to the end.
        mean, error = mean.transpose(*obs.dims), error.transpose(*obs.dims)
        never = ~obs.notnull().any("time") & sea
        # of a lazy field it is not known yet whether there is anything to fill in space
        if self.space and (obs.chunks or bool(never.any())):
            if obs.chunks:
                # A membrane is solved image by image: the long blocks of the step before would be
                # one task for all of them.
                mean = mean.chunk(time=obs.chunksizes["time"])
            mean = _in_space(mean, never, sea)
            # At a pixel never seen, the difference of two unrelated values: twice the sill.
            error = error.fillna(float(np.sqrt(2 * variogram.gamma[-1]))).where(mean.notnull())
        found = xr.Dataset({"mean": mean, "error": error})
        found.attrs = {"semivariogram_days": estimated.lags, "semivariogram": estimated.gamma}
        return found

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        """Fit to an archive larger than memory (see `sstfill.methods.registry.fit`)."""
        from sstfill.methods.interpolation.fitted import FittedInterpolate

        return FittedInterpolate.fit(self, archive, folder)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        """Read what `fit` wrote."""
        from sstfill.methods.interpolation.fitted import FittedInterpolate

        return FittedInterpolate.load(folder)


def _sample(obs: xr.DataArray, sea: xr.DataArray) -> NDArray:
    """Series of about `SAMPLE` sea pixels, ``(pixels, times)``: whole rows, spread evenly."""
    rows, columns = obs.dims[1:]
    per_row = max(1.0, float(sea.sum()) / obs.sizes[rows])
    step = max(1, int(obs.sizes[rows] * per_row / SAMPLE))
    # Whole rows: single pixels would be read from the same chunks of a lazy field.
    some = obs.isel({rows: slice(step // 2, None, step)}).transpose(rows, columns, "time").values
    if not np.isfinite(some).any():
        # Every so many-th row may miss a field that is seen in few rows only; and of images wider
        # than twice the sample the first of these rows lies beyond the last. Without a sample the
        # semivariogram would be 0, and so would all errors.
        seen = obs.notnull().sum((columns, "time")).values
        most = int(seen.argmax())
        some = obs.isel({rows: [most]}).transpose(rows, columns, "time").values
    return some.reshape(-1, obs.sizes["time"])


def in_time(
    series: NDArray,
    *,
    days: NDArray,
    limit: float,
    variogram: Variogram,
    wanted: slice = slice(None),
) -> tuple[NDArray, NDArray]:
    """Interpolate series ``(..., times)`` linearly.

    Parameters
    ----------
    series
        NaN in the gaps.
    days
        Of the images, ``(times,)``.
    limit
        Longest gap to fill, days.
    variogram
        In time, of the field.
    wanted
        Part of the times to estimate.

    Returns
    -------
    mean, error
        Both shaped as `series`, or as its part `wanted`; NaN in longer gaps, and where nothing is
        observed.
    """
    flat = series.reshape(-1, series.shape[-1])
    shape = (*series.shape[:-1], len(days[wanted]))
    mean = np.empty((len(flat), shape[-1]), series.dtype)
    error = np.empty(mean.shape, np.float32)
    for start in range(0, len(flat), BLOCK):
        block = slice(start, start + BLOCK)
        mean[block], error[block] = _interpolated(flat[block], days, limit, variogram, wanted)
    return mean.reshape(shape), error.reshape(shape)


def _interpolated(
    series: NDArray, days: NDArray, limit: float, variogram: Variogram, wanted: slice
) -> tuple[NDArray, NDArray]:
    n = series.shape[1]
    seen = np.isfinite(series)
    step = np.arange(n)
    # number of the last observation up to each time, and of the first one from it on
    before = np.maximum.accumulate(np.where(seen, step, -1), 1)[:, wanted]
    after = np.minimum.accumulate(np.where(seen, step, n)[:, ::-1], 1)[:, ::-1][:, wanted]
    has_before, has_after = before >= 0, after < n
    left = np.where(has_before, before, np.minimum(after, n - 1))
    # One-sided, both ends are the same observation.
    right = np.where(has_after, after, left)
    back, ahead = np.abs(days[wanted] - days[left]), np.abs(days[right] - days[wanted])
    span = back + ahead
    # At an observation both ends are itself, and their span is 0.
    w = np.where(span > 0, back / np.where(span > 0, span, 1), 0.0)
    # at the ends of a series the nearest observation is held
    one_sided = ~(has_before & has_after)
    w[one_sided] = 0.0
    gap = np.where(one_sided, back, np.abs(days[right] - days[left]))
    good = (has_before | has_after) & (gap <= limit)
    low, high = np.take_along_axis(series, left, 1), np.take_along_axis(series, right, 1)
    mean = np.where(good, low + (high - low) * w.astype(series.dtype), np.nan).astype(series.dtype)
    # E[(x - (1 - w) left - w right)^2], each product of differences by the semivariogram
    cross = np.where(one_sided, 0.0, w * (1 - w) * variogram(span))
    variance = 2 * ((1 - w) * variogram(back) + w * variogram(ahead) - cross)
    return mean, np.where(good, np.sqrt(np.maximum(variance, 0)), np.nan).astype(np.float32)


def _in_space(mean: xr.DataArray, never: xr.DataArray, sea: xr.DataArray) -> xr.DataArray:
    space = list(sea.dims)
    if mean.chunks:  # an image must be in one block
        mean = mean.chunk(dict.fromkeys(space, -1))
        never = never.chunk(dict.fromkeys(space, -1))
    return xr.apply_ufunc(
        membrane,
        mean,
        never,
        input_core_dims=[space, space],
        output_core_dims=[space],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[mean.dtype],
    ).transpose(*mean.dims)


def membrane(image: NDArray, fill: NDArray) -> NDArray:
    """Fill the pixels `fill` of an image ``(y, x)``, each by the mean of its neighbours.

    This solves Laplace's equation with the image's own values as boundary. Pixels that are not
    connected to a known one stay NaN.

    >>> membrane(np.array([[1.0, np.nan, 3.0]]), np.array([[False, True, False]])).tolist()
    [[1.0, 2.0, 3.0]]
    """
    fill = fill & ~np.isfinite(image)
    if not fill.any():
        return image
    usable = fill | np.isfinite(image)
    # Unknowns numbered in the order in which boolean indexing lists them.
    number = np.cumsum(usable.ravel()).reshape(image.shape) - 1
    in_row, in_column = usable[:, :-1] & usable[:, 1:], usable[:-1] & usable[1:]
    along_row = np.stack([number[:, :-1][in_row], number[:, 1:][in_row]])
    along_column = np.stack([number[:-1][in_column], number[1:][in_column]])
    pairs = np.concatenate([along_row, along_column], axis=1)
    count = int(usable.sum())
    links = coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(count, count)).tocsr()
    # Each pair was entered once.
    links = links + links.T
    unknown, values = fill[usable], image[usable].astype(np.float64)
    # A part without any known pixel makes the equations singular.
    component = connected_components(links, directed=False)[1]
    reached = np.isin(component, component[~unknown]) & unknown
    if not reached.any():
        return image
    degree = links.sum(1)
    inner = links[reached]
    diagonal = np.arange(reached.sum())
    matrix = coo_array((degree[reached], (diagonal, diagonal))).tocsc()
    matrix = matrix - inner[:, reached].tocsc()
    # The graph Laplacian of unknown pixels; links to known ones are the right-hand side.
    values[reached] = spsolve(matrix, inner[:, ~unknown] @ values[~unknown])
    out = image.copy()
    out[usable] = values
    return out
