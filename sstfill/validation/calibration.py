# SPDX-License-Identifier: Apache-2.0
"""Scale stated errors so that they hold on withheld pixels, and tell how they are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.fields.error_distribution import GAUSSIAN, ErrorDistribution
from sstfill.validation import strata

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Probabilities of the intervals by which an error is calibrated."""
ONE_SIGMA = 0.6827
"""Quantile of the errors around which factors are tried."""
STEPS = np.linspace(-1.5, 1.5, 601)
"""Logarithms of the factors tried for the error, half a percent apart."""
TRIED = (GAUSSIAN, *(ErrorDistribution(60 / n) for n in range(1, 21)))
"""Distributions tried for the errors: Gaussian, then ever heavier tails."""
IMAGES = 4
"""Images with withheld pixels that it takes to tell strata apart, and tails."""
EXTREME = 1e6
"""Errors are scaled by this factor, up or down, at most."""


def standardised(error: NDArray, sigma: NDArray) -> NDArray:
    """Return ``|error| / sigma``; where sigma is 0, which no scale can mend, 0 or infinity."""
    error = np.abs(error)
    with np.errstate(over="ignore"):
        return np.divide(error, sigma, out=np.where(error > 0, np.inf, 0.0), where=sigma > 0)


def error_scale(
    z: NDArray, weight: NDArray | None = None, distribution: ErrorDistribution = GAUSSIAN
) -> float:
    """Return the factor of sigma with which its intervals hold as many errors as they promise.

    Minimises the sum over `LEVELS` of squared (fraction inside - level), searched around the
    68.27 % quantile of `z` = ``|error| / sigma``. That quantile alone would leave the wide
    intervals to chance. Infinite `z` are ignored. With a `weight`, each `z` counts by it. Scaled by
    the factor, sigma is the standard deviation of the `distribution`.

    >>> z = np.abs(np.random.default_rng(0).normal(0, 2, 100_000))
    >>> round(error_scale(z), 1)
    2.0
    """
    # Sorted once, the fraction inside any interval is a search in the cumulative weights.
    return _matched(_Inside.of(z, weight), distribution)[0]


def error_distribution(z: NDArray, weight: NDArray | None = None) -> ErrorDistribution:
    """Find the distribution whose intervals, scaled by `error_scale`, hold what they promise best.

    >>> z = np.abs(np.random.default_rng(0).standard_t(5.0, 100_000))
    >>> round(error_distribution(z).degrees_of_freedom)
    5
    >>> z = np.abs(np.random.default_rng(0).normal(size=100_000))
    >>> error_distribution(z).degrees_of_freedom >= 60
    True
    """
    inside = _Inside.of(z, weight)
    # At a tie argmin takes the first, and so the distribution with the lighter tails.
    missed = [_matched(inside, distribution)[1] for distribution in TRIED]
    return TRIED[int(np.argmin(missed))]


class _Inside(NamedTuple):
    """Finite ``|error| / sigma``, increasing, and the fraction of the weight of the first so many.

    `fraction` has one number more than `known`: the first is 0, the last 1.
    """

    known: NDArray
    weight: NDArray
    fraction: NDArray

    @classmethod
    def of(cls, z: NDArray, weight: NDArray | None) -> _Inside:
        # argsort puts infinite values and NaN last, where they are cut off.
        order = np.argsort(z, kind="stable")[: np.count_nonzero(np.isfinite(z))]
        counted = np.ones(order.size)
        if weight is not None:
            counted = weight[order]
        total = np.concatenate([[0.0], np.cumsum(counted)])
        return cls(z[order], counted, total / (total[-1] or 1.0))


def _matched(inside: _Inside, distribution: ErrorDistribution) -> tuple[float, float]:
    """Return the factor of `error_scale`, and by how much the intervals still miss."""
    known, weight, fraction = inside
    if not known.size:
        return 1.0, 0.0
    start = float(np.quantile(known, ONE_SIGMA, weights=weight, method="inverted_cdf"))
    # Around such a factor nothing can be searched; `EXTREME` bounds what it does to the error.
    if not 1 / EXTREME < start < EXTREME:
        return float(np.clip(start, 1 / EXTREME, EXTREME)), 0.0
    levels = np.array(LEVELS)[:, np.newaxis]
    # All factors and levels in one search: a grid cannot stop at a local minimum, as the steps of
    # the fraction have many.
    half_widths = start * np.exp(STEPS) * distribution.half_width(levels)
    held = fraction[np.searchsorted(known, half_widths, side="right")]
    # Rounded, so that factors which hold the same pixels tie whatever the order of the sums.
    missed = np.square(held - levels).sum(0).round(12)
    # Among equals the one nearest to the quantile.
    best = np.lexsort((np.abs(STEPS), missed))[0]
    factor = float(np.clip(start * np.exp(STEPS[best]), 1 / EXTREME, EXTREME))
    return factor, float(missed[best])


@dataclass(frozen=True)
class StratifiedScale:
    """Factors of a stated error by distance to data, and the distribution of the errors.

    Attributes
    ----------
    distance, lag
        Centres of the strata, as of `sstfill.validation.blend.BlendWeights`; shapes ``(a,)`` and
        ``(b,)``.
    logarithm
        Logarithms of the factors, shape ``(a, b)``.
    distribution
        Of the errors over the scaled error, which is its standard deviation.
    """

    distance: NDArray
    lag: NDArray
    logarithm: NDArray
    distribution: ErrorDistribution = GAUSSIAN

    @classmethod
    def single(cls, factor: float, distribution: ErrorDistribution = GAUSSIAN) -> StratifiedScale:
        """Scale all errors by one factor."""
        return cls(np.ones(1), np.ones(1), np.log(np.full((1, 1), factor)), distribution)

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

        The distribution is one for all strata: that of the errors over what a Gaussian error would
        be scaled to. With pixels of fewer than `IMAGES` images there is one factor only, and it is
        Gaussian.

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
        if weight is None:
            weight = np.ones(z.size)
        # Errors of one image are alike, so a few images tell neither strata nor tails.
        if np.unique(image[np.isfinite(z)]).size < IMAGES:
            return cls.single(error_scale(z, weight))
        found = cls._by_stratum(z, image, distance, lag, weight, GAUSSIAN)
        # After the strata are scaled: a mixture of different scales would look like heavy tails.
        distribution = error_distribution(z / found.at(distance, lag), weight)
        # With another distribution the same intervals need other factors, so these are fitted
        # again.
        if distribution.is_gaussian:
            return found
        return cls._by_stratum(z, image, distance, lag, weight, distribution)

    @classmethod
    def _by_stratum(
        cls,
        z: NDArray,
        image: NDArray,
        distance: NDArray,
        lag: NDArray,
        weight: NDArray,
        distribution: ErrorDistribution,
    ) -> StratifiedScale:
        distances, i = strata.classes(distance)
        lags, j = strata.classes(lag)
        prior = np.log(error_scale(z, weight, distribution))
        logarithm = np.empty((distances.size, lags.size))
        for a, b in np.ndindex(logarithm.shape):
            here = (i == a) & (j == b) & np.isfinite(z)
            images = np.unique(image[here]).size
            # Factors are averaged as logarithms, so that 2 and 1/2 make 1.
            own = np.log(error_scale(z[here], weight[here], distribution))
            logarithm[a, b] = (images * own + strata.PRIOR * prior) / (images + strata.PRIOR)
        return cls(distances, lags, logarithm, distribution)

    def at(self, distance: NDArray, lag: NDArray) -> NDArray:
        """Interpolate the factors to pixels; the shape is that of `distance`."""
        table = self.logarithm[..., np.newaxis]
        logarithm = strata.interpolate(table, (self.distance, self.lag), distance, lag)
        factor: NDArray = np.exp(logarithm[..., 0])
        return factor

    def to_dict(self) -> dict[str, Any]:
        """Return the factors as plain values that JSON can hold.

        >>> StratifiedScale.single(2.0).to_dict()
        {'distance_km': [1.0], 'lag_days': [1.0], 'factor': [[2.0]]}
        """
        return {
            "distance_km": self.distance.tolist(),
            "lag_days": self.lag.tolist(),
            "factor": self.factor.tolist(),
        }

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], distribution: ErrorDistribution = GAUSSIAN
    ) -> StratifiedScale:
        """Read the factors that `to_dict` returned."""
        factor = np.array(values["factor"], dtype=np.float64)
        distance, lag = np.array(values["distance_km"]), np.array(values["lag_days"])
        return cls(distance, lag, np.log(factor), distribution)
