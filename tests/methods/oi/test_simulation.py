# SPDX-License-Identifier: Apache-2.0
"""Draws are a sample of the Gaussian posterior, and the same whatever the chunks, the windows and
the number of members.
"""

from __future__ import annotations

from dataclasses import replace

import gaussian
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from sstfill.errors import OptionError
from sstfill.fields.patches import Patch, PatchGrid
from sstfill.methods import Oi
from sstfill.methods.base import Archive, FittedSimulates, Simulates
from sstfill.methods.common.sampling import cut, gather, windows
from sstfill.methods.interpolation.background import fit_background
from sstfill.methods.oi.covariance import Component, Covariance
from sstfill.methods.registry import fit
from sstfill.synthetic import ocean

GIVEN = {"length_scale": (40.0, 60.0), "time_scale": 2.0, "noise": 0.05, "covariance": "matern"}
"""Scales for tests of something else: nothing but the variance is fitted."""


@pytest.fixture(scope="module")
def surface() -> xr.Dataset:
    return ocean(shape=(20, 40, 44), seed=3, land=0.15)


@pytest.fixture(scope="module")
def drawn(surface, sea) -> xr.Dataset:
    return Oi(**GIVEN).simulate(surface.sst, sea, 6)


@pytest.fixture(scope="module")
def archive(surface, sea) -> Archive:
    return gather(surface.sst, sea)


@pytest.fixture(scope="module")
def fitted(archive, tmp_path_factory) -> FittedSimulates:
    return fit(Oi(**GIVEN), archive, tmp_path_factory.mktemp("oi") / "model")


def with_two_variables(surface: xr.Dataset) -> xr.DataArray:
    one = surface.sst
    other = (2 * one + 5).where(np.random.default_rng(0).random(one.shape) < 0.6)
    return xr.concat([one, other], "variable").drop_attrs()


class TestPosterior:
    """Of a field so small that all observations are neighbours of every gap."""

    MEMBERS = 1200

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, make_field, all_sea):
        days = np.array([0.0, 1.0, 1.5, 3.0])
        model = Covariance(components=(Component("matern", 1.0, (40.0, 60.0), 2.0),), noise=0.0)
        truth = gaussian.draw((4, 10, 11), 10.0, model, 1, seed=1)[0]
        values = 15 + truth + 0.2 * np.random.default_rng(0).normal(size=truth.shape)
        seen = ~gaussian.clouds(truth.shape, 0.4, seed=4)
        seen[1, 2:8, 3:9] = False
        obs = make_field(np.where(seen, values, np.nan).astype("f4"), days)
        method = Oi(**GIVEN, background="mean", neighbours=300)
        found = method.simulate(obs, all_sea(obs), cls.MEMBERS)
        (part,) = found.attrs["components"]
        model = Covariance(
            components=(Component("matern", part["variance"], (40.0, 60.0), 2.0),),
            noise=0.05 * part["variance"],
        )
        gap = np.argwhere(obs.isnull().values[np.newaxis])
        given = np.argwhere(obs.notnull().values[np.newaxis])
        at = gaussian.sphere(*np.meshgrid(obs.lat, obs.lon, indexing="ij"))

        def among(a: NDArray, b: NDArray) -> NDArray:
            return gaussian.matrix(a, b, gap[0], at, days, model, np.eye(1))

        inner = among(given, given) + model.noise * np.eye(len(given))
        link = among(gap, given)
        posterior = among(gap, gap) - link @ np.linalg.solve(inner, link.T)
        posterior += model.noise * np.eye(len(gap))
        scatter = fit_background(obs, all_sea(obs), "mean").scatter[gap[:, 2], gap[:, 3]]
        posterior *= np.outer(scatter, scatter)
        departures = (found.members - found["mean"]).values[:, *gap[:, 1:].T]
        return found, gap, posterior, departures

    def test_spread_is_the_error(self, case) -> None:
        found, gap, posterior, departures = case
        error = found.error.values[*gap[:, 1:].T]
        np.testing.assert_allclose(error**2, np.diag(posterior), rtol=0.03)
        # 0.02 is the error of a standard deviation of 1200 draws
        ratio = departures.std(axis=0) / error
        assert ratio.mean() == pytest.approx(1.0, abs=0.02)
        assert np.abs(ratio - 1).max() < 0.12
        unbiased = departures.mean(axis=0) / error * np.sqrt(self.MEMBERS)
        assert np.abs(unbiased).max() < 4.5

    def test_spread_of_means_over_patches_is_that_of_the_posterior(self, case) -> None:
        _, gap, posterior, departures = case
        ratios = []
        for t, top, left, size in ((1, 2, 3, 6), (1, 2, 3, 3), (1, 5, 6, 3), (0, 0, 0, 11)):
            inside = gap[:, 1] == t
            inside &= (gap[:, 2] >= top) & (gap[:, 2] < top + size)
            inside &= (gap[:, 3] >= left) & (gap[:, 3] < left + size)
            mean = inside / inside.sum()
            ratios.append((departures @ mean).std() / np.sqrt(mean @ posterior @ mean))
            if size == 6:  # errors are correlated: as if they were not, the mean would be surer
                independent = np.sqrt(mean**2 @ np.diag(posterior))
                assert (departures @ mean).std() > 2 * independent
        assert np.abs(np.array(ratios) - 1).max() < 0.08

    def test_draws_are_correlated_as_the_posterior_is(self, case) -> None:
        _, _, posterior, departures = case
        found = np.cov(departures.T)
        size = np.sqrt(np.diag(posterior))
        off = (found - posterior) / np.outer(size, size)
        assert np.sqrt(np.mean(off**2)) < 0.04
        assert abs(off.mean()) < 0.01

    def test_draws_are_gaussian(self, case) -> None:
        _, _, posterior, departures = case
        standard = departures / np.sqrt(np.diag(posterior))
        assert stats.kurtosis(standard, axis=None) == pytest.approx(0.0, abs=0.1)
        assert stats.skew(standard, axis=None) == pytest.approx(0.0, abs=0.05)


class TestInMemory:
    def test_mean_and_error_are_those_without_draws(self, surface, sea, drawn) -> None:
        assert isinstance(Oi(), Simulates)
        assert drawn.members.dims == ("member", *surface.sst.dims)
        assert drawn.members.dtype == surface.sst.dtype
        xr.testing.assert_identical(
            drawn.drop_vars("members"), Oi(**GIVEN).reconstruct(surface.sst, sea)
        )

    def test_observations_and_land_are_as_in_the_mean(self, surface, sea, drawn) -> None:
        known = np.isfinite(drawn["mean"].values)
        np.testing.assert_array_equal(
            np.isfinite(drawn.members.values), np.broadcast_to(known, drawn.members.shape)
        )
        assert not known[:, ~sea.values].all()
        observed = surface.sst.notnull().values
        for member in drawn.members.values:
            np.testing.assert_array_equal(member[observed], surface.sst.values[observed])
            assert not np.array_equal(member[~observed], drawn["mean"].values[~observed])

    def test_a_member_does_not_depend_on_how_many_there_are(self, surface, sea, drawn) -> None:
        fewer = Oi(**GIVEN).simulate(surface.sst, sea, 3)
        np.testing.assert_allclose(fewer.members, drawn.members[:3], atol=1e-4)
        one, other = drawn.members[0], drawn.members[1]
        assert float(abs(one - other).max()) > 0.1

    @pytest.mark.parametrize(
        "chunks", [{"time": 7, "lat": 11, "lon": 13}, {"time": 20, "lat": 40, "lon": 44}], ids=str
    )
    def test_chunks_do_not_matter(self, chunks, surface, sea, drawn) -> None:
        lazy = Oi(**GIVEN).simulate(surface.sst.chunk(chunks), sea, 6)
        for name in drawn:
            assert lazy[name].chunks is not None and lazy[name].dtype == drawn[name].dtype
        assert lazy.members.chunksizes["time"] == surface.sst.chunk(chunks).chunksizes["time"]
        xr.testing.assert_allclose(lazy.compute(), drawn, rtol=1e-6, atol=1e-4)

    def test_blocks_do_not_matter(self, surface, sea, drawn, monkeypatch) -> None:
        from sstfill.methods.oi import simulation

        monkeypatch.setattr(simulation, "PATCHES", (1, 1, 1))
        found = Oi(**GIVEN).simulate(surface.sst, sea, 6)
        xr.testing.assert_allclose(found, drawn, rtol=1e-6, atol=1e-4)

    def test_another_seed_draws_others(self, surface, sea, drawn) -> None:
        method = Oi(**GIVEN, seed=1)
        other, without = method.simulate(surface.sst, sea, 2), method.reconstruct(surface.sst, sea)
        xr.testing.assert_identical(other.drop_vars("members"), without)
        gap = surface.sst.isnull().values & sea.values
        one, two = (ds.members[0] - ds["mean"] for ds in (drawn, other))
        assert abs(np.corrcoef(one.values[gap], two.values[gap])[0, 1]) < 0.3

    def test_variables_together_err_together(self, surface, sea) -> None:
        obs = with_two_variables(surface)[:, :14]
        obs[:, 3:12, 8:32, 18:42] = np.nan
        found = Oi(**GIVEN).simulate(obs, sea, 60)
        xr.testing.assert_identical(found.drop_vars("members"), Oi(**GIVEN).reconstruct(obs, sea))
        assert found.members.dims == ("member", *obs.dims)
        gap = obs.isnull().values & sea.values
        standard = ((found.members - found["mean"]) / found.error).values
        assert standard[:, gap].std() == pytest.approx(1.0, abs=0.05)
        # far from observations there is more to the errors than noise, which is independent
        far = standard[:, :, 6:10, 16:24, 26:34].swapaxes(0, 1).reshape(2, -1)
        assert np.corrcoef(far)[0, 1] > 0.6

    def test_one_image(self, surface, sea) -> None:
        obs = surface.sst.isel(time=[5])
        found = Oi(length_scale=40.0, noise=0.05).simulate(obs, sea, 80)
        gap = obs.isnull().values & sea.values
        standard = ((found.members - found["mean"]) / found.error).values[:, gap]
        assert standard.std() == pytest.approx(1.0, abs=0.08)

    def test_mean_of_a_device_is_its_own(self, surface, sea, monkeypatch) -> None:
        from sstfill.methods.oi import solver_batched

        monkeypatch.setattr("sstfill.methods.oi.method.pick_device", lambda device: "torch-cpu")
        on_cpu = solver_batched.solve
        monkeypatch.setattr(
            solver_batched, "solve", lambda *given, device: on_cpu(*given, device="cpu")
        )
        part, at_sea = surface.sst[:6, :20, :22], sea[:20, :22]
        method = Oi(**GIVEN, device="cuda")
        found = method.simulate(part, at_sea, 2)
        xr.testing.assert_identical(found.drop_vars("members"), method.reconstruct(part, at_sea))
        drawn = Oi(**GIVEN).simulate(part, at_sea, 2)
        np.testing.assert_allclose(found.members, drawn.members, atol=1e-3)

    def test_a_gap_of_nothing_has_no_draws(self, surface, sea) -> None:
        full = surface.truth.astype("f4").where(sea)
        found = Oi(**GIVEN).simulate(full, sea, 2)
        for member in range(2):
            xr.testing.assert_equal(found.members[member], found["mean"])

    @pytest.mark.parametrize("members", [0, 1.5, True])
    def test_members_are_counted(self, members, surface, sea) -> None:
        with pytest.raises(OptionError, match="members="):
            Oi(**GIVEN).simulate(surface.sst, sea, members)


class TestArchive:
    def simulated(self, fitted, archive: Archive, core: tuple[int, int, int]) -> xr.Dataset:
        """All units of an archive, side by side."""
        whole = xr.full_like(archive.obs, np.nan).compute()
        out = {"mean": whole, "members": xr.concat([whole] * 3, "member")}
        for window in windows(archive, PatchGrid(core=core, halo=fitted.halo)):
            found, without = fitted.simulate(window, 3), fitted.estimate(window)
            xr.testing.assert_identical(found.drop_vars("members"), without)
            for name in out:
                out[name].values[..., *window.patch.inside] = found[name].values
        return xr.Dataset(out)

    def test_units_fit_together(self, fitted, archive, sea) -> None:
        assert isinstance(fitted, FittedSimulates)
        whole = self.simulated(fitted, archive, (20, 40, 44))
        units = self.simulated(fitted, archive, (8, 17, 20))
        assert np.isfinite(whole.members.values[..., sea.values]).all()
        xr.testing.assert_allclose(units, whole, rtol=1e-6, atol=1e-4)

    def test_units_of_a_grid_without_positions_fit_together(self, surface, sea, tmp_path) -> None:
        """Rows and columns are counted from the corner of the grid, not from that of a window."""
        plane = {"lat": "y", "lon": "x"}
        bare = surface.sst.rename(plane).drop_vars(["y", "x"])
        archive = gather(bare, sea.rename(plane).drop_vars(["y", "x"]))
        fitted = fit(Oi(**GIVEN | {"length_scale": (4.0, 6.0)}), archive, tmp_path / "model")
        whole = self.simulated(fitted, archive, (20, 40, 44))
        units = self.simulated(fitted, archive, (8, 17, 20))
        xr.testing.assert_allclose(units, whole, rtol=1e-6, atol=1e-4)

    @pytest.mark.parametrize("dates", [True, False])
    def test_later_windows_draw_as_the_whole_does(self, dates, fitted, archive) -> None:
        """As at an update, where only the last images are filled again."""
        obs = archive.obs if dates else archive.obs.drop_vars("time")
        archive = replace(archive, obs=obs)
        whole = next(windows(archive, PatchGrid(core=(20, 40, 44))))
        _, rows, columns = whole.patch.seen
        start = max(0, 16 - fitted.halo[0])
        last = Patch((slice(16, 20), rows, columns), (slice(start, 20), rows, columns))
        window = cut(archive.obs, archive.sea, archive.sample, archive.points, last)
        found, every = fitted.simulate(window, 2), fitted.simulate(whole, 2)
        np.testing.assert_allclose(found.members, every.members[:, 16:], atol=1e-4)

    def test_spread_is_the_error(self, fitted, archive) -> None:
        window = next(windows(archive, PatchGrid(core=(20, 40, 44))))
        found = fitted.simulate(window, 60)
        gap = window.obs.isnull().values & window.sea.values
        standard = ((found.members - found["mean"]) / found.error).values[:, gap]
        assert standard.std() == pytest.approx(1.0, abs=0.05)

    def test_a_method_of_an_earlier_version_is_refused(self, fitted, archive) -> None:
        window = next(windows(archive, PatchGrid(core=(20, 40, 44))))
        with pytest.raises(OptionError, match=r"earlier version.*--refit"):
            replace(fitted, domain=None).simulate(window, 2)


class TestNoise:
    def noise(self, members: int, first: tuple[int, int] = (0, 0), seed: int = 5) -> NDArray:
        from sstfill.methods.oi.simulation_kernels import add_noise

        shape = (2, 6, 20, 20)
        row = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
        values = np.zeros((row.size, members), np.float32)
        add_noise(values, row, np.arange(6) * 86400 - 86400, *first, 1.0, np.uint64(seed))
        return values.reshape(*shape, members)

    def test_it_is_normal_and_independent(self) -> None:
        noise = self.noise(21)
        assert stats.kstest(noise.ravel(), "norm").pvalue > 0.01
        for axis in range(noise.ndim):
            one, other = np.delete(noise, 0, axis), np.delete(noise, -1, axis)
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01
        assert np.unique(noise).size > 0.99 * noise.size

    def test_it_is_a_function_of_place_and_member(self) -> None:
        every = self.noise(6)
        np.testing.assert_array_equal(self.noise(3), every[..., :3])
        np.testing.assert_array_equal(
            self.noise(3, (4, 7))[:, :, :-4, :-7], every[:, :, 4:, 7:, :3]
        )
        assert abs(np.corrcoef(self.noise(6, seed=6).ravel(), every.ravel())[0, 1]) < 0.02
