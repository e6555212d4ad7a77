# SPDX-License-Identifier: Apache-2.0
"""Members about a blend: deviations of a method that draws, with the error of the blend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

import sstfill
from sstfill import Auto, Oi, OptionError
from sstfill.fields.patches import PatchGrid
from sstfill.methods import METHODS
from sstfill.methods.auto.choice import Choice, drawing_method
from sstfill.methods.base import FittedSimulates
from sstfill.methods.common.deviations import about
from sstfill.methods.common.sampling import gather, windows
from sstfill.methods.registry import fit, load, seeded
from sstfill.synthetic import ocean
from sstfill.validation.blend import Blend, BlendWeights

WITH_EOF = Auto(methods=("interpolate", "bayes_eof"))


@pytest.fixture(scope="module")
def surface() -> xr.Dataset:
    return ocean(shape=(24, 16, 20), step="1D", seed=4, land=0.1)


def choice(names, weights, rmse) -> Choice:
    table = np.array(weights, float).reshape(1, 1, -1)
    blend = Blend(tuple(names), BlendWeights(np.zeros(1), np.zeros(1), table), np.ones((1, 1)))
    methods = tuple(seeded(METHODS[name], 0) for name in names)
    return Choice(methods, blend, None, {"rmse": rmse})


class TestWhoDraws:
    names = ("interpolate", "bayes_eof", "dineof", "oi")
    tried = tuple(seeded(METHODS[name], 5) for name in names)

    def test_it_is_the_method_of_most_weight_that_can(self):
        names = ("interpolate", "oi", "bayes_eof")
        made = choice(names, [0.6, 0.1, 0.3], {})
        assert drawing_method(made, self.tried, 5).name == "bayes_eof"

    def test_else_the_best_that_was_tried(self):
        rmse = {"interpolate": 0.1, "oi": 0.3, "bayes_eof": 0.2, "dineof": 0.1}
        made = choice(["interpolate"], [1], rmse)
        assert drawing_method(made, self.tried, 5).name == "bayes_eof"
        of_two = {"interpolate": {"a": 1.0, "b": 9.0}, "oi": {"a": 2.0, "b": 100.0}}
        of_two["bayes_eof"] = {"a": 6.0, "b": 99.0}
        assert drawing_method(choice(["interpolate"], [1], of_two), self.tried, 5).name == "oi"

    def test_else_optimal_interpolation(self):
        made = choice(["interpolate"], [1], {"interpolate": 0.1})
        assert drawing_method(made, self.tried[:1], 5) == Oi(seed=5)


class TestDeviations:
    def fields(self, shape=(3, 4, 5)):
        rng = np.random.default_rng(0)
        dims = ("time", "y", "x")
        obs = xr.DataArray(np.zeros(shape, "f4"), dims=dims)
        mean = obs.copy(data=rng.normal(0, 1, shape).astype("f4"))
        error = obs.copy(data=rng.uniform(0.5, 2, shape).astype("f4"))
        own = xr.Dataset({"mean": mean + 1, "error": error / 2})
        noise = rng.normal(0, 1, (500, *shape)).astype("f4")
        draws = own["mean"] + own["error"] * xr.DataArray(noise, dims=("member", *dims))
        own["members"] = draws.transpose("member", *dims)
        return obs, xr.Dataset({"mean": mean, "error": error}), own, noise

    @pytest.mark.parametrize("chunked", [False, True])
    def test_they_have_the_error_of_the_blend_about_its_mean(self, chunked):
        obs, blended, own, noise = self.fields()
        if chunked:
            obs, blended, own = (one.chunk(time=2) for one in (obs, blended, own))
        found = about(blended, own, obs, 1)
        assert (found.chunks is not None) == chunked
        assert found.dims == ("member", "time", "y", "x") and found.dtype == np.float32
        expected = blended["mean"].values + blended["error"].values * noise
        np.testing.assert_allclose(found.values, expected, atol=1e-4)

    def test_where_the_method_has_no_draw_all_pixels_share_one_number(self):
        obs, blended, own, _ = self.fields()
        hole = xr.DataArray(np.arange(5) < 2, dims="x")
        found = about(blended, own.where(~hole), obs, 1)
        standard = ((xr.DataArray(found) - blended["mean"]) / blended["error"]).isel(x=slice(2))
        assert float(standard.std(("time", "y", "x")).max()) < 1e-5
        assert float(standard.std()) == pytest.approx(1, abs=0.1)
        np.testing.assert_array_equal(
            found[:3], about(blended, own.where(~hole).isel(member=[0, 1, 2]), obs, 1)
        )

    def test_where_the_blend_states_no_error_the_methods_own_holds(self):
        obs, blended, own, noise = self.fields()
        blended["error"][:, 0] = np.nan
        found = about(blended, own, obs, 1)
        expected = blended["mean"].values + own["error"].values * noise
        np.testing.assert_allclose(found.values[:, :, 0], expected[:, :, 0], atol=1e-4)


class TestInMemory:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_mean_and_error_are_as_without_and_the_spread_is_the_error(self, surface, chunked):
        obs, sea = surface["sst"], surface["sea"].astype(bool)
        if chunked:
            obs = obs.chunk(time=8)
        plain, found = WITH_EOF.reconstruct(obs, sea), WITH_EOF.simulate(obs, sea, 40)
        xr.testing.assert_equal(found[["mean", "error"]].compute(), plain.compute())
        assert found.attrs == plain.attrs | {"drawn_by": "bayes_eof"}
        gap = obs.isnull() & sea
        apart = (found["members"] - found["mean"]) / found["error"]
        assert float(np.square(apart).where(gap).mean()) == pytest.approx(1, abs=0.05)
        fewer = WITH_EOF.simulate(obs, sea, 2)["members"]
        np.testing.assert_array_equal(fewer, found["members"][:2])

    def test_it_fills_and_says_who_drew(self, surface, tmp_path, capsys):
        from sstfill.cli import main

        sstfill.io.write(surface.drop_vars("truth"), tmp_path / "in.nc")
        out = tmp_path / "out.nc"
        options = ["--methods", "interpolate,bayes_eof", "--members", "3"]
        assert (
            main(["fill", str(tmp_path / "in.nc"), "--out", str(out), "--method", "auto", *options])
            == 0
        )
        said = capsys.readouterr().out
        assert "3 plausible fields in sst_members, errors correlated as those of bayes_eof" in said
        with sstfill.io.open(out) as filled:
            observed = filled.sst_source == 0
            same = (filled.sst_members == filled.sst).where(observed, True)
            assert same.all() and filled.sizes["member"] == 3

    def test_methods_that_cannot_draw_are_helped_by_oi(self, surface):
        auto = Auto(methods=("interpolate", "climatology"))
        found = sstfill.fill(surface, auto, variables="sst", members=3)
        assert '"drawn_by": "oi"' in found.sst.attrs["sstfill_method"]
        gap = found.sst_source == 1
        spread = (found.sst_members - found.sst).where(gap) / found.sst_error
        assert float(np.square(spread).mean()) == pytest.approx(1, abs=0.15)

    def test_a_fill_without_an_error_has_no_members(self, surface, monkeypatch):
        monkeypatch.setitem(METHODS, "silent", Silent)
        with pytest.raises(OptionError, match="silent, which was chosen, states none"):
            sstfill.fill(surface, Auto(methods=("silent",)), variables="sst", members=2)


@dataclass(frozen=True, kw_only=True)
class Silent:
    """States no error."""

    name: ClassVar[str] = "silent"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        return xr.Dataset({"mean": obs.fillna(obs.mean())})


class TestArchive:
    def drawn(self, fitted, archive, core, members=2):
        out = np.full((members, *archive.obs.shape), np.nan, np.float32)
        for window in windows(archive, PatchGrid(core=core, halo=fitted.halo)):
            found, plain = fitted.simulate(window, members), fitted.estimate(window)
            xr.testing.assert_identical(found[["mean", "error"]], plain[["mean", "error"]])
            out[:, *window.patch.inside] = found["members"].transpose("member", *window.obs.dims)
        return out

    @pytest.mark.parametrize(
        "methods", [("interpolate", "bayes_eof"), ("interpolate", "climatology")]
    )
    def test_units_draw_as_one_window_does(self, surface, methods, tmp_path):
        archive = gather(surface["sst"], surface["sea"].astype(bool))
        archive = replace(archive, members=2)
        fit(Auto(methods=methods), archive, tmp_path / "auto")
        fitted = load(tmp_path / "auto")
        assert isinstance(fitted, FittedSimulates)
        expected = "bayes_eof" if "bayes_eof" in methods else "oi"
        assert fitted.account["drawn_by"] == expected
        assert (tmp_path / "auto" / expected).is_dir()
        whole = self.drawn(fitted, archive, (100, 100, 100))
        units = self.drawn(fitted, archive, (12, 9, 11))
        np.testing.assert_allclose(units, whole, atol=2e-3 * float(np.nanstd(whole)))

    def test_without_members_nothing_is_kept_for_them(self, surface, tmp_path):
        archive = gather(surface["sst"], surface["sea"].astype(bool))
        fit(Auto(methods=("interpolate", "climatology")), archive, tmp_path / "auto")
        assert not isinstance(load(tmp_path / "auto"), FittedSimulates)
        assert not (tmp_path / "auto" / "oi").exists()
        fit(WITH_EOF, archive, tmp_path / "eof")
        fitted = load(tmp_path / "eof")
        assert "drawn_by" not in fitted.account
        drawers = {name for name in fitted.chosen if name == "bayes_eof"}
        assert isinstance(fitted, FittedSimulates) == bool(drawers)


def test_an_archive_filled_by_auto_has_members(surface, tmp_path: Path):
    from sstfill.archive import fill_archive, verify

    surface.drop_vars("truth").to_zarr(tmp_path / "in.zarr", consolidated=False)
    out = tmp_path / "out.zarr"
    auto = Auto(methods=("interpolate", "climatology"))
    fill_archive(tmp_path / "in.zarr", out, auto, variables="sst", members=2)
    assert verify(out).wrong == ()
    with xr.open_zarr(out) as filled:
        gap = filled.sst_source == 1
        spread = ((filled.sst_members - filled.sst) / filled.sst_error).where(gap)
        assert float(np.square(spread).mean()) == pytest.approx(1, abs=0.15)
