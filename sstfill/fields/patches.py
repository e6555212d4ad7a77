# SPDX-License-Identifier: Apache-2.0
"""Apply a function to overlapping patches of a field and blend the results, whatever the chunks.

The patches are anchored at the first pixel of the whole array. A Dask chunk of the output therefore
uses the same patches as the whole array does, and adds them up in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice, pairwise, product
from math import prod
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from sstfill.errors import InputError, OptionError
from sstfill.memory import return_freed_blocks
from sstfill.progress import track

Array = NDArray[Any]
Box = tuple[slice, slice, slice]
Shape = tuple[int, int, int]
Dtypes = Mapping[str, np.dtype]
Function = Callable[..., Sequence[Array]]

STEPS = 2**16
"""Weights along an axis are multiples of 1 / STEPS: their products and sums are exact."""


class Patch(NamedTuple):
    """A piece of the array; slices along (time, y, x), counted in the whole array, clipped to it.

    >>> [patch.within[2] for patch in PatchGrid(core=(2, 4, 4), halo=(0, 1, 1)).patches((2, 4, 8))]
    [slice(0, 4, None), slice(1, 5, None)]
    """

    inside: Box
    """Pixels that the patch estimates."""
    seen: Box
    """Pixels that the function is given: `inside` and the halo around it."""

    @property
    def within(self) -> Box:
        """`inside`, counted from the first pixel of `seen`."""
        return _relative(self.inside, self.seen)

    @property
    def shape(self) -> Shape:
        """Number of pixels of `inside` along (time, y, x)."""
        return _lengths(self.inside)


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """Globally anchored grid of overlapping patches over an array (time, y, x).

    Along an axis of n pixels there are ``ceil(n / core)`` patches; patch k covers ``k * core -
    overlap // 2`` up to ``(k + 1) * core + overlap - overlap // 2``, clipped to the array. All
    lengths are in pixels (or time steps), and none depends on chunks or tasks.

    Parameters
    ----------
    core
        Distance from one patch to the next along (time, y, x). A patch is ``core + overlap`` long.
    overlap
        Width of the strip that neighbouring patches share, at most `core`.
    halo
        Context on either side that the function is given but does not estimate.

    Raises
    ------
    OptionError
        Unless these are three whole numbers each, with ``1 <= core``, ``0 <= overlap <= core``, ``0
        <= halo``.

    Examples
    --------
    >>> grid = PatchGrid(core=(8, 16, 16), overlap=(4, 8, 8))
    >>> [patch.inside[2] for patch in grid.patches((8, 16, 40))]
    [slice(0, 20, None), slice(12, 36, None), slice(28, 40, None)]
    """

    core: Shape
    overlap: Shape = (0, 0, 0)
    halo: Shape = (0, 0, 0)

    def __post_init__(self) -> None:
        for name, least in (("core", 1), ("overlap", 0), ("halo", 0)):
            object.__setattr__(self, name, _three(name, getattr(self, name), least))
        if any(o > c for o, c in zip(self.overlap, self.core, strict=True)):
            raise OptionError(
                f"overlap={self.overlap} exceeds core={self.core}; give an overlap of core or less"
            )

    def patches(self, shape: Shape) -> Iterator[Patch]:
        """Iterate over all patches of an array (time, y, x), x fastest."""
        return self.touching(shape, _whole(shape))

    def touching(self, shape: Shape, block: Box) -> Iterator[Patch]:
        """Iterate over the patches that estimate a pixel in `block`, in the order of `patches`."""
        for along_t, along_y, along_x in product(*self.spans(shape, block)):
            inside = along_t[0], along_y[0], along_x[0]
            seen = along_t[1], along_y[1], along_x[1]
            yield Patch(inside, seen)

    def weights(self, patch: Patch, shape: Shape) -> NDArray[np.float64]:
        """Weight of a patch in the blend, shape of `patch.inside`.

        Weights are 1 in the middle, fall linearly over the overlap, and stay 1 up to the array's
        own border. They are positive everywhere, and over all patches the weights of a pixel add up
        to 1 without rounding. `patch` is one of `patches(shape)`.

        >>> grid = PatchGrid(core=(1, 1, 4), overlap=(0, 0, 2))
        >>> [grid.weights(patch, (1, 1, 8)).ravel().tolist() for patch in grid.patches((1, 1, 8))]
        [[1.0, 1.0, 1.0, 0.75, 0.25], [0.25, 0.75, 1.0, 1.0, 1.0]]
        """
        tapers = []
        for axis, inside in enumerate(patch.inside):
            core, overlap = self.core[axis], self.overlap[axis]
            number = (inside.start + overlap // 2) // core
            tapers.append(_taper(core, overlap, shape[axis], number))
        t, y, x = tapers
        # multiples of 1 / 2**16 each: the product of three has 48 bits, which a double holds
        # exactly
        return np.asarray(t[:, np.newaxis, np.newaxis] * (y[:, np.newaxis] * x))

    def spans(self, shape: Shape, block: Box) -> list[list[tuple[slice, slice]]]:
        """Along each axis, `inside` and `seen` of the patches that touch a block."""
        axes = enumerate(zip(shape, block, strict=True))
        return [self.spans_along(axis, n, part.start, part.stop) for axis, (n, part) in axes]

    def spans_along(self, axis: int, n: int, start: int, stop: int) -> list[tuple[slice, slice]]:
        """Along one axis of `n` pixels, `inside` and `seen` of the patches that touch a range."""
        core, overlap, halo = self.core[axis], self.overlap[axis], self.halo[axis]
        if start >= stop:
            return []
        found = []
        first = max(0, (start - overlap + overlap // 2) // core)
        for k in range(first, min((stop + overlap // 2 - 1) // core, (n - 1) // core) + 1):
            a, b = _span(core, overlap, n, k)
            found.append((slice(a, b), slice(max(0, a - halo), min(n, b + halo))))
        return found


def map_patches(
    function: Function,
    *fields: xr.DataArray,
    grid: PatchGrid,
    outputs: Mapping[str, DTypeLike] | Sequence[str],
    threads: int = 1,
) -> xr.Dataset:
    """Apply a function to the overlapping patches of fields, and blend the results.

    The result is the same, bit for bit, for NumPy and for Dask-backed fields, whatever the chunks,
    the scheduler and the number of threads, if `function` is deterministic. Dask-backed fields stay
    lazy: a chunk of the output reads the patches that touch it, and can be computed alone. A patch
    that touches several chunks is computed for each, so chunks should be several times ``core +
    overlap`` long.

    Parameters
    ----------
    function
        Called as ``function(*arrays, patch)`` with a C-ordered NumPy copy of `patch.seen` of each
        field, which it may change. Returns a tuple of arrays, one for each output, of shape
        `patch.shape` (with that of ``variable`` before it if the first field has this dim); NaN
        where there is no estimate. ``array[(..., *patch.within)]`` removes the halo. For Dask it is
        pickled, and called from several threads.
    *fields
        DataArrays with the dims of the first, (time, y, x) whatever y and x are called. Each may
        have a leading dim ``variable``, which is passed whole, or lack ``time``, as a sea mask
        does. Among Dask-backed fields a NumPy-backed one becomes part of the graph, so it should be
        small.
    grid
        The patches.
    outputs
        Names of the outputs, with their dtypes, or with the dtype of the first field.
    threads
        Number of patches computed at once, where no field is Dask-backed.

    Returns
    -------
    Dataset
        One variable for each output: dims and coordinates of the first field, chunks of the first
        that has them (but ``variable`` in one). Each pixel is the mean over the patches that
        estimate it, weighted by `PatchGrid.weights`; NaN if none does.

    Raises
    ------
    InputError
        If the fields are not of these dims, differ in size or are empty.
    OptionError
        If `outputs` or `threads` are not valid, or `function` returns anything else.

    Examples
    --------
    >>> field = xr.DataArray(np.ones((4, 6, 6), np.float32), dims=("time", "lat", "lon"))
    >>> grid = PatchGrid(core=(2, 3, 3), overlap=(1, 2, 2), halo=(0, 1, 1))
    >>> def double(sst, patch):
    ...     return (2 * sst[patch.within],)
    >>> np.unique(map_patches(double, field, grid=grid, outputs=["mean"])["mean"])
    array([2.], dtype=float32)
    """
    shape, dtypes = _shape(fields), _dtypes(outputs, fields[0])
    if not isinstance(threads, int | np.integer) or threads < 1:
        raise OptionError(f"threads={threads!r} must be a whole number, 1 or more")
    values: Sequence[Any]
    if any(field.chunks is not None for field in fields):
        values = _blend_lazily(function, fields, grid, shape, dtypes)
    else:
        whole, arrays = _whole(shape), [field.values for field in fields]
        evaluate = partial(_evaluate, function, arrays, whole, list(dtypes))
        values = _blend(evaluate, grid, shape, whole, arrays[0].shape[:-3], dtypes, threads)
    blended = dict(zip(dtypes, values, strict=True))
    data = {name: (fields[0].dims, array) for name, array in blended.items()}
    return xr.Dataset(data, fields[0].coords)


def _evaluate(
    function: Function, arrays: Sequence[Array], given: Box, names: Sequence[str], patch: Patch
) -> Array:
    """Call the function for one patch; `arrays` cover the box `given`.

    Returns an array (output, ..., time, y, x).
    """
    seen = _relative(patch.seen, given)
    copies = []
    for array in arrays:
        view = array[seen[1:]] if array.ndim == 2 else array[(..., *seen)]
        copies.append(view.copy(order="C"))  # one memory layout, so one rounding
    found = function(*copies, patch)
    if not isinstance(found, tuple | list):
        raise OptionError(
            f"function returned a {type(found).__name__}; "
            f"return a tuple of one array each for {', '.join(names)}"
        )
    if len(found) != len(names):
        raise OptionError(
            f"function returned {len(found)} values; "
            f"return a tuple of one array each for {', '.join(names)}"
        )
    expected = (*arrays[0].shape[:-3], *patch.shape)
    for name, estimate in zip(names, map(np.asarray, found), strict=True):
        if estimate.shape != expected or estimate.dtype.kind not in "fiub":
            raise OptionError(
                f"function returned {name!r} of shape {estimate.shape} and dtype {estimate.dtype}; "
                f"return numbers of shape {expected}: patch.within removes the halo"
            )
    return np.stack(found)


def _blend(
    evaluate: Callable[[Patch], Array],
    grid: PatchGrid,
    shape: Shape,
    box: Box,
    lead: tuple[int, ...],
    dtypes: Dtypes,
    threads: int = 1,
) -> list[Array]:
    """Blend the patches that touch a box, slab by slab.

    A row of patches touches its own slab and the next, so two slabs of sums are held at once.
    """
    axes = grid.spans(shape, box)
    # the slowest axis with several patches, so that rows end early and their sums can go
    along = next((axis for axis, spans in enumerate(axes) if len(spans) > 1), 0)
    slabs = _slabs(box, along, [inside.start for inside, _ in axes[along]])
    blended = [np.empty((*lead, *_lengths(box)), dtype) for dtype in dtypes.values()]

    def zeros(slab: Box) -> Array:
        """Sums of weight * estimate and of weight, one of each for each output."""
        return np.zeros((2, len(dtypes), *lead, *_lengths(slab)))

    patches = track(grid.touching(shape, box), "patches", prod(map(len, axes)))
    estimates = _in_order(evaluate, patches, threads)
    in_a_row = prod(map(len, axes[along + 1 :]))
    sums = [zeros(slabs[0])]
    return_freed_blocks()
    for row, slab in enumerate(slabs):
        sums += [zeros(following) for following in slabs[row + 1 : row + 2]]
        for patch, estimate in islice(estimates, in_a_row):
            weights = grid.weights(patch, shape)
            for touched, total in zip(slabs[row : row + 2], sums, strict=True):
                _add(estimate, weights, patch.inside, total, touched)
            # not held while the next patch is estimated
            del estimate, weights
        # no later row touches this slab
        totals, total_weights = sums.pop(0)
        for output, total, weight in zip(blended, totals, total_weights, strict=True):
            # over the weights that are there, where a patch has no estimate
            mean = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
            output[(..., *_relative(slab, box))] = mean
        # nor these, while the next row is
        del totals, total_weights, total, weight, mean
    return_freed_blocks()
    return blended


def _slabs(box: Box, along: int, starts: list[int]) -> list[Box]:
    """Cut a box where each row of patches but the first starts: a slab for each row."""
    whole = box[along]
    cuts = [max(whole.start, start) for start in starts[1:]]
    slabs = []
    for start, stop in pairwise([whole.start, *cuts, whole.stop]):
        slab = list(box)
        slab[along] = slice(start, stop)
        slabs.append(_box(slab))
    return slabs


def _add(estimate: Array, weights: Array, inside: Box, total: Array, slab: Box) -> None:
    """Add the part of a patch that lies in a slab, one output at a time."""
    pairs = zip(inside, slab, strict=True)
    both = _box(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs)
    if min(_lengths(both)) == 0:
        return
    here, there = _relative(both, inside), _relative(both, slab)
    weight = weights[here]
    for values, values_total, weight_total in zip(estimate, *total, strict=True):
        part = values[(..., *here)]
        present = ~np.isnan(part)
        values_total[(..., *there)] += np.where(present, part, 0) * weight
        weight_total[(..., *there)] += present * weight


def _in_order(
    evaluate: Callable[[Patch], Array], patches: Iterable[Patch], threads: int
) -> Iterator[tuple[Patch, Array]]:
    """Evaluate patches in several threads; results come in order, and few of them are held."""
    if threads == 1:
        for patch in patches:
            yield patch, evaluate(patch)
        return
    waiting: deque[tuple[Patch, Future[Array]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for patch in patches:
            waiting.append((patch, pool.submit(evaluate, patch)))
            # twice as many as threads: each has work while the first in order is awaited
            if len(waiting) > 2 * threads:
                first, estimate = waiting.popleft()
                yield first, estimate.result()
        for patch, estimate in waiting:
            yield patch, estimate.result()


def _blend_lazily(
    function: Function,
    fields: Sequence[xr.DataArray],
    grid: PatchGrid,
    shape: Shape,
    dtypes: Dtypes,
) -> list:
    """Build one task for each chunk of the output, which is given the pixels its patches see."""
    import dask
    import dask.array as da

    # a sea mask has no chunks in time to go by
    chunked = [f for f in fields if f.chunks is not None and f.ndim > 2] or [fields[0].chunk()]
    chunks = dict(zip(fields[0].dims[-3:], (chunked[0].chunks or ())[-3:], strict=True))
    arguments: list[Any] = []
    seen: dict[Hashable, list[slice]] = {}
    for axis, (dim, sizes) in enumerate(chunks.items()):
        edges = list(pairwise(np.cumsum([0, *sizes]).tolist()))
        seen[dim] = [_seen_span(grid, axis, shape[axis], *edge) for edge in edges]
        # a block of two numbers for each chunk: blockwise tells a task nothing else of its place
        arguments += [da.from_array(np.ravel(edges), chunks=2), (axis,)]
    # To blockwise, axes 0, 1, 2 are time, y, x; a field's "variable" has a number of its own.
    for number, field in enumerate(fields, start=3):
        if field.chunks is None:
            field = field.chunk({d: chunks[d] for d in field.dims if d in chunks})
        axes = (number, 0, 1, 2) if field.ndim == 4 else (0, 1, 2)[-field.ndim :]
        arguments += [_with_overlap(field, seen), axes]
    output_axes = arguments[7]  # those of the first field
    blocks = da.blockwise(
        partial(_blend_chunk, grid=grid, shape=shape, dtypes=dtypes),
        output_axes,
        *arguments,
        # Delayed, the function is in the graph once, not in every task.
        function=dask.delayed(function, pure=False, traverse=False),
        adjust_chunks=dict(enumerate(chunks.values())),
        # the blocks are of different lengths by intent: chunks, their edges, and what is seen
        # around them
        align_arrays=False,
        # a field's variables are one block
        concatenate=True,
        dtype=object,
        meta=np.empty((0,) * fields[0].ndim, object),
    )
    # A block is the list of its outputs; each output takes its own of every block.
    outputs = []
    for number, dtype in enumerate(dtypes.values()):
        meta = np.empty((0,) * blocks.ndim, dtype)
        outputs.append(da.map_blocks(getitem, blocks, number, dtype=dtype, meta=meta))
    return outputs


def _seen_span(grid: PatchGrid, axis: int, n: int, start: int, stop: int) -> slice:
    """Pixels that are seen by the patches that touch a chunk."""
    spans = grid.spans_along(axis, n, start, stop)
    if not spans:
        return slice(0, 1)  # of an empty chunk, since Dask would drop an empty piece
    return slice(spans[0][1].start, spans[-1][1].stop)


def _with_overlap(field: xr.DataArray, seen: Mapping[Hashable, list[slice]]) -> Any:
    """Rearrange a field so that each chunk is what one task is given; neighbours overlap.

    A dim that is not in `seen`, such as ``variable``, becomes one chunk.
    """
    import dask.array as da

    data = field.data
    for axis, dim in enumerate(field.dims):
        before = (slice(None),) * axis
        pieces = []
        for span in seen.get(dim, [slice(0, field.sizes[dim])]):
            pieces.append(data[(*before, span)].rechunk({axis: -1}))
        data = da.concatenate(pieces, axis=axis)
    return data


def _blend_chunk(
    *arrays: Array, function: Function, grid: PatchGrid, shape: Shape, dtypes: Dtypes
) -> list[Array]:
    """Blend one chunk.

    The first three arrays hold its start and stop along each axis, the rest are the pixels that its
    patches see of each field.
    """
    box = _box(slice(*edge.tolist()) for edge in arrays[:3])
    given = []
    for axis, part in enumerate(box):
        given.append(_seen_span(grid, axis, shape[axis], part.start, part.stop))
    evaluate = partial(_evaluate, function, arrays[3:], _box(given), list(dtypes))
    return _blend(evaluate, grid, shape, box, arrays[3].shape[:-3], dtypes)


def _shape(fields: Sequence[xr.DataArray]) -> Shape:
    """Check that the fields lie on one grid, and return its size."""
    if not fields or not all(isinstance(field, xr.DataArray) for field in fields):
        raise InputError(
            f"fields are {[type(f).__name__ for f in fields]}; give one xarray DataArray or more"
        )
    lead, dims = fields[0].dims[:-3], fields[0].dims[-3:]
    known = len(dims) == 3 and dims[0] == "time" and lead in ((), ("variable",))
    if not known or fields[0].size == 0:
        raise InputError(
            f"the first field has dims {dict(fields[0].sizes)}; transpose it to (time, y, x), or "
            "(variable, time, y, x), none of them empty"
        )
    for field in fields:
        if field.dims not in (dims, ("variable", *dims), dims[1:]):
            raise InputError(
                f"field {field.name!r} has dims {field.dims}, the first {dims}; transpose it to "
                f"these, or {dims[1:]} without time"
            )
        if any(field.sizes[d] != fields[0].sizes[d] for d in field.dims if d != "variable"):
            raise InputError(
                f"field {field.name!r} has sizes {dict(field.sizes)}, the first "
                f"{dict(fields[0].sizes)}; crop them to the same grid"
            )
    t, y, x = fields[0].shape[-3:]
    return t, y, x


def _dtypes(
    outputs: Mapping[str, DTypeLike] | Sequence[str], first: xr.DataArray
) -> dict[str, np.dtype]:
    if isinstance(outputs, str) or not outputs:
        raise OptionError(
            f"outputs={outputs!r}; give a list of names, such as ['mean', 'error'], "
            "or a dict of dtypes"
        )
    if not isinstance(outputs, Mapping):
        outputs = dict.fromkeys(outputs, first.dtype)
    dtypes = {name: np.dtype(dtype) for name, dtype in outputs.items()}
    for name, dtype in dtypes.items():
        if dtype.kind != "f" or name in {*first.coords, *first.dims}:
            raise OptionError(
                f"output {name!r} has dtype {dtype}, or the name of a coordinate; give floating "
                "ones, such as outputs={'mean': 'float32'}"
            )
    return dtypes


def _three(name: str, value: Any, least: int) -> Shape:
    numbers = tuple(value) if isinstance(value, tuple | list | np.ndarray) else ()
    whole = all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= least for n in numbers
    )
    if len(numbers) != 3 or not whole:
        raise OptionError(
            f"{name}={value!r} must be three whole numbers, {least} or more, along (time, y, x)"
        )
    t, y, x = map(int, numbers)
    return t, y, x


def _box(slices: Iterable[slice]) -> Box:
    t, y, x = slices
    return t, y, x


def _whole(shape: Shape) -> Box:
    return _box(slice(0, n) for n in shape)


def _lengths(box: Box) -> Shape:
    t, y, x = box
    return t.stop - t.start, y.stop - y.start, x.stop - x.start


def _relative(part: Box, whole: Box) -> Box:
    """Count a box from the first pixel of another."""
    pairs = zip(part, whole, strict=True)
    return _box(slice(p.start - w.start, p.stop - w.start) for p, w in pairs)


def _span(core: int, overlap: int, n: int, k: int) -> tuple[int, int]:
    """Start and stop of patch `k` along an axis of `n` pixels."""
    return max(0, k * core - overlap // 2), min(n, (k + 1) * core + overlap - overlap // 2)


@lru_cache(maxsize=1024)
def _taper(core: int, overlap: int, n: int, k: int) -> NDArray[np.float64]:
    """Weight of patch `k` along an axis of `n` pixels."""
    start, stop = _span(core, overlap, n, k)
    rise = np.maximum(1, np.round((np.arange(overlap) + 0.5) / max(overlap, 1) * STEPS)) / STEPS
    taper = np.ones(stop - start)
    if k > 0:
        taper[:overlap] = rise[: stop - start]
    if (k + 1) * core < n:
        following = (k + 1) * core - overlap // 2 - start
        # the complement of the next patch's rise, exactly
        taper[following:] = 1 - rise[: stop - start - following]
    return taper
