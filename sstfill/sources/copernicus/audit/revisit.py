# SPDX-License-Identifier: Apache-2.0
"""Let a judge who knows nothing of a place look at some times that the store has of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sstfill.io.untrusted import guard
from sstfill.sources.copernicus.audit.verify import STEADY, Box, Seen

Place = tuple[tuple[str, int, int], ...]


class Recall:
    """What a store holds already, by place: some times before those that are fetched, or of windows
    that are done.

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
        self._path, self._before = path, list(range(max(0, begin - STEADY), begin))
        self._times: dict[Place, list[int]] = {}
        self._told: set[Place] = set()
        for box in (boxes[i] for i in sorted(done)):
            held = self._times.setdefault(_place(box), [])
            held += range(
                box["time"].start, min(box["time"].stop, box["time"].start + STEADY - len(held))
            )

    def tell(self, seen: Seen, box: Box) -> None:
        """Teach what is known of the place of a window, the first time that it is asked for."""
        place = _place(box)
        times = [*self._before, *self._times.get(place, ())][:STEADY]
        if place in self._told or not times:
            return
        self._told.add(place)
        with guard.open_zarr(self._path, consolidated=False, chunks=None) as held:
            here = {d: s for d, s in box.items() if d != "time"} | {"time": times}
            seen.learn(held.drop_vars(list(held.coords)).isel(here).load(), box)


def _place(box: Box) -> Place:
    return tuple((d, s.start, s.stop) for d, s in box.items() if d != "time")
