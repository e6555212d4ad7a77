# SPDX-License-Identifier: Apache-2.0
"""How work units read an archive: in slabs that neighbours share, kept from one to the next.

A unit sees images before and after its own, and a margin around its pixels. So a stored chunk is
seen by up to 45 units, and each would decode it again. Therefore units side by side form a
*region*, which is read along time, some images at a time: a *slab*. Units of a region are filled
one after another, in order of time, and find most slabs in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.patches import Box, Patch, PatchGrid, Shape


@dataclass(frozen=True, kw_only=True)
class SlabGrid:
    """Cuts an archive into regions, and these into slabs.

    Attributes
    ----------
    shape
        Of the archive (time, y, x).
    regions
        Patches as long in time as a unit, and as wide as a region.
    block
        Images that are decoded together; slabs begin anew with each block.
    images
        Most images of a slab.
    kept
        Bytes of the slabs that a unit sees, and of the next one.
    """

    shape: Shape
    regions: PatchGrid
    block: int
    images: int
    kept: int

    @classmethod
    def choose(cls, data: Any, core: Shape, halo: Shape, memory: int) -> SlabGrid:
        """Choose what decodes each block of an archive the fewest times.

        Parameters
        ----------
        data
            The archive as a Dask array (time, y, x). A slab decodes the blocks that it touches.
        core, halo
            Pixels of a unit, and the margin that it sees around them.
        memory
            Bytes of slabs that may be kept, though never less than what a unit sees.
        """
        lengths = [sizes[0] for sizes in data.chunks]
        block = lengths[0] * blocks_at_once(lengths[0], core[0])
        rows = _sides(data.shape[1], core[1], halo[1], lengths[1])
        columns = _sides(data.shape[2], core[2], halo[2], lengths[2])
        best: tuple[bool, float, int] = (True, np.inf, 0)
        for parts in range(1, max(1, block // core[0]) + 1):
            images = -(-block // parts)
            grid = cls(
                shape=data.shape,
                regions=PatchGrid(core=core, halo=halo),
                block=block,
                images=images,
                kept=0,
            )
            # the next slab comes in before the first is let go
            held = min(data.shape[0], grid._most_seen() + images)
            for high, (over_rows, height) in enumerate(rows, start=1):
                for wide, (over_columns, width) in enumerate(columns, start=1):
                    kept = held * height * width * data.dtype.itemsize
                    too_large = kept > memory
                    # where nothing fits, the least memory counts, else the decodings
                    decodings = 0.0 if too_large else parts * over_rows * over_columns
                    if (too_large, decodings, kept) < best:
                        best = too_large, decodings, kept
                        size = core[0], high * core[1], wide * core[2]
                        chosen = replace(grid, regions=PatchGrid(core=size, halo=halo), kept=kept)
        return chosen

    def region(self, patch: Patch) -> tuple[slice, slice]:
        """Return the rows and columns that are read for a unit, and for others of its region."""
        around = next(self.regions.touching(self.shape, patch.inside))
        return around.seen[1:]

    def seen_by(self, patch: Patch) -> Iterator[Box]:
        """Yield the slabs that a unit sees, in order of time."""
        rows, columns = self.region(patch)
        times = patch.seen[0]
        start = self._start(times.start)
        while start < times.stop:
            stop = self._stop(start)
            yield slice(start, stop), rows, columns
            start = stop

    def _start(self, time: int) -> int:
        """Return the first image of the slab that holds an image."""
        return time - time % self.block % self.images

    def _stop(self, start: int) -> int:
        """Return the image after the last of the slab that begins with an image."""
        block = start - start % self.block
        return min(start + self.images, block + self.block, self.shape[0])

    def _most_seen(self) -> int:
        """Count the images of all slabs that a unit sees, at most."""
        counts = []
        for _, seen in self.regions.spans_along(0, self.shape[0], 0, self.shape[0]):
            counts.append(self._stop(self._start(seen.stop - 1)) - self._start(seen.start))
        return max(counts)


def blocks_at_once(length: int, images: int) -> int:
    """Count the blocks along time that are read together, for units of so many images.

    Of blocks of few images (`length`) that are several, with about as many images as a unit.
    """
    return max(1, round(images / length))


def _sides(n: int, core: int, halo: int, block: int) -> list[tuple[float, int]]:
    """Return, for regions of 1, 2, ... units along an axis of `n` pixels, two numbers.

    They are how many of the regions see a block, on average, and the pixels of the longest region.
    """
    found = []
    for units in range(1, -(-n // core) + 1):
        regions = PatchGrid(core=(1, 1, units * core), halo=(0, 0, halo))
        seen = [span for _, span in regions.spans_along(2, n, 0, n)]
        touched = sum((span.stop - 1) // block - span.start // block + 1 for span in seen)
        longest = max(span.stop - span.start for span in seen)
        found.append((touched / -(-n // block), longest))
    return found


class Slabs:
    """The slabs that a process has read last; several threads may use them."""

    def __init__(self) -> None:
        self._held: OrderedDict[Hashable, NDArray] = OrderedDict()
        self._lock = Lock()

    def read(
        self, obs: xr.DataArray, run_id: str, grid: SlabGrid, patch: Patch, scheduler: str
    ) -> NDArray:
        """Return what a unit sees of an archive, a copy.

        Another `run_id` reads anew: the archive may have changed.
        """
        seen = np.empty([side.stop - side.start for side in patch.seen], obs.dtype)
        for slab in grid.seen_by(patch):
            times = slab[0]
            values = self._slab(obs, run_id, slab, grid.kept, scheduler)
            first, last = patch.seen[0].start, patch.seen[0].stop
            shared = slice(max(times.start, first), min(times.stop, last)), *patch.seen[1:]
            seen[Patch(shared, patch.seen).within] = values[Patch(shared, slab).within]
        return seen

    def clear(self) -> None:
        """Drop all slabs."""
        with self._lock:
            self._held.clear()

    def _slab(
        self, obs: xr.DataArray, run_id: str, slab: Box, most: int, scheduler: str
    ) -> NDArray:
        import dask.array as da

        key = run_id, obs.name, *((side.start, side.stop) for side in slab)
        # One thread reads at a time: the units of the others see the same slab.
        with self._lock:
            values = self._held.pop(key, None)
            if values is None:
                data = obs.data[slab]
                values = np.empty(data.shape, data.dtype)
                held = sum(slab.nbytes for slab in self._held.values())
                while self._held and held + values.nbytes > most:
                    held -= self._held.popitem(last=False)[1].nbytes
                # block by block into one array: no block is held beside it
                da.store(data, values, lock=False, scheduler=scheduler)
            self._held[key] = values
        return values
