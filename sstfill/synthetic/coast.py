# SPDX-License-Identifier: Apache-2.0
"""A coast, an island or many: where there is land in a synthetic ocean."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import xarray as xr

from sstfill.errors import unknown
from sstfill.synthetic import axes, checks, spectrum

# Second word of the random seeds: no other part of an ocean has it.
STREAM = 4
SLOPE = 5.0  # of the relief's spectrum: coast lines smooth at a distance, with bays and islets

Kind = Literal["coast", "island", "islands", "none"]


def land(
    *,
    shape: tuple[int, int] = (64, 64),
    fraction: float = 0.1,
    kind: Kind = "coast",
    seed: int = 0,
    grid_km: float = 5.0,
    lat: float = 38.0,
    lon: float = -60.0,
) -> xr.DataArray:
    """Draw a land mask: the highest part of a random relief.

    Parameters
    ----------
    shape
        Sizes of ``(lat, lon)``; any.
    fraction
        Fraction of land, in [0, 1); met to the nearest cell, and at least one cell is sea.
    kind
        ``coast`` (along one side), ``island``, ``islands``, or ``none`` for no land at all.
    seed
        The same seed gives the same coast.
    grid_km, lat, lon
        The grid, as in `sst`.

    Returns
    -------
    DataArray
        ``sea``, bool, True at sea, dims ``(lat, lon)``.

    Raises
    ------
    OptionError
        An option outside its range.

    Examples
    --------
    >>> int((~land(shape=(20, 30), fraction=0.2)).sum())
    120
    """
    ny, nx = checks.shape(shape, ("lat", "lon"))
    coords = axes.horizontal((ny, nx), grid_km=grid_km, lat=lat, lon=lon)
    if kind not in get_args(Kind):
        raise unknown("kind of land", kind, get_args(Kind))
    cells = 0
    if kind != "none":
        cells = min(round(checks.fraction("fraction", fraction) * ny * nx), ny * nx - 1)
    sea = sea_cells((ny, nx), land=cells, kind=kind, seed=checks.integer("seed", seed, least=0))
    return xr.DataArray(
        sea, dims=("lat", "lon"), coords=coords, name="sea", attrs={"long_name": "sea"}
    )


def sea_cells(shape: tuple[int, int], *, land: int, kind: Kind, seed: int) -> np.ndarray:
    """Return where there is sea, bool of `shape`, given how many cells are land."""
    height = _relief(np.random.default_rng([seed, STREAM]), shape, kind).ravel()
    sea = np.ones(height.size, dtype=bool)
    if land:
        # by rank and not by a height: the fraction of land is met to the cell
        sea[np.argpartition(height, height.size - land)[height.size - land :]] = False
    return sea.reshape(shape)


def _relief(rng: np.random.Generator, shape: tuple[int, int], kind: Kind) -> np.ndarray:
    """Height of the land: a slope or a mound with hills, (ny, nx)."""
    hills = spectrum.field(rng, shape, scale=0.6 * max(8, *shape), slope=SLOPE)
    y, x = _from_the_middle(shape[0])[:, None], _from_the_middle(shape[1])[None, :]
    if kind == "coast":
        angle = rng.uniform(0, 2 * np.pi)
        return 2.5 * (np.cos(angle) * x + np.sin(angle) * y) + 0.6 * hills
    if kind == "island":
        north, east = rng.uniform(-0.4, 0.4, size=2)
        return -4.0 * np.hypot(x - east, y - north) + 0.6 * hills
    return hills


def _from_the_middle(cells: int) -> np.ndarray:
    """Positions from -1 to 1; a single cell lies in the middle, where `linspace` puts it at -1."""
    if cells > 1:
        return np.linspace(-1, 1, cells)
    return np.zeros(1)
