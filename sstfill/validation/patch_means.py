# SPDX-License-Identifier: Apache-2.0
"""Means over patches of withheld pixels: how many lie inside the intervals that are stated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

Pixels = NDArray[np.intp]


class Places(NamedTuple):
    """Where pixels lie: number of the image, row and column, each of shape ``(n,)``."""

    image: Pixels
    row: Pixels
    column: Pixels


def squares(places: Places, side: int) -> Pixels:
    """Find squares of which every pixel is given, without overlap, image by image.

    Parameters
    ----------
    places
        Of the pixels.
    side
        Of the squares, in pixels.

    Returns
    -------
    ndarray
        Numbers of the pixels of each square, shape ``(squares, side * side)``.

    Examples
    --------
    >>> row, column = np.indices((2, 5)).reshape(2, -1)
    >>> squares(Places(np.zeros(10, int), row, column), 2).tolist()
    [[0, 1, 5, 6], [2, 3, 7, 8]]
    """
    found = []
    for image in np.unique(places.image):
        here = np.flatnonzero(places.image == image)
        row, column = places.row[here], places.column[here]
        row, column = row - row.min(), column - column.min()
        # The image as a table of pixel numbers, -1 where none is given.
        number = np.full((row.max() + 1, column.max() + 1), -1)
        number[row, column] = here
        if min(number.shape) < side:
            continue
        free = number >= 0
        windows = np.lib.stride_tricks.sliding_window_view(free, (side, side))
        for y, x in np.argwhere(windows.all((2, 3))):
            # Greedy, from the top left: what an earlier square took is free no more.
            if free[y : y + side, x : x + side].all():
                free[y : y + side, x : x + side] = False
                found.append(number[y : y + side, x : x + side].ravel())
    return np.array(found, np.intp).reshape(-1, side * side)


def coverage_by_members(
    truth: NDArray, mean: NDArray, members: NDArray, patches: Pixels, levels: Sequence[float]
) -> list[float]:
    """Fraction of the true means inside the intervals that the means of the members imply.

    The mean of a patch is estimated by that of `mean`. If truth and members are drawn alike, the
    distance of the true mean from it has any rank among those of the members with equal chance: of
    ``n`` members, the ``k``-th smallest distance holds ``k`` in ``n + 1`` truths, whatever the
    distribution. Between ranks, distances are interpolated. A level beyond the farthest of few
    members (95 % takes 19) is reached by their mean squared distance, and Student's t with as many
    degrees of freedom as there are members, as if they were Gaussian.

    Parameters
    ----------
    truth, mean, members
        Shapes ``(n,)``, ``(n,)`` and ``(members, n)``.
    patches
        Numbers of the pixels of each patch, see `squares`.
    levels
        Probabilities of the intervals.
    """
    wanted, estimate = truth[patches].mean(1), mean[patches].mean(1)
    apart = np.sort(np.abs(members[:, patches].mean(2) - estimate), axis=0)
    spread = np.sqrt(np.square(apart).mean(0))
    # The distance of rank 0 is none at all.
    ranked = np.concatenate([np.zeros((1, *spread.shape)), apart])
    held = []
    for level in levels:
        # The spread is known from as many members, and about the mean, which costs no degree of
        # freedom.
        half_width = stdtrit(len(members), (1 + level) / 2) * spread
        # Rounded, so that a product such as 0.95 x 20 is its whole number exactly.
        rank = round(level * (len(members) + 1), 9)
        if rank <= len(members):
            below, above = ranked[math.floor(rank)], ranked[math.ceil(rank)]
            half_width = below + rank % 1 * (above - below)
        held.append(_inside(wanted - estimate, half_width))
    return held


def coverage_if_independent(
    truth: NDArray, mean: NDArray, sigma: NDArray, patches: Pixels, levels: Sequence[float]
) -> list[float]:
    """Fraction inside the intervals that independent errors of the pixels would imply.

    The variance of the mean of ``n`` pixels is then ``sum(sigma^2) / n^2``. Patches in which an
    error is not stated (NaN) do not count.
    """
    error = truth[patches].mean(1) - mean[patches].mean(1)
    spread = np.sqrt(np.square(sigma[patches]).sum(1)) / patches.shape[1]
    # No distance is inside an interval of NaN, and a method that claims nothing missed nothing.
    stated = ~np.isnan(spread)
    error, spread = error[stated], spread[stated]
    return [_inside(error, ndtri((1 + level) / 2) * spread) for level in levels]


def _inside(error: NDArray, half_width: NDArray) -> float:
    if not error.size:
        return math.nan
    return float(np.mean(np.abs(error) <= half_width))
