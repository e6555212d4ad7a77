# SPDX-License-Identifier: Apache-2.0
"""Figures of the paper's protocol: error against occlusion, and one sequence by all methods."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from sstfill.errors import InputError
from sstfill.plot.scores import COLOURS, MARKERS
from sstfill.plot.sheet import new_figure
from sstfill.plot.view import printed, with_units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Points = Sequence[tuple[float, float]]
PANEL, COLUMNS = (3.9, 3.1), 3  # inches; panels side by side
PICTURE, STEPS = 1.35, 4  # inches; frames of a sequence that are shown
HIDDEN = "0.45"
PAPER_STYLES = (("*", "-"), ("X", "none"))


def by_fraction(results: xr.Dataset, paper: Mapping[str, Points] | None = None) -> Figure:
    """Draw MAE against the fraction of occluded pixels, one panel for each data set under clouds.

    Parameters
    ----------
    results
        Dims ``(row, sequence)``: what `sstfill.evaluation.paper.protocol.run` scored.
    paper
        Points (fraction, MAE in °C) of the paper for each of its methods, drawn as grey references
        in the panels in °C; they were measured on other data.

    Returns
    -------
    Figure
        A matplotlib figure; see `sstfill.plot.save`. It is not shown.

    Raises
    ------
    InputError
        Nothing in the results was scored under clouds of a set fraction.
    """
    rows = np.isfinite(results["fraction"].values) & (results["variant"].values == "sequence")
    data = results.isel(row=rows)
    pairs = zip(data["data"].values.tolist(), data["masks"].values.tolist(), strict=True)
    panels = list(dict.fromkeys(pairs))
    if not panels:
        raise InputError("no row of the results has an occluded fraction; run the operator 'cloud'")
    methods = list(dict.fromkeys(data["method"].values.tolist()))
    across = min(COLUMNS, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(max(PANEL[0] * across, 6.6), PANEL[1] * down + 0.9, "constrained")
    boxes = figure.subplots(down, across, squeeze=False).ravel()
    for ax, (name, masks) in zip(boxes, panels, strict=False):
        one = data.isel(row=(data["data"].values == name) & (data["masks"].values == masks))
        _panel(ax, one, methods, paper or {})
        title = "\n".join(textwrap.wrap(f"{name} under {masks}", 44))
        # data are called after files, and a "$" in a file's name is no formula
        ax.set_title(title, fontsize="small", loc="left", parse_math=False)
    for ax in boxes[len(panels) :]:
        ax.set_axis_off()
    # One legend for all panels: a method has the same handle in each.
    found: dict[str, Any] = {}
    for ax in boxes[: len(panels)]:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside lower center",
        ncols=4 if across == COLUMNS else 2,
        fontsize="small",
        frameon=False,
    )
    return figure


def _panel(ax: Axes, data: xr.Dataset, methods: list[str], paper: Mapping[str, Points]) -> None:
    units = printed(str(data["units"].values[0]))
    if units == "°C":
        styles = cycle(PAPER_STYLES)
        for label, points in paper.items():
            marker, line = next(styles)
            fractions, errors = np.array(points).T
            ax.plot(
                100 * fractions,
                errors,
                color="0.6",
                marker=marker,
                linestyle=line,
                markersize=8,
                linewidth=1,
                zorder=1,
                label=f"paper: {label}, on other data",
            )
    for name, colour, marker in zip(methods, cycle(COLOURS), cycle(MARKERS), strict=False):
        own = data.isel(row=data["method"].values == name)
        if not own.sizes["row"]:
            continue
        # sorted, for the line goes from point to point
        own = own.mean("sequence").sortby("occluded")
        # Colours repeat after the last one; those methods get a dashed line.
        line = "-" if methods.index(name) < len(COLOURS) else "--"
        ax.plot(
            100 * own["occluded"].values,
            own["mae"].values,
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=5,
            label=name,
            zorder=3,
        )
    ax.set(xlim=(0, 100), xlabel="occluded (%)")
    ax.set_ylabel(with_units("MAE", units), parse_math=False)
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)


def strip(sample: xr.DataArray) -> Figure:
    """Draw some frames of a sequence: the truth, its observed part, and the fill of each method.

    Parameters
    ----------
    sample
        Dims ``(picture, time, y, x, channel)``, the pictures ``truth``, ``occluded`` and the
        methods; one channel, or three (red, green, blue) from -1 to 1. NaN is drawn grey.

    Returns
    -------
    Figure
        A matplotlib figure; see `sstfill.plot.save`. It is not shown.

    Raises
    ------
    InputError
        `sample` has other dims, or neither one nor three channels.
    """
    dims = ("picture", "time", "y", "x", "channel")
    if sample.dims != dims or sample.sizes["channel"] not in (1, 3):
        raise InputError(
            f"a sample of {dict(sample.sizes)}; give (picture, time, y, x, channel) with 1 or 3 "
            "channels"
        )
    names = list(map(str, sample["picture"].values))
    steps = np.unique(np.linspace(0, sample.sizes["time"] - 1, STEPS).round().astype(int))
    shape = sample.sizes["y"] / sample.sizes["x"]
    figure = new_figure(
        PICTURE * len(names) + 0.6, (PICTURE * shape + 0.05) * len(steps) + 1.0, "constrained"
    )
    boxes = figure.subplots(len(steps), len(names), squeeze=False)
    truth = sample.sel(picture="truth").values
    # of the truth, so that all pictures compare by colour
    scale = np.nanpercentile(truth, (1, 99))
    for column, name in enumerate(names):
        one = sample.isel(picture=column).values
        for row, step in enumerate(steps):
            image = _draw(boxes[row, column], one[step], scale)
        title = name
        if name not in ("truth", "occluded"):
            title += f"\nMAE {_error(sample, column):.3f}"
        boxes[0, column].set_title(title, fontsize="small")
    for row, step in enumerate(steps):
        boxes[row, 0].set_ylabel(f"frame {step}", fontsize="small")
    if sample.sizes["channel"] == 1:
        bar = figure.colorbar(image, ax=boxes, shrink=0.6, pad=0.01)
        units = printed(str(sample.attrs.get("units", "")))
        bar.set_label(units, fontsize="small", parse_math=False)
        bar.ax.tick_params(labelsize="small")
    attrs = sample.attrs
    figure.suptitle(
        f"{attrs.get('data', 'a sequence')}: {attrs.get('operator', 'occluded')}, "
        f"{attrs.get('occluded', 0):.0%} hidden",
        fontsize="medium",
        parse_math=False,
    )
    return figure


def _draw(ax: Axes, image: np.ndarray, scale: np.ndarray) -> AxesImage:
    """Draw one frame, ``(y, x, channel)``, its first row on top."""
    ax.set_facecolor(HIDDEN)
    ax.set_xticks([])
    ax.set_yticks([])
    if image.shape[-1] == 1:
        return ax.imshow(
            image[..., 0], vmin=scale[0], vmax=scale[1], cmap="viridis", interpolation="nearest"
        )
    # from -1 to 1, as networks take them, to the 0 to 1 of a picture
    colour = np.clip((image + 1) / 2, 0, 1)
    return ax.imshow(np.where(np.isnan(colour), float(HIDDEN), colour), interpolation="nearest")


def _error(sample: xr.DataArray, column: int) -> float:
    """Return the MAE where the truth is occluded."""
    truth = sample.sel(picture="truth").values
    seen = sample.sel(picture="occluded").values
    hidden = np.isnan(seen) & ~np.isnan(truth)
    return float(np.abs(sample.isel(picture=column).values - truth)[hidden].mean())
