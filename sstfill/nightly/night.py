# SPDX-License-Identifier: Apache-2.0
"""What is known of one night when it is over: its status, what was filled, and how well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sstfill import config
from sstfill.archive import FillOutcome

Status = Literal["fine", "attention", "failed", "busy"]
EXIT: dict[Status, int] = {"fine": 0, "attention": 1, "failed": 2, "busy": 75}
"""Exit status of the command; 75 is ``EX_TEMPFAIL`` of sysexits.h: nothing is wrong, try again
later.
"""
FORMAT = 1
"""Of ``latest.json`` and of the lines of ``history.jsonl``."""


@dataclass(frozen=True, kw_only=True)
class VariableReport:
    """What tonight says of one variable; all of it can be held by JSON.

    Attributes
    ----------
    model
        Fingerprint of the fitted method.
    score
        Under clouds put over the most recent images, see `sstfill.methods.fitted_score.scored`;
        empty where there were none.
    fractions
        Of the sea in the most recent images, by where a pixel comes from: ``observed``, ``filled``,
        ``not_filled``.
    newest
        The same of the newest image.
    error, newest_error
        Median of the stated error (one sigma) of filled pixels, in the recent images and in the
        newest one.
    empty
        Dates of the newest images, of those that are watched, with nothing observed.
    units
        Of the field.
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
        """Share of the gaps at sea in the recent images that was filled; 1 where there were no
        gaps.
        """
        gaps = self.fractions.get("filled", 0.0) + self.fractions.get("not_filled", 0.0)
        return self.fractions.get("filled", 0.0) / gaps if gaps else 1.0


@dataclass(frozen=True, kw_only=True)
class Night:
    """One night.

    Attributes
    ----------
    status
        ``"fine"``, ``"attention"`` (done, but look), ``"failed"`` or ``"busy"`` (another job is at
        it), see `EXIT`.
    started
        When, ISO 8601 in UTC.
    seconds
        Of each step that was taken: ``download``, ``fill``, ``score``.
    attention
        What to look at, one line each.
    failure
        Why it failed, or who is at it; empty otherwise.
    whole
        What state the output is in, in words.
    refused
        Why the download did not bring what it should; empty otherwise.
    outcome
        Of the fill, where there was one.
    newest
        Date of the newest image; empty where times are no dates.
    state
        A word for what the output holds; the same word means the same output.
    found
        By variable.
    said
        Warnings on the way.
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
    found: dict[str, VariableReport] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    @property
    def exit(self) -> int:
        """Exit status of the command."""
        return EXIT[self.status]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        found = {
            name: config.options(one) | {"filled_fraction": one.filled_fraction}
            for name, one in self.found.items()
        }
        bare = {k: v for k, v in vars(self).items() if k not in ("outcome", "found")}
        done = None if self.outcome is None else config.options(self.outcome)
        told = {"format": FORMAT, **bare, "exit": self.exit, "outcome": done, "found": found}
        return dict(config.plain(told))
