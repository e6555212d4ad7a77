# SPDX-License-Identifier: Apache-2.0
"""Cut a download into windows: no chunk of the store in two of them, few chunks of the source."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DownloadWindows:
    """Where windows begin and end, by dimension; window `i` of all is a box of indices.

    Attributes
    ----------
    edges
        For each dimension, ascending: the first index of the first window, then the end of each.
    """

    edges: dict[str, tuple[int, ...]]

    def __len__(self) -> int:
        return math.prod(len(e) - 1 for e in self.edges.values())

    def boxes(self) -> list[dict[str, slice]]:
        """All windows, time running fastest: chunks of the source may be long in time.

        >>> Windows({"time": (0, 2, 3), "x": (0, 4)}).boxes()
        [{'time': slice(0, 2, None), 'x': slice(0, 4, None)}, {'time': slice(2, 3, None), 'x':
        slice(0, 4, None)}]
        """
        order = [d for d in self.edges if d != "time"] + [d for d in self.edges if d == "time"]
        spans = [[slice(a, b) for a, b in itertools.pairwise(self.edges[d])] for d in order]
        found = (dict(zip(order, box, strict=True)) for box in itertools.product(*spans))
        return [{d: box[d] for d in self.edges} for box in found]


def cut(
    sizes: Mapping[str, int],
    target: Mapping[str, int],
    source: Mapping[str, int],
    *,
    offset: Mapping[str, int] | None = None,
    begin: Mapping[str, int] | None = None,
    pixels: int,
) -> DownloadWindows:
    """Cut a grid into windows.

    Parameters
    ----------
    sizes
        Length of each dimension.
    target, source
        Length of the chunks of the store, and of the source.
    offset
        Index in the source of the grid's first value.
    begin
        Index from which on there is something to fetch.
    pixels
        Most values of a window; one chunk of the store at least.

    Returns
    -------
    Windows
        Each covers whole chunks of the store, but for the first where `begin` falls within one.
        They end on chunks of the source where those fit.

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
    """Grow a window from one chunk of the store: first to the source's chunks, then in time, then
    in space.
    """
    lengths = {d: min(target[d], n) for d, n in sizes.items()}

    def grown(d: str) -> dict[str, int]:
        return lengths | {d: min(sizes[d], lengths[d] + target[d])}

    def room(d: str) -> bool:
        return lengths[d] < sizes[d] and math.prod(grown(d).values()) <= pixels

    while short := [d for d in sizes if lengths[d] < min(source.get(d, 1), sizes[d]) and room(d)]:
        lengths = grown(max(short, key=lambda d: source[d] / lengths[d]))
    for d in sorted(sizes, key=lambda d: d != "time"):
        while room(d):
            lengths = grown(d)
    return lengths


def _edges(
    begin: int, size: int, target: int, source: int, offset: int, length: int
) -> tuple[int, ...]:
    edges = [begin]
    while edges[-1] < size:
        farthest = min(
            size, (edges[-1] // target) * target + max(target, length // target * target)
        )
        inner = range(farthest, edges[-1], -target) if farthest < size else ()
        aligned = (edge for edge in inner if (edge + offset) % source == 0)
        edges.append(next(aligned, farthest))
    return tuple(edges)
