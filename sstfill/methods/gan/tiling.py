# SPDX-License-Identifier: Apache-2.0
"""Patches that the compact network sees, and chunks of a lazy field that end where a patch does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import xarray as xr

from sstfill.fields.patches import PatchGrid, Shape

LARGEST: Shape = (48, 160, 160)
"""Core of a patch, at most; with `HALO` around, and blended over `OVERLAP`."""
OVERLAP: Shape = (8, 16, 16)
HALO: Shape = (4, 8, 8)
BLOCK = (256, 256, 256)
"""Size of a block, about; one fits into memory several times over."""


def pieces_of(shape: Shape) -> PatchGrid:
    """Cut what the network is shown into equal patches that are not too large.

    >>> pieces_of((32, 288, 288)).core
    (32, 144, 144)
    """
    # As few pieces as `LARGEST` allows, all of one size.
    pieces = -(-np.array(shape) // LARGEST)
    t, y, x = (-(-np.array(shape) // pieces)).tolist()
    overlap = (min(OVERLAP[0], t), min(OVERLAP[1], y), min(OVERLAP[2], x))
    return PatchGrid(core=(t, y, x), overlap=overlap, halo=HALO)


def rechunk(obs: xr.DataArray, grid: PatchGrid) -> xr.DataArray:
    """Rechunk a lazy field ``(time, y, x)``; a patch on the border of two blocks is computed twice.

    >>> field = xr.DataArray([[[0.0]]], dims=("time", "y", "x")).pad(time=(0, 599), x=(0, 299))
    >>> grid = PatchGrid(core=(64, 128, 128), overlap=(8, 16, 16))
    >>> rechunk(field.chunk(time=1, x=7), grid).chunks
    ((260, 256, 84), (1,), (264, 36))
    """
    if not obs.chunks:
        return obs
    chunks = {}
    for dim, most, core, overlap in zip(obs.dims, BLOCK, grid.core, grid.overlap, strict=True):
        length, size = obs.sizes[dim], max(1, most // core) * core
        # In the middle of an overlap the patches on both sides weigh the same.
        edges = [0, *range(size + overlap - overlap // 2, length, size), length]
        chunks[dim] = tuple(b - a for a, b in pairwise(edges))
    return obs.chunk(chunks)
