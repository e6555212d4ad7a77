# SPDX-License-Identifier: Apache-2.0
"""Metrics against numbers worked by hand, and laws they must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.special import ndtr, stdtr

from sstfill.errors import OptionError
from sstfill.validation import metrics

TRUTH = [1.0, 2.0, 3.0, 4.0]
ESTIMATE = [1.0, 3.0, 2.0, 6.0]  # errors 0, 1, -1, 2
PAIRS = [metrics.bias, metrics.mae, metrics.rmse, metrics.centred_rmse, metrics.correlation]
STATED = [metrics.stated_crps, metrics.sigma_scale]
FIELDS = arrays(np.float64, st.integers(2, 20), elements=st.floats(-50, 50))


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (metrics.bias, 0.5),
        (metrics.mae, 1.0),
        (metrics.rmse, math.sqrt(1.5)),
        (metrics.centred_rmse, math.sqrt(1.25)),
        (metrics.correlation, 7 / math.sqrt(5 * 14)),
    ],
)
def test_against_hand_computed(kernel, expected):
    assert kernel(ESTIMATE, TRUTH) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("kernel", PAIRS + STATED)
def test_nothing_scores_nan(kernel):
    assert math.isnan(kernel([], []))


def test_coverage_of_nothing_is_nan():
    assert math.isnan(metrics.coverage([], [], 0.5))


def test_correlation_of_a_constant_is_nan():
    assert math.isnan(metrics.correlation([1.0, 1.0], [0.0, 2.0]))


def test_sums_are_carried_in_double_precision():
    truth = np.full(1_000_000, 300.0, dtype=np.float32)
    assert metrics.bias(truth + np.float32(0.125), truth) == 0.125


@settings(max_examples=25, deadline=None)
@given(FIELDS, st.integers(0, 2**32 - 1))
def test_rmse_splits_into_bias_and_spread(truth, seed):
    estimate = truth + np.random.default_rng(seed).normal(size=truth.size)
    rmse, bias = metrics.rmse(estimate, truth), metrics.bias(estimate, truth)
    assert rmse**2 == pytest.approx(bias**2 + metrics.centred_rmse(estimate, truth) ** 2)
    assert abs(bias) <= metrics.mae(estimate, truth) * (1 + 1e-12) <= rmse * (1 + 1e-9)


@pytest.mark.parametrize("level", [0.5, 0.68, 0.9, 0.95])
def test_coverage_of_calibrated_errors_is_the_level(level):
    rng, n = np.random.default_rng(1), 20_000
    sigma = rng.uniform(0.1, 3, n)
    found = metrics.coverage(sigma * rng.normal(size=n), sigma, level)
    assert abs(found - level) < 4 * math.sqrt(level * (1 - level) / n)


def test_coverage_falls_when_sigma_is_overconfident():
    error = np.random.default_rng(2).normal(size=2000)
    assert (
        metrics.coverage(error, np.full(2000, 0.5), 0.68)
        < 0.5
        < metrics.coverage(error, np.full(2000, 2.0), 0.68)
    )


@pytest.mark.parametrize("level", [0, 1, 68, -0.5])
def test_coverage_refuses_levels_that_are_no_probability(level):
    with pytest.raises(OptionError, match=r"0\.68"):
        metrics.coverage([0.0], [1.0], level)


@pytest.mark.parametrize(("error", "sigma"), [(0.0, 1.0), (0.7, 0.5), (-2.0, 1.5), (5.0, 0.3)])
def test_crps_is_the_integral_it_stands_for(error, sigma):
    below, above = -abs(error) - 10 * sigma, abs(error) + 10 * sigma
    integral = quad(
        lambda x: (ndtr((x - error) / sigma) - (x >= 0)) ** 2,
        below,
        above,
        points=[0.0],
        epsabs=1e-10,
    )[0]
    assert metrics.stated_crps([error], [sigma]) == pytest.approx(integral, abs=1e-7)


@pytest.mark.parametrize(
    ("error", "sigma", "degrees"),
    [(0.0, 1.0, 3.0), (0.7, 0.5, 5.0), (-2.0, 1.5, 3.5), (5.0, 0.3, 60)],
)
def test_crps_of_heavy_tails_is_the_integral_it_stands_for(error, sigma, degrees):
    scale = sigma * math.sqrt(1 - 2 / degrees)

    def square(x):
        return (stdtr(degrees, (x - error) / scale) - (x >= 0)) ** 2

    ends = -abs(error) - 500 * sigma, abs(error) + 500 * sigma
    points = sorted({0.0, error, error - sigma, error + sigma})
    integral = quad(square, *ends, points=points, epsabs=1e-10, limit=500)[0]
    found = metrics.stated_crps([error], [sigma], degrees)
    assert found == pytest.approx(integral, abs=1e-5)
    both = metrics.stated_crps([error, error], [sigma, sigma], [degrees, np.inf])
    gaussian = metrics.stated_crps([error], [sigma])
    assert both == pytest.approx((found + gaussian) / 2)


def test_intervals_of_heavy_tails_hold():
    rng, n = np.random.default_rng(1), 20_000
    degrees = np.where(np.arange(n) % 2, 4.0, np.inf)
    error = np.where(degrees < 9, rng.standard_t(4.0, n) / math.sqrt(2), rng.normal(size=n))
    for level in (0.5, 0.8, 0.95):
        found = metrics.coverage(error, np.ones(n), level, None, degrees)
        assert found == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / n))
    assert metrics.coverage(error, np.ones(n), 0.5) > 0.53


def test_crps_without_sigma_is_the_absolute_error():
    assert metrics.stated_crps([1.0, -3.0], [0.0, 0.0]) == 2.0


def test_crps_is_least_for_the_true_sigma():
    error = np.random.default_rng(3).normal(size=20_000)
    scores = [metrics.stated_crps(error, np.full(error.size, s)) for s in (0.5, 1.0, 2.0)]
    assert min(scores) == scores[1]


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_sigma_scale_undoes_a_scaling(factor, seed):
    rng = np.random.default_rng(seed)
    error, sigma = rng.normal(size=50), rng.uniform(0.5, 2, 50)
    scaled = sigma * metrics.sigma_scale(error, sigma)
    assert metrics.sigma_scale(error, scaled) == pytest.approx(1.0)
    assert metrics.sigma_scale(error, sigma * factor) == pytest.approx(
        metrics.sigma_scale(error, sigma) / factor
    )


def test_sigma_scale_with_sigma_zero():
    assert metrics.sigma_scale([0.0, 1.0], [0.0, 1.0]) == math.sqrt(0.5)
    assert metrics.sigma_scale([1.0], [0.0]) == math.inf
