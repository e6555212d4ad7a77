# SPDX-License-Identifier: Apache-2.0
"""What a method says at withheld pixels, picked from whole fields, lazy or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks
from numpy.typing import NDArray

SLAB = 16
"""Images of an eager field that are looked at together, to spare memory."""


class WithheldEstimates(NamedTuple):
    """What a method said at the withheld pixels, each of shape (n,): and what is true, and which
    image and variable.
    """

    truth: NDArray
    mean: NDArray
    sigma: NDArray
    image: NDArray
    layer: NDArray


def gather(hidden: xr.DataArray, *fields: xr.DataArray) -> tuple[NDArray, ...]:
    """Each field at the hidden pixels, then number of image and of variable; block by block, lazy
    ones in one go.

    The order of the pixels is that of ``(time, variable, y, x)``, whatever the chunks.
    """
    order = ("time", *(d for d in hidden.dims if d != "time"))
    arrays = [a.transpose(*order).data for a in fields]
    where = hidden.transpose(*order).values
    parts = (
        _lazily_picked(where, arrays)
        if any(map(dask.is_dask_collection, arrays))
        else [
            _picked(where[block], block, where.shape, *(a[block] for a in arrays))
            for block in _slabs(arrays[0])
        ]
    )
    place, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    sort = np.argsort(place, kind="stable")
    index = np.unravel_index(place[sort], where.shape)
    layer = index[1] if where.ndim == 4 else np.zeros_like(index[0])
    return *(c[sort] for c in columns), index[0], layer


def _lazily_picked(where: NDArray, arrays: list[Any]) -> list[tuple[NDArray, ...]]:
    """Pick block by block in one graph, so that what several fields share is computed once.

    The blocks are those of the last lazy array, which is the one that took most work.
    """
    chunks = next(a.chunks for a in reversed(arrays) if dask.is_dask_collection(a))
    whole = [a if dask.is_dask_collection(a) else da.from_array(a, chunks) for a in arrays]
    delayed = [a.rechunk(chunks).to_delayed(optimize_graph=False).ravel() for a in whole]
    pick = dask.delayed(_picked, pure=False)
    blocks = zip(slices_from_chunks(chunks), *delayed, strict=True)
    return dask.compute(
        [pick(where[block], block, where.shape, *parts) for block, *parts in blocks]
    )[0]


def _slabs(array: NDArray) -> Iterator[tuple[slice, ...]]:
    yield from ((slice(i, i + SLAB),) for i in range(0, len(array), SLAB))


def _picked(
    where: NDArray, block: tuple[slice, ...], shape: tuple[int, ...], *fields: NDArray
) -> tuple[NDArray, ...]:
    """Place in the whole array, raveled, of each pixel of a block that is hidden; and the fields
    there.
    """
    origin = [side.start for side in block] + [0] * (where.ndim - len(block))
    at = tuple(i + o for i, o in zip(np.nonzero(where), origin, strict=True))
    return np.ravel_multi_index(at, shape), *(field[where].astype(np.float64) for field in fields)
