# SPDX-License-Identifier: Apache-2.0
"""The page of a report: one HTML file, rendered from ``page.html.jinja`` beside this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sstfill.nightly.history import Usual
from sstfill.nightly.night import Night
from sstfill.nightly.recipe import NightlyRecipe
from sstfill.report.page import in_words, template
from sstfill.report.pictures import Picture

TEMPLATE = Path(__file__).with_name("page.html.jinja")
TABLE = 30
"""Nights in the table."""
HEADLINE = {"fine": "Fine", "attention": "Needs attention", "failed": "Failed"}


@dataclass(frozen=True)
class Panel:
    """The part of the page about one variable."""

    name: str
    map: Picture
    chart: Picture
    usual: Usual | None


def page(
    recipe: NightlyRecipe,
    night: Night,
    lines: Sequence[dict[str, Any]],
    panels: Sequence[Panel],
    provenance: dict[str, Any],
) -> str:
    """Render the page; `lines` is the history with tonight's line at its end."""
    # Newest first, as it is read.
    last = list(reversed(lines[-TABLE:]))
    names: dict[str, None] = {}  # a set that keeps its order
    for line in last:
        names |= dict.fromkeys(line["found"])
    return template(TEMPLATE).render(
        recipe=recipe,
        night=night,
        headline=HEADLINE[night.status],
        made=_night_of_state(night, lines),
        panels=panels,
        last=last,
        names=list(names),
        provenance=in_words(provenance),
    )


def _night_of_state(night: Night, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the line of the night in which the output became what it is."""
    counts = {"new", "revised", "influenced", "units", "made"}
    for line in lines:
        days = line.get("days", {})
        # Lines of failed nights and of earlier versions lack some of them.
        complete = counts <= days.keys() and "seconds" in line
        if line["state"] == night.state and complete and days["made"]:
            return line
    return lines[-1]
