# SPDX-License-Identifier: Apache-2.0
"""The time filter against a direct loop over its formula, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import OptionError
from sstfill.methods.eof.timefilter import diffusion_filter, stability_limit

DAYS = np.array([0.0, 1.0, 2.5, 3.0, 7.0, 8.25])
times = st.lists(st.floats(0.25, 9.0), min_size=1, max_size=12).map(
    lambda steps: np.cumsum([0.0, *steps])
)


def diffused(f: np.ndarray, days: np.ndarray, alpha: float, iterations: int) -> np.ndarray:
    """One value after the other: the formula of Alvera-Azcarate et al. (2009) as it is printed."""
    n = len(f)
    for _ in range(iterations):
        flux = [
            0.0,
            *(alpha * (f[i + 1] - f[i]) / (days[i + 1] - days[i]) for i in range(n - 1)),
            0.0,
        ]
        edge = [
            days[0] - (days[1] - days[0]) / 2,
            *((days[i] + days[i + 1]) / 2 for i in range(n - 1)),
            days[-1] + (days[-1] - days[-2]) / 2,
        ]
        f = np.array([f[i] + (flux[i + 1] - flux[i]) / (edge[i + 1] - edge[i]) for i in range(n)])
    return f


def test_irregular_steps_as_in_a_direct_loop():
    f = np.random.default_rng(0).normal(size=len(DAYS))
    np.testing.assert_allclose(
        diffusion_filter(DAYS, 0.1, 4) @ f, diffused(f, DAYS, 0.1, 4), atol=1e-14
    )


@settings(max_examples=25, deadline=None)
@given(days=times, fraction=st.floats(0.0, 1.0), iterations=st.integers(0, 5))
def test_keeps_a_constant_and_makes_no_new_extremes(days, fraction, iterations):
    F = diffusion_filter(days, fraction * stability_limit(days), iterations).toarray()
    np.testing.assert_allclose(F.sum(1), 1, atol=1e-12)
    assert F.min() >= -1e-12


def test_even_steps_give_a_symmetric_matrix_and_irregular_ones_do_not():
    even = diffusion_filter(np.arange(8.0), 0.3, 3).toarray()
    np.testing.assert_allclose(even, even.T, atol=1e-15)
    uneven = diffusion_filter(DAYS, 0.1, 3).toarray()
    assert np.abs(uneven - uneven.T).max() > 1e-3


@pytest.mark.parametrize(("alpha", "iterations"), [(0.0, 3), (0.1, 0)])
def test_nothing_to_do_is_the_identity(alpha, iterations):
    np.testing.assert_array_equal(
        diffusion_filter(DAYS, alpha, iterations).toarray(), np.eye(len(DAYS))
    )


def test_one_image_is_left_alone():
    np.testing.assert_array_equal(diffusion_filter(np.array([3.0]), 0.1, 3).toarray(), [[1.0]])


def test_unstable_strength_is_refused_with_the_limit():
    assert stability_limit(DAYS) == 0.125
    diffusion_filter(DAYS, 0.125, 3)
    with pytest.raises(OptionError, match=r"alpha <= 0\.125"):
        diffusion_filter(DAYS, 0.126, 3)


def test_a_long_series_costs_a_few_numbers_an_image():
    n = 100_000
    F = diffusion_filter(np.arange(float(n)), 0.1, 3)
    assert F.nnz <= 7 * n
