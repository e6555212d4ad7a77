# SPDX-License-Identifier: Apache-2.0
"""Check a filled store against itself and against the archive it was filled from."""

from __future__ import annotations

import contextlib
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
from sstfill.io.output import place
from sstfill.io.output.lock import OutputLock, held_by
from sstfill.io.untrusted import guard
from sstfill.methods.common import sampling
from sstfill.progress import track

LOOKS = 5
"""How often a verification starts again because another process wrote the store."""
LONGEST = 600.0
"""Seconds to wait for another process to put the store in place; then it is verified anyway."""


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
        What is wrong, one line each; empty for a sound store.
    """

    units: int
    compared: bool
    wrong: tuple[str, ...]


def verify(
    out: str | Path, source: str | Path | None = None, *, allow_links: bool = False
) -> Verified:
    """Check that a filled store is complete, that flags fit values, and observed values are kept.

    Parameters
    ----------
    out
        Store that `fill_archive` made.
    source
        The archive that observed values are compared with, bit by bit. Default: the one that it was
        filled from last, if that is still there.
    allow_links
        Follow links in the archive, as in `sstfill.io.open`.

    Raises
    ------
    ReadError
        `out` is not such a store, or its job is not beside it.
    """
    # Before anything is made of its name: also a pipe in the place of a chunk would be waited for.
    guard.engine_of(out)
    target = Path(out).resolve()
    job = FillJob(target)
    if job.finished is None:
        raise ReadError(
            f"cannot verify {out}: {job.folder}, which holds how it was made, is not beside it"
        )
    for _ in range(LOOKS):
        waited_until = time.monotonic() + LONGEST
        while _is_put_in_place(job) and time.monotonic() < waited_until:
            time.sleep(0.1)
        # If another run puts its store in place meanwhile, what is found is of neither store.
        before = _state(job)
        found = _verified(target, job, source, allow_links)
        if _state(job) == before and not _is_put_in_place(job):
            return found
    holder = held_by(OutputLock(job.out).path) or "another process"
    raise ReadError(f"cannot verify {out}: {holder} is writing it; verify it when that is done")


def _state(job: FillJob) -> list[Any]:
    """Return what changes when another run puts its store and its job in place."""
    days = map(place.identity, job.folder.glob("days/*"))
    return [place.identity(job.out), place.identity(job.folder / "job.json"), *sorted(days)]


def _is_put_in_place(job: FillJob) -> bool:
    """Whether another process is putting its store in place at this moment."""
    return (job.folder / "commit").exists() and bool(held_by(OutputLock(job.out).path))


def _verified(target: Path, job: FillJob, source: str | Path | None, allow_links: bool) -> Verified:
    request = job.finished
    assert request is not None
    if source is None and request.get("input") and Path(request["input"]).exists():
        source = request["input"]
    wrong: list[str] = []
    if (job.folder / "commit").exists():
        wrong.append("a run that was cut short has yet to put its last days in place: run it again")
    count = 0
    with contextlib.ExitStack() as stack:
        archive, path = None, ""
        if source is not None:
            path = str(Path(source).resolve())
            read = ArchiveSource(
                path=path,
                quality_level=request["quality_level"],
                l2p_flags=tuple(request["l2p_flags"]),
                group=request.get("group"),
                allow_links=allow_links,
            )
            archive = stack.enter_context(read.open())
        stack.enter_context(io.reading(target))
        held = stack.enter_context(guard.open_zarr(target, chunks=None))
        for name in request["variables"]:
            if name not in held or store.REVISION not in held:
                wrong.append(f"{name} or {store.REVISION} missing")
                continue
            days = Days.load(job.folder / "days" / f"{name}.npz")
            model = Model.load(job.folder / "model" / name)
            members = request.get("members", 0)
            sea, parts = model.sea.values, store.parts(model.transform, members)
            shape = (len(days.time), *sea.shape)
            missing = []
            for part in parts:
                wanted = (members, *shape) if part == store.MEMBERS else shape
                if f"{name}{part}" not in held or held[f"{name}{part}"].shape != wanted:
                    missing.append(f"{name}{part}")
            if missing:
                wrong.append(f"{', '.join(missing)} of shape {shape} missing")
                continue
            if not np.array_equal(microseconds(grid.standardise(held[name])), days.time):
                wrong.append(f"{name}: its times are not those that were filled")
            if (held[store.REVISION].values < 1).any():
                wrong.append("a day has no revision: it was never made")
            obs = None
            if archive is not None:
                obs = read.field(archive, name)
            patches = list(PatchGrid(core=sampling.CORE).patches(held[name].shape))
            for patch in track(patches, f"verifying {name}", len(patches)):
                position = _position(patch)
                for trouble in _wrong_in_unit(target, held, name, patch, model, parts, obs, path):
                    wrong.append(f"{name}, {position}: {trouble}")
                count += 1
    return Verified(units=count, compared=source is not None, wrong=tuple(wrong))


def _wrong_in_unit(
    target: Path,
    held: xr.Dataset,
    name: str,
    patch: Patch,
    model: Model,
    parts: tuple[str, ...],
    obs: xr.DataArray | None,
    path: str,
) -> list[str]:
    """Check the chunks of one unit; return one line for each thing that is wrong."""
    files = store.unit_files(target, name, parts, patch, sampling.CORE)
    absent = [array for array, file in files.items() if not file.is_file()]
    if absent:
        return [f"no chunk of {', '.join(absent)}"]
    stored = {}
    try:
        with io.reading(target):
            for part in parts:
                stored[part] = held[f"{name}{part}"][..., *patch.inside].values
    except ReadError as trouble:
        return [str(trouble)]
    values, error, source = stored[""], stored["_error"], stored["_source"]
    flag = gaps.SOURCE_FLAGS
    at_sea = np.broadcast_to(model.sea.values[patch.inside[1:]], values.shape)
    has_value = np.isfinite(values)
    observed, estimated = source == flag["observed"], source == flag["filled"]
    no_value_flag = np.isin(source, [flag["not_filled"], flag["land"]])
    rules = {
        "a flag that means nothing": ~np.isin(source, list(flag.values())),
        "a pixel flagged as observed or filled is missing": ~has_value & (observed | estimated),
        "a pixel flagged as missing has a value": has_value & no_value_flag,
        "land was filled": estimated & ~at_sea,
        "sea is flagged as land": at_sea & (source == flag["land"]),
        "an error where nothing was filled": np.isfinite(error) & ~estimated,
    }
    if store.MEMBERS in stored:
        members = stored[store.MEMBERS]
        # where nothing was filled, a member is the observation, or missing as the field is
        kept = (members == values) | (np.isnan(members) & ~has_value)
        rules |= {
            "a member without a value where the field is filled": (
                ~np.isfinite(members) & estimated
            ),
            "a member that differs from the field where nothing was filled": ~kept & ~estimated,
        }
    if "_lower" in stored:
        lower, upper = stored["_lower"], stored["_upper"]
        # Limits are stored in single precision, values perhaps not.
        near = values.astype(np.float32)
        within = (lower <= near) & (near <= upper)
        rules |= {
            "a limit where nothing was filled": (np.isfinite(lower) | np.isfinite(upper))
            & ~estimated,
            "an estimate outside its limits": estimated & np.isfinite(error) & ~within,
            "an estimate outside the bounds of its transform": estimated
            & ((lower < 0) | (upper > model.transform.highest)),
        }
    wrong = []
    for rule, broken in rules.items():
        if broken.any():
            wrong.append(f"{rule} ({int(broken.sum())} pixels)")
    if obs is not None:
        with io.reading(path):
            original = obs[patch.inside].values
        seen = np.isfinite(original)
        if not np.array_equal(seen, observed):
            wrong.append(
                "what is observed is not what the archive holds; it has changed since: --update"
            )
        # Bytes, because observed values are never changed, not even by rounding.
        elif original.dtype != values.dtype or original[seen].tobytes() != values[seen].tobytes():
            wrong.append("observed values differ from the archive's")
    return wrong


def _position(patch: Patch) -> str:
    t, y, x = patch.inside
    return (
        f"images {t.start}-{t.stop - 1}, rows {y.start}-{y.stop - 1}, "
        f"columns {x.start}-{x.stop - 1}"
    )
