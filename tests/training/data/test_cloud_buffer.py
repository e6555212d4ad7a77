# SPDX-License-Identifier: Apache-2.0
"""Clouds of an archive too large for memory: from pieces of it, many masks a read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from training_archives import Watched, archive

from sstfill.errors import InputError
from sstfill.occlusion import ObservedClouds, Raindrops
from sstfill.training.data.cloud_buffer import cloud_operators, loaded
from sstfill.training.data.windows import USUAL_LIMITS, MemoryLimits

SHAPE = (4, 8, 8)
TINY = MemoryLimits(load=0, segment=4 * 4000)
"""What is lazy is too large; segments of next to nothing."""


@pytest.fixture
def ds() -> xr.Dataset:
    return archive((60, 40, 40))


def own(ds: xr.Dataset, sst: xr.DataArray | None = None, **how: Any) -> ObservedClouds:
    lazy = ds.sst.chunk(time=6, lat=20, lon=20) if sst is None else sst
    return ObservedClouds(lazy.notnull(), ds.sea, **how)


def some(
    clouds: Any,
    count: int,
    seed: int = 0,
    shape: tuple[int, int, int] = SHAPE,
    limits: MemoryLimits = TINY,
) -> list[Any]:
    with closing(cloud_operators(clouds, shape, np.random.default_rng(seed), limits)) as stream:
        return list(islice(stream, count))


def masks(found: list[Any]) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    return (operator.draw(SHAPE, rng).tobytes() for operator in found)


def test_what_is_not_too_large_is_left_as_it_is(ds: xr.Dataset) -> None:
    rain, lazy = Raindrops(), own(ds)
    eager = ObservedClouds(ds.sst.notnull(), ds.sea)
    assert some(lazy, 2, limits=USUAL_LIMITS) == [lazy, lazy]
    assert some(rain, 2) == [rain, rain] and some(eager, 1) == [eager]
    array = ObservedClouds(ds.sst.notnull().values)
    assert some(array, 1) == [array]


def test_what_is_not_too_large_is_loaded(ds: xr.Dataset) -> None:
    lazy = own(ds, stride=2)
    found = loaded(lazy)
    assert isinstance(found, ObservedClouds) and found.stride == 2
    assert isinstance(found.observed, xr.DataArray) and found.observed.chunks is None
    for seed in range(3):
        first, second = (
            clouds.draw(SHAPE, np.random.default_rng(seed)) for clouds in (lazy, found)
        )
        np.testing.assert_array_equal(first, second)
    rain, array = Raindrops(), ObservedClouds(ds.sst.notnull().values)
    for clouds in (lazy, rain, array):
        assert loaded(clouds, TINY) is clouds


class TestLarge:
    def test_each_is_of_a_piece_of_the_archive(self, ds: xr.Dataset) -> None:
        """With values that tell where they are from: an archive of noise."""
        noise = np.random.default_rng(0).random(ds.sst.shape) < 0.5
        lazy = ObservedClouds(
            ds.sst.copy(data=noise).chunk(time=6, lat=20, lon=20), ds.sea, stride=2
        )
        for operator in some(lazy, 6):
            assert operator.stride == 2 and isinstance(operator.observed, np.ndarray)
            n, h, w = operator.observed.shape
            assert n * h * w <= 4000
            views = np.lib.stride_tricks.sliding_window_view(noise & ds.sea.values, (n, h, w))
            assert (views == operator.observed & operator.sea).all((3, 4, 5)).any()

    def test_masks_are_the_same_for_the_same_seed_and_many(self, ds: xr.Dataset) -> None:
        first, again, other = (list(masks(some(own(ds), 60, seed))) for seed in (0, 0, 1))
        assert first == again != other
        assert len(set(first)) > 55

    def test_few_reads_and_bounded_memory(self, ds: xr.Dataset) -> None:
        watched = Watched(ds, {"time": 6, "lat": 20, "lon": 20})
        with dask.config.set(scheduler=watched):
            for mask in masks(some(own(ds, watched.lazy("sst")), 100)):
                assert mask
        assert watched.largest <= 4000
        assert 0 < len(watched.read) < 100

    def test_dates_in_any_order_and_a_sequence_longer_than_the_archive(
        self, ds: xr.Dataset
    ) -> None:
        short = own(ds.isel(time=slice(0, 6)))
        shape = (9, 50, 50)
        (operator,) = some(short, 1, shape=shape)
        assert operator.draw(shape, np.random.default_rng(0)).shape == shape
        turned = replace(own(ds), observed=own(ds).observed.transpose("lat", "time", "lon"))
        assert list(masks(some(turned, 20))) == list(masks(some(own(ds), 20)))

    def test_where_nothing_varies_is_passed_over(self, ds: xr.Dataset) -> None:
        early = ds.sst.where(ds.time < ds.time[12])  # later on clouds are everywhere
        clouds = own(ds, early.chunk(time=6, lat=20, lon=20))
        for operator in some(clouds, 100):
            assert operator.observed.any() and not operator.observed[:, operator.sea].all()

    @pytest.mark.parametrize("value", [np.nan, 1.0])
    def test_an_archive_that_never_varies_is_told(self, ds: xr.Dataset, value: float) -> None:
        same = xr.full_like(ds.sst, value)
        (operator,) = some(own(ds, same.chunk(time=6, lat=20, lon=20)), 1)
        with pytest.raises(InputError, match="no image of 60 has"):
            operator.draw(SHAPE, np.random.default_rng(0))
