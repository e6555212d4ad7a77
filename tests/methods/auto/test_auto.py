# SPDX-License-Identifier: Apache-2.0
"""Auto: what it tries, chooses and says of it, within its budget, and never much worse than the
best single method.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

from sstfill import Auto, fill
from sstfill.errors import InputError, OptionError
from sstfill.fields import gaps
from sstfill.methods import METHODS, Interpolate
from sstfill.methods.auto import choice, method
from sstfill.methods.registry import affordable
from sstfill.synthetic import ocean
from sstfill.validation.distances import distance_to_data

NOISE = 0.1  # of the observations, by which withheld pixels differ from the truth
CHEAP = ("climatology", "interpolate", "bayes_eof")


@cache
def sea_surface(seed: int = 4) -> xr.Dataset:
    return ocean(shape=(24, 20, 22), step="1D", seed=seed)


def truth() -> xr.DataArray:
    return sea_surface().truth.rename("sst")


def account(filled: xr.Dataset, key: str = "diagnostics", name: str = "sst") -> dict:
    return json.loads(filled[name].attrs["sstfill_method"])[key]


def score(filled: xr.Dataset, name: str = "sst") -> dict:
    return json.loads(filled[name].attrs["sstfill_score"])


class Clock:
    """Time that passes only when a method works."""

    now = 0.0

    def __call__(self) -> float:
        return Clock.now


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """Knows the truth, and misses it by noise of its own; takes its time."""

    name: ClassVar[str] = "oracle"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1
    cost: ClassVar[float] = 1.0
    miss: ClassVar[float] = 0.1
    noise: ClassVar[int] = 0
    trouble: ClassVar[str] = ""
    calls: ClassVar[list[str]] = []

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        Clock.now += self.cost
        Oracle.calls.append(self.name)
        if self.trouble == "fails":
            raise InputError(f"{self.name} will not")
        noise = np.random.default_rng(self.noise).standard_normal(truth().shape)
        known = (truth() + self.miss * noise).sel(lat=obs.lat, lon=obs.lon)
        mean = known.broadcast_like(obs).transpose(*obs.dims)
        mean = mean * np.nan if self.trouble == "silent" else mean
        mean = mean.where(mean.lat > mean.lat.mean()) if self.trouble == "half" else mean
        found = xr.Dataset({"mean": mean}, attrs={"effort": self.cost})
        return (
            found
            if self.trouble == "no error"
            else found.assign(error=xr.full_like(mean, self.miss, dtype="f4"))
        )


@pytest.fixture
def only(monkeypatch):
    """Register some oracles instead of the methods, and stop the clock: name, and what differs from
    the `Oracle`.
    """

    def register(**methods: dict) -> None:
        for name in [n for n in METHODS if n != "auto"]:
            monkeypatch.delitem(METHODS, name)
        for number, (name, how) in enumerate(methods.items()):
            cls = type(name, (Oracle,), {"name": name, "noise": number, **how})
            monkeypatch.setitem(METHODS, name, cls)
        monkeypatch.setattr(Clock, "now", 0.0)
        monkeypatch.setattr(choice, "clock", Clock())
        monkeypatch.setattr(method, "clock", Clock())
        Oracle.calls.clear()

    return register


def run(**options: object) -> xr.Dataset:
    return fill(sea_surface(), Auto(**options), variables="sst")


# --- what is chosen


def test_the_best_fills_where_blending_is_off(only):
    only(poor={"miss": 1.0}, good={"miss": 0.1}, fair={"miss": 0.2})
    out = run(blend=False)
    assert account(out)["chosen"] == ["good"] and account(out)["why"].startswith("good: RMSE 0.1")
    assert Oracle.calls == [
        "poor",
        "good",
        "fair",
        "good",
    ]  # each once under withheld clouds, the chosen once more
    expected = {
        name: np.hypot(miss, NOISE)
        for name, miss in {"poor": 1.0, "good": 0.1, "fair": 0.2}.items()
    }
    assert account(out)["rmse"] == pytest.approx(expected, rel=0.1)
    assert account(out)["diagnostics"] == {"good": {"effort": 1.0}} and "weights" not in account(
        out
    )


def test_equals_are_blended_and_the_record_tells_it(only):
    only(one={"miss": 0.3}, other={"miss": 0.3}, poor={"miss": 5.0})
    out = run()
    assert account(out)["chosen"] == ["one", "other"] and account(out, "name") == "auto"
    assert account(out)["why"].startswith("blend of one and other: RMSE 0.2")
    gap = (out.sst_source == 1).values
    error = (out.sst - truth()).values[gap]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    assert score(out)["rmse"] == pytest.approx(np.hypot(0.3 / np.sqrt(2), NOISE), rel=0.1)
    tables = account(out)["weights"]
    shape = len(tables["distance"]), len(tables["lag_days"])
    assert {np.shape(tables[n]) for n in ("one", "other")} == {shape}
    np.testing.assert_allclose(np.add(tables["one"], tables["other"]), 1, atol=2e-3)
    assert "sst filled by auto (one + other)" in out.attrs["history"]
    inside = np.mean(np.abs(error) <= 1.96 * out.sst_error.values[gap])
    assert 0.9 < inside < 0.99 and score(out)["coverage"]["0.95"] == pytest.approx(0.95, abs=0.04)


def test_one_that_does_not_fill_everywhere_leaves_its_weight_to_the_other(only):
    only(one={"miss": 0.3}, half={"miss": 0.02, "trouble": "half"})
    out = run()
    assert (out.sst_source != 2).all() and account(out)["chosen"] == ["one", "half"]


@pytest.mark.parametrize(
    ("trouble", "reason"), [("fails", "broken will not"), ("silent", "filled no withheld pixel")]
)
def test_a_method_that_cannot_is_passed_over(only, trouble, reason):
    only(broken={"trouble": trouble}, good={})
    out = run()
    assert account(out)["chosen"] == ["good"] and account(out)["skipped"] == {"broken": reason}
    only(broken={"trouble": trouble})
    with pytest.raises(
        InputError, match="no method could be tried on withheld clouds; name one, such as method="
    ):
        run()


def test_without_stated_errors_there_is_none(only):
    only(one={"trouble": "no error"}, other={"trouble": "no error"})
    out = run()
    assert (
        "sst_error" not in out and len(account(out)["chosen"]) == 2 and "coverage" not in score(out)
    )
    only(one={"trouble": "no error", "miss": 0.3}, other={"miss": 0.3})
    out = run()
    assert (
        len(account(out)["chosen"]) == 2
        and (out.sst_error.where(out.sst_source == 1) > 0).sum() > 0
    )


def test_the_error_is_scaled_once(only, caplog):
    """A method that states a tenth of its error: its scale and that of the score make up for it
    together.
    """
    claims = {"reconstruct": lambda self, obs, sea: _humbled(Oracle.reconstruct(self, obs, sea))}
    only(bold=claims)
    out = run()
    error = out.sst_error.where(out.sst_source == 1)
    assert float(error.mean()) == pytest.approx(np.hypot(0.1, NOISE), rel=0.1)
    assert score(out)["sigma_scale"] == pytest.approx(1, abs=0.1)
    assert account(out)["error_scale"]["bold"] == [
        pytest.approx(10 * np.hypot(1, NOISE / 0.1), rel=0.1)
    ]
    assert "the error that bold states had to be scaled by" in caplog.text


def _humbled(found: xr.Dataset) -> xr.Dataset:
    return found.assign(error=found["error"] / 10)


# --- the race


@pytest.mark.parametrize(("miss", "calls"), [(5.0, ["slow"]), (0.1, ["slow", "slow", "slow"])])
def test_a_costly_method_is_tried_on_a_part_first(only, monkeypatch, miss, calls):
    only(climatology={"miss": 0.1}, slow={"miss": miss})
    monkeypatch.setattr(choice, "PART", truth().size // 4)
    record = account(run())
    assert [name for name in Oracle.calls if name == "slow"] == calls
    if miss > 1:
        assert record["skipped"]["slow"].startswith("clearly behind on a part of the area: ")
        assert record["chosen"] == ["climatology"]
    else:
        assert record["chosen"] == ["climatology", "slow"] and "skipped" not in record


def test_a_method_that_refuses_the_part_is_tried_on_the_whole(only, monkeypatch):
    def picky(self, obs, sea):
        if obs.size < truth().size:
            raise InputError("too few")
        return Oracle.reconstruct(self, obs, sea)

    only(climatology={"miss": 0.5}, picky={"reconstruct": picky, "miss": 0.01})
    monkeypatch.setattr(choice, "PART", truth().size // 4)
    assert account(run())["chosen"] == ["picky"]


# --- the budget


def test_none_is_started_for_which_there_is_no_time(only):
    only(
        interpolate={"cost": 10.0, "miss": 0.2},
        climatology={"cost": 1.0, "miss": 9.0},
        dineof={"cost": 50.0},
    )
    out = run(budget=25.0)
    assert Oracle.calls == [
        "climatology",
        "interpolate",
        "interpolate",
    ]  # the cheap first; then 14 s are left
    assert account(out)["seconds"] == {"climatology": 1.0, "interpolate": 10.0}
    assert (
        list(account(out)["skipped"]) == ["dineof"]
        and "of the budget left" in account(out)["skipped"]["dineof"]
    )
    assert Clock.now <= 25


def test_one_is_tried_however_small_the_budget(only):
    only(climatology={"cost": 5.0}, interpolate={})
    assert account(run(budget=1e-3))["chosen"] == ["climatology"]
    assert Oracle.calls == ["climatology", "climatology"]


def test_what_proved_too_dear_does_not_fill(only):
    only(climatology={"cost": 1.0, "miss": 0.5}, dineof={"cost": 60.0, "miss": 0.01})
    out = run(budget=100.0)
    assert (
        account(out)["chosen"] == ["climatology"]
        and "filling by it takes 60 s" in account(out)["skipped"]["dineof"]
    )
    assert set(account(out)["rmse"]) == {"climatology", "dineof"} and Clock.now == 62
    only(climatology={"cost": 1.0, "miss": 0.01}, dineof={"cost": 60.0, "miss": 0.5})
    out = run(budget=10.0)
    assert account(out)["chosen"] == ["climatology"] and "skipped" not in account(
        out
    )  # the cheapest, so be it


def test_without_a_budget_the_record_does_not_hang_on_the_clock(only):
    only(one={"miss": 0.3}, other={"miss": 0.3})
    first = account(run())
    only(one={"miss": 0.3, "cost": 1.0}, other={"miss": 0.3, "cost": 1.0})
    Clock.now = 1e6
    assert account(run()) == first and "seconds" not in first


# --- what it tries


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ()}, r"methods=\(\) must be names"),
        ({"methods": "dineof"}, "methods='dineof' must be names"),
        (
            {"methods": ("dinof",)},
            r"methods=\('dinof',\): no method to try 'dinof'; did you mean 'dineof'",
        ),
        ({"methods": ("auto",)}, "no method to try 'auto'"),
        ({"blend": "yes"}, "blend='yes' must be True or False"),
        ({"budget": 0}, "budget=0 must be a finite number"),
        ({"fraction": 1.0}, "fraction=1.0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(OptionError, match=message):
        Auto(**options)


def test_methods_may_be_a_list_and_are_tried_cheap_ones_first():
    assert Auto(methods=["dineof", "climatology", "dineof"]).methods == ("dineof", "climatology")
    assert [
        m.name for m in Auto(methods=("dineof", "climatology")).candidates(sea_surface().sst)
    ] == ["climatology", "dineof"]
    assert {m.name for m in Auto().candidates(sea_surface().sst)} == set(METHODS) - {"auto", "gan"}
    assert all(getattr(m, "seed", 7) == 7 for m in Auto(seed=7).candidates(sea_surface().sst))


def test_none_that_can_do_with_the_data():
    short = sea_surface().isel(time=slice(2))
    with pytest.raises(
        OptionError, match=r"methods=\('dineof',\): none can fill 2 time steps; name others"
    ):
        fill(short, Auto(methods=("dineof",)), variables="sst")


@pytest.mark.parametrize(("name", "anew"), [("climatology", True), ("bayes_eof", False)])
def test_the_level_is_told_of_methods_that_are_fitted_anew(name, anew):
    found = fill(sea_surface(), Auto(methods=(name,)), variables="sst")
    assert ("level" in json.loads(found.sst.attrs["sstfill_score"])) == anew


def one_pixel(field: xr.DataArray) -> xr.DataArray:
    """A series of which only one pixel is observed: nothing of it can be withheld."""
    return field.where((field.lat == field.lat[3]) & (field.lon == field.lon[3]))


def test_where_nothing_can_be_withheld_the_series_is_interpolated(caplog):
    ds = sea_surface()[["sst", "sea"]]
    ds = ds.assign(sst=one_pixel(ds.sst.fillna(15.0)))
    with caplog.at_level(logging.WARNING):
        out = fill(ds, Auto())
    assert "interpolate fills, since no method can be tried on withheld clouds: " in caplog.text
    assert account(out)["chosen"] == ["interpolate"]
    assert "since no method can be tried" in account(out)["why"]
    assert "sstfill_score" not in out.sst.attrs
    xr.testing.assert_equal(out.sst, fill(ds, Interpolate(), score=False).sst)


def test_methods_are_tried_on_parts_of_a_single_image():
    ds = sea_surface()[["sst", "sea"]].isel(time=[5])
    out = fill(ds, Auto(methods=("interpolate", "oi")))
    assert set(account(out)["rmse"]) == {"interpolate", "oi"}
    assert score(out)["n"] > 0


def test_several_variables_together():
    ds = sea_surface()[["sst", "sea"]].assign(warmer=100 * sea_surface().sst.shift(time=1))
    out = fill(
        ds,
        Auto(methods=("climatology", "dineof", "bayes_eof")),
        variables=["sst", "warmer"],
        together=True,
    )
    made = account(out)
    assert (
        set(made["chosen"]) <= {"climatology", "dineof", "bayes_eof"}
        and "over standard deviation" in made["why"]
    )
    assert made["rmse"]["dineof"]["warmer"] > 10 * made["rmse"]["dineof"]["sst"]
    assert score(out, "warmer")["rmse"] > 10 * score(out)["rmse"]
    for name in ("sst", "warmer"):
        assert (out[f"{name}_error"].where(out[f"{name}_source"] == 1, 1) > 0).all()
    whole = ds[["sst", "sea", "warmer"]].assign(
        sst=one_pixel(ds.sst.fillna(15.0)), warmer=one_pixel(ds.warmer.fillna(1.0))
    )
    with pytest.raises(InputError, match="name one, such as method='dineof'"):
        fill(whole, variables=["sst", "warmer"], together=True)


# --- how good it is


@pytest.mark.parametrize("seed", [1, 4])
def test_hardly_worse_than_the_best_single_method_by_the_truth(seed):
    ds = sea_surface(seed)
    gap = ds.sst.isnull().values & (ds.sea == 1).values

    def miss(method: object) -> float:
        return float(
            np.sqrt(
                np.mean(
                    (fill(ds, method, variables="sst", score=False).sst - ds.truth).values[gap] ** 2
                )
            )
        )

    assert miss(Auto(methods=CHEAP)) < 1.02 * min(map(miss, CHEAP))


def test_stated_errors_hold_on_clouds_it_never_saw():
    ds = sea_surface(1)
    hidden = gaps.transplant_clouds(ds.sst, ds.sea == 1, fraction=0.1, seed=9)
    out = fill(ds, Auto(methods=CHEAP), variables="sst", withheld=hidden)
    z = np.abs((out.sst - ds.sst).values[hidden.values]) / out.sst_error.values[hidden.values]
    assert 0.5 < np.mean(z < 1) < 0.85 and 0.87 < np.mean(z < 1.96) < 0.995


def test_reconstruct_carries_out_the_plan():
    ds = sea_surface()
    method, obs, sea = Auto(methods=CHEAP), ds.sst, ds.sea == 1
    plan = method.plan(obs, sea)
    xr.testing.assert_identical(method.reconstruct(obs, sea), plan.reconstruct(obs, sea))
    assert set(plan.scores) == {"sst"} and plan.choice.account["why"]
    found = fill(ds, method, variables="sst")
    gap = (found.sst_source == 1).values
    factor = plan.scores["sst"].scale.at(*(part.values for part in distance_to_data(obs)))
    expected = factor * plan.reconstruct(obs, sea).error.values
    np.testing.assert_allclose(found.sst_error.values[gap], expected[gap], rtol=1e-5)


def test_no_name_is_auto_with_the_seed_of_the_door():
    ds = ocean(shape=(8, 10, 12), step="1D", seed=4)
    by_default, named = fill(ds, variables="sst", seed=3), fill(ds, Auto(seed=3), variables="sst")
    xr.testing.assert_equal(by_default, named)
    assert by_default.sst.attrs == named.sst.attrs and account(named, "options")["seed"] == 3


def test_a_dear_method_is_left_out_of_large_series_unless_named(monkeypatch):
    obs = ocean(shape=(6, 12, 14), seed=1).sst
    monkeypatch.setattr(METHODS["patchmatch"], "largest", obs.size - 1)
    assert "patchmatch" not in affordable(obs) and "patchmatch" in affordable(obs[1:])
    tried = [m.name for m in Auto().candidates(obs)]
    assert "patchmatch" not in tried and "oi" in tried and "auto" not in tried
    assert [m.name for m in Auto(methods=("patchmatch",)).candidates(obs)] == ["patchmatch"]
