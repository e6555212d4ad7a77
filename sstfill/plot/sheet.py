# SPDX-License-Identifier: Apache-2.0
"""A sheet of equal maps laid out in inches, with a title above and colour bars below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from sstfill.errors import OptionError
from sstfill.plot.canvas import Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

LEFT, RIGHT, TOP, BOTTOM, GAP = 0.75, 0.30, 0.68, 1.20, 0.28
BAR_ABOVE_EDGE, BAR_HEIGHT, POINT = 0.62, 0.13, 0.16


@dataclass(frozen=True)
class Sheet:
    """A figure and its maps, row by row; `bars`: the sheet has room for colour bars below them."""

    figure: Figure
    maps: list[Axes]
    bars: bool

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
            place: dict[str, Any] = {"cax": self.figure.add_axes(box), "extendfrac": POINT / width}
        else:
            place = {"ax": axes, "shrink": 0.8}
        bar = self.figure.colorbar(mesh, orientation="horizontal", extend=extend, **place)
        bar.set_label(label, fontsize="small")
        bar.ax.tick_params(labelsize="small")

    def _strip(self, axes: list[Axes]) -> tuple[float, tuple[float, float, float, float]]:
        """Return width in inches and box of a bar below `axes`, at most six inches wide."""
        width, height = self.figure.get_size_inches()
        left, right = axes[0].get_position().x0 * width, axes[-1].get_position().x1 * width
        long = min(0.8 * (right - left), 6.0)
        start = (left + right - long) / 2
        return long, (start / width, BAR_ABOVE_EDGE / height, long / width, BAR_HEIGHT / height)


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Make a figure (sizes in inches) outside pyplot, which would keep it in a global list."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError(
            "pictures need matplotlib and cartopy; pip install 'sstfill[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout=layout)


def new_sheet(where: Canvas, rows: int, columns: int) -> Sheet:
    """Make a sheet of empty maps, sized to the shape of the region."""
    high, least, most = (3.4, 1.8, 3.6) if rows == 1 else (2.2, 1.3, 2.4)
    across = float(np.clip(high / where.shape, least, most))
    down = float(np.clip(across * where.shape, 0.6, 6.0))
    width = LEFT + columns * across + (columns - 1) * GAP + RIGHT
    height = TOP + rows * down + (rows - 1) * GAP + BOTTOM
    figure = new_figure(width, height)
    if where.projection is not None:
        # The projection finds its class of axes through this import.
        import cartopy.mpl.geoaxes  # noqa: F401
    maps = []
    for row in range(rows):
        for column in range(columns):
            left = (LEFT + column * (across + GAP)) / width
            bottom = (BOTTOM + (rows - 1 - row) * (down + GAP)) / height
            box = (left, bottom, across / width, down / height)
            maps.append(figure.add_axes(box, projection=where.projection))
    return Sheet(figure, maps, bars=True)


def entitle(sheet: Sheet, text: str) -> None:
    """Write the title above the maps."""
    width, height = sheet.figure.get_size_inches()
    middle = (LEFT + width - RIGHT) / 2 / width
    sheet.figure.suptitle(text, x=middle, y=1 - 0.12 / height, va="top", fontsize="large")
