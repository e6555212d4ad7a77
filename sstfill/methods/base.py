# SPDX-License-Identifier: Apache-2.0
"""What a gap-filling method is, in memory and fitted to an archive, and what each form is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.patches import Box, Patch, Shape

STEPS = 30
"""Images before and after that a fitted method depends on, unless it has reason to use fewer."""


@runtime_checkable
class Method(Protocol):
    """A frozen dataclass whose fields are its options, validated in ``__post_init__``.

    A method may also define ``fit(self, archive, folder) -> FittedMethod`` and a static method
    ``load(folder) -> FittedMethod``, its form for archives larger than memory. One without is
    asked about each window of an archive as about a series of its own
    (`sstfill.methods.common.fitted_windowed`). And it may be one that `EstimatesPart`,
    `FitsOnce` or `Simulates`.

    A method may state ``shares_fit``, a class variable: whether what `FitsOnce` keeps serves both
    its fill and the trial that scores it. It must be no more than a few parameters, for it has seen
    what the trial withholds.

    A method that is cheap may state ``trials``, a class variable: on how many choices of withheld
    runs its error is calibrated where the series is short (`sstfill.validation.withheld`); one, if
    it does not.
    """

    name: ClassVar[str]
    multivariate: ClassVar[bool]
    min_times: ClassVar[int]

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Estimate the field at every sea pixel.

        Parameters
        ----------
        obs
            Observations, dims ``(time, lat, lon)`` or ``(time, y, x)``, NaN in the gaps; with a
            leading dim ``variable`` if `multivariate` and several are filled together.
        sea
            True at sea, the two spatial dims of `obs`.

        Returns
        -------
        Dataset
            ``mean`` (dims of `obs`), and where the method knows it ``error`` (one sigma, same
            dims and units). NaN where the method has no estimate.
        """
        ...


@runtime_checkable
class EstimatesPart(Protocol):
    """A `Method` that estimates some pixels for less than all of them."""

    def reconstruct_at(
        self, obs: xr.DataArray, sea: xr.DataArray, wanted: xr.DataArray
    ) -> xr.Dataset:
        """Estimate the field at some pixels: what withheld clouds are compared with.

        Parameters
        ----------
        obs, sea
            As in `Method.reconstruct`.
        wanted
            True where an estimate is needed, dims of `obs`.

        Returns
        -------
        Dataset
            At the pixels that are wanted the same as `Method.reconstruct` returns; elsewhere what
            costs least.
        """
        ...


@runtime_checkable
class FitsOnce(Protocol):
    """A `Method` that can keep what it has fitted, for another fill of the same series."""

    def fitted_to(self, obs: xr.DataArray, sea: xr.DataArray) -> Method:
        """Fit to a series; return a method of the same options and name that starts from this fit.

        What it keeps must be parameters which some more observations of the field hardly change, or
        it must go on with the fit: `sstfill.Auto` fills by what was fitted while clouds were
        withheld.
        """
        ...


@runtime_checkable
class FittedMethod(Protocol):
    """A method fitted to an archive.

    The estimate at a pixel depends only on the observations within `halo` of it and on the sample.
    """

    @property
    def halo(self) -> Shape:
        """Margin (time, y, x) that a window must show around the part to be estimated."""
        ...

    def estimate(self, window: Window) -> xr.Dataset:
        """Estimate the inside of a window.

        Returns
        -------
        Dataset
            ``mean`` and, where it is known, ``error`` (one sigma): dims and coordinates of
            `Window.inside`. An estimate at every sea pixel where the method has one, observed
            pixels included; NaN elsewhere.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load` needs into a new folder: ``fitted.json``, and maps as
        ``maps.zarr``.
        """
        ...


@runtime_checkable
class Simulates(Protocol):
    """A `Method` that can also draw plausible fields."""

    def simulate(self, obs: xr.DataArray, sea: xr.DataArray, members: int) -> xr.Dataset:
        """Estimate the field, and draw members of its posterior distribution.

        A draw is a function of the method's seed, the number of the member, the row and column of a
        pixel and the time of an image: more members, or other chunks, do not change it.

        Parameters
        ----------
        obs, sea
            As in `Method.reconstruct`.
        members
            Number of draws.

        Returns
        -------
        Dataset
            What `Method.reconstruct` returns, and ``members``, dims ``("member", *obs.dims)``:
            fields as they would have been observed, noise included. At the gaps their spread about
            ``mean`` is ``error``, and they are Gaussian. Attributes of ``members`` may tell how far
            their deviations are correlated: ``time_scale_days`` and ``length_scale_km``, see
            `sstfill.validation.tails`.
        """
        ...


@runtime_checkable
class FittedSimulates(Protocol):
    """A `FittedMethod` that can also draw plausible fields."""

    def simulate(self, window: Window, members: int) -> xr.Dataset:
        """Estimate the inside of a window, and draw members: see `Simulates.simulate`.

        Rows and columns are those of the whole archive, so that neighbouring windows fit together.
        """
        ...


class Points(NamedTuple):
    """Row and column, ``(point,)`` each, of the pixels at which every window knows every image."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """A piece of an archive to be filled, and the data that may be used for it.

    Attributes
    ----------
    obs
        ``(time, y, x)``, NumPy-backed, NaN in the gaps: the piece `Patch.seen` of the archive.
    sea
        ``(y, x)``, True at sea.
    patch
        Where the piece lies in the whole archive, and which part of it (`Patch.inside`) is to be
        estimated.
    sample
        ``(time, point)``: observations of the same images at `points`, all over the archive.
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
        it lies in the piece.
        """
        _, rows, columns = self.patch.seen
        inside = (self.points.rows >= rows.start) & (self.points.rows < rows.stop)
        inside &= (self.points.columns >= columns.start) & (self.points.columns < columns.stop)
        # Windows share the sample of the archive; a copy leaves theirs as it is.
        sample = self.sample.copy()
        at = (self.points.rows[inside] - rows.start, self.points.columns[inside] - columns.start)
        sample[:, inside] = np.where(hidden[:, *at], np.nan, sample[:, inside])
        return replace(self, obs=self.obs.where(~hidden), sample=sample)

    def widened(self, margin: Shape) -> Window:
        """Ask for a wider part: `margin` more on either side, as far as `obs` shows."""
        inside, seen = self.patch
        return replace(self, patch=Patch(_widened(inside, seen, margin), seen))

    def narrowed(self, halo: Shape) -> Window:
        """Show only the `halo` around the part to be estimated, so that the rest cannot matter."""
        inside, seen = self.patch
        shown = _widened(inside, seen, halo)
        times, rows, columns = Patch(shown, seen).within
        return replace(
            self,
            obs=self.obs[times, rows, columns],
            sea=self.sea[rows, columns],
            patch=Patch(inside, shown),
            sample=self.sample[times],
        )

    @property
    def inside(self) -> xr.DataArray:
        """The part of `obs` to be estimated."""
        return self.obs[self.patch.within]


def _widened(inside: Box, seen: Box, margin: Shape) -> Box:
    """Widen a box by a margin on either side, as far as what is seen."""
    sides = []
    for inner, outer, n in zip(inside, seen, margin, strict=True):
        # At the rim of the archive there is less to see.
        sides.append(slice(max(inner.start - n, outer.start), min(inner.stop + n, outer.stop)))
    t, y, x = sides
    return t, y, x


@dataclass(frozen=True)
class Archive:
    """What a method may use to be fitted: the whole archive, but never in memory at once.

    Attributes
    ----------
    obs
        ``(time, y, x)``, Dask-backed in blocks of bounded size.
    sea
        ``(y, x)``, NumPy-backed.
    sample, points
        As in `Window`, of all times.
    tiles
        Spatial tiles ``(y, x)`` in which maps can be computed one by one, in bounded memory.
    trials
        Windows spread over the archive, on which methods are validated with withheld clouds.
    seed
        Of whatever is random.
    members
        How many will be drawn, for which a fitted method keeps what it needs.
    """

    obs: xr.DataArray
    sea: xr.DataArray
    sample: NDArray[np.float32]
    points: Points
    tiles: Sequence[tuple[slice, slice]]
    trials: Sequence[Window]
    seed: int = 0
    members: int = 0
