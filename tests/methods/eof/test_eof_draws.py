# SPDX-License-Identifier: Apache-2.0
"""Members of Bayesian EOFs: their spread is the error, over patches too, and no window matters."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill import synthetic
from sstfill.errors import ReadError
from sstfill.fields.patches import PatchGrid
from sstfill.methods import BayesEof, Climatology, Dineof
from sstfill.methods.base import FittedSimulates, Simulates
from sstfill.methods.common.keyed import pixel_keys
from sstfill.methods.common.sampling import gather, windows
from sstfill.methods.eof.draws import amplitude_deviations, red_noise
from sstfill.methods.eof.error_correlation import UNCORRELATED, ErrorCorrelation
from sstfill.methods.eof.kalman_smoother import smooth, smooth_draws
from sstfill.methods.registry import fit, load
from sstfill.validation.patch_means import Places, squares

METHOD = BayesEof(modes=8, max_iterations=15, seed=2)


@pytest.fixture(scope="module")
def ocean() -> xr.Dataset:
    return synthetic.ocean(shape=(40, 20, 24), step="1D", seed=2)


@pytest.fixture(scope="module")
def drawn(ocean) -> xr.Dataset:
    return METHOD.simulate(ocean["sst"], ocean["sea"].astype(bool), 100)


@pytest.fixture(scope="module")
def archive(ocean):
    whole = gather(ocean["sst"].chunk(time=10), ocean["sea"].astype(bool))
    return replace(whole, members=3)


@pytest.fixture(scope="module")
def fitted(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted") / "bayes"
    fit(METHOD, archive, folder)
    return load(folder)


class TestRedNoise:
    @pytest.mark.parametrize("time_scale", [0.3, 7.0, 1000.0])
    def test_its_covariance_is_that_of_an_ar1_process(self, time_scale):
        days = np.array([17000.0, 17000.01, 17000.7, 17001, 17003, 17010, 17100])
        series = np.array([red_noise(days, time_scale, (1, m)) for m in range(3000)])
        expected = np.exp(-abs(days[:, np.newaxis] - days) / time_scale)
        np.testing.assert_allclose(np.cov(series.T), expected, atol=0.1)
        assert abs(series.mean(0)).max() < 0.08

    @settings(max_examples=30, deadline=None)
    @given(
        days=st.lists(st.floats(-30000, 30000), min_size=2, max_size=8, unique=True),
        time_scale=st.floats(0.01, 10_000),
        start=st.integers(0, 6),
    )
    def test_it_is_a_function_of_the_time_alone(self, days, time_scale, start):
        whole = red_noise(np.array(days), time_scale, (5,))
        some = slice(min(start, len(days) - 1), None)
        np.testing.assert_array_equal(
            red_noise(np.array(days)[some], time_scale, (5,)), whole[some]
        )
        assert np.isfinite(whole).all() and abs(whole).max() < 7


class TestAmplitudes:
    @pytest.fixture
    def evidence(self):
        rng = np.random.default_rng(0)
        days = np.array([100.0, 101, 102, 105, 106])
        root = rng.normal(0, 1, (5, 2, 2))
        precision = root @ root.transpose(0, 2, 1)
        precision[2] = 0  # an image without observations
        precision[3, 1] = precision[3, :, 1] = 0  # one that shows the first mode only
        return precision, rng.normal(0, 1, (5, 2)), days, np.array([3.0, 20.0])

    def test_several_sets_are_smoothed_as_each_alone(self, evidence):
        precision, right, days, time_scale = evidence
        sets = np.stack([right, -2 * right, 0 * right], axis=-1)
        means = smooth_draws(precision, sets, days, time_scale)
        for j in range(3):
            alone = smooth(precision, sets[..., j], days, time_scale).mean
            np.testing.assert_allclose(means[..., j], alone, atol=1e-12)

    def test_their_covariance_is_that_of_the_posterior_at_all_times_together(self, evidence):
        precision, _, days, time_scale = evidence
        found = amplitude_deviations(precision, days, time_scale, 6000, 3).reshape(6000, -1)
        prior = np.zeros((10, 10))
        for k, scale in enumerate(time_scale):
            prior[k::2, k::2] = np.exp(-abs(days[:, np.newaxis] - days) / scale)
        seen = np.zeros((10, 10))
        for t in range(5):
            seen[2 * t : 2 * t + 2, 2 * t : 2 * t + 2] = precision[t]
        posterior = np.linalg.inv(np.linalg.inv(prior) + seen)
        np.testing.assert_allclose(np.cov(found.T), posterior, atol=0.06)
        assert abs(found.mean(0)).max() < 0.06


class TestMembers:
    def test_mean_and_error_are_those_of_reconstruct(self, ocean, drawn):
        plain = METHOD.reconstruct(ocean["sst"], ocean["sea"].astype(bool))
        xr.testing.assert_identical(drawn[["mean", "error"]].assign_attrs(drawn.attrs), plain)
        assert isinstance(METHOD, Simulates) and not isinstance(Dineof(), Simulates)

    def test_their_spread_is_the_error(self, ocean, drawn):
        at_sea = (ocean["sea"] == 1) & drawn["mean"].notnull()
        assert (drawn["members"].notnull() == drawn["mean"].notnull()).all()
        apart = ((drawn["members"] - drawn["mean"]) / drawn["error"]).where(at_sea)
        assert float(np.square(apart).mean()) == pytest.approx(1, abs=0.02)
        by_image = np.square(apart).mean(("member", "lat", "lon"))
        assert float(by_image.min()) > 0.9 and float(by_image.max()) < 1.1
        by_pixel = np.square(apart).mean(("member", "time"))
        assert float(by_pixel.min()) > 0.8 and float(by_pixel.max()) < 1.2
        assert float(abs(apart.mean("member")).max()) < 0.6

    def test_a_member_is_the_same_among_fewer_and_in_chunks(self, ocean, drawn):
        sea = ocean["sea"].astype(bool)
        lazy = METHOD.simulate(ocean["sst"].chunk(time=16, lat=9), sea, 3)["members"]
        assert lazy.chunks is not None and lazy.dims == ("member", *ocean["sst"].dims)
        np.testing.assert_array_equal(lazy, drawn["members"][:3])
        other = replace(METHOD, seed=3).simulate(ocean["sst"], sea, 1)
        assert float(abs(other["members"][0] - drawn["members"][0]).mean()) > 0.05

    @pytest.mark.parametrize("normalise", [False, True])
    def test_several_variables_have_draws_of_their_own(self, ocean, normalise):
        sst, sea = ocean["sst"], ocean["sea"].astype(bool)
        both = xr.concat([sst, 20 * sst], xr.Variable("variable", ["a", "b"]))
        method = replace(METHOD, normalise=normalise)
        found = method.simulate(both, sea, 40)
        assert found["members"].dims == ("member", *both.dims)
        apart = (found["members"] - found["mean"]) / found["error"]
        squares = np.square(apart).mean(("member", "time", "lat", "lon"))
        np.testing.assert_allclose(squares, 1, atol=0.05)
        assert abs(float(xr.corr(apart[:, 0, 0], apart[:, 1, 0]))) < 0.95


def test_they_tell_the_error_of_means_over_patches():
    """Fields drawn from the model itself, of which half an image is hidden at a time."""
    rng = np.random.default_rng(4)
    times, ny, nx = 60, 12, 16
    y, x = np.mgrid[:ny, :nx]
    waves = [np.sin(np.pi * (k + 1) * x / nx) * np.cos(np.pi * k * y / ny) for k in range(3)]
    patterns = np.stack([wave / wave.std() for wave in waves]) * [[[1.0]], [[0.6]], [[0.3]]]
    standardised, independent = [], []
    for seed in range(4):
        days = np.arange(times, dtype=float)
        amplitudes = np.array([red_noise(days, 2.0 + k, (seed, k)) for k in range(3)])
        truth = np.einsum("kt,kyx->tyx", amplitudes, patterns)
        seen = truth + rng.normal(0, 0.3, truth.shape)
        hidden = np.zeros(truth.shape, bool)
        hidden[1::2, :, : nx - 2] = True
        observations = seen.copy()
        seen = np.where(hidden, np.nan, seen)
        obs = xr.DataArray(seen.astype("f4"), dims=("time", "y", "x"))
        sea = xr.DataArray(np.ones((ny, nx), bool), dims=("y", "x"))
        found = BayesEof(modes=5, seed=seed).simulate(obs, sea, 60)
        patch = {"x": slice(0, nx - 2)}
        error = (found["mean"] - observations).isel(patch).mean(("y", "x"))[1::2]
        spread = (found["members"] - found["mean"]).isel(patch).mean(("y", "x"))[:, 1::2]
        standardised.append(error / np.sqrt(np.square(spread).mean("member")))
        alone = np.sqrt(np.square(found["error"]).isel(patch).sum(("y", "x"))[1::2])
        independent.append(error / (alone / (ny * (nx - 2))))
    assert 0.8 < float(np.sqrt(np.square(np.array(standardised)).mean())) < 1.25
    assert float(np.sqrt(np.square(np.array(independent)).mean())) > 2.5


def test_they_tell_the_error_of_means_where_no_modes_can():
    """Features that are gone the next day: no mode explains them, and they are no white noise."""
    times, ny, nx = 40, 24, 24
    pixels = pixel_keys(*np.indices((ny, nx)).reshape(2, -1))
    features = ErrorCorrelation(0.95, (2.0, 2.0))
    truth = features.normals((8,), range(times), pixels).reshape(times, ny, nx)
    cloud = ErrorCorrelation(1.0, (5.0, 5.0)).normals((9,), range(times), pixels)
    hidden = cloud.reshape(truth.shape) > 0.3
    obs = xr.DataArray(np.where(hidden, np.nan, truth).astype("f4"), dims=("time", "y", "x"))
    found = BayesEof(seed=1).simulate(obs, obs.notnull().any("time"), 40)
    patches = squares(Places(*np.nonzero(hidden)), 4)
    fields = [found[name].values[..., hidden] for name in ("mean", "members", "error")]
    mean, members, error = (part.astype(float) for part in fields)
    wrong = (truth[hidden] - mean)[patches].mean(1)
    spread = np.sqrt(np.square((members - mean)[:, patches].mean(2)).mean(0))
    # `fill` scales error and members alike, as the errors of pixels are found to be.
    scale = np.sqrt(np.mean(np.square((truth[hidden] - mean) / error)))
    assert 0.75 < np.sqrt(np.mean(np.square(wrong / spread))) / scale < 1.35
    alone = np.sqrt(np.square(error[patches]).sum(1)) / patches.shape[1]
    assert np.sqrt(np.mean(np.square(wrong / alone))) / scale > 1.8


class TestArchive:
    def members(self, fitted, archive, core, members=3):
        out = np.full((members, *archive.obs.shape), np.nan, np.float32)
        for window in windows(archive, PatchGrid(core=core, halo=fitted.halo)):
            found = fitted.simulate(window, members)
            plain = fitted.estimate(window)
            xr.testing.assert_identical(found[["mean", "error"]], plain)
            out[:, *window.patch.inside] = found["members"].transpose("member", *plain["mean"].dims)
        return out

    def test_units_draw_what_one_window_over_all_draws(self, fitted, archive):
        whole = self.members(fitted, archive, (100, 100, 100))
        units = self.members(fitted, archive, (16, 12, 13))
        assert (np.isnan(whole) == np.isnan(units)).all()
        spread = np.nanstd(whole)
        assert np.nanmax(abs(whole - units)) < 1e-3 * spread

    def test_their_spread_is_the_error(self, fitted, archive):
        (window,) = windows(archive, PatchGrid(core=(100, 100, 100), halo=fitted.halo))
        found = fitted.simulate(window, 60)
        apart = (found["members"] - found["mean"]) / found["error"]
        assert float(np.square(apart).mean()) == pytest.approx(1, abs=0.02)

    def test_the_correlation_of_errors_is_kept(self, fitted, archive, tmp_path):
        assert fitted.correlation.fraction > 0.2
        fit(METHOD, replace(archive, members=0), tmp_path / "none")
        assert load(tmp_path / "none").correlation == UNCORRELATED
        state = json.loads((fitted.folder / "fitted.json").read_text())
        fitted.save(tmp_path / "bad")
        for wrong in ({"fraction": 1.5}, {"radius": [0.0, 1.0]}, {"radius": [1.0]}):
            bad = state | {"correlation": state["correlation"] | wrong}
            (tmp_path / "bad" / "fitted.json").write_text(json.dumps(bad))
            with pytest.raises(ReadError, match="correlation"):
                load(tmp_path / "bad")

    def test_only_bayesian_modes_draw(self, fitted, archive, tmp_path):
        assert isinstance(fitted, FittedSimulates)
        for method in (Dineof(modes=2), Climatology()):
            folder = tmp_path / method.name
            fit(method, archive, folder)
            assert not isinstance(load(folder), FittedSimulates)
