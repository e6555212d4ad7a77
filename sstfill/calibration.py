# SPDX-License-Identifier: Apache-2.0
"""The factor by which a stated error must be multiplied to hold on withheld pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

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
    """Return the factor by which sigma must be multiplied so that its intervals hold as many errors as they promise.

    Minimises the sum over `LEVELS` of squared (share inside - level), searched around the 68.27 % quantile of
    `z` = ``|error| / sigma``, which alone would do for Gaussian errors: of heavier tails, as those of filled pixels
    are, it leaves too many outside the wide intervals; here what cannot be met is shared out. Infinite `z` are ignored.

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
    inside = np.searchsorted(known, start * np.exp(STEPS) * ndtri((1 + levels) / 2), side="right") / known.size
    missed = np.square(inside - levels).sum(0).round(12)
    best = np.lexsort((np.abs(STEPS), missed))[0]  # of equals the nearest to the quantile
    return float(np.clip(start * np.exp(STEPS[best]), 1 / EXTREME, EXTREME))
