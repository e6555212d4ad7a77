# SPDX-License-Identifier: Apache-2.0
"""Scale stated errors so that they hold on withheld pixels: by one factor, or by stratum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from sstfill.validation import strata

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Probabilities of the intervals by which an error is calibrated."""
STEPS = np.linspace(-1.5, 1.5, 601)
"""Logarithms of the factors tried for the error, half a percent apart."""
IMAGES = 4
"""Images with withheld pixels that it takes to tell strata apart."""
EXTREME = 1e6
"""Errors are scaled by this factor, up or down, at most."""


def standardised(error: NDArray, sigma: NDArray) -> NDArray:
    """Return ``|error| / sigma``; where sigma is 0, which no scale can mend, 0 or infinity."""
    error = np.abs(error)
    with np.errstate(over="ignore"):
        return np.divide(error, sigma, out=np.where(error > 0, np.inf, 0.0), where=sigma > 0)


def error_scale(z: NDArray, weight: NDArray | None = None) -> float:
    """Return the factor of sigma with which its intervals hold as many errors as they promise.

    Minimises the sum over `LEVELS` of squared (fraction inside - level), searched around the
    68.27 % quantile of `z` = ``|error| / sigma``. That quantile alone would do for Gaussian errors;
    errors of filled pixels have heavier tails, and it leaves too many of them outside the wide
    intervals. Infinite `z` are ignored. With a `weight`, each `z` counts by it.

    >>> z = np.abs(np.random.default_rng(0).normal(0, 2, 100_000))
    >>> round(error_scale(z), 1)
    2.0
    """
    order = np.argsort(z, kind="stable")[: np.count_nonzero(np.isfinite(z))]
    known = z[order]
    if not known.size:
        return 1.0
    if weight is None:
        weight = np.ones(z.size)
    # Fraction of the weight of the first so many.
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    total /= total[-1]
    start = float(np.quantile(known, 0.6827, weights=weight[order], method="inverted_cdf"))
    if not 1 / EXTREME < start < EXTREME:
        return float(np.clip(start, 1 / EXTREME, EXTREME))
    levels = np.array(LEVELS)[:, np.newaxis]
    half_widths = start * np.exp(STEPS) * ndtri((1 + levels) / 2)
    inside = total[np.searchsorted(known, half_widths, side="right")]
    missed = np.square(inside - levels).sum(0).round(12)
    # Among equals the one nearest to the quantile.
    best = np.lexsort((np.abs(STEPS), missed))[0]
    return float(np.clip(start * np.exp(STEPS[best]), 1 / EXTREME, EXTREME))


@dataclass(frozen=True)
class StratifiedScale:
    """Factors of a stated error by distance to data.

    Attributes
    ----------
    distance, lag
        Centres of the strata, as of `sstfill.validation.blend.BlendWeights`; shapes ``(a,)`` and
        ``(b,)``.
    logarithm
        Logarithms of the factors, shape ``(a, b)``.
    """

    distance: NDArray
    lag: NDArray
    logarithm: NDArray

    @classmethod
    def single(cls, factor: float) -> StratifiedScale:
        """Scale all errors by one factor."""
        return cls(np.ones(1), np.ones(1), np.log(np.full((1, 1), factor)))

    @property
    def is_single(self) -> bool:
        """Whether there is one factor only."""
        return self.logarithm.size == 1

    @property
    def factor(self) -> NDArray:
        """Factors of the strata, shape ``(a, b)``."""
        found: NDArray = np.exp(self.logarithm)
        return found

    @classmethod
    def fit(
        cls,
        z: NDArray,
        image: NDArray,
        distance: NDArray,
        lag: NDArray,
        weight: NDArray | None = None,
    ) -> StratifiedScale:
        """Find `error_scale` of each stratum, shrunk towards that of all pixels.

        With pixels of fewer than `IMAGES` images there is one factor only.

        Parameters
        ----------
        z
            ``|error| / sigma`` of withheld pixels, shape ``(n,)``; not finite where it is unknown.
        image
            Number of the image that each pixel lies in.
        distance, lag
            Distance of the pixels to data, see `sstfill.validation.distances.distance_to_data`.
        weight
            How much each pixel counts; by default all the same.

        >>> z = np.abs(np.random.default_rng(0).normal(size=(2, 20_000))) * [[1.0], [4.0]]
        >>> image = np.tile(np.arange(2000), 20)
        >>> distance = np.repeat([1.0, 100.0], 20_000)
        >>> scale = StratifiedScale.fit(z.ravel(), image, distance, np.ones(40_000))
        >>> scale.at(np.array([1.0, 100.0]), np.ones(2)).round(1).tolist()
        [1.0, 4.0]
        """
        distances, i = strata.classes(distance)
        lags, j = strata.classes(lag)
        if weight is None:
            weight = np.ones(z.size)
        over_all = error_scale(z, weight)
        if np.unique(image[np.isfinite(z)]).size < IMAGES:
            return cls.single(over_all)
        prior = np.log(over_all)
        logarithm = np.empty((distances.size, lags.size))
        for a, b in np.ndindex(logarithm.shape):
            here = (i == a) & (j == b) & np.isfinite(z)
            images = np.unique(image[here]).size
            own = np.log(error_scale(z[here], weight[here]))
            logarithm[a, b] = (images * own + strata.PRIOR * prior) / (images + strata.PRIOR)
        return cls(distances, lags, logarithm)

    def at(self, distance: NDArray, lag: NDArray) -> NDArray:
        """Interpolate the factors to pixels; the shape is that of `distance`."""
        table = self.logarithm[..., np.newaxis]
        logarithm = strata.interpolate(table, (self.distance, self.lag), distance, lag)
        factor: NDArray = np.exp(logarithm[..., 0])
        return factor

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold.

        >>> StratifiedScale.single(2.0).to_dict()
        {'distance_km': [1.0], 'lag_days': [1.0], 'factor': [[2.0]]}
        """
        return {
            "distance_km": self.distance.tolist(),
            "lag_days": self.lag.tolist(),
            "factor": self.factor.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StratifiedScale:
        """Read what `to_dict` returned."""
        factor = np.array(values["factor"], dtype=np.float64)
        distance, lag = np.array(values["distance_km"]), np.array(values["lag_days"])
        return cls(distance, lag, np.log(factor))
