# SPDX-License-Identifier: Apache-2.0
"""Scorecards: every method is asked for the same withheld pixels; the better one comes first."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

from sstfill.errors import InputError, OptionError
from sstfill.evaluation import Scorecard, score, score_against
from sstfill.fields.gaps import transplant_clouds
from sstfill.fields.reading.dates import days_since_first
from sstfill.fill import fill
from sstfill.methods import METHODS as REGISTERED
from sstfill.methods.auto.method import Auto
from sstfill.validation.withholding.runs import withheld_runs

BINS = {"cloud": 4, "distance": 5, "lag": 4}
ASKED: list[xr.DataArray] = []  # what the spies were shown


def truth_field() -> xr.DataArray:
    rng = np.random.default_rng(0)
    coords = {
        "time": np.datetime64("2020-06-01", "ns") + np.arange(20) * np.timedelta64(1, "D"),
        "lat": np.linspace(36, 37, 16),
        "lon": np.linspace(-3, -1.8, 18),
    }
    values = 20 + 5 * gaussian_filter(rng.normal(size=(20, 16, 18)), (2, 2, 2))
    return xr.DataArray(
        values, coords, ("time", "lat", "lon"), name="sst", attrs={"units": "degree_Celsius"}
    )


TRUTH = truth_field()
CLOUDS = xr.zeros_like(TRUTH, dtype=bool).copy(
    data=gaussian_filter(np.random.default_rng(1).normal(size=TRUTH.shape), (0, 2, 2)) < -0.03
)
OBS = TRUTH.where(~CLOUDS)
OBS.attrs = TRUTH.attrs
SEA = xr.ones_like(TRUTH[0], dtype=bool).drop_vars("time")


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """Knows the truth up to noise, states `claim` as its error, and leaves out what lies outside
    `columns`.
    """

    name: ClassVar[str] = "noisy"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1
    noise: float = 0.1
    claim: float | None = None
    columns: int = 18

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        ASKED.append(obs)
        noise = self.noise * np.random.default_rng(5).normal(size=obs.shape)
        mean = (
            (TRUTH + noise)
            .where(xr.DataArray(np.arange(18) < self.columns, dims="lon"))
            .transpose(*obs.dims)
        )
        found = xr.Dataset({"mean": mean})
        return found if self.claim is None else found.assign(error=xr.full_like(mean, self.claim))


@dataclass(frozen=True, kw_only=True)
class Steady:
    """Gives the mean image everywhere, whatever the dims are called."""

    name: ClassVar[str] = "steady"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        mean = obs.mean("time").fillna(obs.mean())
        return xr.Dataset({"mean": mean.broadcast_like(obs).transpose(*obs.dims)})


METHODS = {
    "poor": Noisy(noise=1.0),
    "good": Noisy(noise=0.1, claim=0.1),
    "partial": Noisy(noise=0.02, columns=9),
}


@pytest.fixture(scope="module")
def card() -> Scorecard:
    return score(OBS, METHODS, sea=SEA, seed=3, repeats=2, fraction=0.15)


def test_layout(card):
    data = card.data
    assert dict(data.sizes) == {"method": 3, "level": 5} | {f"{k}_bin": n for k, n in BINS.items()}
    assert data.method.values.tolist() == list(METHODS) and data.level.values.tolist() == [
        0.5,
        0.68,
        0.8,
        0.9,
        0.95,
    ]
    pooled = [
        "mae",
        "rmse",
        "bias",
        "correlation",
        "crps",
        "n",
        "filled_fraction",
        "seconds",
        "cpu_seconds",
        "common_rmse",
    ]
    assert all(data[name].dims == ("method",) for name in pooled)
    assert data.coverage.dims == ("method", "level")
    split = {
        f"{name}_by_{k}": ("method", f"{k}_bin")
        for name in ("mae", "rmse", "bias", "n")
        for k in BINS
    }
    assert {name: data[name].dims for name in split} == split
    assert set(data.data_vars) == {*pooled, "coverage", *split}
    expected = {
        "variable": "sst",
        "units": "degree_Celsius",
        "seed": 3,
        "repeats": 2,
        "clouds": "other dates",
    }
    assert expected.items() <= data.attrs.items()
    assert data.attrs["fraction"] == pytest.approx(0.15, abs=0.001)


def test_the_numbers_of_one_method_are_taken_by_its_name(card):
    assert card["good"].identical(card.data.loc[{"method": "good"}])
    with pytest.raises(OptionError, match="no method 'goood'; did you mean 'good'"):
        card["goood"]


def test_scores_are_those_of_the_noise(card):
    rmse, n = card.data.rmse, card.data.attrs["n_withheld"]
    assert rmse.loc[{"method": "good"}] == pytest.approx(0.1, rel=4 / np.sqrt(2 * n) + 0.02)
    assert rmse.loc[{"method": "poor"}] == pytest.approx(1.0, rel=4 / np.sqrt(2 * n) + 0.02)
    coverage = card.data.coverage.loc[{"method": "good"}]
    assert (abs(coverage - coverage.level) < 4 * 0.5 / np.sqrt(n) + 0.02).all()
    assert card.data.coverage.loc[{"method": "poor"}].isnull().all() and np.isnan(
        card.data.crps.loc[{"method": "poor"}]
    )


def test_partial_fill_is_told_and_compared_on_common_pixels(card):
    data = card.data
    assert data.filled_fraction.loc[{"method": ["poor", "good"]}].values.tolist() == [1.0, 1.0]
    assert 0 < data.filled_fraction.loc[{"method": "partial"}] < 1
    assert (
        int(data.n.loc[{"method": "partial"}]) == data.attrs["n_common"] < data.attrs["n_withheld"]
    )
    assert data.common_rmse.loc[{"method": "partial"}] == data.rmse.loc[{"method": "partial"}]
    assert data.common_rmse.loc[{"method": "poor"}] != data.rmse.loc[{"method": "poor"}]


def test_strata_add_up(card):
    data = card.data
    for stratum in BINS:
        n, rmse = data[f"n_by_{stratum}"], data[f"rmse_by_{stratum}"]
        assert n.sum(f"{stratum}_bin").equals(data.n)
        pooled = np.sqrt((n * rmse.fillna(0) ** 2).sum(f"{stratum}_bin") / data.n)
        np.testing.assert_allclose(pooled, data.rmse, rtol=1e-12)
        assert rmse.isnull().equals(n == 0)


def test_strata_by_hand():
    obs = xr.full_like(TRUTH, np.nan)
    obs[:6, :, :8] = TRUTH[:6, :, :8]  # 8 of 18 columns seen, in 6 images
    clouds = xr.zeros_like(obs, dtype=bool)[:1]
    clouds[:, :, 7] = True
    data = score(
        obs, {"a": Noisy()}, sea=SEA, clouds=clouds, fraction=16 / (6 * 16 * 8)
    ).data  # one column, one image
    assert data.attrs["n_withheld"] == 16 and data.attrs["clouds"] == "given"
    assert data.n_by_cloud.values.tolist() == [[0, 0, 16, 0]]  # 1 - 7/18
    assert data.n_by_distance.values.tolist() == [[16, 0, 0, 0, 0]]
    assert data.n_by_lag.values.tolist() == [[16, 0, 0, 0]]
    assert data.cloud_bin.values.tolist() == ["0-25 %", "25-50 %", "50-75 %", "75-100 %"]
    assert data.distance_bin.values[0].startswith("0-") and data.distance_bin.values[0].endswith(
        " km"
    )
    assert data.lag_bin.values.tolist() == [
        "0-1.5 days",
        "1.5-3.5 days",
        "3.5-7.5 days",
        ">7.5 days",
    ]


def test_every_method_is_shown_the_same_and_never_the_withheld():
    ASKED.clear()
    score(OBS, METHODS, sea=SEA, seed=3, calibrate=False)
    withheld = transplant_clouds(OBS, SEA, seed=3)
    assert len(ASKED) == 3 and all(shown.equals(ASKED[0]) for shown in ASKED)
    assert ASKED[0].isnull().equals(OBS.isnull() | withheld)


def test_the_better_method_ranks_first():
    card = score(OBS, {"poor": Noisy(noise=1.0), "good": Noisy(noise=0.1)}, sea=SEA)
    assert card.best == "good"
    assert str(card).index("good") < str(card).index("poor")
    assert card.to_markdown().index("good") < card.to_markdown().index("poor")


def test_leaving_out_hard_pixels_does_not_win():
    easy = xr.DataArray(np.where(np.arange(18) < 9, 0.1, 2.0), dims="lon")
    clear = xr.ones_like(TRUTH, dtype=bool)
    full, part = TRUTH + easy, (TRUTH + 0.2).where(easy < 1)
    estimates = {"full": full.to_dataset(name="mean"), "part": part.to_dataset(name="mean")}
    card = score_against(TRUTH, estimates, clear)
    assert float(card.data.rmse.loc[{"method": "part"}]) < float(
        card.data.rmse.loc[{"method": "full"}]
    )
    assert card.best == "full"


def test_a_method_that_fills_nothing_comes_last():
    estimates = {
        "none": (TRUTH * np.nan).to_dataset(name="mean"),
        "some": (TRUTH + 1).to_dataset(name="mean"),
    }
    card = score_against(TRUTH, estimates, TRUTH > 0)
    assert card.best == "some" and card.data.filled_fraction.values.tolist() == [0.0, 1.0]
    assert float(card.data.common_rmse.loc[{"method": "some"}]) == pytest.approx(1.0)


def test_deterministic_but_for_the_clock():
    first, again = (
        score(OBS, Noisy(), sea=SEA, seed=7).data.drop_vars(["seconds", "cpu_seconds"])
        for _ in range(2)
    )
    assert first.identical(again)


def test_lazy_data_score_the_same():
    eager, lazy = (
        score(obs, Noisy(), sea=SEA).data.drop_vars(["seconds", "cpu_seconds"])
        for obs in (OBS, OBS.chunk())
    )
    xr.testing.assert_allclose(eager, lazy)


@dataclass(frozen=True, kw_only=True)
class Patient(Noisy):
    name: ClassVar[str] = "patient"
    min_times: ClassVar[int] = 1000


@pytest.fixture
def registered(monkeypatch):
    for name in list(REGISTERED):
        monkeypatch.delitem(REGISTERED, name)
    monkeypatch.setitem(REGISTERED, "noisy", Noisy)
    monkeypatch.setitem(REGISTERED, "patient", Patient)


def test_methods_by_name_and_variable_of_a_dataset(registered):
    ds = xr.Dataset({"sst": OBS, "chlorophyll": OBS})
    data = score(ds, {"a": "noisy", "b": Noisy(noise=3.0)}, variable="chlorophyll").data
    assert data.method.values.tolist() == ["a", "b"] and data.attrs["variable"] == "chlorophyll"
    with pytest.raises(OptionError, match="did you mean 'noisy'"):
        score(OBS, ["noise"])


def test_all_registered_methods_that_can_do_with_so_few_images(registered):
    assert score(OBS).data.method.values.tolist() == ["noisy"]


def test_auto_is_scored_where_all_are_asked_for(registered, monkeypatch):
    monkeypatch.setitem(REGISTERED, "auto", Auto)
    assert score(OBS).data.method.values.tolist() == ["noisy"]
    data = score(OBS, "all").data
    assert data.method.values.tolist() == ["noisy", "auto"]
    assert data.rmse.values[1] == pytest.approx(
        data.rmse.values[0]
    )  # it has but that one to choose


def test_a_sea_mask_of_the_dataset_is_heeded():
    sea = SEA & (SEA.lon > -2.5)
    data = score(xr.Dataset({"sst": OBS, "sea_mask": sea.astype(np.int8)}), Noisy()).data
    assert data.attrs["n_withheld"] == round(0.1 * int((OBS.notnull() & sea).sum()))


def test_methods_of_one_name_need_labels():
    with pytest.raises(OptionError, match="label"):
        score(OBS, [Noisy(), Noisy(noise=2.0)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats"),
        ({"repeats": 1.5}, "repeats=1.5 must be a whole number"),
        ({"seed": -1}, "seed=-1 must be a whole number"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"fraction": 2}, "fraction"),
        ({"fraction": "0.1"}, "fraction"),
        ({"fraction": None}, "fraction"),
        ({"variable": "sea"}, "variable"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(OptionError, match=message):
        score(xr.Dataset({"sst": OBS}), Noisy(), **options)


def test_clouds_are_an_array_with_names():
    with pytest.raises(InputError, match="ndarray; give an xarray DataArray"):
        score(OBS, Noisy(), clouds=CLOUDS.values)
    clouds = CLOUDS.drop_vars(["lat", "lon"]).rename(lat="latitude", lon="longitude")
    named = OBS.rename(lat="latitude", lon="longitude")
    first, turned = (
        score(named, {"a": Steady()}, sea=SEA, clouds=c, calibrate=False).data.drop_vars(
            ["seconds", "cpu_seconds"]
        )
        for c in (clouds, clouds.astype("i1").transpose("longitude", "latitude", "time"))
    )
    assert first.identical(turned)


def test_clouds_of_runs_of_dates():
    card = score(OBS, {"a": Steady()}, sea=SEA, clouds="runs", seed=3, calibrate=False)
    hidden = withheld_runs(OBS, SEA, seed=3)
    mean = Steady().reconstruct(OBS.where(~hidden), SEA)["mean"]
    error = (mean - OBS).values[hidden.values]
    assert card.data.attrs["n_withheld"] == hidden.sum()
    assert card.data.attrs["clouds"] == "runs of other dates"
    assert "clouds of runs of other dates" in str(card)
    assert float(card.data.rmse[0]) == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    with pytest.raises(OptionError, match="clouds='days'; choose from dates, runs"):
        score(OBS, Noisy(), clouds="days")


def test_a_fill_is_no_truth():
    filled = fill(OBS, Noisy(), sea=SEA, score=False)
    alone = filled["sst"]
    with pytest.raises(InputError, match=r"'sst' was filled by sstfill.*pass the Dataset") as told:
        score(alone, Noisy(), sea=SEA)
    assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="was filled by sstfill"):
        score(alone.to_dataset(), Noisy(), sea=SEA)
    again, bare = (score(data, Noisy(), sea=SEA).data["n"].values for data in (filled, OBS))
    assert again.tolist() == bare.tolist()


def test_a_method_is_not_tuned_on_the_images_that_judge_it():
    ASKED.clear()
    score(OBS, Noisy(), sea=SEA, seed=3, fraction=0.15)
    judged, tuned = (
        seen.notnull() for seen in sorted(ASKED, key=lambda a: -int(a.notnull().sum()))
    )
    withheld = transplant_clouds(OBS, SEA, fraction=0.15, seed=3)
    assert judged.equals(OBS.notnull() & ~withheld)
    drawn, used = ((w.any(("lat", "lon"))).values for w in (judged & ~tuned, withheld))
    same = transplant_clouds(OBS.where(judged), SEA, seed=3).any(("lat", "lon")).values
    assert drawn.any() and (drawn & used).sum() < (same & used).sum()


@pytest.mark.parametrize("methods", [[], {}])
def test_no_methods(methods):
    with pytest.raises(OptionError, match="no method to score"):
        score(OBS, methods)


# --- score_against ---


def test_score_against_nothing():
    with pytest.raises(InputError, match="no estimate"):
        score_against(TRUTH, {}, TRUTH > 0)


def test_score_against_agrees_with_score():
    direct = score(OBS, {"a": Noisy(claim=0.1)}, sea=SEA, seed=2, calibrate=False).data
    withheld = transplant_clouds(OBS, SEA, seed=2)
    estimate = Noisy(claim=0.1).reconstruct(OBS, SEA)
    as_filled = estimate.rename(mean="sst", error="sst_error").transpose("lon", "time", "lat")
    for given in (estimate, as_filled):
        again = score_against(
            OBS, {"a": given}, withheld.transpose("lat", "time", "lon"), sea=SEA
        ).data
        xr.testing.assert_allclose(
            again.drop_vars(["seconds", "cpu_seconds"]),
            direct.drop_vars(["seconds", "cpu_seconds"]),
        )


@pytest.mark.parametrize(
    ("estimate", "where", "message"),
    [
        (TRUTH.to_dataset(name="other"), TRUTH > 0, "neither 'mean' nor 'sst'"),
        (TRUTH[:, :3].to_dataset(name="mean"), TRUTH > 0, "grid"),
        (TRUTH.to_dataset(name="mean"), TRUTH < 0, "no pixel"),
    ],
)
def test_score_against_what_does_not_fit(estimate, where, message):
    with pytest.raises(InputError, match=message):
        score_against(TRUTH, {"a": estimate}, where)


def test_a_mask_with_nan_hides_nothing_there():
    hidden = CLOUDS & (TRUTH.time < TRUTH.time[5])
    read = hidden.astype("f4").where(hidden)  # 1 and NaN, as a file or a reindexed mask has them
    estimates = {"a": (TRUTH + 1).where(hidden, TRUTH).to_dataset(name="mean")}
    card = score_against(TRUTH, estimates, read)
    assert card.data.identical(score_against(TRUTH, estimates, hidden).data)
    assert card.data.attrs["n_withheld"] == int(hidden.sum())
    assert float(card["a"].rmse) == pytest.approx(1)


def test_withheld_file_of_the_benchmarks(shared_data):
    folder = shared_data / "dineof"
    with (
        xr.open_dataset(folder / "alboran_s42_truth.nc") as truth,
        xr.open_dataset(folder / "alboran_s42_input.nc") as obs,
    ):
        sst, hidden, sea = truth.sst.load(), truth.hidden.load() == 1, truth.mask.load() == 1
        given = obs.sst.load()
        mean = given.mean("time").broadcast_like(sst).transpose(*sst.dims)
    card = score_against(
        sst, {"pixel mean": mean.to_dataset(name="sst")}, hidden, obs=given, sea=sea
    )
    assert 0.3 < float(card.data.rmse[0]) < 0.9 and card.data.attrs["n_withheld"] == 12246
    assert card.data.attrs["fraction"] == pytest.approx(0.1, abs=0.005)


# --- the scorecard itself ---


def test_json_parses_and_round_trips(card):
    tree = json.loads(card.to_json())
    assert tree["coords"]["method"]["data"] == list(METHODS)
    assert tree["data_vars"]["crps"]["data"][0] is None  # NaN is no JSON
    assert Scorecard.from_json(card.to_json()).data.identical(card.data)


def test_text_is_aligned_and_marks_the_best(card):
    first, head, *rows, note = str(card).splitlines()
    assert (
        "sst (degree_Celsius)" in first
        and "clouds of other dates" in first
        and note.startswith("*")
    )
    for title in ("RMSE", "MAE", "bias", "seconds"):  # numbers end where their titles end
        edge = head.index(title) + len(title)
        assert all(row[edge - 1].isdigit() and (row + " ")[edge] in " *" for row in rows)
    by_name = {line.split()[0]: line for line in rows}
    assert by_name["partial"].split()[1].endswith("*")  # lowest RMSE
    assert "*" not in by_name["poor"].split()[1]


def test_tables_escape_labels(card):
    data = card.data.isel(method=[0, 1]).assign_coords(method=["<a|b>", "plain"])
    risky = replace(card, data=data)
    assert "&lt;a|b&gt;" in risky._repr_html_() and "<a|b>" not in risky._repr_html_()
    lines = risky.to_markdown().splitlines()
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_dataset_is_a_copy(card):
    copy = card.to_dataset()
    copy["rmse"][:] = 0
    assert (card.data.rmse > 0).all()


def test_bins_follow_the_grid_and_the_time_step():
    slow = OBS.drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    slow = slow.assign_coords(time=OBS.time[0] + 8 * (OBS.time - OBS.time[0]))
    assert np.diff(days_since_first(slow))[0] == 8
    truth = slow.fillna(0.0)
    data = score_against(truth, {"a": truth.to_dataset(name="mean")}, slow.notnull()).data
    assert (
        data.lag_bin.values[0] == "0-12 days" and data.distance_bin.values.tolist()[0] == "0-1.5 px"
    )
    assert data.rmse.values.tolist() == [0.0]


def test_calibration_mends_a_method_that_is_too_sure_of_itself():
    boastful = {"a": Noisy(noise=0.1, claim=0.01)}
    raw = score(OBS, boastful, sea=SEA, calibrate=False).data["coverage"].sel(level=0.68).item()
    mended = score(OBS, boastful, sea=SEA).data["coverage"].sel(level=0.68).item()
    assert raw < 0.2 and abs(mended - 0.68) < 0.08
