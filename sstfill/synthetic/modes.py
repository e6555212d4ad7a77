# SPDX-License-Identifier: Apache-2.0
"""Large red-noise series made of EOF modes, where simulating an ocean takes too long."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import xarray as xr

from sstfill.synthetic import axes, checks, spectrum
from sstfill.synthetic.coast import sea_cells
from sstfill.synthetic.cover import threshold
from sstfill.synthetic.scene import SEA_ATTRS
from sstfill.synthetic.temperature import ATTRS

# Second word of the random seeds: no other part of an ocean has it.
STREAM, CLOUD_STREAM = 6, 7
BLOCK = 32  # images at a time
MEAN, MEAN_SPREAD = 15.0, 2.5  # degC
FIRST_MODE, DECAY = 2.5, 1.3  # standard deviation of mode m: FIRST_MODE * m ** -DECAY, degC
CLOUD_MEMORY = 2.0  # images


def eof_series(
    *,
    pixels: int = 5_000,
    times: int = 100,
    modes: int = 30,
    fraction: float = 0.6,
    noise: float = 0.2,
    land: float = 0.13,
    truth: bool = False,
    seed: int = 0,
    step: str = "1D",
    start: str = "2020-01-01",
    grid_km: float = 2.0,
    lat: float = 30.0,
    lon: float = 0.0,
) -> xr.Dataset:
    """Make a cloudy series that is exactly a sum of EOF modes plus noise.

    Each mode is a smooth random map times an AR(1) series; later modes are weaker, patchier and
    shorter-lived. The cover differs from image to image. The series is written block by block, so
    that memory stays near the size of the output.

    Parameters
    ----------
    pixels
        Number of sea pixels, exactly.
    times
        Number of images.
    modes
        Number of EOF modes.
    fraction
        Fraction of the sea pixels that is missing, in [0, 1).
    noise
        Standard deviation of the observation error, degC.
    land
        Approximate fraction of land, in [0, 1).
    truth
        Add ``truth``, without noise and clouds; it doubles the memory.
    seed
        The same seed gives the same series.
    step, start, grid_km, lat, lon
        The grid and time axis, as in `sst`.

    Returns
    -------
    Dataset
        ``sst`` (float32, dims ``(time, lat, lon)``, degC, NaN in the gaps), ``sea`` (int8, 1 at
        sea), and ``truth`` if asked.

    Raises
    ------
    OptionError
        An option outside its range.

    Examples
    --------
    >>> series = eof_series(pixels=90, times=7)
    >>> int(series.sea.sum()), series.sst.sizes["time"]
    (90, 7)
    """
    pixels = checks.integer("pixels", pixels, least=1)
    times = checks.integer("times", times, least=1)
    modes = checks.integer("modes", modes, least=1)
    seed = checks.integer("seed", seed, least=0)
    cells = pixels / (1 - checks.fraction("land", land))
    ny = max(1, round(np.sqrt(cells)))
    shape = (ny, int(np.ceil(cells / ny)))
    coords = {"time": axes.temporal(times, step=step, start=start)}
    coords |= axes.horizontal(shape, grid_km=grid_km, lat=lat, lon=lon)
    sea = sea_cells(shape, land=shape[0] * shape[1] - pixels, kind="coast", seed=seed)
    rng = np.random.default_rng([seed, STREAM])
    maps, series = _maps(rng, sea, modes), _series(rng, times, modes)
    covers = _covers(sea, times, checks.fraction("fraction", fraction), seed)
    fields = {"sst": np.full((times, *shape), np.nan, dtype="float32")}
    if truth:
        fields["truth"] = fields["sst"].copy()
    spread = np.float32(checks.number("noise", noise, least=0))
    for first in range(0, times, BLOCK):
        block = slice(first, min(first + BLOCK, times))
        values = series[block] @ maps[1:] + maps[0]
        if truth:
            fields["truth"][block, sea] = values
        values += spread * rng.standard_normal(values.shape, dtype="float32")
        for row in values:
            row[next(covers)] = np.nan
        fields["sst"][block, sea] = values
    data = {}
    for name, field in fields.items():
        data[name] = xr.Variable(("time", "lat", "lon"), field, ATTRS)
    data["sea"] = xr.Variable(("lat", "lon"), sea.astype("int8"), SEA_ATTRS)
    attrs = {"Conventions": "CF-1.8", "title": f"synthetic EOF series of {modes} modes"}
    return xr.Dataset(data, coords, attrs)


def _maps(rng: np.random.Generator, sea: np.ndarray, modes: int) -> np.ndarray:
    """The mean map, then the modes scaled by their standard deviation, (1 + modes, pixels)."""
    size = max(8, *sea.shape)
    maps = np.empty((1 + modes, int(sea.sum())), dtype="float32")
    maps[0] = MEAN + MEAN_SPREAD * spectrum.field(rng, sea.shape, scale=size, slope=5)[sea]
    for m in range(1, 1 + modes):
        patches = spectrum.field(rng, sea.shape, scale=max(8, size / np.sqrt(m)), slope=5)
        maps[m] = FIRST_MODE * m**-DECAY * patches[sea]
    return maps


def _series(rng: np.random.Generator, times: int, modes: int) -> np.ndarray:
    """AR(1) series of unit variance, (times, modes), float32.

    The memory of the first is a season, that of the last a week.
    """
    keep = np.exp(-1 / (7 + 80 / np.arange(1, modes + 1)))
    series = rng.standard_normal((times, modes))
    for t in range(1, times):
        series[t] = keep * series[t - 1] + np.sqrt(1 - keep**2) * series[t]
    return series.astype("float32")


def _covers(sea: np.ndarray, times: int, fraction: float, seed: int) -> Iterator[np.ndarray]:
    """Yield which sea pixels of each image are hidden; the fractions average to `fraction`."""
    rng = np.random.default_rng([seed, CLOUD_STREAM])
    fractions = _fractions(rng, times, fraction)
    images = spectrum.evolving(
        rng,
        (sea.shape[0], sea.shape[1]),
        scale=max(8, *sea.shape) / 2,
        slope=3.5,
        memory=CLOUD_MEMORY,
    )
    for image, hidden in zip(itertools.islice(images, times), fractions, strict=True):
        values = image[sea]
        yield values > threshold(values, hidden)


def _fractions(rng: np.random.Generator, times: int, fraction: float) -> np.ndarray:
    """Fractions of `times` images, spread as real ones are, of mean `fraction` within 1e-6."""
    z = rng.standard_normal(times)
    if fraction == 0:
        return np.zeros(times)
    low, high = -20.0, 20.0  # bisect the centre of a logit-normal
    for _ in range(60):
        middle = (low + high) / 2
        fractions = 1 / (1 + np.exp(-(middle + 1.3 * z)))
        if fractions.mean() < fraction:
            low = middle
        else:
            high = middle
    return fractions
