# SPDX-License-Identifier: Apache-2.0
"""Figures about a filled series as a whole: its sources in time, methods tried, stated errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sstfill.plot.maps import SOURCE_COLOURS, SOURCES
from sstfill.plot.sheet import new_figure
from sstfill.plot.view import LAND, NOT_FILLED, OBSERVED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHOSEN, TRIED = "#0072B2", "#BBBBBB"
NOT_FILLED_GREY = "#777777"
"""White, as maps have it, would not be seen beside the margin."""
TICKS = 6


def sources_in_time(counts: NDArray[np.integer], dates: Sequence[str]) -> Figure:
    """Draw which fraction of the sea was observed, filled and left empty, image by image.

    Parameters
    ----------
    counts
        Pixels by image and flag, shape ``(times, 5)``; see `sstfill.plot.view`.
    dates
        Labels of the images.
    """
    figure = new_figure(8.6, 2.4, "constrained")
    ax = figure.subplots()
    at_sea = [flag for flag in range(len(SOURCES)) if flag != LAND]
    sea = counts[:, at_sea].sum(1)
    fractions = counts / np.maximum(sea, 1)[:, np.newaxis]
    images = np.arange(len(counts))
    below = np.zeros(len(counts))
    for flag in at_sea:
        if not fractions[:, flag].any() and flag != OBSERVED:
            continue
        colour = NOT_FILLED_GREY if flag == NOT_FILLED else SOURCE_COLOURS[flag]
        above = below + fractions[:, flag]
        # One step an image, without the seams between bars.
        ax.fill_between(
            np.append(images, len(images)) - 0.5,
            np.append(below, below[-1]),
            np.append(above, above[-1]),
            step="post",
            color=colour,
            linewidth=0,
            label=SOURCES[flag],
        )
        below = above
    ax.set(xlim=(-0.5, len(images) - 0.5), ylim=(0, 1), ylabel="fraction of the sea")
    ticks = np.unique(np.linspace(0, len(images) - 1, TICKS).round().astype(int))
    # A date is drawn as it is: a "$" in the file is no formula.
    ax.set_xticks(ticks, [dates[tick] for tick in ticks], fontsize="small", parse_math=False)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize="small")
    _clean(ax)
    return figure


def methods_tried(errors: Mapping[str, float], chosen: Sequence[str], units: str) -> Figure:
    """Draw the RMSE of each method on withheld clouds, the least on top; those chosen in blue."""
    figure = new_figure(6.0, 0.7 + 0.3 * len(errors), "constrained")
    ax = figure.subplots()
    worst_first = sorted(errors, key=lambda name: -errors[name])
    for row, name in enumerate(worst_first):
        ax.barh(row, errors[name], height=0.7, color=CHOSEN if name in chosen else TRIED)
        ax.text(errors[name], row, f" {errors[name]:.3g}", va="center", fontsize="small")
    ax.set_yticks(range(len(errors)), worst_first, parse_math=False)
    ax.margins(x=0.12)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"RMSE {units}".strip(), fontsize="small", parse_math=False)
    _clean(ax)
    return figure


def calibration(coverage: Mapping[float, float]) -> Figure:
    """Draw how many withheld values lie inside the intervals, against how many should."""
    figure = new_figure(3.4, 3.2, "constrained")
    ax = figure.subplots()
    stated = sorted(coverage)
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    ax.plot(stated, [coverage[level] for level in stated], "o-", color=CHOSEN)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated", ylabel="found on withheld clouds")
    ax.set_aspect("equal")
    ax.text(0.97, 0.05, "below: errors too small", ha="right", fontsize="small", color="0.4")
    _clean(ax)
    return figure


def _clean(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(color="0.7", labelcolor="0.35", labelsize="small")
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
