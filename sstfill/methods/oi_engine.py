# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation of standardised anomalies, given their covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sstfill.methods.covariance import Covariance, ranked, reach
from sstfill.methods.geometry import Positions, signed_cell

if TYPE_CHECKING:
    from sstfill.methods.kriging import Kernel, Order, Space

DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Engine:
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
    """

    at: Positions
    days: NDArray[np.float64]
    covariance: Covariance
    flow: tuple[float, float]
    cross: NDArray[np.float64]
    neighbours: int

    def __call__(
        self, values: NDArray[np.float32], targets: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior mean and variance at targets ``(n, 4)``: channel, time, y, x of `values`, NaN in its gaps."""
        from sstfill.methods import kriging

        return kriging.interpolate(values, targets, self.order(targets), self.space(), self.kernel(), self.neighbours)

    def kernel(self) -> Kernel:
        """Arrays of the covariance."""
        from sstfill.methods import kriging

        return kriging.Kernel(*self.covariance.arrays(), self.cross)

    def space(self) -> Space:
        """Arrays of the geometry, in km and days."""
        from sstfill.methods import kriging

        east, north = (DAY / 1000 * v for v in self.flow)
        drift = east * self.at.eastward + north * self.at.northward
        return kriging.Space(self.at.xyz, drift, self.at.north, np.full_like(self.at.north, north), self.days)

    def order(self, targets: NDArray[np.int32]) -> Order:
        """Where to look for observations, for each image among the targets."""
        from sstfill.methods import kriging

        cell = tuple(_rounded(side) for side in signed_cell(self.at))
        step = float(np.median(np.diff(self.days))) if len(self.days) > 1 else 1.0
        within = reach(self.covariance, (abs(cell[0]), abs(cell[1])), step)
        flow = (DAY / 1000 * self.flow[1], DAY / 1000 * self.flow[0])
        lists: dict[tuple[float, ...], int] = {}
        steps, pattern = [], np.zeros(len(self.days), np.int64)
        for t in np.unique(targets[:, 1]):
            lags = _lags(self.days, int(t), within[0], step)
            if lags not in lists:
                lists[lags] = len(lists)
                steps.append(ranked(self.covariance, cell, lags, flow, within))
            pattern[t] = lists[lags]
        begin = np.cumsum([0, *map(len, steps)])
        listed = np.concatenate(steps) if steps else np.zeros((0, 3), np.int32)
        return kriging.Order(np.ascontiguousarray(listed), begin, pattern)


def _rounded(size: float) -> float:
    """Round to steps of 5 %, so that neighbouring patches on the sphere share their lists."""
    return float(np.copysign(np.exp(np.round(np.log(abs(size)) / 0.05) * 0.05), size))


def _lags(days: NDArray[np.float64], t: int, most: int, step: float) -> tuple[float, ...]:
    """Days from image `t` to those `most` before to `most` after it; beyond the series as if it went on."""
    at = t + np.arange(-most, most + 1)
    inside = np.clip(at, 0, len(days) - 1)
    return tuple(np.round((days[inside] - days[t] + (at - inside) * step) / step, 2) * step)
