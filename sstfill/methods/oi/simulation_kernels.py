# SPDX-License-Identifier: Apache-2.0
"""Compiled: noise of observations as a function of place and time, and draws conditioned on
observations by the weights of the interpolation.
"""

from __future__ import annotations

import numpy as np

from sstfill.methods.common.kernels.jit import compiled
from sstfill.methods.common.kernels.keyed_numbers import scrambled
from sstfill.methods.oi.solver_kernels import FAST, posterior, workspace


@compiled()
def add_noise(values, row, seconds, first_row, first_column, deviation, seed):
    """Add to each site independent normal numbers of a standard deviation, one for each member.

    They are functions of the seed, member, channel, time in whole seconds, and row and column of
    the whole grid. Box & Muller 1958 makes two of a scrambled number.

    Parameters
    ----------
    values
        ``(site, member)``, changed in place.
    row
        Row of `values` for each channel, time, y and x; -1 where there is none.
    seconds
        Absolute times of the images.
    first_row, first_column
        Of the first pixel.
    """
    channels, times, rows, columns = row.shape
    members = values.shape[1]
    unit = 1.0 / 4294967296.0
    for c in range(channels):
        of_channel = scrambled(np.uint64(seed) + scrambled(np.uint64(c)))
        for t in range(times):
            of_image = scrambled(of_channel + np.uint64(seconds[t]))
            for y in range(rows):
                of_row = scrambled(of_image + np.uint64(y + first_row))
                for x in range(columns):
                    site = row[c, t, y, x]
                    if site < 0:
                        continue
                    of_pixel = scrambled(of_row + np.uint64(x + first_column))
                    for k in range(0, members, 2):
                        bits = scrambled(of_pixel + np.uint64(k))
                        high, low = bits >> np.uint64(32), bits & np.uint64(0xFFFFFFFF)
                        # half a step up: the logarithm of zero is not finite
                        radius = deviation * np.sqrt(-2 * np.log((high + 0.5) * unit))
                        angle = 2 * np.pi * low * unit
                        values[site, k] += np.float32(radius * np.cos(angle))
                        if k + 1 < members:
                            values[site, k + 1] += np.float32(radius * np.sin(angle))


@compiled(fastmath=FAST)
def _subtract(own, weight, other):
    """Subtract from the draws at a site the weighted ones of another."""
    for member in range(len(own)):
        own[member] -= weight * other[member]


@compiled()
def solve_and_draw(values, targets, tiles, space, kernel, tables, draws, row):
    """As `sstfill.methods.oi.solver_kernels.solve`; and in `draws`, ``(site, member)``, subtract
    from those of each target what the interpolation makes of those at its neighbours.

    No target is a neighbour of another, so that these may be replaced in place.
    """
    mean, variance = np.zeros(len(targets)), np.zeros(len(targets))
    most, members = tiles.neighbours.shape[1], draws.shape[1]
    work = workspace(most, tiles.members.shape[1])
    solved = np.empty((most, members))
    for tile in range(len(tiles.corner)):
        rows = posterior(values, targets, tiles, tile, space, kernel, tables, work)
        n = tiles.known[tile]
        # the forward solve of each draw by the factor, as of the values
        for i in range(n):
            c, t, y, x = tiles.neighbours[tile, i]
            # member by member: whole rows take seconds more to compile
            for member in range(members):
                solved[i, member] = draws[row[c, t, y, x], member]
            for k in range(i):
                _subtract(solved[i], work.U[k, i], solved[k])
            for member in range(members):
                solved[i, member] *= work.pivot[i]
        for j in range(len(rows)):
            mean[rows[j]], variance[rows[j]] = work.mean[j], work.variance[j]
            c, t, y, x = targets[rows[j]]
            own = draws[row[c, t, y, x]]
            for k in range(n):
                _subtract(own, work.U[k, n + j], solved[k])
    return mean, variance


@compiled()
def mark(needed, targets, tiles):
    """Set True where targets and their neighbours are, ``(channel, time, y, x)``."""
    for i in range(len(targets)):
        c, t, y, x = targets[i]
        needed[c, t, y, x] = True
    for tile in range(len(tiles.corner)):
        for j in range(tiles.known[tile]):
            c, t, y, x = tiles.neighbours[tile, j]
            needed[c, t, y, x] = True
