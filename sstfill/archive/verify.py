# SPDX-License-Identifier: Apache-2.0
"""Check a filled store against itself and against the archive it was made from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sstfill import io
from sstfill.archive import store
from sstfill.archive.job import Days, FillJob
from sstfill.archive.model import Model
from sstfill.archive.plan import microseconds
from sstfill.archive.source import ArchiveSource
from sstfill.errors import ReadError
from sstfill.fields import gaps, grid
from sstfill.fields.patches import Patch, PatchGrid
from sstfill.io import place
from sstfill.io.lock import OutputLock, held_by
from sstfill.io.untrusted import guard
from sstfill.methods.common import sampling
from sstfill.progress import track

LOOKS = 5
"""How often a store may be written while it is verified."""
LONGEST = 600.0
"""Seconds that a store may take to be put in place; then it is looked at all the same."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was found.

    Attributes
    ----------
    units
        Work units that were checked.
    compared
        Whether observed values were compared with the archive.
    wrong
        What is wrong, one line each; nothing of a sound store.
    """

    units: int
    compared: bool
    wrong: tuple[str, ...]


def verify(
    out: str | Path, source: str | Path | None = None, *, allow_links: bool = False
) -> Verified:
    """Check that every chunk of a filled store is there, flags and values agree, and observed
    values are untouched.

    Parameters
    ----------
    out
        Store that `fill_archive` made.
    source
        The archive it was made from, with which observed values are compared bit by bit; by default
        the one that it was made from last, if that is still where it was.
    allow_links
        Follow links in the archive, as in `sstfill.io.open`.

    Raises
    ------
    ReadError
        If `out` is no such store, or its job is not beside it.
    """
    job = FillJob(Path(out))
    if job.settled is None:
        raise ReadError(
            f"cannot verify {out}: {job.folder} is not beside it, which tells how it was made"
        )
    for _ in range(LOOKS):
        _wait(job)
        before = _state(job)
        found = _verified(Path(out), job, source, allow_links)
        if _state(job) == before and not _is_put_in_place(job):
            return found
    raise ReadError(
        f"cannot verify {out}: {held_by(OutputLock(job.out).path) or 'another process'} is writing it; "
        "verify it when that is done"
    )


def _state(job: FillJob) -> list[Any]:
    """What tells a store and its job from those that another run put in their place."""
    told = job.folder / "job.json"
    return [
        place.identity(job.out),
        place.identity(told),
        *sorted(map(place.identity, job.folder.glob("days/*"))),
    ]


def _is_put_in_place(job: FillJob) -> bool:
    """Whether another process is at the very last step of a run."""
    return (job.folder / "commit").exists() and bool(held_by(OutputLock(job.out).path))


def _wait(job: FillJob) -> None:
    """Wait until no process is putting the output in place."""
    end = time.monotonic() + LONGEST
    while _is_put_in_place(job) and time.monotonic() < end:
        time.sleep(0.1)


def _verified(target: Path, job: FillJob, source: str | Path | None, allow_links: bool) -> Verified:
    settled = job.settled
    assert settled is not None
    kept = settled.get("input", "")
    given = source if source is not None else kept if kept and Path(kept).exists() else None
    read = None
    if given is not None:
        read = ArchiveSource(
            path=str(Path(given).resolve()),
            quality_level=settled["quality_level"],
            l2p_flags=tuple(settled["l2p_flags"]),
            allow_links=allow_links,
        )
    wrong: list[str] = []
    count = 0
    archive, path = (None, "") if read is None else (read.open(), read.path)
    if (job.folder / "commit").exists():
        wrong.append("a run that was cut short has yet to put its last days in place: run it again")
    with io.reading(target), guard.open_zarr(target, chunks=None) as held:
        for name in settled["variables"]:
            if name not in held or store.REVISION not in held:
                wrong.append(f"{name} or {store.REVISION} missing")
                continue
            obs = None if archive is None or read is None else read.field(archive, name)
            days = Days.load(job.folder / "days" / f"{name}.npz")
            sea = Model.load(job.folder / "model" / name).sea.values
            trouble = _of_whole(held, name, days, sea.shape)
            wrong += trouble
            if any(text.endswith(MISSING) for text in trouble):
                continue
            patches = list(PatchGrid(core=sampling.CORE).patches(held[name].shape))
            for patch in track(patches, f"verifying {name}", len(patches)):
                wrong += [
                    f"{name}, {_where(patch)}: {trouble}"
                    for trouble in _of_unit(target, held, name, patch, sea, obs, path)
                ]
                count += 1
    return Verified(units=count, compared=read is not None, wrong=tuple(wrong))


MISSING = "missing"


def _of_whole(held: xr.Dataset, name: str, days: Days, shape: tuple[int, ...]) -> list[str]:
    wrong = []
    whole = (len(days.time), *shape)
    missing = [
        f"{name}{p}"
        for p in store.PARTS
        if f"{name}{p}" not in held or held[f"{name}{p}"].shape != whole
    ]
    if missing:
        return [f"{', '.join(missing)} of shape {whole} {MISSING}"]
    if not np.array_equal(microseconds(grid.standardise(held[name])), days.time):
        wrong.append(f"{name}: its times are not those that were filled")
    if (held[store.REVISION].values < 1).any():
        wrong.append("a day has no revision: it was never made")
    return wrong


def _of_unit(
    target: Path,
    held: xr.Dataset,
    name: str,
    patch: Patch,
    sea: np.ndarray,
    obs: xr.DataArray | None,
    path: str,
) -> list[str]:
    absent = [
        p
        for p in store.PARTS
        if not store.chunk_file(target, f"{name}{p}", patch, sampling.CORE).is_file()
    ]
    if absent:
        return [f"no chunk of {', '.join(name + p for p in absent)}"]
    try:
        with io.reading(target):
            values, error, source = (held[f"{name}{p}"][patch.inside].values for p in store.PARTS)
    except ReadError as trouble:
        return [str(trouble)]
    flag = gaps.SOURCE_FLAGS
    wet = np.broadcast_to(sea[patch.inside[1:]], values.shape)
    has, estimated = np.isfinite(values), source == flag["filled"]
    rules = {
        "a flag that means nothing": ~np.isin(source, list(flag.values())),
        "a pixel that is said to be observed or filled is missing": ~has
        & (estimated | (source == flag["observed"])),
        "a pixel that is said to be missing has a value": has
        & np.isin(source, [flag["not_filled"], flag["land"]]),
        "land was filled": estimated & ~wet,
        "sea is said to be land": wet & (source == flag["land"]),
        "an error where nothing was filled": np.isfinite(error) & ~estimated,
    }
    wrong = [f"{what} ({int(found.sum())} pixels)" for what, found in rules.items() if found.any()]
    if obs is not None:
        with io.reading(path):
            own = obs[patch.inside].values
        seen = np.isfinite(own)
        if not np.array_equal(seen, source == flag["observed"]):
            wrong.append(
                "what is observed is not what the archive holds; it has changed since: --update"
            )
        elif own.dtype != values.dtype or own[seen].tobytes() != values[seen].tobytes():
            wrong.append("observed values differ from the archive's")
    return wrong


def _where(patch: Patch) -> str:
    t, y, x = patch.inside
    return f"images {t.start}-{t.stop - 1}, rows {y.start}-{y.stop - 1}, columns {x.start}-{x.stop - 1}"
