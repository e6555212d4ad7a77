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

from sstfill.methods.common.kernels.cholesky import FAST, factorise, padded
from sstfill.methods.common.kernels.jit import compiled
from sstfill.methods.oi.covariance import SHAPES

EXPONENTIAL = list(SHAPES).index("exponential")
GAUSS = list(SHAPES).index("gauss")
"""Numbers of two shapes; the third is "matern"."""
SHARE = 8
"""Each quadrant around a tile has at least one in so many of its neighbours, if there are."""
FLOOR = 1e-9
"""Least pivot, as a fraction of the variance: below it an observation is left out."""
ROUNDING = 1e-12
"""Ratios that differ by less are equal."""
REACH = 12, 32, 32
"""Longest lags (time, y, x) in a table, steps."""
ON_TIME = 1e-3
"""Fraction of a step by which an image may miss its date."""


class Space(NamedTuple):
    """Positions of pixels and times of images.

    Attributes
    ----------
    xyz, drift
        Position in km and its drift in km per day, ``(y, x, 3)``.
    northward, eastward
        Unit vectors, ``(y, x, 3)``. Those of one pixel of a tile split all distances into
        meridional and zonal ones: so these are distances in a flat space, where the covariance is
        positive definite.
    days
        ``(time,)``
    """

    xyz: NDArray[np.float64]
    drift: NDArray[np.float64]
    northward: NDArray[np.float64]
    eastward: NDArray[np.float64]
    days: NDArray[np.float64]


class Kernel(NamedTuple):
    """A covariance as arrays: see `sstfill.methods.oi.covariance.Covariance`.

    Attributes
    ----------
    scales
        ``(component, 4)``: variance; 1/km^2 along the meridian and along the parallel; 1/day.
    shape
        Number of the shape, ``(component,)``.
    noise
        Variance of the observation error.
    cross
        Correlation between channels, ``(channel, channel)``.
    """

    scales: NDArray[np.float64]
    shape: NDArray[np.int64]
    noise: float
    cross: NDArray[np.float64]


class NeighbourOffsets(NamedTuple):
    """Steps ``(time, y, x)`` from a tile to possible observations, by falling covariance: see
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


class Tiles(NamedTuple):
    """Targets by tile: the gaps of one channel and image in a small square of the grid, which are
    interpolated from the same observations.

    Attributes
    ----------
    corner
        Channel, time, y, x of the first pixel of each tile, ``(tile, 4)``.
    origin
        Time, y, x of the pixel from which all places are seen, ``(tile, 3)``.
    members
        Row of the target at each pixel of a tile, -1 where there is none, ``(tile, side**2)``.
    neighbours
        Channel, time, y, x of the observations, ``(tile, most, 4)``.
    known
        How many there are, ``(tile,)``.
    """

    corner: NDArray[np.int32]
    origin: NDArray[np.int32]
    members: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    known: NDArray[np.int64]


class LagTables(NamedTuple):
    """Covariances by whole steps in time, y and x, up to `REACH`, for tiles where they lead to the
    pixels nearly.

    Attributes
    ----------
    covariances
        ``(table, lag)``, by the numbers of `lag_number`.
    cells
        Step along y, northward and eastward, and step along x, km, ``(table, 4)``.
    step
        Days.
    drift
        Northward and eastward, km per day.
    uneven
        A table serves a tile where no observation lies farther from where whole steps lead than
        this fraction of its distance.
    side
        Of the tiles, pixels.
    of_tile
        Number of the table of each tile, -1 for none, ``(tile,)``.
    """

    covariances: NDArray[np.float64]
    cells: NDArray[np.float64]
    step: float
    drift: tuple[float, float]
    uneven: float
    side: int
    of_tile: NDArray[np.int64]


@compiled(inline="always")
def quadrant(y, x, side):
    """Number of the quadrant, around the middle of a tile, in which a step from its corner leads, 0
    to 3; 4 for none.
    """
    y, x = 2 * y - (side - 1), 2 * x - (side - 1)
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
def spread(values, corner, side, last, sparse, found, n):
    """Replace the last of `n` neighbours by others, farther away, where a quadrant around the
    middle of a tile has less than its share.

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
    c, t, y, x = corner
    share = len(found) // SHARE
    have = np.zeros(5, np.int64)
    for k in range(n):
        have[quadrant(found[k, 2] - y, found[k, 3] - x, side)] += 1
    lacking = 0
    for q in range(4):
        lacking += max(share - have[q], 0)
    far = np.empty((lacking, 4), np.int32)
    m = 0
    for k in range(len(sparse)):
        if m == lacking:
            break
        q = quadrant(sparse[k, 1], sparse[k, 2], side)
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
        q = quadrant(found[k, 2] - y, found[k, 3] - x, side)
        if q == 4 or have[q] > share:
            for j in range(k, n - 1):
                for part in range(4):
                    found[j, part] = found[j + 1, part]
            have[q] -= 1
            n -= 1
            surplus -= 1
        k -= 1
    # element by element: whole rows take seconds more to compile
    for k in range(m):
        for part in range(4):
            found[n + k, part] = far[k, part]
    return n + m


@compiled()
def gather(values, corner, side, steps, begin, pattern, sparse, sparse_begin, most):
    """Find the observations for each tile, by its corner ``(channel, time, y, x)``; where its own
    channel has none, another channel's serve.

    They are those of largest covariance with a pixel of the tile, whichever of these are gaps: so
    they are the same where a window shows but a part of the gaps. With sparse lists each quadrant
    around the tile has its share: where these lie on one side, the last of them give way to others
    on the other sides.

    Returns
    -------
    neighbours
        ``(tile, most, 4)``: channel, time, y, x.
    count
        ``(tile,)``
    """
    found = np.zeros((len(corner), most, 4), np.int32)
    count = np.zeros(len(corner), np.int64)
    for i in range(len(corner)):
        c, t, y, x = corner[i]
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
            n = spread(values, corner[i], side, last, others, found[i], n)
        count[i] = n
    return found, count


@compiled(inline="always")
def decayed(x):
    """``exp(-x)`` for ``x >= 0``: a Taylor series for the 64th part of x, squared six times.

    It is off by less than 1e-13. Of this the compiler makes vector code, not of a library's
    exponential.
    """
    u = -min(x, 64.0) / 64
    p = 1 + u * (1 + u / 2 * (1 + u / 3 * (1 + u / 4 * (1 + u / 5 * (1 + u / 6 * (1 + u / 7))))))
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return p * p


@compiled(inline="always")
def correlation(shape, far, late):
    """Correlation of a shape at a scaled distance and a scaled lag: see
    `sstfill.methods.oi.covariance.Covariance.arrays`.
    """
    if shape == GAUSS:
        return decayed(far * far + late * late)
    if shape == EXPONENTIAL:
        return decayed(far + late)
    return (1 + far) * (1 + late) * decayed(far + late)


@compiled(fastmath=FAST)
def covariances(P, n, m, kernel, U, far):
    """Fill rows of U from the diagonal on with covariances of each of `n` observations with those
    after it and with `m` targets, of one channel; `far` keeps their distances.
    """
    scales, shape = kernel.scales, kernel.shape
    for i in range(n):
        # slices that begin at 0: of such loops the compiler makes vector code
        row, day = U[i, i : n + m], P[3, i : n + m]
        north, east, up = P[0, i : n + m], P[1, i : n + m], P[2, i : n + m]
        measured = 0
        row[:] = 0.0
        for k in range(len(scales)):
            variance, by_north, by_east, by_day = scales[k]
            kind = shape[k]
            # components that stretch both axes alike share their distances, and the roots
            ratio = by_north * scales[measured, 2] / (by_east * scales[measured, 1])
            if k == 0 or abs(ratio - 1) > ROUNDING:
                measured = k
                for j in range(len(row)):
                    across = (east[j] - east[0]) ** 2 + (up[j] - up[0]) ** 2
                    far[j] = np.sqrt((north[j] - north[0]) ** 2 * by_north + across * by_east)
            longer = np.sqrt(by_north / scales[measured, 1])
            for j in range(len(row)):
                late = abs(day[j] - day[0]) * by_day
                row[j] += variance * correlation(kind, longer * far[j], late)


@compiled(inline="always")
def lag_number(t, y, x):
    """Number of a lag, in steps: that of the opposite lag has the other sign, that of a sum of lags
    is the sum of theirs.
    """
    return (t * (2 * REACH[1] + 1) + y) * (2 * REACH[2] + 1) + x


@compiled()
def tabulated(cells, step, drift, kernel):
    """Covariances by the number of the lag, for grids of such cells: see `LagTables`."""
    times, rows, columns = REACH
    scales, shape = kernel.scales, kernel.shape
    found = np.zeros((len(cells), lag_number(times, rows, columns) + 1))
    for i in range(len(cells)):
        for t in range(times + 1):
            for y in range(-rows, rows + 1):
                for x in range(-columns, columns + 1):
                    number = lag_number(t, y, x)
                    if number < 0:  # the opposite lag stands for it
                        continue
                    north = y * cells[i, 0] + x * cells[i, 2] - t * step * drift[0]
                    east = y * cells[i, 1] + x * cells[i, 3] - t * step * drift[1]
                    for k in range(len(shape)):
                        far = np.sqrt(north**2 * scales[k, 1] + east**2 * scales[k, 2])
                        late = t * step * scales[k, 3]
                        found[i, number] += scales[k, 0] * correlation(shape[k], far, late)
    return found


@compiled()
def numbered(P, pixels, n, origin, days, tables, table, lag):
    """Write the numbers of the lags of `n` observations and some targets from the origin of a tile,
    and return whether its table serves them: the observations lie nearly where whole steps lead,
    and none is farther from another, or from a pixel of the tile, than `REACH`.

    Which pixels of the tile are targets does not matter.

    Parameters
    ----------
    P
        Where they lie, see `place`.
    pixels
        Their channel, time, y and x, ``(observation + target, 4)``.
    origin
        Time, y and x of the origin.
    days
        Of the images.
    tables, table
        See `LagTables`; the number of that of the tile.
    lag
        ``(observation + target,)``, written.
    """
    cell = tables.cells[table]
    least, most = np.zeros(3, np.int64), np.zeros(3, np.int64)
    most[1] = most[2] = tables.side - 1
    for j in range(len(pixels)):
        late = P[3, j] - days[origin[0]]
        t = int(np.rint(late / tables.step))
        y, x = pixels[j, 2] - origin[1], pixels[j, 3] - origin[2]
        lag[j] = lag_number(t, y, x)
        if j >= n:
            continue
        if abs(late - t * tables.step) > ON_TIME * tables.step:
            return False
        north = P[0, j] - (y * cell[0] + x * cell[2] - late * tables.drift[0])
        east = P[1, j] - (y * cell[1] + x * cell[3] - late * tables.drift[1])
        apart = P[0, j] ** 2 + P[1, j] ** 2 + P[2, j] ** 2
        if north**2 + east**2 + P[2, j] ** 2 > tables.uneven**2 * apart:
            return False
        for k, steps in enumerate((t, y, x)):
            least[k], most[k] = min(least[k], steps), max(most[k], steps)
    apart = most - least
    return apart[0] <= REACH[0] and apart[1] <= REACH[1] and apart[2] <= REACH[2]


@compiled(fastmath=FAST)
def looked_up(table, lag, n, m, U):
    """Fill rows of U as `covariances` does, from a table by lag."""
    for i in range(n):
        row, number = U[i, i : n + m], lag[i : n + m]
        for j in range(len(row)):
            row[j] = table[abs(number[j] - number[0])]


@compiled()
def origins(xyz, corner, side):
    """Time, y and x of the first pixel of each tile that has a position, ``(tile, 3)``."""
    found = corner[:, 1:].copy()
    for i in range(len(corner)):
        _, _, y, x = corner[i]
        missing = True
        for row in range(max(y, 0), min(y + side, len(xyz))):
            for column in range(max(x, 0), min(x + side, xyz.shape[1])):
                if missing and np.isfinite(xyz[row, column, 0]):
                    found[i, 1:] = row, column
                    missing = False
    return found


@compiled()
def place(P, j, pixel, origin, space):
    """Write to column j of P where a pixel ``(channel, time, y, x)`` lies, seen from the origin
    ``(time, y, x)``: north, east and up, km, and its day.
    """
    xyz, drift, northward, eastward, days = space
    # drift is counted from the origin's time: over a whole series the sphere would not be flat
    late = days[pixel[1]] - days[origin[0]]
    north, east = northward[origin[1], origin[2]], eastward[origin[1], origin[2]]
    P[0, j] = P[1, j] = P[2, j] = 0.0
    for k in range(3):
        apart = xyz[pixel[2], pixel[3], k] - xyz[origin[1], origin[2], k]
        apart -= late * drift[pixel[2], pixel[3], k]
        after, before = (k + 1) % 3, (k + 2) % 3
        P[0, j] += apart * north[k]
        P[1, j] += apart * east[k]
        P[2, j] += apart * (east[after] * north[before] - east[before] * north[after])
    P[3, j] = days[pixel[1]]


class Workspace(NamedTuple):
    """Arrays that are filled anew for each tile: its system, factor and solution.

    Attributes
    ----------
    U
        Covariances of the observations with each other and the targets, and last the values of the
        observations; then the upper factor, and the forward solutions for targets and values.
    P
        Places: north, east, up and day, ``(4, observation + target)``.
    far
        Distances, ``(observation + target,)``.
    pixel, lag
        Channel, time, y and x of each observation and target, and the number of its lag from the
        origin of the tile.
    pivot
        Reciprocal pivots.
    mean, variance
        Of the posterior at each target.
    """

    U: NDArray[np.float64]
    P: NDArray[np.float64]
    far: NDArray[np.float64]
    pixel: NDArray[np.int64]
    lag: NDArray[np.int64]
    pivot: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


@compiled()
def workspace(most, targets):
    """Arrays for at most so many observations and targets of a tile."""
    every = most + targets
    U, P, far = np.zeros((most, padded(every + 1))), np.empty((4, every)), np.empty(every)
    pixel, lag = np.zeros((every, 4), np.int64), np.zeros(every, np.int64)
    return Workspace(U, P, far, pixel, lag, np.empty(most), np.empty(targets), np.empty(targets))


@compiled(fastmath=FAST)
def _add_explained(solved, value, mean, explained):
    """Add what one observation tells of each target, from its row of the forward solutions."""
    for j in range(len(solved)):
        mean[j] += solved[j] * value
        explained[j] += solved[j] * solved[j]


@compiled()
def posterior(values, targets, tiles, tile, space, kernel, tables, work):
    """Posterior mean and variance, without the observation error, at the targets of a tile; `work`
    keeps them and the factor.

    Returns
    -------
    rows
        Of `targets`, in the order of the results.
    """
    U, P, far, pixel, lag, pivot, mean, variance = work
    n, origin, cross = tiles.known[tile], tiles.origin[tile], kernel.cross
    # element by element: whole rows, and masks, take seconds more to compile
    rows = np.empty(tiles.members.shape[1], np.int64)
    m = 0
    for row in tiles.members[tile]:
        if row >= 0:
            rows[m] = row
            m += 1
    for j in range(n):
        for part in range(4):
            pixel[j, part] = tiles.neighbours[tile, j, part]
        U[j, n + m] = values[pixel[j, 0], pixel[j, 1], pixel[j, 2], pixel[j, 3]]
    for j in range(m):
        for part in range(4):
            pixel[n + j, part] = targets[rows[j], part]
    for j in range(n + m):
        place(P, j, pixel[j], origin, space)
    table = tables.of_tile[tile]
    if table >= 0 and numbered(P, pixel[: n + m], n, origin, space.days, tables, table, lag):
        looked_up(tables.covariances[table], lag, n, m, U)
    else:
        covariances(P, n, m, kernel, U, far)
    prior = 0.0
    for k in range(len(kernel.scales)):
        prior += kernel.scales[k, 0]
    for i in range(n):
        if len(cross) > 1:
            for j in range(i, n + m):
                U[i, j] *= cross[pixel[i, 0], pixel[j, 0]]
        U[i, i] = prior * cross[pixel[i, 0], pixel[i, 0]] + kernel.noise
    # Without rounding no pivot would be less than the noise, since a covariance has no negative
    # eigenvalue.
    least = max(0.5 * kernel.noise, FLOOR * U[0, 0]) if n else 0.0
    factorise(U, n, padded(n + m + 1), least, pivot)
    for j in range(m):
        mean[j] = variance[j] = 0.0
    for i in range(n):
        _add_explained(U[i, n : n + m], U[i, n + m], mean, variance)
    own = tiles.corner[tile, 0]
    for j in range(m):
        variance[j] = max(prior * cross[own, own] - variance[j], 0.0)
    return rows[:m]


@compiled()
def solve(values, targets, tiles, space, kernel, tables):
    """Posterior mean and variance (without the observation error) at each target ``(n, 4)``, from
    values ``(channel, time, y, x)``, NaN in the gaps.
    """
    mean, variance = np.zeros(len(targets)), np.zeros(len(targets))
    work = workspace(tiles.neighbours.shape[1], tiles.members.shape[1])
    for tile in range(len(tiles.corner)):
        rows = posterior(values, targets, tiles, tile, space, kernel, tables, work)
        for j in range(len(rows)):
            mean[rows[j]], variance[rows[j]] = work.mean[j], work.variance[j]
    return mean, variance
