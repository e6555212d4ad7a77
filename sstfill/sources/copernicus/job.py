# SPDX-License-Identifier: Apache-2.0
"""Decide what a download has to fetch, once, and find it in the ledger again after a kill."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from sstfill.errors import InputError, WriteError
from sstfill.io.ledger import Ledger
from sstfill.io.output.atomic import sweep
from sstfill.io.untrusted import guard
from sstfill.io.untrusted.documents import checked
from sstfill.sources import store
from sstfill.sources.copernicus.client import client_version
from sstfill.sources.copernicus.grid_checks import check_same, ready
from sstfill.sources.copernicus.reads import Reads, reads_of
from sstfill.sources.copernicus.request import CopernicusRequest, Target
from sstfill.sources.copernicus.windows import DownloadWindows, cut
from sstfill.sources.dates import is_relative, moment, span
from sstfill.version import __version__

log = logging.getLogger(__name__)

Opener = Callable[[CopernicusRequest], xr.Dataset]
REQUEST = "sstfill_request"


@dataclass(frozen=True)
class DownloadPart:
    """A part of a store still to be filled.

    Attributes
    ----------
    request
        With absolute times and one version; opens `source` again.
    source
        What there is to fetch, lazy; its first time has index `begin` in the store.
    begin
        Index of the first time to fetch.
    windows
        Windows of the store.
    reads
        Record of the reads of `source`, where it is the client's.
    held
        Number of times that the store had before; those from `begin` on are fetched again.
    """

    request: CopernicusRequest
    source: xr.Dataset
    begin: int
    windows: DownloadWindows
    reads: Reads | None
    held: int = 0


def asked(request: CopernicusRequest, target: Target) -> dict[str, Any]:
    """Return the request as a store keeps it."""
    return {
        "request": request.identity(),
        "target": {"chunks": dict(target.chunks), "zarr_format": target.zarr_format},
        "start": request.start_datetime,
        "end": request.end_datetime,
    }


def check_plan(out: Path, ledger: Ledger) -> None:
    """Refuse a ledger whose first line is not a plan that `begin` or `append` wrote."""
    remedy = f"remove it and {out}, and start again"
    checked(LedgerPlan, ledger.plan or {}, ledger.path, remedy=remedy)


class Asked(BaseModel):
    """What `asked` returns."""

    model_config = ConfigDict(extra="forbid")
    request: dict[str, Any]
    target: dict[str, Any]
    start: str | None
    end: str | None


class LedgerPlan(BaseModel):
    """The first line of a ledger."""

    model_config = ConfigDict(extra="forbid")
    asked: Asked
    version: str | None
    first: str
    last: str
    begin: Annotated[int, Field(strict=True, ge=0)]
    skip: Annotated[int, Field(strict=True, ge=0)]
    edges: dict[str, Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=2)]]
    held: Annotated[int, Field(strict=True, ge=0)] = 0


def check_same_request(
    out: Path,
    held: dict[str, Any],
    new: dict[str, Any],
    version: tuple[str | None, str],
    update: bool,
) -> None:
    """Raise `WriteError` for a store that was made for something else.

    Parameters
    ----------
    out
        The store.
    held, new
        What it was made for and what is asked for now, as `asked` returns them.
    version
        The version asked for now, and that of the store.
    update
        Whether a later end is what is wanted.
    """
    there, here = _comparable(held), _comparable(new)
    for name, value in here.items():
        if there.get(name) != value:
            raise WriteError(
                f"{out} was made for another request ({name}: {there.get(name)!r} there, "
                f"{value!r} here); choose another name, or remove it"
            )
    if version[0] is not None and version[0] != version[1]:
        raise WriteError(
            f"{out} holds version {version[1]}, not {version[0]}; versions are not to be mixed: "
            "choose another name"
        )
    if _normalised(held["end"]) != _normalised(new["end"]) and not update:
        raise WriteError(
            f"{out} was made for times up to {held['end'] or 'the last'}, not "
            f"{new['end'] or 'the last'}; add the new ones with update=True (--update), or choose "
            "another name"
        )


def _comparable(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return all that makes two requests differ except the end, flat."""
    target = {f"[target] {name}": value for name, value in wanted["target"].items()}
    return {**wanted["request"], **target, "start_datetime": _normalised(wanted["start"])}


def _normalised(text: str | None) -> str | None:
    """Return a time such that it compares equal however it is written."""
    if text is None:
        return None
    if is_relative(text):
        return "".join(text.split())
    return moment(text, datetime.now(UTC)).isoformat()


def begin(
    out: Path, ledger: Ledger, request: CopernicusRequest, target: Target, opener: Opener
) -> DownloadPart:
    """Open the source, create the store, and write down what there is to do."""
    absolute = request.resolved(datetime.now(UTC))
    opened = opener(absolute)
    source = ready(opened, absolute, target)
    lengths = target.lengths(_dims(source))
    windows = _cut(source, opened, target, 0)
    store.check_room(out, _size(source))
    fixed = _fixed(request, opened, source)
    if ledger.plan is not None:  # killed while the store was created: remove its temporary folder
        sweep(out)
    ledger.begin(_plan(fixed, windows, 0, 0, asked(request, target)))
    store.create(out, source, lengths, target.zarr_format, _provenance(request, target, opened))
    return DownloadPart(fixed, source, 0, windows, reads_of(opened))


def resume(
    out: Path, ledger: Ledger, target: Target, request: CopernicusRequest, opener: Opener
) -> DownloadPart:
    """Open the source as it was, and go on where the ledger ends."""
    assert ledger.plan is not None
    plan = ledger.plan
    fixed = dataclasses.replace(
        request,
        start_datetime=plan["first"],
        end_datetime=plan["last"],
        dataset_version=plan["version"],
    )
    opened = opener(fixed)
    source = ready(opened, fixed, target).isel(time=slice(plan["skip"], None))
    windows = DownloadWindows({d: tuple(e) for d, e in plan["edges"].items()})
    with guard.open_zarr(out, consolidated=False, chunks=None) as held:
        check_same(source, held)
        total = windows.edges["time"][-1]
        # the same period must hold as many times, else windows would be written at the wrong dates
        if plan["begin"] + source.sizes["time"] != total:
            raise InputError(
                f"the dataset has {source.sizes['time']} times from {plan['first']} to "
                f"{plan['last']}, no longer {total - plan['begin']}; begin another store"
            )
    if plan["begin"]:  # an update: a kill may have come before the store was extended
        store.mark(out, {store.STATE: store.INCOMPLETE})
        store.grow(out, plan["begin"], source["time"].values)
    store.tidy(out)
    log.info("%d of %d windows are there", len(ledger.done), len(windows))
    held_before = plan.get("held", plan["begin"])
    return DownloadPart(fixed, source, plan["begin"], windows, reads_of(opened), held_before)


def append(
    out: Path, ledger: Ledger, target: Target, request: CopernicusRequest, opener: Opener
) -> DownloadPart | None:
    """Extend the store by the times that are new, and plan those that ``request.revisit`` covers.

    Returns None where there is nothing to do. Times that the dataset has dropped or put in between
    since cannot be revisited: a warning states so, and only new ones are fetched.
    """
    with guard.open_zarr(out, consolidated=False, chunks=None) as held:
        times = held["time"].values
        absolute = request.resolved(datetime.now(UTC))
        ended = (
            absolute.end_datetime is not None and np.datetime64(absolute.end_datetime) <= times[-1]
        )
        if ended and request.revisit is None:
            return None
        # the last stored time is opened at least, so that the period is never empty
        at = len(times)  # of the first time that is fetched again; none is
        if request.revisit is not None:
            since = times[-1] - np.timedelta64(span(request.revisit))
            at = int(np.searchsorted(times, since, side="right"))
        # the catalogue counts milliseconds
        first, last = times[[min(at, len(times) - 1), -1]].astype("M8[ms]").astype(str)
        end = absolute.end_datetime
        if ended:  # it may lie before what is stored: a clock that went back
            end = str(last)
        wanted = dataclasses.replace(
            absolute,
            start_datetime=str(first),
            end_datetime=end,
            # versions are not to be mixed
            dataset_version=held.attrs.get("dataset_version") or None,
        )
        opened = opener(wanted)
        # the sizes expected are those of the whole store, not of its last days
        whole = ready(opened, wanted, dataclasses.replace(target, expect={}))
        if not np.array_equal(whole["time"].values[: len(times) - at], times[at:]):
            log.warning(
                "%s: the dataset has other times since %s than the store; "
                "only new ones are fetched",
                out,
                first,
            )
            at = len(times)
        source = whole
        if at == len(times):
            # not the first times new by number: the dataset may have put some in between
            source = whole.isel(time=whole["time"].values > times[-1])
        if not source.sizes["time"]:
            return None
        check_same(source, held)
    skip = whole.sizes["time"] - source.sizes["time"]
    windows = _cut(source, opened, target, at, skip)
    store.check_room(out, _size(source))
    fixed = _fixed(wanted, opened, whole)
    # first the plan, then the store: killed in between, `resume` marks and extends it
    ledger.begin(_plan(fixed, windows, at, skip, asked(request, target)) | {"held": len(times)})
    store.mark(out, {store.STATE: store.INCOMPLETE})
    store.grow(out, at, source["time"].values)
    return DownloadPart(fixed, source, at, windows, reads_of(opened), len(times))


def _dims(source: xr.Dataset) -> tuple[str, ...]:
    # a mask may lack time
    widest = max((v.dims for v in source.data_vars.values()), key=len)
    return tuple(map(str, widest))


def _moving(source: xr.Dataset) -> list[xr.DataArray]:
    return [v for v in source.data_vars.values() if "time" in v.dims]


def _size(source: xr.Dataset) -> int:
    return sum(v.size * v.dtype.itemsize for v in _moving(source))


def _cut(
    source: xr.Dataset, opened: xr.Dataset, target: Target, at: int, skip: int = 0
) -> DownloadWindows:
    """Cut the times of a store from index `at` on; `skip` times of what was opened come before."""
    dims, moving = _dims(source), _moving(source)
    chunks = moving[0].encoding.get("preferred_chunks", {})
    offset = dict(opened.encoding.get("sstfill_offset", {}))
    offset["time"] = offset.get("time", 0) + skip - at  # windows count from the store's first time
    sizes = {d: source.sizes[d] for d in dims}
    sizes["time"] += at
    # all variables of a window are in memory together
    pixels = target.window_bytes // sum(v.dtype.itemsize for v in moving)
    return cut(
        sizes,
        target.lengths(dims),
        {d: int(chunks.get(d, 1)) for d in dims},
        offset=offset,
        begin={"time": at},
        pixels=max(1, pixels),
    )


def _fixed(request: CopernicusRequest, opened: xr.Dataset, source: xr.Dataset) -> CopernicusRequest:
    """Return the request with the times and the version that were found."""
    first, last = source["time"].values[[0, -1]].astype("M8[ms]").astype(str)
    return dataclasses.replace(
        request,
        start_datetime=str(first),
        end_datetime=str(last),
        dataset_version=opened.attrs.get("dataset_version") or request.dataset_version,
        clip_end=False,
    )


def _plan(
    fixed: CopernicusRequest, windows: DownloadWindows, at: int, skip: int, wanted: dict[str, Any]
) -> dict[str, Any]:
    """Return the first line of the ledger, see `LedgerPlan`."""
    return {
        "asked": wanted,
        "version": fixed.dataset_version,
        "first": fixed.start_datetime,
        "last": fixed.end_datetime,
        "begin": at,
        "skip": skip,
        "edges": {d: list(e) for d, e in windows.edges.items()},
    }


def _provenance(request: CopernicusRequest, target: Target, opened: xr.Dataset) -> dict[str, Any]:
    """Return the attributes of a new store: what it holds, and where that comes from."""
    held = opened.attrs
    attributes = {
        store.STATE: store.INCOMPLETE,
        REQUEST: json.dumps(asked(request, target)),
        "source": f"Copernicus Marine Service, dataset {request.dataset_id}",
        "dataset_id": request.dataset_id,
        "dataset_version": held.get("dataset_version", request.dataset_version or ""),
        "copernicusmarine_version": held.get("copernicusmarine_version", client_version()),
        "sstfill_version": __version__,
    }
    if held.get("doi"):
        attributes["references"] = f"https://doi.org/{held['doi']}"
    return attributes


def finished(
    request: CopernicusRequest,
    target: Target,
    before: dict[str, Any],
    empty: int,
    part: DownloadPart,
) -> dict[str, Any]:
    """Return the attributes of a store that has become whole."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    verb = "fetched"
    if part.held:
        verb = "added"
    times = part.begin + part.source.sizes["time"] - part.held
    line = f"{now} sstfill {__version__}: {verb} {times} times of {request.dataset_id}"
    if part.held > part.begin:
        line += f", {part.held - part.begin} fetched again"
    return {
        store.STATE: store.COMPLETE,
        REQUEST: json.dumps(asked(request, target)),
        "date_created": before.get("date_created", now),
        "date_modified": now,
        "history": "\n".join(filter(None, [str(before.get("history", "")), line])),
        "sstfill_empty_chunks": int(before.get("sstfill_empty_chunks", 0)) + empty,
    }
