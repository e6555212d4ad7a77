# SPDX-License-Identifier: Apache-2.0
"""Withheld clouds judge a method fairly: deterministic, per variable, calibrated, and never the
reason of a failure.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import ClassVar

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import InputError, OptionError, SstfillError
from sstfill.fields import gaps
from sstfill.fields.reading.sea import sea_mask
from sstfill.methods import Climatology
from sstfill.validation.withheld import withheld_score
from sstfill.validation.withholding.runs import withheld_runs

pytestmark = pytest.mark.usefixtures("clouds_chosen_well")


def cloudy(
    steps: int = 20, ny: int = 8, nx: int = 9, seed: int = 0, dtype: str = "f4"
) -> xr.DataArray:
    """Noise of standard deviation 2 about 15 under bands of cloud."""
    rng = np.random.default_rng(seed)
    values = 15 + 2 * rng.standard_normal((steps, ny, nx))
    values[
        np.abs(np.arange(nx) - rng.integers(nx, size=(steps, 1, 1))) * np.ones((steps, ny, 1)) < 2
    ] = np.nan
    coords = {
        "time": pd.date_range("2020-01-01", periods=steps),
        "lat": np.arange(ny) * 1.0,
        "lon": np.arange(nx) * 1.0,
    }
    return xr.DataArray(values.astype(dtype), coords, ("time", "lat", "lon"), name="sst")


def all_sea(obs: xr.DataArray) -> xr.DataArray:
    return sea_mask(obs)


def together(*fields: xr.DataArray) -> xr.DataArray:
    names = [f"v{i}" for i in range(len(fields))]
    return xr.concat(fields, xr.Variable("variable", names), join="override").rename("several")


@dataclass(frozen=True, kw_only=True)
class Spy:
    """Knows the truth, and misses it by as much as it is told; records what it was given."""

    name: ClassVar[str] = "spy"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1

    truth: xr.DataArray | None = None
    miss: float = 0.0
    error: float | None = 1.0
    lazy: bool = False
    fails: bool = False
    seen: list[xr.DataArray] = field(default_factory=list)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        self.seen.append(obs)
        if self.fails:
            raise InputError("the spy will not")
        noise = np.random.default_rng(0).standard_normal(obs.shape)
        mean = (15.0 if self.truth is None else self.truth) + self.miss * xr.DataArray(
            noise, dims=obs.dims
        )
        found = xr.Dataset({"mean": mean.transpose(*obs.dims)})
        if self.error is not None:
            found["error"] = xr.full_like(found["mean"], self.error)
        return found.chunk(time=3) if self.lazy else found


def test_hides_what_was_observed_and_nothing_else():
    obs, spy = cloudy(), Spy()
    (found,) = withheld_score(spy, obs, all_sea(obs), 0).values()
    hidden = obs.notnull() & spy.seen[0].isnull()
    assert (
        found.summary["n"]
        == int(hidden.sum())
        == pytest.approx(0.1 * int(obs.notnull().sum()), abs=1)
    )
    # Not the pixels that a score with this seed hides.
    own = gaps.derived_seed(0, 2)
    np.testing.assert_array_equal(hidden, withheld_runs(obs, all_sea(obs), fraction=0.1, seed=own))
    weight = found.estimates.weight
    error = 15 - obs.values[hidden.values]
    assert weight.mean() == pytest.approx(1) and weight.std() > 0
    assert found.rmse == pytest.approx(np.sqrt(np.average(error**2, weights=weight)), rel=1e-6)
    assert found.summary["bias"] == pytest.approx(np.average(error, weights=weight), rel=1e-5)
    std = np.sqrt(np.average(error**2, weights=weight) - np.average(error, weights=weight) ** 2)
    assert found.summary["std"] == pytest.approx(std, rel=1e-5)
    assert 0 < found.summary["resemblance"]["overlap"] <= 1


@dataclass(frozen=True, kw_only=True)
class CheapSpy(Spy):
    """Asks for three trials; refuses from one of them on."""

    trials: ClassVar[int] = 3

    refuses_from: int = 99
    refusal: type[SstfillError] = InputError

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        if len(self.seen) >= self.refuses_from:
            raise self.refusal("the spy has seen enough")
        return super().reconstruct(obs, sea)


def test_a_cheap_method_is_scored_on_several_choices_of_withheld_runs():
    obs, spy, once = cloudy(), CheapSpy(), Spy()
    (found,) = withheld_score(spy, obs, all_sea(obs), 0).values()
    (first,) = withheld_score(once, obs, all_sea(obs), 0).values()
    hidden = [obs.notnull() & seen.isnull() for seen in spy.seen]
    assert len(hidden) == found.summary["trials"] == 3
    assert "trials" not in first.summary
    xr.testing.assert_identical(spy.seen[0], once.seen[0])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = int((hidden[one] & hidden[other]).sum())
        assert both < 0.5 * int(hidden[one].sum()), "two trials hide the same"
    assert found.summary["n"] == sum(int(mask.sum()) for mask in hidden)
    assert found.estimates.truth[: first.summary["n"]].tolist() == first.estimates.truth.tolist()
    error, weight = 15 - found.estimates.truth, found.estimates.weight
    assert found.rmse == pytest.approx(np.sqrt(np.average(error**2, weights=weight)), rel=1e-6)


@pytest.mark.parametrize("refusal", [InputError, OptionError])
def test_a_refusal_leaves_the_trials_before(refusal):
    obs = cloudy()
    spy = CheapSpy(refuses_from=2, refusal=refusal)
    (found,) = withheld_score(spy, obs, all_sea(obs), 0).values()
    assert found.summary["trials"] == 2
    assert not withheld_score(CheapSpy(refuses_from=0, refusal=refusal), obs, all_sea(obs), 0)


def test_a_long_series_has_one_trial_and_so_has_one_of_a_single_image(monkeypatch):
    obs, spy = cloudy(), CheapSpy()
    (found,) = withheld_score(spy, obs[:1], all_sea(obs), 0).values()
    assert len(spy.seen) == 1 and "trials" not in found.summary
    monkeypatch.setattr("sstfill.validation.withheld.TRIALS_VALUES", obs.size)
    spy = CheapSpy()
    withheld_score(spy, obs, all_sea(obs), 0)
    assert len(spy.seen) == 1


def test_scales_from_several_trials_differ_less_from_seed_to_seed():
    """Errors of one variance for each image: which images are hidden decides on the scale."""
    obs = cloudy(steps=24, seed=5)
    size = np.exp(np.random.default_rng(2).normal(0, 1, 24))
    far = xr.DataArray(size, dims="time") * xr.full_like(obs, 1.0)
    spies = Spy(truth=obs.fillna(0) + far), CheapSpy(truth=obs.fillna(0) + far)
    spread = []
    for spy in spies:
        scales = [
            withheld_score(spy, obs, all_sea(obs), seed)["sst"].sigma_scale for seed in range(8)
        ]
        spread.append(np.log(scales).std())
    assert spread[1] < 0.9 * spread[0]


@pytest.mark.parametrize("chunks", [None, {"time": 3}, {"time": 7, "lat": 3, "lon": 4}])
def test_equal_seeds_give_equal_scores(chunks):
    obs = cloudy() if chunks is None else cloudy().chunk(chunks)
    first = withheld_score(Climatology(), cloudy(), all_sea(cloudy()), 3)["sst"]
    second = withheld_score(Climatology(), obs, all_sea(cloudy()), 3)["sst"]
    if chunks is None:
        assert second == first
    for key in ("n", "rmse", "bias", "correlation", "std", "sigma_scale"):
        assert second.summary[key] == pytest.approx(first.summary[key], rel=1e-4), key
    assert second.summary["coverage"] == pytest.approx(first.summary["coverage"], abs=0.02)
    assert withheld_score(Climatology(), cloudy(), all_sea(cloudy()), 4)["sst"].rmse != first.rmse


@given(
    miss=st.sampled_from([0.0, 1e-30, 0.3, 5.0]),
    error=st.sampled_from([0.0, 1e-300, 1e-20, 0.5, 1e20]),
    seed=st.integers(0, 5),
)
@settings(max_examples=25, deadline=None)
def test_scores_are_finite_whatever_the_error_claims(miss, error, seed):
    obs = cloudy(seed=seed, dtype="f8")
    found = withheld_score(
        Spy(truth=cloudy(seed=seed, dtype="f8").fillna(0), miss=miss, error=error),
        obs,
        all_sea(obs),
        seed,
    )["sst"]
    assert 1e-6 <= found.sigma_scale <= 1e6 and found.summary["sigma_scale"] == found.sigma_scale
    assert set(found.summary["coverage"]) == {"0.5", "0.8", "0.9", "0.95"}
    assert all(0 <= fraction <= 1 for fraction in found.summary["coverage"].values())
    assert np.isfinite(found.rmse) and np.isfinite(found.loss)


def test_scale_makes_the_error_hold():
    truth = cloudy(60, dtype="f8").fillna(15.0)
    obs = cloudy(60, dtype="f8")
    found = withheld_score(Spy(truth=truth, miss=3.0, error=0.5), obs, all_sea(obs), 0)["sst"]
    assert found.sigma_scale == pytest.approx(6.0, rel=0.1)
    for level, fraction in found.summary["coverage"].items():
        assert fraction == pytest.approx(float(level), abs=0.05)


def test_no_scale_mends_an_error_of_zero():
    obs = cloudy()
    sure = withheld_score(Spy(error=0.0), obs, all_sea(obs), 0)["sst"]
    assert sure.sigma_scale == 1.0 and set(sure.summary["coverage"].values()) == {0.0}
    right = withheld_score(Spy(truth=obs.fillna(0), error=0.0), obs, all_sea(obs), 0)["sst"]
    assert set(right.summary["coverage"].values()) == {1.0}


def test_a_method_without_an_error_or_an_estimate():
    obs = cloudy()
    plain = withheld_score(Spy(error=None), obs, all_sea(obs), 0)["sst"]
    assert (
        plain.sigma_scale == 1.0
        and "coverage" not in plain.summary
        and plain.summary["filled_fraction"] == 1
    )
    silent = withheld_score(Spy(truth=obs * np.nan), obs, all_sea(obs), 0)["sst"]
    assert (
        np.isnan(silent.rmse) and np.isnan(silent.loss) and silent.summary["filled_fraction"] == 0
    )
    half = withheld_score(
        Spy(truth=xr.full_like(obs, 15.0).where(obs.lat > 3)), obs, all_sea(obs), 0
    )["sst"]
    assert 0 < half.summary["filled_fraction"] < 1 and half.summary["n"] == plain.summary["n"]


def test_a_lazy_estimate_of_eager_data():
    obs = cloudy()
    lazy, eager = (
        withheld_score(Spy(lazy=lazy), obs, all_sea(obs), 0)["sst"] for lazy in (True, False)
    )
    assert lazy.summary == eager.summary


def test_each_variable_has_its_own_score():
    a, b = cloudy(seed=1), cloudy(seed=2) * 1000
    both = together(a, b, a.fillna(15.0))
    found = withheld_score(Climatology(), both, all_sea(both), 0)
    assert list(found) == ["v0", "v1"]  # the third has no clouds of its own
    assert found["v1"].rmse > 300 * found["v0"].rmse and found["v1"].loss == pytest.approx(
        found["v0"].loss, rel=0.3
    )
    lazy = both.copy(data=dask.array.from_array(both.values, chunks=(1, 6, 5, 4)))
    again = withheld_score(Climatology(), lazy, all_sea(both), 0)
    assert [h.rmse for h in again.values()] == pytest.approx(
        [h.rmse for h in found.values()], rel=1e-4
    )


@pytest.mark.parametrize(
    ("stated", "level"), [(0.5, 2.0), (1.0, 1.0), (1e-9, 3.0), (1e9, 1 / 3), (np.nan, None)]
)
def test_scale_takes_back_the_level_of_what_a_fill_states(stated, level):
    obs = cloudy()
    found = withheld_score(Spy(error=1.0), obs, all_sea(obs), 0)["sst"]
    odds = found.gaps.odds
    other = found.at_level(np.full(odds.size, stated), odds)
    if level is None:
        assert other is found
        return
    np.testing.assert_allclose(other.scale.factor, level * found.scale.factor)
    assert other.summary["level"] == pytest.approx(level)
    assert other.sigma_scale == pytest.approx(level * found.sigma_scale)


def test_pixels_unlike_all_gaps_tell_no_level():
    """As where whole images are missing: errors of the method are larger there, and rightly so."""
    obs = cloudy()
    found = withheld_score(Spy(error=1.0), obs, all_sea(obs), 0)["sst"]
    apart = np.full(found.gaps.odds.size, 1000.0)
    assert found.at_level(np.full(apart.size, 2.0), apart) is found


def test_errors_of_few_images_tell_no_level():
    obs = cloudy(ny=20, nx=30)[:1]
    found = withheld_score(Spy(error=1.0), obs, all_sea(obs.fillna(1.0)), 0)["sst"]
    assert found.at_level(np.full(found.gaps.odds.size, 0.5), found.gaps.odds) is found


@pytest.mark.parametrize("case", ["no gaps", "one pixel"])
def test_what_cannot_be_scored_is_said_in_the_log(case, caplog):
    obs = cloudy().fillna(15.0)
    if case == "one pixel":
        obs = obs.where((obs.lat == 3) & (obs.lon == 3))
    with caplog.at_level(logging.WARNING):
        assert withheld_score(Spy(), obs, xr.ones_like(obs[0], dtype=bool), 0) == {}
    assert "no withheld-cloud score: " in caplog.text


def test_a_single_image_is_scored_on_parts_of_it():
    obs = cloudy(ny=20, nx=30)[:1]
    found = withheld_score(Spy(), obs, all_sea(obs.fillna(1.0)), 0)["sst"]
    assert found.summary["n"] == pytest.approx(0.1 * float(obs.notnull().sum()), abs=2)
    assert found.summary["resemblance"]["gaps"]["lag_days"] is None


def test_a_method_that_refuses_the_holdout_is_named_with_its_reason(caplog):
    """Not as a series without clouds: the reason is the method's own."""
    obs = cloudy()
    with caplog.at_level(logging.WARNING):
        assert withheld_score(Spy(fails=True), obs, all_sea(obs), 0) == {}
    assert "no withheld-cloud score" not in caplog.text
    assert "spy has no score and its error is not calibrated" in caplog.text
    assert caplog.text.rstrip().endswith("with clouds withheld: the spy will not")
