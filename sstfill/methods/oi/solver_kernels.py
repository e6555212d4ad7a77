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
SHARE = 8
"""Each quadrant around a target has at least one in so many of its neighbours, if there are."""
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
    """Steps ``(time, y, x)`` from a target to possible observations, by falling covariance: see
    `sstfill.methods.oi.covariance.Offsets`.

    Attributes
    ----------
    steps
        ``(n, 3)``, the lists of all patterns one after the other.
    begin
        Where the list of each pattern begins; one longer than there are patterns.
    pattern
        Which list serves each image, ``(time,)``.
    sparse
        ``(m, 4)``, the sparse lists of all patterns one after the other.
    sparse_begin
        Where the sparse list of each pattern begins.
    """

    steps: NDArray[np.int32]
    begin: NDArray[np.int64]
    pattern: NDArray[np.int64]
    sparse: NDArray[np.int32]
    sparse_begin: NDArray[np.int64]


@compiled(inline="always")
def quadrant(y, x):
    """Number of the quadrant in which a step lies, 0 to 3; 4 for none."""
    if y == 0 and x == 0:
        return 4
    if x > 0:
        return 0 if y >= 0 else 3
    if x < 0:
        return 2 if y <= 0 else 1
    return 1 if y > 0 else 3


@compiled(inline="always")
def observed_channel(values, c, t, y, x):
    """First channel that is observed there, the own one `c` before the others; -1 for none."""
    channels, times, rows, columns = values.shape
    if t < 0 or t >= times or y < 0 or y >= rows or x < 0 or x >= columns:
        return -1
    for j in range(channels):
        d = c if j == 0 else (j - 1 if j <= c else j)
        if not np.isnan(values[d, t, y, x]):
            return d
    return -1


@compiled()
def spread(values, target, last, sparse, found, n):
    """Replace the last of `n` neighbours by others, farther away, where a quadrant around the
    target has less than its share.

    Parameters
    ----------
    last
        Place in the list of the last offset that was looked at.
    sparse
        The sparse list of offsets.
    found
        The neighbours, ``(most, 4)``; changed in place.

    Returns
    -------
    n
        How many neighbours there are then.
    """
    c, t, y, x = target
    share = len(found) // SHARE
    have = np.zeros(5, np.int64)
    for k in range(n):
        have[quadrant(found[k, 2] - y, found[k, 3] - x)] += 1
    lacking = 0
    for q in range(4):
        lacking += max(share - have[q], 0)
    far = np.empty((lacking, 4), np.int32)
    m = 0
    for k in range(len(sparse)):
        if m == lacking:
            break
        q = quadrant(sparse[k, 1], sparse[k, 2])
        # what comes before the last offset has been found already
        if q == 4 or have[q] >= share or sparse[k, 3] <= last:
            continue
        tt, yy, xx = t + sparse[k, 0], y + sparse[k, 1], x + sparse[k, 2]
        d = observed_channel(values, c, tt, yy, xx)
        if d >= 0:
            far[m] = d, tt, yy, xx
            have[q] += 1
            m += 1
    # room is made by the farthest of those quadrants that have more than their share
    surplus = n + m - len(found)
    k = n - 1
    while surplus > 0:
        q = quadrant(found[k, 2] - y, found[k, 3] - x)
        if q == 4 or have[q] > share:
            for j in range(k, n - 1):
                found[j] = found[j + 1]
            have[q] -= 1
            n -= 1
            surplus -= 1
        k -= 1
    found[n : n + m] = far[:m]
    return n + m


@compiled()
def gather(values, targets, steps, begin, pattern, sparse, sparse_begin, most):
    """Find the observations for each target ``(channel, time, y, x)``; where its own channel has
    none, another channel's serve.

    They are those of largest covariance. With sparse lists each quadrant around the target has its
    share: where these lie on one side, the last of them give way to others on the other sides.

    Returns
    -------
    neighbours
        ``(target, most, 4)``: channel, time, y, x.
    count
        ``(target,)``
    """
    found = np.zeros((len(targets), most, 4), np.int32)
    count = np.zeros(len(targets), np.int64)
    for i in range(len(targets)):
        c, t, y, x = targets[i]
        p, n, last = pattern[t], 0, -1
        for k in range(begin[p], begin[p + 1]):
            tt, yy, xx = t + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
            d = observed_channel(values, c, tt, yy, xx)
            if d >= 0:
                found[i, n] = d, tt, yy, xx
                n += 1
            last = k - begin[p]
            if n == most:
                break
        others = sparse[sparse_begin[p] : sparse_begin[p + 1]]
        if len(others):
            n = spread(values, targets[i], last, others, found[i], n)
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
