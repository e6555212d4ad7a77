# SPDX-License-Identifier: Apache-2.0
"""The fit finds the scales of fields drawn from a known covariance, and keeps what it is given."""

from __future__ import annotations

import inspect
from functools import cache

import gaussian
import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from sstfill.methods.oi import covariance_fit, subsample
from sstfill.methods.oi.covariance import Component, Covariance
from sstfill.methods.oi.covariance_fit import (
    FitEffort,
    Fixed,
    ParameterLayout,
    WithheldTrial,
    fit_covariance,
)

pytestmark = pytest.mark.usefixtures("full_fits")

CELL = 10.0
SHAPE = (30, 24, 24)
SEA = xr.DataArray(np.ones(SHAPE[1:], bool), dims=("y", "x"))


def on_plane(values: np.ndarray) -> xr.DataArray:
    coords = {
        d: (d, CELL * np.arange(n), {"units": "km"})
        for d, n in zip("yx", values.shape[1:], strict=True)
    }
    coords["time"] = np.datetime64("2020-01-01", "ns") + np.arange(len(values)) * np.timedelta64(
        1, "D"
    )
    return xr.DataArray(values.astype(np.float32), coords, ("time", "y", "x"), name="sst")


@cache
def drawn(shape: str) -> xr.DataArray:
    """Half seen, of anomaly variance 4 and noise a tenth of it."""
    part = Component(shape, 1.0, (20.0, 30.0), 2.5)
    truth = gaussian.draw(SHAPE, CELL, Covariance(components=(part,), noise=0.1), 1, seed=2)[0]
    noisy = truth + np.sqrt(0.1) * np.random.default_rng(11).normal(size=SHAPE)
    return on_plane(np.where(gaussian.clouds(SHAPE, 0.5, seed=5), np.nan, 15 + 2 * noisy))


def test_the_same_draws_give_the_same_fit() -> None:
    """Other tests rely on it, and fit once: see `tests/conftest.py`."""
    fit = inspect.unwrap(covariance_fit.fit_parameters)
    draws = [WithheldTrial.draw(drawn("exponential"), SEA, "mean", seed) for seed in (0, 1)]
    start = covariance_fit.START["two-scale"]
    little = FitEffort(rounds=1)
    one, other = (fit(draws, start, 0.03, Fixed(), little).to_dict() for _ in range(2))
    assert one == other


@pytest.mark.parametrize("shape", ["exponential", "matern"])
def test_scales_and_noise_are_recovered(shape) -> None:
    found = fit_covariance(drawn(shape), SEA, shape, ["mean"], Fixed(), 0)
    (part,) = found.covariance.components
    for value, truth in (
        (part.length_scale[0], 20),
        (part.length_scale[1], 30),
        (part.time_scale, 2.5),
    ):
        assert truth / 1.5 < value < truth * 1.5
    assert part.length_scale[0] < part.length_scale[1]
    assert 0.1 / 1.7 < found.covariance.noise / part.variance < 0.1 * 1.7


def test_what_is_given_is_kept() -> None:
    fixed = Fixed(length_scale=(33.0, 44.0), time_scale=1.25, noise=0.07)
    little = FitEffort(draws=2, targets=40)
    found = fit_covariance(drawn("exponential"), SEA, "auto", ["mean"], fixed, 0, effort=little)
    (part,) = found.covariance.components
    assert (part.length_scale, part.time_scale) == ((33.0, 44.0), 1.25)
    assert found.covariance.noise / part.variance == pytest.approx(0.07, rel=1e-9)


def test_one_given_the_others_are_fitted() -> None:
    found = fit_covariance(
        drawn("exponential"), SEA, "exponential", ["mean"], Fixed(time_scale=2.5), 0
    )
    assert found.covariance.components[0].time_scale == 2.5
    assert 20 / 1.5 < found.covariance.components[0].length_scale[0] < 20 * 1.5


def test_the_covariance_that_scores_best_is_taken() -> None:
    fixed, smooth = Fixed(length_scale=(20.0, 30.0)), drawn("matern")
    tried = {
        shape: fit_covariance(smooth, SEA, shape, ["mean"], fixed, 0).log_score
        for shape in ("exponential", "matern")
    }
    found = fit_covariance(smooth, SEA, "auto", ["mean"], fixed, 0)
    assert found.covariance.components[0].shape == min(tried, key=tried.__getitem__) == "matern"
    assert found.log_score == pytest.approx(tried["matern"], abs=1e-6)


def test_the_background_is_chosen_by_the_data() -> None:
    obs = drawn("exponential")
    course = 3 * np.sin(np.arange(SHAPE[0]) / 2)[:, np.newaxis, np.newaxis]
    seesaw = (
        4 * np.random.default_rng(0).normal(size=SHAPE[0])[:, np.newaxis, np.newaxis]
    )  # no mean in any image
    seesaw = seesaw * np.where(np.arange(SHAPE[2]) < SHAPE[2] // 2, 1, -1)
    fixed = Fixed(length_scale=(20.0, 30.0), time_scale=2.5, noise=0.1)
    chosen = [
        fit_covariance(o, SEA, "exponential", ["pixel", "additive"], fixed, 0).background
        for o in (obs + seesaw, obs + course)
    ]
    assert chosen == ["pixel", "additive"]


def test_flow_is_used_in_the_fit() -> None:
    seen = drawn("exponential")
    trial = WithheldTrial.draw(seen, SEA, "mean", 0)
    one = Covariance(components=(Component("exponential", 1.0, (20.0, 30.0), 2.5),), noise=0.1)
    assert trial.score(one)(one)[0] < trial.score(one, (0.5, 0.5))(one)[0]  # nothing drifts here


@pytest.mark.parametrize(
    "fixed", [Fixed(), Fixed(length_scale=(5.0, 6.0)), Fixed(time_scale=2.0, noise=0.2)]
)
def test_layout_packs_and_unpacks(fixed) -> None:
    parts = (
        Component("matern", 0.6, (20.0, 10.0), 4.0),
        Component("exponential", 0.3, (6.0, 3.0), 1.0),
    )
    layout = ParameterLayout(parts, fixed)
    back = layout.covariance(layout.pack(parts, 0.05))
    for part, other in zip(parts, back.components, strict=True):
        assert other.variance == pytest.approx(part.variance)
        assert other.length_scale == pytest.approx(
            fixed.length_scale if fixed.length_scale[0] > 0 else part.length_scale
        )
        assert other.time_scale == pytest.approx(
            fixed.time_scale if fixed.time_scale > 0 else part.time_scale
        )
    assert back.noise == pytest.approx(
        0.05 if np.isnan(fixed.noise) else fixed.noise * back.variance
    )


def test_a_series_without_clouds_to_lend_is_fitted_all_the_same() -> None:
    model = Covariance(components=(Component("gauss", 1.0, (20.0, 20.0), 2.0),), noise=0.0)
    full = on_plane(gaussian.draw((3, 8, 8), CELL, model, 1, seed=4)[0])
    hidden = covariance_fit.withheld(full, SEA[:8, :8], 0)
    assert 0 < hidden.sum() < hidden.size / 2
    single = full[:1].where(gaussian.clouds((1, 8, 8), 0.4, seed=5) == 0)
    hidden = covariance_fit.withheld(single, SEA[:8, :8], 0)
    assert (
        0 < hidden.sum() < int(single.notnull().sum()) and not hidden[single.isnull().values].any()
    )


def test_too_little_to_fit_gives_the_start_with_what_was_given() -> None:
    values = np.full((2, 3, 3), np.nan)
    values[0, 1, 1] = 12.0
    found = fit_covariance(on_plane(values), SEA[:3, :3], "auto", ["pixel"], Fixed(noise=0.2), 0)
    assert found.covariance.noise / found.covariance.variance == pytest.approx(0.2)
    assert found.background == "pixel"


@pytest.mark.parametrize("lazy", [False, True])
def test_excerpt_is_where_most_is_observed(lazy) -> None:
    values = np.full((12, 14, 14), np.nan)
    values[7:11, 8:13, 1:7] = 1.0
    obs = on_plane(values)
    part, sea = subsample.excerpt(obs.chunk(time=5) if lazy else obs, SEA[:14, :14], (4, 5, 6))
    assert part.shape == (4, 5, 6) and sea.shape == (5, 6) and bool(part.notnull().all())
    assert part.time.values[0] == obs.time.values[7] and part.chunks is None


@pytest.mark.parametrize(
    ("shape", "window"),
    [((20, 14, 14), (10, 10)), ((20, 40, 5), (20, 5)), ((20, 5, 40), (5, 20)), ((4, 9, 9), (9, 9))],
)
def test_excerpt_of_a_large_series_is_a_window(shape, window, monkeypatch) -> None:
    monkeypatch.setattr(subsample, "VALUES", 2000)
    monkeypatch.setattr(subsample, "LEAST_SIDE", 1)
    obs = on_plane(np.ones(shape))
    part, sea = subsample.excerpt(obs, xr.ones_like(obs[0], bool))
    assert part.shape == (shape[0], *window) and sea.shape == window


def test_excerpt_of_few_images_holds_their_gaps() -> None:
    values = np.ones((2, 200, 230))
    values[:, 40:, 60:] = np.nan
    obs = on_plane(values)
    assert subsample.excerpt(obs, xr.ones_like(obs[0], bool))[0].shape == (2, 200, 230)


def test_whole_regions_of_one_image_are_withheld() -> None:
    obs = on_plane(np.where(gaussian.clouds((1, 60, 60), 0.3, seed=3), np.nan, 1.0))
    sea = xr.ones_like(obs[0], bool)
    hidden = covariance_fit.withheld(obs, sea, 0)
    seen = int(obs.notnull().sum())
    assert (
        hidden.sum() == pytest.approx(0.4 * seen, abs=1) and not hidden[obs.isnull().values].any()
    )
    inside = ndimage.binary_erosion(hidden[0] | obs.isnull().values[0])
    assert (inside & hidden[0]).sum() > 0.3 * hidden.sum()  # of scattered ones it would be 4 %


def test_excerpt_of_the_evenly_observed_is_the_middle() -> None:
    part, _ = subsample.excerpt(on_plane(np.ones((12, 14, 14))), SEA[:14, :14], (4, 4, 4))
    assert [float(part[d][0]) / CELL for d in "yx"] == [5.0, 5.0] and part.time[0] == on_plane(
        np.ones((12, 1, 1))
    ).time[4]


def test_correlation_of_channels() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=(4, 9, 9))
    pair = np.stack([common, -common + 0.5 * rng.normal(size=common.shape)]).astype(np.float32)
    cross = covariance_fit._correlation(pair)
    assert cross[0, 1] == cross[1, 0] == pytest.approx(-1 / np.sqrt(1.25), abs=0.05)
    pair[1][np.isfinite(pair[0])] = np.nan  # never seen together
    np.testing.assert_array_equal(covariance_fit._correlation(pair), np.eye(2))
    assert (
        np.linalg.eigvalsh(
            covariance_fit._correlation(np.stack([common] * 3).astype(np.float32))
        ).min()
        > 0
    )
