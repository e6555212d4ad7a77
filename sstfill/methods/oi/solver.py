# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation of standardised anomalies, given their covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.gaps import distance_to_observed
from sstfill.fields.reading.dates import usual_step
from sstfill.methods.oi.covariance import Covariance, Offsets, ranked_offsets
from sstfill.methods.oi.geometry import Positions, Step, cell_steps

if TYPE_CHECKING:
    from sstfill.methods.oi.solver_kernels import Kernel, LagTables, NeighbourOffsets, Space, Tiles

DAY = 86400.0
SIDE = 4
"""Side in pixels of the tiles of an image whose gaps are interpolated from the same observations,
by one factor. Tiles of the whole grid, so that results do not depend on the window.
"""
FINE_SIDE = 2
"""The same where gaps are scattered. Observations lie all around each of them, and 80 that serve 16
pixels are all next to these: under raindrops the RMSE of a smooth field is 0.115 by 4 x 4 pixels,
0.083 by 2 x 2, and 0.080 by each gap alone.
"""
SCATTERED = 1.5
"""Gaps are scattered if half of them lie within so many pixels of an observation of their image."""
IMAGES = 16
"""By so many of them that is told."""
UNEVEN = 0.02
"""Covariances are looked up by lag, in a third of the time, where whole steps of a rectilinear grid
lead to each observation but for this fraction of its distance: not where meridians converge more.
"""
TABLED = 0.005
"""Tiles whose steps are as long, to this fraction, share a table of covariances by lag."""


@dataclass(frozen=True, kw_only=True)
class Solver:
    """Interpolate at given pixels: geometry, times and covariance of the observations.

    Attributes
    ----------
    at
        Positions of the pixels of `values`.
    days
        Of its images.
    covariance
        Of the values.
    flow
        Mean flow, eastward and northward, m/s, with which the anomalies drift.
    cross
        Correlation between channels, ``(channel, channel)``.
    neighbours
        Number of observations used for a tile.
    within
        Farthest steps (time, y, x) from its pixels at which they are looked for; the same for all
        patches of a field, or there would be seams between them.
    first
        Row and column in the whole grid of the first pixel of `values`.
    side
        Of the tiles, pixels.
    spread
        Whether each quadrant around a tile gets its share of them, from far away where need be.
    device
        ``"cpu"`` (compiled, a thread) or a device of torch (in batches).
    cell
        Step along y, and along x, km northward and eastward; None takes the median of `at`.
    step
        Usual days between images; None takes the median of `days`.
    uneven
        See `UNEVEN`; 0 measures all distances.
    """

    at: Positions
    days: NDArray[np.float64]
    covariance: Covariance
    flow: tuple[float, float]
    cross: NDArray[np.float64]
    neighbours: int
    within: tuple[int, int, int]
    first: tuple[int, int] = (0, 0)
    side: int = SIDE
    spread: bool = False
    device: str = "cpu"
    cell: tuple[Step, Step] | None = None
    step: float | None = None
    uneven: float = UNEVEN

    def __call__(
        self, values: NDArray[np.float32], targets: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior mean and variance at targets ``(n, 4)``: channel, time, y, x of `values`, NaN
        in its gaps.
        """
        from sstfill.methods.oi import solver_kernels  # Numba takes long to import

        # of whatever layout: for each the kernels would be compiled once more
        targets = np.ascontiguousarray(targets)
        tiles = self.tiles(values, targets)
        given = (values, targets, tiles, self.space(), self.kernel())
        if self.device == "cpu":
            return solver_kernels.solve(*given, self.tables(tiles))
        from sstfill.methods.oi import solver_batched  # so does torch

        return solver_batched.solve(*given, device=self.device)

    def tiles(self, values: NDArray[np.float32], targets: NDArray[np.int32]) -> Tiles:
        """Sort targets into tiles, and find the observations for each."""
        from sstfill.methods.oi import solver_kernels

        channel, time, y, x = targets.astype(np.int64).T
        row, y_in_tile = np.divmod(y + self.first[0], self.side)
        column, x_in_tile = np.divmod(x + self.first[1], self.side)
        shape = (len(values), len(self.days), row.max(initial=0) + 1, column.max(initial=0) + 1)
        number = np.ravel_multi_index((channel, time, row, column), shape)
        tile, of_target = np.unique(number, return_inverse=True)
        members = np.full((len(tile), self.side**2), -1)
        members[of_target, self.side * y_in_tile + x_in_tile] = np.arange(len(targets))
        corner = np.stack(np.unravel_index(tile, shape), axis=1).astype(np.int32)
        corner[:, 2:] = self.side * corner[:, 2:] - self.first
        offsets = self.offsets(targets)
        found = solver_kernels.gather(values, corner, self.side, *offsets, self.neighbours)
        origin = solver_kernels.origins(np.ascontiguousarray(self.at.xyz), corner, self.side)
        return solver_kernels.Tiles(corner, origin, members, *found)

    def tables(self, tiles: Tiles) -> LagTables:
        """Tabulate the covariances by lag for the cells of each tile, measured at its origin."""
        from sstfill.methods.oi import solver_kernels

        step = self.days_apart
        kinds, of_tile = np.empty((0, 4)), np.full(len(tiles.corner), -1)
        # Elsewhere nearly each tile would need a table of its own; and of a field as smooth as a
        # Gaussian covariance makes it, estimates feel small errors of distance.
        smooth = any(component.shape == "gauss" for component in self.covariance.components)
        if self.uneven and self.at.rectilinear and not smooth:
            cells = rounded(self.at.cells(*tiles.origin[:, 1:].T), TABLED).reshape(-1, 4)
            known = np.isfinite(cells).all(axis=1)
            kinds, kind = np.unique(cells[known], axis=0, return_inverse=True)
            of_tile[known] = kind.reshape(-1)
        drift = per_day(self.flow)
        covariances = solver_kernels.tabulated(kinds, step, drift, self.kernel())
        return solver_kernels.LagTables(
            covariances, kinds, step, drift, self.uneven, self.side, of_tile
        )

    @property
    def days_apart(self) -> float:
        """Usual days between images."""
        return usual_step(self.days) if self.step is None else self.step

    def kernel(self) -> Kernel:
        """Return the arrays of the covariance."""
        from sstfill.methods.oi import solver_kernels

        return solver_kernels.Kernel(*self.covariance.arrays(), self.cross)

    def space(self) -> Space:
        """Return the arrays of the geometry, in km and days."""
        from sstfill.methods.oi import solver_kernels

        north, east = per_day(self.flow)
        drift = east * self.at.eastward + north * self.at.northward
        # those of a window have another layout, for which each kernel would be compiled once more
        arrays = (self.at.xyz, drift, self.at.northward, self.at.eastward, self.days)
        return solver_kernels.Space(*map(np.ascontiguousarray, arrays))

    def offsets(self, targets: NDArray[np.int32]) -> NeighbourOffsets:
        """Return where to look for observations, for each image among the targets."""
        from sstfill.methods.oi import solver_kernels

        measured = cell_steps(self.at) if self.cell is None else self.cell
        y, x = rounded(np.array(measured)).tolist()
        cell = tuple(y), tuple(x)
        step, flow = self.days_apart, per_day(self.flow)
        # images whose neighbours in time are as many days apart share a list
        number: dict[tuple[float, ...], int] = {}
        lists: list[Offsets] = []
        pattern = np.zeros(len(self.days), np.int64)
        for t in np.unique(targets[:, 1]):
            lags = _lags(self.days, int(t), self.within[0], step)
            if lags not in number:
                number[lags] = len(lists)
                lists.append(
                    ranked_offsets(self.covariance, cell, lags, flow, self.within, self.side)
                )
            pattern[t] = number[lags]
        near, begin = _joined([one.near for one in lists], 3)
        if not self.spread:
            lists = [one._replace(sparse=one.sparse[:0]) for one in lists]
        sparse, sparse_begin = _joined([one.sparse for one in lists], 4)
        return solver_kernels.NeighbourOffsets(near, begin, pattern, sparse, sparse_begin)


def tile_side(obs: xr.DataArray, sea: xr.DataArray) -> int:
    """Return the side of the tiles for a series in memory, ``([variable,] time, y, x)``."""
    some = obs[..., :: max(1, obs.shape[-3] // IMAGES), :, :].values
    known = np.isfinite(some.reshape(-1, *obs.shape[-2:]))
    gap = ~known & sea.values.astype(bool)
    if gap.any() and np.median(distance_to_observed(known)[gap]) < SCATTERED:
        return FINE_SIDE
    return SIDE


def _joined(
    lists: list[NDArray[np.int32]], columns: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Put lists of so many columns one after the other; return also where each begins."""
    begin = np.cumsum([0, *map(len, lists)])
    return np.concatenate([np.zeros((0, columns), np.int32), *lists]), begin


def per_day(flow: tuple[float, float]) -> tuple[float, float]:
    """Convert a flow (eastward, northward) in m/s to km per day (northward, eastward).

    >>> per_day((1.0, 0.0))
    (0.0, 86.4)
    """
    return DAY / 1000 * flow[1], DAY / 1000 * flow[0]


def rounded(steps: NDArray[np.float64], fraction: float = 0.05) -> NDArray[np.float64]:
    """Round steps ``(..., 2)`` to a fraction of their length, so that neighbouring patches on the
    sphere share lists of offsets, which are cached, and tiles share tables. Of no length: NaN.
    """
    length = np.hypot(steps[..., :1], steps[..., 1:])
    length[length == 0] = np.nan
    size = fraction * np.exp(np.round(np.log(length) / fraction) * fraction)
    return np.round(steps / length / fraction) * size


def _lags(days: NDArray[np.float64], t: int, most: int, step: float) -> tuple[float, ...]:
    """Days from image `t` to those `most` before to `most` after it.

    The series is continued at its usual step beyond its ends. Lags are rounded to a hundredth of a
    step, so that they can be compared.
    """
    at = t + np.arange(-most, most + 1)
    inside = np.clip(at, 0, len(days) - 1)
    lags = days[inside] - days[t] + (at - inside) * step
    return tuple(np.round(lags / step, 2) * step)
