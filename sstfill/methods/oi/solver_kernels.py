# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels of optimal interpolation: find neighbouring observations, and solve for the
posterior.

Numba takes half a second to import, so this module is imported only when something is interpolated.
The kernels release the interpreter's lock and run in threads of our own, since not every threading
layer of Numba may be entered twice at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.methods.common.jit import compiled
from sstfill.methods.oi.covariance import LENGTH, PER_UNIT

FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Fast-math flags; not "nnan", for NaN marks the gaps."""
FLOOR = 1e-9
"""Least pivot, as a fraction of the variance: below it an observation is left out."""


class Space(NamedTuple):
    """Positions of pixels and times of images.

    Attributes
    ----------
    xyz, drift
        Position in km and its drift in km per day, ``(y, x, 3)``.
    northward
        Unit vector, ``(y, x, 3)``. The vector of the target splits distances into meridional and
        zonal ones: these are distances in a flat space, where the covariance is positive definite.
    days
        ``(time,)``
    """

    xyz: NDArray[np.float64]
    drift: NDArray[np.float64]
    northward: NDArray[np.float64]
    days: NDArray[np.float64]


class Kernel(NamedTuple):
    """A covariance as arrays: see `sstfill.methods.oi.covariance.Covariance`.

    Attributes
    ----------
    scales
        ``(component, 4)``: variance; 1/km^2 along the meridian and along the parallel; 1/day.
    in_space, in_time
        Correlation by scaled distance, ``(component, LENGTH + 2)``.
    noise
        Variance of the observation error.
    cross
        Correlation between channels, ``(channel, channel)``.
    """

    scales: NDArray[np.float64]
    in_space: NDArray[np.float64]
    in_time: NDArray[np.float64]
    noise: float
    cross: NDArray[np.float64]


class NeighbourOffsets(NamedTuple):
    """Steps ``(time, y, x)`` from a target to possible observations, by falling covariance.

    Attributes
    ----------
    steps
        ``(n, 3)``, the lists of all patterns one after the other.
    begin
        Where the list of each pattern begins; one longer than there are patterns.
    pattern
        Which list serves each image, ``(time,)``.
    """

    steps: NDArray[np.int32]
    begin: NDArray[np.int64]
    pattern: NDArray[np.int64]


@compiled()
def gather(values, targets, steps, begin, pattern, most):
    """Find the observations for each target ``(channel, time, y, x)``; where its own channel has
    none, another channel's serve.

    Returns
    -------
    neighbours
        ``(target, most, 4)``: channel, time, y, x.
    count
        ``(target,)``
    """
    channels, times, rows, columns = values.shape
    found = np.zeros((len(targets), most, 4), np.int32)
    count = np.zeros(len(targets), np.int64)
    for i in range(len(targets)):
        c, t, y, x = targets[i]
        n = 0
        for k in range(begin[pattern[t]], begin[pattern[t] + 1]):
            tt, yy, xx = t + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
            if tt < 0 or tt >= times or yy < 0 or yy >= rows or xx < 0 or xx >= columns:
                continue
            for j in range(channels):
                d = c if j == 0 else (j - 1 if j <= c else j)
                if not np.isnan(values[d, tt, yy, xx]):
                    found[i, n] = d, tt, yy, xx
                    n += 1
                    break
            if n == most:
                break
        count[i] = n
    return found, count


@compiled(inline="always")
def looked_up(table, distance):
    """Correlation at a scaled distance, linear between the entries of a table."""
    scaled = distance * PER_UNIT
    k = int(scaled)
    if k >= LENGTH:
        return 0.0
    return table[k] + (table[k + 1] - table[k]) * (scaled - k)


@compiled(fastmath=FAST)
def covariances(P, channel, n, kernel, C):
    """Fill the lower triangle of C with covariances of `n` observations and, last, the target."""
    scales, in_space, in_time, noise, cross = kernel
    for i in range(n + 1):
        for j in range(min(i, n)):
            along = (P[i, 3] - P[j, 3]) ** 2
            square = (P[i, 0] - P[j, 0]) ** 2 + (P[i, 1] - P[j, 1]) ** 2 + (P[i, 2] - P[j, 2]) ** 2
            across = max(square - along, 0.0)
            apart = abs(P[i, 4] - P[j, 4])
            total = 0.0
            for k in range(len(scales)):
                far = np.sqrt(along * scales[k, 1] + across * scales[k, 2])
                near = looked_up(in_space[k], far)
                total += scales[k, 0] * near * looked_up(in_time[k], apart * scales[k, 3])
            C[i, j] = total * cross[channel[i], channel[j]]
    for i in range(n):
        C[i, i] = scales[:, 0].sum() * cross[channel[i], channel[i]] + noise


@compiled(fastmath=FAST)
def factorise(C, n, y, prior, noise, pivot, z):
    """Factorise C in place (Cholesky) with the target's row; return posterior mean and variance.

    Without rounding, and errors of the tables, no pivot would be less than the noise, since a
    covariance has no negative eigenvalue.
    """
    least = max(0.5 * noise, FLOOR * C[0, 0]) if n else 0.0
    for i in range(n + 1):
        for j in range(min(i, n)):
            s = C[i, j]
            for k in range(j):
                s -= C[i, k] * C[j, k]
            C[i, j] = s * pivot[j]
        if i < n:
            s, v = C[i, i], y[i]
            for k in range(i):
                s -= C[i, k] * C[i, k]
                v -= C[i, k] * z[k]
            # an observation that adds nothing to those before it is left out
            pivot[i] = 1 / np.sqrt(s) if s > least else 0.0
            z[i] = v * pivot[i]
    mean, explained = 0.0, 0.0
    for k in range(n):
        mean += C[n, k] * z[k]
        explained += C[n, k] * C[n, k]
    return mean, max(prior - explained, 0.0)


@compiled()
def place(values, target, neighbours, n, space, P, channel, y):
    """Fill P with x, y, z, north and day of `n` observations and, last, of the target; `channel`
    and `y` with their channels and values.
    """
    xyz, drift, northward, days = space
    # drift is counted from the target's time: over a whole series the sphere would not be flat
    now = days[target[1]]
    meridian = northward[target[2], target[3]]
    for j in range(n + 1):
        c, t, row, column = neighbours[j] if j < n else target
        P[j, 3] = 0.0
        for k in range(3):
            P[j, k] = (
                xyz[row, column, k]
                - xyz[target[2], target[3], k]
                - (days[t] - now) * drift[row, column, k]
            )
            P[j, 3] += P[j, k] * meridian[k]
        P[j, 4] = days[t]
        channel[j] = c
        if j < n:
            y[j] = values[c, t, row, column]


class Workspace(NamedTuple):
    """Arrays that are filled anew for each target: its system, factor and solution.

    Attributes
    ----------
    C
        Covariances, then their factor, of the observations and, last, the target.
    P
        Places: x, y, z, north and day, ``(observation, 5)``.
    channel, y
        Channel and value of each observation.
    pivot, z
        Reciprocal pivots, and the values after the forward solve.
    """

    C: NDArray[np.float64]
    P: NDArray[np.float64]
    channel: NDArray[np.int64]
    y: NDArray[np.float64]
    pivot: NDArray[np.float64]
    z: NDArray[np.float64]


@compiled()
def workspace(most):
    """Arrays for at most so many observations."""
    C, P = np.empty((most + 1, most + 1)), np.empty((most + 1, 5))
    channel = np.zeros(most + 1, np.int64)
    return Workspace(C, P, channel, np.empty(most), np.empty(most), np.empty(most))


@compiled()
def posterior(values, target, neighbours, n, space, kernel, work):
    """Posterior mean and variance of one target from `n` neighbours; `work` keeps the factor."""
    C, P, channel, y, pivot, z = work
    place(values, target, neighbours, n, space, P, channel, y)
    prior = kernel.scales[:, 0].sum() * kernel.cross[channel[n], channel[n]]
    covariances(P, channel, n, kernel, C)
    return factorise(C, n, y, prior, kernel.noise, pivot, z)


@compiled()
def solve(values, targets, neighbours, count, space, kernel):
    """Posterior mean and variance (without the observation error) at each target from its
    neighbours.
    """
    mean, variance = np.zeros(len(targets)), np.zeros(len(targets))
    work = workspace(neighbours.shape[1])
    for i in range(len(targets)):
        mean[i], variance[i] = posterior(
            values, targets[i], neighbours[i], count[i], space, kernel, work
        )
    return mean, variance


def interpolate(
    values: NDArray[np.float32],
    targets: NDArray[np.int32],
    order: NeighbourOffsets,
    space: Space,
    kernel: Kernel,
    most: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior mean and variance at the targets ``(n, 4)`` from values ``(channel, time, y, x)``,
    NaN in the gaps.
    """
    neighbours, count = gather(values, targets, *order, most)
    return solve(values, targets, neighbours, count, space, kernel)
