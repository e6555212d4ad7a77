# SPDX-License-Identifier: Apache-2.0
"""Compiled: Cholesky factors of small matrices, and the solutions by them."""

from __future__ import annotations

import numpy as np

from sstfill.methods.common.kernels.jit import compiled

FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Fast-math flags; not "nnan", for NaN marks the gaps."""
LANES = 4
"""Rows that are eliminated at once, and columns that a processor takes at once."""


@compiled(inline="always")
def padded(columns):
    """Least number of columns that `factorise` takes as whole vectors."""
    return LANES * ((columns + LANES - 1) // LANES)


@compiled(fastmath=FAST, inline="always")
def add_rows(out, sign, U, k, column, start, stop):
    """Add to `out` the columns from `start` to `stop` of `LANES` rows of U from `k` on, each times
    its element in `column`.
    """
    a, b = sign * U[k, column], sign * U[k + 1, column]
    c, d = sign * U[k + 2, column], sign * U[k + 3, column]
    # slices that begin at 0: of such a loop the compiler makes vector code
    first, second = U[k, start:stop], U[k + 1, start:stop]
    third, fourth = U[k + 2, start:stop], U[k + 3, start:stop]
    for j in range(len(out)):
        out[j] += a * first[j] + b * second[j] + c * third[j] + d * fourth[j]


@compiled(fastmath=FAST)
def factorise(U, n, width, least, pivot):
    """Factorise a symmetric matrix in place, and solve for what stands beside it.

    Parameters
    ----------
    U
        The upper triangle of the matrix in the first `n` columns, right-hand sides in the
        following ones; then the upper factor, and its forward solutions for these. What is left of
        the diagonal is neither read nor kept.
    width
        Of the right-hand sides the first column that is left as it is, a whole number of `LANES`:
        see `padded`.
    least
        A row whose pivot is not larger adds nothing to those before it, and becomes zero.
    pivot
        Filled with the reciprocal diagonal of the factor, 0 for such rows, ``(n,)``.
    """
    for i in range(n):
        # whole vectors: the first begins left of the diagonal
        start = i - i % LANES
        row = U[i, start:width]
        for k in range(0, start, LANES):
            add_rows(row, -1.0, U, k, i, start, width)
        for k in range(start, i):
            a, above = U[k, i], U[k, start:width]
            for j in range(len(row)):
                row[j] -= a * above[j]
        pivot[i] = 1 / np.sqrt(U[i, i]) if U[i, i] > least else 0.0
        for j in range(len(row)):
            row[j] *= pivot[i]
