# SPDX-License-Identifier: Apache-2.0
"""Rechunk a lazy field that is filled patch by patch, so that blocks end where a patch does."""

from __future__ import annotations

from itertools import pairwise

import xarray as xr

from sstfill.fields.patches import PatchGrid

BLOCK = (256, 256, 256)
"""Size of a block, about; one fits into memory several times over."""


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
