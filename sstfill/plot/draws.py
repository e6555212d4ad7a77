# SPDX-License-Identifier: Apache-2.0
"""Maps of some members of a filled series beside the filled field and its error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from sstfill.errors import InputError, OptionError
from sstfill.fields import grid
from sstfill.fields.ancillary import MEMBER
from sstfill.plot.canvas import canvas
from sstfill.plot.maps import cmap_of, draw, draw_error, finish, scale_of
from sstfill.plot.sheet import entitle, new_sheet
from sstfill.plot.view import Label, date, half_filled, step_of, view, with_units

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def members(
    filled: xr.Dataset,
    *,
    variable: str | None = None,
    time: Label | None = None,
    n: int = 4,
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

    Returns
    -------
    Figure
        A matplotlib figure; see `save`. It is not shown.

    Raises
    ------
    OptionError
        An unknown variable, a date outside the series, `n` below 1.
    InputError
        The dataset is not what `fill()` returns, or has no members of the variable.
    """
    if n < 1:
        raise OptionError(f"n is {n}; choose at least 1 member")
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
    both = xr.concat(
        list(shown.values()), MEMBER, coords="minimal", compat="override", join="override"
    )
    scale = scale_of(both, robust)
    sheet = new_sheet(where, 1, count + 1 + (now.error is not None))
    entitle(sheet, f"{whole.label}, {date(whole.field, step)}")
    for ax, (title, values) in zip(sheet.maps, shown.items(), strict=False):
        ax.set_title(title, fontsize="medium")
        mesh = draw(ax, where, values, cmap or cmap_of(whole), scale)
        finish(ax, where, now, left=title == "filled")
    label = with_units(whole.label, whole.units)
    sheet.add_bar(sheet.maps[: count + 1], mesh, label, both, scale)
    if now.error is not None:
        ax = sheet.maps[-1]
        ax.set_title("error of the fill", fontsize="medium")
        finish(ax, where, now, left=False)
        draw_error(sheet, ax, where, now, robust)
    return sheet.figure
