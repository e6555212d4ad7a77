# SPDX-License-Identifier: Apache-2.0
"""A gappy series at several resolutions for `patchmatch`, and its smooth first guess."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

TOLERANCE = 1e-3
"""The residual of the first guess is at most this fraction of the right-hand side."""
MAX_ITERATIONS = 300
"""Of the conjugate gradients, where `TOLERANCE` is not met before: it is only a first guess."""
ESTIMATED = 0.02
"""Weight of an estimated pixel against an observed one where four become one."""
WINDOW = 1.5
"""Standard deviation (pixels) of the neighbourhood that sets the stiffness of the first guess."""
PRIOR = 1e-3
"""Weight of the increments of the whole series against those nearby, in neighbours."""
FLOOR = 2e-3
"""Least local increment, as a fraction of the least common one.

It bounds the stiffness where nothing changes.
"""


@dataclass(frozen=True)
class PyramidLevel:
    """Standardised values of a series and how far they may be trusted, at one resolution.

    Attributes
    ----------
    values
        Observed, or else the present estimate, shape ``(channels, times, y, x)``, single precision.
    trust
        Fraction of each pixel that is observed, 0 to 1, same shape.
    sea
        True where pixels take part, shape ``(y, x)``.
    """

    values: NDArray[np.float32]
    trust: NDArray[np.float32]
    sea: NDArray[np.bool_]

    @property
    def gap(self) -> NDArray[np.bool_]:
        """True where a sea pixel is not wholly observed in some channel, ``(times, y, x)``."""
        return (self.trust < 1).any(0) & self.sea

    def increments(self) -> NDArray[np.float64]:
        """Mean square difference of neighbours observed together, along (time, y, x).

        Shape ``(channels, 3)``. An axis without such neighbours takes the largest of the others, or
        0 if there are none at all.
        """
        known = self.trust > 0
        square = np.full((len(self.values), 3), np.nan)
        for c, axis in np.ndindex(square.shape):
            first, second = _ends(known[c], axis)
            both = first & second
            if both.any():
                step = np.diff(self.values[c], axis=axis)[both]
                square[c, axis] = np.square(step, dtype=np.float64).mean()
        # A single image has no neighbour in time, for one; the largest is the cautious choice.
        largest = np.where(np.isfinite(square), square, 0).max(1, keepdims=True)
        return np.where(np.isfinite(square), square, largest)

    def squared_distance_to_data(self) -> NDArray[np.float64]:
        """Squared distance of each pixel to the nearest observed one, shape of `values`.

        A step along an axis is as long as the root mean square increment along it.
        """
        # The distance transform takes no sampling of 0, as a constant channel would have.
        steps = np.sqrt(np.maximum(self.increments(), 1e-12))
        squares = np.empty(self.trust.shape)
        for channel, trust in enumerate(self.trust):
            distance = distance_transform_edt(trust <= 0, sampling=steps[channel])
            squares[channel] = np.square(distance)
        return squares

    def corrected(self, correction: NDArray) -> PyramidLevel:
        """Add the correction of a coarser series, of half the size, where pixels are estimated."""
        ny, nx = self.sea.shape
        # Cut to size: of an odd side, the last coarse pixel covers one fine pixel only.
        fine = correction.astype(np.float32).repeat(2, -2).repeat(2, -1)[..., :ny, :nx]
        return replace(self, values=self.values + (1 - self.trust) * fine)

    def coarser(self) -> PyramidLevel:
        """Make one pixel of four: the mean of its sea pixels, estimated ones counting little."""
        sea = self.sea.astype(np.float32)
        # Estimated pixels count a little, so that four of them still have a mean.
        weight = (self.trust + ESTIMATED) * sea
        weights, sea_pixels = _sum_of_four(weight), _sum_of_four(sea)
        values = _sum_of_four(self.values * weight) / np.where(weights > 0, weights, np.float32(1))
        trust = _sum_of_four(self.trust * sea)
        trust /= np.where(sea_pixels > 0, sea_pixels, np.float32(1))
        return PyramidLevel(values.astype(np.float32), np.minimum(trust, 1), sea_pixels > 0)


def _sum_of_four(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum blocks of two by two pixels; an odd last row or column makes blocks of its own."""
    *_, ny, nx = images.shape
    odd = [(0, 0)] * (images.ndim - 2) + [(0, ny % 2), (0, nx % 2)]
    even = np.pad(images, odd)
    return even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]


def levels_for(series: PyramidLevel, patch: int) -> int:
    """Choose the number of resolutions for a gappy series and the side of a patch in pixels.

    There are as many as let a patch of the coarsest span a gap, while its images hold two patches.

    >>> sea = np.ones((64, 64), bool)
    >>> trust = np.ones((1, 1, 64, 64), np.float32)
    >>> trust[..., 20:44, 20:44] = 0
    >>> levels_for(PyramidLevel(trust, trust, sea), 5)
    3
    """
    known = (series.trust > 0).all(0) | ~series.sea
    radii = []
    for image in known:
        if image.any() and not image.all():
            radii.append(distance_transform_edt(~image).max())
    # Not the widest gap of all: one overcast image would ask for resolutions that the rest
    # has no use for.
    width = 0.0
    if radii:
        width = 2 * float(np.quantile(radii, 0.9))
    wanted = 1 + max(0, round(np.log2(max(width, 1) / patch)))
    most = 1 + max(0, int(np.log2(max(1, min(series.sea.shape) / (2 * patch)))))
    return min(wanted, most)


def first_guess(values: NDArray, observed: NDArray[np.bool_], days: NDArray) -> NDArray[np.float32]:
    """Fill gaps with a membrane in space and time that is as stiff along each axis as the data.

    The mean of a Gaussian Markov random field: each unobserved value is the mean of its six
    neighbours, weighted by the inverse mean square increment between neighbours observed together
    nearby (in time as in a random walk: per day).

    Parameters
    ----------
    values
        Shape ``(times, y, x)``; anything in the gaps.
    observed
        True where observed, same shape, at least once.
    days
        Time of each image in days.
    """
    field = np.where(observed, values, 0).astype(np.float32)
    # In double precision: a sum of millions of single-precision numbers loses digits.
    mean = field.sum(dtype=np.float64) / np.count_nonzero(observed)
    field = np.where(observed, field, np.float32(mean))
    weights = _stiffness(field, observed, days)
    gap = (~observed).astype(np.float32)
    # Solved for the correction in the gap only; observed pixels are its boundary values.
    return field + _conjugate_gradients(weights, -_laplacian(field, weights) * gap, gap)


def _stiffness(
    field: NDArray, observed: NDArray[np.bool_], days: NDArray
) -> list[NDArray[np.float32]]:
    """Weight of each link along time, y and x: the inverse mean square increment around it.

    Weights are local, since a moving front is best continued from the pixels around it, and water
    at rest from other images.
    """
    steps = np.diff(days)
    if steps.size:
        # In usual steps of the series, so that its time scale has no part in the balance with
        # space.
        steps = steps / float(np.median(steps))
    length = steps[:, np.newaxis, np.newaxis]
    squares, counts, means = [], [], []
    for axis in range(3):
        first, second = _ends(observed, axis)
        both = (first & second).astype(np.float32)
        square = np.diff(field, axis=axis) ** 2 * both
        if axis == 0:
            # Increments of a random walk grow with the time between images.
            square = square / length
        squares.append(square)
        counts.append(both)
        means.append(float(square.sum(dtype=np.float64) / both.sum()) if both.any() else 0.0)
    # Only ratios of weights matter; the least common increment is the unit.
    least = min((mean for mean in means if mean > 0), default=1.0)
    weights = []
    for axis, mean in enumerate(means):
        # Sum and count are smoothed alike and divided: a mean over the links that were observed.
        square = gaussian_filter(squares[axis], WINDOW, mode="constant")
        count = gaussian_filter(counts[axis], WINDOW, mode="constant")
        local = (square + PRIOR * max(mean, least)) / (count + PRIOR)
        weight = least / (local + FLOOR * least)
        if axis == 0:
            weight = weight / length
        weights.append(weight.astype(np.float32))
    return weights


def _ends(a: NDArray, axis: int) -> tuple[NDArray, NDArray]:
    """All but the last, and all but the first, along one axis; views."""
    along = np.moveaxis(a, axis, 0)
    return np.moveaxis(along[:-1], 0, axis), np.moveaxis(along[1:], 0, axis)


def _laplacian(field: NDArray, weights: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Sum of weight times difference over the neighbours of each pixel."""
    out = np.zeros_like(field)
    for axis, weight in enumerate(weights):
        flow = np.diff(field, axis=axis) * weight
        first, last = _ends(out, axis)
        first -= flow
        last += flow
    return out


def _conjugate_gradients(weights: list[NDArray], rhs: NDArray, gap: NDArray) -> NDArray[np.float32]:
    """Solve the membrane's equation in the gap, with the diagonal as preconditioner."""
    degree = np.zeros(rhs.shape, np.float32)
    for axis, weight in enumerate(weights):
        first, last = _ends(degree, axis)
        first += weight
        last += weight
    # A lone pixel without neighbours has no link at all.
    degree = np.maximum(degree, 1e-12)
    x, residual = np.zeros_like(rhs), rhs.copy()
    z = residual / degree
    direction, rho = z.copy(), _dot(residual, z)
    # rho is a squared norm.
    goal = TOLERANCE**2 * rho
    for _ in range(MAX_ITERATIONS):
        if rho <= goal:
            break
        product = _laplacian(direction, weights) * gap
        # The steps stay in single precision: a double would promote every array.
        step = np.float32(rho / max(_dot(direction, product), 1e-30))
        x += step * direction
        residual -= step * product
        z = residual / degree
        rho, before = _dot(residual, z), rho
        direction = z + np.float32(rho / before) * direction
    return x


def _dot(a: NDArray, b: NDArray) -> float:
    # np.dot of single-precision arrays would sum in single precision.
    return float(np.sum(a * b, dtype=np.float64))
