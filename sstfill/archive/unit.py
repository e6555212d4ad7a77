# SPDX-License-Identifier: Apache-2.0
"""One work unit of an archive: read, estimated, merged and written, in whichever process."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.archive.job import Days
from sstfill.archive.model import Model
from sstfill.archive.slabs import SlabGrid, Slabs
from sstfill.archive.source import ArchiveSource, opened
from sstfill.archive.store import LIMITS, MEMBERS, PARTS, write_unit
from sstfill.errors import SstfillError, WriteError
from sstfill.fields import gaps
from sstfill.fields.ancillary import in_gaps
from sstfill.fields.patches import Patch
from sstfill.methods.base import Window
from sstfill.methods.common.threads import cores


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker is sent to fill one unit: names and numbers only.

    Attributes
    ----------
    number
        Of the unit, among those of its run.
    name
        Variable.
    patch
        Where it lies in the archive.
    slabs
        How it and its neighbours read the archive.
    source, days, model, draft
        The archive; and of the job: what the archive held, the fitted method, the store to write.
    run_id
        Differs from one run to the next.
    parts
        What is stored of the variable, see `sstfill.archive.store.parts`.
    members
        How many are drawn.
    """

    number: int
    name: str
    patch: Patch
    slabs: SlabGrid
    source: ArchiveSource
    days: Path
    model: Path
    draft: Path
    run_id: str
    parts: tuple[str, ...] = PARTS
    members: int = 0


@dataclass(frozen=True, kw_only=True)
class Done:
    """Pixels of a filled unit by source, seconds it took, and bytes of memory at the peak."""

    number: int
    observed: int
    filled: int
    not_filled: int
    seconds: float
    memory: int


def fill_unit(task: Task, threads: int = 0) -> Done:
    """Fill one unit and write it into the draft store; `threads` 0 uses all cores."""
    started = time.perf_counter()
    with io.reading(task.source.path):
        obs = opened(task.source, task.name, task.run_id)
    model = fitted_model(task.model, task.run_id)
    with io.reading(task.source.path):
        sample = _sample(task.days, task.run_id)
        # A worker must not send its reading to the cluster that it is part of.
        scheduler = "synchronous" if threads else "threads"
        window = _window(obs, model, sample, task, scheduler)
    with cores(threads) if threads else contextlib.nullcontext():
        made = filled(model, window, task.members)
    try:
        write_unit(task.draft, task.name, task.patch, made)
    except OSError as error:
        if isinstance(error, SstfillError):
            raise
        raise WriteError(
            f"cannot write {task.draft}: {error.strerror or error}; make room and run the same "
            "command again, it goes on where it was"
        ) from error
    count = np.bincount(made["_source"].ravel(), minlength=5)
    return Done(
        number=task.number,
        observed=int(count[0]),
        filled=int(count[1]),
        not_filled=int(count[2]),
        seconds=time.perf_counter() - started,
        memory=peak(),
    )


def _window(
    obs: xr.DataArray, model: Model, sample: NDArray[np.float32], task: Task, scheduler: str
) -> Window:
    """Load the part of an archive that the estimate of a unit depends on."""
    times, rows, columns = task.patch.seen
    values = _slabs.read(obs, task.run_id, task.slabs, task.patch, scheduler)
    # computed: its coordinates may be lazy
    seen = obs[times, rows, columns].copy(data=values).compute(scheduler=scheduler)
    return Window(seen, model.sea[rows, columns], task.patch, sample[times], model.points)


def filled(model: Model, window: Window, members: int = 0) -> dict[str, NDArray]:
    """Fill the inside of a window: observed values as they are, estimates in gaps at sea.

    Returns
    -------
    dict
        By the suffix of what is stored: ``""`` (values), ``"_error"`` and ``"_source"``; with a
        transform ``"_lower"`` and ``"_upper"`` too, and with `members` ``"_members"``, dims member,
        time, y, x: observed values, and draws in the gaps.
    """
    inside = window.inside
    sea = window.sea[window.patch.within[1:]]
    obs = inside.values
    # Land stays missing even where a method has an estimate for it.
    gap = np.isnan(obs) & sea.values
    mean, unknown = obs, np.full(obs.shape, np.nan, np.float32)
    uncertainty = {"error": unknown}
    if model.transform.kind != "none":
        uncertainty |= {limit: unknown for limit in LIMITS}
    # a view: a unit without gaps needs no memory for its members
    drawn = np.broadcast_to(obs, (members, *obs.shape))
    if gap.any():
        estimate = model.estimate(window, members).transpose(..., *inside.dims)
        estimated = gap & np.isfinite(estimate["mean"].values)
        # `where` on arrays: observed values stay as they are, bit by bit
        mean = np.where(estimated, estimate["mean"].values.astype(obs.dtype), obs)
        for part in uncertainty:
            if part in estimate:
                known = np.where(estimated, estimate[part].values, np.nan)
                uncertainty[part] = known.astype(np.float32)
        if members:
            drawn = in_gaps(estimate["members"].values, mean, estimated)
    # an observation that the mask puts on land is kept, and flagged as observed
    there = inside.copy(data=mean)
    source = gaps.source_flags(inside, there, there.notnull() | sea)
    made = {"": mean, "_source": source.values}
    for part, values in uncertainty.items():
        made[f"_{part}"] = values
    if members:
        made[MEMBERS] = drawn
    return made


def forget() -> None:
    """Drop the archives, models and samples that this process keeps from one unit to the next."""
    _slabs.clear()
    for kept in (opened, fitted_model, _sample):
        kept.cache_clear()


def peak() -> int:
    """Return the most bytes of memory that this process has had; 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kilobytes = sys.platform != "darwin"  # macOS counts bytes
    return int(most * 1024 if kilobytes else most)


_slabs = Slabs()


# Workers live longer than a run: `run_id` is in the key, so that a next run reads anew.
@lru_cache(maxsize=4)
def fitted_model(folder: Path, run_id: str) -> Model:
    """Read a fitted method once for each run in a process; `forget` drops it."""
    return Model.load(folder)


@lru_cache(maxsize=4)
def _sample(days: Path, run_id: str) -> NDArray[np.float32]:
    return Days.load(days).sample
