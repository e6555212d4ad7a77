# SPDX-License-Identifier: Apache-2.0
"""Fill an archive: plan the units, fill them, put them in place; resume after a kill."""

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
from sstfill.archive.companions import Companions
from sstfill.archive.job import Days, FillJob, open_job
from sstfill.archive.layout import DRAFT, StoreLayout, take
from sstfill.archive.model import Model
from sstfill.archive.plan import differing, fillable, first_look, next_look, units
from sstfill.archive.settings import RunSettings, check_fitted, describe_grid, format_options
from sstfill.archive.slabs import SlabGrid
from sstfill.archive.source import ArchiveSource, touched
from sstfill.archive.unit import Done, Task, fitted_model, forget, peak
from sstfill.archive.workers import KEPT, Workers, check_memory, staff
from sstfill.checks import check_choice
from sstfill.config import without
from sstfill.errors import InputError, OptionError, ReadError, SstfillError
from sstfill.fields.reading.sea import sea_mask
from sstfill.fields.reading.variables import pick_fields
from sstfill.fields.rounding import Rounding
from sstfill.fields.transform import ASKED, Asked, by_name, choose, is_skewed, note_skewness
from sstfill.io.error_origin import while_reading
from sstfill.io.ledger import Ledger
from sstfill.io.output import place
from sstfill.io.output.atomic import begin_work, fail
from sstfill.methods import Method
from sstfill.methods.common import sampling
from sstfill.methods.common.threads import available_cores
from sstfill.progress import track
from sstfill.version import __version__

log = logging.getLogger(__name__)
VARIABLE = 10**9
"""The units of the n-th variable are numbered from n times this, more than one can have."""
LOOKS = 3
"""How often the archive may change during a run before the run gives up."""


@dataclass(frozen=True, kw_only=True)
class FillOutcome:
    """What a run did.

    Attributes
    ----------
    units, made
        Work units of the archive, and how many this run filled.
    new, revised, influenced
        Days of the first variable that were new, had changed, or were filled again for these.
    observed, filled, not_filled
        Pixels of the units that were filled.
    score
        By variable, the score on withheld clouds of the fitted method.
    seconds, fitting
        Of the run, and of fitting the method within it.
    memory
        Most bytes of memory that this process or one of its workers had.
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
    lakes: bool | None = None,
    quality_level: int | None = None,
    l2p_flags: Sequence[str] = (),
    group: str | None = None,
    allow_links: bool = False,
    transform: Asked = "auto",
    members: int | None = None,
    seed: int = 0,
    update: bool = False,
    refit: bool = False,
    like: str | Path | None = None,
    workers: int = 0,
    scheduler: str | None = None,
    memory: int | None = None,
) -> FillOutcome:
    """Fill an archive of any size, unit by unit, into a Zarr store.

    The method is fitted once to the whole archive (in bounded memory) and kept beside the output,
    in ``OUT.job``. From then on the estimate at a pixel depends only on the days around it, so that
    any unit can be filled alone. Called again after any interruption, it goes on where it was.

    Parameters
    ----------
    source
        Zarr store (or NetCDF file) with time and two spatial dimensions.
    out
        Zarr store to make, its name ending with ``.zarr``; it appears atomically.
    method
        A method, its name, or None for `sstfill.Auto`. With `update`, None is the one that the
        output was made by.
    variables, sea, lakes, seed
        As in `sstfill.fill`.
    transform
        As in `sstfill.fill`, but of a skewed field that nothing tells of, ``auto`` fills the values
        as they are. With `update`, ``auto`` is what the output was filled with.
    members
        As in `sstfill.fill`. None is 0, and with `update` what the output was filled with.
    quality_level, l2p_flags, group, allow_links
        As in `sstfill.io.open`.
    update
        Fill only days that are new or revised since, and those that these influence, by the method
        as it was fitted.
    refit
        Fit the method again and fill everything again; the old output stays until the new one is
        complete.
    like
        Store filled before, of the same grid: fill by the method that was fitted for it.
    workers, scheduler
        Number of worker processes on this machine, or the address of a `dask.distributed` cluster
        that sees the same files. Default: this process fills all units.
    memory
        Bytes of memory that may be used; an option error where a unit needs more.

    Raises
    ------
    InputError, OptionError, ReadError, WriteError
        The message tells what to do; units that are filled already are kept.
    """
    started = time.perf_counter()
    check_choice("transform", transform, ASKED)
    target = Path(out)
    if target.suffix != ".zarr":
        raise OptionError(
            f"an archive is filled into a Zarr store; {target.name!r} does not end with .zarr"
        )
    read = ArchiveSource(
        path=str(Path(source).resolve()),
        quality_level=quality_level,
        l2p_flags=tuple(l2p_flags or ()),
        group=group,
        allow_links=allow_links,
    )
    begin_work()
    # Refused here, before the lock, so that nothing is left beside an output that is not ours.
    place.check_apart(target, read.path)
    place.check_regular(target)
    if target.is_dir():
        store.check_in_place(target, replace=refit)
    with open_job(target) as job:
        with read.open() as ds:
            names = _names(ds, read, variables, job, refit)
            for name in names:
                if "sstfill_method" in ds[name].attrs:
                    raise InputError(
                        f"{name!r} in {read.path} was filled by sstfill; give it as it was before"
                    )
            lender = None
            if like is not None:
                lender = FillJob(Path(like))
            described = describe_grid(ds, names)
            # a worker reads by one thread
            threads = 1 if workers or scheduler else available_cores()
            decoded = read.decoded(ds, names, threads)
            settings = RunSettings(
                *(job, read, names, sea, lakes, seed, transform, members, lender, described)
            )
        request, chosen = settings.request(method, update=update, refit=refit)
        request["input"] = read.path
        rows, columns = settings.grid[:2]
        drawn = request.get("members", 0)
        spare = check_memory(memory, workers, request["method"], rows * columns, drawn, decoded)
        if scheduler:  # `memory` is that of this process
            spare = min(spare, KEPT)
        run = _FillRun(settings, request, chosen, spare)
        with staff(workers, scheduler, memory) as fill, io.reading(read.path), _writing(target):
            try:
                outcome = run.run(fill)
            finally:
                forget()
    return replace(outcome, seconds=time.perf_counter() - started)


def _names(
    ds: xr.Dataset,
    source: ArchiveSource,
    variables: str | Sequence[str] | None,
    job: FillJob,
    refit: bool,
) -> tuple[str, ...]:
    """Return the variables to fill, sorted, because a store lists them in any order."""
    if variables is None and job.finished is not None and not refit:
        variables = job.finished["variables"]  # an output goes on with what it holds
    chosen = pick_fields(ds, variables)
    if variables is None:
        chosen = fillable(source, ds, chosen)
    return tuple(sorted(chosen))


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn errors of the system into `WriteError`, except those of reading the archive."""
    try:
        yield
    except OSError as error:
        if isinstance(error, SstfillError) or while_reading(error):
            raise
        fail(target, error)


def _new_run_id() -> str:
    return uuid.uuid4().hex[:8]


@dataclass
class _FillRun:
    """One run over all variables of an output.

    Attributes
    ----------
    settings, request, method
        What is asked for; the method where it is still to be fitted.
    spare
        Bytes of what is read that a process may keep from one unit to the next.
    run_id
        Name of the draft; a new one each time the archive is planned again.
    fitting, memory, done
        Seconds spent on fitting, most bytes of memory of a worker, and the units filled.
    days, bases
        By variable, what the archive holds now, and what it held when the output was filled.
    changed
        Which days may have changed since the output was filled, in any variable; bool ``(time,)``.
    companions
        The variables beside the filled ones.
    """

    settings: RunSettings
    request: dict[str, Any]
    method: Method | None
    spare: int
    run_id: str = field(default_factory=_new_run_id)
    fitting: float = 0.0
    memory: int = 0
    done: list[Done] = field(default_factory=list)
    days: dict[str, Days] = field(default_factory=dict)
    bases: dict[str, Days | None] = field(default_factory=dict)
    changed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    companions: Companions | None = None

    def run(self, fill: Workers) -> FillOutcome:
        """Fill units until the archive is as it was when they were planned; put them in place."""
        self._begin()
        job = self.settings.job
        with Ledger(job.next / "ledger") as ledger:
            for _ in range(LOOKS):
                tasks = self._plan(ledger)
                for one in track(fill(tasks.values()), "filling", len(tasks)):
                    # Recorded only after the chunks are moved: a unit in the ledger is complete.
                    take(tasks[one.number], job.staged)
                    ledger.record(one.number)
                    self.done.append(one)
                    self.memory = max(self.memory, one.memory)
                # before the files are looked at again: they are read from the archive, too
                self._write_companions()
                if not self._archive_changed():
                    break
                log.warning(
                    "%s changed while it was read; its changed days are filled again",
                    self.settings.source.path,
                )
                self.run_id = _new_run_id()
            else:
                raise InputError(
                    f"{self.settings.source.path} changes all the time; run again when the program "
                    "that writes it is done"
                )
            outcome = self._outcome(ledger.done)
            assert self.companions is not None
            # a run that found nothing new leaves the output as it is, for its readers too
            worth = bool(outcome.made) or (self.companions.any and bool(self.changed.any()))
            if worth:
                self._count_revisions(ledger.done)
        if worth or not job.out.exists():
            job.commit()
        else:
            # Keep what was seen of the archive's files, so that they need not be read again.
            for name, now in self.days.items():
                now.save(job.folder / "days" / f"{name}.npz")
            shutil.rmtree(job.next)
        return replace(outcome, memory=max(self.memory, peak()))

    def _begin(self) -> None:
        """Resume a run that was cut short, if it was asked for the same; else begin one.

        An unfinished update may be dropped, as its units are few; an unfinished fill of everything
        may be days of work, and is dropped by the user only.
        """
        job = self.settings.job
        begun = job.begun
        if begun is not None:
            same_version = begun["version"] == __version__
            # a folder that was moved is the same archive
            own = without(begun, ("format", "version", "input"))
            asked = without(self.request, ["input"])
            if "transform" not in own:  # earlier code began it, which had none
                self.request["transform"] = own["transform"] = asked["transform"] = "none"
            if own == asked and same_version:
                return
            if begun["mode"] != "update" and same_version:
                raise OptionError(
                    f"{job.out} was begun with {begun['method']} "
                    f"{format_options(begun['options'])}, not as asked now; run the same command "
                    f"again, or remove {job.next} to give that up"
                )
            if begun["mode"] != "update":
                raise OptionError(
                    f"{job.out} was begun by sstfill {begun['version']}, this is {__version__}; go "
                    f"on with that version, or remove {job.next} to give that up"
                )
        # an update goes on with the method of the output itself
        job.begin(self.request, self.settings.lender if self.request["mode"] != "update" else None)

    def _plan(self, ledger: Ledger) -> dict[int, Task]:
        """Read what is new of the archive, fit the method if needed, and list the units to fill."""
        job, source = self.settings.job, self.settings.source
        draft = job.next / f"{DRAFT}{self.run_id}.zarr"
        last_days, slabs = {}, {}
        with source.open() as ds:
            for name in self.settings.names:
                last_days[name] = self._read_days(ds, name)
            models = self._models()
            for name, model in models.items():
                data = source.field(ds, name).data
                slabs[name] = SlabGrid.choose(data, sampling.CORE, model.halo, self.spare)
            layout = StoreLayout.of(job, ds, models, self.request)
        self.companions = layout.companions
        members = layout.members
        stale: set[int] = set()
        wanted: dict[int, Task] = {}
        self.changed = np.zeros(len(self.days[self.settings.names[0]].time), bool)
        for i, name in enumerate(self.settings.names):
            model, now = models[name], self.days[name]
            check_fitted(name, model, members)
            changed = differing(self.bases[name], now, str(job.out))
            # companions have no digest, so that a file written again counts as changed
            self.changed |= changed | self._touched(self.bases[name], now)
            changed_since = self._changed_since(last_days[name], now)
            either = changed | changed_since
            shape = model.shape(len(now.time))
            for number, patch in units(shape, sampling.CORE, model.halo, either):
                key = i * VARIABLE + number
                if changed_since[patch.seen[0]].any():
                    stale.add(key)
                if changed[patch.seen[0]].any():
                    wanted[key] = Task(
                        number=key,
                        name=name,
                        patch=patch,
                        slabs=slabs[name],
                        source=source,
                        model=job.model(name),
                        days=job.next / "days" / f"{name}.npz",
                        draft=draft,
                        run_id=self.run_id,
                        parts=store.parts(model.transform, members),
                        members=members,
                    )
        # Units that an earlier, interrupted run filled from what the archive still holds are kept.
        kept = [n for n in sorted(ledger.done & wanted.keys() - stale) if layout.holds(wanted[n])]
        if ledger.plan is None or set(kept) != ledger.done:
            ledger.begin({"run_id": self.run_id})
            for number in kept:
                ledger.record(number)
        layout.make(draft, [wanted[number] for number in kept])
        for name, now in self.days.items():
            now.save(job.next / "days" / f"{name}.npz")

        def place(number: int) -> tuple[int, int, int, int]:
            """Sort by variable, by region, and in a region by time."""
            rows, columns = wanted[number].slabs.region(wanted[number].patch)
            return number // VARIABLE, rows.start, columns.start, number

        return {number: wanted[number] for number in sorted(wanted.keys() - set(kept), key=place)}

    def _changed_since(self, last: Days | None, now: Days) -> NDArray[np.bool_]:
        """Return which days may have been read otherwise since this run last read the archive.

        Those include days whose files were written again with what they held before.
        """
        if last is None:
            return np.zeros(len(now.time), bool)
        return differing(last, now, str(self.settings.job.out)) | self._touched(last, now)

    def _touched(self, last: Days | None, now: Days) -> NDArray[np.bool_]:
        """Return which days lie in files that were written since; bool ``(time,)``."""
        found = np.zeros(len(now.time), bool)
        if last is not None:
            at = touched(self.settings.source.root, last.stats, now.stats, len(now.time))
            found[at[at < len(found)]] = True
        return found

    def _write_companions(self) -> None:
        """Write the variables that lie beside the filled ones, where they may have changed."""
        job, companions = self.settings.job, self.companions
        assert companions is not None
        changed = self.changed
        if self.request["mode"] == "refit" or not job.out.exists():
            changed = np.ones(len(self.changed), bool)
        companions.write(job.staged, job.out, changed)

    def _read_days(self, ds: xr.Dataset, name: str) -> Days | None:
        """Note what the archive holds now; return what it held when this run last read it."""
        job, settings = self.settings.job, self.settings
        update = self.request["mode"] == "update"
        self.bases[name] = Days.load(job.folder / "days" / f"{name}.npz") if update else None
        path = job.next / "days" / f"{name}.npz"
        last = None
        if path.exists():
            # of this run before it was interrupted: what it read since need not be read again
            last = Days.load(path)
        folder = job.model(name) if update else job.next / "model" / name
        # there already: of the output, borrowed, or fitted by this run before it was interrupted
        if not folder.is_dir():
            started = time.perf_counter()
            self.days[name], whole = first_look(
                settings.source, ds, name, settings.sea, settings.lakes, self.request["seed"]
            )
            assert self.method is not None
            folder.parent.mkdir(exist_ok=True)
            asked = self.request["transform"]
            transform = choose(asked, ds[name], whole.obs)
            # fmin and fmax pass over NaN without a warning where all are
            least, most = np.fmin.reduce(whole.sample), np.fmax.reduce(whole.sample)
            if asked == "auto" and not by_name(ds[name])[1] and is_skewed(least, most):
                note_skewness([name])
            # so that the fit keeps what drawing needs
            whole = replace(whole, members=self.request.get("members", 0))
            magnitude = 0.0
            if transform.kind == "none":
                magnitude = float(np.fmax.reduce(np.abs([least, most]), None, initial=0.0))
            rounding = Rounding.of(ds[name], magnitude)
            Model.make(self.method, whole, folder, transform, rounding)
            self.fitting += time.perf_counter() - started
            return None
        model = Model.load(folder)
        if settings.sea is not None:
            mask = sea_mask(settings.source.field(ds, name), settings.sea, lakes=settings.lakes)
            if not np.array_equal(mask, model.sea):
                raise OptionError(
                    f"{job.out} was filled with another sea mask; leave it out, or --refit fills "
                    "all again"
                )
        before = last or self.bases[name] or Days.none(len(model.points.rows))
        if before.sample.shape[1] != len(model.points.rows):
            raise ReadError(
                f"the days kept of {name!r} in {job.folder} are not those of its fitted method; "
                "--refit fills all again"
            )
        self.days[name] = next_look(
            settings.source, ds, name, before, model.points, model.transform
        )
        return last

    def _archive_changed(self) -> bool:
        """Whether a file of the archive changed since the units were planned."""
        stats = self.settings.source.stats()
        for days in self.days.values():
            if touched(self.settings.source.root, days.stats, stats, len(days.time)).size:
                return True
        return False

    def _models(self) -> dict[str, Model]:
        """Return the fitted methods; a unit that is filled in this process shares them."""
        job = self.settings.job
        return {name: fitted_model(job.model(name), self.run_id) for name in self.settings.names}

    def _outcome(self, made: set[int]) -> FillOutcome:
        name = self.settings.names[0]
        base, now = self.bases[name], self.days[name]
        # Days that the output held before, and those among them with the same observations.
        known = np.zeros(len(now.time), bool)
        same = np.zeros(len(now.time), bool)
        if base is not None:
            known = np.isin(now.time, base.time)
            same[known] = now.digest[known] == base.digest
        models = self._models()
        # those of the first variable, for which days are counted
        own = {number for number in made if number < VARIABLE}
        count, refilled = _refilled(models[name], len(now.time), own)
        return FillOutcome(
            out=str(self.settings.job.out),
            units=count * len(models),
            made=len(made),
            new=int((~known).sum()),
            revised=int((known & ~same).sum()),
            influenced=int((refilled & same).sum()),
            observed=sum(unit.observed for unit in self.done),
            filled=sum(unit.filled for unit in self.done),
            not_filled=sum(unit.not_filled for unit in self.done),
            score={n: model.summary for n, model in models.items()},
            fitting=self.fitting,
        )

    def _count_revisions(self, made: set[int]) -> None:
        """Write how often each day was made, and complete the staged store."""
        job, models = self.settings.job, self._models()
        for i, name in enumerate(self.settings.names):
            now, base = self.days[name], self.bases[name]
            own = {number % VARIABLE for number in made if number // VARIABLE == i}
            _, refilled = _refilled(models[name], len(now.time), own)
            revision = np.zeros(len(now.time), np.int32)
            if base is not None:
                revision[np.isin(now.time, base.time)] = base.revision
            self.days[name] = replace(now, revision=revision + refilled)
            self.days[name].save(job.next / "days" / f"{name}.npz")
        store.finish(job.staged, self.days[self.settings.names[0]].revision)


def _refilled(model: Model, times: int, made: set[int]) -> tuple[int, NDArray[np.bool_]]:
    """Count the units of an archive, and mark the days of those in `made`; bool ``(time,)``."""
    every_day = np.ones(times, bool)
    refilled = np.zeros(times, bool)
    count = 0
    shape = model.shape(times)
    for number, patch in units(shape, sampling.CORE, model.halo, every_day):
        refilled[patch.inside[0]] |= number in made
        count += 1
    return count, refilled
