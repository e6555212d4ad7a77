# SPDX-License-Identifier: Apache-2.0
"""Windows of an archive too large for memory: read in slabs of whole chunks, many from each, in
mixed order.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, product
from typing import NamedTuple, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.training.data.prefetch import ahead
from sstfill.training.data.windows import (
    HELD,
    LEAST_SEA,
    LEAST_SEEN,
    TRIES,
    TrainingWindow,
    TrainingWindows,
    none_found,
)

T = TypeVar("T")
Shape = tuple[int, int, int]
Rng = np.random.Generator

OPEN = 4
"""Slabs that windows are taken from in turns; one more is read meanwhile."""
SLAB = HELD // OPEN
"""Bytes of a slab at most, or of one window where that has more: of the field, and of the truth
where it is known.
"""
MOST = 48
"""Windows from a slab at most."""
BAND = 512
"""Rows that sea is counted on at a time."""


class Box(NamedTuple):
    """A range along each dim."""

    t: slice
    y: slice
    x: slice

    def around(self, shape: Shape) -> Box:
        """What windows of a shape cover that begin in the box."""
        return Box(*(slice(s.start, s.stop + m - 1) for s, m in zip(self, shape, strict=True)))


@dataclass(frozen=True)
class Reading:
    """Where the windows of an archive begin, cut into boxes so that what those of a box cover makes
    a slab.

    Boxes end where chunks do, as far as `pixels` allow; together they hold each place once, so that
    all places are equally likely to be drawn, those whose windows lie across chunks too.

    Attributes
    ----------
    chunks
        Sizes of chunks along each dim.
    spans
        First place along each dim, and the one after the last.
    shape
        Of a window.
    pixels
        Of a slab at most, or of a window if that has more.
    """

    chunks: tuple[tuple[int, ...], ...]
    spans: tuple[tuple[int, int], ...]
    shape: Shape
    pixels: int

    def boxes(self) -> list[Box]:
        """List the boxes.

        >>> [box.t for box in Reading(((4, 4, 4), (9,), (9,)), ((0, 11), (0, 2), (0, 2)), (2, 8, 8), 500).boxes()]
        [slice(0, 4, None), slice(4, 8, None), slice(8, 11, None)]
        """
        cut = [
            _cut(c, *span, most)
            for c, span, most in zip(self.chunks, self.spans, self._extent(), strict=True)
        ]
        return [Box(*slices) for slices in product(*cut)]

    def uses(self) -> int:
        """How many windows a slab gives: about as many as fill it, so that hardly a pixel is read
        for nothing.
        """
        return max(1, min(MOST, self._covered(self._extent()) // math.prod(self.shape)))

    def _extent(self) -> list[int]:
        """Size of a box: a chunk, as many as `MOST` windows fill, or what of one `pixels` allow."""
        room = [stop - start for start, stop in self.spans]
        chunk = [max(sizes) for sizes in self.chunks]
        extent = [min(pair) for pair in zip(chunk, room, strict=True)]
        while self._covered(extent) > self.pixels and max(extent) > 1:
            k = max(range(3), key=lambda k: (extent[k] > 1, extent[k] / self.shape[k]))
            extent[k] = -(-extent[k] // 2)
        enough = min(self.pixels, MOST * math.prod(self.shape))
        while larger := [e for e in self._grown(extent, chunk, room) if self._covered(e) <= enough]:
            extent = larger[0]
        return extent

    def _grown(self, extent: list[int], chunk: list[int], room: list[int]) -> Iterator[list[int]]:
        """Give larger sizes, by a chunk along one dim: first along the one that windows reach out
        of most.
        """
        for k in sorted(range(3), key=lambda k: extent[k] / self.shape[k]):
            if extent[k] < room[k]:
                yield [*extent[:k], min(extent[k] + chunk[k], room[k]), *extent[k + 1 :]]

    def _covered(self, extent: Sequence[int]) -> int:
        return math.prod(e + m - 1 for e, m in zip(extent, self.shape, strict=True))


def shuffled(windows: TrainingWindows, rng: Rng) -> Generator[TrainingWindow, None, None]:
    """Draw windows without end, as `TrainingWindows.draw` would; five slabs of `SLAB` bytes are in
    memory at most.

    Every slab comes up once before any comes again, in an order of its own each time.

    Raises
    ------
    InputError
        If there is no window with enough sea and observations.
    """
    at_random, turns = rng.spawn(2)
    with closing(ahead(_slabs(windows, at_random), 1)) as slabs:
        yield from mixed(slabs, turns)


def mixed(groups: Iterator[Iterator[T]], rng: Rng) -> Iterator[T]:
    """Take from one of `OPEN` groups at random each time; one that has ended makes room for the
    next.

    >>> sorted(mixed(iter([iter("ab"), iter("c")]), np.random.default_rng(0)))
    ['a', 'b', 'c']
    """
    taken = list(islice(groups, OPEN))
    while taken:
        k = int(rng.integers(len(taken)))
        for item in taken[k]:
            yield item
            break
        else:
            taken[k : k + 1] = islice(groups, 1)


def _slabs(windows: TrainingWindows, rng: Rng) -> Iterator[Iterator[TrainingWindow]]:
    """Read one slab after the other, and give the windows of each; those of which nothing is of use
    are passed over.
    """
    reading = _reading(windows)
    wet = _wet(windows.sea.values.astype(bool), reading.shape[1:])
    boxes = [box for box in reading.boxes() if wet[box.y, box.x].any()]
    starts = np.array(
        [np.count_nonzero(wet[box.y, box.x]) * (box.t.stop - box.t.start) for box in boxes]
    )
    barren = 0
    for k in without_end(len(boxes), rng):
        if barren == min(len(boxes), TRIES):
            break
        count = int(
            reading.uses() * starts[k] / starts.max() + rng.random()
        )  # in proportion, on the average
        slab = Slab.read(windows, boxes[k]) if count else None
        places = slab.draw(wet, count, rng) if slab else []
        barren = 0 if places or not slab else barren + 1
        if slab and places:
            yield map(slab.window, places)
    raise none_found(windows.shape)


def without_end(count: int, rng: Rng) -> Iterator[int]:
    """Give the numbers below `count` in random order, then in another, and so on; none if there is
    none.
    """
    while count:
        yield from rng.permutation(count).tolist()


def _reading(windows: TrainingWindows) -> Reading:
    whole = ((windows.times.start, windows.times.stop), *((0, n) for n in windows.obs.shape[1:]))
    spans = tuple(
        (start, stop - m + 1) for (start, stop), m in zip(whole, windows.shape, strict=True)
    )
    fields = [windows.obs] if windows.truth is None else [windows.obs, windows.truth]
    return Reading(
        windows.obs.chunks or (),
        spans,
        windows.shape,
        SLAB // sum(f.dtype.itemsize for f in fields),
    )


@dataclass(frozen=True)
class Slab:
    """A piece of the archive in memory, and windows that begin in a box.

    Attributes
    ----------
    box
        Where they begin, in the archive.
    shape
        Of a window.
    obs, sea, truth
        What they cover.
    """

    box: Box
    shape: Shape
    obs: xr.DataArray
    sea: xr.DataArray
    truth: xr.DataArray | None

    @classmethod
    def read(cls, windows: TrainingWindows, box: Box) -> Slab:
        """Read the slab of a box."""
        t, y, x = box.around(windows.shape)
        truth = None if windows.truth is None else windows.truth[t, y, x].compute()
        return cls(box, windows.shape, windows.obs[t, y, x].compute(), windows.sea[y, x], truth)

    def draw(self, wet: NDArray[np.bool_], count: int, rng: Rng) -> list[Box]:
        """Draw `count` places with enough sea, and keep those with enough observations."""
        rows, columns = np.nonzero(wet[self.box.y, self.box.x])
        dates = rng.integers(self.box.t.stop - self.box.t.start, size=count)
        chosen = rng.integers(len(rows), size=count)
        starts = zip(dates.tolist(), rows[chosen].tolist(), columns[chosen].tolist(), strict=True)
        drawn = [
            Box(*(slice(s, s + m) for s, m in zip(start, self.shape, strict=True)))
            for start in starts
        ]
        return [place for place in drawn if self._seen(place)]

    def window(self, place: Box) -> TrainingWindow:
        """Cut a window out, in memory of its own."""
        t, y, x = place
        sea = self.sea[y, x]
        truth = None if self.truth is None else self.truth[t, y, x].copy()
        return TrainingWindow(self.obs[t, y, x].where(sea), sea, truth)

    def _seen(self, place: Box) -> bool:
        wet = self.sea.values[place.y, place.x].astype(bool)
        return bool(np.isfinite(self.obs.values[place][:, wet]).mean() >= LEAST_SEEN)


def _wet(sea: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether a window that begins at a pixel has enough sea."""
    height, width = size
    bands = range(0, len(sea) - height + 1, BAND)
    counts = (_sums(_sums(sea[r : r + BAND + height - 1], height).T, width).T for r in bands)
    return np.concatenate([count >= LEAST_SEA * height * width for count in counts])


def _sums(values: NDArray, length: int) -> NDArray[np.int32]:
    """Sum `length` values from each one on, down the rows."""
    total = np.cumsum(values, axis=0, dtype=np.int32)
    total[length:] -= total[:-length].copy()
    return total[length - 1 :]


def _cut(chunks: Sequence[int], start: int, stop: int, most: int) -> list[slice]:
    """Cut a range where chunks end, into parts no longer than `most`; within a chunk where that is
    longer.

    >>> _cut((4, 4, 4), 3, 12, 4), _cut((9,), 0, 9, 5)
    ([slice(3, 4, None), slice(4, 8, None), slice(8, 12, None)], [slice(0, 5, None), slice(5, 9,
    None)])
    """
    ends, parts = np.cumsum(chunks), []
    while start < stop:
        reach = min(start + most, stop)
        aligned = ends[(ends > start) & (ends <= reach)]
        end = int(aligned[-1]) if reach < stop and aligned.size else reach
        parts.append(slice(start, end))
        start = end
    return parts
