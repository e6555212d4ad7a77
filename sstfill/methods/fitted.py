# SPDX-License-Identifier: Apache-2.0
"""A method whose fit to an archive is settled, so that any piece of the archive can be filled
alone, on any night.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import ReadError
from sstfill.fields.patches import Patch, Shape
from sstfill.io.untrusted.documents import read_json

STEPS = 30
"""Images before and after that a pinned method looks at, unless it has reason to look at fewer."""


class Points(NamedTuple):
    """Row and column, ``(point,)`` each, of the pixels at which every image of an archive is known
    to every window.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """A piece of an archive to be filled, and what may be seen for it.

    Attributes
    ----------
    obs
        ``(time, y, x)``, NumPy-backed, NaN in the gaps: the piece `Patch.seen` of the archive.
    sea
        ``(y, x)``, True at sea.
    patch
        Where the piece lies in the whole archive, and which part of it (`Patch.inside`) is asked
        for.
    sample
        ``(time, point)``: what is observed of the same images at `points`, all over the archive.
    points
        Rows and columns of these in the whole archive.
    """

    obs: xr.DataArray
    sea: xr.DataArray
    patch: Patch
    sample: NDArray[np.float32]
    points: Points

    def without(self, hidden: NDArray[np.bool_]) -> Window:
        """Hide observations, bool of the shape of `obs`: from the piece, and from the sample where
        it lies in it.
        """
        _, rows, columns = self.patch.seen
        inside = (self.points.rows >= rows.start) & (self.points.rows < rows.stop)
        inside &= (self.points.columns >= columns.start) & (self.points.columns < columns.stop)
        sample = self.sample.copy()
        at = (self.points.rows[inside] - rows.start, self.points.columns[inside] - columns.start)
        sample[:, inside] = np.where(hidden[:, *at], np.nan, sample[:, inside])
        return replace(self, obs=self.obs.where(~hidden), sample=sample)

    def asking(self, margin: Shape) -> Window:
        """Ask for a wider part: `margin` more on either side, as far as is seen."""
        sides = zip(self.patch.inside, self.patch.seen, margin, strict=True)
        wider = tuple(
            slice(max(i.start - m, s.start), min(i.stop + m, s.stop)) for i, s, m in sides
        )
        return replace(self, patch=Patch(wider, self.patch.seen))  # type: ignore[arg-type]

    @property
    def inside(self) -> xr.DataArray:
        """The part of `obs` that is asked for."""
        return self.obs[self.patch.within]


@dataclass(frozen=True)
class Archive:
    """What a method may look at to be pinned: all of it, but never all at once.

    Attributes
    ----------
    obs
        ``(time, y, x)``, Dask-backed in blocks of bounded size.
    sea
        ``(y, x)``, NumPy-backed.
    sample, points
        As in `Window`, of all times.
    tiles
        Spatial tiles ``(y, x)`` in which maps may be worked out one by one, in bounded memory.
    trials
        Windows spread over the archive to judge methods on, by withheld clouds.
    seed
        Of whatever is random.
    """

    obs: xr.DataArray
    sea: xr.DataArray
    sample: NDArray[np.float32]
    points: Points
    tiles: Sequence[tuple[slice, slice]]
    trials: Sequence[Window]
    seed: int = 0


@runtime_checkable
class FittedMethod(Protocol):
    """What became of a method.

    What it says of a pixel depends on what `reach` covers around it and on the sample.
    """

    @property
    def reach(self) -> Shape:
        """Steps (time, y, x) on either side that a window must show around what is asked for."""
        ...

    def estimate(self, window: Window) -> xr.Dataset:
        """Estimate what is asked for.

        Returns
        -------
        Dataset
            ``mean`` and, where it is known, ``error`` (one sigma): dims and coordinates of
            `Window.inside`. An estimate at every sea pixel that can be told of, observed ones
            included; NaN elsewhere.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write all that is needed to `load` it into a new folder: ``pinned.json``, and maps as
        ``maps.zarr``.
        """
        ...


class Fitting(NamedTuple):
    """How a method is pinned to an archive, and read again."""

    fit: Callable[[Any, Archive, Path], FittedMethod]
    load: Callable[[Path], FittedMethod]


FITTINGS: dict[str, Fitting] = {}
"""By name of the method. `pin` gets the method, the archive and an empty folder, which it fills."""


def saved_method(folder: Path) -> str:
    """Name of the method that was saved in a folder; `ReadError` if there is none."""
    state = read_json(
        folder / "pinned.json", remedy="it holds no pinned method; fill the archive anew"
    )
    if not isinstance(kind := state.get("kind"), str):
        raise ReadError(f"cannot read {folder}: it holds no pinned method; fill the archive anew")
    return kind
