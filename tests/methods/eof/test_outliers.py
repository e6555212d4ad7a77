# SPDX-License-Identifier: Apache-2.0
"""Suspect observations: planted ones are found, few others are blamed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import binary_dilation

from sstfill.methods import Dineof
from sstfill.methods.eof.outliers import BOX, THRESHOLD, _median_test, outlier_index, outliers
from sstfill.synthetic import ocean

NOISE = 0.1
SEA = np.ones((50, 60), bool)


@pytest.fixture
def image():
    """A smooth image, noise, and eight planted outliers of ten standard deviations: observed,
    smooth, where planted.
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:50, 0:60]
    smooth = 15 + 0.01 * x + 0.1 * np.sin(y / 8)
    planted = np.zeros(smooth.shape, bool)
    planted[5:45:5, 7] = True
    return smooth + NOISE * rng.normal(size=smooth.shape) + 10 * NOISE * planted, smooth, planted


def test_planted_outliers_are_flagged_and_few_others(image):
    obs, smooth, planted = image
    suspect = outlier_index(obs, smooth, np.full_like(obs, NOISE), SEA) >= THRESHOLD
    assert suspect[planted].all()
    assert suspect[~planted].mean() < 0.005


def test_index_does_not_depend_on_the_stated_size_of_the_error(image):
    obs, smooth, _ = image
    one, ten = (outlier_index(obs, smooth, np.full_like(obs, s), SEA) for s in (NOISE, 10 * NOISE))
    np.testing.assert_allclose(one, ten, rtol=1e-4)


def test_beside_a_gap_less_is_enough(image):
    obs, smooth, _ = image
    obs = obs.copy()
    obs[20:30, 30:40] = np.nan
    index = outlier_index(obs, smooth, np.full_like(obs, NOISE), SEA)
    assert np.isnan(index[20:30, 30:40]).all()
    assert np.nanmin(index[19, 29:41]) >= 1.5 > np.nanmedian(index[:, 45:])


def test_the_coast_is_no_cloud(image):
    obs, smooth, planted = image
    sea = SEA.copy()
    sea[20:30, 30:40] = False
    at_coast, at_sea = (np.where(sea, a, np.nan) for a in (obs, smooth))
    index = outlier_index(at_coast, at_sea, np.full_like(obs, NOISE), sea)
    assert np.isnan(index[~sea]).all() and np.isfinite(index[sea]).all()
    beside = np.r_[index[19, 29:41], index[30, 29:41], index[20:30, 29], index[20:30, 40]]
    assert np.median(beside) < 1 and (index[planted] >= THRESHOLD).all()
    cloudy = at_coast.copy()
    cloudy[19, 35] = np.nan  # a gap at sea by the coast still counts
    rise = outlier_index(cloudy, at_sea, np.full_like(obs, NOISE), sea) - index
    assert rise[18, 34:37].min() > 1.4 and abs(rise[30, 35]) < 0.1


def test_values_on_land_have_no_say(image):
    obs, smooth, _ = image
    sea = SEA.copy()
    sea[:, 50:] = False
    error = np.full_like(obs, NOISE)
    index = outlier_index(np.where(sea, obs, 1e3), smooth, error, sea)
    np.testing.assert_array_equal(
        index, outlier_index(np.where(sea, obs, np.nan), smooth, error, sea)
    )


def test_the_box_reaches_as_far_as_it_says():
    image = np.random.default_rng(2).normal(size=(5 * BOX, 5 * BOX))
    tile = (slice(2 * BOX, 3 * BOX),) * 2
    far, near = image.copy(), image.copy()
    inside = np.zeros(image.shape, bool)
    inside[BOX : 4 * BOX, BOX : 4 * BOX] = True
    far[~inside] += 100
    near[BOX, BOX] = near[4 * BOX - 1, 4 * BOX - 1] = 100  # the outermost pixels of the box
    expected = _median_test(image)[tile]
    np.testing.assert_array_equal(_median_test(far)[tile], expected)
    assert not np.array_equal(_median_test(near)[tile], expected)


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_an_empty_and_a_constant_image(value):
    obs = np.full((4, 5), value)
    index = outlier_index(obs, np.full((4, 5), 3.0), np.full((4, 5), 0.1), np.ones((4, 5), bool))
    assert np.isnan(index).all() if np.isnan(value) else not index.any()


def test_flags_of_a_series_lazily_or_not(make_field, all_sea, image):
    obs, smooth, planted = image
    series = make_field(np.stack([obs, smooth, np.full_like(obs, np.nan)]))
    mean, error = make_field(np.stack([smooth] * 3)), make_field(np.full((3, 50, 60), NOISE))
    sea = all_sea(series)
    eager = outliers(series, mean, error, sea)
    assert eager.dtype == np.int8 and eager.dims == series.dims
    assert (eager[0].values[planted] == 1).all() and (eager[2] == 2).all()
    lazy = outliers(*(a.chunk(time=2, lat=20) for a in (series, mean, error)), sea.chunk(lat=20))
    assert lazy.chunks
    xr.testing.assert_identical(lazy.compute(), eager)


def test_flags_tell_what_was_not_observed(make_field, all_sea, image):
    obs, smooth, planted = image
    obs = obs.copy()
    obs[40:45, 40:50] = np.nan
    series = make_field(np.stack([obs, obs])).assign_attrs(
        standard_name="sea_surface_temperature", units="K"
    )
    mean = make_field(
        np.stack([smooth, np.full_like(smooth, np.nan)])
    )  # the second image took no part
    sea = all_sea(series).copy()
    sea[:5] = False
    flag = outliers(series, mean, make_field(np.full(series.shape, NOISE)), sea)
    np.testing.assert_array_equal(flag == 2, ~(series.notnull() & sea).transpose(*series.dims))
    assert (flag[0].values[planted & sea.values] == 1).all() and not (flag[1] == 1).any()
    assert flag.attrs.pop("flag_values").tolist() == [0, 1, 2]
    assert flag.attrs == {
        "long_name": "suspect observation",
        "standard_name": "sea_surface_temperature status_flag",
        "flag_meanings": "accepted suspect not_observed",
    }
    assert "standard_name" not in outliers(series.drop_attrs(), mean, mean, sea).attrs


def test_dineof_finds_a_planted_value(make_field, all_sea):
    rng = np.random.default_rng(1)
    values = 15 + np.einsum("t,yx->tyx", np.sin(np.arange(20) / 3), rng.normal(size=(12, 12)))
    values += 0.05 * rng.normal(size=values.shape)
    values[8, 6, 6] += 4
    found = Dineof(modes=1, outliers=True).reconstruct(obs := make_field(values), all_sea(obs))[
        "outlier"
    ]
    assert found[8, 6, 6] == 1 and found.mean() < 0.05


def test_dineof_blames_the_coast_no_more_than_open_sea():
    ds = ocean(shape=(20, 24, 28), seed=3, land=0.3)
    sea = ds.sea == 1
    flag = Dineof(modes=3, outliers=True).reconstruct(ds.sst, sea)["outlier"]
    np.testing.assert_array_equal(flag == 2, ds.sst.isnull() | ~sea)
    assert flag.attrs["standard_name"] == f"{ds.sst.attrs['standard_name']} status_flag"
    assert "units" not in flag.attrs
    full = ds.truth.where(sea)  # without a cloud nothing is near one
    flag = Dineof(modes=3, outliers=True).reconstruct(full, sea)["outlier"]
    coast = sea & xr.DataArray(binary_dilation(~sea, np.ones((3, 3))), coords=sea.coords)
    assert float((flag == 1).where(coast).mean()) < 0.15
