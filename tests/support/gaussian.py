# SPDX-License-Identifier: Apache-2.0
"""Gaussian processes done the plain way, to judge optimal interpolation by: dense matrices, no
table, no short cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sstfill.methods.oi.covariance import Covariance

RADIUS = 6371.0088
KM_PER_DAY = 86.4


def sphere(lat: NDArray, lon: NDArray) -> tuple[NDArray, ...]:
    """Position, northward and eastward unit vectors ``(..., 3)`` of degrees."""
    la, lo = np.deg2rad(lat), np.deg2rad(lon)
    place = RADIUS * np.stack([np.cos(la) * np.cos(lo), np.cos(la) * np.sin(lo), np.sin(la)], -1)
    north = np.stack([-np.sin(la) * np.cos(lo), -np.sin(la) * np.sin(lo), np.cos(la)], -1)
    return place, north, np.stack([-np.sin(lo), np.cos(lo), np.zeros_like(lo)], -1)


def matrix(
    a: NDArray,
    b: NDArray,
    target: NDArray,
    at: tuple[NDArray, ...],
    days: NDArray,
    covariance: Covariance,
    cross: NDArray,
    flow: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """Covariances between points ``(n, 4)`` and ``(m, 4)``, channel, time, y, x; drifted to the
    time of the target.
    """
    place, north, east = at

    def moved(q: NDArray) -> NDArray:
        lag, here = KM_PER_DAY * (days[q[:, 1]] - days[target[1]]), (q[:, 2], q[:, 3])
        return place[here] - lag[:, np.newaxis] * (flow[0] * east[here] + flow[1] * north[here])

    apart = moved(a)[:, np.newaxis] - moved(b)
    along = apart @ north[target[2], target[3]]
    across = np.linalg.norm(apart - along[..., np.newaxis] * north[target[2], target[3]], axis=-1)
    return (
        covariance(along, across, days[a[:, 1]][:, np.newaxis] - days[b[:, 1]])
        * cross[np.ix_(a[:, 0], b[:, 0])]
    )


def posterior(
    values: NDArray,
    target: NDArray,
    at: tuple[NDArray, ...],
    days: NDArray,
    covariance: Covariance,
    cross: NDArray,
    flow: tuple[float, float] = (0.0, 0.0),
    side: int = 1,
) -> tuple[float, float]:
    """Mean and variance at one target from all that is finite among values ``(channel, time, y,
    x)``; north is that of the corner of its tile.
    """
    seen = np.argwhere(np.isfinite(values))
    how = {
        "target": target // (1, 1, side, side) * (1, 1, side, side),
        "at": at,
        "days": days,
        "covariance": covariance,
        "cross": cross,
        "flow": flow,
    }
    among = matrix(seen, seen, **how) + covariance.noise * np.eye(len(seen))
    link = matrix(seen, target[np.newaxis], **how)[:, 0]
    weights = np.linalg.solve(among, link)
    return float(weights @ values[tuple(seen.T)]), float(covariance.variance - weights @ link)


def draw(
    shape: tuple[int, int, int], cell: float, covariance: Covariance, n: int, seed: int
) -> NDArray[np.float64]:
    """Draw fields ``(n, time, y, x)``, daily on a flat grid, without noise; a part is a product of
    space and time.
    """
    rng, (times, rows, columns) = np.random.default_rng(seed), shape
    north, east = (cell * axis.ravel() for axis in np.indices((rows, columns)))
    lags = np.subtract.outer(np.arange(times), np.arange(times))
    total = np.zeros((n, times, rows * columns))
    for part in covariance.components:
        one = Covariance(components=(part,), noise=0.0)
        in_space = one(np.subtract.outer(north, north), np.subtract.outer(east, east), 0.0)
        in_time = one(0.0, 0.0, lags) / part.variance
        roots = [np.linalg.cholesky(m + 1e-8 * np.eye(len(m))) for m in (in_time, in_space)]
        total += roots[0] @ rng.normal(size=total.shape) @ roots[1].T
    return total.reshape(n, *shape)


def clouds(
    shape: tuple[int, int, int], fraction: float, seed: int, size: float = 2.5
) -> NDArray[np.bool_]:
    """Blobs that cover a fraction of all pixels."""
    rough = np.random.default_rng(seed).normal(size=shape)
    smooth = gaussian_filter(rough, (0.3, size, size))
    return np.asarray(smooth < np.quantile(smooth, fraction))
