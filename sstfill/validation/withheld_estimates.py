# SPDX-License-Identifier: Apache-2.0
"""Estimates at withheld pixels, picked from whole fields, lazy or not."""

from __future__ import annotations

from typing import Any, NamedTuple

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

SLAB = 16
"""Images of an eager field that are searched together, to spare memory."""

BLOCKS = 8
"""Stretches of images into which withheld pixels are divided."""


class WithheldEstimates(NamedTuple):
    """A method's estimates at the withheld pixels, each of shape ``(n,)``.

    The observed value, the estimate, its error, and the number of the image and of the variable;
    distance (km) and lag (days) to what is left of the data, how much the pixel counts, and the
    odds that it were a gap (`sstfill.validation.withholding.likeness`).
    """

    truth: NDArray
    mean: NDArray
    sigma: NDArray
    image: NDArray
    layer: NDArray
    distance: NDArray
    lag: NDArray
    weight: NDArray
    odds: NDArray

    def at(self, rows: NDArray) -> WithheldEstimates:
        """Return the estimates at some of the pixels."""
        return WithheldEstimates(*(column[rows] for column in self))


def halves(image: NDArray) -> NDArray[np.bool_]:
    """Divide withheld pixels into two halves, to fit on one what is tested on the other.

    Pixels of up to `BLOCKS` stretches of images, one after the other, are in the one half and the
    other by turns, for errors in one image, and under one cloud that stays, are correlated. The
    pixels of a single image are divided in the middle.

    >>> halves(np.array([3, 3, 5, 7])).astype(int)
    array([1, 1, 0, 1])
    """
    block = stretches(image)
    if block.max(initial=0) == 0:
        return np.arange(image.size) < image.size // 2
    first: NDArray[np.bool_] = block % 2 == 0
    return first


def stretches(image: NDArray) -> NDArray[np.int64]:
    """Number the stretches of images, `BLOCKS` or as many as there are images, of pixels ``(n,)``.

    >>> stretches(np.array([3, 3, 5, 7])).tolist()
    [0, 0, 1, 2]
    """
    # Images without withheld pixels do not count.
    number = np.unique(image, return_inverse=True)[1]
    images = int(number.max(initial=0)) + 1
    block: NDArray[np.int64] = number * min(BLOCKS, images) // images
    return block


def gather(hidden: xr.DataArray, *fields: xr.DataArray) -> tuple[NDArray, ...]:
    """Pick the values of fields at the hidden pixels; lazy fields are computed together.

    Parameters
    ----------
    hidden
        True at the pixels to pick.
    fields
        Of the dims of `hidden`, in any order.

    Returns
    -------
    tuple of ndarray
        Each field at the hidden pixels, then the number of the image and of the variable; shape
        ``(n,)``, in the order of ``(time, variable, y, x)`` whatever the chunks.
    """
    hidden = hidden.transpose("time", ...)
    arrays = [field.transpose(*hidden.dims).data for field in fields]
    where = hidden.values
    if any(map(dask.is_dask_collection, arrays)):
        parts = _pick_lazily(where, arrays)
    else:
        parts = []
        for start in range(0, len(where), SLAB):
            block = (slice(start, start + SLAB),)
            parts.append(_pick(where[block], block, where.shape, *(a[block] for a in arrays)))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    # The blocks came in any order; by place the result does not depend on the chunks.
    place = columns.pop(0)
    sort = np.argsort(place, kind="stable")
    index = np.unravel_index(place[sort], where.shape)
    layer = index[1] if where.ndim == 4 else np.zeros_like(index[0])
    return *(c[sort] for c in columns), index[0], layer


def _pick_lazily(where: NDArray, arrays: list[Any]) -> list[tuple[NDArray, ...]]:
    """Pick block by block in one graph, so that what several fields share is computed once."""
    import dask.array as da
    from dask.array.core import slices_from_chunks

    # The blocks are those of the last lazy array, which is the one that took most work.
    chunks = next(a.chunks for a in reversed(arrays) if dask.is_dask_collection(a))
    lazy = [a if dask.is_dask_collection(a) else da.from_array(a, chunks) for a in arrays]
    delayed = [a.rechunk(chunks).to_delayed(optimize_graph=False).ravel() for a in lazy]
    # To hash the mask of each block would take longer than to pick from it.
    pick = dask.delayed(_pick, pure=False)
    tasks = []
    for block, *parts in zip(slices_from_chunks(chunks), *delayed, strict=True):
        tasks.append(pick(where[block], block, where.shape, *parts))
    return dask.compute(tasks)[0]


def _pick(
    where: NDArray, block: tuple[slice, ...], shape: tuple[int, ...], *fields: NDArray
) -> tuple[NDArray, ...]:
    """Return the flat index in the whole array of each hidden pixel of a block, and the fields."""
    # A slab covers only the time axis: the others start at 0.
    origin = [side.start for side in block] + [0] * (where.ndim - len(block))
    index = tuple(i + o for i, o in zip(np.nonzero(where), origin, strict=True))
    return np.ravel_multi_index(index, shape), *(f[where].astype(np.float64) for f in fields)
