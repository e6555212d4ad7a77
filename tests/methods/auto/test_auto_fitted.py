# SPDX-License-Identifier: Apache-2.0
"""Methods tried in windows of an archive: on clouds that none of them was fitted to, and the best
or a blend kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

from sstfill import Auto
from sstfill.errors import InputError
from sstfill.fields.patches import PatchGrid
from sstfill.methods import METHODS
from sstfill.methods.base import Archive
from sstfill.methods.common import fitted_blend
from sstfill.methods.common.fitted_windowed import HALO
from sstfill.methods.common.sampling import gather, windows
from sstfill.methods.registry import fit, load
from sstfill.synthetic import ocean
from sstfill.validation.blend import Blend
from sstfill.validation.cross_validation import CrossValidation
from sstfill.validation.distances import distance_to_data

SHAPE = (36, 30, 32)
PARTS = (("a", 0.5), ("b", -0.6))
CHEAP = ("climatology", "interpolate", "bayes_eof")


@pytest.fixture(scope="module")
def surface() -> xr.Dataset:
    return ocean(shape=SHAPE, step="1D", seed=4, land=0.1)


@pytest.fixture(scope="module")
def archive(surface) -> Archive:
    return gather(surface.sst, surface.sea.astype(bool))


@pytest.fixture(scope="module")
def held(archive) -> fitted_blend.ArchiveHoldout:
    return fitted_blend.withhold(archive, fraction=0.2, seed=1)


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """Knows the truth, and misses it by noise of its own."""

    name: ClassVar[str] = "oracle"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1
    miss: ClassVar[float] = 0.1
    truth: ClassVar[xr.DataArray]

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        if self.miss > 9:
            raise InputError("it will not")
        rng = np.random.default_rng([int(1000 * self.miss), obs.size])
        mean = self.truth.sel(
            time=obs.time, lat=obs.lat, lon=obs.lon
        ) + self.miss * rng.standard_normal(obs.shape)
        return xr.Dataset(
            {"mean": mean.astype("f4"), "error": xr.full_like(obs, self.miss, dtype="f4")}
        )


@pytest.fixture
def oracles(surface, monkeypatch):
    """Register oracles instead of the methods: name and how much each misses the truth."""

    def register(**misses: float) -> None:
        for name in [n for n in METHODS if n != "auto"]:
            monkeypatch.delitem(METHODS, name)
        for name, miss in misses.items():
            cls = type(name, (Oracle,), {"name": name, "miss": miss, "truth": surface.truth})
            monkeypatch.setitem(METHODS, name, cls)

    return register


# --- withheld clouds


def test_what_is_scored_is_hidden_from_all_that_is_fitted(archive, held):
    assert len(held.windows) == len(archive.trials) and not held.little
    left = held.archive.obs.compute()
    for (window, hidden, truth, *_), whole in zip(held.windows, archive.trials, strict=True):
        assert np.isfinite(truth).all() and truth.size == hidden.sum() > 0
        assert np.isnan(window.inside.values[hidden]).all()
        assert np.isnan(left[window.patch.inside].values[hidden]).all()
        np.testing.assert_array_equal(whole.inside.values[hidden], truth)
    gone = archive.obs.notnull() & left.isnull()
    assert 0.15 < float(gone.sum() / archive.obs.notnull().sum()) < 0.5
    rows, columns = archive.points
    np.testing.assert_array_equal(held.archive.sample, left.values[:, rows, columns])


def test_chunks_do_not_matter_to_what_is_hidden(surface, held):
    lazy = gather(surface.sst.chunk(time=5, lat=7), surface.sea.astype(bool))
    other = fitted_blend.withhold(lazy, fraction=0.2, seed=1)
    xr.testing.assert_identical(other.archive.obs.compute(), held.archive.obs.compute())


def test_a_large_archive_does_not_miss_what_is_hidden(archive):
    assert fitted_blend.withhold(archive, fraction=0.2, seed=1, little=0.9).little


def test_there_may_be_nothing_to_withhold(archive, surface):
    with pytest.raises(InputError, match="no windows"):
        fitted_blend.withhold(replace(archive, trials=[]), fraction=0.2, seed=1)
    with pytest.raises(InputError, match="no gaps at sea"):
        fitted_blend.withhold(gather(surface.truth, surface.sea.astype(bool)), fraction=0.2, seed=1)


def test_images_of_different_windows_are_different(held):
    truth = fitted_blend.predict_windows(
        held.windows, lambda w: {"one": xr.Dataset({"mean": w.inside.fillna(1.0)})}
    )["one"]
    assert (
        truth.truth.size == truth.mean.size
        and (truth.mean == 1.0).all()
        and np.isnan(truth.sigma).all()
    )
    per_window = [
        set(np.nonzero(hidden)[0] + 16 * k) for k, (_, hidden, *_) in enumerate(held.windows)
    ]
    assert set(truth.image) == set.union(*per_window) and len(set(truth.image)) == sum(
        map(len, per_window)
    )


def test_distances_are_those_of_the_window(held):
    for window, hidden, truth, distance, lag, weight, odds in held.windows:
        far, late = distance_to_data(window.obs)
        np.testing.assert_array_equal(distance, far[window.patch.within].values[hidden])
        np.testing.assert_array_equal(lag, late[window.patch.within].values[hidden])
        assert weight.shape == odds.shape == truth.shape
        assert (odds > 0).all()
    weight = np.concatenate([one.weight for one in held.windows])
    assert weight.mean() == pytest.approx(1) and weight.std() > 0
    assert 0 < held.resemblance["overlap"] <= 1


def test_gaps_are_those_of_the_whole_windows(held):
    assert len(held.gaps) == len(held.windows)
    for (window, gaps, odds), (left, hidden, *_) in zip(held.gaps, held.windows, strict=True):
        assert window.inside.notnull().values[hidden].all()
        assert left.inside.isnull().values[hidden].all()
        assert window.inside.isnull().values[gaps].all() and odds.shape == (gaps.sum(),)


# --- auto


def test_the_best_is_kept_and_the_others_are_not(oracles, archive, tmp_path):
    oracles(poor=1.0, good=0.05, fair=0.3)
    made = fit(Auto(blend=False), archive, tmp_path / "model")
    assert made.account["chosen"] == ["good"] and made.halo == HALO
    assert set(made.account["rmse"]) == {"poor", "good", "fair"}
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"good", "fitted.json"}


def test_equals_are_blended(oracles, archive, surface, tmp_path):
    oracles(one=0.3, other=0.31, worst=10.0)
    made = fit(Auto(), archive, tmp_path / "model")
    assert made.account["chosen"] == ["one", "other"] and made.account["skipped"] == {
        "worst": "filled no withheld pixel"
    }
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"one", "other", "fitted.json"}
    window = next(windows(archive, PatchGrid(core=SHAPE)))
    found = made.estimate(window)
    assert float((found["mean"] - surface.truth).std()) == pytest.approx(0.3 / np.sqrt(2), rel=0.06)
    xr.testing.assert_identical(load(tmp_path / "model").estimate(window), found)


def test_it_is_as_good_as_the_best_of_the_methods_and_read_as_written(archive, surface, tmp_path):
    made = fit(Auto(methods=CHEAP), archive, tmp_path / "model")
    made.save(tmp_path / "copy")
    copy = load(tmp_path / "copy")
    assert copy.account == made.account and copy.halo == made.halo
    whole = xr.full_like(surface.sst, np.nan)
    for window in windows(archive, PatchGrid(core=(16, 16, 16), halo=made.halo)):
        whole[window.patch.inside] = made.estimate(window)["mean"].values
    xr.testing.assert_identical(copy.estimate(window), made.estimate(window))
    gap = surface.sst.isnull().values & surface.sea.astype(bool).values
    memory = Auto(methods=CHEAP).reconstruct(surface.sst, surface.sea.astype(bool))["mean"]
    missed = [
        float(np.sqrt(np.mean((m - surface.truth).values[gap] ** 2))) for m in (whole, memory)
    ]
    assert missed[0] <= 1.05 * missed[1]


def test_beyond_its_halo_nothing_matters(archive, tmp_path):
    made = fit(Auto(methods=("climatology", "bayes_eof")), archive, tmp_path / "model")
    close, wide = (
        next(windows(archive, PatchGrid(core=(8, 8, 8), halo=h))) for h in (made.halo, SHAPE)
    )
    xr.testing.assert_identical(made.estimate(close), made.estimate(wide))


def test_without_clouds_to_withhold_the_archive_is_interpolated(surface, tmp_path, caplog):
    whole = gather(surface.truth, surface.sea.astype(bool))
    made = fit(Auto(), whole, tmp_path / "model")
    assert made.account["chosen"] == ["interpolate"] and "no method can be tried" in caplog.text
    window = next(windows(whole, PatchGrid(core=SHAPE)))
    xr.testing.assert_identical(load(tmp_path / "model").estimate(window), made.estimate(window))


def test_a_budget_that_is_used_up(archive, tmp_path):
    made = fit(Auto(methods=CHEAP, budget=1e-6), archive, tmp_path / "model")
    assert made.account["chosen"] == ["climatology"] and set(made.account["skipped"]) == {
        "interpolate",
        "bayes_eof",
    }


def test_weights_and_strata_survive_as_text(held):
    def estimates(window):
        rng = np.random.default_rng(window.obs.size)
        noise = rng.normal(size=window.patch.shape)
        error = xr.full_like(window.inside, 0.5)
        return {
            n: xr.Dataset({"mean": window.inside.fillna(15.0) + s * noise, "error": error})
            for n, s in PARTS
        }

    validation = CrossValidation.of(fitted_blend.predict_windows(held.windows, estimates), 1)
    one = validation.decision(blending=True, strata=True).blend
    other = Blend.from_dict(one.to_dict())
    window = held.windows[0].window
    found = [fitted_blend.blend_window(b, estimates(window), window) for b in (one, other)]
    xr.testing.assert_identical(*found)
    assert fitted_blend.blend_halo(one) == fitted_blend.blend_halo(other) == fitted_blend.NEAR
