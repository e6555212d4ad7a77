# SPDX-License-Identifier: Apache-2.0
"""Pictures of a page, which are data URIs in it."""

from __future__ import annotations

import base64
import io as streams
import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from sstfill.fields import grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
PIXELS = 120_000
"""Pixels at most of a map that is drawn; a larger grid is thinned."""
DPI = 100


class Picture(NamedTuple):
    """A PNG as a data URI and a note on it; without a picture, the note says why."""

    data: str = ""
    note: str = ""

    @classmethod
    def of(cls, figure: Figure, note: str = "") -> Picture:
        """Render a figure."""
        stream = streams.BytesIO()
        figure.savefig(stream, format="png", dpi=DPI)
        # in the page itself, which is one file
        return cls("data:image/png;base64," + base64.b64encode(stream.getvalue()).decode(), note)

    @classmethod
    def missing(cls, kind: str, name: str, error: Exception) -> Picture:
        """State why there is none: a picture is not worth the work that the page is about."""
        log.warning("no %s of %s: %s", kind, name, error)
        return cls(note=f"no {kind}: {error}")


def thinning(shape: tuple[int, ...], pixels: int) -> int:
    """Return n such that every n-th row and column of an image are at most so many pixels.

    >>> thinning((1000, 1000), 10_000)
    10
    """
    # A step along rows and columns alike keeps the shape of the coast.
    return max(1, int(np.ceil(np.sqrt(np.prod(shape) / pixels))))


def thinned(filled: xr.Dataset, name: str, pixels: int = PIXELS) -> tuple[xr.Dataset, str]:
    """Return what maps of a variable show, with so few rows and columns, and a note on that."""
    # Only what maps show, since whatever else is there may be lazy and large.
    parts = [part for part in (name, f"{name}_error", f"{name}_source") if part in filled]
    # Images stay: maps choose the dates that they show.
    sides = list(map(str, grid.axes(filled[name]).dims[1:]))
    every = thinning(tuple(filled.sizes[side] for side in sides), pixels)
    few = filled[parts].isel(dict.fromkeys(sides, slice(None, None, every)))
    note = f"every {every}th row and column is drawn" if every > 1 else ""
    return few, note
