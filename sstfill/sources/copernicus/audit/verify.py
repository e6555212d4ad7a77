# SPDX-License-Identifier: Apache-2.0
"""Tell values that were lost on the way from values that never were: by what else is known of each
pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Box = Mapping[str, slice]
STEADY = 6  # times with values at the same pixels, after which a mask is taken for that of land


class Seen:
    """Which pixels of each variable had a value so far: at least once, and always.

    A variable that had one at the same pixels at every time, two at least, is taken for one without
    gaps: a model or a level-4 analysis, whose land does not move.

    >>> full = xr.Dataset({"thetao": (("time", "x"), [[1.0, np.nan], [2.0, np.nan]])})
    >>> seen = Seen()
    >>> seen.learn(full, {"time": slice(0, 2), "x": slice(0, 2)})
    >>> list(seen.doubts(full * np.nan, {"time": slice(2, 4), "x": slice(0, 2)}))
    ['thetao has no value at all at 2 of 2 times', 'thetao has no value at 1 pixels that had one at
    all times']
    """

    def __init__(self) -> None:
        self._ever: dict[tuple[Any, ...], NDArray[np.bool_]] = {}
        self._always: dict[tuple[Any, ...], NDArray[np.bool_]] = {}
        self._times: dict[tuple[Any, ...], int] = {}

    def knows(self, name: str, box: Box) -> bool:
        """Whether anything was learnt of a variable in the place of this window."""
        return _place(name, box) in self._ever

    def learn(self, window: xr.Dataset, box: Box) -> None:
        """Take a window for true."""
        for name, held in _held(window).items():
            place = _place(name, box)
            any_, all_ = np.asarray(held.any(axis=0)), np.asarray(held.all(axis=0))
            self._ever[place] = any_ | self._ever.get(place, any_)
            self._always[place] = all_ & self._always.get(place, all_)
            self._times[place] = self._times.get(place, 0) + len(held)

    def doubts(self, window: xr.Dataset, box: Box) -> list[str]:
        """What speaks against a window, in words; nothing where all is as expected."""
        found = []
        for name, held in _held(window).items():
            place = _place(name, box)
            ever = self._ever.get(place, np.zeros(held.shape[1:], bool))
            empty = np.asarray(~held.any(axis=tuple(range(1, held.ndim))))
            if empty.any() and (ever.any() or not empty.all()):
                found.append(
                    f"{name} has no value at all at {int(empty.sum())} of {len(empty)} times"
                )
            if self.gap_free(name, box) and (gone := (ever & ~held.all(axis=0)).sum()):
                found.append(f"{name} has no value at {int(gone)} pixels that had one at all times")
        return found

    def gap_free(self, name: str, box: Box) -> bool:
        """Whether a variable had its values at the same pixels at all times, two at least."""
        place = _place(name, box)
        same = place in self._ever and bool((self._ever[place] == self._always[place]).all())
        return same and self._times[place] > 1 and bool(self._ever[place].any())

    def complete(self, name: str, window: xr.Dataset, box: Box) -> bool:
        """Whether a window has a value wherever there can be one: at all pixels of a steady mask
        that is known.
        """
        held, place = _held(window).get(name), _place(name, box)
        if held is None or not self.gap_free(name, box) or self._times[place] < STEADY:
            return False
        return not (self._ever[place] & ~held.all(axis=0)).any()


def _place(name: str, box: Box) -> tuple[Any, ...]:
    return (name, *((d, s.start, s.stop) for d, s in box.items() if d != "time"))


def _held(window: xr.Dataset) -> dict[str, NDArray[np.bool_]]:
    """Where each floating variable that changes in time has values, time first; integers have no
    missing ones.
    """
    return {
        str(n): np.isfinite(v.values)
        for n, v in window.data_vars.items()
        if v.dtype.kind == "f" and "time" in v.dims
    }
