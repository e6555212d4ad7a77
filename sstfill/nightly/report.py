# SPDX-License-Identifier: Apache-2.0
"""The report of a night: a page for people, ``latest.json`` for machines, the history; each whole
or not at all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sstfill import config, io
from sstfill.archive.job import FillJob
from sstfill.errors import SstfillError
from sstfill.io.atomic import atomic_path
from sstfill.nightly import history
from sstfill.nightly.history import usual
from sstfill.nightly.night import Night
from sstfill.nightly.page import Panel, page
from sstfill.nightly.pictures import map_of_newest, score_chart
from sstfill.nightly.recipe import NightlyRecipe
from sstfill.version import __version__

PAGE, LATEST, HISTORY = "index.html", "latest.json", "history.jsonl"
MAPS = 4
"""Variables at most of which a map is drawn."""
ORIGIN = (
    "source",
    "dataset_id",
    "dataset_version",
    "references",
    "date_modified",
    "sstfill_version",
)
"""Attributes of the archive that the report repeats."""


def write(recipe: NightlyRecipe, night: Night, lines: list[dict[str, Any]]) -> None:
    """Write history, JSON and page of a night, in this order.

    Parameters
    ----------
    recipe, night
        What was to be done, and what became of it.
    lines
        The history, tonight's line at its end.
    """
    folder = recipe.report
    history.write(folder / HISTORY, lines)
    origin = provenance(recipe, night)
    limits = {
        name: usual(lines, night.state, name, one.model, recipe.alert)
        for name, one in night.found.items()
    }
    told = night.to_dict() | {
        "usual": {n: vars(u) for n, u in limits.items() if u},
        "provenance": origin,
    }
    _put(folder / LATEST, json.dumps(config.plain(told), indent=1, allow_nan=False) + "\n")
    panels = []
    for number, (name, past) in enumerate(limits.items()):
        picture, note = map_of_newest(recipe.filled, name) if number < MAPS else ("", "")
        panels.append(Panel(name, picture, note, score_chart(lines, name, past), past))
    _put(folder / PAGE, page(recipe, night, lines, panels, origin))


def provenance(recipe: NightlyRecipe, night: Night) -> dict[str, Any]:
    """By what the output was made, of what."""
    told: dict[str, Any] = {
        "sstfill": __version__,
        "python": sys.version.split()[0],
        "recipe": recipe.title,
        "archive": str(recipe.archive),
        "filled": str(recipe.filled),
        "download": None if recipe.download is None else recipe.download.name,
        "method": recipe.method.name,
        "options": config.options(recipe.method),
        "seed": recipe.fill.seed,
        "models": {name: one.model for name, one in night.found.items()},
    }
    try:
        told["filled by"] = (FillJob(recipe.filled).finished or {}).get("version")
        with io.open(recipe.archive, chunks={}) as ds:
            told |= {f"archive: {k}": ds.attrs[k] for k in ORIGIN if ds.attrs.get(k)}
    except SstfillError as error:  # a night that failed may be about this very thing
        told["archive: cannot be read"] = str(error)
    return dict(config.plain(told))


def _put(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(
            text, encoding="utf-8", errors="backslashreplace"
        )  # a path may be no UTF-8
