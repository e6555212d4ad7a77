# SPDX-License-Identifier: Apache-2.0
"""Climatology: each pixel's mean and seasonal cycle, the least that a method must beat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.checks import check_number
from sstfill.fields.reading.dates import YEAR, days_since_first, year_length
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.common.lowrank import LowRank, as_fields
from sstfill.methods.common.matrix import ObservationMatrix, pack
from sstfill.methods.common.regression import regress, second_moments
from sstfill.methods.registry import register

RIDGE = 0.5
"""Weight of the prior that the seasonal cycle is nil, in observations; matters for pixels seen in
one season only.
"""


@register
@dataclass(frozen=True, kw_only=True)
class Climatology:
    """Fill with the mean of each pixel plus a harmonic seasonal cycle.

    Parameters
    ----------
    harmonics
        Number of harmonics of the year fitted to each pixel by least squares; 0 is the mean alone.
        They are used only where the series spans at least a year.

    Examples
    --------
    >>> Climatology(harmonics=-1)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: harmonics=-1 must be a whole number, 0 to 6
    """

    name: ClassVar[str] = "climatology"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 2

    harmonics: int = 2

    def __post_init__(self) -> None:
        check_number("harmonics", self.harmonics, 0, 6, whole=True)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        matrix = pack(obs, sea)
        days, year = days_since_first(obs), year_length(obs)
        used = 0
        # From less than a year a seasonal cycle would be extrapolated; 365 daily images span 364
        # days.
        if days[-1] - days[0] >= year - 1:
            used = self.harmonics
        low = _regressed(matrix, season(days, used, year))
        matrix = matrix.without_values()
        found = as_fields(low, matrix, obs)
        found.attrs = {"harmonics": used}
        return found

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        """Fit to an archive larger than memory (see `sstfill.methods.registry.fit`)."""
        from sstfill.methods.eof.fitted.archive_modes import fitted_climatology

        return fitted_climatology(self, archive, folder)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        """Read what `fit` wrote."""
        from sstfill.methods.eof.fitted.archive_modes import load_modes

        return load_modes(folder)


def season(days: NDArray, harmonics: int, year: float = YEAR) -> NDArray:
    """Columns 1, sin, cos, sin 2, ... of the day of the year, ``(times, 1 + 2 harmonics)``.

    `year` is the mean year of the calendar in days, so that the cycle does not drift in a calendar
    of, say, 360 days.
    """
    # Days need no fixed origin here: sine and cosine together take up any phase.
    phase = 2 * np.pi * np.outer(days / year, np.arange(1, harmonics + 1))
    return np.column_stack([np.ones(len(days)), np.sin(phase), np.cos(phase)])


def _regressed(matrix: ObservationMatrix, predictors: NDArray) -> LowRank:
    """Least squares of each pixel on common predictors; the error is the scatter about them and of
    the fit.
    """
    c = predictors.astype(matrix.values.dtype)
    k = c.shape[1]
    m = matrix.values.shape[1]
    patterns, variance = np.empty((m, k), c.dtype), np.empty((m, k), c.dtype)
    squares, free = np.empty(m), np.empty(m)
    ridge = np.full(k, RIDGE)
    # The mean is left free; the little ridge keeps a pixel seen once solvable.
    ridge[0] = 1e-6
    # No estimate is taken for less certain than the field itself varies.
    common = matrix.deviation**2
    for part in regress(matrix.values, matrix.observed, c, second_moments(c), ridge):
        patterns[part.pixels] = part.patterns
        seen = matrix.observed[:, part.pixels]
        residual = (c @ part.patterns.T - matrix.values[:, part.pixels]) * seen
        squares[part.pixels] = np.square(residual).sum(0)
        free[part.pixels] = np.maximum(seen.sum(0) - k, 0)
        variance[part.pixels] = part.variance
    # Where no pixel has more observations than predictors, no residual tells of the scatter.
    pooled = common
    if free.any():
        pooled = squares[free > 0].sum() / free.sum()
    # Each pixel's own, drawn to that of all where few observations tell.
    scatter = (squares + pooled) / (free + 1)
    variance = np.minimum(variance * scatter[:, np.newaxis], common).astype(c.dtype)
    # The date is known exactly, so that the amplitudes have no covariance.
    return LowRank(patterns, c, np.zeros((len(c), k, k), c.dtype), variance, scatter)
