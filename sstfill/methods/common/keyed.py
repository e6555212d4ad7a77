# SPDX-License-Identifier: Apache-2.0
"""Normal numbers as a function of keys, the same wherever and in whatever order they are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sstfill.methods.common.jit import compiled


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
    rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    out = np.empty((len(rows), len(columns)), np.float32)
    _fill(out, np.array(keys, np.int64), rows, columns)
    return out


def pixel_keys(rows: ArrayLike, columns: ArrayLike, variable: ArrayLike = 0) -> NDArray[np.int64]:
    """Return one whole number for each pixel, from row and column in the whole grid."""
    # 28 bits each: more rows or columns than any grid has
    rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    return (np.asarray(variable, np.int64) << 56) + (rows << 28) + columns


@compiled(inline="always")
def scrambled(z: Any) -> Any:
    """Finaliser of splitmix64, see `keyed_normals`."""
    z += np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled()
def _fill(out: NDArray, keys: NDArray, rows: NDArray, columns: NDArray) -> None:
    unit = 1.0 / 4294967296.0
    mixed = np.uint64(0)
    for key in keys:
        mixed = scrambled(mixed + np.uint64(key))
    for i in range(len(rows)):
        of_row = scrambled(mixed + np.uint64(rows[i]))
        for j in range(len(columns)):
            bits = scrambled(of_row + np.uint64(columns[j]))
            high, low = bits >> np.uint64(32), bits & np.uint64(0xFFFFFFFF)
            # half a step up: the logarithm of zero is not finite
            radius = np.sqrt(-2 * np.log((high + 0.5) * unit))
            out[i, j] = radius * np.cos(2 * np.pi * low * unit)
