# SPDX-License-Identifier: Apache-2.0
"""Download a box and a period of a Copernicus Marine dataset into a Zarr store, to be killed, rerun and trusted."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from sstfill import io
from sstfill.errors import OptionError, ReadError, SstfillError, WriteError
from sstfill.progress import track
from sstfill.sources import job as jobs
from sstfill.sources import store
from sstfill.sources.client import open_client_dataset, other_service
from sstfill.sources.grid_checks import check_same, ready
from sstfill.sources.job import Job, Opener
from sstfill.sources.judge import Fetch, Judge
from sstfill.sources.ledger import Ledger, ledger_path
from sstfill.sources.patience import Patience
from sstfill.sources.reads import Reads, reads_of
from sstfill.sources.refusals import OURS, told
from sstfill.sources.request import CopernicusRequest, Target
from sstfill.sources.verify import Box
from sstfill.sources.windows import Windows

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
    """Fetch what is asked for window by window; killed at any moment, the same call goes on where it was.

    While it is under way the store carries the attribute ``sstfill_state = "incomplete"``, and a ledger lies beside it.
    A store that is complete and was made for the same request is returned at once, without network or login.

    Parameters
    ----------
    request
        What to fetch.
    out
        The store, ``.zarr``.
    target
        Its chunks and format.
    update
        Append the times that are new since the store was made; make it where there is none.
    opener
        Gives the dataset for a request with absolute times; another than the client's is for tests.

    Returns
    -------
    Dataset
        The store, opened lazily.

    Raises
    ------
    ReadError
        No login or a wrong one; nothing answered for ``request.patience`` seconds; values lost on the way. The store
        can be resumed.
    OptionError
        An unknown dataset, version or variable; nothing in the box or the period.
    InputError
        The dataset is no longer what the store was begun with.
    WriteError
        The store was made for another request, or is being written by another process; no permission, no space.
    """
    path, layout = Path(out), target or Target()
    _check_target(path)
    with Ledger(ledger_path(path)) as ledger:
        try:
            resumed = ledger.plan is not None
            task = _task(path, ledger, request, layout, update, opener)
            while task is not None:
                _carry_out(path, ledger, request, layout, opener, task)
                task = jobs.append(path, ledger, layout, request, opener) if update and resumed else None
                resumed = False
        except OSError as error:
            if isinstance(error, SstfillError):
                raise
            free = shutil.disk_usage(path.resolve().parent).free / 1e6
            raise WriteError(f"cannot write {path}: {error.strerror or error}, {free:,.0f} MB free; make room and "
                             "run the same command again, it goes on where it was") from error  # fmt: skip
    return io.open(path, chunks={})


def _check_target(path: Path) -> None:
    if path.suffix.lower() != ".zarr":
        raise OptionError(f"the download is written as a Zarr store, not as {path.name!r}; end its name with .zarr")
    if not path.resolve().parent.is_dir():
        raise WriteError(f"cannot write {path}: folder {path.resolve().parent} does not exist; create it: mkdir -p")
    if path.is_file():
        raise WriteError(f"cannot write {path}: it is a file; remove it or choose another name")


def _task(
    path: Path, ledger: Ledger, request: CopernicusRequest, target: Target, update: bool, opener: Opener
) -> Job | None:
    """What is to be done; None where the store is complete."""
    held = store.attributes(path)
    wanted = jobs.asked(request, target)
    if held is None:
        return jobs.begin(path, ledger, request, target, opener)
    if jobs.REQUEST not in held:
        raise WriteError(f"cannot write {path}: it is a Zarr store of something else; choose another name")
    version = (request.dataset_version, str(held.get("dataset_version", "")))
    if ledger.plan is not None and not _is_done(held, ledger):
        jobs.check_same_request(path, ledger.plan["asked"], wanted, version, update)
        return jobs.resume(path, ledger, target, _as_begun(request, ledger.plan["asked"]), opener)
    ledger.finish()
    if held.get(store.STATE) != store.COMPLETE:
        raise WriteError(f"{path} is incomplete and its ledger {ledger.path.name} is gone; remove it and start again")
    jobs.check_same_request(path, json.loads(held[jobs.REQUEST]), wanted, version, update)
    return jobs.append(path, ledger, target, request, opener) if update else None


def _is_done(held: dict[str, Any], ledger: Ledger) -> bool:
    """Whether a ledger was left by a process killed after its last word."""
    assert ledger.plan is not None
    edges = {d: tuple(e) for d, e in ledger.plan["edges"].items()}
    return held.get(store.STATE) == store.COMPLETE and len(ledger.done) == len(Windows(edges))


def _as_begun(request: CopernicusRequest, begun: dict[str, Any]) -> CopernicusRequest:
    return dataclasses.replace(request, start_datetime=begun["start"], end_datetime=begun["end"])


def _carry_out(
    path: Path, ledger: Ledger, request: CopernicusRequest, target: Target, opener: Opener, task: Job
) -> None:
    judge = Judge(_fetcher(task.source, task, task.reads), task.reads, _others(task, target, opener), request.absent)
    boxes = task.windows.boxes()
    left = [i for i in range(len(boxes)) if i not in ledger.done]
    postponed: list[int] = []
    for last, numbers in ((False, left), (True, postponed)):
        for i in track(numbers, f"fetching {path.name}", len(numbers)):
            _recall(judge, path, boxes, ledger.done, boxes[i], task.begin)
            values = judge.settle(boxes[i], last=last)
            if values is None:
                postponed.append(i)
                continue
            store.write(path, boxes[i], values, target.zarr_format)
            ledger.record(i)
    assert ledger.plan is not None
    before = store.attributes(path) or {}
    begun = _as_begun(request, ledger.plan["asked"])
    store.mark(path, jobs.finished(begun, target, before, judge.empty, task))
    store.tidy(path)
    ledger.finish()


def _recall(judge: Judge, path: Path, boxes: list[dict[str, slice]], done: set[int], box: Box, begin: int) -> None:
    """Let a judge who knows nothing of a place look at two times that the store has of it."""
    place = {d: s for d, s in box.items() if d != "time"}
    known = next((boxes[i] for i in sorted(done) if {d: s for d, s in boxes[i].items() if d != "time"} == place), None)
    first = begin - 2 if begin > 1 else known["time"].start if known is not None else None
    if first is None:
        return
    with xr.open_zarr(path, consolidated=False, chunks=None) as held:
        if any(judge.seen.knows(str(n), box) for n in held.data_vars):
            return
        judge.seen.learn(
            held.drop_vars(list(held.coords)).isel(dict(place) | {"time": slice(first, first + 2)}).load(), box
        )


def _fetcher(source: xr.Dataset, task: Job, reads: Reads | None) -> Fetch:
    """What gives the values of a window of the store."""
    patience = Patience(task.request.patience)
    moving = source[[n for n, v in source.data_vars.items() if "time" in v.dims]]

    def fetch(box: Box) -> xr.Dataset:
        here = dict(box) | {"time": slice(box["time"].start - task.begin, box["time"].stop - task.begin)}
        patience.renew()
        return _patiently(lambda: moving.isel(here).load(), reads, patience, task.request.dataset_id)

    return fetch


def _patiently(load: Callable[[], xr.Dataset], reads: Reads | None, patience: Patience, name: str) -> xr.Dataset:
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
                raise ReadError(f"{name} cannot be read any further ({told(error)}); check the network and run the "
                                "same command again, it goes on where it was") from error  # fmt: skip
            log.debug("attempt %d at a window failed: %s", attempt, error)
        else:
            patience.renew()
            return values


def _others(task: Job, target: Target, opener: Opener) -> Callable[[], list[tuple[Fetch, Reads | None]]]:
    """The same windows from the service's two layouts, opened when first needed."""
    opened: list[tuple[Fetch, Reads | None]] | None = None

    def others() -> list[tuple[Fetch, Reads | None]]:
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
                opened.append((_fetcher(other, task, reads_of(ds)), reads_of(ds)))
        return opened

    return others
