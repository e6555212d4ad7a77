# SPDX-License-Identifier: Apache-2.0
"""Oceans to train on whose truth is known: many kinds of sea, grid, noise and cloud, each drawn
from its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import occlusion, synthetic
from sstfill.checks import check_most, check_number, check_share

Rng = np.random.Generator
Shape = tuple[int, int, int]
SHARES = (0.8, 0.7, 0.56, 0.4, 0.245, 0.134)
"""Occluded shares of the paper's Table 2a."""
STREAM = 77
TRUTH, CLOUDS, EXTRA, STATIC = 10_000_000, 20_000_000, 30_000_000, 40_000_000
"""Added to the number of an ocean, so that its parts have seeds of their own (and those of no test
or benchmark).
"""
PIXELS = 110_000
"""Of a sequence that is not the paper's: images and their size are drawn so that there are about as
many.
"""
MOST = 1_000_000
"""Oceans at most: their numbers stay below those of their parts."""
LEAST_SEEN = 200
"""Observations without which an ocean is left out."""


@dataclass(frozen=True, kw_only=True)
class Oceans:
    """Which oceans.

    Parameters
    ----------
    training, validation
        How many: training oceans are numbered from `first` on, those for validation from 1 on.
    paper
        Share of oceans like those of the paper's protocol: 24 images of 64x64, 5 km, 6 hours apart.
        The others are anything from an hour to two days apart and of 1 to 20 km, with land,
        seasons, noise, offsets and patterns.
    first
        Number of the first ocean to train on, above those for validation.
    """

    training: int = 400
    validation: int = 40
    paper: float = 0.4
    first: int = 10_000

    def __post_init__(self) -> None:
        for name in ("training", "validation"):
            check_number(name, getattr(self, name), 1, whole=True)
            check_most(name, getattr(self, name), MOST)
        check_share("paper", self.paper)
        check_number("first", self.first, self.validation + 1, whole=True)
        check_most("first", self.first, TRUTH - MOST)


class OceanExample(NamedTuple):
    """A cloudy series, what a cloudless satellite would have seen (noise and all), and where the
    sea is.
    """

    obs: xr.DataArray
    seen: NDArray[np.float32]
    sea: xr.DataArray


def draw(number: int, paper: float = Oceans.paper) -> OceanExample | None:
    """Draw an ocean; None where clouds leave next to nothing to see.

    Parameters
    ----------
    number
        Equal numbers draw equal oceans.
    paper
        See `Oceans`.
    """
    rng = np.random.default_rng([number, STREAM])
    truth, over, noise, sea, cloudy = (_like_paper if rng.random() < paper else _any)(number, rng)
    if cloudy is None:
        images, height, width = truth.shape
        cloudy = ~_operator(rng).draw((images, height, width), rng)
    values = truth.values + over
    seen = (values + noise * rng.standard_normal(truth.shape)).astype(np.float32)
    obs = truth.copy(data=np.where(cloudy | ~sea, np.float32(np.nan), seen))
    if int(obs.notnull().sum()) < LEAST_SEEN:
        return None
    return OceanExample(
        obs, seen, xr.DataArray(sea, dims=obs.dims[1:], coords={d: obs[d] for d in obs.dims[1:]})
    )


class Where(TypedDict):
    """Where an ocean lies, in the words of `sstfill.synthetic`."""

    grid_km: float
    lat: float


Parts = tuple[xr.DataArray, Any, float, NDArray[np.bool_], NDArray[np.bool_] | None]


def _like_paper(number: int, rng: Rng) -> Parts:
    shape = (24, 64, 64)
    truth = synthetic.sst(shape=shape, step="6h", seed=TRUTH + number)
    noise = 0.0 if rng.random() < 0.6 else 0.7 * 10 ** rng.uniform(-2.5, -0.5)
    share = float(rng.choice(SHARES) if rng.random() < 0.5 else rng.uniform(0.05, 0.95))
    cloudy = None
    if rng.random() < 0.7:
        cloudy = synthetic.clouds(shape=shape, share=share, step="6h", seed=CLOUDS + number).values
    return truth, 0.0, noise, np.ones(shape[1:], bool), cloudy


def _any(number: int, rng: Rng) -> Parts:
    images = int(rng.integers(10, 64))
    side = int(np.clip(np.sqrt(PIXELS / images), 40, 96))
    rows = int(side * rng.uniform(0.8, 1.2))
    shape = (images, rows, int(side**2 / rows))
    hours = int(rng.choice([1, 3, 6, 12, 24, 24, 24, 24, 48]))
    where = Where(grid_km=_log_uniform(rng, 1, 20), lat=float(rng.uniform(-60, 60)))
    fastest = 3.0 * where["grid_km"] * 1000 / (hours * 3600)  # three pixels from image to image
    spread, speed = _log_uniform(rng, 0.15, 1.5), min(_log_uniform(rng, 0.03, 0.6), fastest)
    truth = synthetic.sst(
        shape=shape,
        step=f"{hours}h",
        seed=TRUTH + number,
        variability=spread,
        speed=speed,
        gradient=float(rng.normal(0, 0.5)),
        seasonal=float(rng.choice([0, rng.uniform(0, 6)])),
        diurnal=float(rng.choice([0, 0, rng.uniform(0, 1)])),
        start=f"2018-{int(rng.integers(1, 13)):02d}-01",
        **where,
    )
    over = spread * _disturbed(number, rng, shape, f"{hours}h", (speed, fastest), where)
    noise = 0.0 if rng.random() < 0.2 else spread * 10 ** rng.uniform(-2.0, 0.0)
    sea = np.ones(shape[1:], bool)
    share = float(rng.uniform(0.05, 0.95))
    if rng.random() < 0.6:
        land, island = float(rng.uniform(0.02, 0.5)), int(rng.choice(2))
        sea = synthetic.land(
            shape=shape[1:], share=land, kind="islands" if island else "coast", seed=number, **where
        ).values
    cloudy = None
    if rng.random() < 0.85:
        cloudy = synthetic.clouds(
            shape=shape,
            share=share,
            step=f"{hours}h",
            persistence=f"{int(rng.choice([3, 6, 12, 24, 48, 96]))}h",
            scale_km=where["grid_km"] * _log_uniform(rng, 6, 80),
            variation=float(rng.uniform(0, 2)),
            wind=(float(rng.normal(0, 5)), float(rng.normal(0, 5))),
            seed=CLOUDS + number,
            **where,
        ).values
    return truth, over, noise, sea, cloudy


def _disturbed(
    number: int, rng: Rng, shape: Shape, step: str, speed: tuple[float, float], where: Where
) -> Any:
    """What lies over the eddies, in units of their spread: weather, offsets of whole images,
    patterns that stay.

    `speed` is that of the eddies, and the fastest that may be.
    """
    over: Any = np.zeros(shape)
    if rng.random() < 0.5:
        own = Where(grid_km=where["grid_km"] * float(rng.uniform(0.3, 2)), lat=where["lat"])
        pace = min(speed[0] * float(rng.uniform(0.5, 2)), speed[1])
        other = synthetic.sst(
            shape=shape,
            step=step,
            seed=EXTRA + number,
            speed=pace,
            gradient=0.0,
            mean=0.0,
            variability=1.0,
            **own,
        )
        over = over + rng.uniform(0.1, 1.0) * other.values
    if rng.random() < 0.5:
        offsets = _red_noise(rng, shape[0])
        over = over + (rng.uniform(0, 1) * offsets)[:, np.newaxis, np.newaxis]
    if rng.random() < 0.4:
        cell = where["grid_km"] * float(rng.uniform(0.3, 3))
        still = synthetic.sst(
            shape=(1, *shape[1:]),
            seed=STATIC + number,
            gradient=0.0,
            mean=0.0,
            variability=1.0,
            grid_km=cell,
        )
        rough = rng.normal(size=shape[1:]) * rng.uniform(0, 1)
        over = over + rng.uniform(0, 3) * (still.values[0] + rough)
    return over


def _red_noise(rng: Rng, length: int) -> NDArray[np.float64]:
    """A stationary AR(1) series of unit variance."""
    series, memory = rng.normal(size=length), rng.uniform(0, 0.95)
    for t in range(1, length):
        series[t] = memory * series[t - 1] + np.sqrt(1 - memory**2) * series[t]
    return series


def _operator(rng: Rng) -> occlusion.Occlusion:
    """One of the paper's other measurement operators."""
    kind = int(rng.integers(3))
    share, count = float(rng.uniform(0.1, 0.95)), int(rng.integers(10, 60))
    return (
        occlusion.RemovePixel(share=share),
        occlusion.Raindrops(count=count),
        occlusion.VerticalMovingBar(min_width=0.1, max_width=0.5),
    )[kind]


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
