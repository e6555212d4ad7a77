# SPDX-License-Identifier: Apache-2.0
"""Which pixels had a value so far: what tells values that were lost from values that never were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.io.untrusted import guard
from sstfill.sources.copernicus.audit.layout import Box

STEADY = 6  # times with values at the same pixels, after which the mask is taken for that of land


class ValueMasks:
    """At which pixels each variable had a value so far: at least once, and always.

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
        self._ever: dict[tuple[Any, ...], NDArray[np.bool_]] = {}
        self._always: dict[tuple[Any, ...], NDArray[np.bool_]] = {}
        self._times: dict[tuple[Any, ...], int] = {}

    def learn(self, window: xr.Dataset, box: Box) -> None:
        """Add a window that is known to be whole."""
        for name, has_value in _has_value(window).items():
            place = (name, *_place(box))
            ever, always = np.asarray(has_value.any(axis=0)), np.asarray(has_value.all(axis=0))
            self._ever[place] = ever | self._ever.get(place, ever)
            self._always[place] = always & self._always.get(place, always)
            self._times[place] = self._times.get(place, 0) + len(has_value)

    def doubts(self, window: xr.Dataset, box: Box) -> list[str]:
        """Return in words what speaks against a window; nothing where all is as expected."""
        doubts = []
        for name, has_value in _has_value(window).items():
            ever = self._ever.get((name, *_place(box)), np.zeros(has_value.shape[1:], bool))
            empty = np.asarray(~has_value.any(axis=tuple(range(1, has_value.ndim))))
            if empty.any() and (ever.any() or not empty.all()):
                times = f"{int(empty.sum())} of {len(empty)} times"
                doubts.append(f"{name} has no value at all at {times}")
            gone = int((ever & ~has_value.all(axis=0)).sum())
            if gone and self.gap_free(name, box):
                doubts.append(f"{name} has no value at {gone} pixels that had one at all times")
        return doubts

    def gap_free(self, name: str, box: Box) -> bool:
        """Whether a variable had its values at the same pixels at all times, two at least."""
        place = (name, *_place(box))
        if self._times.get(place, 0) < 2 or not self._ever[place].any():
            return False
        return np.array_equal(self._ever[place], self._always[place])

    def complete(self, name: str, window: xr.Dataset, box: Box) -> bool:
        """Whether a window has a value at every pixel of a mask that has been steady so far."""
        has_value, place = _has_value(window).get(name), (name, *_place(box))
        if has_value is None or not self.gap_free(name, box) or self._times[place] < STEADY:
            return False
        return not (self._ever[place] & ~has_value.all(axis=0)).any()


class StoredTimes:
    """Times of each place that a store holds already, for masks to learn from after a resume.

    Parameters
    ----------
    path
        The store.
    boxes
        All windows.
    done
        Numbers of those that are on the disk.
    begin
        First time that is fetched; those before it are on the disk everywhere.
    """

    def __init__(self, path: Path, boxes: Sequence[Box], done: Iterable[int], begin: int) -> None:
        self._path = path
        self._before = list(range(max(0, begin - STEADY), begin))
        self._times: dict[tuple[Any, ...], list[int]] = {}
        self._taught: set[tuple[Any, ...]] = set()
        for number in sorted(done):
            box = boxes[number]
            times = self._times.setdefault(_place(box), [])
            stop = min(box["time"].stop, box["time"].start + STEADY - len(times))
            times.extend(range(box["time"].start, stop))

    def teach(self, masks: ValueMasks, box: Box) -> None:
        """Let masks learn from up to six stored times of a window's place, the first time."""
        place = _place(box)
        times = [*self._before, *self._times.get(place, ())][:STEADY]
        if place in self._taught or not times:
            return
        self._taught.add(place)
        with guard.open_zarr(self._path, consolidated=False, chunks=None) as held:
            bare = held.drop_vars(list(held.coords))
            masks.learn(bare.isel({**box, "time": times}).load(), box)


def _place(box: Box) -> tuple[Any, ...]:
    return tuple((d, s.start, s.stop) for d, s in box.items() if d != "time")


def _has_value(window: xr.Dataset) -> dict[str, NDArray[np.bool_]]:
    """Return where each floating variable that changes in time has values, time first."""
    found = {}
    for name, v in window.data_vars.items():
        if v.dtype.kind == "f" and "time" in v.dims:  # integers have no missing values
            found[str(name)] = np.isfinite(v.values)
    return found
