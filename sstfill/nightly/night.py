# SPDX-License-Identifier: Apache-2.0
"""The outcome of one night: its status, what was filled, and how well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sstfill import config
from sstfill.archive import FillOutcome

Status = Literal["fine", "attention", "failed", "busy"]
EXIT: dict[Status, int] = {"fine": 0, "attention": 1, "failed": 2, "busy": 75}
"""Exit status of the command; 75 is ``EX_TEMPFAIL`` of sysexits.h: try again later."""
FORMAT = 1
"""Format of ``latest.json``."""


@dataclass(frozen=True, kw_only=True)
class RecentReport:
    """The report on one variable; JSON can hold all of it.

    Attributes
    ----------
    model
        Fingerprint of the fitted method.
    score
        Score on withheld clouds in the most recent images, see
        `sstfill.methods.fitted_score.scored`; empty where nothing could be withheld.
    fractions
        Fractions of the sea in the most recent images that are ``observed``, ``filled`` and
        ``not_filled``.
    newest
        The same fractions of the newest image.
    error, newest_error
        Median of the stated error (one sigma) of filled pixels, in the recent images and in the
        newest one.
    empty
        Dates among the newest images (`Alert.empty_days`) with nothing observed.
    units
        Units of the field.
    """

    model: str
    score: dict[str, Any]
    fractions: dict[str, float]
    newest: dict[str, float]
    error: float | None
    newest_error: float | None
    empty: tuple[str, ...]
    units: str = ""

    @property
    def filled_fraction(self) -> float:
        """Fraction of the gaps at sea in the recent images that was filled; 1 without gaps."""
        filled = self.fractions.get("filled", 0.0)
        gaps = filled + self.fractions.get("not_filled", 0.0)
        return filled / gaps if gaps else 1.0


@dataclass(frozen=True, kw_only=True)
class Night:
    """The outcome of one night.

    Attributes
    ----------
    status
        ``"fine"``, ``"attention"`` (done, but look), ``"failed"`` or ``"busy"`` (another job holds
        a lock), see `EXIT`.
    started
        Start, ISO 8601 in UTC.
    seconds
        Duration of each step: ``download``, ``fill``, ``score``.
    attention
        What to look at, one line each.
    failure
        Why it failed, or which job holds a lock; empty otherwise.
    whole
        Whether the output is whole, as a sentence.
    refused
        Why the download did not bring what it should; empty otherwise.
    outcome
        Outcome of the fill, where there was one.
    newest
        Date of the newest image; empty where times are no dates.
    state
        Digest of what the output holds; equal outputs have equal digests.
    found
        Reports by variable.
    warnings
        Warnings that the library logged.
    """

    status: Status
    started: str
    seconds: dict[str, float] = field(default_factory=dict)
    attention: tuple[str, ...] = ()
    failure: str = ""
    whole: str = ""
    refused: str = ""
    outcome: FillOutcome | None = None
    newest: str = ""
    state: str = ""
    found: dict[str, RecentReport] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def exit(self) -> int:
        """Exit status of the command."""
        return EXIT[self.status]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        found = {}
        for name, one in self.found.items():
            found[name] = config.options(one) | {"filled_fraction": one.filled_fraction}
        outcome = None
        if self.outcome is not None:
            outcome = config.options(self.outcome)
        own = {"exit": self.exit, "outcome": outcome, "found": found}
        return dict(config.plain({"format": FORMAT} | vars(self) | own))
