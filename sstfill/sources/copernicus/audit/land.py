# SPDX-License-Identifier: Apache-2.0
"""Places whose chunks the service leaves out because they hold nothing but land."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sstfill.sources.copernicus.audit.tiling import Tiling, overlap

ABSENT = 2  # chunks in time at one place, absent in every layout, after which it is land


class Land:
    """What is known of places by their chunks: those of one place have the same numbers in all
    dimensions but time.

    A place is land when `ABSENT` of its chunks, each of which was looked for in the service's other
    layout too, were in none of the layouts, and no chunk of it ever came. In the layout of long
    series such an absence says that there was no value for hundreds of times, which tells land from
    a few cloudy days.

    >>> tiling = Tiling({"sst": {"time": 2, "x": 4}}, {"x": 0})
    >>> land = Land()
    >>> for key in ("sst/0.3", "sst/1.3"):
    ...     land.was_empty(tiling, key, [(tiling, [])])
    >>> land.holds(tiling, ["sst/9.3"]), land.holds(tiling, ["sst/9.2"])
    (True, False)
    """

    def __init__(self) -> None:
        self._came: set[str] = set()
        self._empty: set[str] = set()
        self._absent: defaultdict[str, set[str]] = defaultdict(set)

    def saw(self, tiling: Tiling, came: Iterable[str]) -> None:
        """Chunks came: their places are no land."""
        self._came.update(map(tiling.place, came))

    def was_empty(
        self, tiling: Tiling, key: str, others: Sequence[tuple[Tiling, list[str]] | None]
    ) -> None:
        """Take note of a chunk that is not served, and in whose place no layout has more than it
        would hold.

        `others` are the layouts it was compared with and which of their chunks came; None for one
        that is not known.
        """
        place, extent = tiling.place(key), tiling.extent(key)
        self._empty.add(place)
        name = key.rpartition("/")[0]
        absent = [
            o is not None
            and not any(
                overlap(o[0].extent(k), extent) for k in o[1] if k.rpartition("/")[0] == name
            )
            for o in others
        ]
        if absent and all(absent):
            self._absent[place].add(key)

    def holds(self, tiling: Tiling, keys: Iterable[str]) -> bool:
        """Whether the places of all these chunks are land."""
        places = set(map(tiling.place, keys))
        return all(len(self._absent.get(p, ())) >= ABSENT and p not in self._came for p in places)

    def were_empty(self, tiling: Tiling, keys: Iterable[str]) -> bool:
        """Whether the places of all these chunks were found empty before, and none of their chunks
        ever came.
        """
        places = set(map(tiling.place, keys))
        return places <= self._empty and not places & self._came
