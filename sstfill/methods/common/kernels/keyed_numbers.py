# SPDX-License-Identifier: Apache-2.0
"""Compiled: normal numbers as a function of keys."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstfill.methods.common.kernels.jit import compiled


@compiled(inline="always")
def scrambled(z: Any) -> Any:
    """Finaliser of splitmix64, see `sstfill.methods.common.keyed`."""
    z += np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled()
def fill(out: NDArray, keys: NDArray, rows: NDArray, columns: NDArray) -> None:
    """Write the normal numbers of `keyed_normals` into `out`."""
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
