# SPDX-License-Identifier: Apache-2.0
"""Fields made of several: the recipe holds pixel by pixel, lazy or not."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sstfill.validation import blend_weights
from sstfill.validation.blend import combined, rescaled
from sstfill.validation.calibration import StratifiedScale
from sstfill.validation.cross_validation import BlendRecipe
from sstfill.validation.distances import distance_to_data


def gappy() -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 5, 7)).astype("f4")
    values[rng.random(values.shape) < 0.6] = np.nan
    return xr.DataArray(values, dims=("time", "y", "x"))


def estimate(obs: xr.DataArray, value: float, error: float | None = None) -> xr.Dataset:
    found = xr.Dataset({"mean": xr.full_like(obs, value)})
    return found if error is None else found.assign(error=xr.full_like(obs, error))


WEIGHTS = blend_weights.Weights(
    np.array([1.0, 4.0]), np.ones(1), np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
)


@pytest.mark.parametrize("chunks", [None, {"time": 4, "x": 3}])
def test_the_weights_of_each_pixel_go_with_its_distance(chunks):
    obs = gappy() if chunks is None else gappy().chunk(chunks)
    parts = [estimate(obs, 10.0, 1.0), estimate(obs, 20.0)]
    found = combined(BlendRecipe(WEIGHTS, np.array([[2.0, 1.0]])), parts, obs)
    assert found["mean"].chunks == obs.chunks == found["error"].chunks
    expected = WEIGHTS.at(distance_to_data(gappy())[0].values, np.zeros(obs.shape)) @ [10.0, 20.0]
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-5)
    near = (distance_to_data(gappy())[0] <= 1).values
    np.testing.assert_allclose(
        found["error"].values[near], 2.0, rtol=1e-3
    )  # the scale of the first


def test_one_estimate_is_taken_as_it_is_but_for_its_scale():
    obs = gappy()
    found = combined(
        BlendRecipe(blend_weights.Weights.alone(0, 1), np.array([[3.0]])),
        [estimate(obs, 5.0, 0.5)],
        obs,
    )
    assert (found["mean"] == 5).all() and (found["error"] == 1.5).all()
    assert list(
        combined(
            BlendRecipe(blend_weights.Weights.alone(0, 1), np.ones((1, 1))),
            [estimate(obs, 5.0)],
            obs,
        )
    ) == ["mean"]


@pytest.mark.parametrize("chunks", [None, {"time": 4, "x": 3}])
def test_errors_are_scaled_by_how_far_a_pixel_is_from_data(chunks):
    obs = gappy() if chunks is None else gappy().chunk(chunks)
    scale = StratifiedScale(
        np.array([1.0, 4.0]), np.array([1.0, 2.0]), np.log([[1.0, 2.0], [3.0, 6.0]])
    )
    found = rescaled(estimate(obs, 5.0, 0.5), scale, obs)
    assert found["error"].chunks == obs.chunks and (found["mean"] == 5).all()
    distance, lag = (a.values for a in distance_to_data(gappy()))
    np.testing.assert_allclose(found["error"], 0.5 * scale.at(distance, lag), rtol=1e-5)
    assert found["error"].values.min() == 0.5 and found["error"].values.max() > 1
    assert list(rescaled(estimate(obs, 5.0), scale, obs)) == ["mean"]
