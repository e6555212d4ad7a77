# SPDX-License-Identifier: Apache-2.0
"""Accept a window, fetch it again, look for it in the service's other layout, or refuse it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import xarray as xr

from sstfill.errors import ReadError
from sstfill.progress import track
from sstfill.sources.copernicus.audit.land import Land
from sstfill.sources.copernicus.audit.layout import ServiceLayout, cut, variable
from sstfill.sources.copernicus.audit.tiling import overlap
from sstfill.sources.copernicus.audit.verify import Box, Seen
from sstfill.sources.copernicus.deadline import Deadline
from sstfill.sources.copernicus.reads import wait_a_moment

log = logging.getLogger(__name__)

# at a window whose chunks come and go, and at a chunk that the service had before: about 20 s
ATTEMPTS = 8


class ChunkAudit:
    """Decides what is lost and what is empty.

    A chunk that the service says it does not have is asked for again, then looked for in the
    service's other layout. Where that has it, its values are taken. Where it has not either, the
    service must still have a chunk that it had before, and is then asked for the missing ones once
    more: a burst of refusals may have reached into both layouts. What is refused even so is taken
    for nothing but fill values, unless a value is known to have been there; `returned` asks for it
    a last time. Chunks of land, which ARCO leaves out, are known after a while and cost no more
    than their first answer; see `Land`.

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
    """

    def __init__(
        self,
        layout: ServiceLayout,
        others: Callable[[], list[ServiceLayout]],
        absent: str = "check",
        stored: Callable[[Box], xr.Dataset | None] = lambda box: None,
    ) -> None:
        self.seen = Seen()
        self.empty = 0  # chunks taken for empty
        self.again = 0  # windows fetched a second time
        self._layout, self._others, self._absent, self._stored = layout, others, absent, stored
        self._land = Land()
        self._witness: str | None = None  # a chunk of data that the service had
        self._confirmed: set[tuple[int, str]] = (
            set()
        )  # chunks that a layout lacks while the service answers well
        self._taken: defaultdict[str, list[Box]] = defaultdict(
            list
        )  # for empty, and the windows that they are part of

    def settle(self, box: Box, *, last: bool = False) -> xr.Dataset | None:
        """Return the values of a window, None where others must be judged before; `ReadError` if
        they are lost.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self._settled(box, last)
            except _Back as back:
                log.debug("%s is served again", back)
                wait_a_moment(attempt)
        raise _lost(box, ["chunks come and go"])

    def returned(self) -> list[Box]:
        """Windows with chunks that were taken for empty and are served by now; of places of land
        none is asked for.
        """
        taken, self._taken = self._taken, defaultdict(list)
        reads, tiling = self._layout.reads, self._layout.tiling
        keys = [k for k in taken if tiling is None or not self._land.holds(tiling, [k])]
        if not keys or reads is None or (ask := reads.ask) is None:
            return []
        served = [
            key for key in track(keys, "asking again for what was empty", len(keys)) if ask(key)
        ]
        back = [box for key in served for box in taken[key]]
        return [box for i, box in enumerate(back) if box not in back[:i]]

    def _settled(self, box: Box, last: bool) -> xr.Dataset | None:
        values = self._layout.fetch(box)
        doubts, refused = self.seen.doubts(values, box), self._layout.refused(values)
        if refused and self._is_land(values, box, refused):
            self._take(box, refused, self._beyond_mask(values, box, refused))
            self._learn(values, box)
            return values
        if refused and not last and self._knows_nothing(values):
            return None
        if (refused and not self._was_empty(refused)) or (
            doubts and self._must_have_values(values, box)
        ):
            values = self._second(box, refused)
            doubts, refused = self.seen.doubts(values, box), self._layout.refused(values)
        if refused and self._absent == "check":
            settled = self._elsewhere(box, values, refused, last)
            if settled is None:
                return None
            values = settled
        elif (refused or (doubts and self._layout.reads is None)) and self._absent != "accept":
            raise _lost(box, doubts or [_said(refused)])
        elif doubts and self._without_gaps(values, box):
            log.warning(
                "%s: %s; every chunk came, so it is kept as served",
                _where(values),
                "; ".join(doubts),
            )
        self._learn(values, box)
        return values

    def _knows_nothing(self, values: xr.Dataset) -> bool:
        """Whether no chunk of data has come so far, so that a window without any cannot be judged
        yet.
        """
        return self._absent == "check" and self._witness is None and not self._layout.came(values)

    def _second(self, box: Box, refused: list[str]) -> xr.Dataset:
        self.again += 1
        wait_a_moment(0)
        if self._layout.reads is not None and not refused:
            self._layout.reads.forget()
        return self._layout.fetch(box)

    def _is_land(self, values: xr.Dataset, box: Box, refused: list[str]) -> bool:
        """Whether chunks that did not come are known to hold land, so that nothing needs to be
        asked.
        """
        if self._absent == "refuse":
            return False
        rest = self._beyond_mask(values, box, refused)
        known = not rest or (
            self._layout.tiling is not None and self._land.holds(self._layout.tiling, rest)
        )
        return known and not self._gone(box, values, refused)

    def _beyond_mask(self, values: xr.Dataset, box: Box, refused: list[str]) -> list[str]:
        """Chunks of variables of which not every value came that a steady mask foresees."""
        by_mask = {n for n in map(variable, refused) if self.seen.complete(n, values, box)}
        return [k for k in refused if variable(k) not in by_mask]

    def _take(self, box: Box, refused: list[str], doubtful: list[str]) -> None:
        """Count chunks as empty, and remember those to ask for at the end."""
        self.empty += len(refused)
        for key in doubtful:
            self._taken[key].append(box)

    def _was_empty(self, refused: list[str]) -> bool:
        """Whether all these places were compared with the other layout before, as they are going to
        be again.
        """
        tiling = self._layout.tiling
        return (
            self._absent == "check"
            and tiling is not None
            and self._land.were_empty(tiling, refused)
        )

    def _learn(self, values: xr.Dataset, box: Box) -> None:
        self.seen.learn(values, box)
        came = self._layout.came(values)
        self._witness = next(iter(came), self._witness)
        if self._layout.tiling is not None:
            self._land.saw(self._layout.tiling, came)

    def _elsewhere(
        self, box: Box, values: xr.Dataset, refused: list[str], last: bool
    ) -> xr.Dataset | None:
        compared: list[tuple[ServiceLayout, xr.Dataset]] = []
        filled = values
        for other in self._others():
            found = other.fetch(box)
            if not all(found[d].equals(values[d]) for d in box):
                continue
            compared.append((other, found))
            if other.reads is not None and not other.refused(found):
                if not found.equals(filled):
                    log.warning(
                        "%s: %s; taken from the service's other layout",
                        _where(values),
                        _said(refused),
                    )
                self._note_empty(box, values, refused, compared)
                return found
            filled = filled.fillna(found)
        sure = [n for n in filled.data_vars if not compared or self.seen.gap_free(str(n), box)]
        doubts = self.seen.doubts(filled[sure], box)
        witness = next(iter(self._layout.came(values)), self._witness)
        if witness is not None:
            self._ask_again(box, filled, witness, refused, [layout for layout, _ in compared])
        if (
            doubts or not compared
        ):  # with nothing to compare, what is missing is not known to be empty
            raise _lost(box, doubts or [_said(refused)])
        if self._gone(box, filled, refused):
            raise _lost(box, [f"{_said(refused)}, and the store has values there"])
        if witness is None and last:
            raise _withdrawn(box, "the service has no chunk of data at all")
        if witness is None:
            return None
        level = logging.INFO if self.empty else logging.WARNING  # said once
        log.log(
            level,
            "%s: %s, in none of the service's layouts; taken for empty",
            _where(values),
            _said(refused),
        )
        self._take(box, refused, refused)
        self._note_empty(box, values, refused, compared)
        return filled

    def _ask_again(
        self,
        box: Box,
        filled: xr.Dataset,
        witness: str,
        refused: list[str],
        others: list[ServiceLayout],
    ) -> None:
        """Ask for what there was before, then for what was refused; `_Back` if that is there,
        `ReadError` else.
        """
        reads = self._layout.reads
        assert reads is not None
        patience = Deadline(reads.seconds)
        for attempt in range(ATTEMPTS):
            if reads.ask is not None and reads.ask(witness):
                break
            if patience.left:
                wait_a_moment(attempt)
        else:
            raise _withdrawn(box, f"the service has lost {witness}, which it had before")
        if attempt:
            raise _Back(witness)
        self._confirm(0, self._layout, refused)
        for number, other in enumerate(others, 1):
            self._confirm(number, other, self._same_place(other, filled, box, refused))

    def _same_place(
        self, other: ServiceLayout, filled: xr.Dataset, box: Box, refused: list[str]
    ) -> list[str]:
        """Chunks that another layout was refused; only those that meet these where it is known how
        both are cut.
        """
        mine, its, absent = (
            self._layout.fitting(filled, box),
            other.fitting(filled, box),
            other.refused(filled),
        )
        if mine is None or its is None:
            return absent
        here = [(variable(k), mine.extent(k)) for k in refused]
        return [
            k
            for k in absent
            if any(n == variable(k) and overlap(its.extent(k), e) for n, e in here)
        ]

    def _confirm(self, number: int, layout: ServiceLayout, refused: list[str]) -> None:
        """Ask once more for what a layout was refused, now that the service answers well; `_Back`
        if it is there.
        """
        ask = None if layout.reads is None else layout.reads.ask
        for key in refused if ask is not None else ():
            if (number, key) not in self._confirmed and ask is not None and ask(key):
                raise _Back(key)
            self._confirmed.add((number, key))

    def _note_empty(
        self,
        box: Box,
        values: xr.Dataset,
        refused: list[str],
        compared: list[tuple[ServiceLayout, xr.Dataset]],
    ) -> None:
        """Remember places where the other layouts have no more than a chunk that is absent, and
        whether any there.
        """
        tiling = self._layout.fitting(values, box)
        if tiling is None:
            return
        others = [layout.account(found, box) for layout, found in compared]
        for key in refused:
            extent, name = tiling.extent(key), variable(key)
            here = cut(values[name], extent, box)
            if all(cut(found[name], extent, box).equals(here) for _, found in compared):
                self._land.was_empty(tiling, key, others)

    def _gone(self, box: Box, values: xr.Dataset, refused: list[str]) -> bool:
        """Whether the store has had values where these chunks lie that are not to be found any
        more.
        """
        before = self._stored(box)
        if before is None or self._absent == "accept":
            return False
        tiling, shorter = self._layout.fitting(values, box), dict(time=slice(before.sizes["time"]))
        for key in refused:
            name = variable(key)
            had, has = (np.isfinite(v.values) for v in (before[name], values[name].isel(shorter)))
            gone = xr.DataArray(had & ~has, dims=values[name].dims)
            inside = cut(gone, tiling.extent(key), box) if tiling is not None else gone
            if bool(inside.any()):
                return True
        return False

    def _must_have_values(self, values: xr.Dataset, box: Box) -> bool:
        return self._layout.reads is None or self._without_gaps(values, box)

    def _without_gaps(self, values: xr.Dataset, box: Box) -> bool:
        return any(self.seen.gap_free(str(n), box) for n in values.data_vars)


class _Back(Exception):  # noqa: N818  (no error: the window is fetched again)
    """A chunk that was refused is served after all."""


def _said(refused: list[str]) -> str:
    return f"{len(refused)} chunk{'s are' if len(refused) > 1 else ' is'} not served (404 or 403), {refused[0]} for one"


def _where(values: xr.Dataset) -> str:
    first, last = (str(values["time"].values[i].astype("M8[m]")) for i in (0, -1))
    return f"{first} to {last}"


def _lost(box: Box, doubts: list[str]) -> ReadError:
    place = ", ".join(f"{d} {s.start}:{s.stop}" for d, s in box.items())
    return ReadError(
        f"part of {place} was lost twice: {'; '.join(doubts)}; run the same command later, or with "
        "absent='accept' if it is empty at the source"
    )


def _withdrawn(box: Box, what: str) -> ReadError:
    place = ", ".join(f"{d} {s.start}:{s.stop}" for d, s in box.items())
    return ReadError(
        f"{what} (met at {place}): this version of the dataset is gone, or refused for now; look at "
        "sstfill plan, and run the same command again if the version is still served"
    )
