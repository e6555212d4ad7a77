# SPDX-License-Identifier: Apache-2.0
"""How a lazy field is laid out to be filled patch by patch: in blocks that end where a patch does."""

from __future__ import annotations

from itertools import pairwise

import xarray as xr

from sstfill.fields.patches import PatchGrid

BLOCK = (256, 256, 256)
"""Of a lazy field, what is filled at once, about: one block fits into memory several times over."""


def laid_out(obs: xr.DataArray, grid: PatchGrid) -> xr.DataArray:
    """Rechunk a lazy field ``(time, y, x)``; a patch on the border of two blocks is worked out for
    each of them.

    >>> field = xr.DataArray([[[0.0]]], dims=("time", "y", "x")).pad(time=(0, 599), x=(0, 299)).chunk(time=1, x=7)
    >>> laid_out(field, PatchGrid(core=(64, 128, 128), overlap=(8, 16, 16))).chunks
    ((260, 256, 84), (1,), (264, 36))
    """
    if not obs.chunks:
        return obs
    chunks = {}
    for dim, most, core, overlap in zip(obs.dims, BLOCK, grid.core, grid.overlap, strict=True):
        length, size = obs.sizes[dim], max(1, most // core) * core
        edges = [0, *range(size + overlap - overlap // 2, length, size), length]
        chunks[dim] = tuple(b - a for a, b in pairwise(edges))
    return obs.chunk(chunks)
