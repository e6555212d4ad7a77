# SPDX-License-Identifier: Apache-2.0
"""Values picked at hidden pixels: in one order, each read once, whatever the chunks and dims."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from sstfill.validation.withheld_estimates import SLAB, gather


def cloudy(*shape: int) -> xr.DataArray:
    dims = ("variable", "time", "lat", "lon")[-len(shape) :]
    return xr.DataArray(np.random.default_rng(0).normal(size=shape).astype("f4"), dims=dims)


def hidden_in(obs: xr.DataArray, fraction: float = 0.2) -> xr.DataArray:
    return obs.copy(data=np.random.default_rng(1).random(obs.shape) < fraction)


@pytest.mark.parametrize("chunks", [{"time": 3}, {"time": 7, "lat": 3, "lon": 4}])
def test_gathered_pixels_come_in_one_order_whatever_the_chunks(chunks):
    obs = cloudy(SLAB + 5, 8, 9)
    hidden = hidden_in(obs)
    whole = gather(hidden, obs)
    for one, other in zip(whole, gather(hidden, obs.chunk(chunks)), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(whole[0], obs.values[hidden.values])
    np.testing.assert_array_equal(whole[1], np.nonzero(hidden.values)[0])
    assert whole[0].dtype == np.float64 and not whole[2].any()


def test_images_come_before_variables():
    obs = cloudy(2, 5, 3, 4)
    hidden = hidden_in(obs)
    values, image, layer = gather(hidden, obs)
    assert (np.diff(image) >= 0).all() and set(layer) == {0, 1}
    ordered = obs.transpose("time", "variable", "lat", "lon").values
    np.testing.assert_array_equal(values, ordered[np.nonzero(hidden.transpose("time", ...).values)])
    for one, other in zip(
        (values, image, layer), gather(hidden, obs.chunk(variable=1, time=2)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_fields_of_any_order_of_dims_lazy_beside_eager():
    obs = cloudy(6, 4, 5)
    hidden = hidden_in(obs)
    turned = (2 * obs).transpose("lon", "time", "lat").chunk(time=4)
    one, two, *_ = gather(hidden, obs, turned)
    np.testing.assert_array_equal(two, 2 * one)


def test_what_lazy_fields_share_is_computed_once():
    reads = []

    def read(block: NDArray) -> NDArray:
        reads.append(block.shape)
        return block

    obs = cloudy(6, 4, 5)
    lazy = obs.chunk(time=2)
    counted = lazy.copy(data=lazy.data.map_blocks(read, meta=np.empty((0, 0, 0), "f4")))
    one, other, *_ = gather(hidden_in(obs), counted + 1, counted * 2)
    assert len(reads) == 3
    np.testing.assert_allclose(other, 2 * (one - 1), rtol=1e-5)


def test_nothing_hidden():
    values, image, layer = gather(hidden_in(cloudy(3, 4, 5), 0.0), cloudy(3, 4, 5))
    assert values.shape == image.shape == layer.shape == (0,)
