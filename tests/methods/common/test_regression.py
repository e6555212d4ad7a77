# SPDX-License-Identifier: Apache-2.0
"""Regression of pixels on common amplitudes against NumPy's least squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.methods.common.regression import BLOCK, MANY, regress, second_moments, unpack

RNG = np.random.default_rng(3)
N, K = 25, 4
AMPLITUDES = RNG.normal(size=(N, K))


def gappy(pixels: int) -> tuple[np.ndarray, np.ndarray]:
    observed = RNG.random((N, pixels)) < 0.6
    return RNG.normal(size=(N, pixels)) * observed, observed


@pytest.mark.parametrize("pixels", [1, 7, BLOCK + 3])
def test_ridge_equals_augmented_least_squares(pixels):
    X, observed = gappy(pixels)
    ridge = np.array([0.1, 0.5, 1.0, 2.0])
    parts = list(regress(X, observed, AMPLITUDES, second_moments(AMPLITUDES), ridge))
    patterns = np.concatenate([p.patterns for p in parts])
    for j in {0, pixels // 2, pixels - 1}:
        rows = np.vstack([AMPLITUDES[observed[:, j]], np.diag(np.sqrt(ridge))])
        right = np.concatenate([X[observed[:, j], j], np.zeros(K)])
        np.testing.assert_allclose(patterns[j], np.linalg.lstsq(rows, right)[0], atol=1e-10)


def test_no_ridge_is_ordinary_least_squares_with_its_covariance():
    X, observed = gappy(6)
    (part,) = regress(X, observed, AMPLITUDES, second_moments(AMPLITUDES), np.zeros(K))
    for j in range(6):
        A = AMPLITUDES[observed[:, j]]
        np.testing.assert_allclose(
            part.patterns[j], np.linalg.lstsq(A, X[observed[:, j], j])[0], atol=1e-10
        )
        np.testing.assert_allclose(unpack(part.inverse[j], K), np.linalg.inv(A.T @ A), atol=1e-10)


def test_a_pixel_never_observed_gets_the_prior():
    X, observed = np.zeros((N, 1)), np.zeros((N, 1), bool)
    (part,) = regress(X, observed, AMPLITUDES, second_moments(AMPLITUDES), np.full(K, 4.0))
    np.testing.assert_array_equal(part.patterns, 0)
    np.testing.assert_allclose(unpack(part.inverse[0], K), np.eye(K) / 4)
    np.testing.assert_allclose(part.variance, np.full((1, K), 0.25))


@pytest.mark.parametrize("modes", [MANY - 1, MANY, 43])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_modes_are_solved_as_few_are(modes, dtype):
    """Compiled code takes over from NumPy."""
    X, c = RNG.normal(size=(60, 5)), RNG.normal(size=(60, modes))
    observed = RNG.random(X.shape) < 0.4
    moments = second_moments(c).astype(dtype)
    (part,) = regress(X.astype(dtype), observed, c.astype(dtype), moments, np.full(modes, 0.5))
    assert part.patterns.dtype == part.inverse.dtype == dtype
    # rounding of the sums, single precision, over the smallest eigenvalue
    close = {"rtol": 0, "atol": 1e-4 if dtype == np.float32 else 1e-10}
    for j in range(5):
        seen = c[observed[:, j]]
        exact = np.linalg.inv(seen.T @ seen + 0.5 * np.eye(modes))
        np.testing.assert_allclose(unpack(part.inverse[j], modes), exact, **close)
        np.testing.assert_allclose(part.variance[j], np.diag(exact), **close)
        np.testing.assert_allclose(part.patterns[j], exact @ seen.T @ X[observed[:, j], j], **close)


def test_many_modes_that_nothing_tells_apart_are_left_to_numpy():
    c = np.ones((30, MANY))
    with pytest.raises(np.linalg.LinAlgError):
        list(regress(np.ones((30, 1)), c[:, :1] > 0, c, second_moments(c), np.zeros(MANY)))


@settings(max_examples=25, deadline=None)
@given(modes=st.integers(1, 6), seed=st.integers(0, 99))
def test_packed_moments_unpack_to_outer_products(modes, seed):
    rng = np.random.default_rng(seed)
    c, root = rng.normal(size=(5, modes)), rng.normal(size=(5, modes, modes))
    covariance = root @ root.transpose(0, 2, 1)
    expected = c[:, :, np.newaxis] * c[:, np.newaxis] + covariance
    np.testing.assert_allclose(unpack(second_moments(c, covariance), modes), expected, atol=1e-12)
