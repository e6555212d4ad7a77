# SPDX-License-Identifier: Apache-2.0
"""Tell chunks that are empty at the source from chunks that the service has lost."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import xarray as xr

from sstfill.errors import ReadError
from sstfill.progress import track
from sstfill.sources.copernicus.audit.layout import Box, FetchedWindow, ServiceLayout, variable
from sstfill.sources.copernicus.audit.masks import STEADY, ValueMasks
from sstfill.sources.copernicus.deadline import Deadline
from sstfill.sources.copernicus.reads import Reads

log = logging.getLogger(__name__)

ATTEMPTS = 8  # at a window whose chunks come and go
PAUSE = 0.5  # seconds before a refused chunk is asked for again
OUTAGE = 20.0  # seconds for which a chunk that the service had before may be refused
ABSENT = 2  # chunks in time at one place, absent in every layout, after which it is land


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
    wait
        Gives a service that has just refused a chunk time to find it again.

    Attributes
    ----------
    masks
        Which pixels had a value so far.
    empty
        Number of chunks taken for empty.
    """

    def __init__(
        self,
        layout: ServiceLayout,
        others: Callable[[], list[ServiceLayout]],
        absent: str = "check",
        stored: Callable[[Box], xr.Dataset | None] = lambda box: None,
        wait: Callable[[], None] | None = None,
    ) -> None:
        self.masks = ValueMasks()
        self.empty = 0
        self._layout, self._others, self._absent, self._stored = layout, others, absent, stored
        self._wait = wait or pause
        self._witness: str | None = None  # a chunk of data that the service had
        self._confirmed: set[tuple[Reads, str]] = set()  # refused while the service answers well
        self._taken: defaultdict[str, list[Box]] = defaultdict(list)  # for empty, with its windows
        self._with_data: set[str] = set()  # places
        self._in_no_layout: defaultdict[str, set[str]] = defaultdict(set)  # chunks by place

    def fetch(self, box: Box, *, last: bool = False) -> xr.Dataset | None:
        """Return the values of a window; `ReadError` if chunks are lost.

        None, unless it is the `last` without a verdict, where no chunk of data has come yet that
        shows that the service answers well.
        """
        if self._layout.reads is None:
            values: xr.Dataset | None = self._fetch_without_record(box)
        else:
            # each read has a deadline of its own, so here the number of attempts alone is limited
            attempts = Deadline(math.inf).attempts(
                lambda error: isinstance(error, ServedAgainError), most=ATTEMPTS
            )
            values = attempts(lambda: self._fetch(box, last))
        if values is not None:
            self.masks.learn(values, box)
        return values

    def served_by_now(self) -> list[Box]:
        """Ask a last time: return the windows with chunks taken for empty that are served now."""
        taken, self._taken = self._taken, defaultdict(list)
        # chunks of land never come, and asking for each would be a request
        keys = [key for key in taken if not self._is_land(key)]
        back: list[Box] = []
        for key in track(keys, "asking again for what was empty", len(keys)):
            if self._layout.serves(key):
                back += [box for box in taken[key] if box not in back]
        return back

    def _fetch_without_record(self, box: Box) -> xr.Dataset:
        """Return a window of a client that does not tell its reads: values alone tell a loss."""
        values = self._layout.load(box)
        doubts = self.masks.doubts(values, box)
        if doubts:
            self._wait()
            values = self._layout.load(box)
            doubts = self.masks.doubts(values, box)
        if doubts and self._absent != "accept":
            raise _lost(box, doubts)
        return values

    def _fetch(self, box: Box, last: bool) -> xr.Dataset | None:
        window = self._layout.fetch(box)
        if window.came:
            self._witness = next(iter(window.came))
            self._with_data.update(map(self._layout.place, window.came))
        if not window.refused:
            gone = self.masks.gone(window.values, box)
            if gone:
                what = "every chunk came, so it is kept as served"
                log.warning("%s: %s; %s", _period(window), "; ".join(gone), what)
            return window.values

        # land in nearly every window: without this each would be looked for in both layouts
        missing = self.masks.missing(window.values, box, STEADY)
        doubtful = [key for key in window.refused if missing.get(variable(key)) != 0]
        known = all(map(self._is_land, doubtful)) and not self._had_values(window, window.values)
        if known and self._absent != "refuse":
            self._take_for_empty(window, doubtful)
            return window.values

        # without a chunk that came, nothing shows whether the service answers well
        if self._absent == "check" and self._witness is None and not last:
            return None
        self._wait()
        self._confirm(self._layout, window)
        if self._absent == "refuse":
            raise _lost(box, [_refusals(window)])
        if self._absent == "accept":
            return window.values
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
            self._wait()
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
        level = logging.WARNING
        if self.empty:
            level = logging.INFO  # one warning is enough
        what = "in none of the service's layouts; taken for empty"
        log.log(level, "%s: %s, %s", _period(window), _refusals(window), what)
        self._take_for_empty(window, window.refused)
        for key, part in window.refused.items():
            if not any(found.has_chunk_at(variable(key), part) for found in compared):
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

    def _take_for_empty(self, window: FetchedWindow, doubtful: Iterable[str]) -> None:
        self.empty += len(window.refused)
        for key in doubtful:
            self._taken[key].append(window.box)


class ServedAgainError(ReadError):
    """A chunk that was refused is served after all: the window is to be fetched again."""


def pause() -> None:
    """Give a service that has just refused a chunk time to find it again."""
    time.sleep(PAUSE)


def _refusals(window: FetchedWindow) -> str:
    count = len(window.refused)
    verb = "chunks are" if count > 1 else "chunk is"
    return f"{count} {verb} not served (404 or 403), {next(iter(window.refused))} for one"


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
