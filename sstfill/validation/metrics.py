# SPDX-License-Identifier: Apache-2.0
"""Scores of estimates against truth: numpy kernels, one formula each.

Inputs are 1-D, of equal length and free of NaN; sums are carried in float64 whatever the inputs
are. An *error* is estimate minus truth, in the units of the field. An empty input gives NaN,
silently: nothing was there to score. Where a `weight` can be given, it says how much each value
counts.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from sstfill.errors import OptionError


def bias(estimate: ArrayLike, truth: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean error, positive where the estimate is too high; NaN of nothing.

    >>> bias([1.0, 2.0], [0.5, 2.0])
    0.25
    """
    return _mean(_error(estimate, truth), weight)


def mae(estimate: ArrayLike, truth: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean absolute error; NaN of nothing.

    >>> mae([1.0, 2.0], [2.0, 1.0])
    1.0
    """
    return _mean(np.abs(_error(estimate, truth)), weight)


def rmse(estimate: ArrayLike, truth: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Root of the mean squared error; NaN of nothing.

    >>> rmse([3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 4.0])
    2.5
    """
    return math.sqrt(_mean(_error(estimate, truth) ** 2, weight))


def centred_rmse(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Standard deviation of the error: the RMSE after the bias is removed; NaN of nothing.

    >>> centred_rmse([2.0, 4.0], [1.0, 3.0])
    0.0
    """
    error = _error(estimate, truth)
    return math.sqrt(_mean((error - _mean(error)) ** 2))


def correlation(estimate: ArrayLike, truth: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Pearson's correlation; NaN where either side is constant or nothing is given.

    >>> round(correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]), 12)
    1.0
    """
    x, y = _float64(estimate), _float64(truth)
    x, y = x - _mean(x, weight), y - _mean(y, weight)
    if weight is not None:
        root = np.sqrt(_float64(weight))
        x, y = x * root, y * root
    norm = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    if norm > 0:
        return float(x @ y) / norm
    return math.nan


def coverage(
    error: ArrayLike, sigma: ArrayLike, level: float, weight: ArrayLike | None = None
) -> float:
    """Fraction of the errors inside the central Gaussian interval of a probability.

    A well stated sigma gives back `level`; less means overconfident. NaN of nothing.

    Parameters
    ----------
    error, sigma
        Errors and their stated standard deviations (>= 0), same units.
    level
        Probability of the interval, between 0 and 1.
    weight
        How much each error counts; by default all the same.

    Raises
    ------
    OptionError
        If `level` is not between 0 and 1.

    Examples
    --------
    >>> coverage([0.0, 0.9, -1.1, 3.0], [1.0, 1.0, 1.0, 1.0], level=0.68)
    0.5
    """
    if not 0 < level < 1:
        raise OptionError(f"coverage level {level!r} is not between 0 and 1; 68 % is written 0.68")
    half_width = ndtri((1 + level) / 2)
    return _mean(np.abs(_float64(error)) <= half_width * _float64(sigma), weight)


def crps_gaussian(error: ArrayLike, sigma: ArrayLike) -> float:
    """Mean continuous ranked probability score of Gaussian estimates; smaller is better.

    NaN of nothing.

    With z = error / sigma it is ``sigma [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)]`` for one
    estimate, in the units of the field; where sigma is 0 it is its limit, the absolute error.

    References
    ----------
    Gneiting & Raftery 2007, Strictly proper scoring rules, prediction, and estimation, JASA 102,
    section 4.2.

    Examples
    --------
    >>> round(crps_gaussian([0.0], [1.0]), 4)
    0.2337
    """
    e, s = np.abs(_float64(error)), _float64(sigma)
    z = np.divide(e, s, out=np.zeros_like(e), where=s > 0)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    score = s * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))
    return _mean(np.where(s > 0, score, e))


def sigma_scale(error: ArrayLike, sigma: ArrayLike) -> float:
    """Return the one factor of a stated sigma that matches the errors; NaN of nothing.

    ``sqrt(mean((error / sigma)**2))``: the maximum-likelihood factor for Gaussian errors. Above 1
    the statement was overconfident. Every error counts, outliers included; an error other than 0
    with a sigma of 0 makes it infinite.

    >>> sigma_scale([2.0, -2.0], [1.0, 1.0])
    2.0
    """
    e, s = _float64(error), _float64(sigma)
    z = np.divide(e, s, out=np.where(e == 0, 0.0, np.inf), where=s > 0)
    return math.sqrt(_mean(z**2))


def _float64(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def _error(estimate: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    return _float64(estimate) - _float64(truth)


def _mean(
    values: NDArray[np.float64] | NDArray[np.bool_], weight: ArrayLike | None = None
) -> float:
    if values.size and weight is not None:
        return float(np.average(values, weights=_float64(weight)))
    if values.size:
        return float(values.mean(dtype=np.float64))
    return math.nan
