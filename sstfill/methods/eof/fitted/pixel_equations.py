# SPDX-License-Identifier: Apache-2.0
"""Normal equations of every pixel of an archive on common amplitudes, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.methods.base import Archive
from sstfill.methods.common.fitted_store import Tile
from sstfill.methods.common.regression import NormalEquations
from sstfill.methods.common.threads import one_blas_thread
from sstfill.progress import track

SLAB, READ = 128, 512
ROOM = 2**25


class Amplitudes(NamedTuple):
    """The amplitudes that every pixel is regressed on.

    Attributes
    ----------
    times
        Indices of the images that are used, ``(n,)``.
    values, moments
        ``(n, k)`` and packed ``(n, k(k+1)/2)``, see `sstfill.methods.common.regression.regress`;
        single precision.
    ridge
        Ridge of the regression, ``(k,)``.
    offset
        The number subtracted from every observation.
    """

    times: NDArray[np.int64]
    values: NDArray
    moments: NDArray
    ridge: NDArray
    offset: float


class Band(NamedTuple):
    """Normal equations of the sea pixels of some rows of a tile."""

    tile: Tile
    sea: NDArray[np.bool_]
    sums: NormalEquations

    def laid_out(self, values: NDArray) -> NDArray:
        """Put values ``(sea pixels[, k])`` on the grid, ``([k,] rows, columns)``; NaN on land."""
        out = np.full((*values.shape[1:], *self.sea.shape), np.nan, np.float32)
        # Modes come first on disk, so that a window reads each map as one block.
        out[..., self.sea] = values.T
        return out


def summed(
    archive: Archive, on: Amplitudes, *, slab: int = SLAB, read: int = READ, room: int = ROOM
) -> Iterator[Band]:
    """Add up the normal equations of all pixels, band by band and slab by slab of images.

    Parameters
    ----------
    archive
        The archive.
    on
        The amplitudes to regress on.
    slab, read
        Images added up at once; images read at once where the archive's blocks are long in time.
    room
        Numbers held in the normal equations; a tile that needs more is split into bands of rows.
    """
    numbers = on.moments.shape[1] + on.values.shape[1]
    bands: list[Tile] = []
    for tile in archive.tiles:
        bands += _bands(tile, numbers, room)
    for tile in track(bands, "patterns", len(bands)):
        sea = archive.sea.values[tile].astype(bool)
        # Maps are created full of NaN, so nothing has to be written on land.
        if not sea.any():
            continue
        sums = NormalEquations(int(sea.sum()), on.values.shape[1])
        with one_blas_thread():
            for times, images in _slabs(archive, tile, slab, read):
                # Images too cloudy to be used have no amplitudes, so a slab may hold more images
                # than it adds up.
                first, last = np.searchsorted(on.times, [times.start, times.stop])
                some = slice(int(first), int(last))
                x = images[on.times[some] - times.start][:, sea].astype(np.float32)
                # The offset goes before the sums: squares of anomalies keep their digits in single
                # precision.
                x -= np.float32(on.offset)
                observed = np.isfinite(x)
                # A gap is zero, not NaN, since NaN times zero would spoil the products.
                sums.add(np.where(observed, x, 0), observed, on.values[some], on.moments[some])
        yield Band(tile, sea, sums)


def _bands(tile: Tile, numbers: int, room: int) -> list[Tile]:
    """Split a tile into bands of rows, so that `numbers` of each pixel fit into `room`."""
    rows, columns = tile
    step = max(1, room // (numbers * (columns.stop - columns.start)))
    bands = []
    for start in range(rows.start, rows.stop, step):
        bands.append((slice(start, min(start + step, rows.stop)), columns))
    return bands


def _slabs(archive: Archive, tile: Tile, slab: int, read: int) -> Iterator[tuple[slice, NDArray]]:
    """Images of a tile, in slabs that do not depend on how the archive is stored.

    Where its blocks are long in time, several slabs are read at once.
    """
    n = archive.obs.sizes["time"]
    block = 1
    if archive.obs.chunks:
        block = max(archive.obs.chunksizes["time"])
    # Whole slabs at once, so that sums in single precision are the same for any storage.
    step = slab * max(1, min(block, read) // slab)
    for start in range(0, n, step):
        piece = archive.obs[start : start + step, *tile].values
        for first in range(0, len(piece), slab):
            images = piece[first : first + slab]
            yield slice(start + first, start + first + len(images)), images
