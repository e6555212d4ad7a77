# SPDX-License-Identifier: Apache-2.0
"""How errors of a field of modes are correlated in space, and normal numbers of that correlation.

Of the variance a fraction ``f`` belongs to features of some pixels, the rest to single pixels: over
``d`` pixels the correlation is ``f exp(-d^2 / (4 r^2))``. The part of the features is white noise
on the grid of the whole field, a function of seed, member, time and pixel, smoothed by a Gaussian
kernel of standard deviation ``r``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import correlate1d

from sstfill.methods.common.keyed import keyed_normals, pixel_keys, pixel_places

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""Distances in pixels, along columns and along rows, at which errors are compared."""
RADII = np.geomspace(0.4, 16.0, 60)
"""Standard deviations of the kernel that are tried, in pixels."""
FEWEST = 200
"""Pairs of errors that a correlation needs."""
FEATURES = 725
"""What is drawn: a key of the numbers that are smoothed."""
REACH = 3.5
"""A kernel ends so many standard deviations from its centre."""


@dataclass(frozen=True)
class ErrorCorrelation:
    """Correlation of errors between the pixels of an image.

    Attributes
    ----------
    fraction
        Of the variance that is correlated, 0 to 1.
    radius
        Of the kernel along columns (y) and along rows (x), in pixels.
    """

    fraction: float = 0.0
    radius: tuple[float, float] = (1.0, 1.0)

    def normals(
        self, keys: tuple[int, ...], rows: ArrayLike, pixels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Draw standard normal numbers, correlated between the pixels, ``(rows, pixels)``.

        Parameters
        ----------
        keys, rows
            Whole numbers, see `sstfill.methods.common.keyed.keyed_normals`.
        pixels
            Keys of the pixels, see `sstfill.methods.common.keyed.pixel_keys`.

        Examples
        --------
        >>> pixels = pixel_keys(*np.indices((30, 40)).reshape(2, -1))
        >>> correlation = ErrorCorrelation(0.5, (2.0, 2.0))
        >>> whole = correlation.normals((1,), [0], pixels)
        >>> bool((correlation.normals((1,), [0], pixels[500:]) == whole[:, 500:]).all())
        True
        """
        found = keyed_normals(keys, rows, pixels)
        if self.fraction > 0:
            # Both parts are independent, so that variances add up to 1.
            found *= np.float32(np.sqrt(1 - self.fraction))
            features = self._features((*keys, FEATURES), rows, pixels)
            found += np.float32(np.sqrt(self.fraction)) * features
        return found

    def _features(
        self, keys: tuple[int, ...], stamps: ArrayLike, pixels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Draw the correlated part, of variance 1."""
        stamps = np.asarray(stamps, np.int64)
        out = np.empty((len(stamps), len(pixels)), np.float32)
        rows, columns, variables = pixel_places(pixels)
        kernels = [_kernel(radius) for radius in self.radius]
        margins = [len(kernel) // 2 for kernel in kernels]
        for variable in np.unique(variables):
            here = np.flatnonzero(variables == variable)
            # White noise is drawn a kernel beyond the pixels, so that no edge of a window shows.
            top, left = rows[here].min() - margins[0], columns[here].min() - margins[1]
            height = rows[here].max() + margins[0] + 1 - top
            width = columns[here].max() + margins[1] + 1 - left
            row, column = np.indices((height, width)).reshape(2, -1)
            box = pixel_keys(row + top, column + left, variable)
            for time, stamp in enumerate(stamps):
                white = keyed_normals(keys, [stamp], box).reshape(height, width)
                smooth = white
                # The kernel is a product of two, so one pass along each axis does.
                for axis, kernel in enumerate(kernels):
                    smooth = correlate1d(smooth, kernel, axis, mode="constant")
                out[time, here] = smooth[rows[here] - top, columns[here] - left]
        return out


UNCORRELATED = ErrorCorrelation()


def _kernel(radius: float) -> NDArray[np.float64]:
    """Gaussian kernel that keeps the variance of white noise."""
    reach = int(np.ceil(REACH * radius))
    # Smoothing sums squares of weights: these must be 1 for the variance to stay.
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / radius))
    found: NDArray[np.float64] = weights / np.sqrt(np.square(weights).sum())
    return found


class Correlogram:
    """Correlation of errors by distance, added up image by image.

    Examples
    --------
    >>> pixels = pixel_keys(*np.indices((60, 60)).reshape(2, -1))
    >>> noise = ErrorCorrelation(1.0, (2.0, 2.0)).normals((7,), range(20), pixels)
    >>> found = Correlogram()
    >>> for image in noise.reshape(20, 60, 60):
    ...     found.add(image)
    >>> correlation = found.fit()
    >>> round(correlation.fraction, 1), [round(r) for r in correlation.radius]
    (1.0, [2, 2])
    """

    def __init__(self) -> None:
        self.products: NDArray[np.float64] = np.zeros((2, len(LAGS)))
        self.pairs: NDArray[np.int64] = np.zeros((2, len(LAGS)), np.int64)
        self.power = 0.0
        self.count = 0

    def add(self, errors: NDArray) -> None:
        """Add the errors of an image, ``(y, x)``; NaN where there are none."""
        known = np.isfinite(errors)
        values = np.where(known, errors, 0).astype(np.float64)
        # The variance is counted in the same pass, over all errors that are known.
        self.power += float(np.square(values).sum())
        self.count += int(known.sum())
        # Gaps are zero in `values`, so that only pairs of known errors add to the products.
        for axis, number, first, second in _shifts(errors.shape):
            self.products[axis, number] += (values[first] * values[second]).sum()
            self.pairs[axis, number] += (known[first] & known[second]).sum()

    def fit(self) -> ErrorCorrelation:
        """Find fraction and radii of least squares; no correlation where little is known."""
        enough = self.pairs >= FEWEST
        if not enough.any() or not self.power > 0:
            return UNCORRELATED
        found = np.zeros(self.products.shape)
        variance = self.power / self.count
        np.divide(self.products, self.pairs * variance, out=found, where=enough)
        shapes = np.exp(-np.square(np.array(LAGS)) / (4 * np.square(RADII)[:, np.newaxis]))
        # For each axis and radius: products of the shape with what was found, and with itself.
        along = (enough * found) @ shapes.T
        power = enough.astype(np.float64) @ np.square(shapes).T
        # One fraction for both axes: the sum over both is a parabola in it, solved on the grid of
        # radii.
        likeness = along[0][:, np.newaxis] + along[1]
        square = power[0][:, np.newaxis] + power[1]
        fraction = np.clip(likeness / np.maximum(square, 1e-12), 0, 1)
        # The squares that remain, less those that are there without any correlation.
        missed = fraction * (fraction * square - 2 * likeness)
        y, x = np.unravel_index(np.argmin(missed), missed.shape)
        # A single row or column tells nothing of distances across it.
        down, across = RADII[y if enough[0].any() else x], RADII[x if enough[1].any() else y]
        return ErrorCorrelation(float(fraction[y, x]), (float(down), float(across)))


def _shifts(
    shape: tuple[int, ...],
) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    """Yield axis, number of the lag, and the two parts of an image that lie so far apart."""
    everything = slice(None)
    for number, lag in enumerate(LAGS):
        near, far = slice(None, -lag), slice(lag, None)
        if lag < shape[0]:
            yield 0, number, (near, everything), (far, everything)
        if lag < shape[1]:
            yield 1, number, (everything, near), (everything, far)
