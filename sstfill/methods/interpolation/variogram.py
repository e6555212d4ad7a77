# SPDX-License-Identifier: Apache-2.0
"""The semivariogram in time of a gappy field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LAGS = 24
"""Number of lags, spaced about evenly in their logarithm, at which the semivariogram is estimated.
"""
SCALES = 17
"""Time scales of the model, from half the shortest lag to `LONGEST` times the longest."""
LONGEST = 8.0
LEAST = 1e-6
"""Fraction of the largest semivariance below which a misfit of the model counts no more."""
PATIENCE = 20_000
"""Most iterations of the fit: models of neighbouring scales are much alike, so it may take many."""
TABLE = 2000
"""Lags, evenly spaced in their logarithm, at which the model is tabulated."""


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

    def valid(self) -> Variogram:
        """Fit a semivariogram that a field can have; tabulated at `TABLE` lags.

        Estimates at several lags, from other pairs each, need not be one: where the field is
        smooth, the variance of an interpolation comes out by them as zero or less. The fit is a sum
        of valid models with weights that are not negative: a nugget, and exponential and Gaussian
        models of many scales (Chiles & Delfiner 2012, Geostatistics, section 2.5).
        """
        from scipy.optimize import nnls  # SciPy's optimisers take long to import

        shortest, longest = self.lags[0], self.lags[-1]
        scales = np.geomspace(shortest / 2, LONGEST * longest, SCALES)
        lags = np.geomspace(shortest / 100, 2 * longest, TABLE)
        top = self.gamma[-1]
        if not top > 0:
            return Variogram(lags, np.zeros(TABLE))
        # In units of the largest, so that squares cannot overflow.
        relative = self.gamma / top
        weight = 1 / np.maximum(relative, LEAST)
        # Relative misfits: lags at which a smooth field hardly varies decide the short gaps, and
        # would not count beside the sill.
        models = _models(self.lags, scales) * weight[:, np.newaxis]
        parts, _ = nnls(models, relative * weight, maxiter=PATIENCE)
        return Variogram(lags, top * (_models(lags, scales) @ parts))

    @classmethod
    def of(cls, series: NDArray, days: NDArray) -> Variogram:
        """Estimate from series ``(pixels, times)``, NaN in the gaps, pooled over pixels.

        >>> trend = np.cumsum(np.ones((2, 5)), axis=1)
        >>> Variogram.of(trend, np.arange(5.0)).gamma.tolist()
        [0.5, 2.0, 4.5, 8.0]
        """
        n = len(days)
        # Rounded, the shortest lags fall together.
        steps: NDArray = np.unique(np.round(np.geomspace(1, max(1, n - 1), LAGS)).astype(int))
        steps = steps[steps < n]
        lags, gamma = [], []
        for step in steps:
            squares = np.square(series[:, step:] - series[:, :-step], dtype=np.float64)
            pairs = np.isfinite(squares).sum()
            if pairs >= 1:
                # Steps of the series may be uneven: the mean lag stands for them.
                lags.append(np.mean(days[step:] - days[:-step]))
                gamma.append(np.nansum(squares) / pairs / 2)
        if not lags:
            spread = 0.0
            if np.isfinite(series).any():
                spread = float(np.nanvar(series))
            return cls(np.array([1.0]), np.array([spread]))
        # few pairs at long lags would make it fall by chance
        return cls(np.array(lags), np.maximum.accumulate(gamma))


def _models(lags: NDArray, scales: NDArray) -> NDArray:
    """Evaluate a nugget, and the exponential and the Gaussian model of each scale, of sill 1.

    Shape ``(lags, 1 + 2 scales)``; no lag is 0.
    """
    ratio = lags[:, np.newaxis] / scales
    nugget = np.ones((len(lags), 1))
    return np.hstack([nugget, -np.expm1(-ratio), -np.expm1(-np.square(ratio))])
