# SPDX-License-Identifier: Apache-2.0
"""Cross-validation: the decision between methods is scored on pixels that it was not made by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

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
    means = [truth + shared + s * rng.normal(size=n) for s in size]
    places = image, layer, *rng.uniform(1, 9, (2, n)), np.ones(n), np.ones(n)
    estimates = {}
    for name, mean, s in zip("abcdef", means, size, strict=False):
        estimates[name] = WithheldEstimates(truth, mean, np.full(n, s), *places)
    return CrossValidation.of(estimates, layers)


def test_a_blend_of_independent_errors_wins_and_says_by_how_much():
    validation = tried(1.0, 1.0, 30.0)
    found = validation.decision(blending=True)
    assert found.blend.names == ("a", "b")
    assert (
        found.blend.why.startswith("blend of a and b: RMSE 0.7")
        and "best single " in found.blend.why
    )
    assert np.std(found.cross_fitted.mean - validation.truth) == pytest.approx(
        np.sqrt(0.5), rel=0.05
    )


def test_no_blend_where_it_does_not_pay_or_is_not_wanted():
    found = tried(0.01, 0.05, common=1.0).decision(blending=True)
    assert found.blend.names == ("a",) and ", a blend " in found.blend.why
    assert found.blend.why.startswith("a: RMSE 1") and ", next b 1" in found.blend.why
    alone = tried(1.0, 1.1).decision(blending=False)
    assert alone.blend.names == ("a",) and "a blend" not in alone.blend.why
    assert tried(1.0).decision(blending=True).blend.why.endswith("on withheld clouds, the only one")


def test_the_score_of_a_choice_is_that_of_pixels_it_was_not_made_by():
    """Many methods of which none is good: the best of them looks better than it is."""
    rng = np.random.default_rng(2)
    n, methods = 60, 26
    truth, image = rng.normal(size=n), np.arange(n)
    letters = [f"m{k}" for k in range(methods)]
    ones = np.ones(n)
    estimates = {}
    for name in letters:
        mean = rng.normal(size=n)
        estimates[name] = WithheldEstimates(truth, mean, ones, image, 0 * image, *[ones] * 4)
    validation = CrossValidation.of(estimates, 1)
    found = validation.decision(blending=False)
    assert validation.loss(found.cross_fitted.mean) > 1.1 * validation.loss(validation.mean).min()


def test_what_is_not_filled_counts_as_filled_with_the_mean():
    validation = tried(1.0, 0.5)
    picky = validation.mean.copy()
    picky[100:, 1] = np.nan
    part = CrossValidation(
        **{**{f: getattr(validation, f) for f in validation.__dataclass_fields__}, "mean": picky}
    )
    assert part.loss(picky)[1] == pytest.approx(np.sqrt(2900 / 3000), rel=0.05)
    assert part.decision(blending=True).blend.names == ("a",)
    assert part.rmse()[1][0] == pytest.approx(0.5, rel=0.2)


def test_stated_errors_are_scaled_by_variable():
    validation = tried(1.0, layers=2)
    sigma = np.where(validation.layer[:, np.newaxis] == 1, 4.0, 0.5)
    found = CrossValidation(
        **{**{f: getattr(validation, f) for f in validation.__dataclass_fields__}, "sigma": sigma}
    ).fit_best(slice(None))
    np.testing.assert_allclose(found.scale[:, 0], [2.0, 0.25], rtol=0.1)
    assert "RMSE over standard deviation 0.2" in validation.decision(blending=True).blend.why


def test_one_image_is_split_in_space():
    half = tried(1.0, images=1).half
    assert half[:1500].all() and not half[1500:].any()
    assert tried(1.0, n=1).decision(blending=True).blend.names == ("a",)


def test_a_blend_is_worse_than_the_best_by_noise_at_most():
    rng = np.random.default_rng(3)
    for seed in range(12):
        validation = tried(
            *rng.uniform(0.5, 1.5, 4), n=600, images=12, seed=seed, common=rng.uniform(0, 2)
        )
        cross_fitted = validation.decision(blending=True).cross_fitted
        assert validation.loss(cross_fitted.mean) < 1.03 * validation.loss(validation.mean).min(), (
            seed
        )


def test_one_is_behind_if_it_is_clearly_worse_and_no_use_in_a_blend():
    assert tried(0.2, 1.0, common=1.0).is_behind("b")  # their errors are alike
    assert not tried(0.2, 1.0, common=1.0).is_behind("a")
    assert not tried(1.0, 1.5).is_behind("b")  # worse, but errors of its own improve a blend
    assert not tried(1.0, 1.0, common=1.0).is_behind("b")  # no worse than chance would have it


def test_differences_between_a_few_images_prove_nothing():
    assert tried(0.2, 5.0, images=4).is_behind("b")
    assert not tried(0.2, 5.0, images=3).is_behind("b")


def test_a_sparing_blend_leaves_out_what_adds_little():
    validation = tried(1.0, 1.0, 3.0)  # the third improves the blend by 3 %
    everything = validation.decision(blending=True)
    assert set(everything.blend.names) == set("abc")
    assert set(validation.decision(blending=True, sparing=True, gain=0.05).blend.names) == set("ab")
    needed = validation.decision(blending=True, sparing=True, gain=0.001)
    assert set(needed.blend.names) == set("abc")
    np.testing.assert_array_equal(needed.cross_fitted.mean, everything.cross_fitted.mean)


def test_gain_is_asked_of_a_blend():
    blend = tried(1.0, 1.0).decision(blending=True, gain=0.5).blend
    assert len(blend.names) == 1


def test_pixels_that_weigh_more_decide():
    """The one method is good in half of the pixels, the other in the other half."""
    validation = tried(1.0, 1.0)
    here = np.arange(3000) < 1500
    mean = validation.truth[:, np.newaxis] + np.stack([here * 1.0, ~here * 1.1], 1)
    for heavy, best in ((here, "b"), (~here, "a")):
        weighted = replace(validation, mean=mean, weight=np.where(heavy, 1.9, 0.1))
        assert weighted.decision(blending=False).blend.names == (best,)
        assert min(weighted.rmse()) == weighted.rmse()["ab".index(best)]
