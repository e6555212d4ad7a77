# SPDX-License-Identifier: Apache-2.0
"""The measurement operator SyntheticClouds: the clouds of the synthetic ocean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sstfill import synthetic
from sstfill.checks import check_fraction, check_number
from sstfill.errors import OptionError
from sstfill.occlusion.base import Mask, Shape, checked, flipped
from sstfill.synthetic import checks

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SyntheticClouds:
    """Moving clouds, simulated anew by `sstfill.synthetic.clouds` at each draw.

    A pair of values is a range, from which each draw takes a value.

    Parameters
    ----------
    fraction
        Occluded fraction of the whole sequence, met to the pixel; a range is sampled uniformly.
    step
        Time from one frame to the next.
    persistence
        Decorrelation time of the largest clouds; a range is sampled uniformly in its logarithm.
    scale_km
        Size of the largest cloud systems, km; a range is sampled uniformly in its logarithm.
    grid_km
        Edge of a pixel, km.
    wind
        Eastward and northward, m s-1. Where it carries clouds further than their size in a `step`,
        one frame hardly predicts the cover of the next (with the defaults: 26 pixels a frame);
        clouds without wind stay where they are.
    variation
        Variation of the cover between frames, as in `sstfill.synthetic.clouds`.
    augment
        Also flip y and x at random, so that the wind blows from any direction.

    >>> float(SyntheticClouds(fraction=0.25).draw((4, 10, 10), np.random.default_rng(0)).mean())
    0.75
    """

    name: ClassVar[str] = "synthetic-clouds"
    fill_value: ClassVar[float] = 1.0

    fraction: float | Range = 0.4
    step: str = "6h"
    persistence: str | tuple[str, str] = "1D"
    scale_km: float | Range = 200.0
    grid_km: float = 5.0
    wind: Range = (6.0, 2.0)
    variation: float = 0.5
    augment: bool = False

    def __post_init__(self) -> None:
        for bound in _ends("fraction", self.fraction):
            check_fraction("fraction", bound)
        _ascending("fraction", _ends("fraction", self.fraction))
        _ascending("persistence", self._memories)
        for bound in _ends("scale_km", self.scale_km):
            check_number("scale_km", bound, 0, above=True)
        _ascending("scale_km", _ends("scale_km", self.scale_km))
        check_number("grid_km", self.grid_km, 0, above=True)
        check_number("variation", self.variation, 0)
        checks.duration("step", self.step)
        checks.wind(self.wind)

    @property
    def _memories(self) -> Range:
        first, last = _ends("persistence", self.persistence)
        return checks.duration("persistence", first), checks.duration("persistence", last)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask of `shape` (time, y, x), True where observed."""
        sizes = checked(shape)
        least, most = _ends("fraction", self.fraction)
        fraction = least
        if least < most:
            fraction = rng.uniform(least, most)
        persistence = f"{_between(self._memories, rng)!r}s"
        scale = _between(_ends("scale_km", self.scale_km), rng)
        cloudy = synthetic.clouds(
            shape=sizes,
            fraction=fraction,
            step=self.step,
            persistence=persistence,
            scale_km=scale,
            wind=self.wind,
            variation=self.variation,
            grid_km=self.grid_km,
            lat=0.0,
            # from the same generator: one seed of the caller decides all
            seed=int(rng.integers(2**31)),
        ).values
        down, right = flipped(self.augment, rng)
        return ~cloudy[:, ::down, ::right]


def _ends(option: str, value: object) -> tuple:
    """Return a pair as it is, and one value as a range of no width."""
    if not isinstance(value, tuple):
        return value, value
    if len(value) != 2:
        raise OptionError(
            f"{option}={value!r} is not a range; give one value, or a pair (least, most)"
        )
    return value


def _ascending(option: str, ends: tuple[float, float]) -> None:
    if ends[0] > ends[1]:
        raise OptionError(f"{option} has the range {ends[0]:g} to {ends[1]:g}; swap its ends")


def _between(ends: tuple[float, float], rng: np.random.Generator) -> float:
    """Sample a range uniformly in its logarithm; one of no width takes no random number."""
    least, most = ends
    if least == most:
        return float(least)
    return math.exp(rng.uniform(math.log(least), math.log(most)))
