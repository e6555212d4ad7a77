# SPDX-License-Identifier: Apache-2.0
"""Variational EOFs: what was put into a synthetic series is found again, and no more than that."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.methods.eof.variational import VariationalFit

N, M, NOISE = 80, 300, 0.3
SCALES = (12.0, 5.0, 2.0)
SIZES = (3.0, 2.0, 1.0)


def series(days: np.ndarray, seed: int = 0, noise: float = NOISE) -> tuple[np.ndarray, np.ndarray]:
    """Noisy sum of red-noise modes and where half of it is observed."""
    rng = np.random.default_rng(seed)
    X = noise * rng.normal(size=(len(days), M))
    for scale, size in zip(SCALES, SIZES, strict=True):
        root = np.linalg.cholesky(
            np.exp(-np.abs(days[:, None] - days) / scale) + 1e-10 * np.eye(len(days))
        )
        X += size * np.outer(root @ rng.normal(size=len(days)), rng.normal(size=M))
    observed = rng.random(X.shape) < 0.5
    return X * observed, observed


@pytest.fixture(scope="module")
def found():
    days = np.arange(float(N))
    return VariationalFit(20)(*series(days), days)


def test_number_of_modes_and_noise(found):
    assert np.count_nonzero(found.prior > 0.05 * found.noise) == len(SIZES)
    assert len(found.prior) < 10  # of 20; what is left beside them is next to nothing
    assert np.sqrt(found.noise) == pytest.approx(NOISE, rel=0.05)


def test_mode_variances_are_those_put_in(found):
    assert np.sqrt(found.prior.sum()) == pytest.approx(np.linalg.norm(SIZES), rel=0.25)
    assert (np.diff(found.prior) < 0).all()


def test_amplitudes_have_unit_mean_square(found):
    power = (found.amplitudes.astype(float) ** 2).mean(0)
    power += np.diagonal(found.covariance, axis1=1, axis2=2).mean(0)
    np.testing.assert_allclose(power, 1, rtol=1e-4)


def test_time_scales_are_of_the_right_order(found):
    assert np.all(found.time_scale > 1) and np.all(found.time_scale < 40)


def test_same_seed_same_posterior(found):
    days = np.arange(float(N))
    again = VariationalFit(20)(*series(days), days)
    np.testing.assert_array_equal(again.amplitudes, found.amplitudes)
    assert again.noise == found.noise


def test_irregular_times_and_single_precision():
    days = np.cumsum(np.random.default_rng(4).uniform(0.3, 3.0, N))
    X, observed = series(days)
    found = VariationalFit(20)(X.astype(np.float32), observed, days)
    assert found.amplitudes.dtype == np.float32
    assert np.count_nonzero(found.prior > 0.05 * found.noise) == len(SIZES)
    assert len(found.prior) < 10  # of 20; what is left beside them is next to nothing
    assert np.sqrt(found.noise) == pytest.approx(NOISE, rel=0.05)


def test_pure_noise_keeps_next_to_nothing():
    rng = np.random.default_rng(6)
    observed = rng.random((40, 2000)) < 0.5
    found = VariationalFit(15)(
        rng.normal(size=observed.shape) * observed, observed, np.arange(40.0)
    )
    assert found.prior.sum() < 0.05
    assert np.sqrt(found.noise) == pytest.approx(1.0, rel=0.05)


def test_without_noise_stays_finite_in_single_precision():
    days = np.arange(float(N))
    X, observed = series(days, noise=0.0)
    found = VariationalFit(20)(X.astype(np.float32), observed, days)
    assert np.isfinite(found.amplitudes).all() and (found.prior > 0).all()
    assert np.sqrt(found.noise) < 0.03


def test_zeros_everywhere():
    observed = np.ones((6, 9), bool)
    found = VariationalFit(3)(np.zeros((6, 9), np.float32), observed, np.arange(6.0))
    assert np.isfinite(found.amplitudes).all() and found.noise < 1e-12
