# SPDX-License-Identifier: Apache-2.0
"""Covariance of anomalies in space and time, and the order in which observations tell of a pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PER_UNIT = 1024
"""Entries of a correlation table for each unit of scaled distance: linear between them to 4e-7,
well below the noise.

Numba's cache does not notice a change made here: delete ``__pycache__`` after one.
"""
LENGTH = 12 * PER_UNIT
"""Entries of a table; beyond, the correlation is nil."""
REACH = (30, 40, 40)
"""Farthest steps (time, y, x) at which observations are looked for."""
LISTED = 30_000
"""Most steps that are looked at for one target."""
LEAST = np.exp(-6.0)
"""Observations whose correlation with the target is less are not used."""
SHAPES = {
    "exponential": lambda r: np.exp(-r),
    "matern": lambda r: (1 + np.sqrt(3) * r) * np.exp(-np.sqrt(3) * r),
    "gauss": lambda r: np.exp(-0.5 * r * r),
}
"""Correlation by distance over scale: Matern of smoothness 1/2, 3/2 and infinity (Rasmussen &
Williams 2006, 4.2).
"""
SLOPES = {
    "exponential": lambda r: r * np.exp(-r),
    "matern": lambda r: 3 * r * r * np.exp(-np.sqrt(3) * r),
    "gauss": lambda r: r * r * np.exp(-0.5 * r * r),
}
"""Derivative of `SHAPES` by the logarithm of the scale."""


class Component(NamedTuple):
    """One component: ``variance * shape(distance / length) * shape(lag / time_scale)``.

    Attributes
    ----------
    length
        Along the meridian and along the parallel, km.
    time_scale
        Days.
    """

    shape: str
    variance: float
    length: tuple[float, float]
    time_scale: float


@dataclass(frozen=True, kw_only=True)
class Covariance:
    """Sum of `Component`, and the variance `noise` of independent observation errors."""

    parts: tuple[Component, ...]
    noise: float

    @property
    def variance(self) -> float:
        """Variance of the anomaly, without noise."""
        return float(sum(p.variance for p in self.parts))

    def __call__(self, north: NDArray, east: NDArray, lag: NDArray) -> NDArray:
        """Covariance at distances in km along meridian and parallel, and a lag in days, without
        noise.

        >>> one = Covariance(parts=(Part("exponential", 2.0, (50.0, 50.0), 4.0),), noise=0.1)
        >>> bool(np.isclose(one(30.0, 40.0, 0.0), 2 * np.exp(-1.0)))
        True
        """
        total: Any = 0.0
        for shape, variance, (ly, lx), time_scale in self.parts:
            form = SHAPES[shape]
            total = total + variance * form(np.hypot(north / ly, east / lx)) * form(
                np.abs(lag) / time_scale
            )
        return total

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
        """Scales, tables in space and in time, noise, as `sstfill.methods.oi.solver_kernels.Kernel`
        wants them.
        """
        scales = [
            [p.variance, p.length[0] ** -2, p.length[1] ** -2, 1 / p.time_scale] for p in self.parts
        ]
        tables = np.stack([_table(SHAPES[p.shape]) for p in self.parts])
        return np.array(scales), tables, tables, self.noise

    def slopes(self) -> NDArray[np.float64]:
        """Tables of the derivative by the logarithm of the scale, ``(part, LENGTH + 2)``."""
        return np.stack([_table(SLOPES[p.shape]) for p in self.parts])

    def described(self) -> list[dict[str, Any]]:
        """Return the components in words and numbers that JSON can hold."""
        names = ("covariance", "variance", "length_km", "time_scale_days")
        return [
            dict(zip(names, (s, v, [round(k, 3) for k in ls], t), strict=True))
            for s, v, ls, t in self.parts
        ]


def _table(form: Callable[[NDArray], NDArray]) -> NDArray[np.float64]:
    values = form(np.arange(LENGTH + 2) / PER_UNIT)
    values[LENGTH:] = 0.0
    return values


def reach(
    covariance: Covariance,
    cell: tuple[float, float],
    step: float,
    flow: tuple[float, float] = (0.0, 0.0),
) -> tuple[int, int, int]:
    """Farthest steps (time, y, x) at which an observation can matter.

    Parameters
    ----------
    cell
        Size of a cell along y and x, km.
    step
        Days between images.
    flow
        Displacement in km per day, of any direction: over two time scales it is followed.
    """
    longest = max(max(p.length) for p in covariance.parts)  # y need not be north
    lasting = max(p.time_scale for p in covariance.parts)
    far = 6 * longest + 2 * lasting * float(np.hypot(*flow))
    wanted = (6 * lasting / step, far / cell[0], far / cell[1])
    return tuple(int(min(most, np.ceil(w))) for most, w in zip(REACH, wanted, strict=True))  # type: ignore[return-value]


@lru_cache(maxsize=64)
def ranked(
    covariance: Covariance,
    cell: tuple[tuple[float, float], tuple[float, float]],
    lags: tuple[float, ...],
    flow: tuple[float, float],
    within: tuple[int, int, int],
) -> NDArray[np.int32]:
    """Steps ``(time, y, x)`` in order of falling covariance with their origin, ``(n, 3)``; kept, so
    do not write to it.

    Parameters
    ----------
    cell
        Step along y, and step along x, km northward and eastward.
    lags
        Days from the image to those `within` [0] before to as many after.
    flow
        Displacement in km per day, northward and eastward.
    within
        Farthest steps.
    """
    t, y, x = (np.arange(-n, n + 1) for n in within)
    late = np.array(lags)[:, np.newaxis, np.newaxis]
    rows, columns = y[np.newaxis, :, np.newaxis], x[np.newaxis, np.newaxis, :]
    north, east = (rows * cell[0][i] + columns * cell[1][i] - late * flow[i] for i in (0, 1))
    found = covariance(north, east, late).astype(np.float32).ravel()
    near = np.flatnonzero(found > LEAST * covariance.variance)
    if near.size > LISTED:
        near = near[np.argpartition(-found[near], LISTED)[:LISTED]]
    best = near[np.lexsort((near, -found[near]))]
    at = np.unravel_index(best, (t.size, y.size, x.size))
    return np.stack([side[i] for side, i in zip((t, y, x), at, strict=True)], axis=1).astype(
        np.int32
    )
