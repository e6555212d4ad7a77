# SPDX-License-Identifier: Apache-2.0
"""Clouds that drift, change shape and hide a set fraction of the sea."""

from __future__ import annotations

import itertools
import math

import numpy as np
import xarray as xr

from sstfill.errors import OptionError
from sstfill.synthetic import axes, checks, spectrum

# Second word of the random seeds: no other part of an ocean has it.
STREAM = 3
SLOPE = 3.3  # of the two-dimensional spectrum; 8/3 gives froth, 4 gives smooth blobs


def clouds(
    *,
    shape: tuple[int, int, int] = (24, 64, 64),
    fraction: float = 0.4,
    step: str = "6h",
    persistence: str = "1D",
    scale_km: float = 200.0,
    wind: tuple[float, float] = (6.0, 2.0),
    variation: float = 0.5,
    seed: int = 0,
    start: str = "2018-01-01",
    grid_km: float = 5.0,
    lat: float = 38.0,
    lon: float = -60.0,
    sea: xr.DataArray | None = None,
) -> xr.DataArray:
    """Draw a sequence of moving cloud masks.

    A Gaussian field with a power-law spectrum drifts with the wind while each of its modes
    decorrelates, small ones sooner. It is cloudy where the field exceeds one threshold, chosen to
    meet `fraction`.

    Parameters
    ----------
    shape
        Sizes of ``(time, lat, lon)``; any.
    fraction
        Hidden fraction of all pixels of all images, in [0, 1).
    step
        Time from one image to the next.
    persistence
        Decorrelation time of the largest clouds.
    scale_km
        Size of the largest cloud systems, km.
    wind
        Eastward and northward, m s-1.
    variation
        Variation of the cover between images: 0 leaves it to chance, 2 makes most nearly clear or
        overcast.
    seed
        The same seed gives the same clouds.
    start, grid_km, lat, lon
        The grid and time axis, as in `sst`.
    sea
        True at sea, dims ``(lat, lon)``; given, `fraction` is that of the sea pixels alone.

    Returns
    -------
    DataArray
        ``cloudy``, bool, True where hidden, dims ``(time, lat, lon)``.

    Raises
    ------
    OptionError
        An option outside its range.

    Examples
    --------
    >>> float(clouds(shape=(10, 20, 20), fraction=0.25).mean())
    0.25
    """
    nt, ny, nx = checks.shape(shape, ("time", "lat", "lon"))
    fraction, seed = checks.fraction("fraction", fraction), checks.integer("seed", seed, least=0)
    coords = {"time": axes.temporal(nt, step=step, start=start)}
    coords |= axes.horizontal((ny, nx), grid_km=grid_km, lat=lat, lon=lon)
    memory = checks.duration("persistence", persistence) / checks.duration("step", step)
    cells_per_step = checks.duration("step", step) / (grid_km * 1e3)
    u, v = checks.wind(wind)
    rng = np.random.default_rng([seed, STREAM])
    images = spectrum.evolving(
        rng,
        (ny, nx),
        scale=checks.number("scale_km", scale_km, above=0) / grid_km,
        slope=SLOPE,
        memory=memory,
        drift=(v * cells_per_step, u * cells_per_step),
    )
    weather = _weather(rng, nt, memory, checks.number("variation", variation, least=0))
    depth = np.empty((nt, ny, nx), dtype="float32")
    depth[:] = weather[:, None, None]
    for t, image in enumerate(itertools.islice(images, nt)):
        depth[t] += image
    counted = depth
    if sea is not None:
        mask = np.asarray(sea.values, dtype=bool)
        if mask.shape != (ny, nx) or not mask.any():
            raise OptionError(
                f"sea of shape {mask.shape} does not fit images of {(ny, nx)}; "
                "give one with some sea on the same grid"
            )
        counted = depth[:, mask]
    return xr.DataArray(
        depth > threshold(counted, fraction),
        dims=("time", "lat", "lon"),
        coords=coords,
        name="cloudy",
        attrs={"long_name": "hidden by cloud"},
    )


def threshold(values: np.ndarray, fraction: float) -> np.float32:
    """Return the value that this fraction of `values` exceeds, to the nearest count."""
    flat = np.ravel(values)
    below = flat.size - round(fraction * flat.size)
    if below == 0:
        return np.float32(-np.inf)
    # a value of the field itself, so that the count is met exactly
    return np.partition(flat, below - 1)[below - 1]


def _weather(rng: np.random.Generator, times: int, memory: float, spread: float) -> np.ndarray:
    """An offset for each image, float32: AR(1) with twice the memory of the largest clouds."""
    keep = math.exp(-1 / (2 * memory))
    draws = rng.standard_normal(times)
    offsets = np.empty(times, dtype="float32")
    offset = draws[0]
    for t, draw in enumerate(draws):
        # stationary from the first image on
        offset = keep * offset + math.sqrt(1 - keep**2) * draw if t else draw
        offsets[t] = spread * offset
    return offsets
