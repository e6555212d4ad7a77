# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from sstfill.methods.base import Archive
from sstfill.methods.common.regression import second_moments
from sstfill.methods.common.sampling import gather, tile
from sstfill.methods.eof.fitted.pixel_equations import Amplitudes, summed

TIMES, ROWS, COLUMNS, MODES = 40, 12, 10, 3
TILE = (8, 10)


@pytest.fixture
def archive() -> Archive:
    rng = np.random.default_rng(0)
    values = rng.normal(15, 1, (TIMES, ROWS, COLUMNS)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = np.nan
    sea = xr.DataArray(rng.random((ROWS, COLUMNS)) < 0.8, dims=("y", "x"))
    obs = xr.DataArray(values, dims=("time", "y", "x")).where(sea)
    return replace(gather(obs.chunk(time=TIMES), sea), tiles=tile((ROWS, COLUMNS), TILE))


@pytest.fixture
def amplitudes() -> Amplitudes:
    times = np.delete(np.arange(TIMES), [3, 17, 18])  # three images are not used
    values = np.random.default_rng(1).normal(size=(len(times), MODES)).astype(np.float32)
    return Amplitudes(times, values, second_moments(values), np.ones(MODES), 15.0)


def patterns(archive: Archive, amplitudes: Amplitudes, **options: int) -> np.ndarray:
    out = np.full((MODES, ROWS, COLUMNS), np.nan, np.float32)
    for band in summed(archive, amplitudes, **options):
        solved = [part.patterns for part in band.sums.solve(amplitudes.ridge)]
        out[(..., *band.tile)] = band.laid_out(np.concatenate(solved))
    return out


@dataclass
class Watched:
    """An archive's field that notes how much of it is read at once."""

    obs: xr.DataArray
    asked: list[tuple[int, ...]] = field(default_factory=list)

    def __getitem__(self, part: tuple[slice, ...]) -> xr.DataArray:
        self.asked.append(self.obs[part].shape)
        return self.obs[part]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.obs, name)


def test_patterns_are_those_of_a_regression_of_each_pixel(archive, amplitudes):
    found = patterns(archive, amplitudes)
    obs = archive.obs.values[amplitudes.times].astype(np.float64) - amplitudes.offset
    c = amplitudes.values.astype(np.float64)
    for y, x in np.argwhere(archive.sea.values):
        seen = np.isfinite(obs[:, y, x])
        normal = c[seen].T @ c[seen] + np.diag(amplitudes.ridge)
        expected = np.linalg.solve(normal, c[seen].T @ obs[seen, y, x])
        np.testing.assert_allclose(found[:, y, x], expected, atol=1e-5)
    assert np.isnan(found[:, ~archive.sea.values]).all()


def test_no_more_than_a_slab_of_a_tile_is_read(archive, amplitudes):
    obs = Watched(archive.obs)
    patterns(replace(archive, obs=obs), amplitudes, slab=16, read=16)
    assert obs.asked and max(obs.asked) == (16, *TILE)


def test_slabs_read_together_give_the_same_sums(archive, amplitudes):
    one = patterns(archive, amplitudes, slab=8, read=8)
    several = patterns(archive, amplitudes, slab=8, read=32)
    np.testing.assert_array_equal(one, several)


def test_a_tile_in_bands_gives_the_same_maps(archive, amplitudes):
    bands = list(summed(archive, amplitudes, room=200))
    assert len(bands) > len(archive.tiles)
    np.testing.assert_allclose(
        patterns(archive, amplitudes, room=200), patterns(archive, amplitudes), rtol=1e-5, atol=1e-6
    )
