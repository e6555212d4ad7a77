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
from scipy.special import beta, ndtr, stdtr

from sstfill.errors import OptionError
from sstfill.fields.error_distribution import half_width


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
    # About the mean first: in kelvin the products of raw values would lose most digits.
    x, y = x - _mean(x, weight), y - _mean(y, weight)
    if weight is not None:
        # A root on either side makes the weight of each product.
        root = np.sqrt(_float64(weight))
        x, y = x * root, y * root
    # Two roots, since the product of two large sums could overflow.
    norm = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    if norm > 0:
        return float(x @ y) / norm
    return math.nan


def coverage(
    error: ArrayLike,
    sigma: ArrayLike,
    level: float,
    weight: ArrayLike | None = None,
    degrees_of_freedom: ArrayLike = np.inf,
) -> float:
    """Fraction of the errors inside the central interval of a probability.

    A well stated sigma gives back `level`; less means overconfident. NaN of nothing.

    Parameters
    ----------
    error, sigma
        Errors and their stated standard deviations (>= 0), same units.
    level
        Probability of the interval, between 0 and 1.
    weight
        How much each error counts; by default all the same.
    degrees_of_freedom
        Of Student's t, of which the errors are stated to be, one number or one for each; by default
        they are Gaussian.

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
    limit = half_width(level, degrees_of_freedom) * _float64(sigma)
    return _mean(np.abs(_float64(error)) <= limit, weight)


def stated_crps(
    error: ArrayLike, sigma: ArrayLike, degrees_of_freedom: ArrayLike = np.inf
) -> float:
    """Mean continuous ranked probability score of estimates with a stated error; less is better.

    NaN of nothing.

    With z = error / sigma it is ``sigma [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)]`` for one
    Gaussian estimate, in the units of the field; where sigma is 0 it is its limit, the absolute
    error. Of Student's t it is the like, with the scale that gives the standard deviation sigma.

    Parameters
    ----------
    error, sigma, degrees_of_freedom
        As of `coverage`.

    References
    ----------
    Gneiting & Raftery 2007, Strictly proper scoring rules, prediction, and estimation, JASA 102,
    section 4.2; Jordan, Krueger & Lerch 2019, Journal of Statistical Software 90(12), appendix A.

    Examples
    --------
    >>> round(stated_crps([0.0], [1.0]), 4)
    0.2337
    """
    e, s = np.abs(_float64(error)), _float64(sigma)
    degrees = np.broadcast_to(_float64(degrees_of_freedom), e.shape)
    z = np.divide(e, s, out=np.zeros_like(e), where=s > 0)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    score = s * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))
    heavy = np.isfinite(degrees)
    score[heavy] = s[heavy] * _student_crps(z[heavy], degrees[heavy])
    return _mean(np.where(s > 0, score, e))


def _student_crps(z: NDArray, n: NDArray) -> NDArray[np.float64]:
    """CRPS of Student's t with a standard deviation of 1, `n` degrees of freedom."""
    # Student's t with n degrees of freedom has the variance n / (n - 2).
    scale = np.sqrt(1 - 2 / n)
    x = z / scale
    density = (1 + x**2 / n) ** (-(n + 1) / 2) / (np.sqrt(n) * beta(0.5, n / 2))
    away = x * (2 * stdtr(n, x) - 1) + 2 * density * (n + x**2) / (n - 1)
    spread = 2 * np.sqrt(n) / (n - 1) * beta(0.5, n - 0.5) / beta(0.5, n / 2) ** 2
    found: NDArray[np.float64] = scale * (away - spread)
    return found


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
