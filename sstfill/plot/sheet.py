# SPDX-License-Identifier: Apache-2.0
"""A sheet of equal maps laid out in inches, with a title above and colour bars below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from sstfill.errors import OptionError
from sstfill.plot.canvas import Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure, SubFigure

# inches: around all maps, and between two; of the colour bars below
LEFT, RIGHT, TOP, BOTTOM, GAP = 0.75, 0.30, 0.68, 1.20, 0.28
BAR_ABOVE_EDGE, BAR_HEIGHT, POINT = 0.62, 0.13, 0.16
LEAST = 0.4
"""Inches of a map that is too small to be read."""


@dataclass(frozen=True)
class Sheet:
    """A part of a figure and its maps, row by row.

    `bars`: the sheet has room for colour bars below the maps, and for a title above them.
    """

    part: Figure | SubFigure
    maps: list[Axes]
    bars: bool

    @property
    def figure(self) -> Figure:
        """The whole figure."""
        return root_of(self.part)

    def add_bar(
        self,
        axes: list[Axes],
        mesh: QuadMesh,
        label: str,
        field: xr.DataArray,
        scale: tuple[float, float],
    ) -> None:
        """Add a colour bar below neighbouring maps, pointed where values lie beyond the scale."""
        below, above = bool((field < scale[0]).any()), bool((field > scale[1]).any())
        extends = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
        extend: Any = extends[below, above]
        if self.bars:
            width, box = self._strip(axes)
            # The pointed ends are a fraction of the bar, but ought to be as long on each.
            place: dict[str, Any] = {"cax": self.part.add_axes(box), "extendfrac": POINT / width}
        else:
            # the room comes from the axes that the caller gave
            place = {"ax": axes, "shrink": 0.8}
        bar = self.part.colorbar(mesh, orientation="horizontal", extend=extend, **place)
        # as it is: a "$" in the name or the units of a file is no formula
        bar.set_label(label, fontsize="small", parse_math=False)
        bar.ax.tick_params(labelsize="small")

    def _strip(self, axes: list[Axes]) -> tuple[float, tuple[float, float, float, float]]:
        """Return width in inches and box of a bar below `axes`, at most six inches wide."""
        width, height = _inches(self.part)
        left, right = axes[0].get_position().x0 * width, axes[-1].get_position().x1 * width
        long = min(0.8 * (right - left), 6.0)
        start = (left + right - long) / 2
        return long, (start / width, BAR_ABOVE_EDGE / height, long / width, BAR_HEIGHT / height)


def root_of(part: Figure | SubFigure | Axes) -> Figure:
    """Return the figure that something lies in."""
    # a subfigure's own figure may be a subfigure, too
    found = part.get_figure(root=True)
    assert found is not None
    return found


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Make a figure (sizes in inches) outside pyplot, which would keep it in a global list."""
    try:
        from sstfill.plot.notebook import NotebookFigure
    except ImportError as error:
        raise OptionError(
            "pictures need matplotlib and cartopy; pip install 'sstfill[plot]'"
        ) from error
    return NotebookFigure(figsize=(width, height), layout=layout)


def new_sheet(
    where: Canvas, rows: int, columns: int, part: Figure | SubFigure | None = None
) -> Sheet:
    """Make a sheet of empty maps: in a figure that is given, or in one that suits the region.

    Raises
    ------
    OptionError
        The figure given is too small.
    """
    if part is None:
        # In inches; in a row of its own a map may be larger.
        high, least, most = (3.4, 1.8, 3.6) if rows == 1 else (2.2, 1.3, 2.4)
        across = float(np.clip(high / where.shape, least, most))
        down = float(np.clip(across * where.shape, 0.6, 6.0))
        width = LEFT + columns * across + (columns - 1) * GAP + RIGHT
        height = TOP + rows * down + (rows - 1) * GAP + BOTTOM
        part = new_figure(width, height)
    else:
        width, height = _inches(part)
        across = (width - LEFT - (columns - 1) * GAP - RIGHT) / columns
        down = (height - TOP - (rows - 1) * GAP - BOTTOM) / rows
        if min(across, down) < LEAST:
            raise OptionError(
                f"a figure of {width:.3g} x {height:.3g} inches has no room for {rows} x {columns} "
                "maps; make it larger, or leave fig out"
            )
    if where.projection is not None:
        # The projection finds its class of axes through this import.
        import cartopy.mpl.geoaxes  # noqa: F401
    maps = []
    for row in range(rows):
        for column in range(columns):
            left = (LEFT + column * (across + GAP)) / width
            bottom = (BOTTOM + (rows - 1 - row) * (down + GAP)) / height
            box = (left, bottom, across / width, down / height)
            maps.append(part.add_axes(box, projection=where.projection))
    return Sheet(part, maps, bars=True)


def sheet_of(axes: Sequence[Axes]) -> Sheet:
    """Return a sheet of axes that are given."""
    return Sheet(root_of(axes[0]), list(axes), bars=False)


def given_axes(ax: Axes | Sequence[Axes], needed: int, what: str) -> list[Axes]:
    """Return the axes that a caller gave, one or an array of any shape, as many as are needed.

    Raises
    ------
    OptionError
        There are more or fewer.
    """
    # plt.subplots returns one axes, a row or a matrix of them.
    axes: list[Axes] = np.ravel(np.asarray(ax, dtype=object)).tolist()
    if len(axes) != needed:
        raise OptionError(f"{len(axes)} axes for {needed} {what}; give one for each")
    return axes


def check_one_place(ax: Any, fig: Any) -> None:
    """Refuse a place to draw that is told twice."""
    if ax is not None and fig is not None:
        raise OptionError("both ax and fig are given; leave one of them out")


def entitle(sheet: Sheet, text: str) -> None:
    """Write the title above the maps, as it is: a "$" in it is no formula."""
    width, height = _inches(sheet.part)
    # over the maps, which do not lie in the middle of the figure
    middle = (LEFT + width - RIGHT) / 2 / width
    sheet.part.suptitle(
        text, x=middle, y=1 - 0.12 / height, va="top", fontsize="large", parse_math=False
    )


def _inches(part: Figure | SubFigure) -> tuple[float, float]:
    return part.bbox.width / part.dpi, part.bbox.height / part.dpi
