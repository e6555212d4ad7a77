# SPDX-License-Identifier: Apache-2.0
"""The report of a night: a page for people, ``latest.json`` for machines, and the history."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sstfill import config, io
from sstfill.archive.job import FillJob
from sstfill.errors import SstfillError
from sstfill.io.output.atomic import atomic_path
from sstfill.nightly import history
from sstfill.nightly.history import usual
from sstfill.nightly.night import Night
from sstfill.nightly.page import Panel, page
from sstfill.nightly.pictures import map_of_newest, score_chart
from sstfill.nightly.recipe import NightlyRecipe
from sstfill.report.pictures import Picture
from sstfill.version import __version__

PAGE, LATEST, HISTORY = "index.html", "latest.json", "history.jsonl"
MAPS = 4
"""Most variables of which a map is drawn."""
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
    """Write history, JSON and page of a night, in this order, each atomically.

    Parameters
    ----------
    recipe, night
        The recipe of the night, and its outcome.
    lines
        The history, tonight's line at its end.
    """
    folder = recipe.report
    # The history first: it is what the next night reads, and cannot be made again.
    history.write(folder / HISTORY, lines)
    origin = provenance(recipe, night)
    ranges, panels = {}, []
    for number, (name, one) in enumerate(night.found.items()):
        # The lines include tonight's, which is of tonight's state and so left out.
        past = usual(lines, night.state, name, one.model, recipe.alert)
        if past is not None:
            ranges[name] = vars(past)
        shown = map_of_newest(recipe.filled, name) if number < MAPS else Picture()
        panels.append(Panel(name, shown, score_chart(lines, name, past), past))
    latest = config.plain(night.to_dict() | {"usual": ranges, "provenance": origin})
    _write_text(folder / LATEST, json.dumps(latest, indent=1, allow_nan=False) + "\n")
    _write_text(folder / PAGE, page(recipe, night, lines, panels, origin))


def provenance(recipe: NightlyRecipe, night: Night) -> dict[str, Any]:
    """Return which versions, methods and inputs made the output."""
    made: dict[str, Any] = {
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
        request = FillJob(recipe.filled).finished
        if request is not None:
            made["filled by"] = request["version"]
        with io.open(recipe.archive, chunks={}) as ds:
            for key in ORIGIN:
                if ds.attrs.get(key):
                    made[f"archive: {key}"] = ds.attrs[key]
    except SstfillError as error:
        # An archive that cannot be read may be why the night failed: the report must not.
        made["archive: cannot be read"] = str(error)
    return dict(config.plain(made))


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        # Paths in it may not be valid UTF-8.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
