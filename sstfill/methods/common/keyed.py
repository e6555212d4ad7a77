# SPDX-License-Identifier: Apache-2.0
"""Normal numbers as a function of keys, the same wherever and in whatever order they are made."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNIT = 2.0**-32


def keyed_normals(*keys: ArrayLike) -> NDArray[np.float32]:
    """Return a standard normal number for each combination of keys.

    The keys are mixed one after another by the finaliser of splitmix64 (Steele, Lea & Flood 2014,
    OOPSLA), a bijection, and the last mix is made normal (Box & Muller 1958, Ann. Math. Stat. 29).

    Parameters
    ----------
    keys
        Whole numbers, broadcast against each other. Mixing costs least where those of most
        elements come last.

    Examples
    --------
    >>> several = keyed_normals(7, np.arange(3)[:, np.newaxis], np.arange(4))
    >>> several.shape, bool(several[2, 1] == keyed_normals(7, 2, 1))
    ((3, 4), True)
    """
    mixed = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):  # the arithmetic is that of remainders by 2^64
        for key in keys:
            mixed = _scrambled(mixed + np.asarray(key).astype(np.int64).astype(np.uint64))
        high, low = mixed >> np.uint64(32), mixed & np.uint64(0xFFFFFFFF)
    # half a step up: the logarithm of zero is not finite
    radius = np.sqrt(-2 * np.log((high + 0.5) * UNIT))
    return (radius * np.cos(2 * np.pi * UNIT * low)).astype(np.float32)


def _scrambled(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
