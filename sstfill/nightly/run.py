# SPDX-License-Identifier: Apache-2.0
"""The steps of a night: download, fill, score, alert and, whatever happens, report."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sstfill.archive import FillOutcome, fill_archive
from sstfill.archive.source import ArchiveSource
from sstfill.errors import SstfillError, WriteError
from sstfill.io.output import place
from sstfill.nightly import history, recent, report
from sstfill.nightly.alerts import alerts
from sstfill.nightly.journal import held_by_another, locked, logged
from sstfill.nightly.night import Night, RecentReport
from sstfill.nightly.recipe import NightlyRecipe
from sstfill.sources.recipe import Recipe
from sstfill.version import __version__

log = logging.getLogger(__name__)


def run_night(
    recipe: NightlyRecipe,
    *,
    workers: int = 0,
    scheduler: str | None = None,
    memory: int | None = None,
    refit: bool = False,
    now: datetime | None = None,
) -> Night:
    """Bring new days in, fill them, score them, and report; run again, it does what is left.

    Parameters
    ----------
    recipe
        What `load_nightly` gave.
    workers, scheduler, memory, refit
        As in `sstfill.archive.fill_archive`.
    now
        Time from which the age of the newest image counts, with its zone. Default: now.

    Returns
    -------
    Night
        The outcome; a failure stands there and in the report, and is not raised.

    Raises
    ------
    WriteError
        The folder of the report cannot be written.
    """
    when = now or datetime.now(UTC)
    started = when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    how = {"workers": workers, "scheduler": scheduler, "memory": memory, "refit": refit}
    for other in (recipe.archive, recipe.filled):
        _check_apart(recipe.report, other)
    with contextlib.ExitStack() as held:
        # Without the lock there is no report to write to: another night is writing it.
        try:
            held.enter_context(locked(recipe.report))
        except WriteError as error:
            if held_by_another(error):
                return Night(status="busy", started=started, failure=str(error))
            raise
        warnings = held.enter_context(logged(recipe.report / "nightly.log"))
        log.info("night of %s begins, sstfill %s", recipe.title, __version__)
        try:
            night = _NightRun(recipe, how, when, started, warnings).run()
        except KeyboardInterrupt:
            log.info("interrupted; the next run goes on where it was")
            raise
        log.info("night ends: %s, exit status %d", night.status, night.exit)
    return night


def _check_apart(report: Path, other: Path) -> None:
    """Refuse a report folder that lies in a store or its job folder, or that holds one."""
    # Resolved: a link may lead into the store.
    inside = place.resolved(report)
    # The store, its fill and its download keep these beside each other.
    for suffix in ("", ".job", ".ledger"):
        path = other.with_name(other.name + suffix)
        resolved = place.resolved(path)
        if inside == resolved or inside in resolved.parents or resolved in inside.parents:
            raise WriteError(
                f"cannot write a report to {report}: {path} lies there; give report= a folder of "
                "its own"
            )
        place.check_apart(report, path)


@dataclass
class _NightRun:
    """One night under way.

    Attributes
    ----------
    recipe, how
        What to do, and the options of the fill.
    now, started
        The time, as a date and as text.
    warnings
        Warnings that the library has logged so far.
    seconds
        Duration of each step.
    stage
        The step under way.
    refused
        Why the download did not bring what it should.
    """

    recipe: NightlyRecipe
    how: dict[str, Any]
    now: datetime
    started: str
    warnings: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    stage: str = "start"
    refused: str = ""

    def run(self) -> Night:
        """Take all steps; a failure at any of them becomes a night that failed."""
        lines = None
        try:
            lines = history.read(self.recipe.report / report.HISTORY)
            night = self._completed(lines)
        except Exception as error:
            # another fill or download works on the stores: this night has nothing to report
            if held_by_another(error):
                log.info("%s", error)
                return Night(status="busy", started=self.started, failure=str(error))
            night = self._failed(error)
        if lines is None:
            return night  # what is in a history that cannot be read must not be replaced
        self.stage = "report"
        try:
            report.write(self.recipe, night, history.added(lines, night))
        except Exception as error:
            # Of a night that failed already the first failure is told.
            if night.status != "failed":
                return self._failed(error)
            log.error("the report of it could not be written: %s", _line(error), exc_info=error)
        return night

    def _completed(self, lines: list[dict[str, Any]]) -> Night:
        if self.recipe.download is not None:
            with self._step("download"):
                self.refused = self._download(self.recipe.download)
        with self._step("fill"):
            outcome = self._fill()
        with self._step("score"):
            state = recent.state(self.recipe.filled)
            newest = recent.newest(self.recipe.filled)
            found = self._score(lines, state)
        attention = tuple(
            alerts(found, lines, state, newest, self.refused, self.recipe.alert, self.now)
        )
        warnings = tuple(self.warnings)  # before the alerts are logged, which have their own place
        for text in attention:
            log.warning("attention: %s", text)
        return Night(
            status="attention" if attention else "fine",
            started=self.started,
            seconds=self.seconds,
            attention=attention,
            refused=self.refused,
            outcome=outcome,
            newest=newest[0],
            state=state,
            found=found,
            whole="the output is whole and holds all days that the archive has",
            warnings=warnings,
        )

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.stage = name
        started = time.perf_counter()
        try:
            yield
        finally:
            # Also of a step that failed.
            self.seconds[name] = round(time.perf_counter() - started, 3)

    def _download(self, download: Recipe) -> str:
        """Bring new days in; return why that failed, if there is an archive to fill anyway."""
        try:
            with download.run(self.recipe.archive, update=True) as ds:
                sizes = ", ".join(f"{d} {n}" for d, n in ds.sizes.items())
                log.info("%s holds %s", self.recipe.archive, sizes)
        except Exception as error:
            # without an archive there is nothing to fill, and the failure is that of the night
            if held_by_another(error) or not self.recipe.archive.exists():
                raise
            log.warning(
                "the download did not end well: %s",
                error,
                exc_info=not isinstance(error, SstfillError),
            )
            return _line(error)
        return ""

    def _fill(self) -> FillOutcome:
        wanted = self.recipe.fill
        done = fill_archive(
            self.recipe.archive,
            self.recipe.filled,
            self.recipe.method,
            variables=wanted.variables or None,
            quality_level=wanted.quality_level,
            l2p_flags=wanted.l2p_flags,
            allow_links=wanted.allow_links,
            transform=wanted.transform,
            members=wanted.members,
            seed=wanted.seed,
            # A refit fills everything, which an update excludes.
            update=not self.how["refit"],
            **self.how,
        )
        log.info(
            "%d of %d units filled: %d days new, %d revised, %d influenced by these",
            done.made,
            done.units,
            done.new,
            done.revised,
            done.influenced,
        )
        return done

    def _score(self, lines: list[dict[str, Any]], state: str) -> dict[str, RecentReport]:
        """Score the recent images, unless an earlier night scored the same output."""
        recipe = self.recipe
        before = history.same_state(lines, state)
        if before is not None:
            # the same output has the same score, and scoring takes minutes
            scores = {name: dict(one["score"]) for name, one in before["found"].items()}
        else:
            source = ArchiveSource(
                path=str(recipe.archive.resolve()),
                quality_level=recipe.fill.quality_level,
                l2p_flags=recipe.fill.l2p_flags,
                allow_links=recipe.fill.allow_links,
            )
            scores = recent.recent_score(recipe.filled, source, recipe.fill.seed)
        return recent.variable_reports(recipe.filled, scores, recipe.alert.empty_days)

    def _failed(self, error: Exception) -> Night:
        failure = f"failed at the {self.stage}: {_line(error)}"
        if self.refused and self.stage == "fill":
            failure += f"; before that the download did not end well: {self.refused}"
        whole = self._state_of_output()
        warnings = tuple(self.warnings)  # without this failure, which has its own place
        log.error("%s; %s", failure, whole, exc_info=error)
        return Night(
            status="failed",
            started=self.started,
            seconds=self.seconds,
            failure=failure,
            refused=self.refused,
            whole=whole,
            warnings=warnings,
        )

    def _state_of_output(self) -> str:
        if self.stage in ("score", "report"):
            return (
                "the output is whole and holds all days that the archive has; what failed came "
                "after"
            )
        kept = "what is done of it is kept, and the next run goes on there"
        if self.recipe.filled.exists():
            return f"the output is as it was before this night; {kept}"
        return f"there is no output yet; {kept}"


def _line(error: Exception) -> str:
    """Return an error's message on one line, with its class unless it is one of sstfill's own."""
    text = " ".join(str(error).split())
    if isinstance(error, SstfillError):
        return text
    return f"{type(error).__name__}: {text}"
