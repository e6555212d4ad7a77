# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation of standardised anomalies, given their covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sstfill.fields.reading.dates import usual_step
from sstfill.methods.oi.covariance import Covariance, Offsets, ranked_offsets
from sstfill.methods.oi.geometry import Positions, Step, cell_steps

if TYPE_CHECKING:
    from sstfill.methods.oi.solver_kernels import NeighbourOffsets, Space

DAY = 86400.0


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
        Number of observations used for a pixel.
    within
        Farthest steps (time, y, x) at which they are looked for; the same for all patches of a
        field, or there would be seams between them.
    spread
        Whether each quadrant around a pixel gets its share of them, from far away where need be.
    device
        ``"cpu"`` (compiled, a thread) or a device of torch (in batches).
    cell
        Step along y, and along x, km northward and eastward; None takes the median of `at`.
    step
        Usual days between images; None takes the median of `days`.
    """

    at: Positions
    days: NDArray[np.float64]
    covariance: Covariance
    flow: tuple[float, float]
    cross: NDArray[np.float64]
    neighbours: int
    within: tuple[int, int, int]
    spread: bool = False
    device: str = "cpu"
    cell: tuple[Step, Step] | None = None
    step: float | None = None

    def __call__(
        self, values: NDArray[np.float32], targets: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior mean and variance at targets ``(n, 4)``: channel, time, y, x of `values`, NaN
        in its gaps.
        """
        from sstfill.methods.oi import solver_kernels  # Numba takes long to import

        kernel = solver_kernels.Kernel(*self.covariance.arrays(), self.cross)
        offsets, space = self.offsets(targets), self.space()
        given = (values, targets, offsets, space, kernel, self.neighbours)
        if self.device == "cpu":
            return solver_kernels.interpolate(*given)
        from sstfill.methods.oi import solver_batched  # so does torch

        return solver_batched.interpolate(*given, device=self.device)

    def space(self) -> Space:
        """Return the arrays of the geometry, in km and days."""
        from sstfill.methods.oi import solver_kernels

        north, east = per_day(self.flow)
        drift = east * self.at.eastward + north * self.at.northward
        return solver_kernels.Space(self.at.xyz, drift, self.at.northward, self.days)

    def offsets(self, targets: NDArray[np.int32]) -> NeighbourOffsets:
        """Return where to look for observations, for each image among the targets."""
        from sstfill.methods.oi import solver_kernels

        cell = rounded(*(cell_steps(self.at) if self.cell is None else self.cell))
        step = usual_step(self.days) if self.step is None else self.step
        flow = per_day(self.flow)
        # images whose neighbours in time are as many days apart share a list
        number: dict[tuple[float, ...], int] = {}
        lists: list[Offsets] = []
        pattern = np.zeros(len(self.days), np.int64)
        for t in np.unique(targets[:, 1]):
            lags = _lags(self.days, int(t), self.within[0], step)
            if lags not in number:
                number[lags] = len(lists)
                lists.append(ranked_offsets(self.covariance, cell, lags, flow, self.within))
            pattern[t] = number[lags]
        near, begin = _joined([one.near for one in lists], 3)
        if not self.spread:
            lists = [one._replace(sparse=one.sparse[:0]) for one in lists]
        sparse, sparse_begin = _joined([one.sparse for one in lists], 4)
        return solver_kernels.NeighbourOffsets(near, begin, pattern, sparse, sparse_begin)


def _joined(
    lists: list[NDArray[np.int32]], columns: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Put lists of so many columns one after the other; return also where each begins."""
    begin = np.cumsum([0, *(len(one) for one in lists)])
    return np.concatenate([np.zeros((0, columns), np.int32), *lists]), begin


def per_day(flow: tuple[float, float]) -> tuple[float, float]:
    """Convert a flow (eastward, northward) in m/s to km per day (northward, eastward).

    >>> per_day((1.0, 0.0))
    (0.0, 86.4)
    """
    return DAY / 1000 * flow[1], DAY / 1000 * flow[0]


def rounded(y: Step, x: Step) -> tuple[Step, Step]:
    """Round steps to 5 % of their length, so that neighbouring patches on the sphere share lists of
    offsets, which are cached.
    """

    def one(north: float, east: float) -> Step:
        length = float(np.hypot(north, east))
        size = 0.05 * np.exp(np.round(np.log(length) / 0.05) * 0.05)
        parts = np.round(np.array([north, east]) / length / 0.05) * size
        return float(parts[0]), float(parts[1])

    return one(*y), one(*x)


def _lags(days: NDArray[np.float64], t: int, most: int, step: float) -> tuple[float, ...]:
    """Days from image `t` to those `most` before to `most` after it.

    The series is continued at its usual step beyond its ends. Lags are rounded to a hundredth of a
    step, so that they can be compared.
    """
    at = t + np.arange(-most, most + 1)
    inside = np.clip(at, 0, len(days) - 1)
    lags = days[inside] - days[t] + (at - inside) * step
    return tuple(np.round(lags / step, 2) * step)
