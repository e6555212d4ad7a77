# SPDX-License-Identifier: Apache-2.0
"""Means over patches: correlated draws cover them, independent errors do not."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import ensemble
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.validation.patch_means import (
    Places,
    coverage_by_members,
    coverage_if_independent,
    squares,
)

LEVELS = (0.5, 0.8, 0.95)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), side=st.integers(1, 4), cover=st.floats(0.1, 1))
def test_squares_are_whole_and_do_not_overlap(seed, side, cover):
    hidden = np.random.default_rng(seed).random((3, 9, 11)) < cover
    places = Places(*np.nonzero(hidden))
    found = squares(places, side)
    assert np.unique(found).size == found.size
    for square in found:
        assert np.unique(places.image[square]).size == 1
        rows, columns = places.row[square], places.column[square]
        assert np.ptp(rows) == np.ptp(columns) == side - 1
        assert np.unique(rows * 100 + columns).size == side * side
    if side == 1:
        assert len(found) == hidden.sum()
    # none is left out: what remains holds no whole square
    left = hidden.copy()
    left[tuple(part[found.ravel()] for part in places)] = False
    windows = np.lib.stride_tricks.sliding_window_view(left, (side, side), axis=(1, 2))
    assert not windows.all((3, 4)).any()


@pytest.fixture(scope="module")
def withheld():
    truth, estimate, where = ensemble(seed=4)
    at = where.values.astype(bool)
    columns = [a.values[..., at] for a in (truth, estimate["mean"], estimate["members"])]
    return *columns, Places(*np.nonzero(at))


@pytest.mark.parametrize("side", [2, 4, 8])
def test_correlated_draws_cover_and_independent_errors_do_not(withheld, side):
    truth, mean, members, places = withheld
    patches = squares(places, side)
    assert len(patches) > 100
    by_draws = coverage_by_members(truth, mean, members, patches, LEVELS)
    np.testing.assert_allclose(by_draws, LEVELS, atol=0.08)
    alone = coverage_if_independent(truth, mean, np.full(truth.size, 0.5), patches, LEVELS)
    assert (np.array(alone) < 0.9 * np.array(by_draws)).all()
    if side == 8:
        assert alone[1] < 0.35


def test_few_members_cover_as_many():
    """By a normal quantile, four members would cover 86 % of what 95 % promise."""
    rng = np.random.default_rng(0)
    truth, members = rng.normal(size=40_000), rng.normal(size=(4, 40_000))
    alone = np.arange(truth.size)[:, np.newaxis]
    found = coverage_by_members(truth, np.zeros(truth.size), members, alone, LEVELS)
    np.testing.assert_allclose(found, LEVELS, atol=0.015)


def test_members_with_heavy_tails_cover_as_many_as_gaussian_ones():
    """By their standard deviation they would cover 61 %, where 50 % are promised."""
    rng = np.random.default_rng(0)
    truth, members = rng.standard_t(3, 40_000), rng.standard_t(3, (20, 40_000))
    alone = np.arange(truth.size)[:, np.newaxis]
    found = coverage_by_members(truth, np.zeros(truth.size), members, alone, LEVELS)
    np.testing.assert_allclose(found, LEVELS, atol=0.01)


def test_no_patch_no_coverage():
    none = squares(Places(*np.zeros((3, 1), int)), 2)
    assert none.shape == (0, 4)
    values = np.zeros(1)
    assert np.isnan(coverage_by_members(values, values, np.zeros((2, 1)), none, LEVELS)).all()
    assert np.isnan(coverage_if_independent(values, values, values, none, LEVELS)).all()


def test_an_error_that_is_not_stated_covers_nothing_and_misses_nothing():
    rng = np.random.default_rng(0)
    truth, mean = rng.normal(size=(2, 400))
    patches = np.arange(400).reshape(-1, 4)
    sigma = np.ones(400)
    sigma[:200] = np.nan
    half = coverage_if_independent(truth, mean, sigma, patches, LEVELS)
    assert half == coverage_if_independent(truth, mean, np.ones(400), patches[50:], LEVELS)
    none = coverage_if_independent(truth, mean, sigma * np.nan, patches, LEVELS)
    assert np.isnan(none).all()
