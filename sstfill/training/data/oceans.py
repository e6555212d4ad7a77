# SPDX-License-Identifier: Apache-2.0
"""Synthetic oceans with known truth: seas, grids, noise and clouds, each drawn from its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import occlusion, synthetic
from sstfill.checks import check_fraction, check_most, check_number

Rng = np.random.Generator
Shape = tuple[int, int, int]
PAPER_SHAPE = (24, 64, 64)
"""Images, rows and columns of the paper's sequences (Yin, Pajot, de Bezenac and Gallinari 2019)."""
PAPER_FRACTIONS = (0.8, 0.7, 0.56, 0.4, 0.245, 0.134)
"""The occluded fractions of the paper's clouds (`sstfill.evaluation.paper.published`), rounded.

They stay as they were when the shipped checkpoint was trained: a number must draw the same ocean.
"""
# Second word of the seed that an ocean's kind is drawn with; its parts have the numbers below.
STREAM = 77
TRUTH, CLOUDS, EXTRA, STATIC = 10_000_000, 20_000_000, 30_000_000, 40_000_000
"""Added to the number of an ocean: its parts have seeds of their own, and those of no test."""
PIXELS = 110_000
"""Approximate number of pixels of a sequence that does not resemble the paper's."""
MOST = 1_000_000
"""Oceans at most: their numbers stay below those of their parts."""
LEAST_SEEN = 200
"""Observations without which an ocean is left out."""


@dataclass(frozen=True, kw_only=True)
class Oceans:
    """The oceans to train and to validate on.

    Parameters
    ----------
    training, validation
        How many: training oceans are numbered from `first` on, those for validation from 1 on.
    paper
        Fraction of oceans like those of the paper's protocol: 24 images of 64x64, 5 km, 6 hours
        apart. The others are anything from an hour to two days apart and of 1 to 20 km, with land,
        seasons, noise, offsets and patterns.
    first
        Number of the first ocean to train on, above those for validation.
    start
        The checkpoint to train further: a folder, "shipped" for the one that comes with sstfill, or
        "new" for none.
    """

    training: int = 400
    validation: int = 40
    paper: float = 0.4
    first: int = 10_000
    start: str = "new"

    def __post_init__(self) -> None:
        for name in ("training", "validation"):
            check_number(name, getattr(self, name), 1, whole=True)
            check_most(name, getattr(self, name), MOST)
        check_fraction("paper", self.paper)
        check_number("first", self.first, self.validation + 1, whole=True)
        check_most("first", self.first, TRUTH - MOST)


class OceanExample(NamedTuple):
    """A cloudy series, the same without clouds (`seen`, noise included), and the sea mask."""

    obs: xr.DataArray
    seen: NDArray[np.float32]
    sea: xr.DataArray


class Location(TypedDict):
    """Pixel size (km) and latitude (degrees), as keywords of `sstfill.synthetic`."""

    grid_km: float
    lat: float


class OceanParts(NamedTuple):
    """What an ocean is put together from.

    Attributes
    ----------
    truth
        The eddies, ``(time, y, x)``, degrees C.
    disturbance
        What lies over them, degrees C.
    noise
        Standard deviation of the sensor's noise, degrees C.
    sea
        True at sea, ``(y, x)``.
    cloudy
        True under cloud, ``(time, y, x)``; None: another measurement operator hides the sea.
    """

    truth: xr.DataArray
    disturbance: NDArray[np.float64] | float
    noise: float
    sea: NDArray[np.bool_]
    cloudy: NDArray[np.bool_] | None


def draw(
    number: int, paper: float = Oceans.paper, *, least_seen: int = LEAST_SEEN
) -> OceanExample | None:
    """Draw an ocean; None where clouds leave next to nothing to see.

    Parameters
    ----------
    number
        Equal numbers draw equal oceans.
    paper
        See `Oceans`.
    least_seen
        Number of observations below which there is next to nothing to see.
    """
    rng = np.random.default_rng([number, STREAM])
    parts = _like_paper(number, rng) if rng.random() < paper else _any_ocean(number, rng)
    truth, sea, cloudy = parts.truth, parts.sea, parts.cloudy
    if cloudy is None:
        images, height, width = truth.shape
        # operators give what is seen
        cloudy = ~_other_operator(rng).draw((images, height, width), rng)
    noise = parts.noise * rng.standard_normal(truth.shape)
    seen = (truth.values + parts.disturbance + noise).astype(np.float32)
    obs = truth.copy(data=np.where(cloudy | ~sea, np.float32(np.nan), seen))
    if int(obs.notnull().sum()) < least_seen:
        return None
    dims = obs.dims[1:]
    return OceanExample(obs, seen, xr.DataArray(sea, dims=dims, coords={d: obs[d] for d in dims}))


# Below, the order of the draws is part of the result: an ocean's number must go on drawing the same
# ocean. Each value is drawn on a line of its own, in that order.


def _like_paper(number: int, rng: Rng) -> OceanParts:
    """Draw an ocean like those of the paper's protocol."""
    truth = synthetic.sst(shape=PAPER_SHAPE, step="6h", seed=TRUTH + number)
    noise = 0.0
    if rng.random() >= 0.6:
        noise = 0.7 * 10 ** rng.uniform(-2.5, -0.5)
    if rng.random() < 0.5:
        fraction = float(rng.choice(PAPER_FRACTIONS))
    else:
        fraction = float(rng.uniform(0.05, 0.95))
    cloudy = None
    if rng.random() < 0.7:
        clouds = synthetic.clouds(
            shape=PAPER_SHAPE, fraction=fraction, step="6h", seed=CLOUDS + number
        )
        cloudy = clouds.values
    return OceanParts(truth, 0.0, noise, np.ones(PAPER_SHAPE[1:], bool), cloudy)


def _any_ocean(number: int, rng: Rng) -> OceanParts:
    """Draw an ocean of any grid, time step, coast, noise and cloud."""
    # Images, rows and columns of about `PIXELS` in all.
    images = int(rng.integers(10, 64))
    side = int(np.clip(np.sqrt(PIXELS / images), 40, 96))
    rows = int(side * rng.uniform(0.8, 1.2))
    shape = images, rows, int(side**2 / rows)
    hours = int(rng.choice([1, 3, 6, 12, 24, 24, 24, 24, 48]))
    step = f"{hours}h"
    grid_km = _log_uniform(rng, 1, 20)
    lat = float(rng.uniform(-60, 60))
    location = Location(grid_km=grid_km, lat=lat)

    variability = _log_uniform(rng, 0.15, 1.5)
    fastest = 3.0 * grid_km * 1000 / (hours * 3600)  # three pixels from image to image, m/s
    speed = min(_log_uniform(rng, 0.03, 0.6), fastest)
    gradient = float(rng.normal(0, 0.5))
    seasonal = float(rng.choice([0, rng.uniform(0, 6)]))
    diurnal = float(rng.choice([0, 0, rng.uniform(0, 1)]))
    month = int(rng.integers(1, 13))
    truth = synthetic.sst(
        shape=shape,
        step=step,
        seed=TRUTH + number,
        variability=variability,
        speed=speed,
        gradient=gradient,
        seasonal=seasonal,
        diurnal=diurnal,
        start=f"2018-{month:02d}-01",
        **location,
    )
    disturbance = variability * _disturbance(number, rng, shape, step, (speed, fastest), location)
    noise = 0.0
    if rng.random() >= 0.2:
        noise = variability * 10 ** rng.uniform(-2.0, 0.0)

    fraction = float(rng.uniform(0.05, 0.95))
    sea = np.ones(shape[1:], bool)
    if rng.random() < 0.6:
        land = float(rng.uniform(0.02, 0.5))
        island = int(rng.choice(2))
        sea = synthetic.land(
            shape=shape[1:],
            fraction=land,
            kind="islands" if island else "coast",
            seed=number,
            **location,
        ).values
    cloudy = None
    if rng.random() < 0.85:
        cloudy = _draw_clouds(number, rng, shape, step, fraction, location)
    return OceanParts(truth, disturbance, noise, sea, cloudy)


def _draw_clouds(
    number: int, rng: Rng, shape: Shape, step: str, fraction: float, location: Location
) -> NDArray[np.bool_]:
    persistence = int(rng.choice([3, 6, 12, 24, 48, 96]))
    scale_km = location["grid_km"] * _log_uniform(rng, 6, 80)
    variation = float(rng.uniform(0, 2))
    wind = (float(rng.normal(0, 5)), float(rng.normal(0, 5)))
    clouds = synthetic.clouds(
        shape=shape,
        fraction=fraction,
        step=step,
        persistence=f"{persistence}h",
        scale_km=scale_km,
        variation=variation,
        wind=wind,
        seed=CLOUDS + number,
        **location,
    )
    cloudy: NDArray[np.bool_] = clouds.values
    return cloudy


def _disturbance(
    number: int, rng: Rng, shape: Shape, step: str, speeds: tuple[float, float], location: Location
) -> NDArray[np.float64]:
    """Draw weather, offsets of whole images and a pattern that stays, in units of the variability.

    `speeds` are those of the eddies and the greatest allowed, m/s.
    """
    total = np.zeros(shape)
    if rng.random() < 0.5:
        finer = location["grid_km"] * float(rng.uniform(0.3, 2))
        speed = min(speeds[0] * float(rng.uniform(0.5, 2)), speeds[1])
        weather = synthetic.sst(
            shape=shape,
            step=step,
            seed=EXTRA + number,
            speed=speed,
            gradient=0.0,
            mean=0.0,
            variability=1.0,
            grid_km=finer,
            lat=location["lat"],
        )
        total = total + rng.uniform(0.1, 1.0) * weather.values
    if rng.random() < 0.5:
        offsets = _red_noise(rng, shape[0])
        total = total + (rng.uniform(0, 1) * offsets)[:, np.newaxis, np.newaxis]
    if rng.random() < 0.4:
        cell = location["grid_km"] * float(rng.uniform(0.3, 3))
        pattern = synthetic.sst(
            shape=(1, *shape[1:]),
            seed=STATIC + number,
            gradient=0.0,
            mean=0.0,
            variability=1.0,
            grid_km=cell,
        )
        rough = rng.normal(size=shape[1:]) * rng.uniform(0, 1)
        total = total + rng.uniform(0, 3) * (pattern.values[0] + rough)
    return total


def _red_noise(rng: Rng, length: int) -> NDArray[np.float64]:
    """A stationary AR(1) series of unit variance."""
    series = rng.normal(size=length)
    memory = rng.uniform(0, 0.95)
    for t in range(1, length):
        # the factor of the innovation keeps the variance at 1
        series[t] = memory * series[t - 1] + np.sqrt(1 - memory**2) * series[t]
    return series


def _other_operator(rng: Rng) -> occlusion.Occlusion:
    """Draw one of the paper's measurement operators other than clouds."""
    kind = int(rng.integers(3))
    fraction = float(rng.uniform(0.1, 0.95))
    count = int(rng.integers(10, 60))
    if kind == 0:
        return occlusion.RemovePixel(fraction=fraction)
    if kind == 1:
        return occlusion.Raindrops(count=count)
    return occlusion.VerticalMovingBar(min_width=0.1, max_width=0.5)


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
