# SPDX-License-Identifier: Apache-2.0
"""Weights of several estimates of one field, from their errors where the truth is known, by how far
it is to data.

An estimate is a column: errors and estimates have shape ``(..., methods)``. Two things say how hard
a pixel is: its `distance` to the nearest observation in the image, and its `lag`, the time to the
nearest observation of the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

CLASSES = 2
"""Classes along distance and along lag, equally full: near and far; three did no better on real and
synthetic series.
"""
PRIOR = 20.0
"""Worth of the moments of all pixels against those of a stratum, in images. Errors under one cloud
go together, so
that an image, not a pixel, is one piece of evidence. (5 to 100 differed by less than 1 % in error;
20 was best.)"""
RIDGE = 1e-3
"""Share of the mean squared error added to each method's own: of methods that hardly differ each
gets its part.
"""
NEGLIGIBLE = 0.03
"""A method that weighs less everywhere is left out: it would cost a fill and change little."""
BARELY = 1e-9
"""Weight at least given to a method that answers where no other one with a weight does."""


@dataclass(frozen=True)
class Weights:
    """Convex weights of methods on a grid of distances and lags, linear in their logarithms between
    the centres.

    Attributes
    ----------
    distance, lag
        Centres, increasing, shapes ``(a,)`` and ``(b,)``, in the units of what is passed to `at`;
        beyond the outermost the weights stay as they are there.
    table
        Weights of the methods, shape ``(a, b, methods)``: none negative, their sum 1.
    """

    distance: NDArray
    lag: NDArray
    table: NDArray

    @classmethod
    def alone(cls, method: int, methods: int) -> Weights:
        """All weight for one of several methods."""
        return cls(np.ones(1), np.ones(1), np.eye(methods)[method][np.newaxis, np.newaxis])

    @property
    def used(self) -> NDArray:
        """Indices of the methods that weigh something somewhere."""
        return np.flatnonzero(self.table.max((0, 1)) > 0)

    def among(self, methods: NDArray) -> Weights:
        """Return the table for some methods only, which have all the weight."""
        return Weights(self.distance, self.lag, self.table[:, :, methods])

    def at(self, distance: NDArray, lag: NDArray) -> NDArray:
        """Weights of pixels so far from data, shape ``(*distance.shape, methods)``.

        >>> weights = Weights(np.array([1.0, 100.0]), np.ones(1), np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
        >>> weights.at(np.array([0.0, 10.0, np.inf]), np.zeros(3)).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
        """
        if self.table.shape[:2] == (1, 1):
            return np.broadcast_to(self.table[0, 0], (*distance.shape, self.table.shape[2]))
        i, u = _between(self.distance, distance)
        j, v = _between(self.lag, lag)
        u, v = u[..., np.newaxis], v[..., np.newaxis]
        near = (1 - v) * self.table[i[0], j[0]] + v * self.table[i[0], j[1]]
        far = (1 - v) * self.table[i[1], j[0]] + v * self.table[i[1], j[1]]
        return (1 - u) * near + u * far


class Mixture(NamedTuple):
    """Mean and standard deviation of a mixture of estimates."""

    mean: NDArray
    sigma: NDArray


def mix(weights: NDArray, mean: NDArray, sigma: NDArray) -> Mixture:
    """Blend estimates ``(..., methods)``; those that are NaN at a pixel leave their weight to the
    others.

    The variance is that of the mixture, ``sum w sigma^2 + sum w (mean_i - mean)^2``: what the
    methods expect, and how much they disagree. It is NaN where none of those that answer states an
    error.
    """
    known = np.isfinite(mean)
    w = _shared(weights, known)
    values = np.where(known, mean, 0.0)
    blend = np.where(known.any(-1), (w * values).sum(-1), np.nan)
    spread = (w * np.square(values - blend[..., np.newaxis])).sum(-1)
    stated = known & np.isfinite(sigma)
    with np.errstate(over="ignore"):
        variance = (_shared(weights, stated) * np.square(np.where(stated, sigma, 0.0))).sum(
            -1
        ) + spread
    return Mixture(blend, np.where(stated.any(-1), np.sqrt(variance), np.nan))


def fit(error: NDArray, part: NDArray, image: NDArray, distance: NDArray, lag: NDArray) -> Weights:
    """Find the weights of least squared error, by stratum of distance and lag.

    In each stratum ``w' S w`` is minimised over convex ``w`` (Bates & Granger 1969, Operational
    Research Quarterly 20, 451-468), ``S`` the second moments of the errors there, drawn to those of
    all pixels by `PRIOR`.

    Parameters
    ----------
    error
        Errors, shape ``(n, methods)``, finite.
    part
        How much each pixel counts, shape ``(n,)``.
    image
        Number of the image that each pixel lies in, shape ``(n,)``.
    distance, lag
        How far the pixels are from data, shape ``(n,)``; not finite where that is unknown.

    Returns
    -------
    Weights
        For all methods; those of a weight below `NEGLIGIBLE` everywhere have none.
    """
    methods = np.arange(error.shape[1])
    while True:
        found = _fit(error[:, methods], part, image, distance, lag)
        strong = found.table.max((0, 1)) >= NEGLIGIBLE
        if strong.all() or not strong.any():
            table = np.zeros((*found.table.shape[:2], error.shape[1]))
            table[:, :, methods] = found.table
            return Weights(found.distance, found.lag, table)
        methods = methods[strong]


def convex_weights(moments: NDArray) -> NDArray:
    """Minimise ``w' S w`` over ``w >= 0`` of sum 1, exactly, for positive definite moments ``S``.

    As non-negative least squares: the ``w`` of least ``|L' w|^2 + (1' w - 1)^2``, ``S = L L'``,
    differs from it by a factor only, for ``w' S w`` is homogeneous.

    >>> convex_weights(np.diag([1.0, 3.0])).round(2).tolist()
    [0.75, 0.25]
    """
    k = len(moments)
    size = np.trace(moments) / k
    scaled = moments / size if size > 0 else np.zeros_like(moments)
    root = np.linalg.cholesky(scaled + RIDGE * np.eye(k)).T
    w, _ = nnls(np.vstack([root, np.ones(k)]), np.append(np.zeros(k), 1.0))
    return w / w.sum()


def _fit(error: NDArray, part: NDArray, image: NDArray, distance: NDArray, lag: NDArray) -> Weights:
    far, i = classes(distance)
    late, j = classes(lag)
    whole = _moments(error, part)
    table = np.empty((far.size, late.size, error.shape[1]))
    for a, b in np.ndindex(far.size, late.size):
        here = (i == a) & (j == b)
        images = np.unique(image[here]).size
        own = _moments(error[here], part[here]) if images else whole
        table[a, b] = convex_weights((images * own + PRIOR * whole) / (images + PRIOR))
    return Weights(far, late, table)


def _moments(error: NDArray, part: NDArray) -> NDArray:
    return (error * (part / part.sum())[:, np.newaxis]).T @ error


def classes(values: NDArray) -> tuple[NDArray, NDArray]:
    """Centres of up to `CLASSES` equally full classes of what is positive and finite, and the class
    of each value.
    """
    good = values[np.isfinite(values) & (values > 0)]
    if not good.size:
        return np.ones(1), np.zeros(values.shape, np.intp)
    inner = np.unique(np.quantile(good, np.arange(1, CLASSES) / CLASSES))
    number = np.searchsorted(inner, np.nan_to_num(values, nan=0.0, posinf=np.inf), side="left")
    of_good = np.searchsorted(inner, good, side="left")
    held = np.unique(of_good)
    centres = np.exp([np.log(good[of_good == c]).mean() for c in held])
    return centres, np.searchsorted(held, number).clip(0, held.size - 1)


def _between(centres: NDArray, values: NDArray) -> tuple[tuple[NDArray, NDArray], NDArray]:
    """Index of the centres on either side, and how far the value is on its way from one to the
    other, 0 to 1.
    """
    inside = np.clip(values, centres[0], centres[-1])
    after = np.searchsorted(centres, inside, side="right").clip(1, max(1, centres.size - 1))
    low, high = after - 1, np.minimum(after, centres.size - 1)
    span = np.log(centres[high]) - np.log(centres[low])
    way = np.log(inside) - np.log(centres[low])
    return (low, high), np.divide(way, span, out=np.zeros(np.shape(inside)), where=span > 0)


def _shared(weights: NDArray, there: NDArray) -> NDArray:
    """Weights of those that are there, of sum 1 (0 where none is)."""
    w = np.where(there, weights + BARELY, 0.0)
    total = w.sum(-1, keepdims=True)
    return np.divide(w, total, out=np.zeros_like(w), where=total > 0)
