# SPDX-License-Identifier: Apache-2.0
"""How like the gaps of a series withheld pixels are, by all that is known of their surroundings.

Withheld pixels were observed, so that others of their kind are left with fewer dates, nearer to
data, than the gaps are. `sstfill.validation.withholding.resemblance` tells how far they differ;
here a logistic regression tells withheld pixels from gaps, and what it says weighs both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from sstfill.fields.gaps import days_to_either_side
from sstfill.validation.withheld_estimates import gather

PIXELS = 4000
"""Pixels of either kind by which they are told apart, at most."""
RIDGE = 0.01
"""Of the regression: with less, a few hundred pixels of a few clouds are told apart by chance."""
CLIP = (0.1, 10.0)
"""Bounds of the weights: beyond them a few pixels would stand for many."""
FARTHEST = 8.0
"""Bound of the logarithm of the odds, either way."""
SLAB = 100_000
"""Pixels whose terms are in memory at once: there are 17 of each."""


class Surroundings(NamedTuple):
    """What is left of the data around some pixels, ``(n,)`` each.

    Attributes
    ----------
    distance
        Kilometres to the nearest observation in the image.
    lag, farther
        Days to the nearest observation of the pixel, and to the nearest one on the other side in
        time; infinite where there is none.
    dates
        On how many dates the pixel is observed.
    """

    distance: NDArray
    lag: NDArray
    farther: NDArray
    dates: NDArray

    @classmethod
    def of(
        cls,
        left: NDArray[np.bool_],
        days: NDArray[np.floating],
        pixels: tuple[NDArray, ...],
        distance: NDArray,
        lag: NDArray,
    ) -> Surroundings:
        """Look at what is left of the data around some pixels.

        Parameters
        ----------
        left
            True where there is an observation, ``(time, variable, y, x)``.
        days
            Of the images, ``(time,)``.
        pixels
            Indices of the pixels in the four dimensions of `left`, ``(n,)`` each.
        distance, lag
            Of the pixels, see `sstfill.validation.distances`; ``(n,)``.
        """
        times, variables, rows, columns = pixels
        farther = np.empty(times.size)
        # Row by row, as these days are found: those of a whole series would fill the memory.
        row_of = np.ravel_multi_index((variables, rows), left.shape[1:3])
        order = np.argsort(row_of, kind="stable")
        for here in np.split(order, np.flatnonzero(np.diff(row_of[order])) + 1):
            if here.size:
                row = left[:, variables[here[0]], rows[here[0]]]
                sides = days_to_either_side(row, days)
                farther[here] = np.maximum(*sides)[times[here], columns[here]]
        dates = np.count_nonzero(left, axis=0)[variables, rows, columns]
        return cls(distance, lag, farther, dates)

    def at(self, rows: NDArray) -> Surroundings:
        """Return the surroundings of some of the pixels."""
        return Surroundings(*(column[rows] for column in self))


class GapSample(NamedTuple):
    """Some of the gaps of a variable: image, row and column, and the odds of `Likeness`, ``(n,)``.

    In the order of images, rows and columns.
    """

    image: NDArray
    row: NDArray
    column: NDArray
    odds: NDArray

    def pick(self, field: xr.DataArray) -> NDArray:
        """Return the values of a field, dims time and two of space, at these gaps; ``(n,)``.

        Of a lazy field the images in which they lie are computed.
        """
        images, image = np.unique(self.image, return_inverse=True)
        shown = field.isel(time=images)
        at = np.zeros(shown.shape, bool)
        at[image, self.row, self.column] = True
        return gather(xr.DataArray(at, dims=shown.dims), shown)[0]


@dataclass(frozen=True)
class Likeness:
    """The odds that a pixel is a gap rather than withheld, by its surroundings.

    Attributes
    ----------
    limits
        Least and greatest finite distance, lag and lag on the other side, ``(3, 2)``.
    centre, spread
        By which the terms of the regression are standardised.
    coefficients
        Of the terms, the constant first.
    """

    limits: NDArray
    centre: NDArray
    spread: NDArray
    coefficients: NDArray

    @classmethod
    def fit(cls, withheld: Surroundings, gaps: Surroundings) -> Likeness:
        """Tell withheld pixels from gaps, of which there is at least one each.

        A logistic regression on the logarithms of distance, lags and dates, their squares and
        products, and on what is infinite. Withheld pixels and gaps count the same, however many
        there are.

        >>> far, one = np.array([1.0, 1.0, 4.0]), np.ones(3)
        >>> withheld = Surroundings(far, one, one, one)
        >>> like = Likeness.fit(withheld, withheld.at(np.array([1, 2])))
        >>> odds = like.odds(withheld)
        >>> bool(odds[2] > 1 > odds[0])
        True
        """
        from scipy.optimize import minimize  # SciPy's optimisers take long to import

        withheld, gaps = _some(withheld), _some(gaps)
        limits = np.ones((3, 2))
        for number, pair in enumerate(zip(withheld[:3], gaps[:3], strict=True)):
            both = np.concatenate(pair)
            usable = both[np.isfinite(both) & (both > 0)]
            if usable.size:
                limits[number] = usable.min(), usable.max()
        terms = np.concatenate([_terms(withheld, limits), _terms(gaps, limits)])
        centre, spread = terms.mean(0), terms.std(0)
        spread[spread == 0] = 1.0
        columns = np.column_stack([np.ones(len(terms)), (terms - centre) / spread])
        sizes = withheld.dates.size, gaps.dates.size
        is_gap = np.repeat([0.0, 1.0], sizes)
        part = np.repeat([0.5 / sizes[0], 0.5 / sizes[1]], sizes)
        # The constant is free.
        ridge = np.full(columns.shape[1], RIDGE)
        ridge[0] = 0.0

        def loss(coefficients: NDArray) -> tuple[float, NDArray]:
            score = columns @ coefficients
            wrong = part @ (np.logaddexp(0, score) - is_gap * score)
            slope = columns.T @ (part * (expit(score) - is_gap))
            penalty = ridge * coefficients
            return float(wrong + coefficients @ penalty / 2), slope + penalty

        found = minimize(loss, np.zeros(columns.shape[1]), jac=True, method="L-BFGS-B")
        return cls(limits, centre, spread, found.x)

    def odds(self, pixels: Surroundings) -> NDArray:
        """Return the odds of each pixel to be a gap, ``(n,)``; 1 where they are even."""
        odds = np.empty(pixels.dates.size)
        for start in range(0, odds.size, SLAB):
            slab = np.arange(start, min(start + SLAB, odds.size))
            terms = (_terms(pixels.at(slab), self.limits) - self.centre) / self.spread
            score = self.coefficients[0] + terms @ self.coefficients[1:]
            odds[slab] = np.exp(score.clip(-FARTHEST, FARTHEST))
        return odds


def weights(odds: NDArray) -> NDArray:
    """Return weights of withheld pixels, of mean 1, with which they are like the gaps.

    >>> weights(np.array([1.0, 3.0])).tolist()
    [0.5, 1.5]
    """
    bounded = odds.clip(*CLIP)
    return bounded / bounded.mean()


def _some(pixels: Surroundings) -> Surroundings:
    """Every so many of the pixels, if they are many."""
    step = max(1, -(-pixels.dates.size // PIXELS))
    return pixels.at(np.arange(0, pixels.dates.size, step))


def _terms(pixels: Surroundings, limits: NDArray) -> NDArray:
    """Return the terms of the regression, ``(n, terms)``."""
    logarithms = [np.log1p(pixels.dates)]
    infinite = []
    for values, (least, most) in zip(pixels[:3], limits, strict=True):
        logarithms.append(np.log(np.clip(values, least, most) / least))
        infinite.append(~np.isfinite(values))
    terms = [*logarithms, *infinite]
    for number, first in enumerate(logarithms):
        terms += [first * second for second in logarithms[number:]]
    return np.stack(terms, axis=1).astype(np.float64)
