# SPDX-License-Identifier: Apache-2.0
"""Ridge regressions of the observations of each pixel on the amplitudes of modes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 2048
"""Pixels that are solved together."""
MANY = 16
"""From so many modes on compiled code is faster than NumPy."""
STIFF = 1e-4
"""A ridge below this fraction of the observations' weight is lost in single precision."""


class Regressed(NamedTuple):
    """The regression of a block of ``m`` pixels on ``k`` modes.

    Attributes
    ----------
    pixels
        Which these are.
    patterns
        The coefficients, ``(m, k)``.
    inverse
        Their covariance over the noise variance, packed, ``(m, k(k+1)/2)``.
    right, normal
        Right-hand sides ``(m, k)`` and packed normal matrices ``(m, k(k+1)/2)``.
    """

    pixels: slice
    patterns: NDArray
    inverse: NDArray
    right: NDArray
    normal: NDArray

    @property
    def diagonal(self) -> NDArray[np.bool_]:
        """Which elements of a packed matrix are on its diagonal, ``(k(k+1)/2,)``."""
        rows, columns = upper(self.patterns.shape[1])
        return rows == columns

    @property
    def variance(self) -> NDArray:
        """Variance of each coefficient over the noise variance, ``(m, k)``."""
        return self.inverse[:, self.diagonal]


def upper(modes: int) -> tuple[NDArray, NDArray]:
    """Rows and columns of the upper triangle: symmetric matrices are packed in this order."""
    return np.triu_indices(modes)


def unpack(packed: NDArray, modes: int) -> NDArray:
    """Symmetric matrices ``(..., k, k)`` from packed upper triangles ``(..., k(k+1)/2)``."""
    rows, columns = upper(modes)
    place = np.empty((modes, modes), np.intp)
    # Where each element of the full matrix lies in the packed one; a table is faster than two
    # assignments.
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return packed.take(place, axis=-1)


def second_moments(amplitudes: NDArray, covariance: NDArray | None = None) -> NDArray:
    """Packed ``c_t c_t^T (+ Cov c_t)`` of each image, shape ``(times, k(k+1)/2)``."""
    times, k = amplitudes.shape
    moments = np.empty((times, k * (k + 1) // 2), amplitudes.dtype)
    place = 0
    # row by row of the triangle, without copies of both factors as large as the result
    for i in range(k):
        packed = moments[:, place : place + k - i]
        np.multiply(amplitudes[:, i : i + 1], amplitudes[:, i:], out=packed)
        place += k - i
    if covariance is None:
        return moments
    return moments + covariance[:, *upper(k)]


def regress(
    X: NDArray,
    observed: NDArray,
    amplitudes: NDArray,
    moments: NDArray,
    ridge: NDArray,
    *,
    compiled: bool = True,
) -> Iterator[Regressed]:
    """Solve ``(sum_t c c^T + diag(ridge)) u = sum_t c x`` over the observed times of each pixel,
    block by block.

    Parameters
    ----------
    X
        Anomalies, shape ``(times, pixels)``; read where `observed` only.
    observed
        bool, shape of `X`.
    amplitudes, moments
        ``c`` ``(times, k)`` and its packed `second_moments`.
    ridge
        Noise variance over prior variance of each mode, shape ``(k,)``.
    compiled
        Whether many modes are solved by compiled code: it takes half a second and 100 MB to load,
        and a single regression is faster without.
    """
    for start in range(0, X.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        seen = observed[:, block].astype(X.dtype)
        # A matrix product over all pixels of the block in place of a sum of small outer products
        # for each.
        normal = seen.T @ moments
        right = (X[:, block] * seen).T @ amplitudes
        yield _solved(block, normal, right, ridge, compiled=compiled)


class NormalEquations:
    """The sums that `regress` solves, added up over slabs of time, so that a long series need not
    be in memory.

    Parameters
    ----------
    pixels, modes
        Numbers of them, ``m`` and ``k``.

    Attributes
    ----------
    normal, right
        ``(m, k(k+1)/2)`` and ``(m, k)``, single precision.
    power, count
        Sum of squares and number of the observations, ``(m,)``.

    Examples
    --------
    >>> c, x = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [4.0], [0.0]])
    >>> sums = NormalEquations(1, 1)
    >>> sums.add(x, x != 0, c, second_moments(c))
    >>> [part.patterns.tolist() for part in sums.solve(np.zeros(1))]
    [[[2.0]]]
    """

    def __init__(self, pixels: int, modes: int) -> None:
        self.normal = np.zeros((pixels, modes * (modes + 1) // 2), np.float32)
        self.right = np.zeros((pixels, modes), np.float32)
        self.power: NDArray[np.float64] = np.zeros(pixels)
        self.count: NDArray[np.int64] = np.zeros(pixels, np.int64)

    def add(self, X: NDArray, observed: NDArray, amplitudes: NDArray, moments: NDArray) -> None:
        """Add a slab of images; arguments as of `regress`."""
        for start in range(0, X.shape[1], BLOCK):
            block = slice(start, start + BLOCK)
            seen = observed[:, block].astype(X.dtype)
            # Gaps may hold anything finite; they must not count.
            values = X[:, block] * seen
            self.normal[block] += seen.T @ moments
            self.right[block] += values.T @ amplitudes
            # Double: from this sum an almost equal one is subtracted in `residual`.
            self.power[block] += np.square(values, dtype=np.float64).sum(0)
            self.count[block] += observed[:, block].sum(0)

    def solve(self, ridge: NDArray) -> Iterator[Regressed]:
        """Solve for all pixels, block by block."""
        for start in range(0, len(self.right), BLOCK):
            block = slice(start, start + BLOCK)
            yield _solved(block, self.normal[block], self.right[block], ridge, compiled=True)

    def residual(self, part: Regressed) -> NDArray[np.float64]:
        """Return the sum of squares that the patterns of a block do not explain, ``(m,)``.

        It is the expected value where `moments` included the covariance of the amplitudes.
        """
        u = part.patterns.astype(np.float64)
        twice = np.where(part.diagonal, 1.0, 2.0)  # an element off the diagonal counts twice
        quadratic = (second_moments(u) * part.normal) @ twice
        explained = 2 * (u * part.right).sum(1) - quadratic
        # A pixel that is explained wholly may round to below 0.
        return np.maximum(self.power[part.pixels] - explained, 0)


def _solved(
    block: slice, normal: NDArray, right: NDArray, ridge: NDArray, *, compiled: bool
) -> Regressed:
    k = right.shape[1]
    if compiled and k >= MANY:
        from sstfill.methods.common.kernels import normal_equations  # Numba takes long to import

        patterns, inverse = np.empty_like(right), np.empty(normal.shape, right.dtype)
        if normal_equations.solve(normal, right, ridge.astype(np.float64), patterns, inverse):
            return Regressed(block, patterns, inverse, right, normal)
    matrices = unpack(normal, k)
    matrices[:, np.arange(k), np.arange(k)] += ridge.astype(right.dtype)
    if ridge.min() < STIFF * normal.max():
        matrices = matrices.astype(np.float64)
    # The inverse, not a solution: it is the covariance of the coefficients too.
    full = np.linalg.inv(matrices).astype(right.dtype, copy=False)
    patterns = np.einsum("mij,mj->mi", full, right)
    return Regressed(block, patterns, full[:, *upper(k)], right, normal)
