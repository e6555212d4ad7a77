# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation of standardised anomalies, given their covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sstfill.methods.oi.covariance import Covariance, ranked
from sstfill.methods.oi.geometry import Positions, Step, cell_steps

if TYPE_CHECKING:
    from sstfill.methods.oi.solver_kernels import Kernel, NeighbourOffsets, Space

DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Solver:
    """What is needed to interpolate at a place: geometry, times and covariance.

    Attributes
    ----------
    at
        Positions of the pixels of `values`.
    days
        Of its images.
    flow
        Mean flow, eastward and northward, m/s, with which the anomalies drift.
    cross
        Correlation between channels, ``(channel, channel)``.
    neighbours
        Number of observations used for a pixel.
    within
        Farthest steps (time, y, x) at which they are looked for; the same for all patches of a
        field, or the seams would show.
    device
        ``"cpu"`` (compiled, a thread) or a device of torch (in batches).
    cell
        Step along y, and along x, km northward and eastward; None takes what is typical of `at`.
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
    device: str = "cpu"
    cell: tuple[Step, Step] | None = None
    step: float | None = None

    def __call__(
        self, values: NDArray[np.float32], targets: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior mean and variance at targets ``(n, 4)``: channel, time, y, x of `values`, NaN
        in its gaps.
        """
        from sstfill.methods.oi import solver_kernels

        given = (values, targets, self.order(targets), self.space(), self.kernel(), self.neighbours)
        if self.device == "cpu":
            return solver_kernels.interpolate(*given)
        from sstfill.methods.oi import solver_batched

        return solver_batched.interpolate(*given, device=self.device)

    def kernel(self) -> Kernel:
        """Arrays of the covariance."""
        from sstfill.methods.oi import solver_kernels

        return solver_kernels.Kernel(*self.covariance.arrays(), self.cross)

    def space(self) -> Space:
        """Arrays of the geometry, in km and days."""
        from sstfill.methods.oi import solver_kernels

        north, east = per_day(self.flow)
        drift = east * self.at.eastward + north * self.at.northward
        return solver_kernels.Space(self.at.xyz, drift, self.at.northward, self.days)

    def order(self, targets: NDArray[np.int32]) -> NeighbourOffsets:
        """Where to look for observations, for each image among the targets."""
        from sstfill.methods.oi import solver_kernels

        cell = rounded(*(cell_steps(self.at) if self.cell is None else self.cell))
        step = usual_step(self.days) if self.step is None else self.step
        lists: dict[tuple[float, ...], int] = {}
        steps, pattern = [], np.zeros(len(self.days), np.int64)
        for t in np.unique(targets[:, 1]):
            lags = _lags(self.days, int(t), self.within[0], step)
            if lags not in lists:
                lists[lags] = len(lists)
                steps.append(ranked(self.covariance, cell, lags, per_day(self.flow), self.within))
            pattern[t] = lists[lags]
        begin = np.cumsum([0, *map(len, steps)])
        listed = np.concatenate(steps) if steps else np.zeros((0, 3), np.int32)
        return solver_kernels.NeighbourOffsets(np.ascontiguousarray(listed), begin, pattern)



def per_day(flow: tuple[float, float]) -> tuple[float, float]:
    """Displacement northward and eastward in km per day, of a flow eastward and northward in m/s.

    >>> per_day((1.0, 0.0))
    (0.0, 86.4)
    """
    return DAY / 1000 * flow[1], DAY / 1000 * flow[0]


def usual_step(days: NDArray[np.float64]) -> float:
    """Median of the days between images; 1 for a single one."""
    return float(np.median(np.diff(days))) if len(days) > 1 else 1.0


def rounded(y: Step, x: Step) -> tuple[Step, Step]:
    """Round to 5 % of their length, so that neighbouring patches on the sphere share their lists."""

    def one(north: float, east: float) -> Step:
        length = float(np.hypot(north, east))
        size = 0.05 * np.exp(np.round(np.log(length) / 0.05) * 0.05)
        return float(np.round(north / length / 0.05) * size), float(
            np.round(east / length / 0.05) * size
        )

    return one(*y), one(*x)


def _lags(days: NDArray[np.float64], t: int, most: int, step: float) -> tuple[float, ...]:
    """Days from image `t` to those `most` before to `most` after it; beyond the series as if it
    went on.
    """
    at = t + np.arange(-most, most + 1)
    inside = np.clip(at, 0, len(days) - 1)
    return tuple(np.round((days[inside] - days[t] + (at - inside) * step) / step, 2) * step)
