# SPDX-License-Identifier: Apache-2.0
"""What of a night calls for attention."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sstfill.nightly.history import usual
from sstfill.nightly.night import RecentReport
from sstfill.nightly.recipe import Alert

AHEAD = 2.0
"""Days that the newest image may lie ahead of the clock."""


def alerts(
    found: dict[str, RecentReport],
    lines: list[dict[str, Any]],
    state: str,
    newest: tuple[str, float | None],
    refused: str,
    alert: Alert,
    now: datetime,
) -> Iterator[str]:
    """Yield what to look at, one line each.

    Parameters
    ----------
    found
        Tonight's reports by variable.
    lines, state
        The nights before, and the digest of what the output holds now.
    newest
        Date of the newest image, as text and in days since 1970.
    refused
        Why the download did not bring what it should; empty otherwise.
    alert
        Limits of the recipe.
    now
        The current time, with its zone.
    """
    if refused:
        yield f"the download did not end well, and what was there already was filled: {refused}"
    yield from _age(newest, alert, now)
    for name, one in found.items():
        error = one.score.get("rmse")
        # by the same fitted method, for another may be better or worse for good
        past = usual(lines, state, name, one.model, alert)
        if past is not None and error is not None and error > past.limit:
            yield (
                f"{name}: RMSE {error:.3g} {one.units} on withheld clouds of the recent images "
                f"leaves its history: the median of {past.nights} nights is {past.median:.3g}, the "
                f"limit {past.limit:.3g}"
            )
        if one.filled_fraction < alert.min_filled_fraction:
            yield (
                f"{name}: {one.filled_fraction:.1%} of the gaps at sea in the recent images "
                f"filled, less than {alert.min_filled_fraction:.1%} (min_filled_fraction)"
            )
        if one.empty:
            yield f"{name}: nothing observed on {', '.join(one.empty)}"


def _age(newest: tuple[str, float | None], alert: Alert, now: datetime) -> Iterator[str]:
    date, days = newest
    if days is None:
        return
    # Images are dated in UTC, as the timestamp is.
    age = now.timestamp() / 86_400 - days
    if age > alert.max_age_days:
        yield (
            f"the newest image is of {date}, {age:.1f} days ago; more than {alert.max_age_days:g} "
            "(max_age_days)"
        )
    if age < -AHEAD:
        yield (
            f"the newest image is of {date}, {-age:.1f} days ahead of this machine's clock; look "
            "at the clock"
        )
