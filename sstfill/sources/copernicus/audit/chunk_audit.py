# SPDX-License-Identifier: Apache-2.0
"""Tell chunks that are empty at the source from chunks that the service has lost.

The service holds the same values in two layouts: maps of a few times, long series of small tiles.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import xarray as xr

from sstfill.errors import ReadError
from sstfill.progress import track
from sstfill.sources.copernicus.audit.masks import STEADY, Box, ValueMasks
from sstfill.sources.copernicus.deadline import Deadline
from sstfill.sources.copernicus.reads import Reads

log = logging.getLogger(__name__)

ATTEMPTS = 8  # at a window whose chunks come and go
OUTAGE = 20.0  # seconds for which a chunk that the service had before may be refused
ABSENT = 2  # chunks in time at one place, absent in every layout, after which it is land


@dataclass(frozen=True)
class FetchedWindow:
    """The values of a window, and what part of it each chunk covers that came or was refused."""

    box: Box
    values: xr.Dataset
    came: Mapping[str, Box]
    refused: Mapping[str, Box]

    def came_at(self, name: str, part: Box) -> bool:
        """Whether a chunk of a variable came that meets a part of the window."""
        for key, its in self.came.items():
            if variable(key) != name:
                continue
            for dim in its.keys() & part.keys():
                if its[dim].stop <= part[dim].start or part[dim].stop <= its[dim].start:
                    break
            else:
                return True
        return False


@dataclass(frozen=True)
class ServiceLayout:
    """What loads windows in one of the service's layouts, and what is known of its chunks.

    >>> layout = ServiceLayout(lambda box: xr.Dataset(), None, {"sst": {"time": 2, "x": 4}})
    >>> layout.place("sst/7.1")
    'sst/*.1'
    """

    load: Callable[[Box], xr.Dataset]  # gives the values of a window, time first
    reads: Reads | None = None  # None where the client does not tell what it reads
    # of chunks, by variable and dimension, in the order of the numbers of a key
    lengths: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    # index in the source of the first value of the store; of time it is not needed
    offset: Mapping[str, int] = field(default_factory=dict)

    def fetch(self, box: Box) -> FetchedWindow:
        """Load a window, with an account of its chunks."""
        values = self.load(box)
        assert self.reads is not None
        chunks = []
        for keys in (self.reads.came, self.reads.refused):
            # those of coordinates are left out: they are read when a dataset is opened
            of_data = sorted(key for key in keys if variable(key) in values.data_vars)
            chunks.append({key: self._part(key, box) for key in of_data})
        return FetchedWindow(box, values, *chunks)

    def serves(self, key: str) -> bool:
        """Whether the service has a chunk now."""
        assert self.reads is not None and self.reads.ask is not None
        return self.reads.ask(key)

    def place(self, key: str) -> str:
        """Return the key of a chunk without its number in time, where that is known."""
        numbers = self._numbers(key)
        if "time" not in numbers:
            return key
        return f"{variable(key)}/{'.'.join((numbers | {'time': '*'}).values())}"

    def _part(self, key: str, box: Box) -> Box:
        """Return what a chunk covers of a window, along the dimensions for which that is known."""
        part = {}
        for dim, number in self._numbers(key).items():
            # in space alone: times are added and revised, which moves the store's first one
            if dim != "time" and dim in box and dim in self.offset:
                length = self.lengths[variable(key)][dim]
                first = int(number) * length - self.offset[dim] - box[dim].start
                part[dim] = slice(max(0, first), max(0, first + length))
        return part

    def _numbers(self, key: str) -> dict[str, str]:
        dims = self.lengths.get(variable(key), {})
        # Zarr v2 writes sst/3.0.1, v3 sst/c/3/0/1
        numbers = key.partition("/")[2].removeprefix("c/").replace("/", ".").split(".")
        if len(dims) != len(numbers):
            return {}
        return dict(zip(dims, numbers, strict=True))


def variable(key: str) -> str:
    """Return the variable of a chunk, of Zarr v2 or v3."""
    return key.partition("/")[0]


class ChunkAudit:
    """Decide for each window whether the chunks that were refused are empty or lost.

    A refused chunk is asked for once more when the service delivers a chunk that it had before: if
    it comes now the window is fetched again. If not its values are taken from the service's other
    layout. What neither layout has is taken for empty if no value is known to have been there.

    Parameters
    ----------
    layout
        What is downloaded from.
    others
        Gives the layouts to compare with, opened when first needed.
    absent
        ``"check"``, ``"refuse"`` or ``"accept"``, see `CopernicusRequest`.
    stored
        Gives what the store has had in a window that is fetched again, None of a new one.
    pause
        Seconds before a service that has just refused a chunk is asked again.
    """

    def __init__(
        self,
        layout: ServiceLayout,
        others: Callable[[], list[ServiceLayout]],
        absent: str = "check",
        stored: Callable[[Box], xr.Dataset | None] = lambda box: None,
        pause: float = 0.5,
    ) -> None:
        self.masks = ValueMasks()
        self.empty = 0  # chunks taken for empty
        self._layout, self._others, self._absent, self._stored = layout, others, absent, stored
        self._pause = pause
        self._witness: str | None = None  # a chunk of data that the service had
        self._confirmed: set[tuple[Reads, str]] = set()  # refused while the service answers well
        self._taken: list[tuple[str, Box]] = []  # chunks taken for empty, with their windows
        self._with_data: set[str] = set()  # places
        self._in_no_layout: defaultdict[str, set[str]] = defaultdict(set)  # chunks by place

    def fetch(self, box: Box, *, last: bool = False) -> xr.Dataset | None:
        """Return the values of a window; `ReadError` if chunks are lost.

        None, unless it is the `last` attempt, where no chunk of data has come yet that shows that
        the service answers well.
        """
        if self._layout.reads is None:
            values: xr.Dataset | None = self._fetch_without_record(box)
        else:
            # each read has a deadline of its own, so here the number of attempts alone is limited
            attempts = Deadline(math.inf, first_pause=self._pause).attempts(
                lambda error: isinstance(error, ServedAgainError), most=ATTEMPTS
            )
            values = attempts(lambda: self._fetch(box, last))
        if values is not None:
            self.masks.learn(values, box)
        return values

    def served_by_now(self) -> list[Box]:
        """Ask a last time: return the windows with chunks taken for empty that are served now."""
        taken, self._taken = self._taken, []
        # chunks of land never come, and asking for each would be a request
        keys = {key for key, _ in taken if not self._is_land(key)}
        asked = track(sorted(keys), "asking again for what was empty", len(keys))
        served = {key for key in asked if self._layout.serves(key)}
        return [box for key, box in taken if key in served]

    def _fetch_without_record(self, box: Box) -> xr.Dataset:
        """Return a window of a client that does not tell its reads: values alone tell a loss."""
        values = self._layout.load(box)
        if self.masks.doubts(values, box):
            time.sleep(self._pause)
            values = self._layout.load(box)
        doubts = self.masks.doubts(values, box)
        if doubts and self._absent != "accept":
            raise _lost(box, doubts)
        return values

    def _fetch(self, box: Box, last: bool) -> xr.Dataset | None:
        window = self._layout.fetch(box)
        values, refused = window.values, window.refused
        if window.came:
            self._witness = next(iter(window.came))
            self._with_data.update(map(self._layout.place, window.came))
        if not refused:
            gone = self.masks.gone(values, box)
            if gone:
                what = "every chunk came, so it is kept as served"
                log.warning("%s: %s; %s", _period(window), "; ".join(gone), what)
            return values

        # land in nearly every window: without this each would be looked for in both layouts
        missing = self.masks.missing(values, box, STEADY)
        doubtful = [key for key in refused if missing.get(variable(key)) != 0]
        known = all(map(self._is_land, doubtful)) and not self._had_values(window, values)
        if known and self._absent != "refuse":
            self.empty += len(refused)
            self._taken += [(key, box) for key in doubtful]
            return values

        # without a chunk that came, nothing shows whether the service answers well
        if self._absent == "check" and self._witness is None and not last:
            return None
        time.sleep(self._pause)
        self._confirm(self._layout, window)
        if self._absent == "refuse":
            raise _lost(box, [_refusals(window)])
        if self._absent == "accept":
            return values
        return self._fill_from_others(window)

    def _confirm(self, layout: ServiceLayout, window: FetchedWindow) -> None:
        """Ask once more for refused chunks, when the service delivers a chunk that it had before.

        Without this a burst of refusals, which may reach into every layout, would lose values: rows
        "403, a variable with gaps alone" of the fault table.
        """
        assert layout.reads is not None
        # whoever gives the service 5 s in all does not want to wait for 20 here
        outage = Deadline(min(OUTAGE, layout.reads.seconds))
        while self._witness is not None and not self._layout.serves(self._witness):
            if outage.over:
                what = f"the service has lost {self._witness}, which it had before"
                raise _withdrawn(window.box, what)
            time.sleep(self._pause)
        for key in window.refused:  # once each: chunks of land of a wide window are many
            if (layout.reads, key) in self._confirmed:
                continue
            if layout.serves(key):
                raise _lost(window.box, ["chunks come and go"], ServedAgainError)
            if self._witness is not None:
                self._confirmed.add((layout.reads, key))

    def _fill_from_others(self, window: FetchedWindow) -> xr.Dataset:
        """Return a window whose refused chunks are taken from other layouts, or taken for empty."""
        box, filled = window.box, window.values
        compared: list[FetchedWindow] = []
        for layout in self._others():
            found = layout.fetch(box)
            if not all(found.values[d].equals(window.values[d]) for d in box):
                continue  # other coordinates: nothing to compare
            if not found.refused:
                if not found.values.equals(filled):
                    taken = "taken from the service's other layout"
                    log.warning("%s: %s; %s", _period(window), _refusals(window), taken)
                return found.values
            self._confirm(layout, found)
            compared.append(found)
            filled = filled.fillna(found.values)

        gone = self.masks.gone(filled, box)
        if gone or not compared:
            raise _lost(box, gone or [_refusals(window)])
        # an update must not blank what the store has because the service has lost it since
        if self._had_values(window, filled):
            raise _lost(box, [f"{_refusals(window)}, and the store has values there"])
        if self._witness is None:
            raise _withdrawn(box, "the service has no chunk of data at all")
        level = logging.INFO if self.empty else logging.WARNING  # one warning is enough
        what = "in none of the service's layouts; taken for empty"
        log.log(level, "%s: %s, %s", _period(window), _refusals(window), what)
        self.empty += len(window.refused)
        self._taken += [(key, box) for key in window.refused]
        for key, part in window.refused.items():
            if not any(found.came_at(variable(key), part) for found in compared):
                self._in_no_layout[self._layout.place(key)].add(key)
        return filled

    def _had_values(self, window: FetchedWindow, values: xr.Dataset) -> bool:
        """Whether the store has had values where refused chunks lie that are missing now.

        Outside of those chunks the producer may have blanked values since.
        """
        before = self._stored(window.box)
        if before is None or self._absent == "accept":
            return False
        now = values.isel(time=slice(before.sizes["time"]))
        blanked = before.notnull() & now.isnull()
        return any(blanked[variable(k)].isel(part).any() for k, part in window.refused.items())

    def _is_land(self, key: str) -> bool:
        """Whether the service leaves out the chunks at the place of this one, at any time.

        Two were in none of the layouts, and none ever came. In the layout of long series such an
        absence stands for hundreds of times, which tells land from a few cloudy days.
        """
        place = self._layout.place(key)
        return len(self._in_no_layout[place]) >= ABSENT and place not in self._with_data


class ServedAgainError(ReadError):
    """A chunk that was refused is served after all: the window is to be fetched again."""


def _refusals(window: FetchedWindow) -> str:
    verb = "chunks are" if len(window.refused) > 1 else "chunk is"
    one = next(iter(window.refused))
    return f"{len(window.refused)} {verb} not served (404 or 403), {one} for one"


def _period(window: FetchedWindow) -> str:
    first, last = window.values["time"].values[[0, -1]].astype("M8[m]")
    return f"{first} to {last}"


def _place(box: Box) -> str:
    return ", ".join(f"{d} {s.start}:{s.stop}" for d, s in box.items())


def _lost(box: Box, doubts: list[str], kind: type[ReadError] = ReadError) -> ReadError:
    return kind(
        f"part of {_place(box)} was lost twice: {'; '.join(doubts)}; run the same command later, "
        "or with absent='accept' if it is empty at the source"
    )


def _withdrawn(box: Box, what: str) -> ReadError:
    return ReadError(
        f"{what} (met at {_place(box)}): this version of the dataset is gone, or refused for now; "
        "look at sstfill plan, and run the same command again if the version is still served"
    )
