# SPDX-License-Identifier: Apache-2.0
"""Gather what methods may look at to be pinned to an archive: a sample of every image, and windows
to be tried on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.patches import Patch, PatchGrid, Shape
from sstfill.methods.base import STEPS, Archive, Points, Window

CORE: Shape = (16, 256, 256)
"""Work unit of an archive (time, y, x): what is filled at once, and one chunk of the output."""
FEWEST, MOST, VALUES = 4_000, 20_000, 10_000_000
"""Pixels of the sample at least and at most, and values of it at most."""
TRIED: Shape = (16, 128, 128)
TRIED_HALO: Shape = (STEPS, 40, 40)
TRIALS = 6
"""Windows on which methods are judged, what is judged in each, and what is seen around."""


def gather(obs: xr.DataArray, sea: xr.DataArray, *, seed: int = 0) -> Archive:
    """Gather an archive from a field ``(time, y, x)``, lazy or not; reads it block by block.

    >>> import sstfill.synthetic
    >>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
    >>> gather(ocean.sst, ocean.sst.notnull().any("time")).sample.shape[0]
    8
    """
    points = scattered(sea, obs.sizes["time"], seed)
    sample = np.ascontiguousarray(
        np.concatenate([picked(obs.isel(time=slab).values, points) for slab in slabs(obs)])
    )
    return archive(obs, sea, sample, points, seed)


def archive(
    obs: xr.DataArray, sea: xr.DataArray, sample: NDArray[np.float32], points: Points, seed: int
) -> Archive:
    """Put an archive together whose sample is known already."""
    lazy = obs if obs.chunks else obs.chunk(dict(zip(obs.dims, (CORE[0], -1, -1), strict=True)))
    tiles = spatial(sea.shape, CORE[1:])  # type: ignore[arg-type]
    trials = [cut(lazy, sea, sample, points, patch) for patch in _tried(obs.shape, sample, points)]  # type: ignore[arg-type]
    return Archive(lazy, sea, sample, points, tiles, trials, seed)


def scattered(sea: xr.DataArray, times: int, seed: int) -> Points:
    """Draw the pixels of the sample among those at sea: all of few, `VALUES` values at most of many
    images.
    """
    rows, columns = np.nonzero(sea.values)
    count = min(len(rows), int(np.clip(VALUES // max(times, 1), FEWEST, MOST)))
    some = np.sort(np.random.default_rng([seed, 5]).choice(len(rows), count, replace=False))
    return Points(rows[some].astype(np.int64), columns[some].astype(np.int64))


def picked(images: NDArray, points: Points) -> NDArray[np.float32]:
    """Values of whole images ``(time, y, x)`` at the points, ``(time, point)``."""
    return images[:, points.rows, points.columns].astype(np.float32)


def slabs(obs: xr.DataArray) -> Iterator[slice]:
    """Walk along time by the chunks of a lazy field, or by `CORE`."""
    edges = np.cumsum(
        [0, *(obs.chunksizes["time"] if obs.chunks else _equal(obs.sizes["time"], CORE[0]))]
    )
    yield from (slice(int(a), int(b)) for a, b in pairwise(edges))


def spatial(shape: tuple[int, int], size: tuple[int, int]) -> Sequence[tuple[slice, slice]]:
    """Cut an image ``(y, x)`` into tiles."""
    sides = [
        [slice(a, min(a + s, n)) for a in range(0, n, s)] for n, s in zip(shape, size, strict=True)
    ]
    return [(y, x) for y, x in product(*sides)]


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


def _equal(length: int, size: int) -> list[int]:
    return [min(size, length - a) for a in range(0, length, size)]


def _tried(shape: Shape, sample: NDArray[np.float32], points: Points) -> list[Patch]:
    """Patches to judge methods on: evenly spread over time, each where the sample of its images
    shows most.
    """
    steps = [min(TRIED[0], shape[0])] * min(TRIALS, max(1, shape[0] // TRIED[0]))
    starts = np.linspace(0, shape[0] - steps[0], len(steps)).round().astype(int)
    grid = spatial(shape[1:], TRIED[1:])
    tile = (points.rows // TRIED[1]) * -(-shape[2] // TRIED[2]) + points.columns // TRIED[2]
    found, used = [], np.zeros(len(grid), np.int64)
    for start in starts.tolist():
        times = slice(start, start + steps[0])
        counts = np.bincount(tile, np.isfinite(sample[times]).sum(0), len(grid))
        best = int(np.argmax(counts / (1 + used)))  # elsewhere next time, if it shows about as much
        used[best] += 1
        inside = (times, *grid[best])
        sides = zip(inside, TRIED_HALO, shape, strict=True)
        seen = tuple(slice(max(0, s.start - h), min(n, s.stop + h)) for s, h, n in sides)
        found.append(Patch(inside, seen))  # type: ignore[arg-type]
    return found
