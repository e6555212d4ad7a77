# SPDX-License-Identifier: Apache-2.0
"""Download a box and a period of a Copernicus Marine dataset into a Zarr store, to be killed, rerun
and trusted.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from sstfill import io
from sstfill.errors import OptionError, ReadError, SstfillError, WriteError
from sstfill.io import place
from sstfill.io.drain import drained
from sstfill.io.ledger import Ledger, ledger_path
from sstfill.io.untrusted import guard
from sstfill.io.untrusted.documents import checked, parse_json
from sstfill.progress import track
from sstfill.sources import store
from sstfill.sources.copernicus import job as jobs
from sstfill.sources.copernicus.audit.chunk_audit import ChunkAudit
from sstfill.sources.copernicus.audit.layout import ServiceLayout
from sstfill.sources.copernicus.audit.revisit import Recall
from sstfill.sources.copernicus.audit.tiling import Tiling
from sstfill.sources.copernicus.audit.verify import Box
from sstfill.sources.copernicus.client import open_client_dataset, other_service
from sstfill.sources.copernicus.deadline import Deadline
from sstfill.sources.copernicus.grid_checks import check_same, ready
from sstfill.sources.copernicus.job import DownloadPart, Opener
from sstfill.sources.copernicus.reads import Reads, reads_of
from sstfill.sources.copernicus.refusals import OURS, told
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
    """Fetch what is asked for window by window; killed at any moment, the same call goes on where
    it was.

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
        Its chunks and format.
    update
        Append the times that are new since the store was made, and fetch again those that
        ``request.revisit`` covers; make the store where there is none. While that goes on the store
        is incomplete, and a reader finds the old or the new values of a time that it had before,
        chunk by chunk.
    opener
        Gives the dataset for a request with absolute times; another than the client's is for tests.

    Returns
    -------
    Dataset
        The store, opened lazily.

    Raises
    ------
    ReadError
        No login or a wrong one; nothing answered for ``request.patience`` seconds; values lost on
        the way. The store can be resumed.
    OptionError
        An unknown dataset, version or variable; nothing in the box or the period.
    InputError
        The dataset is no longer what the store was begun with.
    WriteError
        The store was made for another request, or is being written by another process; no
        permission, no space.
    KeyboardInterrupt
        As it came, with a message that tells how the store was left.
    """
    path, layout = Path(out), target or Target()
    _check_target(path)
    with Ledger(ledger_path(path)) as ledger, drained():
        accounts: list[Reads] = []

        def opening(asked: CopernicusRequest) -> xr.Dataset:
            ds = opener(asked)
            accounts.extend(filter(None, [reads_of(ds)]))
            return ds

        try:
            resumed = ledger.plan is not None
            task = _task(path, ledger, request, layout, update, opening)
            while task is not None:
                _carry_out(path, ledger, request, layout, opening, task)
                task = (
                    jobs.append(path, ledger, layout, request, opening)
                    if update and resumed
                    else None
                )
                resumed = False
        except OSError as error:
            if isinstance(error, SstfillError):
                raise
            free = shutil.disk_usage(path.resolve().parent).free / 1e6
            raise WriteError(
                f"cannot write {path}: {error.strerror or error}, {free:,.0f} MB free; make room and "
                "run the same command again, it goes on where it was"
            ) from error
        except KeyboardInterrupt as stop:
            for reads in accounts:
                reads.stop.set()  # threads that still fetch give up rather than try again
            raise KeyboardInterrupt(_where_it_stands(path, ledger)) from stop
    return io.open(path, chunks={})


def _where_it_stands(path: Path, ledger: Ledger) -> str:
    if ledger.plan is None:
        return f"{path} is as it was"
    return f"{path} is incomplete; run the same command again, it goes on where it was"


def _check_target(path: Path) -> None:
    if path.suffix.lower() != ".zarr":
        raise OptionError(
            f"the download is written as a Zarr store, not as {path.name!r}; end its name with .zarr"
        )
    if not path.is_dir():
        place.check(path)


def _task(
    path: Path,
    ledger: Ledger,
    request: CopernicusRequest,
    target: Target,
    update: bool,
    opener: Opener,
) -> DownloadPart | None:
    """What is to be done; None where the store is complete."""
    held = store.attributes(path)
    wanted = jobs.asked(request, target)
    if held is None:
        return jobs.begin(path, ledger, request, target, opener)
    if jobs.REQUEST not in held:
        raise WriteError(
            f"cannot write {path}: it is a Zarr store of something else; choose another name"
        )
    version = (request.dataset_version, str(held.get("dataset_version", "")))
    if ledger.plan is not None:
        jobs.check_plan(path, ledger)
    if ledger.plan is not None and not _is_done(held, ledger):
        jobs.check_same_request(path, ledger.plan["asked"], wanted, version, update)
        return jobs.resume(path, ledger, target, _as_begun(request, ledger.plan["asked"]), opener)
    if (update or ledger.plan is not None) and guard.is_consolidated(path):
        store.consolidate(
            path
        )  # a kill, or an earlier version, may have left the copy behind the metadata
    ledger.finish()
    if held.get(store.STATE) != store.COMPLETE:
        raise WriteError(
            f"{path} is incomplete and its ledger {ledger.path.name} is gone; remove it and start again"
        )
    begun = parse_json(str(held[jobs.REQUEST]), path, remedy="remove it and start again")
    checked(jobs.Asked, begun, path, remedy="remove it and start again")
    jobs.check_same_request(path, begun, wanted, version, update)
    return jobs.append(path, ledger, target, request, opener) if update else None


def _is_done(held: dict[str, Any], ledger: Ledger) -> bool:
    """Whether a ledger was left by a process killed after its last word."""
    assert ledger.plan is not None
    edges = {d: tuple(e) for d, e in ledger.plan["edges"].items()}
    return held.get(store.STATE) == store.COMPLETE and len(ledger.done) == len(
        DownloadWindows(edges)
    )


def _as_begun(request: CopernicusRequest, begun: dict[str, Any]) -> CopernicusRequest:
    return dataclasses.replace(request, start_datetime=begun["start"], end_datetime=begun["end"])


def _carry_out(
    path: Path,
    ledger: Ledger,
    request: CopernicusRequest,
    target: Target,
    opener: Opener,
    task: DownloadPart,
) -> None:
    def stored(box: Box) -> xr.Dataset | None:
        return store.read(path, box, task.held) if box["time"].start < task.held else None

    judge = ChunkAudit(
        _layout(task.source, task, task.reads),
        _others(task, target, opener),
        request.absent,
        stored,
    )
    boxes = task.windows.boxes()
    recall = Recall(path, boxes, ledger.done, task.begin)
    left = [i for i in range(len(boxes)) if i not in ledger.done]

    def settle(numbers: list[int], last: bool) -> list[int]:
        """Bring windows to the disk; return those that others must be judged before."""
        postponed = []
        for i in track(numbers, f"fetching {path.name}", len(numbers)):
            recall.tell(judge.seen, boxes[i])
            empty = judge.empty
            values = judge.settle(boxes[i], last=last)
            if values is None:
                postponed.append(i)
                continue
            if not store.holds(stored(boxes[i]), values):
                store.write(path, boxes[i], values, target.zarr_format)
            ledger.record(i, judge.empty - empty)
        return postponed

    settle(settle(left, last=False), last=True)
    returned = judge.returned()
    back = [i for i, box in enumerate(boxes) if box in returned]
    for i in back:
        ledger.forget(i)
    settle(back, last=True)
    assert ledger.plan is not None
    before = store.attributes(path) or {}
    begun = _as_begun(request, ledger.plan["asked"])
    store.mark(path, jobs.finished(begun, target, before, ledger.empty, task))
    store.tidy(path)
    ledger.finish()


def _layout(source: xr.Dataset, task: DownloadPart, reads: Reads | None) -> ServiceLayout:
    """What gives the values of a window of the store."""
    patience = Deadline(task.request.patience)
    moving = source[[n for n, v in source.data_vars.items() if "time" in v.dims]]

    def fetch(box: Box) -> xr.Dataset:
        here = dict(box) | {
            "time": slice(box["time"].start - task.begin, box["time"].stop - task.begin)
        }
        patience.renew()
        return _patiently(
            lambda: moving.isel(here).load(), reads, patience, task.request.dataset_id
        )

    return ServiceLayout(fetch, reads, None if reads is None else Tiling.of(moving))


def _patiently(
    load: Callable[[], xr.Dataset], reads: Reads | None, patience: Deadline, name: str
) -> xr.Dataset:
    attempt = 0
    while True:
        if reads is not None:
            reads.clear()
        try:
            values = load()
        except (SstfillError, *OURS):
            raise
        except Exception as error:  # of the network, of the libraries that decode what came
            attempt += 1
            if reads is not None:
                reads.forget()
            final = (reads is not None and reads.gave_up) or attempt >= ATTEMPTS
            if final or not patience.wait(attempt):
                raise ReadError(
                    f"{name} cannot be read any further ({told(error)}); check the network and run the "
                    "same command again, it goes on where it was"
                ) from error
            log.debug("attempt %d at a window failed: %s", attempt, error)
        else:
            patience.renew()
            return values


def _others(
    task: DownloadPart, target: Target, opener: Opener
) -> Callable[[], list[ServiceLayout]]:
    """The same windows from the service's two layouts, opened when first needed."""
    opened: list[ServiceLayout] | None = None

    def others() -> list[ServiceLayout]:
        nonlocal opened
        if opened is None:
            opened = []
            for request in other_service(task.request):
                try:
                    ds = opener(request)
                    other = ready(ds, request, target)
                    skip = other.sizes["time"] - task.source.sizes["time"]
                    other = other.isel(time=slice(skip, None))
                    check_same(other, task.source)
                except (OptionError, ValueError) as error:  # this layout does not have it
                    log.debug("%s: %s", request.service, error)
                    continue
                opened.append(_layout(other, task, reads_of(ds)))
        return opened

    return others
