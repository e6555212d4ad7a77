# SPDX-License-Identifier: Apache-2.0
"""Which pixels had a value so far: what tells values that were lost from values that never were."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.io.untrusted import guard

STEADY = 6  # times with values at the same pixels, after which the mask is taken for that of land

Box = Mapping[str, slice]  # indices by dimension


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
        # by variable and place: at how many times each pixel had a value, and of how many
        self._seen: dict[tuple[Any, ...], tuple[Any, int]] = {}

    def learn(self, window: xr.Dataset, box: Box) -> None:
        """Add a window that is known to be whole."""
        for name, has_value in _has_value(window).items():
            counts, times = self._seen.get((name, _place(box)), (0, 0))
            counts = counts + has_value.sum(axis=0, dtype=np.int32)
            self._seen[name, _place(box)] = counts, times + len(has_value)

    def doubts(self, window: xr.Dataset, box: Box) -> list[str]:
        """Return in words what speaks against a window; nothing where all is as expected."""
        doubts = []
        for name, has_value in _has_value(window).items():
            counts, _ = self._seen.get((name, _place(box)), (0, 0))
            empty = ~has_value.any(axis=tuple(range(1, has_value.ndim)))
            # a window that is empty throughout, at a place that never had a value, may be land
            if empty.any() and (np.any(counts) or not empty.all()):
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
        for name, has_value in _has_value(window).items():
            counts, times = self._seen.get((name, _place(box)), (np.zeros(()), 0))
            always, never = counts == times, counts == 0
            # each pixel had a value at all times or at none: that is land, clouds would have moved
            if times >= least and (always | never).all() and not never.all():
                missing[name] = int((always & ~has_value.all(axis=0)).sum())
        return missing


def learn_stored(
    masks: ValueMasks, path: Path, boxes: Sequence[Box], done: Collection[int], begin: int
) -> None:
    """Let masks learn, after a resume, from up to six times that a store holds of each place.

    The windows `done` are on the disk, and all times before `begin`.
    """
    before = range(max(0, begin - STEADY), begin)
    # masks are kept by place: only places with windows to come need theirs
    held = {_place(box): [*before] for i, box in enumerate(boxes) if i not in done}
    for i in sorted(done):
        time = boxes[i]["time"]
        held.get(_place(boxes[i]), []).extend(range(time.start, time.stop))
    with guard.open_zarr(path, consolidated=False, chunks=None) as ds:
        bare = ds.drop_vars(list(ds.coords))
        for place, times in held.items():
            if times:
                box = {d: slice(start, stop) for d, start, stop in place}
                masks.learn(bare.isel({**box, "time": times[:STEADY]}).load(), box)


def _place(box: Box) -> tuple[tuple[str, int, int], ...]:
    return tuple((d, s.start, s.stop) for d, s in box.items() if d != "time")


def _has_value(window: xr.Dataset) -> dict[str, NDArray[np.bool_]]:
    """Return where each variable that can have gaps has values; integers have no missing ones."""
    moving = [v for v in window.data_vars.values() if v.dtype.kind == "f" and "time" in v.dims]
    return {str(v.name): np.isfinite(v.values) for v in moving}
