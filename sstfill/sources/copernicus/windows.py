# SPDX-License-Identifier: Apache-2.0
"""Cut a download into windows: no chunk of the store in two of them, few chunks of the source."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DownloadWindows:
    """Where the windows of a download begin and end, by dimension.

    Attributes
    ----------
    edges
        For each dimension, ascending: the first index of the first window, then the end of each.
    """

    edges: dict[str, tuple[int, ...]]

    def __len__(self) -> int:
        return math.prod(len(e) - 1 for e in self.edges.values())

    def boxes(self) -> list[dict[str, slice]]:
        """Return all windows as boxes of indices, time running fastest.

        Chunks of the source may be long in time, so that windows of one place share them.

        >>> for box in DownloadWindows({"time": (0, 2, 3), "x": (0, 4)}).boxes():
        ...     print(box)
        {'time': slice(0, 2, None), 'x': slice(0, 4, None)}
        {'time': slice(2, 3, None), 'x': slice(0, 4, None)}
        """
        # the last one runs fastest
        order = sorted(self.edges, key=lambda d: d == "time")
        spans = [itertools.starmap(slice, itertools.pairwise(self.edges[d])) for d in order]
        boxes = []
        for spans_of_box in itertools.product(*spans):
            box = dict(zip(order, spans_of_box, strict=True))
            boxes.append({d: box[d] for d in self.edges})
        return boxes


def cut(
    sizes: Mapping[str, int],
    target: Mapping[str, int],
    source: Mapping[str, int],
    *,
    offset: Mapping[str, int] | None = None,
    begin: Mapping[str, int] | None = None,
    pixels: int,
) -> DownloadWindows:
    """Cut a grid into windows that are downloaded one after the other.

    Parameters
    ----------
    sizes
        Length of each dimension.
    target, source
        Length of the chunks of the store, and of the source.
    offset
        Index in the source of the grid's first value.
    begin
        Index of the first value to fetch, by dimension.
    pixels
        Most values of a window; it holds one chunk of the store at least.

    Returns
    -------
    DownloadWindows
        Each covers whole chunks of the store, except the first where `begin` falls within one.
        Windows end where chunks of the source end, where those fit.

    >>> cut({"time": 10, "x": 8}, {"time": 2, "x": 8}, {"time": 4, "x": 8}, pixels=40).edges
    {'time': (0, 4, 8, 10), 'x': (0, 8)}
    """
    offset, begin = offset or {}, begin or {}
    lengths = _lengths(sizes, target, source, pixels)
    edges = {}
    for d, n in sizes.items():
        edges[d] = _edges(
            begin.get(d, 0), n, target[d], source.get(d, 1), offset.get(d, 0), lengths[d]
        )
    return DownloadWindows(edges)


def _lengths(
    sizes: Mapping[str, int], target: Mapping[str, int], source: Mapping[str, int], pixels: int
) -> dict[str, int]:
    """Grow a window from one chunk of the store to the most values it may hold."""
    lengths = {d: min(target[d], n) for d, n in sizes.items()}

    def grown(d: str) -> dict[str, int]:
        return lengths | {d: min(sizes[d], lengths[d] + target[d])}

    def has_room(d: str) -> bool:
        return lengths[d] < sizes[d] and math.prod(grown(d).values()) <= pixels

    def is_short(d: str) -> bool:
        return lengths[d] < min(source.get(d, 1), sizes[d]) and has_room(d)

    # first to the source's chunks, which would be fetched twice otherwise
    while short := list(filter(is_short, sizes)):
        lengths = grown(max(short, key=lambda d: source[d] / lengths[d]))
    # then in time, then in space
    for d in sorted(sizes, key=lambda d: d != "time"):
        # whole chunks of the store at a time: one that two windows share would be written twice
        while has_room(d):
            lengths = grown(d)
    return lengths


def _edges(
    begin: int, size: int, target: int, source: int, offset: int, length: int
) -> tuple[int, ...]:
    edges = [begin]
    while edges[-1] < size:
        chunk_start = edges[-1] // target * target
        end = min(size, chunk_start + max(target, length // target * target))
        if end < size:
            inner = range(end, edges[-1], -target)
            # the last end of a source chunk within the window, so that the next begins a new one
            aligned = (edge for edge in inner if (edge + offset) % source == 0)
            end = next(aligned, end)
        edges.append(end)
    return tuple(edges)
