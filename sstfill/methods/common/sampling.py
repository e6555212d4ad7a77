# SPDX-License-Identifier: Apache-2.0
"""Gather what methods are fitted to an archive with: a sample of every image, and trial windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.patches import Patch, PatchGrid, Shape
from sstfill.methods.base import STEPS, Archive, Points, Window
from sstfill.methods.common.matrix import time_slabs

CORE: Shape = (16, 256, 256)
"""Work unit of an archive (time, y, x): what is filled at once, and one chunk of the output."""
FEWEST, MOST, VALUES = 4_000, 20_000, 10_000_000
"""Least and most pixels of the sample, and most values of it."""
TRIAL: Shape = (16, 128, 128)
TRIAL_HALO: Shape = (STEPS, 40, 40)
TRIALS = 6
"""Windows on which methods are validated: their size, the halo seen around, and how many."""


def gather(obs: xr.DataArray, sea: xr.DataArray, *, seed: int = 0) -> Archive:
    """Gather an archive from a field ``(time, y, x)``, lazy or not; reads it block by block.

    >>> import sstfill.synthetic
    >>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
    >>> gather(ocean.sst, ocean.sst.notnull().any("time")).sample.shape[0]
    8
    """
    points = draw_points(sea, obs.sizes["time"], seed)
    images = [sample_at(obs.isel(time=slab).values, points) for slab in time_slabs(obs)]
    return archive(obs, sea, np.ascontiguousarray(np.concatenate(images)), points, seed)


def archive(
    obs: xr.DataArray, sea: xr.DataArray, sample: NDArray[np.float32], points: Points, seed: int
) -> Archive:
    """Put an archive together whose sample is known already."""
    # Eager fields go the same way as lazy ones, in blocks of the work units.
    lazy = obs if obs.chunks else obs.chunk(dict(zip(obs.dims, (CORE[0], -1, -1), strict=True)))
    tiles = tile(sea.shape, CORE[1:])  # type: ignore[arg-type]
    trials = []
    for patch in _trial_patches(obs.shape, sample, points):  # type: ignore[arg-type]
        trials.append(cut(lazy, sea, sample, points, patch))
    return Archive(lazy, sea, sample, points, tiles, trials, seed)


def draw_points(sea: xr.DataArray, times: int, seed: int) -> Points:
    """Draw the pixels of the sample among those at sea, fewer where there are many images."""
    rows, columns = np.nonzero(sea.values)
    count = min(len(rows), int(np.clip(VALUES // max(times, 1), FEWEST, MOST)))
    # Sorted, so that neighbours in the sample are read from the same rows. The 5 keeps the draw
    # apart from others by the same seed.
    some = np.sort(np.random.default_rng([seed, 5]).choice(len(rows), count, replace=False))
    return Points(rows[some].astype(np.int64), columns[some].astype(np.int64))


def sample_at(images: NDArray, points: Points) -> NDArray[np.float32]:
    """Values of whole images ``(time, y, x)`` at the points, ``(time, point)``."""
    return images[:, points.rows, points.columns].astype(np.float32)


def tile(shape: tuple[int, int], size: tuple[int, int]) -> Sequence[tuple[slice, slice]]:
    """Cut an image ``(y, x)`` into tiles."""
    rows = [slice(y, min(y + size[0], shape[0])) for y in range(0, shape[0], size[0])]
    columns = [slice(x, min(x + size[1], shape[1])) for x in range(0, shape[1], size[1])]
    return list(product(rows, columns))


def cut(
    obs: xr.DataArray, sea: xr.DataArray, sample: NDArray[np.float32], points: Points, patch: Patch
) -> Window:
    """Load a window of an archive; `sample` is of all its times."""
    times, rows, columns = patch.seen
    seen = obs[times, rows, columns].compute()
    return Window(seen, sea[rows, columns], patch, sample[times], points)


def windows(whole: Archive, grid: PatchGrid) -> Iterator[Window]:
    """Iterate over the work units of an archive."""
    for patch in grid.patches(whole.obs.shape):  # type: ignore[arg-type]
        yield cut(whole.obs, whole.sea, whole.sample, whole.points, patch)


def _trial_patches(shape: Shape, sample: NDArray[np.float32], points: Points) -> list[Patch]:
    """Choose patches to validate methods on: evenly spread over time, each in the tile where the
    sample of its images has most observations.
    """
    # A short archive is one window in time.
    length = min(TRIAL[0], shape[0])
    count = min(TRIALS, max(1, shape[0] // TRIAL[0]))
    tiles = tile(shape[1:], TRIAL[1:])
    per_row = -(-shape[2] // TRIAL[2])
    tile_of_point = (points.rows // TRIAL[1]) * per_row + points.columns // TRIAL[2]
    found, used = [], np.zeros(len(tiles), np.int64)
    for start in np.linspace(0, shape[0] - length, count).round().astype(int).tolist():
        times = slice(start, start + length)
        observed = np.isfinite(sample[times]).sum(0)
        # The sample stands for the images: to count all would read them.
        counts = np.bincount(tile_of_point, observed, len(tiles))
        best = int(np.argmax(counts / (1 + used)))  # a tile used before must have far more
        used[best] += 1
        inside = (times, *tiles[best])
        seen = []
        for side, halo, n in zip(inside, TRIAL_HALO, shape, strict=True):
            # The halo ends where the archive does.
            seen.append(slice(max(0, side.start - halo), min(n, side.stop + halo)))
        found.append(Patch(inside, tuple(seen)))  # type: ignore[arg-type]
    return found
