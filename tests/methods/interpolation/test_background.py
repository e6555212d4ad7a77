# SPDX-License-Identifier: Apache-2.0
"""The first guess: means of pixels and images, where they are and where they are not observed."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from sstfill.methods.interpolation import background as module
from sstfill.methods.interpolation.background import fit_background


def additive(days: np.ndarray, seed: int = 0, noise: float = 0.1, missing: float = 0.5):
    """Field, pattern and course that add up to it but for noise."""
    rng = np.random.default_rng(seed)
    pattern = 0.2 * np.add.outer(np.arange(8.0), np.arange(9.0))
    course = 3 * np.sin(2 * np.pi * days / 20)
    values = (
        15
        + course[:, np.newaxis, np.newaxis]
        + pattern
        + noise * rng.normal(size=(len(days), 8, 9))
    )
    values[rng.random(values.shape) < missing] = np.nan
    return values.astype(np.float32), pattern, course


def test_additive_recovers_pattern_and_course(make_field, all_sea) -> None:
    values, pattern, course = additive(np.arange(40.0))
    obs = make_field(values)
    found = fit_background(obs, all_sea(obs), "additive")
    whole = found.pixel + found.image[:, np.newaxis, np.newaxis]
    assert np.abs(whole - (15 + pattern + course[:, np.newaxis, np.newaxis])).max() < 0.3
    assert found.scatter.mean() == pytest.approx(0.1, rel=0.3)


def test_images_without_observation_lie_between_their_neighbours(make_field, all_sea) -> None:
    days = np.cumsum(np.tile([0.5, 1.5], 20))
    values, _, course = additive(days)
    values[[7, 20, 21]] = np.nan
    found = fit_background(make_field(values, days), all_sea(make_field(values)), "additive")
    error = found.image - course
    np.testing.assert_allclose(error[[7, 20, 21]], error.mean(), atol=0.5)
    assert np.ptp(course) > 5


def test_pixels_never_observed_get_the_membrane(make_field, all_sea) -> None:
    values, pattern, _ = additive(np.arange(40.0), missing=0.2)
    values[:, 3:6, 4:7] = np.nan
    found = fit_background(make_field(values), all_sea(make_field(values)), "additive")
    slope = found.pixel - found.pixel.mean() - (pattern - pattern.mean())
    assert np.abs(slope[3:6, 4:7]).max() < 0.25 < np.ptp(pattern[3:6, 4:7])  # a plane is harmonic
    assert np.isfinite(found.scatter).all()


def test_kinds_differ_as_they_say(make_field, all_sea) -> None:
    obs = make_field(additive(np.arange(30.0))[0])
    mean, pixel = (fit_background(obs, all_sea(obs), kind) for kind in ("mean", "pixel"))
    assert np.ptp(mean.pixel) == 0 and not mean.image.any() and not pixel.image.any()
    assert np.ptp(pixel.pixel) > 2 and mean.pixel[0, 0] == pytest.approx(
        float(obs.mean()), abs=1e-4
    )
    assert pixel.scatter.mean() < mean.scatter.mean()


@pytest.mark.parametrize("coords", [True, False])
def test_names_of_the_dimensions_do_not_matter(coords, make_field, all_sea) -> None:
    obs = make_field(additive(np.arange(30.0))[0])
    other = (
        obs.rename(lat="y", lon="x")
        if coords
        else obs.rename(lat="y", lon="x").drop_vars(["y", "x"])
    )
    for a, b in zip(
        *(fit_background(o, all_sea(o), "additive") for o in (obs, other)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_land_does_not_count(make_field, all_sea) -> None:
    obs = make_field(additive(np.arange(30.0))[0])
    sea = all_sea(obs)
    sea[:, 6:] = False
    spoilt = obs.copy()
    spoilt[:, :, 6:] = 999.0
    one, other = (fit_background(o, sea, "additive") for o in (obs, spoilt))
    np.testing.assert_allclose(one.image, other.image)
    np.testing.assert_allclose(one.pixel[:, :6], other.pixel[:, :6])


def test_lazy_equals_eager_and_is_never_whole_in_memory(make_field, all_sea) -> None:
    obs = make_field(additive(np.arange(40.0))[0])
    sizes = []

    def look(block):
        sizes.append(block.size)
        return block

    lazy = obs.chunk(time=7, lat=4, lon=3)
    lazy = lazy.copy(
        data=lazy.data.map_blocks(look, dtype=lazy.dtype, meta=np.empty((0, 0, 0), lazy.dtype))
    )
    with dask.config.set(scheduler="synchronous"):
        one, other = (fit_background(o, all_sea(obs), "additive", sample=20) for o in (obs, lazy))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert (
        len(sizes) <= 3 * 6 * 2 * 3 and max(sizes) == 7 * 4 * 3
    )  # three passes: a sample, means, scatter


def dense(raw, coverage, rest, days, scale, power):
    """Posterior mean, and log likelihood but for a constant, by full matrices."""
    there = coverage > 0
    noise = rest / (1 + module.INDEPENDENT * coverage[there])
    full = power * np.exp(-np.abs(days[:, np.newaxis] - days[there]) / scale)
    inner = full[there] + np.diag(noise)
    weights = np.linalg.solve(inner, raw[there])
    return full @ weights, -0.5 * raw[there] @ weights - 0.5 * np.linalg.slogdet(inner)[1]


def test_smoothing_of_the_images_is_that_of_the_full_matrices() -> None:
    rng = np.random.default_rng(3)
    days = np.cumsum(rng.uniform(0.2, 2, 50))
    raw, coverage = np.cumsum(rng.normal(size=50)), np.maximum(rng.uniform(-0.3, 1, 50), 0)
    raw[coverage == 0] = 0.0
    there = coverage > 0
    well = coverage[there] >= min(0.05, np.median(coverage[there]))
    power, step = float(np.var(raw[there][well])), np.median(np.diff(days))
    tried = [dense(raw, coverage, 0.8, days, scale, power) for scale in module.TRIED * step]
    best = max(tried, key=lambda pair: pair[1])[0]
    np.testing.assert_allclose(module._smoothed(raw, coverage, 0.8, days)[0], best, atol=1e-6)


def test_a_constant_series_has_no_scatter(make_field, all_sea) -> None:
    obs = make_field(np.full((6, 4, 5), 12.5, np.float32))
    for kind in ("mean", "pixel", "additive"):
        found = fit_background(obs, all_sea(obs), kind)
        np.testing.assert_allclose(found.pixel + found.image[0], 12.5, rtol=1e-6)
        assert (found.scatter > 0).all() and (found.scatter < 1e-3).all()


def test_sample_that_misses_a_small_sea(make_field) -> None:
    values = np.full((3, 40, 41), np.nan, np.float32)
    values[:, 1, 1] = 7.0
    obs = make_field(values)
    sea = xr.zeros_like(obs[0], dtype=bool).reset_coords(drop=True)
    sea[1, 1] = True
    assert fit_background(obs, sea, "mean").pixel[1, 1] == 7.0


def tilted(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A plane, and what an image shows of it."""
    rows, columns = np.indices(seen.shape)
    truth = 12 + 0.3 * rows - 0.2 * columns
    return truth, np.where(seen, truth, np.nan)[np.newaxis]


def test_a_trend_is_the_plane_through_the_observations(make_field, all_sea) -> None:
    seen = np.random.default_rng(0).random((12, 15)) < 0.3
    seen[:2, :2] = seen[-2:, -2:] = seen[:2, -2:] = seen[-2:, :2] = True
    truth, shown = tilted(seen)
    obs = make_field(shown)
    found = fit_background(obs, all_sea(obs), "trend")
    np.testing.assert_allclose(found.pixel, truth, atol=1e-9)
    assert np.ptp(found.scatter) == 0 and found.scatter.max() < 1e-6


def test_a_trend_does_not_leave_the_range_of_the_observations(make_field, all_sea) -> None:
    seen = np.zeros((40, 50), bool)
    seen[:6, :8] = True
    truth, shown = tilted(seen)
    obs = make_field(shown)
    found = fit_background(obs, all_sea(obs), "trend").pixel
    np.testing.assert_allclose(found[:6, :8], truth[:6, :8], atol=1e-9)
    assert np.nanmin(shown) - 1e-9 <= found.min() and found.max() <= np.nanmax(shown) + 1e-9


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1)], ids=str)
def test_a_trend_of_one_line_or_one_pixel_is_finite(shape, make_field, all_sea) -> None:
    obs = make_field(np.arange(np.prod(shape), dtype=float).reshape(1, *shape))
    found = fit_background(obs, all_sea(obs), "trend")
    np.testing.assert_allclose(found.pixel, obs.values[0], atol=1e-9)


@pytest.mark.parametrize("kind", ["mean", "trend"])
def test_few_images_scatter_alike_everywhere(kind, make_field, all_sea) -> None:
    """A pixel that is like the mean by chance does not seem to hardly vary."""
    values = np.random.default_rng(0).normal(size=(4, 20, 30))
    values[:, :, :15] *= 0.01
    few, many = (make_field(values[:times]) for times in (3, 4))
    one, other = (fit_background(obs, all_sea(obs), kind).scatter for obs in (few, many))
    assert np.ptp(one) == 0 and one[0, 0] == pytest.approx(np.sqrt(0.5), rel=0.1)
    assert other[:, -1].mean() > 1.5 * other[:, 0].mean()
