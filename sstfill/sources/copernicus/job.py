# SPDX-License-Identifier: Apache-2.0
"""What a download has to do: decided once, kept in the ledger, and found there again after a kill."""

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
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from sstfill.errors import InputError, WriteError
from sstfill.io.atomic import sweep
from sstfill.io.ledger import Ledger
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
WINDOW = 2**24  # bytes of values of a window
REQUEST = "sstfill_request"


@dataclass(frozen=True)
class DownloadPart:
    """A part of a store still to be filled.

    Attributes
    ----------
    request
        With absolute times and a pinned version; opens `source` again.
    source
        What there is to fetch, lazy; its first time is number `begin` of the store.
    begin
        Number of the first time.
    windows
        Windows of the store.
    reads
        Account of the reads of `source`, where it is the client's.
    held
        Times that the store has had before; those from `begin` on are fetched again.
    """

    request: CopernicusRequest
    source: xr.Dataset
    begin: int
    windows: DownloadWindows
    reads: Reads | None
    held: int = 0


def asked(request: CopernicusRequest, target: Target) -> dict[str, Any]:
    """The request as a store keeps it."""
    layout = {"chunks": dict(target.chunks), "zarr_format": target.zarr_format}
    return {
        "request": request.identity(),
        "target": layout,
        "start": request.start_datetime,
        "end": request.end_datetime,
    }


def check_plan(out: Path, ledger: Ledger) -> None:
    """Refuse a ledger whose first line is not a plan that `begin` or `append` wrote."""
    checked(
        LedgerPlan, ledger.plan or {}, ledger.path, remedy=f"remove it and {out}, and start again"
    )


class Asked(BaseModel):
    """As `asked` tells it."""

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
    """Refuse to go on with a store that was made for something else."""
    flat = [
        {
            **h["request"],
            **{f"[target] {k}": v for k, v in h["target"].items()},
            "start_datetime": _time(h["start"]),
        }
        for h in (held, new)
    ]
    different = [k for k in flat[1] if flat[0].get(k) != flat[1][k]]
    if different:
        k = different[0]
        raise WriteError(
            f"{out} was made for another request ({k}: {flat[0].get(k)!r} there, {flat[1][k]!r} here); "
            "choose another name, or remove it"
        )
    if version[0] is not None and version[0] != version[1]:
        raise WriteError(
            f"{out} holds version {version[1]}, not {version[0]}; versions are not to be mixed: choose another name"
        )
    if _time(held["end"]) != _time(new["end"]) and not update:
        raise WriteError(
            f"{out} was made for times up to {held['end'] or 'the last'}, not {new['end'] or 'the last'}; "
            "add the new ones with update=True (--update), or choose another name"
        )


def _time(text: str | None) -> str | None:
    """A time such that it compares equal however it is written; a relative one stays relative."""
    if text is None:
        return None
    return (
        "".join(text.split()) if is_relative(text) else moment(text, datetime.now(UTC)).isoformat()
    )


def begin(
    out: Path, ledger: Ledger, request: CopernicusRequest, target: Target, opener: Opener
) -> DownloadPart:
    """Open the source, lay the store out, and write down what there is to do."""
    absolute = request.resolved(datetime.now(UTC))
    opened = opener(absolute)
    source = ready(opened, absolute, target)
    lengths = target.lengths(_dims(source))
    windows = _cut(source, opened, lengths, 0)
    store.check_room(out, _size(source))
    pinned = _pinned(request, opened, source)
    if ledger.plan is not None:
        sweep(out)
    ledger.begin(_plan(pinned, windows, 0, 0, asked(request, target)))
    store.create(out, source, lengths, target.zarr_format, _provenance(request, target, opened))
    return DownloadPart(pinned, source, 0, windows, reads_of(opened))


def resume(
    out: Path, ledger: Ledger, target: Target, request: CopernicusRequest, opener: Opener
) -> DownloadPart:
    """Open the source as it was, and go on where the ledger ends."""
    assert ledger.plan is not None
    plan = ledger.plan
    pinned = dataclasses.replace(
        request,
        start_datetime=plan["first"],
        end_datetime=plan["last"],
        dataset_version=plan["version"],
    )
    opened = opener(pinned)
    source = ready(opened, pinned, target).isel(time=slice(plan["skip"], None))
    windows = DownloadWindows({d: tuple(e) for d, e in plan["edges"].items()})
    with guard.open_zarr(out, consolidated=False, chunks=None) as held:
        check_same(source, held)
        total = windows.edges["time"][-1]
        if plan["begin"] + source.sizes["time"] != total:
            raise InputError(
                f"the dataset has {source.sizes['time']} times from {plan['first']} to {plan['last']}, no "
                f"longer {total - plan['begin']}; begin another store"
            )
    if plan["begin"]:
        store.mark(out, {store.STATE: store.INCOMPLETE})
        store.grow(out, plan["begin"], source["time"].values)
    store.tidy(out)
    log.info("%d of %d windows are there", len(ledger.done), len(windows))
    return DownloadPart(
        pinned, source, plan["begin"], windows, reads_of(opened), plan.get("held", plan["begin"])
    )


def append(
    out: Path, ledger: Ledger, target: Target, request: CopernicusRequest, opener: Opener
) -> DownloadPart | None:
    """Make room for the days that are new since the store was made, and see to those that
    ``request.revisit`` covers.

    None where there is nothing to do. Times of the store that the dataset no longer has as they
    are, or that it has put in between, cannot be revisited: a warning says so, and only the new
    ones are fetched.
    """
    with guard.open_zarr(out, consolidated=False, chunks=None) as held:
        times = held["time"].values
        absolute = request.resolved(datetime.now(UTC))
        ended = (
            absolute.end_datetime is not None and np.datetime64(absolute.end_datetime) <= times[-1]
        )
        if ended and request.revisit is None:
            return None
        at = _revisited(times, request)
        first, last = (str(times[i].astype("M8[ms]")) for i in (min(at, len(times) - 1), -1))
        wanted = dataclasses.replace(
            absolute,
            start_datetime=first,
            end_datetime=last if ended else absolute.end_datetime,
            dataset_version=held.attrs.get("dataset_version") or None,
        )
        opened = opener(wanted)
        whole = ready(opened, wanted, dataclasses.replace(target, expect={}))
        if not np.array_equal(whole["time"].values[: len(times) - at], times[at:]):
            log.warning(
                "%s: the dataset has other times since %s than the store; only new ones are fetched",
                out,
                first,
            )
            at = len(times)
        source = whole.isel(
            time=whole["time"].values > times[-1] if at == len(times) else slice(None)
        )
        if not source.sizes["time"]:
            return None
        check_same(source, held)
    skip = whole.sizes["time"] - source.sizes["time"]
    lengths = target.lengths(_dims(source))
    windows = _cut(source, opened, lengths, at, skip)
    store.check_room(out, _size(source))
    pinned = _pinned(wanted, opened, whole)
    ledger.begin(_plan(pinned, windows, at, skip, asked(request, target)) | {"held": len(times)})
    store.mark(out, {store.STATE: store.INCOMPLETE})
    store.grow(out, at, source["time"].values)
    return DownloadPart(pinned, source, at, windows, reads_of(opened), len(times))


def _revisited(times: NDArray[np.datetime64], request: CopernicusRequest) -> int:
    """Number of the first time of the store that is fetched again; one beyond the last where none
    is.
    """
    if request.revisit is None:
        return len(times)
    return int(
        np.searchsorted(times, times[-1] - np.timedelta64(span(request.revisit)), side="right")
    )


def _dims(source: xr.Dataset) -> tuple[str, ...]:
    return tuple(str(d) for d in max((v.dims for v in source.data_vars.values()), key=len))


def _moving(source: xr.Dataset) -> list[xr.DataArray]:
    return [v for v in source.data_vars.values() if "time" in v.dims]


def _size(source: xr.Dataset) -> int:
    return sum(v.size * v.dtype.itemsize for v in _moving(source))


def _cut(
    source: xr.Dataset, opened: xr.Dataset, lengths: dict[str, int], at: int, skip: int = 0
) -> DownloadWindows:
    dims, moving = _dims(source), _moving(source)
    chunks = moving[0].encoding.get("preferred_chunks", {})
    offset = dict(opened.encoding.get("sstfill_offset", {}))
    offset["time"] = offset.get("time", 0) + skip - at  # windows count from the store's first time
    sizes = {d: source.sizes[d] + (at if d == "time" else 0) for d in dims}
    pixels = WINDOW // sum(v.dtype.itemsize for v in moving)
    return cut(
        sizes,
        lengths,
        {d: int(chunks.get(d, 1)) for d in dims},
        offset=offset,
        begin={"time": at},
        pixels=max(1, pixels),
    )


def _pinned(
    request: CopernicusRequest, opened: xr.Dataset, source: xr.Dataset
) -> CopernicusRequest:
    first, last = (str(source["time"].values[i].astype("M8[ms]")) for i in (0, -1))
    version = opened.attrs.get("dataset_version") or request.dataset_version
    return dataclasses.replace(
        request, start_datetime=first, end_datetime=last, dataset_version=version, clip_end=False
    )


def _plan(
    pinned: CopernicusRequest, windows: DownloadWindows, at: int, skip: int, wanted: dict[str, Any]
) -> dict[str, Any]:
    return {
        "asked": wanted,
        "version": pinned.dataset_version,
        "first": pinned.start_datetime,
        "last": pinned.end_datetime,
        "begin": at,
        "skip": skip,
        "edges": {d: list(e) for d, e in windows.edges.items()},
    }


def _provenance(request: CopernicusRequest, target: Target, opened: xr.Dataset) -> dict[str, Any]:
    held = opened.attrs
    said = {
        store.STATE: store.INCOMPLETE,
        REQUEST: json.dumps(asked(request, target)),
        "source": f"Copernicus Marine Service, dataset {request.dataset_id}",
        "dataset_id": request.dataset_id,
        "dataset_version": held.get("dataset_version", request.dataset_version or ""),
        "copernicusmarine_version": held.get("copernicusmarine_version", client_version()),
        "sstfill_version": __version__,
    }
    return said | ({"references": f"https://doi.org/{held['doi']}"} if held.get("doi") else {})


def finished(
    request: CopernicusRequest,
    target: Target,
    before: dict[str, Any],
    empty: int,
    job: DownloadPart,
) -> dict[str, Any]:
    """Attributes of a store that has become whole."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    times = job.begin + job.source.sizes["time"] - job.held
    line = f"{now} sstfill {__version__}: {'added' if job.held else 'fetched'} {times} times of {request.dataset_id}"
    line += f", {job.held - job.begin} fetched again" if job.held > job.begin else ""
    return {
        store.STATE: store.COMPLETE,
        REQUEST: json.dumps(asked(request, target)),
        "date_created": before.get("date_created", now),
        "date_modified": now,
        "history": "\n".join(filter(None, [str(before.get("history", "")), line])),
        "sstfill_empty_chunks": int(before.get("sstfill_empty_chunks", 0)) + empty,
    }
