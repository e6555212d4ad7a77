# SPDX-License-Identifier: Apache-2.0
"""Pattern values of each pixel from what it observed: many small ridge regressions on common amplitudes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 2048
STIFF = 1e-4
"""Below this share of the observations' weight the ridge drowns in single precision; then double is used."""


class Regressed(NamedTuple):
    """A block of pixels: which, patterns ``(m, k)``, their covariance over the noise ``(m, k, k)``, and ``(m, k)``
    right-hand sides and ``(m, k(k+1)/2)`` normal matrices that they came from."""

    pixels: slice
    patterns: NDArray
    inverse: NDArray
    right: NDArray
    normal: NDArray


def upper(modes: int) -> tuple[NDArray, NDArray]:
    """Row and column numbers of the upper triangle, the order in which symmetric matrices are packed here."""
    return np.triu_indices(modes)


def unpack(packed: NDArray, modes: int) -> NDArray:
    """Symmetric matrices ``(..., k, k)`` from packed upper triangles ``(..., k(k+1)/2)``."""
    rows, columns = upper(modes)
    full = np.empty((*packed.shape[:-1], modes, modes), packed.dtype)
    full[..., rows, columns] = packed
    full[..., columns, rows] = packed
    return full


def second_moments(amplitudes: NDArray, covariance: NDArray | None = None) -> NDArray:
    """Packed ``c_t c_t^T (+ Cov c_t)`` of each image, shape ``(times, k(k+1)/2)``."""
    rows, columns = upper(amplitudes.shape[1])
    moments = amplitudes[:, rows] * amplitudes[:, columns]
    return moments if covariance is None else moments + covariance[:, rows, columns]


def regress(
    X: NDArray, observed: NDArray, amplitudes: NDArray, moments: NDArray, ridge: NDArray
) -> Iterator[Regressed]:
    """Solve ``(sum_t c c^T + diag(ridge)) u = sum_t c x`` over the observed times of each pixel, block by block.

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
    """
    k = amplitudes.shape[1]
    for start in range(0, X.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        seen = observed[:, block].astype(X.dtype)
        normal = seen.T @ moments
        right = (X[:, block] * seen).T @ amplitudes
        matrices = unpack(normal, k)
        matrices[:, np.arange(k), np.arange(k)] += ridge.astype(X.dtype)
        stiff = ridge.min() < STIFF * normal.max()  # then single precision would not tell ridge from rounding
        inverse = np.linalg.inv(matrices.astype(np.float64) if stiff else matrices).astype(X.dtype, copy=False)
        yield Regressed(block, np.einsum("mij,mj->mi", inverse, right), inverse, right, normal)
