# SPDX-License-Identifier: Apache-2.0
"""Patch matching on moving textures under gaps of every shape; what every method keeps is tested by
its name.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

import sstfill
from sstfill.errors import OptionError
from sstfill.methods import Interpolate
from sstfill.methods.common.threads import cores

pytest.importorskip("numba")

from sstfill.methods.patchmatch.method import PatchMatch

SHAPE = (10, 32, 32)


def moving() -> np.ndarray:
    """A texture that drifts a pixel per image over one that rests."""
    rng = np.random.default_rng(0)
    rest, drift = (gaussian_filter(rng.normal(size=(32, 32)), 1.5, mode="wrap") for _ in range(2))
    front = gaussian_filter(rng.normal(size=(32, 32)), 4, mode="wrap") > 0
    images = [np.where(np.roll(front, t, 1), np.roll(drift, t, 1), rest) for t in range(SHAPE[0])]
    return (np.stack(images) / rest.std()).astype(np.float32)


def cloud() -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), (1, 3, 3), mode="wrap")
    return field < np.quantile(field, 0.5)


def drops() -> np.ndarray:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:32, :32]
    centres = rng.uniform(0, 32, (SHAPE[0], 12, 2))
    return np.array([[(y - a) ** 2 + (x - b) ** 2 < 6 for a, b in image] for image in centres]).any(
        1
    )


def pixels() -> np.ndarray:
    return np.random.default_rng(3).random(SHAPE) < 0.75


def bar() -> np.ndarray:
    hidden = np.zeros(SHAPE, bool)
    for t in range(SHAPE[0]):
        hidden[t, :, (2 * t + np.arange(6)) % 32] = True
    return hidden


GAPS = {"cloud": cloud, "raindrops": drops, "remove-pixel": pixels, "moving bar": bar}


def mae(found: xr.Dataset, truth: np.ndarray, hidden: np.ndarray) -> float:
    return float(np.abs(found["mean"].values - truth)[hidden].mean())


class TestQuality:
    @pytest.mark.parametrize("name", GAPS)
    def test_beats_interpolation_where_things_move(self, name, make_field, all_sea):
        truth, hidden = moving(), GAPS[name]()
        obs = make_field(np.where(hidden, np.nan, truth))
        mine, linear = (
            mae(m.reconstruct(obs, all_sea(obs)), truth, hidden)
            for m in (PatchMatch(), Interpolate())
        )
        assert mine < 0.75 * linear

    def test_what_recurs_is_found_again(self, make_field, all_sea):
        """A hole through every image over a texture seen elsewhere: nothing in time or nearby tells
        what it holds.
        """
        tile = np.random.default_rng(4).normal(size=(8, 8))
        truth = np.tile(tile, (3, 5, 5)).astype(np.float32)
        hidden = np.zeros(truth.shape, bool)
        hidden[:, 17:22, 17:22] = True
        obs = make_field(np.where(hidden, np.nan, truth))
        mine, linear = (
            mae(m.reconstruct(obs, all_sea(obs)), truth, hidden)
            for m in (PatchMatch(), Interpolate())
        )
        assert mine < 0.25 * linear

    def test_stated_error_follows_the_error(self, make_field, all_sea):
        truth, hidden = moving(), cloud()
        obs = make_field(np.where(hidden, np.nan, truth))
        found = PatchMatch().reconstruct(obs, all_sea(obs))
        error, sigma = np.abs(found["mean"].values - truth)[hidden], found["error"].values[hidden]
        low, high = np.quantile(sigma, [0.25, 0.75])
        assert error[sigma > high].mean() > 2 * error[sigma < low].mean()
        assert 0.3 < np.sqrt(np.mean((error / sigma) ** 2)) < 2

    @pytest.mark.slow
    def test_video_under_a_moving_bar(self, shared_data, make_field, all_sea):
        av = pytest.importorskip("av")
        with av.open(str(shared_data / "clips" / "bigbuckbunny.mp4")) as clip:
            frames = [
                f.to_ndarray(format="gray")
                for f, _ in zip(clip.decode(video=0), range(40), strict=False)
            ][10:]
        part = np.stack(frames)[:, 100:356, 500:756].reshape(30, 64, 4, 64, 4).mean((2, 4)) / 255
        hidden = np.zeros(part.shape, bool)
        for t in range(30):
            hidden[t, :, (2 * t + np.arange(10)) % 64] = True
        obs = make_field(np.where(hidden, np.nan, part))
        mine, linear = (
            mae(m.reconstruct(obs, all_sea(obs)), part, hidden)
            for m in (PatchMatch(), Interpolate())
        )
        assert mine < 0.6 * linear and mine < 0.017

    def test_beats_climatology_on_real_clouds(self, shared_data):
        with xr.open_dataset(shared_data / "real" / "alboran_l3s_2022.nc") as ds:
            part = ds.isel(time=slice(0, 20)).load()
        methods = {"patchmatch": PatchMatch(iterations=2), "climatology": "climatology"}
        rmse = dict(zip(methods, sstfill.score(part, methods).data["rmse"].values, strict=True))
        assert rmse["patchmatch"] < 0.7 * rmse["climatology"]


class TestDeterminism:
    def obs(self, make_field) -> xr.DataArray:
        return make_field(np.where(cloud(), np.nan, moving()))

    def test_number_of_threads_does_not_matter(self, make_field, all_sea):
        obs = self.obs(make_field)
        found = []
        for threads in (1, 3):
            with cores(threads):
                found.append(PatchMatch(iterations=2).reconstruct(obs, all_sea(obs)))
        xr.testing.assert_identical(*found)

    def test_a_worker_uses_no_more_threads_than_it_was_granted(
        self, make_field, all_sea, monkeypatch
    ):
        granted = []

        class Pool(ThreadPoolExecutor):
            def __init__(self, threads: int) -> None:
                granted.append(threads)
                super().__init__(threads)

        monkeypatch.setattr("sstfill.methods.patchmatch.method.ThreadPoolExecutor", Pool)
        obs = self.obs(make_field)
        with cores(1):
            PatchMatch(iterations=1, levels=1).reconstruct(obs, all_sea(obs))
        assert granted == [1]

    def test_another_seed_is_another_search_of_the_same_skill(self, make_field, all_sea):
        obs, truth = self.obs(make_field), moving()
        one, other = (PatchMatch(seed=s).reconstruct(obs, all_sea(obs)) for s in (0, 7))
        assert (one["mean"] != other["mean"]).any()
        assert mae(one, truth, cloud()) == pytest.approx(mae(other, truth, cloud()), rel=0.1)

    @pytest.mark.parametrize("dim", ["lat", "lon"])
    def test_direction_of_the_axes_does_not_matter(self, dim, make_field, all_sea):
        obs, method = self.obs(make_field), PatchMatch(iterations=1)
        turned = obs.isel({dim: slice(None, None, -1)})
        back = method.reconstruct(turned, all_sea(turned)).isel({dim: slice(None, None, -1)})
        xr.testing.assert_identical(back, method.reconstruct(obs, all_sea(obs)))


class TestChannels:
    def test_one_channel_tells_where_another_is_alike(self, make_field, all_sea):
        """What is hidden in one channel is filled better with the other at hand, which shows where
        it recurs.
        """
        truth, hidden = moving(), cloud()
        single = make_field(np.where(hidden, np.nan, truth))
        other = make_field(1000 - 50 * truth)
        both = xr.concat([single, other], xr.Variable("variable", ["a", "b"]))
        together = PatchMatch().reconstruct(both, all_sea(both)).isel(variable=0)
        alone = PatchMatch().reconstruct(single, all_sea(single))
        assert mae(together, truth, hidden) < 0.95 * mae(alone, truth, hidden)

    def test_a_channel_without_observations_stays_missing(self, make_field, all_sea):
        obs = make_field(np.where(cloud(), np.nan, moving()))[:3]
        both = xr.concat([obs, obs * np.nan], xr.Variable("variable", ["a", "b"]))
        found = PatchMatch(iterations=1).reconstruct(both, all_sea(both))
        assert found["mean"].notnull().all(("time", "lat", "lon")).values.tolist() == [True, False]
        assert found["mean"][1].isnull().all()


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"patch": 4}, "odd number, such as 5"),
            ({"patch": 17}, "1 to 15"),
            ({"levels": 0}, "levels=0"),
            ({"iterations": 0}, "iterations=0"),
            ({"sweeps": 1.5}, "sweeps=1.5"),
            ({"remove_mean": 1}, "remove_mean=1 is not a truth value"),
            ({"seed": -1}, "seed=-1"),
        ],
    )
    def test_refused(self, options, match):
        with pytest.raises(OptionError, match=match):
            PatchMatch(**options)

    @pytest.mark.parametrize(
        "options",
        [{"patch": 1}, {"patch": 7}, {"levels": 12}, {"sharp": True}, {"remove_mean": False}],
    )
    def test_taken(self, options, make_field, all_sea):
        truth = moving()[:4, :13, :11]
        obs = make_field(np.where(cloud()[:4, :13, :11], np.nan, truth))
        found = PatchMatch(iterations=1, **options).reconstruct(obs, all_sea(obs))
        assert (
            found["mean"].notnull().all() and (found["error"].values[obs.isnull().values] > 0).all()
        )
        assert float(found["mean"].min()) >= float(obs.min()) and float(
            found["mean"].max()
        ) <= float(obs.max())
