# SPDX-License-Identifier: Apache-2.0
"""A gappy field as the matrix (times, pixels) that EOF methods decompose, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError

SLAB = 32
"""Images handled at once where an eager array is walked through."""
CONSTANT = 1e-7
"""A variable whose standard deviation is a smaller fraction of its mean is constant to single
precision.
"""


def time_slabs(obs: xr.DataArray) -> Iterator[slice]:
    """Walk along time: by the chunks of a Dask-backed array, else by `SLAB` images."""
    chunks = None
    if obs.chunks:
        chunks = obs.chunksizes.get("time")
    sizes = chunks or [SLAB] * -(-obs.sizes["time"] // SLAB)
    start = 0
    for size in sizes:
        yield slice(start, min(start + size, obs.sizes["time"]))
        start += size


@dataclass(frozen=True)
class ObservationMatrix:
    """Centred observations of the pixels that take part, zero in the gaps.

    Attributes
    ----------
    values
        Anomalies, shape ``(times, pixels)``: what is left after `mean` is removed (and each
        variable standardised, where asked); 0 where nothing was observed. Methods write their
        estimates into the gaps.
    observed
        True where an observation is, shape ``(times, pixels)``.
    pixels
        Position of each pixel in the flattened ``([variable,] y, x)`` grid.
    times
        Index of each image that takes part.
    offset, scale
        Per pixel: ``field = offset + scale * anomaly``.
    """

    values: NDArray
    observed: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    times: NDArray[np.int64]
    offset: NDArray
    scale: NDArray

    def without_values(self) -> ObservationMatrix:
        """Return where pixels and images belong, without the observations, to free their memory."""
        nothing = np.empty((0, 0), self.values.dtype)
        return replace(self, values=nothing, observed=nothing.astype(bool))

    @property
    def deviation(self) -> float:
        """Root mean square of the observed anomalies (``s0`` of the reference program); above 0
        for a constant field too.
        """
        found = float(np.sqrt(sum_squares(self.values) / self.observed.sum()))
        return max(found, float(np.finfo(np.float32).tiny))


def pack(
    obs: xr.DataArray,
    sea: xr.DataArray,
    *,
    dtype: type = np.float32,
    normalise: bool = False,
    min_pixel_coverage: float = 0.0,
    min_image_coverage: float = 0.0,
) -> ObservationMatrix:
    """Gather the sea pixels of `obs` into a centred `ObservationMatrix`.

    Parameters
    ----------
    obs
        Dims ``([variable,] time, y, x)``, NaN in the gaps; Dask-backed arrays are read slab by
        slab.
    sea
        True at sea, dims ``(y, x)``.
    dtype
        Floating type of the matrix.
    normalise
        Divide each variable by its standard deviation before the common mean is removed (``norm =
        1``).
    min_pixel_coverage, min_image_coverage
        Pixels observed in a smaller fraction of the images (at least once in any case), and images
        that show a smaller fraction of the sea, take no part.

    Raises
    ------
    InputError
        If no observation takes part.
    """
    if "variable" in obs.dims:
        obs = obs.transpose("variable", "time", ...)
    # Variables stand beside each other as more pixels of one image.
    copies = obs.sizes.get("variable", 1)
    at_sea = np.flatnonzero(np.tile(sea.values.ravel(), copies))
    values: NDArray = np.empty((obs.sizes["time"], at_sea.size), dtype)
    observed = np.empty(values.shape, bool)
    for slab in time_slabs(obs):
        images = np.asarray(obs.isel(time=slab).data)
        if copies > 1 or "variable" in obs.dims:
            images = np.moveaxis(images, 0, 1)
        values[slab] = images.reshape(images.shape[0], -1)[:, at_sea]
        # After the cast: a number too large for the type is infinite in it, and counts as a gap.
        observed[slab] = np.isfinite(values[slab])
    pixels, times = at_sea, np.arange(len(values))
    keep = observed.any(0) & (observed.sum(0) / len(values) >= min_pixel_coverage)
    # Row by row, for the product of all rows would be a second matrix of that size.
    shown = np.array([np.count_nonzero(row & keep) for row in observed])
    use = shown / max(1, np.count_nonzero(keep)) >= min_image_coverage
    if not use.all():
        # A pixel may have been seen only in the images that were dropped.
        keep &= observed[use].any(0)
        values, observed, times = values[use], observed[use], times[use]
    if not keep.all():
        # advanced indexing may hand back Fortran order; flat positions need C order
        values = np.ascontiguousarray(values[:, keep])
        observed = np.ascontiguousarray(observed[:, keep])
        pixels = pixels[keep]
    if not observed.any():
        raise InputError(
            f"no observation is left under min_pixel_coverage={min_pixel_coverage}, "
            f"min_image_coverage={min_image_coverage}; lower them"
        )
    variable = pixels // sea.size
    offset, scale = _centre(
        values, observed, variable if normalise else np.zeros_like(variable), normalise
    )
    return ObservationMatrix(values, observed, pixels, times, offset, scale)


def _centre(
    values: NDArray, observed: NDArray, group: NDArray, normalise: bool
) -> tuple[NDArray, NDArray]:
    """Standardise each group of pixels if asked, remove one common mean, and put 0 in the gaps.

    All in place; return offset and scale of each pixel.
    """
    for rows in _rows(values):
        values[rows][~observed[rows]] = 0
    offset, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
    if normalise:
        for g in np.unique(group):
            of = group == g
            n = observed[:, of].sum()
            mean = values[:, of].sum(dtype=np.float64) / n
            squares = 0.0
            for rows in _rows(values):
                anomaly = (values[rows][:, of] - mean) * observed[rows][:, of]
                # About the mean, not from a sum of squares: sea surface temperature in kelvin is
                # 300 times its anomaly.
                squares = squares + np.square(anomaly).sum()
            std = np.sqrt(squares / n)
            offset[of], scale[of] = mean, std if std > CONSTANT * abs(mean) else 1.0
        for rows in _rows(values):
            values[rows] = np.where(observed[rows], (values[rows] - offset) / scale, 0)
    # rounded to the type of the values, so that what is added later is what is taken off here
    common = values.dtype.type(values.sum(dtype=np.float64) / observed.sum())
    for rows in _rows(values):
        values[rows] -= common * observed[rows]
    return offset + scale * float(common), scale


def _rows(values: NDArray) -> Iterator[slice]:
    return (slice(i, i + SLAB) for i in range(0, len(values), SLAB))


def sum_squares(values: NDArray) -> float:
    """Return the sum of squares in double precision, without a second array of that size."""
    return float(sum(np.square(values[rows]).sum(dtype=np.float64) for rows in _rows(values)))
