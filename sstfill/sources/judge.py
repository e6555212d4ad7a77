# SPDX-License-Identifier: Apache-2.0
"""Accept a window, fetch it again, look for it in the service's other layout, or refuse it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import xarray as xr

from sstfill.errors import ReadError
from sstfill.sources.reads import Reads, wait_a_moment
from sstfill.sources.verify import Box, Seen

log = logging.getLogger(__name__)

Fetch = Callable[[Box], xr.Dataset]


class Judge:
    """Decides what is lost and what is empty.

    A chunk that the service says it does not have is asked for again, then looked for in the service's other layout.
    Where that has it, its values are taken. Where it has not either, the chunk is taken for one of nothing but fill
    values, as long as the service still has chunks that it had before and no value is known to have been there.

    Parameters
    ----------
    fetch
        Gives the values of a window.
    reads
        Account of the reads of `fetch`; None where there is none, as with a dataset that is no client's.
    others
        Gives the same windows from other layouts, with their accounts.
    absent
        ``"check"``, ``"refuse"`` or ``"accept"``, see `CopernicusRequest`.
    """

    def __init__(
        self,
        fetch: Fetch,
        reads: Reads | None,
        others: Callable[[], list[tuple[Fetch, Reads | None]]],
        absent: str = "check",
    ) -> None:
        self.seen = Seen()
        self.empty = 0  # chunks taken for empty
        self.again = 0  # windows fetched a second time
        self._fetch, self._reads, self._others, self._absent = fetch, reads, others, absent
        self._witness: str | None = None  # a chunk of data that the service had

    def settle(self, box: Box, *, last: bool = False) -> xr.Dataset | None:
        """Return the values of a window, None where others must be judged before; `ReadError` if they are lost."""
        values = self._fetch(box)
        doubts = self.seen.doubts(values, box)
        refused = self._refused(values)
        if refused or (doubts and (self._reads is None or self._without_gaps(values, box))):
            self.again += 1
            wait_a_moment(0)
            if self._reads is not None and not refused:
                self._reads.forget()
            values = self._fetch(box)
            doubts, refused = self.seen.doubts(values, box), self._refused(values)
        if refused and self._absent == "check":
            settled = self._elsewhere(box, values, refused, last)
            if settled is None:
                return None
            values = settled
        elif (refused or (doubts and self._reads is None)) and self._absent != "accept":
            raise _lost(box, doubts or [_said(refused)])
        elif doubts and self._without_gaps(values, box):
            log.warning("%s: %s; every chunk came, so it is kept as served", _where(values), "; ".join(doubts))
        self._learn(values, box)
        return values

    def _refused(self, values: xr.Dataset) -> set[str]:
        """Chunks of these variables that did not come."""
        return set() if self._reads is None else set(_of(values, self._reads.refused))

    def _learn(self, values: xr.Dataset, box: Box) -> None:
        self.seen.learn(values, box)
        if self._reads is not None:
            came = _of(values, self._reads.came)
            self._witness = next(iter(came), self._witness)

    def _elsewhere(self, box: Box, values: xr.Dataset, refused: set[str], last: bool) -> xr.Dataset | None:
        alone = True
        for fetch, reads in self._others():
            other = fetch(box)
            if not all(other[d].equals(values[d]) for d in box):
                continue
            if reads is not None and not _of(values, reads.refused):
                if not other.equals(values):
                    log.warning("%s: %s; taken from the service's other layout", _where(values), _said(refused))
                return other
            alone = False
            values = values.fillna(other)
        doubts = self.seen.doubts(values, box) if alone or self._without_gaps(values, box) else []
        if doubts or alone:  # with nothing to compare, what is missing is not known to be empty
            raise _lost(box, doubts or [_said(refused)])
        assert self._reads is not None
        witness = next(iter(_of(values, self._reads.came)), self._witness)
        if witness is None:
            if last:
                raise _lost(box, ["the service has no chunk of data at all"])
            return None
        if self._reads.ask is None or not self._reads.ask(witness):
            raise _lost(box, [f"the service has lost {witness}, which it had before: the dataset has changed"])
        level = logging.INFO if self.empty else logging.WARNING  # said once
        log.log(level, "%s: %s, in none of the service's layouts; taken for empty", _where(values), _said(refused))
        self.empty += len(refused)
        return values

    def _without_gaps(self, values: xr.Dataset, box: Box) -> bool:
        return any(self.seen.gap_free(str(n), box) for n in values.data_vars)


def _of(values: xr.Dataset, keys: set[str]) -> list[str]:
    """Keys of chunks of data, sorted: coordinates are read when a dataset is opened."""
    return sorted(k for k in keys if k.rpartition("/")[0] in values.data_vars)


def _said(refused: set[str]) -> str:
    some = sorted(refused)
    return f"{len(some)} chunk{'s are' if len(some) > 1 else ' is'} not served (404 or 403), {some[0]} for one"


def _where(values: xr.Dataset) -> str:
    first, last = (str(values["time"].values[i].astype("M8[m]")) for i in (0, -1))
    return f"{first} to {last}"


def _lost(box: Box, doubts: list[str]) -> ReadError:
    place = ", ".join(f"{d} {s.start}:{s.stop}" for d, s in box.items())
    return ReadError(f"part of {place} was lost twice: {'; '.join(doubts)}; run the same command later, or with "
                     "absent='accept' if it is empty at the source")  # fmt: skip
