# SPDX-License-Identifier: Apache-2.0
"""Scores of ensembles: the formulas, and that they prefer what is right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.validation.ensemble import crps, energy_score, rank_deviation, rank_histogram
from sstfill.validation.metrics import stated_crps

N, M = 4000, 20


def drawn(spread: float = 1.0, members: int = M) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=N), spread * rng.normal(size=(members, N))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 99), members=st.integers(2, 7), n=st.integers(1, 9))
def test_formulas(seed, members, n):
    """Ferro (2014), equation 2, and Gneiting & Raftery (2007), equation 22, term by term."""
    rng = np.random.default_rng(seed)
    truth, fields = rng.normal(size=n), rng.normal(size=(members, n))
    pairs = members * (members - 1)
    apart = np.abs(fields[:, np.newaxis] - fields).sum((0, 1)) / (2 * pairs)
    expected = (np.abs(fields - truth).mean(0) - apart).mean()
    assert crps(truth, fields) == pytest.approx(expected, abs=1e-12)
    norms = np.linalg.norm(fields[:, np.newaxis] - fields, axis=2).sum() / (2 * pairs)
    expected = (np.linalg.norm(fields - truth, axis=1).mean() - norms) / np.sqrt(n)
    assert energy_score(truth, fields, np.zeros(n, int)) == pytest.approx(expected, abs=1e-12)


def test_crps_does_not_depend_on_the_number_of_members():
    exact = stated_crps(drawn()[0], np.ones(N))
    for members in (3, 20, 60):
        assert crps(*drawn(members=members)) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_right_spread_scores_best(spread):
    image = np.repeat(np.arange(40), N // 40)
    (truth, right), (_, wrong) = drawn(), drawn(spread)
    assert crps(truth, right) < crps(truth, wrong)
    assert energy_score(truth, right, image) < energy_score(truth, wrong, image)


def test_energy_counts_each_image_once_and_has_the_units_of_the_field():
    truth, members = drawn()
    image = np.repeat([0, 1], [10, N - 10])
    parts = [energy_score(truth[at], members[:, at], image[at]) for at in (image == 0, image == 1)]
    assert energy_score(truth, members, image) == pytest.approx(np.mean(parts))
    assert energy_score(5 * truth, 5 * members, image) == pytest.approx(5 * np.mean(parts))


def test_ranks_are_flat_where_truth_is_one_of_the_members():
    histogram = rank_histogram(*drawn())
    assert histogram.shape == (M + 1,) and histogram.sum() == pytest.approx(1)
    assert rank_deviation(histogram) < 0.1
    narrow = rank_histogram(*drawn(0.3))
    assert narrow[0] > 0.2 and narrow[-1] > 0.2 and rank_deviation(narrow) > 0.8
    wide = rank_histogram(*drawn(3.0))
    assert wide[0] < 0.02 and wide[M // 2] > 0.08


def test_ties_are_split_at_random():
    histogram = rank_histogram(np.ones(N), np.ones((4, N)), seed=3)
    np.testing.assert_allclose(histogram, 0.2, atol=0.02)
    np.testing.assert_array_equal(histogram, rank_histogram(np.ones(N), np.ones((4, N)), seed=3))


def test_nothing_to_score():
    empty = np.empty((3, 0))
    assert np.isnan(crps(empty[0], empty))
    assert np.isnan(energy_score(empty[0], empty, empty[0]))
    assert np.isnan(rank_histogram(empty[0], empty)).all()
