# SPDX-License-Identifier: Apache-2.0
"""A gappy video at several resolutions for `patchmatch`: its smooth first guess, coarser copies,
and the way back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

TOLERANCE = 1e-3
"""The first guess is solved to this share of its right-hand side."""
MAX_ITERATIONS = 300
GUESSED = 0.02
"""Weight of a guessed pixel against an observed one where four become one."""
WINDOW = 1.5
"""Standard deviation in pixels of the neighbourhood whose increments set the stiffness of the first
guess.
"""
PRIOR = 1e-3
"""Weight of the whole series' increments against those of the neighbourhood, in neighbours."""
FLOOR = 2e-3
"""Least local increment, as a share of the least common one: bounds the stiffness where nothing
changes.
"""


@dataclass(frozen=True)
class Series:
    """Standardised values and how far they may be trusted, at one resolution.

    Attributes
    ----------
    values
        Observed, or else the present estimate, shape ``(channels, times, y, x)``, single precision.
    trust
        Share of each pixel that is observed, 0 to 1, same shape.
    sea
        True where pixels take part, shape ``(y, x)``.
    """

    values: NDArray[np.float32]
    trust: NDArray[np.float32]
    sea: NDArray[np.bool_]

    @property
    def gap(self) -> NDArray[np.bool_]:
        """True where a pixel at sea is not wholly observed in some channel, shape ``(times, y,
        x)``.
        """
        return (self.trust < 1).any(0) & self.sea

    def increments(self) -> NDArray[np.float64]:
        """Mean square difference of neighbours seen together, ``(channels, 3)``: along time, y and
        x.

        An axis without such neighbours takes the largest of the others (0 if there are none at
        all).
        """
        known = self.trust > 0
        square = np.full((len(self.values), 3), np.nan)
        for c, axis in np.ndindex(square.shape):
            both = np.logical_and(*_ends(known[c], axis))
            if both.any():
                square[c, axis] = np.square(
                    np.diff(self.values[c], axis=axis)[both], dtype=np.float64
                ).mean()
        largest = np.where(np.isfinite(square), square, 0).max(1, keepdims=True)
        return np.where(np.isfinite(square), square, largest)

    def drift(self) -> NDArray[np.float64]:
        """Squared distance to the nearest observed pixel, each step as long as the rms increment
        along its axis.
        """
        steps = np.sqrt(np.maximum(self.increments(), 1e-12))
        return np.stack(
            [
                np.square(distance_transform_edt(trust <= 0, sampling=step))
                for trust, step in zip(self.trust, steps, strict=True)
            ]
        )

    def moved(self, by: NDArray) -> Series:
        """Add what a coarser video was moved `by`, where pixels are not observed."""
        step = (
            by.astype(np.float32)
            .repeat(2, -2)
            .repeat(2, -1)[..., : self.sea.shape[0], : self.sea.shape[1]]
        )
        return replace(self, values=self.values + (1 - self.trust) * step)

    def coarser(self) -> Series:
        """Make four pixels one: the mean of its observed sea pixels (of the guessed ones where
        there are none).
        """
        wet = self.sea.astype(np.float32)
        weight = (self.trust + GUESSED) * wet
        total, sea = _four(weight), _four(wet)
        values = _four(self.values * weight) / np.where(total > 0, total, np.float32(1))
        trust = _four(self.trust * wet) / np.where(sea > 0, sea, np.float32(1))
        return Series(values.astype(np.float32), np.minimum(trust, 1), sea > 0)


def _four(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum blocks of two by two pixels; an odd last row or column makes blocks of its own."""
    *_, ny, nx = images.shape
    odd = [(0, 0)] * (images.ndim - 2) + [(0, ny % 2), (0, nx % 2)]
    even = np.pad(images, odd)
    return even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]


def levels_for(video: Series, patch: int) -> int:
    """Choose how many resolutions: until a patch of the coarsest reaches across a gap, while images
    hold two patches.

    >>> sea = np.ones((64, 64), bool)
    >>> trust = np.ones((1, 1, 64, 64), np.float32)
    >>> trust[..., 20:44, 20:44] = 0
    >>> levels_for(Video(trust, trust, sea), 5)
    3
    """
    seen = (video.trust > 0).all(0) | ~video.sea
    reach = [
        distance_transform_edt(~image).max() for image in seen if image.any() and not image.all()
    ]
    width = 2 * float(np.quantile(reach, 0.9)) if reach else 0.0
    wanted = 1 + max(0, round(np.log2(max(width, 1) / patch)))
    most = 1 + max(0, int(np.log2(max(1, min(video.sea.shape) / (2 * patch)))))
    return min(wanted, most)


def first_guess(values: NDArray, observed: NDArray[np.bool_], days: NDArray) -> NDArray[np.float32]:
    """Fill gaps with a membrane in space and time whose stiffness along each axis is that of the
    data.

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
    mean = field.sum(dtype=np.float64) / np.count_nonzero(observed)
    field = np.where(observed, field, np.float32(mean))
    weights = _stiffness(field, observed, days)
    gap = (~observed).astype(np.float32)
    return field + _conjugate_gradients(weights, -_laplacian(field, weights) * gap, gap)


def _stiffness(
    field: NDArray, observed: NDArray[np.bool_], days: NDArray
) -> list[NDArray[np.float32]]:
    """Weight of each link along time, y and x: the inverse mean square increment of its
    neighbourhood.

    Local, since what moves is best seen in its surroundings and what rests in other images.
    """
    steps = np.diff(days)
    length = (steps / float(np.median(steps)) if steps.size else steps)[:, np.newaxis, np.newaxis]
    sums, counts = [], []
    for axis in range(3):
        both = np.logical_and(*_ends(observed, axis)).astype(np.float32)
        step = np.diff(field, axis=axis) ** 2 * both
        sums.append(step / length if axis == 0 else step)
        counts.append(both)
    means = [
        float(s.sum(dtype=np.float64) / n.sum()) if n.any() else 0.0
        for s, n in zip(sums, counts, strict=True)
    ]
    least = min((m for m in means if m > 0), default=1.0)
    weights = []
    for total, count, common in zip(sums, counts, means, strict=True):
        near, seen = (gaussian_filter(a, WINDOW, mode="constant") for a in (total, count))
        weights.append(
            least / ((near + PRIOR * max(common, least)) / (seen + PRIOR) + FLOOR * least)
        )
    return [(w / length if axis == 0 else w).astype(np.float32) for axis, w in enumerate(weights)]


def _ends(a: NDArray, axis: int) -> tuple[NDArray, NDArray]:
    """All but the last, and all but the first, along one axis; views."""
    n = a.shape[axis]
    return tuple(a[(slice(None),) * axis + (side,)] for side in (slice(0, n - 1), slice(1, n)))  # type: ignore[return-value]


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
    degree = np.maximum(_degree(rhs.shape, weights), 1e-12)
    x, residual = np.zeros_like(rhs), rhs.copy()
    z = residual / degree
    direction, rho = z.copy(), _dot(residual, z)
    goal = TOLERANCE**2 * rho
    for _ in range(MAX_ITERATIONS):
        if rho <= goal:
            break
        product = _laplacian(direction, weights) * gap
        step = np.float32(rho / max(_dot(direction, product), 1e-30))
        x += step * direction
        residual -= step * product
        z = residual / degree
        rho, before = _dot(residual, z), rho
        direction = z + np.float32(rho / before) * direction
    return x


def _degree(shape: tuple[int, ...], weights: list[NDArray]) -> NDArray[np.float32]:
    """Sum of the weights of the links of each pixel."""
    degree = np.zeros(shape, np.float32)
    for axis, weight in enumerate(weights):
        for end in _ends(degree, axis):
            end += weight
    return degree


def _dot(a: NDArray, b: NDArray) -> float:
    return float(np.sum(a * b, dtype=np.float64))
