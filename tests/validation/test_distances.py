# SPDX-License-Identifier: Apache-2.0
"""How far pixels are from data: in km and days, for each variable, whatever the chunks."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sstfill.validation.distances import distance_to_data


def gappy() -> xr.DataArray:
    values = np.random.default_rng(0).normal(size=(2, 9, 6, 7))
    values[np.random.default_rng(1).random(values.shape) < 0.6] = np.nan
    values[:, 3] = np.nan
    values[1, :, 2, 2] = np.nan
    coords = {
        "variable": ["a", "b"],
        "time": np.arange(9),
        "lat": 60 + np.arange(6) / 10,
        "lon": np.arange(7) / 10,
    }
    return xr.DataArray(values, coords, ("variable", "time", "lat", "lon"))


@pytest.mark.parametrize("chunks", [{"time": 4}, {"variable": 1, "time": 4, "lat": 3, "lon": 5}])
def test_distances_are_lazy_and_the_same(chunks):
    for one, other in zip(
        distance_to_data(gappy()), distance_to_data(gappy().chunk(chunks)), strict=True
    ):
        assert other.chunks == gappy().chunk(chunks).chunks and other.dims == one.dims
        np.testing.assert_array_equal(one, other)


def test_reach_in_km_and_days_of_each_variable():
    obs = gappy()
    distance, lag = distance_to_data(obs)
    seen = obs.notnull()
    assert (distance.where(seen, 0) == 0).all() and (lag.where(seen, 0) == 0).all()
    assert (
        np.isinf(distance[:, 3]).all()
        and np.isinf(lag[1, :, 2, 2]).all()
        and np.isfinite(lag[0, :, 2, 2]).all()
    )
    one = xr.full_like(obs[0, :1], np.nan)
    one[0, 0, 0] = 1.0
    assert float(distance_to_data(one)[0][0, 0, 2]) == pytest.approx(
        2 * 0.1 * 111.2 * np.cos(np.deg2rad(60.25)), rel=0.01
    )
    assert float(distance_to_data(one)[0][0, 3, 0]) == pytest.approx(3 * 0.1 * 111.2, rel=0.01)


def test_a_field_without_coordinates_is_measured_in_pixels():
    obs = xr.DataArray(np.full((3, 4, 5), np.nan), dims=("time", "y", "x"))
    obs[1, 2, 0] = 1.0
    distance, lag = distance_to_data(obs)
    assert distance.dtype == lag.dtype == np.float32
    assert distance[1, 2].values.tolist() == [0, 1, 2, 3, 4] and lag[:, 2, 0].values.tolist() == [
        1,
        0,
        1,
    ]
