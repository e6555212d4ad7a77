# SPDX-License-Identifier: Apache-2.0
"""Maps of a filled series: one date in all its layers, or several dates before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from sstfill.errors import OptionError, unknown
from sstfill.plot.canvas import LAND_GREY, Canvas, canvas, draw_land, dress
from sstfill.plot.sheet import (
    Sheet,
    check_one_place,
    entitle,
    given_axes,
    new_sheet,
    root_of,
    sheet_of,
)
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
    from matplotlib.figure import Figure, SubFigure

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
    layers: Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    fig: Figure | SubFigure | None = None,
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
        error is left out where the method states none. Default: all four, or ``"filled"`` alone
        where `ax` is a single axes.
    ax
        Draw into these axes, one for each of `layers`. In a notebook, end the line with a
        semicolon, or your figure is shown twice.
    fig
        Draw into this figure or subfigure. Default: a new figure.
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
        An unknown layer or variable, a date outside the series, too few axes, too small a figure.
    InputError
        The dataset is not what `fill()` returns.
    """
    check_one_place(ax, fig)
    whole = view(filled, variable)
    if layers is None:
        layers = LAYERS
        # dtype=object, or NumPy would look for a sequence in the axes.
        if ax is not None and np.size(np.asarray(ax, dtype=object)) == 1:
            layers = ("filled",)
    shown = check_layers(layers, whole)
    step = half_filled(whole.source) if time is None else step_of(whole.field, time)
    now, where, when = whole.at(step), canvas(whole.field), date(whole.field, step)
    if ax is None:
        sheet = new_sheet(where, 1, len(shown), fig)
        entitle(sheet, f"{whole.label}, {when}")
        prefix = ""
    else:
        sheet = _sheet_of_shown(ax, layers, shown)
        prefix = f"{when}: "  # there is no title above these axes
    scale = scale_of(now.field, robust)
    field_axes = []
    for number, (box, layer) in enumerate(zip(sheet.maps, shown, strict=True)):
        box.set_title(prefix + title_of(layer, now), fontsize="medium", parse_math=False)
        prefix = ""  # the date stands above the first map alone
        finish(box, where, now, left=number == 0)
        if layer == "source":
            _draw_source(box, where, now)
        elif layer == "error":
            draw_error(sheet, box, where, now, robust)
        else:
            mesh = draw(box, where, values_of(layer, now), cmap or cmap_of(whole), scale)
            # One bar for observed and filled together: they share their scale.
            field_axes.append(box)
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
    ax: Sequence[Axes] | None = None,
    fig: Figure | SubFigure | None = None,
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
    ax
        Draw into these axes: two rows, a column for each date.
    fig
        Draw into this figure or subfigure. Default: a new figure.
    cmap, robust
        As in `maps`; all dates share one colour scale.

    Returns
    -------
    Figure
        A matplotlib figure; see `save`. It is not shown.

    Raises
    ------
    OptionError
        A date outside the series, or no date at all, too few axes, too small a figure.
    """
    check_one_place(ax, fig)
    whole = view(filled, variable)
    steps = spread(whole.field, n) if times is None else steps_of(whole.field, times)
    where, views = canvas(whole.field), [whole.at(step) for step in steps]
    field = joined([now.field for now in views])
    # Over all dates shown, so that their colours can be compared.
    scale = scale_of(field, robust)
    if ax is None:
        sheet = new_sheet(where, 2, len(steps), fig)
        entitle(sheet, whole.label)
    else:
        sheet = sheet_of(given_axes(ax, 2 * len(steps), "maps"))
    for column, (step, now) in enumerate(zip(steps, views, strict=True)):
        above, below = sheet.maps[column], sheet.maps[len(steps) + column]
        above.set_title(date(whole.field, step), fontsize="medium")
        draw(above, where, values_of("observed", now), cmap or cmap_of(whole), scale)
        mesh = draw(below, where, now.field, cmap or cmap_of(whole), scale)
        finish(above, where, now, left=column == 0, bottom=False)
        finish(below, where, now, left=column == 0)
    sheet.maps[0].set_ylabel("observed")
    sheet.maps[len(steps)].set_ylabel("filled")
    label = with_units(whole.label, whole.units)
    sheet.add_bar(sheet.maps[: len(steps)], mesh, label, field, scale)
    return sheet.figure


def steps_of(field: xr.DataArray, times: Sequence[Label]) -> list[int]:
    """Return the indices of the steps that labels name; `OptionError` where there are none."""
    if not len(times):
        raise OptionError("times is empty; name at least one date, or leave it out")
    return [step_of(field, time) for time in times]


def joined(fields: list[xr.DataArray], dim: str = "time") -> xr.DataArray:
    """Return fields on one grid as one, of which they are the steps."""
    # on one grid by construction: nothing is compared
    return xr.concat(fields, dim, coords="minimal", compat="override", join="override")


def check_layers(layers: Sequence[str], whole: View, known: Sequence[str] = LAYERS) -> list[str]:
    """Check the names of layers, and drop the error where there is none."""
    layers = _names(layers)
    for layer in layers:
        if layer not in known:
            raise unknown("layer", layer, known)
    shown = [layer for layer in layers if layer != "error" or whole.error is not None]
    if not shown:
        reason = "no error is stated for this variable" if layers else "layers is empty"
        raise OptionError(f"{reason}; choose layers from {', '.join(known)}")
    return shown


def _sheet_of_shown(
    ax: Axes | Sequence[Axes], layers: Sequence[str], shown: Sequence[str]
) -> Sheet:
    """Return a sheet of the given axes, with those of layers that are left out hidden."""
    layers = _names(layers)
    visible = []
    for box, layer in zip(given_axes(ax, len(layers), "layers"), layers, strict=True):
        box.set_visible(layer in shown)
        if layer in shown:
            visible.append(box)
    return sheet_of(visible)


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


def error_scale(error: xr.DataArray, robust: bool) -> tuple[float, float]:
    """Return the colour scale of an error, from zero."""
    return 0.0, scale_of(error, robust)[1]


def cmap_of(whole: View) -> str:
    """Return the name of the colour map of a field."""
    name = str(whole.field.attrs.get("standard_name", ""))
    if whole.units in ("°C", "K") or "temperature" in name:
        return TEMPERATURE
    return OTHER


def values_of(layer: str, now: View) -> xr.DataArray:
    """Return what a layer shows of a field."""
    if layer == "observed":
        return now.field.where(now.source == OBSERVED)
    if layer == "error":
        assert now.error is not None
        return now.error
    return now.field


def draw(
    ax: Axes, where: Canvas, values: xr.DataArray, cmap: str, scale: tuple[float, float]
) -> QuadMesh:
    """Draw a field; what is missing stays empty."""
    shown = np.ma.masked_invalid(values.values)
    # rasterized: in a PDF each cell would be a path of its own.
    return ax.pcolormesh(
        where.x, where.y, shown, cmap=cmap, vmin=scale[0], vmax=scale[1], rasterized=True
    )


def draw_error(
    sheet: Sheet,
    ax: Axes,
    where: Canvas,
    now: View,
    robust: bool,
    every: xr.DataArray | None = None,
) -> QuadMesh:
    """Draw one sigma of the filled pixels on a scale that starts at zero, with its colour bar.

    The scale is that of `every`, the errors of all dates, if they are given.
    """
    assert now.error is not None
    errors = now.error if every is None else every
    scale = error_scale(errors, robust)
    mesh = draw(ax, where, now.error, ERROR, scale)
    sheet.add_bar([ax], mesh, with_units("error, 1 σ", now.units), errors, scale)
    return mesh


def _draw_source(ax: Axes, where: Canvas, now: View) -> None:
    """Draw the source of each pixel, with a legend that tells its fraction of the sea."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    ax.pcolormesh(
        where.x,
        where.y,
        now.source.values,
        cmap=ListedColormap(SOURCE_COLOURS),
        # flags are whole numbers: each lies in the middle of its colour
        vmin=-0.5,
        vmax=len(SOURCES) - 0.5,
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
            # A flag other than land was counted, so `sea` is not 0.
            label += f" {_percent(count / sea)}"
        colour = SOURCE_COLOURS[flag]
        patches.append(Patch(facecolor=colour, edgecolor="0.4", linewidth=0.5, label=label))
    # Below the tick labels, whatever the height of the map: in inches.
    height = ax.get_window_extent().height / root_of(ax).dpi
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


def title_of(layer: str, now: View) -> str:
    """Return what stands above the map of a layer."""
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
