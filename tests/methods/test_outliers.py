# SPDX-License-Identifier: Apache-2.0
"""Suspect observations: planted ones are found, few others are blamed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sstfill.methods import Dineof
from sstfill.methods.outliers import THRESHOLD, outlier_index, outliers

NOISE = 0.1


@pytest.fixture
def image():
    """A smooth image, noise, and eight planted outliers of ten standard deviations: observed, smooth, where planted."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:50, 0:60]
    smooth = 15 + 0.01 * x + 0.1 * np.sin(y / 8)
    planted = np.zeros(smooth.shape, bool)
    planted[5:45:5, 7] = True
    return smooth + NOISE * rng.normal(size=smooth.shape) + 10 * NOISE * planted, smooth, planted


def test_planted_outliers_are_flagged_and_few_others(image):
    obs, smooth, planted = image
    suspect = outlier_index(obs, smooth, np.full_like(obs, NOISE)) >= THRESHOLD
    assert suspect[planted].all()
    assert suspect[~planted].mean() < 0.005


def test_index_does_not_depend_on_the_stated_size_of_the_error(image):
    obs, smooth, _ = image
    one, ten = (outlier_index(obs, smooth, np.full_like(obs, s)) for s in (NOISE, 10 * NOISE))
    np.testing.assert_allclose(one, ten, rtol=1e-4)


def test_beside_a_gap_less_is_enough(image):
    obs, smooth, _ = image
    obs = obs.copy()
    obs[20:30, 30:40] = np.nan
    index = outlier_index(obs, smooth, np.full_like(obs, NOISE))
    assert np.isnan(index[20:30, 30:40]).all()
    assert np.nanmin(index[19, 29:41]) >= 1.5 > np.nanmedian(index[:, 45:])


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_an_empty_and_a_constant_image(value):
    obs = np.full((4, 5), value)
    index = outlier_index(obs, np.full((4, 5), 3.0), np.full((4, 5), 0.1))
    assert np.isnan(index).all() if np.isnan(value) else not index.any()


def test_flags_of_a_series_lazily_or_not(make_field, image):
    obs, smooth, planted = image
    series = make_field(np.stack([obs, smooth, np.full_like(obs, np.nan)]))
    mean, error = make_field(np.stack([smooth] * 3)), make_field(np.full((3, 50, 60), NOISE))
    eager = outliers(series, mean, error)
    assert eager.dtype == np.int8 and eager.dims == series.dims and not eager[2].any()
    assert eager[0].values[planted].all()
    lazy = outliers(*(a.chunk(time=2, lat=20) for a in (series, mean, error)))
    assert lazy.chunks
    xr.testing.assert_identical(lazy.compute(), eager)


def test_dineof_finds_a_planted_value(make_field, all_sea):
    rng = np.random.default_rng(1)
    values = 15 + np.einsum("t,yx->tyx", np.sin(np.arange(20) / 3), rng.normal(size=(12, 12)))
    values += 0.05 * rng.normal(size=values.shape)
    values[8, 6, 6] += 4
    found = Dineof(modes=1, outliers=True).reconstruct(obs := make_field(values), all_sea(obs))["outlier"]
    assert found[8, 6, 6] == 1 and found.mean() < 0.05
