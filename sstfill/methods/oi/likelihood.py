# SPDX-License-Identifier: Apache-2.0
"""Compiled: log scores of withheld values given the observations around them, and gradients."""

from __future__ import annotations

import numpy as np

from sstfill.methods.common.kernels.jit import compiled
from sstfill.methods.oi.solver_kernels import (
    EXPONENTIAL,
    FAST,
    GAUSS,
    LagTables,
    correlation,
    decayed,
    posterior,
    workspace,
)

LEAST = 1e-30
"""Least distance by which is divided."""


@compiled(fastmath=FAST)
def back_substituted(U, n, pivot, b, out):
    """Solve ``U out = b`` with an upper factor of diagonal 1 / pivot."""
    for i in range(n - 1, -1, -1):
        s, right, known = b[i], U[i, i + 1 : n], out[i + 1 : n]
        for k in range(len(known)):
            s -= right[k] * known[k]
        out[i] = s * pivot[i]


@compiled(fastmath=FAST)
def _add_pairs(P, i, n, weight, kernel, gradient):
    """Add ``weight[j] * dC_ij`` for all ``j < n`` by the logs of each component's variance, y, x
    and time scale.
    """
    scales, shape = kernel.scales, kernel.shape
    for k in range(len(scales)):
        variance, by_north, by_east, by_day = scales[k]
        of_variance, of_y, of_x, of_time = 0.0, 0.0, 0.0, 0.0
        for j in range(n):
            across = (P[1, i] - P[1, j]) ** 2 + (P[2, i] - P[2, j]) ** 2
            y2, x2 = (P[0, i] - P[0, j]) ** 2 * by_north, across * by_east
            late = abs(P[3, i] - P[3, j]) * by_day
            strength, far = weight[j] * variance, np.sqrt(y2 + x2)
            of_variance += strength * correlation(shape[k], far, late)
            in_space, in_time = slopes(shape[k], far, late)
            of_y += strength * in_space * y2
            of_x += strength * in_space * x2
            of_time += strength * in_time
        gradient[k, 0] += of_variance
        gradient[k, 1] += of_y
        gradient[k, 2] += of_x
        gradient[k, 3] += of_time


@compiled(inline="always")
def slopes(shape, far, late):
    """Derivatives of the correlation at a scaled distance and a scaled lag by the logarithm of the
    scales: in space, for each unit of the squared distance, and in time.
    """
    if shape == GAUSS:
        close = decayed(far * far + late * late)
        return 2 * close, 2 * late * late * close
    close = decayed(far + late)
    if shape == EXPONENTIAL:
        return close / max(far, LEAST), late * close
    return (1 + late) * close, late * late * (1 + far) * close


@compiled()
def log_scores(values, targets, truth, tiles, space, kernel):
    """Sum of the negative log scores of withheld values, each a tile of its own, and its gradient.

    Returns
    -------
    score
        ``sum(log(s) + (m - truth)^2 / s) / 2`` with posterior mean m and variance plus noise s.
    gradient
        By the logarithms of variance, meridional, zonal and time scale, ``(part, 4)``.
    by_noise
        By the logarithm of the noise.
    """
    most = tiles.neighbours.shape[1]
    work = workspace(most, 1)
    U, P, channel, pivot = work.U, work.P, work.pixel[:, 0], work.pivot
    # each covariance is looked at but once
    none = np.full(len(tiles.corner), -1)
    tables = LagTables(np.empty((0, 0)), np.empty((0, 4)), 1.0, (0.0, 0.0), 0.0, 1, none)
    cross, noise = kernel.cross, kernel.noise
    w, a, pair = np.empty(most), np.empty(most), np.empty(most)
    gradient = np.zeros((len(kernel.scales), 4))
    total, by_noise, diagonal = 0.0, 0.0, 0.0
    for tile in range(len(tiles.corner)):
        (row,) = posterior(values, targets, tiles, tile, space, kernel, tables, work)
        n = tiles.known[tile]
        own = cross[channel[n], channel[n]]
        spread, miss = work.variance[0] + noise, work.mean[0] - truth[row]
        total += 0.5 * np.log(spread) + 0.5 * miss * miss / spread
        by_mean, by_spread = miss / spread, 0.5 * (1 - miss * miss / spread) / spread
        # w are the weights of the observations, a the solution for their values: by the chain
        # rule, each covariance C_jk counts with a product of these
        back_substituted(U, n, pivot, U[:, n], w)
        back_substituted(U, n, pivot, U[:, n + 1], a)
        diagonal += by_spread * own
        by_noise += by_spread * noise
        for j in range(n):
            of_itself = w[j] * (by_spread * w[j] - by_mean * a[j])
            diagonal += of_itself * cross[channel[j], channel[j]]
            by_noise += of_itself * noise
            for k in range(j):
                pair[k] = 2 * by_spread * w[j] * w[k] - by_mean * (w[j] * a[k] + w[k] * a[j])
                pair[k] *= cross[channel[j], channel[k]]
            _add_pairs(P, j, j, pair, kernel, gradient)
        for j in range(n):
            pair[j] = cross[channel[n], channel[j]] * (by_mean * a[j] - 2 * by_spread * w[j])
        _add_pairs(P, n, n, pair, kernel, gradient)
    gradient[:, 0] += diagonal * kernel.scales[:, 0]
    return total, gradient, by_noise
