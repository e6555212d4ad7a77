# SPDX-License-Identifier: Apache-2.0
"""The figure of a scorecard: the errors of each method, by circumstance, and their coverage.

Members, where they were scored, get four panels more.
"""

from __future__ import annotations

import textwrap
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from sstfill.errors import InputError
from sstfill.plot.sheet import check_one_place, given_axes, new_figure, root_of
from sstfill.plot.view import printed, with_units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's colour-blind safe set without yellow; markers tell the lines apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_DECIBELS = 25.0
SPLITS = ("cloud", "distance", "lag")
LEVEL = 0.8
"""Interval whose coverage is drawn for means over patches."""
LINE = 26
"""Characters of a line in an empty panel."""
TOLERANCE = 1.0
"""Decibels about the truth that are shaded in the panel of spectra."""


def scorecard(card: Any, ax: Axes | None = None, fig: Figure | SubFigure | None = None) -> Figure:
    """Draw a scorecard: errors, pooled and by circumstance, and the coverage of stated errors.

    Parameters
    ----------
    card
        A scorecard, or its dataset.
    ax
        Draw only the pooled errors, into this. In a notebook, end the line with a semicolon, or
        your figure is shown twice.
    fig
        Draw all panels into this figure or subfigure; one with ``layout="constrained"`` keeps
        their labels apart. Default: a new figure of five panels, and four more where members were
        scored.

    Returns
    -------
    Figure
        A matplotlib figure; see `save`. It is not shown.

    Raises
    ------
    InputError
        `card` is not a scorecard.
    OptionError
        Both `ax` and `fig` are given, or several axes.
    """
    check_one_place(ax, fig)
    data = card if isinstance(card, xr.Dataset) else getattr(card, "data", None)
    if not isinstance(data, xr.Dataset) or not {"rmse", "mae", "method"} <= set(data.variables):
        raise InputError(f"{type(card).__name__} is not a scorecard; pass what score() returned")
    if ax is not None:
        (box,) = given_axes(ax, 1, "panel")
        _pooled(box, data)
        return root_of(box)
    # Thirds above and quarters below are both whole numbers of twelfths.
    rows: list[Any] = [
        ["pooled"] * 4 + ["cloud"] * 4 + ["distance"] * 4,
        ["pooled"] * 4 + ["lag"] * 4 + ["coverage"] * 4,
    ]
    if "rank_histogram" in data:
        rows.append(["ranks"] * 3 + ["patches"] * 3 + ["gradients"] * 3 + ["spectrum"] * 3)
    part = fig
    if part is None:
        part = new_figure(11.0, 2.8 * len(rows), "constrained")
    boxes = part.subplot_mosaic(rows)
    _pooled(boxes["pooled"], data)
    for split in SPLITS:
        _split(boxes[split], data, split)
    _coverage(boxes["coverage"], data)
    if "rank_histogram" in data:
        _ranks(boxes["ranks"], data)
        _patches(boxes["patches"], data)
        _gradients(boxes["gradients"], data)
        _spectrum(boxes["spectrum"], data)
    # a "$" in the name of a variable is no formula
    part.suptitle(_heading(data), parse_math=False)
    return root_of(part)


def _methods(data: xr.Dataset) -> list[tuple[str, str, str]]:
    """Return name, colour and marker of each method, the same in every panel."""
    names = map(str, data["method"].values)
    return list(zip(names, cycle(COLOURS), cycle(MARKERS), strict=False))


def _pooled(ax: Axes, data: xr.Dataset) -> None:
    """Draw bars of RMSE (full) and MAE (pale), the least error on top."""
    # A scorecard ranks by the pixels that all methods filled.
    ranking = data.get("common_rmse", data["rmse"])
    if not ranking.notnull().any():
        ranking = data["rmse"]
    # bars are drawn from below: the worst first, so that the best is on top
    order = np.argsort(-ranking.fillna(np.inf).values, kind="stable")
    methods = _methods(data)
    for place, number in enumerate(order):
        # colours go by the order of the scorecard, as in the other panels, not by rank
        _, colour, marker = methods[number]
        one = data.isel(method=number)
        for offset, key, face in ((0.19, "rmse", colour), (-0.19, "mae", _pale(colour))):
            value = float(one[key])
            ax.barh(place + offset, value, height=0.36, color=face)
            end, text = value, f"{value:.3g}"
            if not np.isfinite(value):
                end, text = 0, "unknown"
            label = f" {key.upper()} {text}"
            ax.text(end, place + offset, label, va="center", fontsize="small")
        ax.plot(
            0.04,
            place + 0.19,
            marker,
            color="white",
            markersize=6,
            transform=ax.get_yaxis_transform(),
        )
    ax.set_yticks(range(len(order)), [methods[number][0] for number in order])
    # room for the numbers at the ends of the bars
    ax.margins(x=0.35)
    ax.set_xlim(left=0)
    ax.set_xlabel(_error_label("error", data), parse_math=False)
    _clean(ax, "all withheld pixels", grid="x")


def _pale(colour: str) -> tuple[float, float, float]:
    """Mix a colour with white; unlike a transparent one, it hides the grid."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return 0.45 * red + 0.55, 0.45 * green + 0.55, 0.45 * blue + 0.55


def _split(ax: Axes, data: xr.Dataset, split: str) -> None:
    """Draw the RMSE of each method against the bins of one circumstance."""
    key, bins = f"rmse_by_{split}", f"{split}_bin"
    if key not in data or not np.isfinite(data[key]).any():
        _empty(ax, f"no RMSE by {split}")
        return
    labels, units = _bins(data[bins])
    for number, (name, colour, marker) in enumerate(_methods(data)):
        values = data[key].isel(method=number).values
        ax.plot(range(len(labels)), values, color=colour, marker=marker, markersize=5, label=name)
    ax.set_xticks(range(len(labels)), labels, fontsize="small")
    ax.set_ylim(bottom=0)
    ax.set_ylabel(_error_label("RMSE", data), parse_math=False)
    ax.set_xlabel(
        with_units(str(data[bins].attrs.get("long_name", split)), units), fontsize="small"
    )
    _clean(ax, f"by {split}")


def _coverage(ax: Axes, data: xr.Dataset) -> None:
    """Draw the fraction of truths inside the stated interval against the stated fraction."""
    if "coverage" not in data or not np.isfinite(data["coverage"]).any():
        _empty(ax, "no method states an error")
        return
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    levels = data["level"].values.astype(float)
    for number, (name, colour, marker) in enumerate(_methods(data)):
        found = data["coverage"].isel(method=number).values
        if np.isfinite(found).any():
            ax.plot(levels, found, color=colour, marker=marker, markersize=5, label=name)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated coverage", ylabel="found coverage")
    ax.text(
        0.97, 0.06, "below the line: errors too small", ha="right", fontsize="small", color="0.4"
    )
    _clean(ax, "stated errors")


def _ranks(ax: Axes, data: xr.Dataset) -> None:
    """Draw how often the truth lies above so many members, as a multiple of what is expected."""
    ranks = data["rank"].values
    ax.axhline(1, color="0.6", linewidth=1, linestyle="--")
    for number, (name, colour, _) in enumerate(_methods(data)):
        fraction = data["rank_histogram"].isel(method=number).values
        if np.isfinite(fraction).any():
            ax.step(ranks, fraction * ranks.size, color=colour, where="mid", label=name)
    ax.set_ylim(bottom=0)
    ax.set(xlabel="members below the truth", ylabel="frequency / expected")
    _clean(ax, "ranks of the truth")


def _patches(ax: Axes, data: xr.Dataset) -> None:
    """Draw the coverage of means over patches, by draws and as if errors were independent."""
    coverage = data[["patch_coverage", "patch_coverage_independent"]].sel(level=LEVEL)
    if not np.isfinite(coverage["patch_coverage"]).any():
        _empty(ax, "no patch of withheld pixels is a square")
        return
    sides = data["patch"].values
    ax.axhline(LEVEL, color="0.6", linewidth=1, linestyle="--")
    for number, (name, colour, marker) in enumerate(_methods(data)):
        one = coverage.isel(method=number)
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5}
        ax.plot(range(len(sides)), one["patch_coverage"], label=name, **look)
        ax.plot(
            *(range(len(sides)), one["patch_coverage_independent"]),
            linestyle=":",
            markerfacecolor="white",
            **look,
        )
    ax.set_xticks(range(len(sides)), [f"{side}" for side in sides])
    ax.set(
        ylim=(0, 1),
        xlabel="side of the patch (pixels)",
        ylabel=f"found in the {100 * LEVEL:.0f} % interval",
    )
    _note(ax, "dotted: independent errors", "left")
    _clean(ax, "means over patches")


def _gradients(ax: Axes, data: xr.Dataset) -> None:
    """Draw quantiles of the gradient of draws (full) and mean (dotted) against the truth's."""
    if not np.isfinite(data["gradient_truth"]).any():
        _empty(ax, "no neighbouring pixels are withheld")
        return
    most = float(data["gradient_truth"].max())
    ax.plot([0, most], [0, most], color="0.6", linewidth=1, linestyle="--")
    for number, (name, colour, marker) in enumerate(_methods(data)):
        one = data.isel(method=number)
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5}
        if np.isfinite(one["gradient_draws"]).any():
            ax.plot(one["gradient_truth"], one["gradient_draws"], label=name, **look)
        ax.plot(
            *(one["gradient_truth"], one["gradient_mean"]),
            linestyle=":",
            markerfacecolor="white",
            **look,
        )
    ax.set_xlabel("gradient of the truth, by quantile")
    ax.set_ylabel("gradient of the fill")
    _note(ax, "dotted: the mean", "left")
    _clean(ax, "gradients")


def _spectrum(ax: Axes, data: xr.Dataset) -> None:
    """Draw the power of draws (full) and mean (dotted) over that of the truth."""
    if "power_ratio_mean" not in data or not np.isfinite(data["power_ratio_mean"]).any():
        _empty(ax, "no spectrum: the truth, or every estimate, has gaps")
        return
    ax.axhspan(-TOLERANCE, TOLERANCE, color="0.92")
    for number, (name, colour, _) in enumerate(_methods(data)):
        one = data.isel(method=number)
        ax.plot(one["wavelength"], one["power_ratio_draws"], color=colour, label=name)
        ax.plot(one["wavelength"], one["power_ratio_mean"], color=colour, linestyle=":")
    ax.set_xscale("log")
    ticks = [2, 4, 8, 16, 32, 64, 128]
    ax.set_xticks(ticks, [f"{tick}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlim(2, float(data["wavelength"].max()))
    # White noise on a smooth field is off by tens of decibels, which would flatten all others.
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, -MOST_DECIBELS), min(high, MOST_DECIBELS))
    ax.set(xlabel="wavelength (pixels)", ylabel="power / truth (dB)")
    _note(ax, "dotted: the mean", "right")
    _clean(ax, "power by wavelength")


def _heading(data: xr.Dataset) -> str:
    attrs = data.attrs
    heading = f"{attrs.get('variable', 'field')} under withheld clouds"
    details = []
    if "fraction" in attrs:
        if "n_withheld" in attrs:
            details.append(f"{attrs['n_withheld']:,} pixels")
        details.append(f"{float(attrs['fraction']):.1%} of the observations")
    if "seed" in attrs:
        details.append(f"seed {attrs['seed']}")
    if details:
        return f"{heading}: {', '.join(details)}"
    return heading


def _error_label(label: str, data: xr.Dataset) -> str:
    return with_units(label, printed(str(data.attrs.get("units", ""))))


def _bins(bins: xr.DataArray) -> tuple[list[str], str]:
    """Return the labels of bins and their units; units that all labels end with stand once."""
    labels = []
    for value in bins.values:
        is_number = isinstance(value, float | np.floating)
        labels.append(f"{value:g}" if is_number else str(value))
    parts = [label.rpartition(" ") for label in labels]
    ends = {end for _, _, end in parts}
    if len(ends) == 1 and all(space for _, space, _ in parts):
        return [start for start, _, _ in parts], ends.pop()
    return labels, str(bins.attrs.get("units", ""))


def _note(ax: Axes, text: str, side: Literal["left", "right"]) -> None:
    place = {"left": 0.03, "right": 0.97}[side]
    ax.text(
        *(place, 0.97, text),
        ha=side,
        va="top",
        fontsize="small",
        color="0.4",
        transform=ax.transAxes,
    )


def _empty(ax: Axes, text: str) -> None:
    ax.set_axis_off()
    lines = textwrap.fill(text, LINE)
    note = ax.text(0.5, 0.5, lines, ha="center", va="center", color="0.4", transform=ax.transAxes)
    # A text wider than its panel would make the layout give up all panels.
    note.set_in_layout(False)


def _clean(ax: Axes, title: str, grid: Literal["both", "x"] = "both") -> None:
    ax.set_title(title, fontsize="medium", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
