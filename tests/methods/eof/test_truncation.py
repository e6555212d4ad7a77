# SPDX-License-Identifier: Apache-2.0
"""How DINEOF finds its modes: sampled or not, filtered or not, exact or fast."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.methods.common.matrix import ObservationMatrix
from sstfill.methods.eof import truncation
from sstfill.methods.eof.holdout import random_points
from sstfill.methods.eof.iteration import Sweep, Warm
from sstfill.methods.eof.truncation import ALPHAS, DineofFit, most_modes

N, M, RANK, NOISE = 40, 600, 3, 0.2
DAYS = np.arange(float(N))


def series(
    dtype: type = np.float64, pixels: int = M, seed: int = 0, noise: float = NOISE
) -> tuple[ObservationMatrix, np.ndarray]:
    """Three red-noise modes with noise, two fifths observed; the matrix, and the truth without
    noise.
    """
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(np.exp(-np.abs(DAYS[:, None] - DAYS) / 8) + 1e-9 * np.eye(N))
    truth = (root @ rng.normal(size=(N, RANK)) * [3, 2, 1]) @ rng.normal(size=(RANK, pixels))
    observed = rng.random(truth.shape) < 0.4
    values = (truth + noise * rng.normal(size=truth.shape)) * observed
    spare = np.zeros(pixels), np.ones(pixels)
    return ObservationMatrix(
        values.astype(dtype), observed, np.arange(pixels), np.arange(N), *spare
    ), truth


def fitted(matrix, days=DAYS, **options):
    points = random_points(matrix, np.random.default_rng(0))
    return DineofFit(**options)(matrix, points, days)


@pytest.mark.parametrize("exact", [False, True])
def test_finds_the_rank_and_fills(exact):
    matrix, truth = series()
    before = matrix.values.copy()
    found = fitted(matrix, exact=exact, alpha=0.0)
    assert len(found.modes.s) == RANK and found.alpha == 0
    assert found.cv_error == min(found.cv_errors) < 1.5 * NOISE
    assert np.std((matrix.values - truth)[~matrix.observed]) < NOISE
    np.testing.assert_array_equal(matrix.values[matrix.observed], before[matrix.observed])


def test_fast_is_exact_within_the_tolerance():
    (one, _), (two, _) = series(), series(np.float32)
    exact, fast = fitted(one, exact=True, alpha=0.05), fitted(two, alpha=0.05)
    assert len(exact.modes.s) == len(fast.modes.s)
    assert fast.cv_error == pytest.approx(exact.cv_error, rel=0.02)
    gap = ~one.observed
    assert np.std((one.values - two.values)[gap]) < 0.01 * one.values[gap].std()


def test_counting_on_a_sample_of_pixels(monkeypatch):
    whole, truth = series(np.float32)
    everything = fitted(whole, alpha=0.0)
    for name, value in {"SAMPLE": 150, "SAMPLE_PER_IMAGE": 1, "LEAST_SAMPLE": 1}.items():
        if hasattr(truncation, name):
            monkeypatch.setattr(truncation, name, value)
    part, _ = series(np.float32)
    sampled = fitted(part, alpha=0.0)
    assert len(sampled.modes.s) == len(everything.modes.s)
    assert sampled.cv_error == pytest.approx(everything.cv_error, rel=0.03)
    assert sampled.points == everything.points
    gap = ~whole.observed
    assert np.std((part.values - whole.values)[gap]) < 0.05 * truth.std()


def test_a_part_of_the_sample_without_withheld_points_is_no_start(monkeypatch):
    for name, value in {"SAMPLE": 150, "SAMPLE_PER_IMAGE": 1, "LEAST_SAMPLE": 1}.items():
        monkeypatch.setattr(truncation, name, value)
    pixels = np.sort(np.random.default_rng(0).choice(M, 150, replace=False))  # as the fit draws
    matrix, _ = series(np.float32)
    time, column = np.nonzero(matrix.observed[:, pixels[1::4]])
    points = np.unique(time * M + pixels[1::4][column])[::7]
    found = DineofFit(alpha=0.0)(matrix, points, DAYS)
    assert len(found.modes.s) == RANK and found.fewest == 1


def test_alpha_auto_is_one_of_those_it_tries_in_the_units_of_the_steps():
    matrix, _ = series()
    found = fitted(matrix, days=DAYS / 4)
    assert any(found.alpha == pytest.approx(a / 16) for a in ALPHAS)


def test_filters_share_their_start():
    shared = fitted(series(np.float32, seed=1, noise=3.0)[0], fewer=1)
    each_from_one_mode = fitted(series(np.float32, seed=1, noise=3.0)[0], fewer=N)
    assert shared.alpha == each_from_one_mode.alpha > 0 and shared.fewest > 1
    assert len(shared.modes.s) == len(each_from_one_mode.modes.s)
    assert shared.cv_error == pytest.approx(each_from_one_mode.cv_error, rel=5e-3)
    assert shared.iterations < each_from_one_mode.iterations
    assert shared.cv_error == shared.diagnostics()["cv_error"]


@pytest.mark.parametrize("behind", [False, True])
def test_a_start_from_too_many_modes_finds_the_rank_unless_a_rival_is_far_ahead(behind):
    matrix, _ = series(np.float32)
    points = random_points(matrix, np.random.default_rng(0))
    X, missing = matrix.values.copy(), ~matrix.observed
    truth = X.ravel()[points].copy()
    missing.ravel()[points], X.ravel()[points] = True, 0
    rng = np.random.default_rng(1)
    many = Warm(np.eye(N), rng)(X, 11)
    known = Sweep([1.0], 11, many, first=11)
    rival = Sweep([1e-3 if behind else 10.0], 11, many, first=11)
    withheld = truncation._Withheld(points, truth)
    found = DineofFit()._try(
        X, missing, withheld, DAYS, 0.0, float(X.std()), known=known, rival=rival
    )
    if behind:
        assert found.swept.best == found.swept.first == 11 - truncation.FEWER
    else:
        assert found.swept.best == RANK and found.swept.first < RANK


def test_filter_of_irregular_times():
    days = np.cumsum(np.random.default_rng(3).uniform(0.5, 2.0, N))
    (one, _), (two, _) = series(), series()
    exact, fast = (
        fitted(one, days, exact=True, alpha=0.1, modes=2),
        fitted(two, days, alpha=0.1, modes=2),
    )
    np.testing.assert_allclose(fast.modes.s, exact.modes.s, rtol=2e-3)


@pytest.mark.parametrize("exact", [False, True])
def test_a_fixed_count_is_kept(exact):
    found = fitted(series()[0], exact=exact, modes=7, alpha=0.0)
    assert len(found.modes.s) == len(found.cv_errors) == 7


def test_more_modes_than_pixels():
    matrix, _ = series(pixels=2)
    assert len(fitted(matrix, modes=5, alpha=0.0).modes.s) == 2
    matrix, _ = series(pixels=2)
    assert len(fitted(matrix, alpha=0.0).cv_errors) <= 2


def test_diagnostics():
    found = fitted(series()[0], alpha=0.0).diagnostics()
    keys = {"modes", "cv_error", "cv_errors", "cv_fewest_modes", "cv_points", "alpha", "iterations"}
    assert keys == set(found) and found["cv_fewest_modes"] == 1
    assert found["iterations"] >= len(found["cv_errors"])


def test_counts_worth_trying():
    assert [most_modes(n) for n in (1, 2, 3, 10, 11, 100)] == [1, 1, 1, 5, 6, 95]
