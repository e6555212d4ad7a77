# SPDX-License-Identifier: Apache-2.0
"""How errors are distributed: Student's t by its degrees of freedom, or as a Gaussian.

A stated error is a standard deviation whatever the distribution. Of two errors with the same
standard deviation the one with heavier tails is small more often, and very large more often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

from sstfill.errors import InputError

NAME, DEGREES = "error_distribution", "error_degrees_of_freedom"
"""Attributes of an error, and entries of a score."""
STUDENT = "student_t"
LEAST = 3.0
"""Degrees of freedom: with less the standard deviation is mostly that of errors nobody has seen."""
ONE_SIGMA = 0.682689492137086
"""Probability of a Gaussian interval of one standard deviation to either side."""
FARTHEST = 4.0
"""Normal numbers farther out, one in 16,000, give the same factor as this one: what the tails hold
there nobody has seen.
"""
KNOTS = 4001
"""Normal numbers up to `FARTHEST` to either side whose factor is computed; between them it is
interpolated.
"""


@dataclass(frozen=True)
class ErrorDistribution:
    """Student's t, scaled to a standard deviation of 1; Gaussian with infinite degrees of freedom.

    Parameters
    ----------
    degrees_of_freedom
        `LEAST` or more.

    Examples
    --------
    >>> [round(float(ErrorDistribution(n).half_width(0.95)), 2) for n in (3.0, 5.0, np.inf)]
    [1.84, 1.99, 1.96]
    """

    degrees_of_freedom: float = np.inf

    def __post_init__(self) -> None:
        # Not a number fails this too.
        if not self.degrees_of_freedom >= LEAST:
            raise InputError(
                f"{DEGREES}={self.degrees_of_freedom!r} must be a number, {LEAST:g} or more"
            )

    @property
    def is_gaussian(self) -> bool:
        """Whether the errors are Gaussian."""
        return bool(self.degrees_of_freedom == np.inf)

    def half_width(self, probability: ArrayLike) -> NDArray[np.float64]:
        """Return half the width of central intervals, in standard deviations."""
        return half_width(probability, self.degrees_of_freedom)

    def factor(self, level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the factors that give Gaussian deviations this distribution.

        ``sqrt((nu - 2) / chi2)`` of ``nu`` degrees of freedom, where ``chi2`` is the quantile that
        has the probability of a normal number (Andrews & Mallows 1974, Journal of the Royal
        Statistical Society B 36, 99-102). The greater the number, the greater the factor; its mean
        square is 1, but for what lies beyond `FARTHEST` (0.974 for 3 degrees, 0.996 for 4).

        Parameters
        ----------
        level
            Standard normal numbers, independent of the deviations; any shape.

        Examples
        --------
        >>> ErrorDistribution(4.0).factor(np.array([-1.0, 0.0, 1.0])).round(2).tolist()
        [0.55, 0.77, 1.19]
        """
        if self.is_gaussian:
            return np.ones_like(level)
        at = np.linspace(-FARTHEST, FARTHEST, KNOTS)
        chi2 = 2 * gammaincinv(self.degrees_of_freedom / 2, ndtr(-at))
        # Beyond the outermost knots it stays as it is there.
        found: NDArray[np.float64] = np.interp(
            level, at, np.sqrt((self.degrees_of_freedom - 2) / chi2)
        )
        return found

    def attrs(self) -> dict[str, Any]:
        """Return the attributes that state the distribution; none of a Gaussian one.

        >>> ErrorDistribution(6.25).attrs()
        {'error_distribution': 'student_t', 'error_degrees_of_freedom': 6.25}
        """
        if self.is_gaussian:
            return {}
        return {NAME: STUDENT, DEGREES: self.degrees_of_freedom}

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> ErrorDistribution:
        """Read the distribution from attributes; where they state none, it is Gaussian.

        Raises
        ------
        InputError
            They state one that sstfill does not know, or no sensible degrees of freedom.
        """
        stated, degrees = attrs.get(NAME), attrs.get(DEGREES)
        if stated is None:
            return GAUSSIAN
        if stated != STUDENT:
            raise InputError(
                f"the attribute {NAME}={stated!r} is not known; give {STUDENT!r}, or none for a "
                "Gaussian distribution"
            )
        if not isinstance(degrees, int | float | np.integer | np.floating):
            raise InputError(f"{NAME}={stated!r} needs {DEGREES}, a number; found {degrees!r}")
        return cls(float(degrees))


GAUSSIAN = ErrorDistribution()


def half_width(probability: ArrayLike, degrees_of_freedom: ArrayLike) -> NDArray[np.float64]:
    """Return half the width of central intervals of Student's t, in its standard deviations.

    Parameters
    ----------
    probability
        Of the intervals, between 0 and 1.
    degrees_of_freedom
        More than 2; infinite for a Gaussian distribution. The two are broadcast.

    Examples
    --------
    >>> half_width(0.8, [4.0, np.inf]).round(3).tolist()
    [1.084, 1.282]
    """
    degrees = np.asarray(degrees_of_freedom, np.float64)
    upper = (1 + np.asarray(probability, np.float64)) / 2
    # sqrt((n - 2) / n), written so that it is 1 for infinite n.
    found: NDArray[np.float64] = stdtrit(degrees, upper) * np.sqrt(1 - 2 / degrees)
    # More digits than `stdtrit` has there.
    return np.where(np.isinf(degrees), ndtri(upper), found)
