# SPDX-License-Identifier: Apache-2.0
"""Which pixels had a value so far: what tells values that were lost from values that never were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.io.untrusted import guard
from sstfill.sources.copernicus.audit.layout import Box

STEADY = 6  # times with values at the same pixels, after which the mask is taken for that of land


class ValueMasks:
    """At how many times each pixel of each variable had a value so far.

    A variable that had its values at the same pixels at every time, two at least, is taken for one
    without gaps: a model or a level-4 analysis, whose land does not move.

    >>> full = xr.Dataset({"thetao": (("time", "x"), [[1.0, np.nan], [2.0, np.nan]])})
    >>> masks = ValueMasks()
    >>> masks.learn(full, {"time": slice(0, 2), "x": slice(0, 2)})
    >>> for doubt in masks.doubts(full * np.nan, {"time": slice(2, 4), "x": slice(0, 2)}):
    ...     print(doubt)
    thetao has no value at all at 2 of 2 times
    thetao has no value at 1 pixels that had one at all times
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[Any, ...], tuple[NDArray[np.int32], int]] = {}

    def learn(self, window: xr.Dataset, box: Box) -> None:
        """Add a window that is known to be whole."""
        for name, has_value, counts, times in self._variables(window, box):
            counts = counts + has_value.sum(axis=0, dtype=np.int32)
            self._seen[name, *_place(box)] = counts, times + len(has_value)

    def doubts(self, window: xr.Dataset, box: Box) -> list[str]:
        """Return in words what speaks against a window; nothing where all is as expected."""
        doubts = []
        for name, has_value, counts, _ in self._variables(window, box):
            empty = ~has_value.any(axis=tuple(range(1, has_value.ndim)))
            # a window that is empty throughout, at a place that never had a value, may be land
            if empty.any() and (counts.any() or not empty.all()):
                times = f"{empty.sum()} of {len(has_value)} times"
                doubts.append(f"{name} has no value at all at {times}")
        return doubts + self.gone(window, box)

    def gone(self, window: xr.Dataset, box: Box) -> list[str]:
        """Return in words what variables without gaps lack."""
        missing = self.missing(window, box)
        words = "pixels that had one at all times"
        return [f"{name} has no value at {n} {words}" for name, n in missing.items() if n]

    def missing(self, window: xr.Dataset, box: Box, least: int = 2) -> dict[str, int]:
        """Count the pixels that each variable without gaps, at so many times or more, lacks."""
        missing = {}
        for name, has_value, counts, times in self._variables(window, box):
            never, always = counts == 0, counts == times
            # each pixel had a value at all times or at none: that is land, clouds would have moved
            if times >= least and (never | always).all() and not never.all():
                missing[name] = int((always & ~has_value.all(axis=0)).sum())
        return missing

    def _variables(
        self, window: xr.Dataset, box: Box
    ) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.int32], int]]:
        """Yield where each variable that can have gaps has values, with what was seen of it."""
        for name, v in window.data_vars.items():
            if v.dtype.kind == "f" and "time" in v.dims:  # integers have no missing values
                nothing = np.zeros(v.shape[1:], np.int32), 0
                seen = self._seen.get((name, *_place(box)), nothing)
                yield str(name), np.isfinite(v.values), *seen


def learn_stored(
    masks: ValueMasks, path: Path, boxes: Sequence[Box], done: Collection[int], begin: int
) -> None:
    """Let masks learn, after a resume, from up to six times that a store holds of each place.

    The windows `done` are on the disk, and all times before `begin`.
    """
    to_come = {_place(box): box for i, box in enumerate(boxes) if i not in done}
    before = slice(max(0, begin - STEADY), begin)
    # masks are kept by place: only places with windows to come need theirs
    held = [{**box, "time": before} for box in to_come.values()]
    held += [dict(boxes[i]) for i in sorted(done)]
    learnt: Counter[tuple[Any, ...]] = Counter()
    with guard.open_zarr(path, consolidated=False, chunks=None) as ds:
        bare = ds.drop_vars(list(ds.coords))
        for box in held:
            place, start = _place(box), box["time"].start
            stop = min(box["time"].stop, start + STEADY - learnt[place])
            if stop > start and place in to_come:
                learnt[place] += stop - start
                masks.learn(bare.isel({**box, "time": slice(start, stop)}).load(), box)


def _place(box: Box) -> tuple[Any, ...]:
    return tuple((d, s.start, s.stop) for d, s in box.items() if d != "time")
