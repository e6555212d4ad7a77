# SPDX-License-Identifier: Apache-2.0
"""Tell chunks that are empty at the source from chunks that the service has lost."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import xarray as xr

from sstfill.errors import ReadError
from sstfill.progress import track
from sstfill.sources.copernicus.audit.layout import (
    Box,
    ChunkGrid,
    FetchedWindow,
    ServiceLayout,
    variable,
)
from sstfill.sources.copernicus.audit.masks import ValueMasks
from sstfill.sources.copernicus.deadline import Deadline
from sstfill.sources.copernicus.reads import Reads

log = logging.getLogger(__name__)

ATTEMPTS = 8  # at a window whose chunks come and go
PAUSE = 0.5  # seconds before a window is fetched a second time
OUTAGE = 20.0  # seconds for which a chunk that the service had before may be refused
ABSENT = 2  # chunks in time at one place, absent in every layout, after which it is land


class ChunkAudit:
    """Decide for each window whether the chunks that were refused are empty or lost.

    A window with refused chunks is fetched a second time, then from the service's other layout,
    whose values are taken where it has them. What neither has is taken for empty if the service
    still delivers a chunk that it had before and refuses the missing ones once more, and if no
    value is known to have been there. At the end `served_by_now` asks for these chunks a last time.

    Parameters
    ----------
    layout
        What is downloaded from.
    others
        Gives the layouts to compare with, opened when first needed.
    absent
        ``"check"``, ``"refuse"`` or ``"accept"``, see `CopernicusRequest`.
    stored
        Gives what the store has had in a window before, None where it had nothing; for times that
        are fetched again.

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
    ) -> None:
        self.masks = ValueMasks()
        self.empty = 0
        self._layout, self._others, self._absent, self._stored = layout, others, absent, stored
        self._land = LandChunks()
        self._witness: str | None = None  # a chunk of data that the service had
        self._confirmed: set[tuple[Reads, str]] = set()  # refused while the service answers well
        self._taken: defaultdict[str, list[Box]] = defaultdict(list)  # for empty, with its windows

    def fetch(self, box: Box, *, last: bool = False) -> xr.Dataset | None:
        """Return the values of a window.

        Parameters
        ----------
        box
            The window.
        last
            Whether no other windows are to come before a verdict.

        Returns
        -------
        Dataset or None
            None, unless `last`, where no chunk of data has come yet that shows that the service
            answers well.

        Raises
        ------
        ReadError
            Chunks are lost, or this version of the dataset is gone.
        """
        attempts = Deadline(math.inf).attempts(_is_served_again, most=ATTEMPTS)
        return attempts(lambda: self._fetch(box, last))

    def served_by_now(self) -> list[Box]:
        """Return the windows with chunks that were taken for empty and are served now."""
        taken, self._taken = self._taken, defaultdict(list)
        reads, grid = self._layout.reads, self._layout.grid
        if reads is None or reads.ask is None:
            return []
        keys = [k for k in taken if grid is None or not self._land.holds(grid, [k])]
        back: list[Box] = []
        for key in track(keys, "asking again for what was empty", len(keys)):
            if reads.ask(key):
                back += [box for box in taken[key] if box not in back]
        return back

    def _fetch(self, box: Box, last: bool) -> xr.Dataset | None:
        window = self._layout.fetch(box)
        # land in nearly every window: without this each would be looked for in both layouts
        if window.refused and self._is_known_land(window):
            self._take_for_empty(window, self._not_foreseen(window))
            return self._learned(window, window.values)
        # without a chunk that came, nothing shows whether the service answers well
        no_witness = self._absent == "check" and not self._witness and not window.came
        if window.refused and no_witness and not last:
            return None

        # a second time, except where the same place was empty before: it is compared all the same
        doubts = self.masks.doubts(window.values, box)
        known = self._absent == "check" and self._land.were_empty(self._layout.grid, window.refused)
        without_record = self._layout.reads is None
        must_be_whole = doubts and (without_record or self._has_gap_free(window))
        if (window.refused and not known) or must_be_whole:
            pause()
            if self._layout.reads is not None and not window.refused:
                self._layout.reads.forget()  # a chunk that came may hold less than it should
            window = self._layout.fetch(box)
            doubts = self.masks.doubts(window.values, box)

        if window.refused and self._absent == "check":
            values = self._fill_from_others(window, last)
            return None if values is None else self._learned(window, values)
        if self._absent != "accept" and (window.refused or (doubts and without_record)):
            raise _lost(box, doubts or [_refusals(window)])
        if doubts and self._has_gap_free(window):
            log.warning(
                "%s: %s; every chunk came, so it is kept as served",
                _period(window.values),
                "; ".join(doubts),
            )
        return self._learned(window, window.values)

    def _fill_from_others(self, window: FetchedWindow, last: bool) -> xr.Dataset | None:
        """Return a window whose refused chunks are taken from other layouts, or taken for empty."""
        box, filled = window.box, window.values
        compared: list[FetchedWindow] = []
        asked = [(self._layout, window)]
        for layout in self._others():
            found = layout.fetch(box)
            if not all(found.values[d].equals(window.values[d]) for d in box):
                continue  # other coordinates: nothing to compare
            compared.append(found)
            asked.append((layout, found))
            if layout.reads is not None and not found.refused:
                if not found.values.equals(filled):
                    taken = "taken from the service's other layout"
                    log.warning("%s: %s; %s", _period(filled), _refusals(window), taken)
                self._land.note_empty(window, compared)
                return found.values
            filled = filled.fillna(found.values)

        # A burst of refusals may have reached into every layout: without this the fault table's
        # rows "403, a variable with gaps alone" would lose values.
        witness = window.came[0] if window.came else self._witness
        if witness is not None:
            self._require(witness, box)
            for layout, found in asked:
                self._confirm(layout, found)

        # with nothing to compare, what is missing is not known to be empty
        sure = [n for n in filled if not compared or self.masks.gap_free(str(n), box)]
        doubts = self.masks.doubts(filled[sure], box)
        if doubts or not compared:
            raise _lost(box, doubts or [_refusals(window)])
        # an update must not blank what the store has because the service has lost it since
        if self._had_values(window, filled):
            raise _lost(box, [f"{_refusals(window)}, and the store has values there"])
        if witness is None:
            if last:
                raise _withdrawn(box, "the service has no chunk of data at all")
            return None
        level = logging.INFO if self.empty else logging.WARNING  # the first one is enough
        what = "in none of the service's layouts; taken for empty"
        log.log(level, "%s: %s, %s", _period(filled), _refusals(window), what)
        self._take_for_empty(window, window.refused)
        self._land.note_empty(window, compared)
        return filled

    def _require(self, witness: str, box: Box) -> None:
        """Wait until the service delivers a chunk that it had; `ServedAgainError` after a wait."""
        reads = self._layout.reads
        assert reads is not None and reads.ask is not None
        ask = reads.ask

        def attempt() -> None:
            if not ask(witness):
                raise _withdrawn(box, f"the service has lost {witness}, which it had before")

        deadline = Deadline(min(OUTAGE, reads.seconds))
        attempts = deadline.attempts(lambda error: isinstance(error, WithdrawnError))
        attempts(attempt)
        if attempts.statistics["attempt_number"] > 1:
            raise _come_and_go(box)

    def _confirm(self, layout: ServiceLayout, window: FetchedWindow) -> None:
        """Ask once more for refused chunks, now that the service answers well."""
        reads = layout.reads
        if reads is None or reads.ask is None:
            return
        for key in window.refused:  # once each: chunks of land of a wide window are many
            if (reads, key) not in self._confirmed and reads.ask(key):
                raise _come_and_go(window.box)
            self._confirmed.add((reads, key))

    def _is_known_land(self, window: FetchedWindow) -> bool:
        """Whether the refused chunks are known to hold land, so that nothing needs to be asked."""
        if self._absent == "refuse":
            return False
        rest = self._not_foreseen(window)
        known = not rest or self._land.holds(self._layout.grid, rest)
        return known and not self._had_values(window, window.values)

    def _not_foreseen(self, window: FetchedWindow) -> list[str]:
        """Return refused chunks of variables that lack a value where their steady mask has one."""
        names = {variable(key) for key in window.refused}
        whole = {n for n in names if self.masks.complete(n, window.values, window.box)}
        return [key for key in window.refused if variable(key) not in whole]

    def _had_values(self, window: FetchedWindow, values: xr.Dataset) -> bool:
        """Whether the store has had values where refused chunks lie that are missing now.

        Outside of those chunks the producer may have blanked values since.
        """
        before = self._stored(window.box)
        if before is None or self._absent == "accept":
            return False
        for key in window.refused:
            now = values[variable(key)].isel(time=slice(before.sizes["time"]))
            had = np.isfinite(before[variable(key)].values)
            gone = xr.DataArray(had & ~np.isfinite(now.values), dims=now.dims)
            if window.part(gone, key).any():
                return True
        return False

    def _has_gap_free(self, window: FetchedWindow) -> bool:
        return any(self.masks.gap_free(str(n), window.box) for n in window.values)

    def _take_for_empty(self, window: FetchedWindow, doubtful: list[str]) -> None:
        self.empty += len(window.refused)
        for key in doubtful:
            self._taken[key].append(window.box)

    def _learned(self, window: FetchedWindow, values: xr.Dataset) -> xr.Dataset:
        self.masks.learn(values, window.box)
        if window.came:
            self._witness = window.came[0]
        if self._layout.grid is not None:
            self._land.note_data(self._layout.grid, window.came)
        return values


class LandChunks:
    """Places whose chunks the service leaves out because they hold nothing but land.

    Chunks of one place differ in their number in time alone. A place is land when two of its
    chunks were in none of the layouts and no chunk of it ever came. In the layout of long series
    such an absence stands for hundreds of times, which tells land from a few cloudy days.
    """

    def __init__(self) -> None:
        self._came: set[str] = set()
        self._empty: set[str] = set()
        self._absent: defaultdict[str, set[str]] = defaultdict(set)

    def note_data(self, grid: ChunkGrid, came: Iterable[str]) -> None:
        """Chunks came: their places are not land."""
        self._came.update(map(grid.place, came))

    def note_empty(self, window: FetchedWindow, others: Sequence[FetchedWindow]) -> None:
        """Remember refused chunks in whose place no other layout has a value either."""
        grid = window.grid
        if grid is None:
            return
        for key in window.refused:
            name = variable(key)
            here = window.part(window.values[name], key)
            if not all(window.part(o.values[name], key).equals(here) for o in others):
                continue
            self._empty.add(grid.place(key))
            extent = grid.extent(key)
            if others and not any(other.has_chunk_at(name, extent) for other in others):
                self._absent[grid.place(key)].add(key)

    def holds(self, grid: ChunkGrid | None, keys: Iterable[str]) -> bool:
        """Whether the places of all these chunks are land."""
        if grid is None:
            return False
        places = set(map(grid.place, keys))
        return all(len(self._absent.get(p, ())) >= ABSENT and p not in self._came for p in places)

    def were_empty(self, grid: ChunkGrid | None, keys: Iterable[str]) -> bool:
        """Whether all these places were found empty before, and no chunk of them ever came."""
        if grid is None:
            return False
        places = set(map(grid.place, keys))
        return places <= self._empty and not places & self._came


class WithdrawnError(ReadError):
    """A chunk that the service had before is refused."""


class ServedAgainError(ReadError):
    """A chunk that was refused is served after all: the window is to be fetched again."""


def pause() -> None:
    """Give a service that has just refused a chunk time to find it again."""
    time.sleep(PAUSE)


def _is_served_again(error: BaseException) -> bool:
    return isinstance(error, ServedAgainError)


def _refusals(window: FetchedWindow) -> str:
    count = len(window.refused)
    verb = "chunks are" if count > 1 else "chunk is"
    return f"{count} {verb} not served (404 or 403), {window.refused[0]} for one"


def _period(values: xr.Dataset) -> str:
    first, last = values["time"].values[[0, -1]].astype("M8[m]")
    return f"{first} to {last}"


def _place(box: Box) -> str:
    return ", ".join(f"{d} {s.start}:{s.stop}" for d, s in box.items())


def _lost_text(box: Box, doubts: list[str]) -> str:
    return (
        f"part of {_place(box)} was lost twice: {'; '.join(doubts)}; run the same command later, "
        "or with absent='accept' if it is empty at the source"
    )


def _lost(box: Box, doubts: list[str]) -> ReadError:
    return ReadError(_lost_text(box, doubts))


def _come_and_go(box: Box) -> ServedAgainError:
    return ServedAgainError(_lost_text(box, ["chunks come and go"]))


def _withdrawn(box: Box, what: str) -> WithdrawnError:
    return WithdrawnError(
        f"{what} (met at {_place(box)}): this version of the dataset is gone, or refused for now; "
        "look at sstfill plan, and run the same command again if the version is still served"
    )
