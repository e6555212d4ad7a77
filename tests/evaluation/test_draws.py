# SPDX-License-Identifier: Apache-2.0
"""Members in a scorecard: right where they are drawn as the truth is, told where they are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from drawn import MEMBERS, ensemble

from sstfill.errors import InputError, OptionError
from sstfill.evaluation import Scorecard, score, score_against
from sstfill.fields.error_distribution import ErrorDistribution
from sstfill.plot import scorecard

TRUTH, RIGHT, HIDDEN = ensemble()
CLOUDED = TRUTH.where(HIDDEN == 0)
FEW = 6
"""Images that will do where the numbers are of no matter."""


@pytest.fixture(scope="module")
def card() -> Scorecard:
    estimates = {
        "right": RIGHT,
        "narrow": ensemble(spread=0.5)[1],
        "uncorrelated": ensemble(scale=0.2)[1],
        "none drawn": RIGHT.drop_vars("members"),
    }
    return score_against(TRUTH, estimates, HIDDEN, obs=CLOUDED)


def test_layout(card):
    data = card.data
    assert data.sizes["rank"] == MEMBERS + 1
    assert data["patch_coverage"].dims == ("method", "patch", "level")
    assert data["power_ratio_draws"].dims == ("method", "wavelength")
    for name in ("crps_members", "energy", "rank_deviation", "rank_histogram", "patch_coverage"):
        assert data[name].sel({"method": "right"}).notnull().any(), name
        assert data[name].sel({"method": "none drawn"}).isnull().all(), name
    assert Scorecard.from_json(card.to_json()).data.equals(data)
    assert "CRPS of draws" in str(card) and "energy" in card.to_markdown()


def test_right_members_are_right_by_every_score(card):
    right = card.data.sel({"method": "right"})
    assert float(right["crps_members"]) == pytest.approx(float(right["crps"]), rel=0.03)
    assert float(right["rank_deviation"]) < 0.1
    shown = right["n_patches"] > 100
    coverage = right["patch_coverage"].where(shown)
    assert float(abs(coverage - coverage["level"]).max()) < 0.08
    alone = right["patch_coverage_independent"].where(shown)
    assert (alone.sel(patch=8) < 0.5 * alone["level"]).all()
    middle = (right["wavelength"] >= 4) & (right["wavelength"] <= 32)
    assert float(abs(right["power_ratio_draws"].where(middle)).max()) < 1
    assert float(right["power_ratio_mean"].where(middle).min()) < -10
    np.testing.assert_allclose(right["gradient_draws"], right["gradient_truth"], rtol=0.1)
    assert (right["gradient_mean"] < 0.9 * right["gradient_truth"]).all()


def test_wrong_members_are_told(card):
    narrow, white = (card.data.sel({"method": name}) for name in ("narrow", "uncorrelated"))
    right = card.data.sel({"method": "right"})
    for name in ("crps_members", "energy", "rank_deviation"):
        assert narrow[name] > right[name]
    assert (narrow["patch_coverage"].sel(level=0.8, patch=[2, 4, 8]) < 0.65).all()
    # ranks and CRPS of single pixels cannot tell that members are not correlated; means can
    assert white["rank_deviation"] < 0.1
    assert (white["patch_coverage"].sel(level=0.8, patch=[4, 8]) < 0.5).all()
    assert float(white["gradient_draws"][-1] / white["gradient_truth"][-1]) > 2


def test_no_spectrum_where_the_truth_has_gaps():
    truth, hidden = TRUTH[:FEW].copy(), HIDDEN[:FEW]
    truth[:, 0, 0] = np.nan
    right = RIGHT.isel(time=slice(FEW))
    found = score_against(truth, {"a": right}, hidden, obs=truth.where(hidden == 0)).data
    assert "power_ratio_mean" not in found
    assert found.attrs["spectrum"] == f"not known: the truth lacks {truth.sizes['time']} pixels"
    assert found["patch_coverage"].notnull().any()


def test_without_members_a_scorecard_is_as_it_was():
    plain = RIGHT.drop_vars("members").isel(time=slice(FEW))
    found = score_against(TRUTH[:FEW], {"a": plain}, HIDDEN[:FEW], obs=CLOUDED[:FEW]).data
    assert not {"rank", "patch", "wavelength"} & set(found.dims)


def test_members_by_the_name_of_the_field():
    right = RIGHT.isel(time=slice(FEW))
    filled = right.rename(mean="sst", error="sst_error", members="sst_members")
    found, expected = (
        score_against(TRUTH[:FEW], {"a": one}, HIDDEN[:FEW], obs=CLOUDED[:FEW])
        for one in (filled, right)
    )
    assert found.data.identical(expected.data)


def test_members_that_do_not_compare():
    few = RIGHT.isel(member=slice(5))
    with pytest.raises(InputError, match="'b': 5} members; give equally many"):
        score_against(TRUTH, {"a": RIGHT, "b": few}, HIDDEN, obs=CLOUDED)
    with pytest.raises(OptionError, match="one member tells nothing of a spread"):
        score_against(TRUTH, {"a": RIGHT.isel(member=[0])}, HIDDEN, obs=CLOUDED)


@dataclass(frozen=True, kw_only=True)
class Steady:
    """Estimates the mean of all."""

    name: ClassVar[str] = "steady"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        return xr.Dataset(
            {
                "mean": xr.full_like(obs, float(obs.mean())),
                "error": xr.full_like(obs, float(obs.std())),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Random(Steady):
    """Draws white noise about the mean of all."""

    name: ClassVar[str] = "random"

    def simulate(self, obs: xr.DataArray, sea: xr.DataArray, members: int) -> xr.Dataset:
        found = self.reconstruct(obs, sea)
        noise = np.random.default_rng(0).normal(size=(members, *obs.shape))
        drawn = found["mean"] + found["error"] * xr.DataArray(noise, dims=("member", *obs.dims))
        return found.assign(members=drawn.transpose("member", *obs.dims).astype(obs.dtype))


def test_score_draws_of_each_method_that_can():
    obs = CLOUDED[:12].copy()
    found = score(obs, [Steady(), Random()], members=6, repeats=2, calibrate=False)
    drawn = found.data["crps_members"]
    assert drawn.sel({"method": "steady"}).isnull() and drawn.sel({"method": "random"}).notnull()
    assert found.data.sizes["rank"] == 7
    assert int(found.data["n_patches"].sel({"method": "random", "patch": 2})) > 50
    plain = score(obs, [Steady(), Random()], repeats=2, calibrate=False)
    np.testing.assert_array_equal(plain.data["rmse"], found.data["rmse"])
    assert "crps_members" not in plain.data


@pytest.mark.parametrize("members", [-1, 1, 2.5])
def test_bad_numbers_of_members(members):
    with pytest.raises(OptionError, match="members="):
        score(CLOUDED, [Steady()], members=members)


def test_figure_has_four_panels_more(card):
    titles = [ax.get_title(loc="left") for ax in scorecard(card).axes]
    assert titles[5:] == [
        "ranks of the truth",
        "means over patches",
        "gradients",
        "power by wavelength",
    ]
    gappy = card.data.drop_vars(["power_ratio_mean", "power_ratio_draws"])
    assert "no spectrum" in scorecard(gappy).axes[-1].texts[0].get_text()


def test_coverage_is_that_of_the_stated_distribution():
    """The same error, stated to have heavy tails, has a narrower 50 % interval."""
    gaussian = RIGHT.drop_vars("members")
    heavy = gaussian.copy()
    heavy["error"] = heavy["error"].assign_attrs(ErrorDistribution(3.0).attrs())
    data = score_against(TRUTH, {"gaussian": gaussian, "heavy": heavy}, HIDDEN, obs=CLOUDED).data
    held = data["coverage"].sel({"method": "heavy"}) - data["coverage"].sel({"method": "gaussian"})
    assert float(held.sel(level=0.5)) < -0.1
    assert float(data["crps"].sel({"method": "heavy"})) > float(
        data["crps"].sel({"method": "gaussian"})
    )
