# SPDX-License-Identifier: Apache-2.0
"""Trials: the honest verdict on methods at withheld pixels."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.validation import cross_validation
from sstfill.validation.cross_validation import CrossValidation
from sstfill.validation.withheld_estimates import WithheldEstimates


def tried(
    *size: float,
    n: int = 3000,
    images: int = 30,
    seed: int = 0,
    layers: int = 1,
    common: float = 0.0,
) -> CrossValidation:
    """Methods that miss a truth of deviation 5 independently, by so much each, and say so; `common`
    they share.
    """
    rng = np.random.default_rng(seed)
    truth, image, layer = (
        10 + 5 * rng.normal(size=n),
        np.sort(rng.integers(images, size=n)),
        np.arange(n) % layers,
    )
    shared = common * rng.normal(size=n)
    told = [
        WithheldEstimates(
            truth, truth + shared + s * rng.normal(size=n), np.full(n, s), image, layer
        )
        for s in size
    ]
    return CrossValidation.of(
        dict(zip("abcdef", told, strict=False)), layers, *rng.uniform(1, 9, (2, n))
    )


def test_a_blend_of_independent_errors_wins_and_says_by_how_much():
    trial = tried(1.0, 1.0, 30.0)
    found = trial.verdict(True)
    assert found.recipe.weights.used.tolist() == [0, 1]
    assert found.why.startswith("blend of a and b: RMSE 0.7") and "best single " in found.why
    assert np.std(found.fair.mean - trial.truth) == pytest.approx(np.sqrt(0.5), rel=0.05)


def test_no_blend_where_it_does_not_pay_or_is_not_wanted():
    found = tried(0.01, 0.05, common=1.0).verdict(True)
    assert found.recipe.weights.used.tolist() == [0] and ", a blend " in found.why
    assert found.why.startswith("a: RMSE 1") and ", next b 1" in found.why
    alone = tried(1.0, 1.1).verdict(False)
    assert alone.recipe.weights.used.tolist() == [0] and "a blend" not in alone.why
    assert tried(1.0).verdict(True).why.endswith("on withheld clouds, the only one")


def test_the_score_of_a_choice_is_that_of_pixels_it_was_not_made_by():
    """Many methods of which none is good: the best of them looks better than it is."""
    rng = np.random.default_rng(1)
    n, methods = 60, 26
    truth, image = rng.normal(size=n), np.arange(n)
    letters = [f"m{k}" for k in range(methods)]
    told = {
        m: WithheldEstimates(truth, rng.normal(size=n), np.ones(n), image, np.zeros(n, int))
        for m in letters
    }
    trial = CrossValidation.of(told, 1, np.ones(n), np.ones(n))
    found = trial.verdict(False)
    assert trial.loss(found.fair.mean) > 1.1 * trial.loss(trial.mean).min()


def test_what_is_not_filled_counts_as_filled_with_the_mean():
    trial = tried(1.0, 0.5)
    picky = trial.mean.copy()
    picky[100:, 1] = np.nan
    part = CrossValidation(
        **{**{f: getattr(trial, f) for f in trial.__dataclass_fields__}, "mean": picky}
    )
    assert part.loss(picky)[1] == pytest.approx(np.sqrt(2900 / 3000), rel=0.05)
    assert part.verdict(True).recipe.weights.used.tolist() == [0]
    assert part.rmse()[1][0] == pytest.approx(0.5, rel=0.2)


def test_stated_errors_are_scaled_by_variable():
    trial = tried(1.0, layers=2)
    sigma = np.where(trial.layer[:, np.newaxis] == 1, 4.0, 0.5)
    found = CrossValidation(
        **{**{f: getattr(trial, f) for f in trial.__dataclass_fields__}, "sigma": sigma}
    ).best(slice(None))
    np.testing.assert_allclose(found.scale[:, 0], [2.0, 0.25], rtol=0.1)
    assert "RMSE over standard deviation 0.2" in trial.verdict(True).why


def test_one_image_is_split_in_space():
    half = tried(1.0, images=1).half
    assert half[:1500].all() and not half[1500:].any()
    assert tried(1.0, n=1).verdict(True).recipe.weights.used.tolist() == [0]


def test_a_blend_is_worse_than_the_best_by_noise_at_most():
    rng = np.random.default_rng(3)
    for seed in range(12):
        trial = tried(
            *rng.uniform(0.5, 1.5, 4), n=600, images=12, seed=seed, common=rng.uniform(0, 2)
        )
        fair = trial.verdict(True).fair
        assert trial.loss(fair.mean) < 1.03 * trial.loss(trial.mean).min(), seed


def test_gain_is_asked_of_a_blend(monkeypatch):
    monkeypatch.setattr(cross_validation, "GAIN", 0.5)
    assert tried(1.0, 1.0).verdict(True).recipe.weights.used.size == 1
