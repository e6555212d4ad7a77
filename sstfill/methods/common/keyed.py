# SPDX-License-Identifier: Apache-2.0
"""Normal numbers as a function of keys, the same wherever and in whatever order they are made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

MILLISECONDS = 86_400_000
"""In a day."""


def keyed_normals(keys: Sequence[int], rows: ArrayLike, columns: ArrayLike) -> NDArray[np.float32]:
    """Return a standard normal number for each row and column, ``(rows, columns)``.

    Keys, row and column are mixed one after another by the finaliser of splitmix64 (Steele, Lea &
    Flood 2014, OOPSLA), a bijection, and what comes out is made normal (Box & Muller 1958, Annals
    of Mathematical Statistics 29).

    Parameters
    ----------
    keys
        Whole numbers: a seed, a number for what is drawn, a member, and so on.
    rows, columns
        Whole numbers, ``(n,)`` and ``(m,)``.

    Examples
    --------
    >>> some = keyed_normals((7, 2), np.arange(3), np.arange(4))
    >>> some.shape, bool(some[2, 1] == keyed_normals((7, 2), [2], [1]))
    ((3, 4), True)
    """
    from sstfill.methods.common.kernels.keyed_numbers import fill  # Numba takes long to import

    # One type, so that the kernel is compiled once.
    rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    out = np.empty((len(rows), len(columns)), np.float32)
    fill(out, np.array(keys, np.int64), rows, columns)
    return out


def time_keys(days: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return one whole number for each absolute time in days: its milliseconds.

    >>> time_keys(np.array([0.0, 1.5])).tolist()
    [0, 129600000]
    """
    return np.rint(days * MILLISECONDS).astype(np.int64)


def pixel_keys(rows: ArrayLike, columns: ArrayLike, variable: ArrayLike = 0) -> NDArray[np.int64]:
    """Return one whole number for each pixel, from row and column in the whole grid."""
    # 28 bits each: more rows or columns than any grid has
    rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    return (np.asarray(variable, np.int64) << 56) + (rows << 28) + columns


def pixel_places(
    keys: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return row, column and variable of pixels inside the grid, from their keys.

    >>> [int(part) for part in pixel_places(pixel_keys(7, 9, 2))]
    [7, 9, 2]
    """
    most = (1 << 28) - 1
    return keys >> 28 & most, keys & most, keys >> 56
