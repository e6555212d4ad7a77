# SPDX-License-Identifier: Apache-2.0
"""The Kalman smoother against the dense Gaussian posterior, and its time scales against a known red
noise.
"""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.methods.eof.kalman_smoother import fitted_time_scale, smooth

DAYS = np.array([0.0, 1.0, 1.5, 4.0, 9.0, 9.25, 12.0])
SCALE = np.array([0.7, 3.0, 20.0])
N, K = len(DAYS), len(SCALE)


def evidence(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(N, K, K))
    precision = root @ root.transpose(0, 2, 1)
    precision[3] = 0  # an image without any observation
    precision[5] = np.outer(root[5, 0], root[5, 0])  # one that sees a single combination
    right = np.einsum("tij,tj->ti", precision, rng.normal(size=(N, K)))
    return precision, right


def dense(precision: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (N, K) and covariance (N, K, N, K) by inverting everything at once."""
    prior = np.zeros((N, K, N, K))
    for k in range(K):
        prior[:, k, :, k] = np.exp(-np.abs(DAYS[:, None] - DAYS) / SCALE[k])
    J = np.zeros((N, K, N, K))
    for t in range(N):
        J[t, :, t] = precision[t]
    posterior = np.linalg.inv(np.linalg.inv(prior.reshape(N * K, N * K)) + J.reshape(N * K, N * K))
    return (posterior @ right.ravel()).reshape(N, K), posterior.reshape(N, K, N, K)


def test_mean_covariance_and_lagged_products_of_the_dense_posterior():
    precision, right = evidence()
    found = smooth(precision, right, DAYS, SCALE)
    mean, posterior = dense(precision, right)
    np.testing.assert_allclose(found.mean, mean, atol=1e-10)
    for t in range(N):
        np.testing.assert_allclose(found.covariance[t], posterior[t, :, t], atol=1e-10)
    for t in range(N - 1):
        expected = np.diagonal(posterior[t, :, t + 1]) + mean[t] * mean[t + 1]
        np.testing.assert_allclose(found.lagged[t], expected, atol=1e-10)


def test_without_evidence_the_prior_comes_back():
    found = smooth(np.zeros((N, K, K)), np.zeros((N, K)), DAYS, SCALE)
    np.testing.assert_allclose(found.mean, 0)
    np.testing.assert_allclose(found.covariance, np.tile(np.eye(K), (N, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(found.lagged, np.exp(-np.diff(DAYS)[:, None] / SCALE), atol=1e-12)


@pytest.mark.parametrize("scale", [1.5, 8.0])
def test_time_scale_of_a_known_red_noise(scale):
    rng, n = np.random.default_rng(1), 4000
    phi, c = np.exp(-1 / scale), np.zeros((n, 1))
    for t in range(1, n):
        c[t] = phi * c[t - 1] + np.sqrt(1 - phi**2) * rng.normal()
    found = smooth(np.full((n, 1, 1), 1e6), 1e6 * c, np.arange(float(n)), np.array([scale]))
    assert fitted_time_scale(found, np.arange(float(n)))[0] == pytest.approx(scale, rel=0.12)
