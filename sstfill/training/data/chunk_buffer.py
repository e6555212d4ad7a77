# SPDX-License-Identifier: Apache-2.0
"""A shuffle buffer for windows of an archive too large for memory.

The archive is read in segments of whole chunks. Many windows are taken from each, and four segments
(32 MiB each) are in use in turns while a fifth is read.
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

from sstfill.training.data.prefetch import prefetch
from sstfill.training.data.windows import (
    LEAST_SEA,
    LEAST_SEEN,
    USUAL_LIMITS,
    TrainingWindow,
    TrainingWindows,
)

T = TypeVar("T")
Shape = tuple[int, int, int]
Rng = np.random.Generator

IN_USE = 4
"""Segments that windows are taken from in turns; one more is read meanwhile."""
BAND = 512
"""Rows in which sea is counted at a time."""


class Box(NamedTuple):
    """A range along each dim."""

    t: slice
    y: slice
    x: slice

    def around(self, shape: Shape) -> Box:
        """Return the box that windows of a shape cover if they begin in this one."""
        frames, height, width = shape
        return Box(
            slice(self.t.start, self.t.stop + frames - 1),
            slice(self.y.start, self.y.stop + height - 1),
            slice(self.x.start, self.x.stop + width - 1),
        )


@dataclass(frozen=True)
class SegmentPlan:
    """The places where windows begin, cut into boxes: the windows of a box cover one segment.

    Boxes end where chunks do, as far as `pixels` allows. Together they hold each place once, so
    that all places are equally likely to be drawn, also those whose windows lie across chunks.

    Attributes
    ----------
    chunks
        Sizes of chunks along each dim.
    spans
        First place along each dim, and the one after the last.
    shape
        Of a window.
    pixels
        Of a segment at most, or of a window if that has more.
    most_windows
        Taken from a segment.
    """

    chunks: tuple[tuple[int, ...], ...]
    spans: tuple[tuple[int, int], ...]
    shape: Shape
    pixels: int
    most_windows: int = USUAL_LIMITS.windows

    def boxes(self) -> list[Box]:
        """List the boxes.

        >>> chunks, spans = ((4, 4, 4), (9,), (9,)), ((0, 11), (0, 2), (0, 2))
        >>> [box.t for box in SegmentPlan(chunks, spans, (2, 8, 8), 500).boxes()]
        [slice(0, 4, None), slice(4, 8, None), slice(8, 11, None)]
        """
        slices = []
        for chunks, span, most in zip(self.chunks, self.spans, self._extent(), strict=True):
            slices.append(_cut(chunks, *span, most))
        return [Box(t, y, x) for t, y, x in product(*slices)]

    def windows_per_segment(self) -> int:
        """How many windows to take from a segment: about as many as fill it."""
        filling = self._covered(self._extent()) // math.prod(self.shape)
        return max(1, min(self.most_windows, filling))

    def _extent(self) -> list[int]:
        """Size of a box: part of a chunk, a chunk, or chunks that `most_windows` windows fill."""
        room = [stop - start for start, stop in self.spans]
        chunk = list(map(max, self.chunks))
        # A chunk is read whole anyway, so a box begins as large as one.
        extent = list(map(min, chunk, room))
        while self._covered(extent) > self.pixels and max(extent) > 1:
            # halve the dim that is longest in units of the window
            k = max(range(3), key=lambda k: (extent[k] > 1, extent[k] / self.shape[k]))
            extent[k] = -(-extent[k] // 2)
        # Small chunks are put together until reading is worth its windows.
        enough = min(self.pixels, self.most_windows * math.prod(self.shape))
        while (larger := self._grown(extent, chunk, room, enough)) is not None:
            extent = larger
        return extent

    def _grown(
        self, extent: list[int], chunk: list[int], room: list[int], enough: int
    ) -> list[int] | None:
        """Grow a box by a chunk along one dim, or return None if it would cover too much.

        Along the dim where windows reach out of the box most comes first: that saves most reading.
        """
        for k in sorted(range(3), key=lambda k: extent[k] / self.shape[k]):
            if extent[k] < room[k]:
                grown = list(extent)
                grown[k] = min(extent[k] + chunk[k], room[k])
                if self._covered(grown) <= enough:
                    return grown
        return None

    def _covered(self, extent: Sequence[int]) -> int:
        return math.prod(e + m - 1 for e, m in zip(extent, self.shape, strict=True))


def shuffled_windows(windows: TrainingWindows, rng: Rng) -> Generator[TrainingWindow, None, None]:
    """Draw windows without end, as `TrainingWindows.draw` would, from five segments in memory.

    Every segment comes up once before any comes again, in a new order each time.

    Raises
    ------
    InputError
        If there is no window with enough sea and observations.
    """
    at_random, turns = rng.spawn(2)
    with closing(prefetch(_segments(windows, at_random), 1)) as segments:
        yield from interleave(segments, turns)


def interleave(groups: Iterator[Iterator[T]], rng: Rng) -> Iterator[T]:
    """Take items from `IN_USE` groups in random turns; a group that has ended is replaced.

    >>> sorted(interleave(iter([iter("ab"), iter("c")]), np.random.default_rng(0)))
    ['a', 'b', 'c']
    """
    # From several at a time, for windows of one segment resemble each other.
    in_use = list(islice(groups, IN_USE))
    while in_use:
        k = int(rng.integers(len(in_use)))
        for item in in_use[k]:
            yield item
            break
        else:  # it has ended
            in_use[k : k + 1] = islice(groups, 1)


def _segments(windows: TrainingWindows, rng: Rng) -> Iterator[Iterator[TrainingWindow]]:
    """Read segment after segment and yield the windows of each; those without any are left out."""
    plan = _plan(windows)
    enough_sea = _enough_sea(windows.sea.values.astype(bool), plan.shape[1:])
    boxes = [box for box in plan.boxes() if enough_sea[box.y, box.x].any()]
    # every place is to be equally likely, so a box counts by how many it holds
    places = []
    for box in boxes:
        places.append(np.count_nonzero(enough_sea[box.y, box.x]) * (box.t.stop - box.t.start))
    # Segments in which no window was found since the last one was, and how often.
    in_vain: set[int] = set()
    failures = 0
    for k in endless_permutations(len(boxes), rng):
        if len(in_vain) == min(len(boxes), windows.tries):
            break
        # in proportion to the places of the box, on average
        count = int(plan.windows_per_segment() * places[k] / max(places) + rng.random())
        if not count:
            # A box of few places is mostly passed over, unless the others have nothing to offer:
            # an archive without any window must be told so, not be read for ever.
            if failures < len(boxes):
                continue
            count = 1
        segment = Segment.read(windows, boxes[k])
        starts = segment.draw(enough_sea, count, rng)
        if not starts:
            in_vain.add(k)
            failures += 1
            continue
        in_vain.clear()
        failures = 0
        yield map(segment.window, starts)
    raise windows.none_found()


def endless_permutations(count: int, rng: Rng) -> Iterator[int]:
    """Yield the numbers below `count` in random order, then in another, without end.

    Nothing is yielded if `count` is 0.
    """
    while count:
        yield from rng.permutation(count).tolist()


def _plan(windows: TrainingWindows) -> SegmentPlan:
    starts = (windows.times.start, 0, 0)
    stops = (windows.times.stop, *windows.obs.shape[1:])
    spans = []
    for start, stop, length in zip(starts, stops, windows.shape, strict=True):
        spans.append((start, stop - length + 1))
    itemsize = windows.obs.dtype.itemsize
    if windows.truth is not None:
        itemsize += windows.truth.dtype.itemsize
    return SegmentPlan(
        windows.obs.chunks or (),
        tuple(spans),
        windows.shape,
        windows.limits.segment // itemsize,
        windows.limits.windows,
    )


@dataclass(frozen=True)
class Segment:
    """A piece of the archive in memory, and the windows in it that begin in a box.

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
    def read(cls, windows: TrainingWindows, box: Box) -> Segment:
        """Read the segment of a box."""
        t, y, x = box.around(windows.shape)
        truth = None
        if windows.truth is not None:
            truth = windows.truth[t, y, x].compute()
        return cls(box, windows.shape, windows.obs[t, y, x].compute(), windows.sea[y, x], truth)

    def draw(self, enough_sea: NDArray[np.bool_], count: int, rng: Rng) -> list[Box]:
        """Draw `count` places with enough sea, and return those with enough observations."""
        # Places count from the corner of the segment, which is that of its box.
        rows, columns = np.nonzero(enough_sea[self.box.y, self.box.x])
        dates = rng.integers(self.box.t.stop - self.box.t.start, size=count)
        chosen = rng.integers(len(rows), size=count)
        starts = zip(dates.tolist(), rows[chosen].tolist(), columns[chosen].tolist(), strict=True)
        frames, height, width = self.shape
        places = []
        for t, y, x in starts:
            place = Box(slice(t, t + frames), slice(y, y + height), slice(x, x + width))
            at_sea = self.sea.values[place.y, place.x].astype(bool)
            if np.isfinite(self.obs.values[place][:, at_sea]).mean() >= LEAST_SEEN:
                places.append(place)
        return places

    def window(self, place: Box) -> TrainingWindow:
        """Copy a window, so that the segment can be freed."""
        t, y, x = place
        sea = self.sea[y, x]
        truth = None
        if self.truth is not None:
            truth = self.truth[t, y, x].copy()
        return TrainingWindow(self.obs[t, y, x].where(sea), sea, truth)


def _enough_sea(
    sea: NDArray[np.bool_], size: tuple[int, int], band: int = BAND
) -> NDArray[np.bool_]:
    """Whether a window that begins at a pixel has enough sea; counted in bands of so many rows."""
    height, width = size
    bands = range(0, len(sea) - height + 1, band)
    enough = []
    for first in bands:
        # sums along rows, then along columns: a box sum in two passes, whatever its size
        down = _sums(sea[first : first + band + height - 1], height)
        counts = _sums(down.T, width).T
        enough.append(counts >= LEAST_SEA * height * width)
    return np.concatenate(enough)


def _sums(values: NDArray, length: int) -> NDArray[np.int32]:
    """Sum each value and the `length` - 1 values below it."""
    total = np.cumsum(values, axis=0, dtype=np.int32)
    # a copy, for the two views overlap
    total[length:] -= total[:-length].copy()
    return total[length - 1 :]


def _cut(chunks: Sequence[int], start: int, stop: int, most: int) -> list[slice]:
    """Cut a range where chunks end, into parts of at most `most`; chunks that are longer are cut.

    >>> _cut((4, 4, 4), 3, 12, 4)
    [slice(3, 4, None), slice(4, 8, None), slice(8, 12, None)]
    >>> _cut((9,), 0, 9, 5)
    [slice(0, 5, None), slice(5, 9, None)]
    """
    chunk_ends = np.cumsum(chunks)
    parts = []
    while start < stop:
        end = min(start + most, stop)
        aligned = chunk_ends[(chunk_ends > start) & (chunk_ends <= end)]
        if end < stop and aligned.size:
            end = int(aligned[-1])
        parts.append(slice(start, end))
        start = end
    return parts
