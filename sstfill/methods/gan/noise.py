# SPDX-License-Identifier: Apache-2.0
"""The noise that a network makes a member of: the same at a pixel in whatever patch it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sstfill.fields.patches import Box
from sstfill.methods.common.keyed import keyed_normals, pixel_keys, time_keys
from sstfill.nn.sizes import SIDE, SPACINGS

LATTICE = 741
"""What is drawn: a key of its numbers."""


@dataclass(frozen=True)
class Noise:
    """Lattices of normal numbers over a whole series, one for each member and spacing.

    Attributes
    ----------
    seed
        Of all of them.
    members
        How many.
    days
        Absolute times of the images, ``(times,)``.
    row, column
        Of the first pixel, in the whole grid.
    """

    seed: int
    members: int
    days: NDArray[np.float64]
    row: int = 0
    column: int = 0

    def within(self, box: Box) -> Iterator[NDArray[np.float32]]:
        """Yield the noise of each member in a box, ``(spacing, time, y, x)``, of unit variance."""
        times, rows, columns = box
        stamps = time_keys(self.days[times])
        y = np.arange(rows.start, rows.stop) + self.row
        x = np.arange(columns.start, columns.stop) + self.column
        for member in range(self.members):
            parts = [self._lattice(member, k, stamps, y, x) for k in range(len(SPACINGS))]
            yield np.stack(parts)

    def aligned(self, box: Box) -> tuple[Iterator[NDArray[np.float32]], tuple[int, int]]:
        """Return `within` of a box that begins at a position of the network's coarsest level,
        counted in the whole grid, and by how many rows and columns it begins earlier.

        Without members there is nothing to align.
        """
        times, rows, columns = box
        if not self.members:
            return iter(()), (0, 0)
        y, x = (rows.start + self.row) % SIDE, (columns.start + self.column) % SIDE
        wider = slice(rows.start - y, rows.stop), slice(columns.start - x, columns.stop)
        return self.within((times, *wider)), (y, x)

    def _lattice(
        self, member: int, k: int, stamps: NDArray, y: NDArray, x: NDArray
    ) -> NDArray[np.float32]:
        """Interpolate the points of a lattice at pixels, ``(time, y, x)``."""
        spacing = SPACINGS[k]
        rows = np.arange(y[0] // spacing, y[-1] // spacing + 2)
        columns = np.arange(x[0] // spacing, x[-1] // spacing + 2)
        points = pixel_keys(*np.meshgrid(rows, columns, indexing="ij")).ravel()
        drawn = keyed_normals((self.seed, LATTICE, member, k), stamps, points)
        lattice = drawn.reshape(len(stamps), len(rows), len(columns))
        if spacing == 1:
            return lattice[:, :-1, :-1]
        return _interpolated(_interpolated(lattice, y, spacing, 1), x, spacing, 2)


def _interpolated(lattice: NDArray, at: NDArray, spacing: int, axis: int) -> NDArray[np.float32]:
    """Interpolate linearly along an axis, and bring the variance back to 1."""
    point = at // spacing - at[0] // spacing
    after = (at % spacing) / spacing
    size = np.hypot(after, 1 - after)
    shape = [1, 1, 1]
    shape[axis] = len(at)
    left = np.asarray((1 - after) / size, np.float32).reshape(shape)
    right = np.asarray(after / size, np.float32).reshape(shape)
    return lattice.take(point, axis) * left + lattice.take(point + 1, axis) * right
