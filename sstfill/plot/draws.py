# SPDX-License-Identifier: Apache-2.0
"""Maps of some members of a filled series beside the filled field and its error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import xarray as xr

from sstfill.errors import InputError, OptionError
from sstfill.fields import grid
from sstfill.fields.ancillary import MEMBER
from sstfill.plot.canvas import canvas
from sstfill.plot.maps import cmap_of, draw, draw_error, finish, joined, scale_of
from sstfill.plot.sheet import check_one_place, entitle, given_axes, new_sheet, sheet_of
from sstfill.plot.view import Label, date, half_filled, step_of, view, with_units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def members(
    filled: xr.Dataset,
    *,
    variable: str | None = None,
    time: Label | None = None,
    n: int = 4,
    ax: Sequence[Axes] | None = None,
    fig: Figure | SubFigure | None = None,
    cmap: str | None = None,
    robust: bool = True,
) -> Figure:
    """Draw one date in a row of maps: filled, the first members, expected error.

    Parameters
    ----------
    filled
        What ``fill(..., members=...)`` returned.
    variable, time, cmap, robust
        As in `sstfill.plot.maps`. The filled field and its members share one colour scale.
    n
        How many members, or all where there are fewer.
    ax
        Draw into these axes: one for the filled field, one for each member, and one for the error
        if the method states one.
    fig
        Draw into this figure or subfigure. Default: a new figure.

    Returns
    -------
    Figure
        A matplotlib figure; see `save`. It is not shown.

    Raises
    ------
    OptionError
        An unknown variable, a date outside the series, `n` below 1, too few axes, too small a
        figure.
    InputError
        The dataset is not what `fill()` returns, or has no members of the variable.
    """
    if n < 1:
        raise OptionError(f"n is {n}; choose at least 1 member")
    check_one_place(ax, fig)
    whole = view(filled, variable)
    name = f"{whole.field.name}_members"
    if name not in filled:
        raise InputError(
            f"there is no {name!r} among {', '.join(map(str, filled.data_vars))}; fill with "
            "members=20, say"
        )
    step = half_filled(whole.source) if time is None else step_of(whole.field, time)
    now, where = whole.at(step), canvas(whole.field)
    count = min(n, filled.sizes[MEMBER])
    shown = {"filled": now.field}
    for k in range(count):
        member = grid.standardise(filled[name].isel({MEMBER: k}))
        shown[f"member {k}"] = member.isel(time=step).load()
    # one colour scale for all: members are compared with each other
    both = joined(list(shown.values()), MEMBER)
    scale = scale_of(both, robust)
    maps = count + 1 + (now.error is not None)
    if ax is None:
        sheet = new_sheet(where, 1, maps, fig)
        entitle(sheet, f"{whole.label}, {date(whole.field, step)}")
    else:
        sheet = sheet_of(given_axes(ax, maps, "maps"))
    for box, (title, values) in zip(sheet.maps, shown.items(), strict=False):
        box.set_title(title, fontsize="medium")
        mesh = draw(box, where, values, cmap or cmap_of(whole), scale)
        finish(box, where, now, left=title == "filled")
    label = with_units(whole.label, whole.units)
    sheet.add_bar(sheet.maps[: count + 1], mesh, label, both, scale)
    if now.error is not None:
        box = sheet.maps[-1]
        box.set_title("error of the fill", fontsize="medium")
        finish(box, where, now, left=False)
        draw_error(sheet, box, where, now, robust)
    return sheet.figure
