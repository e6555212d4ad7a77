# SPDX-License-Identifier: Apache-2.0
"""The semivariogram in time of a gappy field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LAGS = 24
"""Number of lags, spaced about evenly in their logarithm, at which the semivariogram is estimated.
"""


@dataclass(frozen=True)
class Variogram:
    """Semivariogram ``gamma(h) = E[(x(t+h) - x(t))^2] / 2``: non-decreasing, linear between lags.

    Attributes
    ----------
    lags
        Days, increasing.
    gamma
        Field units squared.
    """

    lags: NDArray
    gamma: NDArray

    def __call__(self, lag: NDArray) -> NDArray:
        """Evaluate at any lag in days; constant beyond the last and below the first one."""
        return np.interp(lag, self.lags, self.gamma)

    @classmethod
    def of(cls, series: NDArray, days: NDArray) -> Variogram:
        """Estimate from series ``(pixels, times)``, NaN in the gaps, pooled over pixels.

        >>> walk = np.cumsum(np.ones((2, 5)), axis=1)
        >>> Variogram.of(walk, np.arange(5.0))(np.array([1.0, 2.0])).tolist()
        [0.5, 2.0]
        """
        n = len(days)
        steps: NDArray = np.unique(np.round(np.geomspace(1, max(1, n - 1), LAGS)).astype(int))
        steps = steps[steps < n]
        lags, gamma = [], []
        for step in steps:
            squares = np.square(series[:, step:] - series[:, :-step], dtype=np.float64)
            pairs = np.isfinite(squares).sum()
            if pairs >= 1:
                lags.append(np.mean(days[step:] - days[:-step]))
                gamma.append(np.nansum(squares) / pairs / 2)
        if not lags:
            spread = 0.0
            if np.isfinite(series).any():
                spread = float(np.nanvar(series))
            return cls(np.array([1.0]), np.array([spread]))
        # few pairs at long lags would make it fall by chance
        return cls(np.array(lags), np.maximum.accumulate(gamma))
