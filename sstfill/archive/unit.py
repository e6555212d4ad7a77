# SPDX-License-Identifier: Apache-2.0
"""One work unit of an archive: read, estimated, merged, written; alone, wherever it is sent."""

from __future__ import annotations

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
from sstfill.archive.source import ArchiveSource, opened
from sstfill.archive.store import write_unit
from sstfill.errors import SstfillError, WriteError
from sstfill.fields import gaps
from sstfill.fields.patches import Patch
from sstfill.methods.base import Window
from sstfill.methods.common.threads import cores


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is sent to where a unit is filled: a few names and numbers.

    Attributes
    ----------
    number
        Of the unit, among those of its run.
    name
        Variable.
    patch
        Where it lies in the archive.
    source, days, model, draft
        The archive; and files of the job: what the archive held, the pinned method, the store to
        write.
    night
        Tells one run from another.
    """

    number: int
    name: str
    patch: Patch
    source: ArchiveSource
    days: Path
    model: Path
    draft: Path
    night: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a unit: counts of its pixels by where they come from, seconds, and memory in
    bytes at the peak.
    """

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
        obs = opened(task.source, task.name, task.night)
    model = _model(task.model, task.night)
    with io.reading(task.source.path):
        how = "synchronous" if threads else "threads"
        window = _window(obs, model, _sample(task.days, task.night), task.patch, how)
    if threads:
        with cores(threads):
            made = filled(model, window)
    else:
        made = filled(model, window)
    try:
        write_unit(task.draft, task.name, task.patch, made)
    except OSError as error:
        if isinstance(error, SstfillError):
            raise
        raise WriteError(
            f"cannot write {task.draft}: {error.strerror or error}; make room and run the same command "
            "again, it goes on where it was"
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
    obs: xr.DataArray, model: Model, sample: NDArray[np.float32], patch: Patch, scheduler: str
) -> Window:
    """Load a window; a worker must not send its reading to the cluster that it is part of."""
    times, rows, columns = patch.seen
    seen = obs[times, rows, columns].compute(scheduler=scheduler)
    return Window(seen, model.sea[rows, columns], patch, sample[times], model.points)


def filled(model: Model, window: Window) -> dict[str, NDArray]:
    """Fill what a window asks for: observed values as they are, estimates in gaps at sea, and where
    each is from.
    """
    inside = window.inside
    sea = window.sea[window.patch.within[1:]]
    obs = inside.values
    gap = np.isnan(obs) & sea.values
    mean, error = obs, np.full(obs.shape, np.nan, np.float32)
    if gap.any():
        found = model.pinned.estimate(window).transpose(*inside.dims)
        told = gap & np.isfinite(found["mean"].values)
        mean = np.where(told, found["mean"].values.astype(obs.dtype), obs)
        if "error" in found:
            error = np.where(
                told, found["error"].values * np.float32(model.sigma_scale), np.nan
            ).astype(np.float32)
    there = inside.copy(data=mean)
    source = gaps.source_flags(inside, there, there.notnull() | sea)
    return {"": mean, "_error": error, "_source": source.values}


def forget() -> None:
    """Close the archives, and drop the models, that this process keeps from one unit to the next."""
    for kept in (opened, _model, _sample):
        kept.cache_clear()


def peak() -> int:
    """Most memory that this process has had, bytes; 0 where the system does not tell, as on
    Windows.
    """
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)


@lru_cache(maxsize=4)
def _model(folder: Path, night: str) -> Model:
    return Model.load(folder)


@lru_cache(maxsize=4)
def _sample(days: Path, night: str) -> NDArray[np.float32]:
    return Days.load(days).sample
