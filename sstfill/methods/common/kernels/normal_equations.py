# SPDX-License-Identifier: Apache-2.0
"""Compiled: normal equations of many pixels, each of its own."""

from __future__ import annotations

import numpy as np

from sstfill.methods.common.kernels.cholesky import LANES, add_rows, factorise, padded
from sstfill.methods.common.kernels.jit import compiled


@compiled()
def solve(normal, right, ridge, patterns, inverse):
    """Solve ``(N + diag(ridge)) u = r`` for each pixel, in double precision.

    Parameters
    ----------
    normal, right
        N, packed ``(m, k(k+1)/2)``, and r, ``(m, k)``.
    ridge
        ``(k,)``
    patterns, inverse
        Filled with u, ``(m, k)``, and with the inverse matrices, packed as `normal`.

    Returns
    -------
    bool
        False where a matrix has no Cholesky factor; then not all is filled.
    """
    pixels, k = right.shape
    # rows below the last stay zero, so that all can be added up by fours
    U, pivot = np.zeros((padded(k), padded(2 * k + 1))), np.empty(k)
    found = np.empty(k + 1)
    for pixel in range(pixels):
        place = 0
        for i in range(k):
            U[i, k:] = 0.0
            # element by element: whole rows take seconds more to compile
            for j in range(i, k):
                U[i, j] = normal[pixel, place + j - i]
            place += k - i
            U[i, i] += ridge[i]
            # beside the matrix stand the unit matrix and the right-hand side
            U[i, k + i] = 1.0
            U[i, 2 * k] = right[pixel, i]
        factorise(U, k, U.shape[1], 0.0, pivot)
        if pivot.min() <= 0:
            return False
        place = 0
        for i in range(k):
            # forward solutions Z of the unit matrix are lower triangular; the inverse is Z'Z
            row = found[: k + 1 - i]
            row[:] = 0.0
            for above in range(i - i % LANES, k, LANES):
                add_rows(row, 1.0, U, above, k + i, k + i, 2 * k + 1)
            for j in range(k - i):
                inverse[pixel, place + j] = row[j]
            patterns[pixel, i] = row[k - i]
            place += k - i
    return True
