# SPDX-License-Identifier: Apache-2.0
"""Positions of the pixels of a grid in km: on the sphere, or on a plane without latitudes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.reading.positions import EARTH_RADIUS, degrees, on_the_sphere, place_km

Step = tuple[float, float]

POINTS = 100
"""Rows and columns of a grid from which its middle and its radius are found."""


class Positions(NamedTuple):
    """Positions of the pixels in km.

    Straight lines between points on the sphere are shorter than arcs by less than 1 % up to 3000
    km.

    Attributes
    ----------
    xyz, northward, eastward
        Position, and unit vectors there, ``(y, x, 3)``. NaN where a grid has no coordinates.
    north
        Distance along the meridian, ``(y, x)``.
    rectilinear
        Whether each row lies along a parallel and each column along a meridian, or the grid in a
        plane along its axes.
    """

    xyz: NDArray[np.float64]
    northward: NDArray[np.float64]
    eastward: NDArray[np.float64]
    north: NDArray[np.float64]
    rectilinear: bool

    def part(self, rows: slice, columns: slice) -> Positions:
        """Return the positions of a box of the grid."""
        box = rows, columns
        return Positions(
            self.xyz[box],
            self.northward[box],
            self.eastward[box],
            self.north[box],
            self.rectilinear,
        )

    @property
    def known(self) -> NDArray[np.bool_]:
        """True where there is a position, ``(y, x)``."""
        return np.asarray(np.isfinite(self.xyz).all(axis=-1))

    def cells(self, y: NDArray[np.integer], x: NDArray[np.integer]) -> NDArray[np.float64]:
        """Step from some pixels to the next along y, and along x, ``(n, 2, 2)``: northward and
        eastward, km. From the last pixel of an axis it is the step before; NaN where there is none.
        """
        rows, columns = np.array(self.xyz.shape[:2]) - 1
        found = np.full((len(y), 2, 2), np.nan)
        if rows:
            before = np.minimum(y, rows - 1)
            found[:, 0] = self.north_and_east((y, x), self.xyz[before + 1, x] - self.xyz[before, x])
        if columns:
            before = np.minimum(x, columns - 1)
            found[:, 1] = self.north_and_east((y, x), self.xyz[y, before + 1] - self.xyz[y, before])
        return found

    def north_and_east(self, pixels: tuple[Any, ...], vectors: NDArray) -> NDArray[np.float64]:
        """Northward and eastward part of the vector at each of some pixels, ``(..., 2)``."""
        parts = [(vectors * unit[pixels]).sum(-1) for unit in (self.northward, self.eastward)]
        return np.stack(parts, -1)


def positions(field: xr.DataArray, row: int = 0, column: int = 0) -> Positions:
    """Return the positions of a standardised field's pixels.

    `row` and `column`: how many of the whole grid come before the field, see
    `sstfill.fields.reading.positions.place_km`.

    >>> degree = {"lat": [0.0], "lon": [0.0, 1.0]}
    >>> equator = xr.DataArray(np.zeros((1, 1, 2)), degree, ("time", "lat", "lon"))
    >>> at = positions(equator).xyz[0]
    >>> round(float(np.linalg.norm(at[1] - at[0])), 1)  # one degree
    111.2
    """
    xyz = place_km(field, row, column)
    if not on_the_sphere(field):
        return _on_the_plane(xyz)
    lat, lon = map(np.deg2rad, degrees(field))
    if lat.ndim == 1:
        lat, lon = np.meshgrid(lat, lon, indexing="ij")
    rectilinear = bool((lat == lat[:, :1]).all() and (lon == lon[:1]).all())
    northward = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], -1)
    eastward = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lat)], -1)
    return Positions(xyz, northward, eastward, EARTH_RADIUS * lat, rectilinear)


def _on_the_plane(xyz: NDArray[np.float64]) -> Positions:
    northward, eastward = np.zeros_like(xyz), np.zeros_like(xyz)
    northward[..., 1] = 1.0
    eastward[..., 0] = 1.0
    return Positions(xyz, northward, eastward, xyz[..., 1], rectilinear=True)


@dataclass(frozen=True)
class Domain:
    """Extent of a whole grid, by which it is laid flat alike in all its parts.

    Attributes
    ----------
    centre
        Unit vector to the middle of the grid; None on a plane.
    radius
        Angle from there to the farthest pixel, radians.
    turn
        Angle by which the direction of north turns over the grid, at most, radians: the convergence
        of the meridians on either side of the middle.
    """

    centre: tuple[float, float, float] | None
    radius: float
    turn: float

    @classmethod
    def of(cls, image: xr.DataArray) -> Domain:
        """Find the extent of the grid of a standardised field."""
        if not on_the_sphere(image):
            return cls(None, 0.0, 0.0)
        some = {}
        for dim in image.dims[-2:]:
            last = image.sizes[dim] - 1
            some[dim] = np.unique(np.linspace(0, last, POINTS).round().astype(int))
        at = positions(image.isel(some))
        # places by the hundred in each direction tell as much as all of a large grid
        up = at.xyz[at.known] / EARTH_RADIUS
        total = up.sum(axis=0)
        length = np.linalg.norm(total)
        if length <= 1e-3 * len(up):  # the whole globe has no middle
            return cls((1.0, 0.0, 0.0), np.pi, np.pi)
        x, y, z = (total / length).tolist()
        farthest = (up @ (total / length)).min()
        radius = float(np.arccos(np.clip(farthest, -1.0, 1.0)))
        east = np.angle((up[:, 0] + 1j * up[:, 1]) * (x - 1j * y))
        return cls((x, y, z), radius, float(np.abs(east * up[:, 2]).max()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        centre = None
        if self.centre is not None:
            centre = list(self.centre)
        return {"centre": centre, "radius": self.radius, "turn": self.turn}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Domain:
        """Build it from what `to_dict` returned."""
        if state["centre"] is None:
            return cls(None, 0.0, 0.0)
        x, y, z = state["centre"]
        return cls((float(x), float(y), float(z)), float(state["radius"]), float(state["turn"]))


def cell_steps(at: Positions) -> tuple[Step, Step]:
    """Return the median step along y, and along x, each ``(northward, eastward)`` in km.

    The step of an axis of one pixel is as long as the other, at a right angle to it; of a single
    pixel both are 1 km.
    """
    steps = []
    for axis in (0, 1):
        apart = np.diff(at.xyz, axis=axis)
        here = tuple(slice(None, n) for n in apart.shape[:2])
        along = at.north_and_east(here, apart)
        known = along[np.isfinite(along).all(-1)]
        steps.append(np.median(known, axis=0) if known.size else np.zeros(2))
    y, x = steps
    if not y.any():
        y = np.array([x[1], -x[0]]) if x.any() else np.array([1.0, 0.0])
    if not x.any():
        x = np.array([-y[1], y[0]])
    return (float(y[0]), float(y[1])), (float(x[0]), float(x[1]))
