# SPDX-License-Identifier: Apache-2.0
"""A field as a few modes: its variance by brute force, its layout on the grid, lazily or not."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import xarray as xr

from sstfill.methods.common.lowrank import LowRank, as_fields
from sstfill.methods.common.matrix import pack

N, K = 7, 2


def decomposition(pixels: int, times: int = N, dtype: type = np.float64) -> LowRank:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(times, K, K))
    arrays = (
        rng.normal(size=(pixels, K)),
        rng.normal(size=(times, K)),
        root @ root.transpose(0, 2, 1),
        rng.random((pixels, K)),
        rng.random(pixels),
    )
    return LowRank(*(a.astype(dtype) for a in arrays))


def test_variance_of_a_product_of_uncertain_factors():
    low = decomposition(5)
    found = low.variance(slice(0, N))
    for t in range(N):
        for i in range(5):
            u, c = low.patterns[i], low.amplitudes[t]
            uu, cc = (
                np.outer(u, u) + np.diag(low.pattern_variance[i]),
                np.outer(c, c) + low.amplitude_covariance[t],
            )
            assert found[t, i] == pytest.approx((uu * cc).sum() - (u @ c) ** 2 + low.noise[i])


def test_variance_by_drawing():
    low, rng, draws = decomposition(2), np.random.default_rng(1), 200_000
    u = low.patterns[1] + np.sqrt(low.pattern_variance[1]) * rng.normal(size=(draws, K))
    c = rng.multivariate_normal(low.amplitudes[3], low.amplitude_covariance[3], draws)
    drawn = np.var((u * c).sum(1) + np.sqrt(low.noise[1]) * rng.normal(size=draws))
    assert low.variance(slice(3, 4))[0, 1] == pytest.approx(drawn, rel=0.02)


def test_slices_agree_with_the_whole():
    low = decomposition(5)
    np.testing.assert_array_equal(low.variance(slice(2, 4)), low.variance(slice(0, N))[2:4])
    np.testing.assert_allclose(low.mean(slice(2, 4)), low.mean(slice(0, N))[2:4])


@pytest.fixture
def obs(make_field) -> xr.DataArray:
    values = 300 + np.random.default_rng(2).normal(size=(N, 4, 5)).astype(np.float32)
    values[:, 0, 0] = np.nan  # never observed
    values[3] = np.nan  # an image that takes no part
    values[5, 2:] = np.nan
    return make_field(values)


def laid_out(obs: xr.DataArray, sea: xr.DataArray) -> tuple[xr.Dataset, LowRank]:
    matrix = pack(obs, sea, min_image_coverage=0.1, normalise=True)
    low = decomposition(len(matrix.pixels), len(matrix.times), np.float32)
    return as_fields(low, matrix, obs), low


def test_layout_offset_and_scale(obs, all_sea):
    found, low = laid_out(obs, all_sea(obs))
    matrix = pack(obs, all_sea(obs), min_image_coverage=0.1, normalise=True)
    assert found["mean"].dims == obs.dims and found["mean"].dtype == obs.dtype
    assert found["mean"][3].isnull().all() and found["mean"][:, 0, 0].isnull().all()
    assert int(found["mean"].notnull().sum()) == 6 * 19
    expected = matrix.offset + matrix.scale * low.mean(slice(4, 5))[0]
    np.testing.assert_allclose(found["mean"][5].values.ravel()[matrix.pixels], expected, rtol=1e-6)
    sigma = np.sqrt(low.variance(slice(4, 5))[0]) * matrix.scale
    np.testing.assert_allclose(found["error"][5].values.ravel()[matrix.pixels], sigma, rtol=1e-5)


@pytest.mark.parametrize(
    "chunks", [{"time": 3}, {"time": (1, 4, 2), "lat": 3}, {"time": -1, "lon": 2}]
)
def test_lazy_is_the_same_and_keeps_the_chunks(obs, all_sea, chunks):
    eager, lazy = (laid_out(o, all_sea(obs))[0] for o in (obs, obs.chunk(chunks)))
    assert lazy["mean"].chunks == obs.chunk(chunks).chunks
    xr.testing.assert_allclose(eager, lazy.compute(), rtol=1e-6)


def test_lazy_tasks_do_not_hold_the_observations(obs, all_sea):
    # they are sent to workers one by one
    from distributed.protocol import serialize  # noqa: F401  (registers cloudpickle)
    from distributed.protocol.pickle import dumps

    big = obs.isel(lat=np.zeros(400, int), lon=np.zeros(400, int) + 1).drop_vars(["lat", "lon"])
    found, _ = laid_out(obs.chunk(time=3), all_sea(obs))
    task = max(len(dumps(v)) for v in dict(found["mean"].__dask_graph__()).values())
    assert task < 20_000 < len(pickle.dumps(big.values))
