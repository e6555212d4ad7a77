# SPDX-License-Identifier: Apache-2.0
"""Points set aside to count modes: observed, reproducible, cloud-shaped where there are clouds."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import xarray as xr

from sstfill.methods.common.matrix import pack
from sstfill.methods.eof.holdout import cloud_points, random_points
from sstfill.synthetic import ocean


@pytest.fixture(scope="module")
def cloudy():
    ds = ocean(shape=(30, 20, 22), seed=4, land=0.2)
    return ds.sst, ds.sea == 1


def test_cloud_points_are_observed_and_distinct(cloudy):
    matrix = pack(*cloudy)
    points = cloud_points(matrix, *cloudy, seed=0)
    assert matrix.observed.ravel()[points].all()
    assert len(np.unique(points)) == len(points)
    assert 0.08 <= len(points) / matrix.observed.sum() <= 0.12  # a short series: a tenth


def test_cloud_points_depend_on_the_seed_only(cloudy):
    matrix = pack(*cloudy)
    one, same, other = (cloud_points(matrix, *cloudy, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_cloud_points_lie_together(cloudy):
    matrix = pack(*cloudy)
    alone = neighbours(matrix, cloudy[1], random_points(matrix, np.random.default_rng(0)))
    assert neighbours(matrix, cloudy[1], cloud_points(matrix, *cloudy, seed=0)) > 5 * alone


def neighbours(matrix, sea, points) -> float:
    """Fraction of the points whose neighbour to the right is one too."""
    times, pixels = np.divmod(points, len(matrix.pixels))
    image = np.zeros((len(matrix.times), *sea.shape), bool)
    image.reshape(len(image), -1)[times, matrix.pixels[pixels]] = True
    return float((image[..., 1:] & image[..., :-1]).sum() / image.sum())


def test_pixels_and_images_that_take_no_part_are_heeded(cloudy):
    obs, sea = cloudy
    obs = obs.copy()
    obs[3, :, 2:] = np.nan
    obs[:, 5:8, 5] = np.nan
    matrix = pack(obs, sea, min_pixel_coverage=0.2, min_image_coverage=0.1)
    assert len(matrix.times) < 30
    points = cloud_points(matrix, obs, sea, seed=0)
    assert matrix.observed.ravel()[points].all()


def test_several_variables(cloudy):
    obs, sea = cloudy
    both = xr.concat([obs, obs.where(obs > obs.mean() - 1)], xr.Variable("variable", ["a", "b"]))
    matrix = pack(both, sea)
    points = cloud_points(matrix, both, sea, seed=0)
    assert matrix.observed.ravel()[points].all()
    layer = matrix.pixels[points % len(matrix.pixels)] // sea.size
    assert 0.3 < layer.mean() < 0.7


def test_a_sample_of_the_images_bounds_the_memory(cloudy):
    matrix = pack(*cloudy)
    points = cloud_points(matrix, *cloudy, seed=0, most_cells=1)
    assert len(np.unique(points // len(matrix.pixels))) <= 10
    assert matrix.observed.ravel()[points].all()
    assert 0.05 < len(points) / matrix.observed.sum() < 0.15


def test_without_clouds_single_points_and_a_word_in_the_log(cloudy, caplog):
    obs = ocean(shape=(12, 10, 10), seed=1, fraction=0.0).sst
    sea = obs.notnull().any("time")
    matrix = pack(obs, sea)
    with caplog.at_level(logging.WARNING):
        points = cloud_points(matrix, obs, sea, seed=5)
    assert "single points instead of clouds" in caplog.text
    assert len(points) == len(random_points(matrix, np.random.default_rng(5)))
    np.testing.assert_array_equal(points, cloud_points(matrix, obs, sea, seed=5))


def test_as_many_random_points_as_the_reference_draws(cloudy):
    matrix = pack(*cloudy)
    size = matrix.observed.size
    points = random_points(matrix, np.random.default_rng(0))
    assert len(np.unique(points)) == len(points) == int(min(0.01 * size + 40, 0.03 * size))
    assert matrix.observed.ravel()[points].all()


def test_at_most_half_of_next_to_nothing():
    values = np.full((40, 10, 10), np.nan)
    values[5, 3, 3:7] = 1.0
    obs = xr.DataArray(values, dims=("time", "y", "x"))
    matrix = pack(obs, xr.ones_like(obs[0], dtype=bool))
    assert len(random_points(matrix, np.random.default_rng(0))) == 2
