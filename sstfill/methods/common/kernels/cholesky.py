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


@compiled(fastmath=FAST, inline="always")
def _subtract_rows(U, i, k, width):
    """Eliminate `LANES` rows from k on from as many from i on, right of column i: each element is
    loaded once for all of them.
    """
    first, second = U[i, i:width], U[i + 1, i:width]
    third, fourth = U[i + 2, i:width], U[i + 3, i:width]
    p, q, r, s = U[k, i:width], U[k + 1, i:width], U[k + 2, i:width], U[k + 3, i:width]
    a0, a1, a2, a3 = U[k, i], U[k + 1, i], U[k + 2, i], U[k + 3, i]
    b0, b1, b2, b3 = U[k, i + 1], U[k + 1, i + 1], U[k + 2, i + 1], U[k + 3, i + 1]
    c0, c1, c2, c3 = U[k, i + 2], U[k + 1, i + 2], U[k + 2, i + 2], U[k + 3, i + 2]
    d0, d1, d2, d3 = U[k, i + 3], U[k + 1, i + 3], U[k + 2, i + 3], U[k + 3, i + 3]
    for j in range(len(first)):
        w, x, y, z = p[j], q[j], r[j], s[j]
        first[j] -= a0 * w + a1 * x + a2 * y + a3 * z
        second[j] -= b0 * w + b1 * x + b2 * y + b3 * z
        third[j] -= c0 * w + c1 * x + c2 * y + c3 * z
        fourth[j] -= d0 * w + d1 * x + d2 * y + d3 * z


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
    for start in range(0, n, LANES):
        # whole vectors: each row begins left of the diagonal
        stop = min(start + LANES, n)
        for k in range(0, start, LANES):
            if stop == start + LANES:
                _subtract_rows(U, start, k, width)
            else:
                for i in range(start, stop):
                    add_rows(U[i, start:width], -1.0, U, k, i, start, width)
        for i in range(start, stop):
            row = U[i, start:width]
            for k in range(start, i):
                a, above = U[k, i], U[k, start:width]
                for j in range(len(row)):
                    row[j] -= a * above[j]
            pivot[i] = 1 / np.sqrt(U[i, i]) if U[i, i] > least else 0.0
            for j in range(len(row)):
                row[j] *= pivot[i]
