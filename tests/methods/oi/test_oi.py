# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation end to end: exact where it can be, without seams, oriented right, better
than the others.
"""

from __future__ import annotations

import json
from functools import cache

import cloudpickle
import dask
import gaussian
import numpy as np
import pytest
import xarray as xr
from remembered import fits_with
from scipy.special import ndtri

from sstfill import config, io
from sstfill.cli import main
from sstfill.errors import OptionError
from sstfill.fill import fill
from sstfill.methods import Oi
from sstfill.methods.interpolation.background import fit_background
from sstfill.methods.oi import method as oi
from sstfill.methods.oi.covariance import Component, Covariance
from sstfill.synthetic import ocean

GIVEN = {"length_scale": 30.0, "time_scale": 2.0, "noise": 0.05, "covariance": "exponential"}
"""Scales for tests of something else: nothing but the variance is fitted."""
RISING, FALLING = slice(None), slice(None, None, -1)


@cache
def sea_surface() -> xr.Dataset:
    return ocean(shape=(24, 48, 48), seed=0)


def rms(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a, dtype=np.float64))))


def flat(values: np.ndarray, y: np.ndarray, x: np.ndarray, units: str = "m") -> xr.DataArray:
    """A daily series on a projected grid."""
    time = np.datetime64("2020-01-01", "ns") + np.arange(len(values)) * np.timedelta64(1, "D")
    coords = {"time": time, "y": ("y", y, {"units": units}), "x": ("x", x, {"units": units})}
    return xr.DataArray(values.astype(np.float32), coords, ("time", "y", "x"), name="sst")


def everywhere(obs: xr.DataArray) -> xr.DataArray:
    return xr.DataArray(np.ones(obs.shape[1:], bool), dims=obs.dims[1:])


@pytest.mark.parametrize("order", [RISING, FALLING], ids=["ascending", "descending"])
def test_equals_the_dense_solution(order, make_field, all_sea) -> None:
    rng = np.random.default_rng(0)
    days = np.array([0.0, 1.0, 2.5, 3.0])
    obs = make_field(
        np.where(rng.random((4, 5, 6)) < 0.6, np.nan, rng.normal(15, 2, (4, 5, 6))).astype("f4"),
        days,
    )
    obs = obs.isel(lat=order)
    method = Oi(
        length_scale=(60.0, 90.0),
        time_scale=4.0,
        noise=0.1,
        covariance="matern",
        background="mean",
        neighbours=120,
    )
    found = method.reconstruct(obs, all_sea(obs))
    (fitted,) = found.attrs["components"]
    part = Component(
        "matern", fitted["variance"], tuple(fitted["length_scale_km"]), fitted["time_scale_days"]
    )
    assert part[2:] == ((60.0, 90.0), 4.0) and found.attrs["noise"] == pytest.approx(0.1)
    model = Covariance(components=(part,), noise=0.1 * part.variance)
    guess = fit_background(obs, all_sea(obs), "mean")
    values = ((obs.values - guess.pixel) / guess.scatter)[np.newaxis]
    at = gaussian.sphere(*np.meshgrid(obs.lat, obs.lon, indexing="ij"))
    for target in np.argwhere(np.isnan(values)):
        mean, variance = gaussian.posterior(values, target, at, days, model, np.eye(1))
        _, t, y, x = target
        scatter = guess.scatter[y, x]
        assert found["mean"].values[t, y, x] == pytest.approx(
            guess.pixel[y, x] + scatter * mean, abs=5e-3
        )
        assert found.error.values[t, y, x] == pytest.approx(
            scatter * np.sqrt(variance + model.noise), rel=2e-3
        )


class TestPatches:
    def test_no_seams(self, monkeypatch) -> None:
        ds = sea_surface().isel(time=slice(10), lat=slice(20), lon=slice(24))
        plain = flat(ds.sst.values, 5.0 * np.arange(20), 5.0 * np.arange(24), "km")
        whole: dict[str, list[xr.Dataset]] = {"plane": [], "sphere": []}
        for core in ((10, 20, 24), (4, 7, 9)):
            monkeypatch.setattr(oi, "CORE", core)
            for name, obs in (("plane", plain), ("sphere", ds.sst.drop_attrs())):
                whole[name].append(Oi(**GIVEN).reconstruct(obs, everywhere(obs)))
        (one, other), (round_one, round_other) = whole["plane"], whole["sphere"]
        xr.testing.assert_equal(one, other)  # the very same observations are used
        # on the sphere cells differ from patch to patch, so that the last of the neighbours may
        for name in ("mean", "error"):
            assert rms(round_one[name] - round_other[name]) < 0.003 * float(ds.sst.std())
            assert float(abs(round_one[name] - round_other[name]).max()) < 0.05 * float(
                ds.sst.std()
            )

    @pytest.mark.parametrize(
        "chunks", [{"time": 7, "lat": 11, "lon": 13}, {"time": (1, 8, 3), "lat": 20}], ids=str
    )
    def test_lazy_equals_eager(self, chunks) -> None:
        ds = sea_surface().isel(time=slice(12), lat=slice(20), lon=slice(24))
        one, other = (Oi().reconstruct(o, ds.sea == 1) for o in (ds.sst, ds.sst.chunk(chunks)))
        assert other["mean"].chunks and other.error.chunks
        xr.testing.assert_allclose(one, other.compute(), rtol=1e-6)

    def test_a_chunk_reads_what_it_reaches_and_the_graph_is_small(self) -> None:
        rng = np.random.default_rng(0)
        values = np.where(rng.random((300, 12, 40)) < 0.5, np.nan, rng.normal(size=(300, 12, 40)))
        obs = flat(values, 10.0 * np.arange(12), 10.0 * np.arange(40), "km")
        read = []

        def look(block, block_info=None):
            read.append(tuple(block_info[0]["chunk-location"]))
            return block

        lazy = obs.chunk(time=10, y=12, x=20)
        lazy = lazy.copy(
            data=lazy.data.map_blocks(look, dtype=lazy.dtype, meta=np.empty((0, 0, 0), lazy.dtype))
        )
        method = Oi(
            length_scale=20.0,
            time_scale=1.0,
            noise=0.1,
            covariance="exponential",
            background="pixel",
        )
        with dask.config.set(scheduler="synchronous"):
            found = method.reconstruct(lazy, everywhere(obs))
            read.clear()
            found["mean"][:10, :, :20].compute()
        assert set(read) == {
            (t, 0, x) for t in range(13) for x in (0, 1)
        }  # a block of 64 images and the next
        assert len(read) == len(set(read))
        graphs = (
            len(cloudpickle.dumps(dict(a.data.__dask_graph__()))) for a in (found["mean"], lazy)
        )
        assert (
            next(graphs) - next(graphs) < obs.nbytes / 4
        )  # twice, for both outputs' keys; the geometry of one image


class TestGrids:
    def fields(self):
        ds = sea_surface().isel(time=slice(10), lat=slice(18), lon=slice(20))
        return flat(ds.sst.values, 5.0 * np.arange(18), 5.0 * np.arange(20), "km")

    def filled(self, obs: xr.DataArray, **changes) -> np.ndarray:
        return (
            Oi(**(GIVEN | {"length_scale": (20.0, 40.0), "flow": (0.1, 0.2)} | changes))
            .reconstruct(obs, everywhere(obs))["mean"]
            .values
        )

    def test_metres_are_kilometres_and_y_may_descend(self) -> None:
        obs = self.fields()
        metres = flat(obs.values, 1000 * obs.y.values, 1000 * obs.x.values, "m")
        expected = self.filled(obs)
        np.testing.assert_allclose(self.filled(metres), expected, rtol=1e-5)
        turned = self.filled(metres.isel(y=FALLING))[:, ::-1]
        # tiles begin at the other side, so that their observations are others
        assert rms(turned - expected) < 0.05 * float(obs.std())

    def test_curvilinear_grid_equals_the_rectilinear_one_any_way_it_is_stored(self) -> None:
        ds = sea_surface().isel(time=slice(10), lat=slice(18), lon=slice(20))
        lat, lon = (a.values for a in xr.broadcast(ds.lat, ds.lon))
        expected = self.filled(ds.sst.drop_attrs())

        def curved(values, lat, lon):
            coords = {"time": ds.time, "lat": (("y", "x"), lat), "lon": (("y", "x"), lon)}
            return xr.DataArray(values, coords, ("time", "y", "x"), name="sst")

        same = self.filled(curved(ds.sst.values, lat, lon))
        np.testing.assert_allclose(same, expected, rtol=1e-5)
        turned = self.filled(curved(ds.sst.values.swapaxes(1, 2), lat.T, lon.T)).swapaxes(1, 2)
        assert rms(turned - expected) < 0.02 * float(ds.sst.std())

    def test_places_without_coordinates_are_land(self) -> None:
        ds = sea_surface().isel(time=slice(10), lat=slice(18), lon=slice(20))
        lat, lon = (a.values.copy() for a in xr.broadcast(ds.lat, ds.lon))
        lat[:4, :5] = lon[:4, :5] = np.nan
        coords = {"time": ds.time, "lat": (("y", "x"), lat), "lon": (("y", "x"), lon)}
        obs = xr.DataArray(ds.sst.values, coords, ("time", "y", "x"), name="sst")
        sea = np.isfinite(lat)
        found = Oi(**GIVEN).reconstruct(obs, everywhere(obs))
        observed, known = obs.notnull().values, np.broadcast_to(sea, obs.shape)
        np.testing.assert_array_equal(found["mean"].notnull(), observed | known)
        spoilt = obs.where(sea | obs.isnull(), 999.0)
        one, other = (
            Oi(**GIVEN).reconstruct(o, everywhere(obs).copy(data=sea)) for o in (obs, spoilt)
        )
        np.testing.assert_array_equal(one["mean"].values[:, sea], other["mean"].values[:, sea])

    @pytest.mark.parametrize("kind", ["auto", "additive"])
    def test_single_image(self, kind) -> None:
        ds = sea_surface().isel(time=[5])
        found = fill(ds, Oi(background=kind), variables="sst", score=False)
        gap = found.sst_source.values == 1
        error = (found.sst - ds.truth).values[gap]
        assert gap.any() and rms(error) < 0.8 * float(ds.truth.std())


class TestFewImages:
    def image(self, columns: int = 130) -> tuple[xr.DataArray, np.ndarray]:
        """An image that rises eastward, all but its ends hidden, and its truth."""
        part = Component("matern", 1.0, (150.0, 150.0), 1.0)
        model = Covariance(components=(part,), noise=0.0)
        truth = gaussian.draw((1, 12, columns), 10.0, model, 1, seed=7)[0]
        truth = truth + 0.1 * np.arange(columns)
        shown = truth + 0.02 * np.random.default_rng(1).normal(size=truth.shape)
        shown[:, :, 20:-20] = np.nan
        return flat(shown, 10.0 * np.arange(12), 10.0 * np.arange(columns), "km"), truth

    def test_a_wide_gap_is_seen_across_and_follows_the_trend(self) -> None:
        obs, truth = self.image()
        hidden = obs.isnull().values
        with fits_with(draws=2, targets=40):
            found = Oi().reconstruct(obs, everywhere(obs))
            level = Oi(background="mean").reconstruct(obs, everywhere(obs))["mean"].values
        error = rms((found["mean"].values - truth)[hidden])
        assert found.attrs["background"] == "trend" and error < 1.2
        assert error < 0.8 * rms((level - truth)[hidden])

    def test_what_lies_beyond_forty_pixels_matters(self) -> None:
        obs, _ = self.image()
        method = Oi(**(GIVEN | {"length_scale": 400.0}), background="mean")
        other = obs.copy(data=np.where(np.arange(130) < 65, obs.values, obs.values + 5))
        near = np.s_[0, :, 25]
        found = [method.reconstruct(o, everywhere(o))["mean"].values for o in (obs, other)]
        shift = found[1][near] - found[0][near]
        assert (shift > 0.05).all()

    def test_no_seams(self, monkeypatch) -> None:
        obs, _ = self.image(64)
        method, found = Oi(**GIVEN), []
        for core in ((16, 128, 128), (1, 5, 31)):
            monkeypatch.setattr(oi, "CORE_OF_FEW", core)
            found.append(method.reconstruct(obs, everywhere(obs)))
        xr.testing.assert_equal(*found)

    def test_a_fill_of_one_image_is_scored(self) -> None:
        obs, _ = self.image(60)
        filled = fill(obs.to_dataset(), "oi", sea=everywhere(obs))
        said = json.loads(filled.sst.attrs["sstfill_score"])
        assert said["n"] > 20 and said["rmse"] < 1 and said["sigma_scale"] > 0
        assert np.isfinite(filled.sst_error.values[obs.isnull().values]).all()


class TestFlow:
    """A pattern carried by one cell a day on a grid of 10 km: 10 / 86.4 m/s."""

    SPEED = 10 / 86.4

    def advected(self, north: int, east: int) -> np.ndarray:
        model = Covariance(components=(Component("matern", 1.0, (20.0, 20.0), 30.0),), noise=0.0)
        big = gaussian.draw((1, 34, 34), 10.0, model, 1, seed=3)[0, 0]
        return np.stack(
            [big[10 - north * t : 30 - north * t, 10 - east * t : 30 - east * t] for t in range(5)]
        )

    def error(
        self, truth: np.ndarray, flow: tuple[float, float], order: slice, coords: str
    ) -> float:
        hidden = np.zeros(truth.shape, bool)
        hidden[[1, 3], 3:17, 3:17] = True
        if coords == "lat":  # at the equator, 10 km a cell
            degrees = 10 / 111.195
            lat, lon = degrees * (np.arange(20) - 10), degrees * np.arange(20)
            time = np.datetime64("2020-01-01", "ns") + np.arange(5) * np.timedelta64(1, "D")
            obs = xr.DataArray(
                truth, {"time": time, "lat": lat, "lon": lon}, ("time", "lat", "lon")
            )
        else:
            obs = flat(truth, 10.0 * np.arange(20), 10.0 * np.arange(20), "km")
        obs = obs.isel({obs.dims[1]: order})
        method = Oi(
            **(GIVEN | {"length_scale": 20.0, "time_scale": 20.0, "covariance": "matern"}),
            flow=flow,
        )
        found = method.reconstruct(obs.where(~hidden[:, order]), everywhere(obs))["mean"]
        return rms((found.values[:, order] - truth)[hidden])

    @pytest.mark.parametrize("coords", ["lat", "y"])
    @pytest.mark.parametrize("order", [RISING, FALLING], ids=["ascending", "descending"])
    def test_right_flow_is_best(self, order, coords) -> None:
        north, east = -1, 1
        truth = self.advected(north, east)
        right, none, opposite = (
            self.error(truth, (f * east * self.SPEED, f * north * self.SPEED), order, coords)
            for f in (1, 0, -1)
        )
        assert right < 0.5 * none < 0.5 * opposite


@pytest.mark.usefixtures("full_fit")
class TestSkill:
    def test_better_than_other_methods_and_error_of_the_right_size(self) -> None:
        ds = sea_surface()
        filled = fill(ds, "oi", variables="sst")
        gap = filled.sst_source.values == 1
        error = (filled.sst - ds.truth).values[gap]
        for name in ("interpolate", "climatology", "dineof"):
            other = fill(ds, name, variables="sst", score=False)
            assert rms(error) < 0.9 * rms((other.sst - ds.truth).values[gap])
        said = json.loads(filled.sst.attrs["sstfill_score"])
        again = np.random.default_rng(0).normal(
            0, 0.1, error.shape
        )  # the error is that of a new, noisy observation
        stated = fill(ds, "oi", variables="sst", score=False)
        own = stated.sst_error.values[gap]  # as the method states it
        for level in (
            0.5,
            0.8,
            0.9,
            0.95,
        ):  # over five oceans together within 0.014; one alone scatters more
            assert np.mean(np.abs(error + again) < ndtri(0.5 + level / 2) * own) == pytest.approx(
                level, abs=0.04
            )
            assert said["coverage"][str(level)] == pytest.approx(level, abs=0.04)
        assert 0.7 < said["sigma_scale"] < 1.3

    def test_real_series(self, shared_data) -> None:
        seen, truth = (
            io.open(shared_data / "dineof" / f"alboran_s42_{n}.nc") for n in ("input", "truth")
        )
        (name,) = (n for n in seen.data_vars if seen[n].ndim == 3)
        hidden = truth[name].notnull() & seen[name].isnull()
        found = fill(seen, "oi", variables=name, score=False)
        assert rms((found[name] - truth[name]).values[hidden.values]) <= 0.31


class TestOptions:
    @pytest.mark.parametrize(
        "options,said",
        [
            ({"length_scale": -5}, "length_scale=-5 must be a finite number, above 0"),
            ({"length_scale": (50, 0)}, "length_scale=0 must be"),
            ({"length_scale": (1, 2, 3)}, "give one number in km, two"),
            ({"length_scale": [7.0]}, "give one number in km, two"),
            ({"length_scale": ("auto", 50)}, "give one number in km, two"),
            ({"time_scale": float("nan")}, "time_scale=nan must be"),
            ({"noise": True}, "noise=True must be"),
            ({"covariance": "cubic"}, "covariance='cubic'; choose from auto, exponential"),
            ({"background": "median"}, "background='median'; choose from auto, mean"),
            ({"flow": 0.1}, "flow=0.1; give two numbers in m/s"),
            ({"flow": (0.1, 99)}, "flow=99 must be a finite number, -20 to 20"),
            ({"neighbours": 0}, "neighbours=0 must be a whole number"),
            ({"seed": -1}, "seed=-1 must be"),
            (
                {"covariance": "two-scale", "length_scale": 50},
                "leave out length_scale and time_scale",
            ),
            ({"covariance": "two-scale", "time_scale": 2}, "leave out length_scale and time_scale"),
        ],
    )
    def test_bad_values_are_told_with_the_remedy(self, options, said) -> None:
        with pytest.raises(OptionError, match=said.replace("(", r"\(")):
            Oi(**options)

    def test_lists_become_tuples(self) -> None:
        method = config.build(Oi, {"length_scale": [50, 80], "flow": ["0.2", 0.1]})
        assert (method.length_scale, method.flow) == ((50.0, 80.0), (0.2, 0.1))
        assert Oi(length_scale=[50.0, 80.0], flow=[0.2, 0.1]) == method and hash(method)
        assert config.build(Oi, json.loads(json.dumps(config.options(method)))) == method

    def test_command_line(self, tmp_path, capsys) -> None:
        path, out = tmp_path / "in.nc", tmp_path / "out.nc"
        sea_surface().isel(time=slice(5), lat=slice(8), lon=slice(9)).to_netcdf(path)
        words = [
            "fill",
            str(path),
            "--out",
            str(out),
            "--method",
            "oi",
            "--no-score",
            "--variable",
            "sst",
        ]
        for given, length, flow in (
            (["--length-scale", "50"], 50.0, [0.0, 0.0]),
            (["--length-scale", "50,80", "--flow=-0.2,0.1"], [50.0, 80.0], [-0.2, 0.1]),
        ):
            assert main([*words, "--time-scale", "2", "--noise", "0.1", *given]) == 0
            with xr.open_dataset(out) as written:
                said = json.loads(written.sst.attrs["sstfill_method"])["options"]
            assert (said["length_scale"], said["flow"], said["noise"]) == (length, flow, 0.1)
        capsys.readouterr()
        for given, reason in (
            (["--length-scale", "50,x"], "length_scale"),
            (["--flow", "1,2,3"], "flow"),
            (["--flow", "1"], "flow"),
        ):
            assert main([*words, *given]) == 2
            assert reason in capsys.readouterr().err

    def test_help_shows_what_tuples_look_like(self, capsys) -> None:
        with pytest.raises(SystemExit):
            main(["fill", "--method", "oi", "--help"])
        said = capsys.readouterr().out
        assert (
            "--length-scale float|float,float|auto" in said
            and "--flow float,float" in said
            and "0.0,0.0" in said
        )
