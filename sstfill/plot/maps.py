# SPDX-License-Identifier: Apache-2.0
"""Maps of a filled series: one date in all its layers, or several dates before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from sstfill.errors import OptionError, unknown
from sstfill.plot.canvas import LAND_GREY, Canvas, canvas, draw_land, dress
from sstfill.plot.sheet import Sheet, entitle, new_sheet
from sstfill.plot.view import (
    LAND,
    OBSERVED,
    Label,
    View,
    date,
    half_filled,
    spread,
    step_of,
    view,
    with_units,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

LAYERS = ("observed", "filled", "error", "source")
SOURCES = ("observed", "filled", "not filled", "withheld", "land")
# Paul Tol's high-contrast set with a muted blue
SOURCE_COLOURS = ("#4477AA", "#DDAA33", "#FFFFFF", "#BB5566", LAND_GREY)
TEMPERATURE, OTHER, ERROR = "plasma", "cividis", "viridis"


def maps(
    filled: xr.Dataset,
    *,
    variable: str | None = None,
    time: Label | None = None,
    layers: Sequence[str] = LAYERS,
    axes: Sequence[Axes] | None = None,
    cmap: str | None = None,
    robust: bool = True,
) -> Figure:
    """Draw one date in a row of maps: observed, filled, expected error, source.

    The maps need no network: the coast is the edge of the data's own sea mask.

    Parameters
    ----------
    filled
        What `fill()` returned.
    variable
        Which variable; needed only where several were filled.
    time
        A date (the nearest step is taken) or the index of a step. Default: the step of whose sea
        the filled fraction is nearest one half.
    layers
        Some of ``"observed"``, ``"filled"``, ``"error"``, ``"source"``, in the order wanted. The
        error is left out where the method states none.
    axes
        Draw into these, one for each of `layers`. Default: a new figure.
    cmap
        Name of a matplotlib colour map for the field. Default: plasma for temperature, else
        cividis.
    robust
        Colour scale from the 2nd to the 98th percentile instead of from the least to the greatest
        value.

    Returns
    -------
    Figure
        A matplotlib figure; see `save`. It is not shown.

    Raises
    ------
    OptionError
        An unknown layer or variable, a date outside the series, too few axes.
    InputError
        The dataset is not what `fill()` returns.
    """
    whole = view(filled, variable)
    shown = _layers(layers, whole)
    step = half_filled(whole.source) if time is None else step_of(whole.field, time)
    now, where, when = whole.at(step), canvas(whole.field), date(whole.field, step)
    if axes is None:
        sheet = new_sheet(where, 1, len(shown))
        entitle(sheet, f"{whole.label}, {when}")
        prefix = ""
    else:
        sheet = _given(axes, layers, shown)
        prefix = f"{when}: "  # there is no title above these axes
    scale = scale_of(now.field, robust)
    field_axes = []
    for number, (ax, layer) in enumerate(zip(sheet.maps, shown, strict=True)):
        ax.set_title(prefix + _title(layer, now), fontsize="medium")
        prefix = ""
        finish(ax, where, now, left=number == 0)
        if layer == "source":
            _draw_source(ax, where, now)
        elif layer == "error":
            draw_error(sheet, ax, where, now, robust)
        else:
            values = now.field
            if layer == "observed":
                values = values.where(now.source == OBSERVED)
            mesh = draw(ax, where, values, cmap or cmap_of(whole), scale)
            field_axes.append(ax)
    if field_axes:
        label = with_units(whole.label, whole.units)
        sheet.add_bar(field_axes, mesh, label, now.field, scale)
    return sheet.figure


def panels(
    filled: xr.Dataset,
    *,
    variable: str | None = None,
    times: Sequence[Label] | None = None,
    n: int = 6,
    cmap: str | None = None,
    robust: bool = True,
) -> Figure:
    """Draw a series in time: observed above filled, one column for each date.

    Parameters
    ----------
    filled
        What `fill()` returned.
    variable
        Which variable; needed only where several were filled.
    times
        Dates or indices of steps. Default: `n` steps evenly spread over the series.
    n
        How many dates where `times` names none.
    cmap, robust
        As in `maps`; all dates share one colour scale.

    Returns
    -------
    Figure
        A matplotlib figure; see `save`. It is not shown.

    Raises
    ------
    OptionError
        A date outside the series, or no date at all.
    """
    whole = view(filled, variable)
    if times is None:
        steps = spread(whole.field, n)
    else:
        steps = [step_of(whole.field, time) for time in times]
    if not steps:
        raise OptionError("times is empty; name at least one date, or leave it out")
    where, views = canvas(whole.field), [whole.at(step) for step in steps]
    field = xr.concat(
        [now.field for now in views], "time", coords="minimal", compat="override", join="override"
    )
    scale = scale_of(field, robust)
    sheet = new_sheet(where, 2, len(steps))
    entitle(sheet, whole.label)
    for column, (step, now) in enumerate(zip(steps, views, strict=True)):
        above, below = sheet.maps[column], sheet.maps[len(steps) + column]
        above.set_title(date(whole.field, step), fontsize="medium")
        draw(above, where, now.field.where(now.source == OBSERVED), cmap or cmap_of(whole), scale)
        mesh = draw(below, where, now.field, cmap or cmap_of(whole), scale)
        finish(above, where, now, left=column == 0, bottom=False)
        finish(below, where, now, left=column == 0)
    sheet.maps[0].set_ylabel("observed")
    sheet.maps[len(steps)].set_ylabel("filled")
    label = with_units(whole.label, whole.units)
    sheet.add_bar(sheet.maps[: len(steps)], mesh, label, field, scale)
    return sheet.figure


def _layers(layers: Sequence[str], whole: View) -> list[str]:
    """Check the names, and drop the error where there is none."""
    layers = _names(layers)
    for layer in layers:
        if layer not in LAYERS:
            raise unknown("layer", layer, LAYERS)
    shown = [layer for layer in layers if layer != "error" or whole.error is not None]
    if not shown:
        reason = "no error is stated for this variable" if layers else "layers is empty"
        raise OptionError(f"{reason}; choose layers from {', '.join(LAYERS)}")
    return shown


def _given(axes: Sequence[Axes], layers: Sequence[str], shown: Sequence[str]) -> Sheet:
    """Return a sheet of the given axes, with those of layers that are left out hidden."""
    axes, layers = list(axes), _names(layers)
    if len(axes) != len(layers):
        raise OptionError(
            f"{len(axes)} axes for {len(layers)} layers; give one for each of {', '.join(layers)}"
        )
    visible = []
    for ax, layer in zip(axes, layers, strict=True):
        ax.set_visible(layer in shown)
        if layer in shown:
            visible.append(ax)
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    return Sheet(figure, visible, bars=False)


def _names(layers: Sequence[str]) -> list[str]:
    if isinstance(layers, str):
        return [layers]
    return list(layers)


def scale_of(field: xr.DataArray, robust: bool) -> tuple[float, float]:
    """Return the least and greatest value of the colour scale."""
    values = field.values[np.isfinite(field.values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [2, 98] if robust else [0, 100]).tolist()
    if high > low:
        return low, high
    return low - 0.5, high + 0.5  # a field of one value is drawn in the middle of the scale


def cmap_of(whole: View) -> str:
    """Return the name of the colour map of a field."""
    name = str(whole.field.attrs.get("standard_name", ""))
    if whole.units in ("°C", "K") or "temperature" in name:
        return TEMPERATURE
    return OTHER


def draw(
    ax: Axes, where: Canvas, values: xr.DataArray, cmap: str, scale: tuple[float, float]
) -> QuadMesh:
    """Draw a field; what is missing stays empty."""
    shown = np.ma.masked_invalid(values.values)
    return ax.pcolormesh(
        where.x, where.y, shown, cmap=cmap, vmin=scale[0], vmax=scale[1], rasterized=True
    )


def draw_error(sheet: Sheet, ax: Axes, where: Canvas, now: View, robust: bool) -> None:
    """Draw one sigma of the filled pixels on a scale that starts at zero, with its colour bar."""
    assert now.error is not None
    scale = (0.0, scale_of(now.error, robust)[1])
    mesh = draw(ax, where, now.error, ERROR, scale)
    sheet.add_bar([ax], mesh, with_units("error, 1 σ", now.units), now.error, scale)


def _draw_source(ax: Axes, where: Canvas, now: View) -> None:
    """Draw the source of each pixel, with a legend that tells its fraction of the sea."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    ax.pcolormesh(
        where.x,
        where.y,
        now.source.values,
        cmap=ListedColormap(SOURCE_COLOURS),
        vmin=-0.5,
        vmax=4.5,
        rasterized=True,
    )
    counts = [int((now.source == flag).sum()) for flag in range(len(SOURCES))]
    sea = sum(counts) - counts[LAND]
    patches = []
    for flag, count in enumerate(counts):
        if not count:
            continue
        label = SOURCES[flag]
        if flag != LAND:
            label += f" {_percent(count / sea)}"
        colour = SOURCE_COLOURS[flag]
        patches.append(Patch(facecolor=colour, edgecolor="0.4", linewidth=0.5, label=label))
    # Below the tick labels, whatever the height of the map: in inches.
    figure = ax.get_figure(root=True)
    assert figure is not None
    height = ax.get_window_extent().height / figure.dpi
    anchor = (0.5, -0.32 / height)
    ax.legend(
        handles=patches,
        loc="upper center",
        bbox_to_anchor=anchor,
        ncols=2,
        frameon=False,
        fontsize="small",
    )


def _percent(fraction: float) -> str:
    """Return a fraction in percent; only none and all are written as 0% and 100%."""
    if 0 < fraction < 0.01:
        return "<1%"
    if 0.99 < fraction < 1:
        return ">99%"
    return f"{fraction:.0%}"


def _title(layer: str, now: View) -> str:
    if layer == "error":
        return "error of the fill"
    if layer == "source":
        return "source of each pixel"
    if layer == "filled":
        if now.method:
            return f"filled by {now.method}"
        return "filled"
    sea = int((now.source != LAND).sum())
    if not sea:
        return "observed"
    return f"observed, {_percent(int((now.source == OBSERVED).sum()) / sea)} of the sea"


def finish(ax: Axes, where: Canvas, now: View, *, left: bool, bottom: bool = True) -> None:
    """Draw land and coast, and dress the axes."""
    draw_land(ax, where, now.source.values != LAND)
    dress(ax, where, left=left, bottom=bottom)
