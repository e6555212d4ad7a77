# SPDX-License-Identifier: Apache-2.0
"""Expected error of a DINEOF reconstruction, from the covariance of its modes."""

from __future__ import annotations

import numpy as np

from sstfill.methods.common.lowrank import LowRank
from sstfill.methods.common.matrix import ObservationMatrix
from sstfill.methods.common.regression import second_moments, unpack
from sstfill.methods.eof.iteration import BLOCK, Modes


def with_error(
    modes: Modes, matrix: ObservationMatrix, overlap: float = 1.0, cv_error: float = 0.0
) -> LowRank:
    """Attach the error estimate of Beckers, Barth & Alvera-Azcárate (2006) to a decomposition.

    It is the error of an optimal interpolation with the covariance of the modes. With ``L = U
    diag(s) / sqrt(N)``, its rows ``L_p`` at the pixels present in an image and ``mu2`` the variance
    that the modes leave unexplained, the amplitudes have covariance ``C = mu2' (L_p^T L_p + mu2'
    I)^-1`` with ``mu2' = overlap * mu2``. The error variance of a pixel is ``L_i C L_i^T
    + mu2``: that of the modes, plus the variance they do not resolve, which their error map leaves
    out although it is part of the error at a withheld observation.

    Parameters
    ----------
    modes
        The reconstruction.
    matrix
        The packed field; only its observed values are used.
    overlap
        Number of neighbouring pixels that share one observation error, ``Lc²/(dx dy)``.
    cv_error
        Error at the withheld observations. ``mu2`` is at least its square: the residual of fitted
        observations vanishes as modes are added, that of withheld ones does not.
    """
    n = len(modes.V)
    patterns = modes.U * (modes.s / np.sqrt(n)).astype(modes.U.dtype)
    amplitudes = modes.V * modes.V.dtype.type(np.sqrt(n))
    k = patterns.shape[1]
    normal = np.zeros((n, k * (k + 1) // 2))
    squares = 0.0
    for start in range(0, len(patterns), BLOCK):
        block = slice(start, start + BLOCK)
        observed = matrix.observed[:, block]
        normal += observed.astype(patterns.dtype) @ second_moments(patterns[block])
        residual = (amplitudes @ patterns[block].T - matrix.values[:, block]) * observed
        squares += float(np.vdot(residual, residual))
    fitted = squares / max(int(matrix.observed.sum()), 1)
    mu2 = max(fitted, cv_error**2, float(np.finfo(np.float32).tiny))
    noise = overlap * mu2
    covariance = noise * np.linalg.inv(unpack(normal, k) + noise * np.eye(k))
    return LowRank(patterns, amplitudes, covariance.astype(patterns.dtype), None, mu2)
