# SPDX-License-Identifier: Apache-2.0
"""Download a box and a period of a Copernicus Marine dataset into a Zarr store.

A download that is killed goes on where it was, and no lost value passes for a missing one.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from sstfill import io
from sstfill.errors import OptionError, ReadError, SstfillError, WriteError
from sstfill.io.ledger import Ledger, ledger_path
from sstfill.io.output import place
from sstfill.io.output.drain import drained
from sstfill.io.untrusted import guard
from sstfill.io.untrusted.documents import checked, parse_json
from sstfill.progress import track
from sstfill.sources import store
from sstfill.sources.copernicus import job as jobs
from sstfill.sources.copernicus.audit.chunk_audit import ChunkAudit, ServiceLayout
from sstfill.sources.copernicus.audit.masks import Box, learn_stored
from sstfill.sources.copernicus.client import open_client_dataset, other_service
from sstfill.sources.copernicus.deadline import Deadline
from sstfill.sources.copernicus.grid_checks import check_same, ready
from sstfill.sources.copernicus.job import DownloadPart, Opener
from sstfill.sources.copernicus.reads import Reads, reads_of
from sstfill.sources.copernicus.refusals import OURS, may_pass, summary
from sstfill.sources.copernicus.request import CopernicusRequest, Target
from sstfill.sources.copernicus.windows import DownloadWindows

__all__ = ["CopernicusRequest", "Target", "download", "open_client_dataset"]

log = logging.getLogger(__name__)

ATTEMPTS = 8  # at a window that comes but cannot be decoded


def download(
    request: CopernicusRequest,
    out: str | os.PathLike[str],
    *,
    target: Target | None = None,
    update: bool = False,
    opener: Opener = open_client_dataset,
) -> xr.Dataset:
    """Fetch a request window by window; after a kill the same call goes on where it was.

    While it is under way the store carries the attribute ``sstfill_state = "incomplete"``, and a
    ledger lies beside it. A store that is complete and was made for the same request is returned at
    once, without network or login.

    Parameters
    ----------
    request
        What to fetch.
    out
        The store, ``.zarr``.
    target
        Chunks and format of the store.
    update
        Append the times that are new since the store was made, and fetch again those that
        ``request.revisit`` covers; make the store where there is none. Meanwhile the store is
        incomplete, and each chunk of a time that it had before holds the old or the new values.
    opener
        Gives the dataset for a request with absolute times; another than the client's is for tests.

    Returns
    -------
    Dataset
        The store, opened lazily.

    Raises
    ------
    ReadError
        There is no login or a wrong one, nothing answered for ``request.timeout`` seconds, or
        values were lost on the way. The store can be resumed.
    OptionError
        The dataset, version or variable is unknown, or nothing lies in the box or the period.
    InputError
        The dataset is no longer what the store was begun with.
    WriteError
        The store was made for another request, or is being written by another process; permission
        or space is missing.
    KeyboardInterrupt
        As it came, with a message that states how the store was left.
    """
    path, layout = Path(out), target or Target()
    if path.suffix.lower() != ".zarr":
        raise OptionError(
            f"the download is written as a Zarr store, not as {path.name!r}; "
            "end its name with .zarr"
        )
    if not path.is_dir():
        place.check(path)
    # writes of chunks under way end before an error is raised, so that none comes after it
    with Ledger(ledger_path(path)) as ledger, drained():
        records: list[Reads] = []

        def opening(asked: CopernicusRequest) -> xr.Dataset:
            ds = opener(asked)
            reads = reads_of(ds)
            if reads is not None:
                records.append(reads)
            return ds

        try:
            resumed = ledger.plan is not None
            part = _first_part(path, ledger, request, layout, update, opening)
            if part is not None:
                _fetch_part(path, ledger, request, layout, opening, part)
            if part is not None and update and resumed:
                # an update that was interrupted is over; times may be new since
                part = jobs.append(path, ledger, layout, request, opening)
                if part is not None:
                    _fetch_part(path, ledger, request, layout, opening, part)
        except OSError as error:
            if isinstance(error, SstfillError):
                raise
            # a full disk is the usual cause, and the system's words do not say how full
            free = shutil.disk_usage(path.resolve().parent).free / 1e6
            raise WriteError(
                f"cannot write {path}: {error.strerror or error}, {free:,.0f} MB free; make room "
                "and run the same command again, it goes on where it was"
            ) from error
        except KeyboardInterrupt as stop:
            for reads in records:
                reads.stop.set()  # threads that still fetch give up rather than try again
            stands = f"{path} is incomplete; run the same command again, it goes on where it was"
            if ledger.plan is None:
                stands = f"{path} is as it was"
            raise KeyboardInterrupt(stands) from stop
    return io.open(path, chunks={})


def _first_part(
    path: Path,
    ledger: Ledger,
    request: CopernicusRequest,
    target: Target,
    update: bool,
    opener: Opener,
) -> DownloadPart | None:
    """Return what there is to fetch, None where the store is complete."""
    held = store.attributes(path)
    wanted = jobs.asked(request, target)
    # nothing there: a new store
    if held is None:
        return jobs.begin(path, ledger, request, target, opener)
    if jobs.REQUEST not in held:
        raise WriteError(
            f"cannot write {path}: it is a Zarr store of something else; choose another name"
        )
    version = (request.dataset_version, str(held.get("dataset_version", "")))
    if ledger.plan is not None:
        jobs.check_plan(path, ledger)
        windows = DownloadWindows({d: tuple(e) for d, e in ledger.plan["edges"].items()})
        # a process that was killed after its last window has left a ledger with nothing to do
        if held.get(store.STATE) != store.COMPLETE or len(ledger.done) != len(windows):
            begun = ledger.plan["asked"]
            jobs.check_same_request(path, begun, wanted, version, update)
            return jobs.resume(path, ledger, target, _as_begun(request, begun), opener)
    if (update or ledger.plan is not None) and guard.is_consolidated(path):
        # a kill, or an earlier version, may have left the copy behind the metadata
        store.consolidate(path)
    ledger.finish()
    if held.get(store.STATE) != store.COMPLETE:
        raise WriteError(
            f"{path} is incomplete and its ledger {ledger.path.name} is gone; "
            "remove it and start again"
        )
    begun = parse_json(str(held[jobs.REQUEST]), path, remedy="remove it and start again")
    checked(jobs.Asked, begun, path, remedy="remove it and start again")
    jobs.check_same_request(path, begun, wanted, version, update)
    if not update:
        return None
    return jobs.append(path, ledger, target, request, opener)


def _as_begun(request: CopernicusRequest, begun: dict[str, Any]) -> CopernicusRequest:
    return dataclasses.replace(request, start_datetime=begun["start"], end_datetime=begun["end"])


def _fetch_part(
    path: Path,
    ledger: Ledger,
    request: CopernicusRequest,
    target: Target,
    opener: Opener,
    part: DownloadPart,
) -> None:
    """Fetch, audit and write all windows of a part that are not on the disk yet."""

    def stored(box: Box) -> xr.Dataset | None:
        if box["time"].start >= part.held:
            return None
        return store.read(path, box, part.held)

    audit = ChunkAudit(
        _layout(part.source, part, part.reads),
        _others(part, target, opener),
        request.absent,
        stored,
        # fixed, where those after failures double: so it begins longer
        pause=2 * request.pause,
    )
    boxes = part.windows.boxes()
    learn_stored(audit.masks, path, boxes, ledger.done, part.begin)

    def fetch(numbers: list[int], *, last: bool) -> list[int]:
        """Write windows; return those that can be audited only after others have come."""
        postponed = []
        for i in track(numbers, f"fetching {path.name}", len(numbers)):
            empty = audit.empty
            values = audit.fetch(boxes[i], last=last)
            if values is None:
                postponed.append(i)
                continue
            # what did not change is not written: a fill reads again what was written since
            if not store.holds(stored(boxes[i]), values):
                store.write(path, boxes[i], values, target.zarr_format)
            ledger.record(i, audit.empty - empty)
        return postponed

    # windows without any chunk wait for one that came: only then is the service known to answer
    postponed = fetch([i for i in range(len(boxes)) if i not in ledger.done], last=False)
    fetch(postponed, last=True)
    served = audit.served_by_now()
    again = [i for i, box in enumerate(boxes) if box in served]
    for i in again:
        ledger.forget(i)  # killed from here on, they are fetched again all the same
    fetch(again, last=True)
    assert ledger.plan is not None
    before = store.attributes(path) or {}
    begun = _as_begun(request, ledger.plan["asked"])
    store.mark(path, jobs.finished(begun, target, before, ledger.empty, part))
    store.tidy(path)
    ledger.finish()


def _layout(source: xr.Dataset, part: DownloadPart, reads: Reads | None) -> ServiceLayout:
    """Return what gives the values of a window of the store."""
    # the rest was written when the store was laid out
    moving = source[[n for n, v in source.data_vars.items() if "time" in v.dims]]
    lengths = {str(n): v.encoding.get("preferred_chunks", {}) for n, v in moving.data_vars.items()}

    def load(box: Box) -> xr.Dataset:
        time = slice(box["time"].start - part.begin, box["time"].stop - part.begin)

        def attempt() -> xr.Dataset:
            if reads is not None:
                reads.clear()
            try:
                return moving.isel({**box, "time": time}).load()
            except Exception:
                if reads is not None:
                    reads.forget()  # a chunk that came may be damaged
                raise

        try:
            deadline = Deadline(part.request.timeout, first_pause=part.request.pause)
            return deadline.attempts(may_pass, most=ATTEMPTS)(attempt)
        except (SstfillError, *OURS):
            raise
        except Exception as error:  # of the network, of the libraries that decode what came
            raise ReadError(
                f"{part.request.dataset_id} cannot be read any further ({summary(error)}); check "
                "the network and run the same command again, it goes on where it was"
            ) from error

    return ServiceLayout(load, reads, lengths, source.encoding.get("sstfill_offset", {}))


def _others(
    part: DownloadPart, target: Target, opener: Opener
) -> Callable[[], list[ServiceLayout]]:
    """Return what gives the service's other layouts, opened when first needed."""

    @functools.cache
    def others() -> list[ServiceLayout]:
        layouts = []
        for request in other_service(part.request):
            try:
                ds = opener(request)
                other = ready(ds, request, target)
                # the request may begin before what there is to fetch, see `jobs.append`
                skip = other.sizes["time"] - part.source.sizes["time"]
                other = other.isel(time=slice(skip, None))
                check_same(other, part.source)
            except (OptionError, ValueError) as error:  # this layout does not have it
                log.debug("%s: %s", request.service, error)
                continue
            if reads_of(ds) is not None:
                layouts.append(_layout(other, part, reads_of(ds)))
        return layouts

    return others
