# SPDX-License-Identifier: Apache-2.0
"""How far withheld pixels resemble the gaps: histograms of their distance to data, and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = tuple[NDArray, NDArray]
"""Distance (km) and lag (days) of some pixels, ``(n,)`` each."""
CLASSES = 4
"""Classes of distance and of lag in a histogram, equally full of gaps, and one more of infinity."""
CLIP = (0.2, 5.0)
"""Bounds of the weights: beyond them a few pixels would stand for many."""


@dataclass(frozen=True)
class Resemblance:
    """The gaps of a series by distance to data, and the withheld pixels beside them.

    Attributes
    ----------
    edges
        Inner edges of the classes of distance (km) and of lag (days).
    gaps, withheld
        Fractions of the pixels in each class, ``(distance, lag)``; the last of each are infinite.
    medians
        Median distance and lag, of the gaps and of the withheld pixels.
    """

    edges: Pair
    gaps: NDArray
    withheld: NDArray
    medians: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def of(cls, gaps: Pair, withheld: Pair) -> Resemblance:
        """Compare pixels by distance and lag, ``(n,)`` each; of the gaps, there is at least one."""
        edges = (class_edges(gaps[0]), class_edges(gaps[1]))
        return cls(
            edges,
            histogram(gaps, edges),
            histogram(withheld, edges),
            (_medians(gaps), _medians(withheld)),
        )

    @property
    def overlap(self) -> float:
        """What the two histograms have in common, 0 to 1."""
        return overlap(self.gaps, self.withheld)

    def weights(self, distance: NDArray, lag: NDArray) -> NDArray:
        """Return weights of withheld pixels, of mean 1, with which they resemble the gaps more."""
        ratio = np.ones_like(self.gaps)
        np.divide(self.gaps, self.withheld, out=ratio, where=self.withheld > 0)
        weight = ratio.clip(*CLIP)[places((distance, lag), self.edges)]
        # Of mean 1, for weights of several variables are used side by side.
        return weight / weight.mean()

    def summary(self) -> dict[str, Any]:
        """Return medians and overlap as JSON can hold them; what is infinite is None."""
        found: dict[str, Any] = {}
        for name, (distance, lag) in zip(("gaps", "withheld"), self.medians, strict=True):
            found[name] = {"distance_km": _finite(distance), "lag_days": _finite(lag)}
        return found | {"overlap": round(self.overlap, 3)}


def class_edges(values: NDArray) -> NDArray:
    """Return inner edges of `CLASSES` equally full classes of the finite ones of some distances."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.empty(0)
    # "higher" takes a distance that occurs, so that equal distances fall into one class.
    edges = np.quantile(finite, np.arange(1, CLASSES) / CLASSES, method="higher")
    # An edge at the largest value would leave nothing above it.
    return np.unique(edges[edges < finite.max()])


def places(pixels: Pair, edges: Pair) -> tuple[NDArray, NDArray]:
    """Return the class of distance and of lag of each pixel; infinite ones are of the last."""
    found = []
    for values, inner in zip(pixels, edges, strict=True):
        number = np.searchsorted(inner, values, side="left")
        number[~np.isfinite(values)] = inner.size + 1
        found.append(number)
    return found[0], found[1]


def histogram(pixels: Pair, edges: Pair) -> NDArray:
    """Return the fractions of pixels in each class of distance and lag; 0 of no pixels."""
    counts = np.zeros((edges[0].size + 2, edges[1].size + 2))
    np.add.at(counts, places(pixels, edges), 1.0)
    return counts / max(1.0, counts.sum())


def overlap(first: NDArray, second: NDArray) -> float:
    """Return what two histograms have in common, 0 to 1."""
    return float(np.minimum(first, second).sum())


def _medians(pixels: Pair) -> tuple[float, float]:
    # Of infinite values NumPy's default would interpolate between infinity and infinity.
    distance, lag = pixels
    return (
        float(np.quantile(distance, 0.5, method="lower")),
        float(np.quantile(lag, 0.5, method="lower")),
    )


def _finite(value: float) -> float | None:
    if np.isfinite(value):
        return round(value, 4)
    return None
