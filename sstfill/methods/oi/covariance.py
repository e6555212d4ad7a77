# SPDX-License-Identifier: Apache-2.0
"""Covariance of anomalies in space and time, and the offsets at which observations covary most."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.methods.interpolation.background import FEW
from sstfill.validation.tails import LENGTH_SCALE, TIME_SCALE

FARTHEST = (30, 40, 40)
"""Farthest steps (time, y, x) at which observations are looked for, however long the scales."""
FARTHEST_IN_FEW = 300
"""The same along y and x in few images, where nothing but what is around a gap tells of it."""
LISTED = 30_000
"""Most offsets that are looked at for one target."""
RING = 4
"""Offsets of the sparse list lie on a grid whose step is at most their distance over this."""
SPARSE = 1500
"""Most offsets of the sparse list."""
LEAST = np.exp(-6.0)
"""Observations whose correlation with the target is below this are not used."""
SHAPES = {
    "exponential": lambda r: np.exp(-r),
    "matern": lambda r: (1 + np.sqrt(3) * r) * np.exp(-np.sqrt(3) * r),
    "gauss": lambda r: np.exp(-0.5 * r * r),
}
"""Correlation by scaled distance: Matern of smoothness 1/2, 3/2 and infinity (Rasmussen & Williams
2006, 4.2).
"""
STEEPER = {"exponential": 1.0, "matern": np.sqrt(3), "gauss": np.sqrt(0.5)}
"""Factor of distances and lags by which `SHAPES` are without numbers: ``exp(-r)``, ``(1 + r)
exp(-r)`` and ``exp(-r**2)``.
"""


class Component(NamedTuple):
    """One component: ``variance * shape(distance / length_scale) * shape(lag / time_scale)``.

    Attributes
    ----------
    shape
        A key of `SHAPES`.
    variance
        Field units squared, or of standardised anomalies.
    length_scale
        Along the meridian and along the parallel, km.
    time_scale
        Days.
    """

    shape: str
    variance: float
    length_scale: tuple[float, float]
    time_scale: float


@dataclass(frozen=True, kw_only=True)
class Covariance:
    """Sum of `Component`, and the variance `noise` of independent observation errors."""

    components: tuple[Component, ...]
    noise: float

    @property
    def variance(self) -> float:
        """Variance of the anomaly, without noise."""
        return float(sum(component.variance for component in self.components))

    def __call__(self, north: NDArray, east: NDArray, lag: NDArray) -> NDArray:
        """Covariance without noise at distances along meridian and parallel (km) and a lag (days).

        >>> component = Component("exponential", 2.0, (50.0, 50.0), 4.0)
        >>> covariance = Covariance(components=(component,), noise=0.1)
        >>> bool(np.isclose(covariance(30.0, 40.0, 0.0), 2 * np.exp(-1.0)))
        True
        """
        total: Any = 0.0
        for shape, variance, (ly, lx), time_scale in self.components:
            in_space = SHAPES[shape](np.hypot(north / ly, east / lx))
            in_time = SHAPES[shape](np.abs(lag) / time_scale)
            total = total + variance * in_space * in_time
        return total

    def mean_scales(self) -> dict[str, float]:
        """Return the scales by which `sstfill.validation.tails` draws: means over the components by
        their variance.
        """
        weight = [component.variance / self.variance for component in self.components]
        days = [component.time_scale for component in self.components]
        km = [np.mean(component.length_scale) for component in self.components]
        return {TIME_SCALE: float(np.dot(weight, days)), LENGTH_SCALE: float(np.dot(weight, km))}

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
        """Return scales, numbers of the shapes and noise, the first three members of
        `sstfill.methods.oi.solver_kernels.Kernel`.

        Scales are those of `STEEPER`.
        """
        scales = np.empty((len(self.components), 4))
        for i, (shape, variance, (ly, lx), time_scale) in enumerate(self.components):
            factor = STEEPER[shape]
            scales[i] = variance, (factor / ly) ** 2, (factor / lx) ** 2, factor / time_scale
        names = list(SHAPES)
        shapes = np.array([names.index(component.shape) for component in self.components])
        return scales, shapes, self.noise

    def summary(self) -> list[dict[str, Any]]:
        """Describe the components by plain values that JSON can hold."""
        components = []
        for shape, variance, length_scale, time_scale in self.components:
            components.append(
                {
                    "covariance": shape,
                    "variance": variance,
                    "length_scale_km": [round(scale, 3) for scale in length_scale],
                    "time_scale_days": time_scale,
                }
            )
        return components


def search_radius(
    covariance: Covariance,
    cell: tuple[float, float],
    step: float,
    flow: tuple[float, float] = (0.0, 0.0),
    farthest: tuple[int, int, int] = FARTHEST,
) -> tuple[int, int, int]:
    """Return the farthest steps (time, y, x) at which an observation can matter.

    Parameters
    ----------
    covariance
        Of the anomalies.
    cell
        Size of a cell along y and x, km.
    step
        Days between images.
    flow
        Displacement in km per day, of any direction: it is followed over two time scales.
    farthest
        Limits of these steps.
    """
    # the longest scale serves both axes, since y need not point north
    longest = max(max(component.length_scale) for component in covariance.components)
    lasting = max(component.time_scale for component in covariance.components)
    distance = 6 * longest + 2 * lasting * float(np.hypot(*flow))
    time = min(farthest[0], np.ceil(6 * lasting / step))
    y = min(farthest[1], np.ceil(distance / cell[0]))
    x = min(farthest[2], np.ceil(distance / cell[1]))
    return int(time), int(y), int(x)


class Offsets(NamedTuple):
    """Steps ``(time, y, x)`` from the corner of a tile to possible observations, by falling
    covariance.

    Attributes
    ----------
    near
        All of them, up to `LISTED`, ``(n, 3)``.
    sparse
        Some of them and of those beyond, ever farther apart, ``(m, 4)``: time, y, x, and the place
        in `near`, or n for those beyond it.
    """

    near: NDArray[np.int32]
    sparse: NDArray[np.int32]


def farthest_steps(times: int) -> tuple[int, int, int]:
    """Return the limits of `search_radius` in a series of so many images that is in memory.

    >>> farthest_steps(1), farthest_steps(30)
    ((0, 300, 300), (30, 40, 40))
    """
    if times > FEW:
        return FARTHEST
    return times - 1, FARTHEST_IN_FEW, FARTHEST_IN_FEW


@lru_cache(maxsize=64)
def ranked_offsets(
    covariance: Covariance,
    cell: tuple[tuple[float, float], tuple[float, float]],
    lags: tuple[float, ...],
    flow: tuple[float, float],
    within: tuple[int, int, int],
    side: int = 1,
) -> Offsets:
    """Rank steps ``(time, y, x)`` from the corner of a tile, its pixel of the first row and column,
    by their largest covariance with a pixel of the tile, the largest first.

    So whichever pixels of the tile are gaps, each finds those next to it among the first.

    The result is cached: do not write to it.

    Parameters
    ----------
    covariance
        Of the anomalies.
    cell
        Step along y, and step along x, km northward and eastward.
    lags
        Days from the image to those `within` [0] before to as many after.
    flow
        Displacement in km per day, northward and eastward.
    within
        Farthest steps from a pixel of the tile.
    side
        Pixels along a side of the tile.
    """
    t = np.arange(-within[0], within[0] + 1)
    y = np.arange(-within[1], within[1] + side)
    x = np.arange(-within[2], within[2] + side)
    lag = np.array(lags)[:, np.newaxis, np.newaxis]
    # steps from all pixels of the tile, of which the last sees farthest back
    rows = np.arange(y[0] - side + 1, y[-1] + 1)[:, np.newaxis]
    columns = np.arange(x[0] - side + 1, x[-1] + 1)
    north = rows * cell[0][0] + columns * cell[1][0]
    east = rows * cell[0][1] + columns * cell[1][1]
    if any(flow):  # else the part in space is the same at all lags, and is computed once
        north, east = north - lag * flow[0], east - lag * flow[1]
    by_step = covariance(north, east, lag).astype(np.float32)
    by_row = np.max([by_step[:, i : i + y.size] for i in range(side)], axis=0)
    found = np.max([by_row[..., i : i + x.size] for i in range(side)], axis=0).ravel()
    rows, columns = y[np.newaxis, :, np.newaxis], x
    telling = found > LEAST * covariance.variance
    listed = np.flatnonzero(telling)
    if listed.size > LISTED:
        listed = listed[np.argpartition(-found[listed], LISTED)[:LISTED]]
    # ties go by position, so that the order does not depend on the sort
    listed = listed[np.lexsort((listed, -found[listed]))]
    place = np.full(found.size, len(listed), np.int32)
    place[listed] = np.arange(len(listed))
    stride = _stride(np.maximum(np.abs(rows), np.abs(columns)))
    kept = (rows % stride == 0) & (columns % stride == 0)
    kept = kept & (t % _stride(RING * np.abs(t)) == 0)[:, np.newaxis, np.newaxis]
    sparse = np.flatnonzero(telling & kept.ravel())
    sparse = sparse[np.lexsort((sparse, -found[sparse]))][:SPARSE]

    def steps(chosen: NDArray[np.intp]) -> tuple[NDArray, NDArray, NDArray]:
        i, j, k = np.unravel_index(chosen, (t.size, y.size, x.size))
        return t[i], y[j], x[k]

    return Offsets(
        np.stack(steps(listed), axis=1).astype(np.int32),
        np.stack([*steps(sparse), place[sparse]], axis=1).astype(np.int32),
    )


def _stride(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Largest power of two of which so many steps are at least `RING` times as many; at least 1."""
    powers = np.floor(np.log2(np.maximum(steps / RING, 1))).astype(np.int64)
    return 2**powers
