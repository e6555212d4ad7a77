# SPDX-License-Identifier: Apache-2.0
"""Strata: classes of pixels at a similar distance to data, in space and in time.

What is estimated for each stratum (weights of methods, error scales) is kept as a table over the
centres of the classes, and interpolated between them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLASSES = 2
"""Classes along distance and along lag, equally full: near and far. Three were no better on real
and synthetic series.
"""
PRIOR = 20.0
"""Weight, in images, of the estimate from all pixels against that of a stratum. Errors under one
cloud are correlated, so an image, not a pixel, counts as one piece of evidence. (From 5 to 100 the
error changed by less than 1 %; 20 was best.)
"""


def classes(values: NDArray) -> tuple[NDArray, NDArray]:
    """Divide distances into up to `CLASSES` equally full classes.

    Parameters
    ----------
    values
        Distances, shape ``(n,)``; only positive and finite ones decide on the classes.

    Returns
    -------
    centres, number
        Geometric mean of each class, increasing; and the class of each value, shape ``(n,)``.
    """
    usable = values[np.isfinite(values) & (values > 0)]
    if not usable.size:
        return np.ones(1), np.zeros(values.shape, np.intp)
    # Where distances are equal, so may be edges, of which one is enough.
    edges = np.unique(np.quantile(usable, np.arange(1, CLASSES) / CLASSES))
    # A distance of 0 or NaN belongs to the nearest class, an infinite one to the farthest.
    number = np.searchsorted(edges, np.nan_to_num(values, nan=0.0, posinf=np.inf), side="left")
    number_of_usable = np.searchsorted(edges, usable, side="left")
    # Equal distances can leave a class empty; the others get new numbers.
    occupied = np.unique(number_of_usable)
    # The geometric mean, since distances range over orders of magnitude.
    centres = np.exp([np.log(usable[number_of_usable == c]).mean() for c in occupied])
    return centres, np.searchsorted(occupied, number).clip(0, occupied.size - 1)


def interpolate(
    table: NDArray, centres: tuple[NDArray, NDArray], distance: NDArray, lag: NDArray
) -> NDArray:
    """Interpolate a table of strata, linearly in the logarithms of distance and lag.

    Parameters
    ----------
    table
        Shape ``(a, b, values)``.
    centres
        Of the classes of distance ``(a,)`` and of lag ``(b,)``, increasing. Beyond the outermost
        the table is constant.
    distance, lag
        Of the pixels, of one shape.

    Returns
    -------
    ndarray
        Shape ``(*distance.shape, values)``.

    Examples
    --------
    >>> table = np.array([[[1.0]], [[3.0]]])
    >>> interpolate(table, (np.array([1.0, 100.0]), np.ones(1)), np.array([0.0, 10.0]), np.zeros(2))
    array([[1.],
           [2.]])
    """
    # One stratum: the same values for all pixels, without a copy for each.
    if table.shape[:2] == (1, 1):
        return np.broadcast_to(table[0, 0], (*distance.shape, table.shape[2]))
    near, late = _hats(centres[0], distance), _hats(centres[1], lag)
    found = np.zeros((table.shape[2], *distance.shape))
    for a, b in np.ndindex(table.shape[:2]):
        part = near[a] * late[b]
        for k, value in enumerate(table[a, b]):
            found[k] += part * value
    # Values come first in memory: sums over them then go along the pixels, five times as fast.
    return np.moveaxis(found, 0, -1)


def _hats(centres: NDArray, values: NDArray) -> list[NDArray]:
    """Return the part of each centre in the interpolation at values: 1 at it, 0 at the next."""
    with np.errstate(divide="ignore"):  # the logarithm of 0 lies below all centres, as it should
        place = np.interp(np.log(values), np.log(centres), np.arange(centres.size))
    return [np.maximum(1 - np.abs(place - number), 0) for number in range(centres.size)]
