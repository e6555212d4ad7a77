# SPDX-License-Identifier: Apache-2.0
"""Compiled: log scores of withheld values given the observations around them, and gradients."""

from __future__ import annotations

import numpy as np

from sstfill.methods.common.jit import compiled
from sstfill.methods.oi.solver_kernels import FAST, looked_up, posterior, workspace


@compiled(fastmath=FAST)
def back_substituted(C, n, pivot, b, out):
    """Solve ``L' out = b`` with the factor in the lower triangle of C, of diagonal 1 / pivot."""
    for i in range(n - 1, -1, -1):
        s = b[i]
        for k in range(i + 1, n):
            s -= C[k, i] * out[k]
        out[i] = s * pivot[i]


@compiled(fastmath=FAST)
def _add_pair(P, i, j, weight, scales, in_space, in_time, by_scale, gradient):
    """Add ``weight * dC_ij`` by the logs of each component's variance, y, x and time scale."""
    along = (P[i, 3] - P[j, 3]) ** 2
    square = (P[i, 0] - P[j, 0]) ** 2 + (P[i, 1] - P[j, 1]) ** 2 + (P[i, 2] - P[j, 2]) ** 2
    across = max(square - along, 0.0)
    apart = abs(P[i, 4] - P[j, 4])
    for k in range(len(scales)):
        y2, x2 = along * scales[k, 1], across * scales[k, 2]
        far, late = np.sqrt(y2 + x2), apart * scales[k, 3]
        strength = weight * scales[k, 0]
        near, then = looked_up(in_space[k], far), looked_up(in_time[k], late)
        gradient[k, 0] += strength * near * then
        if far > 0.0:
            steep = strength * looked_up(by_scale[k], far) * then / (y2 + x2)
            gradient[k, 1] += steep * y2
            gradient[k, 2] += steep * x2
        gradient[k, 3] += strength * near * looked_up(by_scale[k], late)


@compiled()
def log_scores(values, targets, truth, neighbours, count, space, kernel, by_scale):
    """Sum of the negative log scores of withheld values, and its gradient.

    Returns
    -------
    score
        ``sum(log(s) + (m - truth)^2 / s) / 2`` with posterior mean m and variance plus noise s.
    gradient
        By the logarithms of variance, meridional, zonal and time scale, ``(part, 4)``.
    by_noise
        By the logarithm of the noise.
    """
    most = neighbours.shape[1]
    work = workspace(most)
    C, P, channel, _, pivot, z = work
    scales, in_space, in_time, noise, cross = kernel
    w, a = np.empty(most), np.empty(most)
    gradient = np.zeros((len(scales), 4))
    total, by_noise = 0.0, 0.0
    for i in range(len(targets)):
        n = count[i]
        mean, variance = posterior(values, targets[i], neighbours[i], n, space, kernel, work)
        own = cross[channel[n], channel[n]]
        spread, miss = variance + noise, mean - truth[i]
        total += 0.5 * np.log(spread) + 0.5 * miss * miss / spread
        by_mean, by_spread = miss / spread, 0.5 * (1 - miss * miss / spread) / spread
        # w are the weights of the observations, a the solution for their values: by the chain
        # rule, each covariance C_jk counts with a product of these
        back_substituted(C, n, pivot, C[n], w)
        back_substituted(C, n, pivot, z, a)
        gradient[:, 0] += by_spread * own * scales[:, 0]
        by_noise += by_spread * noise
        for j in range(n):
            diagonal = w[j] * (by_spread * w[j] - by_mean * a[j])
            gradient[:, 0] += diagonal * cross[channel[j], channel[j]] * scales[:, 0]
            by_noise += diagonal * noise
            link = cross[channel[n], channel[j]] * (by_mean * a[j] - 2 * by_spread * w[j])
            _add_pair(P, n, j, link, scales, in_space, in_time, by_scale, gradient)
            for k in range(j):
                pair = 2 * by_spread * w[j] * w[k] - by_mean * (w[j] * a[k] + w[k] * a[j])
                pair *= cross[channel[j], channel[k]]
                _add_pair(P, j, k, pair, scales, in_space, in_time, by_scale, gradient)
    return total, gradient, by_noise
