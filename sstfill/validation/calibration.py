# SPDX-License-Identifier: Apache-2.0
"""Factors by which a stated error must be multiplied to hold on withheld pixels: one for all, or by
stratum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from sstfill.validation import blend_weights

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Shares of errors that the intervals promise to hold."""
STEPS = np.linspace(-1.5, 1.5, 601)
"""Logarithms of the factors tried for the error, half a percent apart."""
EXTREME = 1e6
"""Errors are scaled by this factor, up or down, at most."""


def standardised(error: NDArray, sigma: NDArray) -> NDArray:
    """``|error| / sigma``; where sigma is 0 (no scale can mend that) 0 or infinite."""
    error = np.abs(error)
    with np.errstate(over="ignore"):
        return np.divide(error, sigma, out=np.where(error > 0, np.inf, 0.0), where=sigma > 0)


def error_scale(z: NDArray) -> float:
    """Return the factor by which sigma must be multiplied so that its intervals hold as many errors
    as they promise.

    Minimises the sum over `LEVELS` of squared (share inside - level), searched around the 68.27 %
    quantile of `z` = ``|error| / sigma``, which alone would do for Gaussian errors: of heavier
    tails, as those of filled pixels are, it leaves too many outside the wide intervals; here what
    cannot be met is shared out. Infinite `z` are ignored.

    >>> z = np.abs(np.random.default_rng(0).normal(0, 2, 100_000))
    >>> round(error_scale(z), 1)
    2.0
    """
    known = np.sort(z[np.isfinite(z)])
    if not known.size:
        return 1.0
    start = float(np.quantile(known, 0.6827))
    if not 1 / EXTREME < start < EXTREME:
        return float(np.clip(start, 1 / EXTREME, EXTREME))
    levels = np.array(LEVELS)[:, np.newaxis]
    inside = (
        np.searchsorted(known, start * np.exp(STEPS) * ndtri((1 + levels) / 2), side="right")
        / known.size
    )
    missed = np.square(inside - levels).sum(0).round(12)
    best = np.lexsort((np.abs(STEPS), missed))[0]  # of equals the nearest to the quantile
    return float(np.clip(start * np.exp(STEPS[best]), 1 / EXTREME, EXTREME))


@dataclass(frozen=True)
class StratifiedScale:
    """Factors of a stated error by how far a pixel is from data, linear in logarithms between
    centres of classes.

    Attributes
    ----------
    distance, lag
        Centres of the classes, as of `sstfill.validation.blend_weights.Weights`; shapes ``(a,)``
        and ``(b,)``.
    logarithm
        Of the factors, shape ``(a, b)``.
    """

    distance: NDArray
    lag: NDArray
    logarithm: NDArray

    @classmethod
    def fit(cls, z: NDArray, image: NDArray, distance: NDArray, lag: NDArray) -> StratifiedScale:
        """Find `error_scale` of each stratum, drawn to that of all pixels by
        `sstfill.validation.blend_weights.PRIOR`.

        Parameters
        ----------
        z
            ``|error| / sigma`` of withheld pixels, shape ``(n,)``; not finite where that is
            unknown.
        image
            Number of the image that each lies in.
        distance, lag
            How far each is from data, see `sstfill.validation.distances.distance_to_data`.

        >>> z = np.abs(np.random.default_rng(0).normal(size=(2, 20_000))) * [[1.0], [4.0]]
        >>> distance = np.repeat([1.0, 100.0], 20_000)
        >>> scale = StratifiedScale.fit(z.ravel(), np.tile(np.arange(2000), 20), distance, np.ones(40_000))
        >>> scale.at(np.array([1.0, 100.0]), np.ones(2)).round(1).tolist()
        [1.0, 4.0]
        """
        far, i = blend_weights.classes(distance)
        late, j = blend_weights.classes(lag)
        whole = np.log(error_scale(z))
        table = np.empty((far.size, late.size))
        for a, b in np.ndindex(table.shape):
            here = (i == a) & (j == b) & np.isfinite(z)
            images = np.unique(image[here]).size
            table[a, b] = (images * np.log(error_scale(z[here])) + blend_weights.PRIOR * whole) / (
                images + blend_weights.PRIOR
            )
        return cls(far, late, table)

    def at(self, distance: NDArray, lag: NDArray) -> NDArray:
        """Factors at pixels so far from data, of their shape."""
        table = blend_weights.Weights(self.distance, self.lag, self.logarithm[..., np.newaxis])
        factor: NDArray = np.exp(table.at(distance, lag)[..., 0])
        return factor
