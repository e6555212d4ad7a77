# SPDX-License-Identifier: Apache-2.0
"""Gaussian errors and heavier tails, as attributes state them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sstfill.errors import InputError
from sstfill.fields.error_distribution import GAUSSIAN, ErrorDistribution


@pytest.mark.parametrize("degrees", [3.0, 6.3, 60.0, np.inf])
def test_half_widths_are_quantiles_of_a_distribution_of_standard_deviation_one(degrees):
    like = stats.norm() if degrees == np.inf else stats.t(degrees)
    levels = np.array([0.01, 0.5, 0.8, 0.95, 0.999])
    expected = like.ppf((1 + levels) / 2) / like.std()
    np.testing.assert_allclose(ErrorDistribution(degrees).half_width(levels), expected, rtol=1e-9)


@pytest.mark.parametrize("degrees", [3.0, 6.3, np.inf])
def test_attributes_state_the_distribution(degrees):
    stated = ErrorDistribution(degrees)
    assert ErrorDistribution.of(stated.attrs()) == stated


def test_files_that_state_none_are_gaussian():
    assert ErrorDistribution.of({"units": "K"}) == GAUSSIAN and GAUSSIAN.attrs() == {}


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"error_distribution": "cauchy"}, "error_distribution='cauchy' is not known"),
        ({"error_distribution": "student_t"}, "needs error_degrees_of_freedom, a number"),
        ({"error_distribution": "student_t", "error_degrees_of_freedom": "x"}, "found 'x'"),
        ({"error_distribution": "student_t", "error_degrees_of_freedom": 1.0}, "3 or more"),
        ({"error_distribution": "student_t", "error_degrees_of_freedom": np.nan}, "3 or more"),
    ],
)
def test_what_states_no_distribution_is_refused(attrs, said):
    with pytest.raises(InputError, match=said):
        ErrorDistribution.of(attrs)


@pytest.mark.parametrize("degrees", [3.0, 6.3, 60.0])
def test_gaussian_deviations_times_the_factor_have_the_distribution(degrees):
    stated, rng = ErrorDistribution(degrees), np.random.default_rng(0)
    drawn = rng.normal(size=400_000) * stated.factor(rng.normal(size=400_000))
    for level in (0.5, 0.8, 0.95, 0.999):
        held = np.mean(np.abs(drawn) <= stated.half_width(level))
        assert held == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / drawn.size))
    # What lies beyond the farthest is part of the standard deviation.
    assert 0.94 < drawn.std() < 1.02


def test_the_factor_increases_and_is_bounded():
    factor = ErrorDistribution(3.0).factor(np.linspace(-9, 9, 4001))
    assert (np.diff(factor) >= 0).all() and factor[0] > 0 and factor[-1] < 30


def test_gaussian_errors_have_no_factor():
    assert (GAUSSIAN.factor(np.array([-5.0, 0.0, 5.0])) == 1).all()
