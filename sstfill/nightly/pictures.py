# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report: maps of the newest image, and the history of a score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sstfill import io, plot
from sstfill.fields import grid
from sstfill.io.untrusted import guard
from sstfill.nightly.history import Usual
from sstfill.plot.sheet import new_figure
from sstfill.report.pictures import Picture, thinned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NIGHTS = 60
"""Nights at most in a chart."""
BLUE, RED, GREY = "#0072b2", "#b3261e", "#999999"


def map_of_newest(filled: Path, name: str) -> Picture:
    """Draw the newest image: observed, filled, expected error, source."""
    try:
        with io.reading(filled), guard.open_zarr(filled, chunks=None) as held:
            few, note = thinned(held, name)
            newest = few.isel({str(grid.axes(held[name]).dims[0]): slice(-1, None)}).load()
        return Picture.of(plot.maps(newest, variable=name, time=0), note)
    except Exception as error:
        return Picture.missing("map", name, error)


def score_chart(lines: Sequence[dict[str, Any]], name: str, usual: Usual | None) -> Picture:
    """Draw the RMSE of the last nights; tonight's is the last one."""
    scored = []
    for line in lines:
        found = line["found"].get(name)
        if found is not None and found["score"].get("rmse") is not None:
            when = line.get("newest") or line["started"]
            scored.append((when[:10], found["score"]["rmse"], found["model"]))
    scored = scored[-NIGHTS:]
    if not scored:
        return Picture()
    try:
        return Picture.of(_chart(scored, usual))
    except Exception as error:
        return Picture.missing("chart", name, error)


def _chart(scored: list[tuple[str, float, str]], usual: Usual | None) -> Figure:
    """Draw nights (date, RMSE, model) with the usual range; grey by another model than the last."""
    figure = new_figure(8.6, 2.4, "constrained")
    ax = figure.subplots()
    nights = range(len(scored))
    errors = [error for _, error, _ in scored]
    ax.plot(nights, errors, color=BLUE, linewidth=1.2)
    for night, (_, error, model) in enumerate(scored):
        colour = BLUE if model == scored[-1][2] else GREY
        if usual is not None and error > usual.limit:
            colour = RED
        size = 7 if night == len(scored) - 1 else 4
        ax.plot(night, error, "o", color=colour, markersize=size)
    top = max(errors)
    if usual is not None:
        top = max(top, usual.limit)
        ax.axhline(usual.median, color="0.4", linewidth=0.8)
        ax.axhline(usual.limit, color=RED, linewidth=0.8, linestyle="--")
        inside = ax.get_yaxis_transform()  # x as a fraction of the width, y in units of the data
        for value, word, colour in ((usual.median, "median", "0.4"), (usual.limit, "limit", RED)):
            text = f"{word} {value:.3g}"
            ax.text(0.01, value, text, color=colour, va="bottom", transform=inside)
    # room for the words at the limit; errors that are all 0 have no extent
    ax.set_ylim(0, 1.15 * top or 1.0)
    ax.set_xlim(-0.5, len(scored) - 0.5)
    ticks = sorted({0, len(scored) // 2, len(scored) - 1})
    # A date is drawn as it is: a "$" in the file is no formula.
    ax.set_xticks(ticks, [scored[tick][0] for tick in ticks], fontsize="small", parse_math=False)
    ax.tick_params(color="0.7", labelcolor="0.35", labelsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    return figure
