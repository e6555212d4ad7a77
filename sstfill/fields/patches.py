# SPDX-License-Identifier: Apache-2.0
"""Cut a field into overlapping patches, ask a function about each, blend its answers; chunks do not
matter.

The patches are anchored at the first pixel of the whole array. A Dask chunk of the output therefore
asks the same patches the same questions as the whole array does, and adds up the answers in the
same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby, pairwise, product
from math import prod
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from sstfill.errors import InputError, OptionError
from sstfill.progress import track

Array = NDArray[Any]
Box = tuple[slice, slice, slice]
Shape = tuple[int, int, int]
Dtypes = Mapping[str, np.dtype]
Function = Callable[..., Sequence[Array]]

STEPS = 2**16
"""Weights along an axis are whole multiples of 1 / STEPS: their products and sums are exact in
double precision.
"""


class Patch(NamedTuple):
    """A piece of the array; slices along (time, y, x), counted in the whole array, clipped to it.

    >>> [patch.within[2] for patch in PatchGrid(core=(2, 4, 4), halo=(0, 1, 1)).patches((2, 4, 8))]
    [slice(0, 4, None), slice(1, 5, None)]
    """

    inside: Box
    """What the patch gives an answer for."""
    seen: Box
    """What the function sees: `inside` and the halo around it."""

    @property
    def within(self) -> Box:
        """`inside`, counted from the first pixel of `seen`: what to return of an array of the shape
        of `seen`.
        """
        return _relative(self.inside, self.seen)

    @property
    def shape(self) -> Shape:
        """Number of pixels of `inside` along (time, y, x)."""
        return _lengths(self.inside)


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """Globally anchored grid of overlapping patches over an array (time, y, x); all in pixels (or
    time steps).

    Along an axis of n pixels there are ``ceil(n / core)`` patches; patch k covers ``k * core -
    overlap // 2`` up to ``(k + 1) * core + overlap - overlap // 2``, clipped to the array. No chunk
    or task takes part in that.

    Parameters
    ----------
    core
        Distance from one patch to the next along (time, y, x). A patch is ``core + overlap`` long.
    overlap
        How far neighbouring patches reach into each other, at most `core`.
    halo
        Context that a patch sees on either side, but gives no answer for.

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
        """Iterate over the patches of the array whose `inside` has a pixel in `block`, in the order
        of `patches`.
        """
        for axes in product(*self._axes(shape, block)):
            yield Patch(*zip(*axes, strict=True))

    def weights(self, patch: Patch, shape: Shape) -> NDArray[np.float64]:
        """Weight of a patch in the blend, shape of `patch.inside`: 1 in the middle, falling
        linearly over the overlap.

        Above 0 everywhere, 1 up to the array's own border; over all patches the weights of a pixel
        add up to 1, without rounding. `patch` is one of `patches(shape)`.

        >>> grid = PatchGrid(core=(1, 1, 4), overlap=(0, 0, 2))
        >>> [grid.weights(patch, (1, 1, 8)).ravel().tolist() for patch in grid.patches((1, 1, 8))]
        [[1.0, 1.0, 1.0, 0.75, 0.25], [0.25, 0.75, 1.0, 1.0, 1.0]]
        """
        spans = zip(self.core, self.overlap, shape, patch.inside, strict=True)
        t, y, x = (
            _taper(core, overlap, n, (s.start + overlap // 2) // core)
            for core, overlap, n, s in spans
        )
        return np.asarray(t[:, np.newaxis, np.newaxis] * (y[:, np.newaxis] * x))

    def _axes(self, shape: Shape, block: Box) -> list[list[tuple[slice, slice]]]:
        """Along each axis, `inside` and `seen` of the patches that touch a block."""
        return [
            self._axis(axis, n, s.start, s.stop)
            for axis, (n, s) in enumerate(zip(shape, block, strict=True))
        ]

    def _axis(self, axis: int, n: int, start: int, stop: int) -> list[tuple[slice, slice]]:
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
    """Apply a function to the overlapping patches of fields, and blend what it returns.

    The result is the same, bit for bit, for NumPy and for Dask-backed fields, whatever the chunks,
    the scheduler and the number of threads, if `function` returns the same for the same arrays.
    Dask-backed fields stay lazy: a chunk of the output reads the patches that touch it, and can be
    computed alone. A patch that touches several chunks is worked out for each, so chunks should be
    several times ``core + overlap`` long.

    Parameters
    ----------
    function
        Called as ``function(*arrays, patch)`` with a C-ordered NumPy copy of what `patch` sees of
        each field, its own to change. Returns a tuple of arrays, one for each output, of shape
        `patch.shape` (with that of ``variable`` before it if the first field has this dim); NaN
        where it cannot tell. ``array[(..., *patch.within)]`` takes the halo off. For Dask it is
        pickled, and called from several threads.
    *fields
        DataArrays with the dims of the first, (time, y, x) whatever y and x are called; each may
        have a leading dim ``variable``, which is passed whole, or be without ``time``, as a sea
        mask is. Among Dask-backed fields a NumPy-backed one becomes part of the graph: let it be
        small.
    grid
        Which patches.
    outputs
        Names of the outputs, with their dtypes, or with the dtype of the first field.
    threads
        Patches at a time, where no field is Dask-backed.

    Returns
    -------
    Dataset
        One variable for each output: dims and coordinates of the first field, chunks of the first
        that has them (but ``variable`` in one). Each pixel is the mean of the patches that gave a
        number for it, weighted by `PatchGrid.weights`; NaN if none did.

    Raises
    ------
    InputError
        If the fields are not of these dims, differ in size or are empty.
    OptionError
        If `outputs` or `threads` make no sense, or `function` returns something else than promised.

    Examples
    --------
    >>> field = xr.DataArray(np.ones((4, 6, 6), np.float32), dims=("time", "lat", "lon"))
    >>> grid = PatchGrid(core=(2, 3, 3), overlap=(1, 2, 2), halo=(0, 1, 1))
    >>> def ask(sst, patch):
    ...     return (2 * sst[patch.within],)
    >>> np.unique(map_patches(ask, field, grid=grid, outputs=["mean"])["mean"])
    array([2.], dtype=float32)
    """
    shape, dtypes = _shape(fields), _dtypes(outputs, fields[0])
    if not isinstance(threads, int | np.integer) or threads < 1:
        raise OptionError(f"threads={threads!r} must be a whole number, 1 or more")
    values: Sequence[Any]
    if any(field.chunks is not None for field in fields):
        values = _lazy(function, fields, grid, shape, dtypes)
    else:
        box, arrays = _whole(shape), [field.values for field in fields]
        ask = partial(_ask, function, arrays, box, list(dtypes))
        values = _blend(ask, grid, shape, box, arrays[0].shape[:-3], dtypes, threads)
    named = zip(dtypes, values, strict=True)
    return xr.Dataset(
        {name: (fields[0].dims, blended) for name, blended in named}, fields[0].coords
    )


def _ask(
    function: Function, arrays: Sequence[Array], reach: Box, names: Sequence[str], patch: Patch
) -> Array:
    """Ask about one patch; `arrays` cover the box `reach`. Returns (output, ..., time, y, x)."""
    seen = _relative(patch.seen, reach)
    views = (array[seen[1:]] if array.ndim == 2 else array[(..., *seen)] for array in arrays)
    found = function(
        *(view.copy(order="C") for view in views), patch
    )  # one memory layout, so one rounding
    if not isinstance(found, tuple | list) or len(found) != len(names):
        what = (
            f"{len(found)} values"
            if isinstance(found, tuple | list)
            else f"a {type(found).__name__}"
        )
        raise OptionError(
            f"function returned {what}; return a tuple of one array each for {', '.join(names)}"
        )
    expected = (*arrays[0].shape[:-3], *patch.shape)
    for name, answer in zip(names, map(np.asarray, found), strict=True):
        if answer.shape != expected or answer.dtype.kind not in "fiub":
            raise OptionError(
                f"function returned {name!r} of shape {answer.shape} and dtype {answer.dtype}; return "
                f"numbers of shape {expected}: patch.within takes the halo off"
            )
    return np.stack(found)


def _blend(
    ask: Callable[[Patch], Array],
    grid: PatchGrid,
    shape: Shape,
    box: Box,
    lead: tuple[int, ...],
    dtypes: Dtypes,
    threads: int = 1,
) -> list[Array]:
    """Blend the patches that touch a box, slab by slab: a row of patches touches its own slab and
    the next.
    """
    axes = grid._axes(shape, box)
    along = next((axis for axis, spans in enumerate(axes) if len(spans) > 1), 0)
    slabs = _slabs(box, along, [inside.start for inside, _ in axes[along]])
    blended = [np.empty((*lead, *_lengths(box)), dtype) for dtype in dtypes.values()]
    sums = [
        np.zeros((2, len(dtypes), *lead, *_lengths(slabs[0])))
    ]  # of weight * answer, and of weight
    patches = track(grid.touching(shape, box), "patches", prod(map(len, axes)))
    rows = groupby(_answers(ask, patches, threads), lambda answer: answer[0].inside[along].start)
    for i, (_, row) in enumerate(rows):
        sums = [
            sums[-1],
            *(np.zeros((2, len(dtypes), *lead, *_lengths(slab))) for slab in slabs[i + 1 : i + 2]),
        ]
        for patch, answer in row:
            present = ~np.isnan(answer)
            weights, terms = grid.weights(patch, shape), np.empty((2, *answer.shape))
            np.multiply(np.where(present, answer, 0), weights, out=terms[0])
            np.multiply(present, weights, out=terms[1])
            for slab, total in zip(slabs[i : i + 2], sums, strict=True):
                _add(terms, patch.inside, total, slab)
        for field, (total, weight) in zip(blended, sums[0].swapaxes(0, 1), strict=True):
            mean = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
            field[(..., *_relative(slabs[i], box))] = mean
    return blended


def _slabs(box: Box, along: int, starts: list[int]) -> list[Box]:
    """Cut a box where each row of patches but the first starts, so that a row has a slab of its
    own.
    """
    whole = box[along]
    edges = [whole.start, *(max(whole.start, start) for start in starts[1:]), whole.stop]
    return [
        _box(slice(a, b) if axis == along else s for axis, s in enumerate(box))
        for a, b in pairwise(edges)
    ]


def _add(terms: Array, inside: Box, total: Array, slab: Box) -> None:
    """Add the part of a patch that lies in a slab."""
    both = _box(
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(inside, slab, strict=True)
    )
    if min(_lengths(both)) > 0:
        total[(..., *_relative(both, slab))] += terms[(..., *_relative(both, inside))]


def _answers(
    ask: Callable[[Patch], Array], patches: Iterable[Patch], threads: int
) -> Iterator[tuple[Patch, Array]]:
    """Ask about each patch, several at a time; the answers come in order, and few of them wait."""
    if threads == 1:
        yield from ((patch, ask(patch)) for patch in patches)
        return
    waiting: deque[tuple[Patch, Future[Array]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for patch in patches:
            waiting.append((patch, pool.submit(ask, patch)))
            if len(waiting) > 2 * threads:
                first, answer = waiting.popleft()
                yield first, answer.result()
        yield from ((patch, answer.result()) for patch, answer in waiting)


def _lazy(
    function: Function,
    fields: Sequence[xr.DataArray],
    grid: PatchGrid,
    shape: Shape,
    dtypes: Dtypes,
) -> list:
    """One task for each chunk of the output, which gets what its patches see of each field as one
    array.
    """
    import dask
    import dask.array as da

    like = ([f for f in fields if f.chunks is not None and f.ndim > 2] or [fields[0].chunk()])[0]
    chunks = dict(zip(fields[0].dims[-3:], (like.chunks or ())[-3:], strict=True))
    edges = [list(pairwise(np.cumsum([0, *sizes]).tolist())) for sizes in chunks.values()]
    reach = {
        d: [_reach(grid, axis, shape[axis], *edge) for edge in edges[axis]]
        for axis, d in enumerate(chunks)
    }
    arguments: list[Any] = []
    for axis, pairs in enumerate(edges):
        arguments += [da.from_array(np.ravel(pairs), chunks=2), (axis,)]
    for number, field in enumerate(
        fields, start=3
    ):  # axes 0, 1, 2 are time, y, x; the others a field's "variable"
        lazy = (
            field
            if field.chunks is not None
            else field.chunk({d: chunks[d] for d in field.dims if d in chunks})
        )
        arguments += [
            _gathered(lazy, reach),
            (number, 0, 1, 2) if field.ndim == 4 else (0, 1, 2)[-field.ndim :],
        ]
    blocks = da.blockwise(
        partial(_blended, grid=grid, shape=shape, dtypes=dtypes),
        arguments[7],
        *arguments,
        function=dask.delayed(
            function, pure=False, traverse=False
        ),  # in the graph once, not in every task
        adjust_chunks=dict(enumerate(chunks.values())),
        align_arrays=False,
        concatenate=True,
        dtype=object,
        meta=np.empty((0,) * fields[0].ndim, object),
    )
    pick = partial(da.map_blocks, getitem, blocks)
    return [
        pick(i, dtype=t, meta=np.empty((0,) * blocks.ndim, t))
        for i, t in enumerate(dtypes.values())
    ]


def _reach(grid: PatchGrid, axis: int, n: int, start: int, stop: int) -> tuple[int, int]:
    """First pixel seen by the patches that touch a chunk, and last + 1; Dask would drop a chunk of
    none.
    """
    seen = [span for _, span in grid._axis(axis, n, start, stop)] or [slice(0, 1)]
    return seen[0].start, seen[-1].stop


def _gathered(field: xr.DataArray, reach: Mapping[Hashable, list[tuple[int, int]]]) -> Any:
    """Lay side by side what each chunk reaches, so that it is one chunk; a dim that is passed whole
    is one, too.
    """
    import dask.array as da

    data = field.data
    for axis, dim in enumerate(field.dims):
        before = (slice(None),) * axis
        pieces = [data[(*before, slice(*span))] for span in reach.get(dim, [(0, field.sizes[dim])])]
        data = da.concatenate([piece.rechunk({axis: -1}) for piece in pieces], axis=axis)
    return data


def _blended(
    *arrays: Array, function: Function, grid: PatchGrid, shape: Shape, dtypes: Dtypes
) -> list[Array]:
    """Blend one chunk: the first three arrays tell where it starts and stops, the rest are what its
    patches see.
    """
    box = _box(slice(*edge.tolist()) for edge in arrays[:3])
    reach = _box(
        slice(*_reach(grid, axis, shape[axis], s.start, s.stop)) for axis, s in enumerate(box)
    )
    ask = partial(_ask, function, arrays[3:], reach, list(dtypes))
    return _blend(ask, grid, shape, box, arrays[3].shape[:-3], dtypes)


def _shape(fields: Sequence[xr.DataArray]) -> Shape:
    """Check that the fields lie on one grid, and return its size."""
    if not fields or not all(isinstance(field, xr.DataArray) for field in fields):
        raise InputError(
            f"fields are {[type(f).__name__ for f in fields]}; give one xarray DataArray or more"
        )
    lead, dims = fields[0].dims[:-3], fields[0].dims[-3:]
    if (
        len(dims) != 3
        or dims[0] != "time"
        or lead not in ((), ("variable",))
        or fields[0].size == 0
    ):
        raise InputError(
            f"the first field has dims {dict(fields[0].sizes)}; transpose it to (time, y, x), or "
            "(variable, time, y, x), none of them empty"
        )
    for field in fields:
        if field.dims not in (dims, ("variable", *dims), dims[1:]):
            raise InputError(
                f"field {field.name!r} has dims {field.dims}, the first {dims}; transpose it to these, or "
                f"{dims[1:]} without time"
            )
        if any(field.sizes[d] != fields[0].sizes[d] for d in field.dims if d != "variable"):
            raise InputError(
                f"field {field.name!r} has sizes {dict(field.sizes)}, the first {dict(fields[0].sizes)}; "
                "crop them to the same grid"
            )
    t, y, x = fields[0].shape[-3:]
    return t, y, x


def _dtypes(
    outputs: Mapping[str, DTypeLike] | Sequence[str], first: xr.DataArray
) -> dict[str, np.dtype]:
    if isinstance(outputs, str) or not outputs:
        raise OptionError(
            f"outputs={outputs!r}; give a list of names, such as ['mean', 'error'], or a dict of dtypes"
        )
    pairs = (
        outputs.items()
        if isinstance(outputs, Mapping)
        else ((name, first.dtype) for name in outputs)
    )
    dtypes = {name: np.dtype(dtype) for name, dtype in pairs}
    for name, dtype in dtypes.items():
        if dtype.kind != "f" or name in {*first.coords, *first.dims}:
            raise OptionError(
                f"output {name!r} has dtype {dtype}, or the name of a coordinate; give floating ones, "
                "such as outputs={'mean': 'float32'}"
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
    return _box(
        slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, whole, strict=True)
    )


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
        taper[following:] = 1 - rise[: stop - start - following]
    return taper
