# SPDX-License-Identifier: Apache-2.0
"""A night's work: download, fill, score, judge, report; whatever happens, the report says what did."""

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
from sstfill.io import place
from sstfill.nightly import history, recent, report
from sstfill.nightly.alerts import alerts
from sstfill.nightly.journal import held_by_another, kept, locked
from sstfill.nightly.night import Night, VariableReport
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
    """Bring new days in, fill them, score, report; run again, it finds what is left to do.

    Parameters
    ----------
    recipe
        What `load_nightly` gave.
    workers, scheduler, memory, refit
        As in `sstfill.archive.fill_archive`.
    now
        What the age of the newest image counts from, with its zone; by default the clock.

    Returns
    -------
    Night
        What became of it; a failure is told there and in the report, not raised.

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
        try:
            held.enter_context(locked(recipe.report))
        except WriteError as error:
            if held_by_another(error):
                return Night(status="busy", started=started, failure=str(error))
            raise
        said = held.enter_context(kept(recipe.report / "nightly.log"))
        log.info("night of %s begins, sstfill %s", recipe.title, __version__)
        try:
            night = _Work(recipe, how, when, started, said).go()
        except KeyboardInterrupt:
            log.info("interrupted; the next run goes on where it was")
            raise
        log.info("night ends: %s, exit status %d", night.status, night.exit)
    return night


def _check_apart(report: Path, other: Path) -> None:
    """Refuse a report in the archive, the filled store or what lies beside them, or one that would
    hold these.
    """
    for path in (
        other,
        other.with_name(other.name + ".job"),
        other.with_name(other.name + ".ledger"),
    ):
        one, two = place.resolved(report), place.resolved(path)
        if one == two or one in two.parents or two in one.parents:
            raise WriteError(
                f"cannot write a report to {report}: {path} lies there; give report= a folder of its own"
            )
        place.check_apart(report, path)


@dataclass
class _Work:
    """One night under way."""

    recipe: NightlyRecipe
    how: dict[str, Any]
    now: datetime
    started: str
    said: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    stage: str = "start"
    refused: str = ""

    def go(self) -> Night:
        """Do all of it; a failure at any step becomes a night that failed."""
        try:
            lines = history.read(self.recipe.report / report.HISTORY)
            night = self._done(lines)
        except Exception as error:
            if held_by_another(error):
                log.info("%s", error)
                return Night(status="busy", started=self.started, failure=str(error))
            night = self._failed(error)
        try:
            self.stage = "report"
            lines = history.read(self.recipe.report / report.HISTORY)
            report.write(self.recipe, night, history.added(lines, night))
        except Exception as error:
            if night.status != "failed":
                return self._failed(error)
            log.error("the report of it could not be written: %s", _told(error), exc_info=error)
        return night

    def _done(self, lines: list[dict[str, Any]]) -> Night:
        if self.recipe.download is not None:
            with self._step("download"):
                self.refused = self._downloaded(self.recipe.download)
        with self._step("fill"):
            outcome = self._filled()
        with self._step("score"):
            state, newest = recent.state(self.recipe.filled), recent.newest(self.recipe.filled)
            found = self._found(lines, state)
        calls = tuple(
            alerts(found, lines, state, newest, self.refused, self.recipe.alert, self.now)
        )
        said = tuple(self.said)
        for text in calls:
            log.warning("attention: %s", text)
        return Night(
            status="attention" if calls else "fine",
            started=self.started,
            seconds=self.seconds,
            attention=calls,
            refused=self.refused,
            outcome=outcome,
            newest=newest[0],
            state=state,
            found=found,
            whole="the output is whole and holds all days that the archive has",
            said=said,
        )

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.stage, since = name, time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - since, 3)

    def _downloaded(self, download: Recipe) -> str:
        """Bring new days in; returns why not, where there is an archive to fill all the same."""
        try:
            with download.run(self.recipe.archive, update=True) as ds:
                log.info(
                    "%s holds %s",
                    self.recipe.archive,
                    ", ".join(f"{d} {n}" for d, n in ds.sizes.items()),
                )
        except Exception as error:
            if held_by_another(error) or not self.recipe.archive.exists():
                raise
            log.warning(
                "the download did not end well: %s",
                error,
                exc_info=not isinstance(error, SstfillError),
            )
            return _told(error)
        return ""

    def _filled(self) -> FillOutcome:
        wanted = self.recipe.fill
        done = fill_archive(
            self.recipe.archive,
            self.recipe.filled,
            self.recipe.method,
            variables=wanted.variables or None,
            quality_level=wanted.quality_level,
            l2p_flags=wanted.l2p_flags,
            seed=wanted.seed,
            update=not self.how["refit"],
            **self.how,
        )
        days = f"{done.new} days new, {done.revised} revised, {done.influenced} influenced by these"
        log.info("%d of %d units filled: %s", done.made, done.units, days)
        return done

    def _found(self, lines: list[dict[str, Any]], state: str) -> dict[str, VariableReport]:
        """Look at the recent images; what was scored as it is now need not be scored again."""
        recipe, before = self.recipe, history.same_state(lines, state)
        if before is not None:
            scores = {name: dict(one["score"]) for name, one in before["found"].items()}
        else:
            source = ArchiveSource(
                path=str(recipe.archive.resolve()),
                quality_level=recipe.fill.quality_level,
                l2p_flags=recipe.fill.l2p_flags,
            )
            scores = recent.recent_score(recipe.filled, source, recipe.fill.seed)
        return recent.look_at(recipe.filled, scores, recipe.alert.empty_days)

    def _failed(self, error: Exception) -> Night:
        failure = f"failed at the {self.stage}: {_told(error)}"
        if self.refused and self.stage == "fill":
            failure += f"; before that the download did not end well: {self.refused}"
        said = tuple(self.said)
        log.error("%s; %s", failure, self._left(), exc_info=error)
        return Night(
            status="failed",
            started=self.started,
            seconds=self.seconds,
            failure=failure,
            refused=self.refused,
            whole=self._left(),
            said=said,
        )

    def _left(self) -> str:
        if self.stage in ("score", "report"):
            return "the output is whole and holds all days that the archive has; what failed came after"
        if self.recipe.filled.exists():
            return "the output is as it was before this night; what is done of it is kept, and the next run goes on there"
        return "there is no output yet; what is done of it is kept, and the next run goes on there"


def _told(error: Exception) -> str:
    """What an error says, in one line; with its kind where it is not one of sstfill's own."""
    text = " ".join(str(error).split())
    return text if isinstance(error, SstfillError) else f"{type(error).__name__}: {text}"
