# SPDX-License-Identifier: Apache-2.0
"""Fill an archive into a store: plan, fill what is to be filled, put it in place; killed at any
moment, go on.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.archive import store
from sstfill.archive.ask import RunSettings, short, tell_grid
from sstfill.archive.job import Days, FillJob, held
from sstfill.archive.layout import DRAFT, StoreLayout, take
from sstfill.archive.model import Model
from sstfill.archive.plan import differing, first_look, next_look, units
from sstfill.archive.source import ArchiveSource, touched
from sstfill.archive.unit import Done, Task, peak
from sstfill.archive.workers import Workers, check_memory, staff
from sstfill.errors import InputError, OptionError, ReadError, SstfillError
from sstfill.fields import grid
from sstfill.fields.sea import sea_mask
from sstfill.io import place
from sstfill.io.atomic import begin_work, fail
from sstfill.io.error_origin import while_reading
from sstfill.io.ledger import Ledger
from sstfill.methods import Method
from sstfill.methods.common import sampling
from sstfill.progress import track
from sstfill.version import __version__

log = logging.getLogger(__name__)
VARIABLE = 10**9
"""Units of one variable are numbered from a multiple of this."""
LOOKS = 3
"""How often the archive may change under a run before it gives up."""


@dataclass(frozen=True, kw_only=True)
class FillOutcome:
    """What a run did.

    Attributes
    ----------
    units, made
        Work units of the archive, and how many this run filled.
    new, revised, influenced
        Days of the first variable that were new, had changed, or were filled again for the sake of
        these.
    observed, filled, not_filled
        Pixels of the units that were filled.
    score
        By variable, the score on withheld clouds of the settled method.
    seconds, fitting
        Of the run, and of settling the method within it.
    memory
        Most bytes that this process and any of its workers had.
    """

    out: str
    units: int
    made: int
    new: int
    revised: int
    influenced: int
    observed: int = 0
    filled: int = 0
    not_filled: int = 0
    score: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    fitting: float = 0.0
    memory: int = 0


def fill_archive(
    source: str | Path,
    out: str | Path,
    method: Method | str | None = None,
    *,
    variables: str | Sequence[str] | None = None,
    sea: xr.DataArray | None = None,
    quality_level: int | None = None,
    l2p_flags: Sequence[str] = (),
    allow_links: bool = False,
    seed: int = 0,
    update: bool = False,
    anew: bool = False,
    like: str | Path | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    memory: int | None = None,
) -> FillOutcome:
    """Fill an archive of any size, unit by unit, into a Zarr store; run again after any
    interruption, it goes on.

    The method is settled once on the whole archive (in bounded memory) and kept beside the output,
    in ``OUT.job``. From then on what is said of a pixel depends on the days around it only, so that
    any unit can be made alone.

    Parameters
    ----------
    source
        Zarr store (or NetCDF file) with time and two spatial dimensions.
    out
        Zarr store to make, its name ending with ``.zarr``; it appears whole or not at all.
    method
        A method, its name, or None for `sstfill.Auto`. With `update`, None is the one that the
        output was made by.
    variables, sea, seed
        As in `sstfill.fill`.
    quality_level, l2p_flags, allow_links
        As in `sstfill.io.open`.
    update
        Fill only days that are new or revised since, and those that these influence, by the method
        as it was settled.
    anew
        Settle the method anew and fill everything again; the old output is there until the new one
        is whole.
    like
        Store filled before: fill by the very method that was settled for it, on an archive of the
        same grid.
    workers, scheduler
        So many worker processes on this machine, or the address of a `dask.distributed` cluster
        that sees the same files; by default all is done in this process.
    memory
        Bytes that may be used; refused where a unit needs more.

    Raises
    ------
    InputError, OptionError, ReadError, WriteError
        With one line that says what to do; what was filled already is kept.
    """
    started = time.perf_counter()
    target = Path(out)
    if target.suffix != ".zarr":
        raise OptionError(
            f"an archive is filled into a Zarr store; {target.name!r} does not end with .zarr"
        )
    read = ArchiveSource(
        path=str(Path(source).resolve()),
        quality_level=quality_level,
        l2p_flags=tuple(l2p_flags or ()),
        allow_links=allow_links,
    )
    begin_work()
    place.check_apart(target, read.path)
    place.check_regular(target)
    if target.is_dir():
        store.check_in_place(target, anew=anew)
    with held(target) as job:
        with read.open() as ds:
            names = tuple(sorted(grid.pick(ds, variables)))  # a store lists them in any order
            if filled := [name for name in names if "sstfill_method" in ds[name].attrs]:
                raise InputError(
                    f"{filled[0]!r} in {read.path} was filled by sstfill; give it as it was before"
                )
            lender = None if like is None else FillJob(Path(like))
            ask = RunSettings(job, read, names, sea, seed, lender, tell_grid(ds, names))
        request, chosen = ask.request(method, update=update, anew=anew)
        request["input"] = read.path
        run = _FillRun(ask, request, chosen, uuid.uuid4().hex[:8])
        check_memory(memory, workers, request["method"], ask.grid[0] * ask.grid[1])
        with staff(workers, scheduler, memory) as fill, io.reading(read.path), _writing(target):
            return run.go(fill, started)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn failures of the system into `WriteError`, but for those while the archive is read."""
    try:
        yield
    except OSError as error:
        if isinstance(error, SstfillError) or while_reading(error):
            raise
        fail(target, error)


@dataclass
class _FillRun:
    """One run over all variables of an output."""

    ask: RunSettings
    request: dict[str, Any]
    method: Method | None
    night: str
    fitting: float = 0.0
    memory: int = 0
    done: list[Done] = field(default_factory=list)
    days: dict[str, Days] = field(default_factory=dict)
    bases: dict[str, Days | None] = field(default_factory=dict)

    def go(self, fill: Workers, started: float) -> FillOutcome:
        """Fill what is to be filled, until the archive is as it was when that was planned; then put
        it in place.
        """
        self._begin()
        job = self.ask.job
        with Ledger(job.next / "ledger") as ledger:
            for _ in range(LOOKS):
                tasks = self._plan(ledger)
                for one in track(fill(tasks.values()), "filling", len(tasks)):
                    take(tasks[one.number], job.staged)
                    ledger.record(one.number)
                    self.done.append(one)
                    self.memory = max(self.memory, one.memory)
                if not self._changed():
                    break
                log.warning(
                    "%s changed while it was read; its changed days are filled again",
                    self.ask.source.path,
                )
                self.night = uuid.uuid4().hex[:8]
            else:
                raise InputError(
                    f"{self.ask.source.path} changes all the time; run again when what writes it is done"
                )
            outcome = self._outcome(sorted(ledger.done))
            self._settle(ledger)
        if outcome.made or not job.out.exists():
            job.commit()
        else:
            self._unchanged()
        return replace(
            outcome, seconds=time.perf_counter() - started, memory=max(self.memory, peak())
        )

    def _begin(self) -> None:
        """Go on with a run that was cut short, if it was asked for the same; else begin one."""
        job, begun = self.ask.job, self.ask.job.begun
        if begun is not None:
            asked = {k: v for k, v in begun.items() if k not in ("format", "version", "input")}
            if (
                asked == {k: v for k, v in self.request.items() if k != "input"}
                and begun["version"] == __version__
            ):
                return
            if begun["mode"] != "update" and begun["version"] == __version__:
                raise OptionError(
                    f"{job.out} was begun with {begun['method']} {short(begun['options'])}, not as asked "
                    f"now; run the same command again, or remove {job.next} to give that up"
                )
            if begun["mode"] != "update":
                raise OptionError(
                    f"{job.out} was begun by sstfill {begun['version']}, this is {__version__}; go on "
                    f"with that version, or remove {job.next} to give that up"
                )
        job.begin(self.request, self.ask.model if self.request["mode"] != "update" else None)

    def _plan(self, ledger: Ledger) -> dict[int, Task]:
        """Look at the archive, settle the method where it is not, and list the units that are to be
        filled.
        """
        job, ask, stale, todo = self.ask.job, self.ask, set[int](), dict[int, Task]()
        draft = job.next / f"{DRAFT}{self.night}.zarr"
        with ask.source.open() as ds:
            last = {name: self._looked(ds, name) for name in ask.names}
            layout = StoreLayout.of(job, ds, self.days, self.request)
        for i, name in enumerate(ask.names):
            model, now = Model.load(job.model(name)), self.days[name]
            shape = model.shape(len(now.time))
            wanted = differing(self.bases[name], now, str(job.out))
            since = self._since(last[name], now)
            for number, patch in units(shape, sampling.CORE, model.pinned.halo, wanted | since):
                key = i * VARIABLE + number
                if since[patch.seen[0]].any():
                    stale.add(key)
                if wanted[patch.seen[0]].any():
                    todo[key] = Task(
                        number=key,
                        name=name,
                        patch=patch,
                        source=ask.source,
                        model=job.model(name),
                        days=job.next / "days" / f"{name}.npz",
                        draft=draft,
                        night=self.night,
                    )
        valid = {n for n in ledger.done & todo.keys() - stale if layout.holds(todo[n])}
        if ledger.plan is None or valid != ledger.done:
            ledger.begin({"night": self.night})
            for number in sorted(valid):
                ledger.record(number)
        layout.make(draft, [todo[n] for n in sorted(valid)])
        for name, now in self.days.items():
            now.save(job.next / "days" / f"{name}.npz")
        return {number: task for number, task in sorted(todo.items()) if number not in valid}

    def _since(self, last: Days | None, now: Days) -> NDArray[np.bool_]:
        """Days that may have been read otherwise since this run last looked, even where they are as
        they were then.
        """
        if last is None:
            return np.zeros(len(now.time), bool)
        found = differing(last, now, str(self.ask.job.out))
        at = touched(self.ask.source.path, last.stats, now.stats, len(now.time))
        found[at[at < len(found)]] = True
        return found

    def _looked(self, ds: xr.Dataset, name: str) -> Days | None:
        """Note what the archive holds now; returns what it held when this run last looked."""
        job, ask = self.ask.job, self.ask
        update = self.request["mode"] == "update"
        self.bases[name] = Days.load(job.folder / "days" / f"{name}.npz") if update else None
        drawn = job.next / "days" / f"{name}.npz"
        last = Days.load(drawn) if drawn.exists() else None
        settled = job.model(name) if update else job.next / "model" / name
        if settled.is_dir():
            model = Model.load(settled)
            points = model.points
            if ask.sea is not None and not np.array_equal(
                sea_mask(ask.source.field(ds, name), ask.sea), model.sea
            ):
                raise OptionError(
                    f"{job.out} was filled with another sea mask; leave it out, or --anew fills all again"
                )
            before = last or self.bases[name] or Days.none(len(points.rows))
            if before.sample.shape[1] != len(points.rows):
                raise ReadError(
                    f"the days kept of {name!r} in {job.folder} are not those of its settled method; --anew fills all "
                    "again"
                )
            self.days[name] = next_look(ask.source, ds, name, before, points)
            return last
        started = time.perf_counter()
        self.days[name], whole = first_look(ask.source, ds, name, ask.sea, self.request["seed"])
        assert self.method is not None
        settled.parent.mkdir(exist_ok=True)
        Model.make(self.method, whole, settled)
        self.fitting += time.perf_counter() - started
        return None

    def _changed(self) -> bool:
        stats = self.ask.source.stats()
        return any(
            touched(self.ask.source.path, d.stats, stats, len(d.time)).size > 0
            for d in self.days.values()
        )

    def _outcome(self, made: list[int]) -> FillOutcome:
        name = self.ask.names[0]
        base, now = self.bases[name], self.days[name]
        known, same = _met(base, now)
        models = {n: Model.load(self.ask.job.model(n)) for n in self.ask.names}
        count, again = _remade(
            models[name], len(now.time), {number for number in made if number < VARIABLE}
        )
        return FillOutcome(
            out=str(self.ask.job.out),
            units=count * len(models),
            made=len(made),
            new=int((~known).sum()),
            revised=int((known & ~same).sum()),
            influenced=int((again & same).sum()),
            observed=sum(d.observed for d in self.done),
            filled=sum(d.filled for d in self.done),
            not_filled=sum(d.not_filled for d in self.done),
            score={n: m.summary for n, m in models.items()},
            fitting=self.fitting,
        )

    def _settle(self, ledger: Ledger) -> None:
        """Count the revisions, and write what is known only now."""
        job, made = self.ask.job, ledger.done
        if not made:
            return
        for i, name in enumerate(self.ask.names):
            now, own = self.days[name], {n % VARIABLE for n in made if n // VARIABLE == i}
            _, again = _remade(Model.load(job.model(name)), len(now.time), own)
            base = self.bases[name]
            revision = np.zeros(len(now.time), np.int32)
            if base is not None:
                revision[np.isin(now.time, base.time)] = base.revision
            self.days[name] = replace(now, revision=revision + again)
            self.days[name].save(job.next / "days" / f"{name}.npz")
        store.finish(job.staged, self.days[self.ask.names[0]].revision)

    def _unchanged(self) -> None:
        """Keep what was seen of the archive's files, so that they need not be read again."""
        for name, now in self.days.items():
            now.save(self.ask.job.folder / "days" / f"{name}.npz")
        shutil.rmtree(self.ask.job.next)


def _remade(model: Model, times: int, made: set[int]) -> tuple[int, NDArray[np.bool_]]:
    """How many units an archive has, and the days of those that were made; bool ``(time,)``."""
    every, again = np.ones(times, bool), np.zeros(times, bool)
    count = 0
    for number, patch in units(model.shape(times), sampling.CORE, model.pinned.halo, every):
        again[patch.inside[0]] |= number in made
        count += 1
    return count, again


def _met(base: Days | None, now: Days) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Days that the output held before, and those among them whose observations are the same; bool
    ``(time,)``.
    """
    same = np.zeros(len(now.time), bool)
    if base is None:
        return same, same
    known = np.isin(now.time, base.time)
    same[known] = now.digest[known] == base.digest
    return known, same
