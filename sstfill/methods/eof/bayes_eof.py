# SPDX-License-Identifier: Apache-2.0
"""Bayesian EOFs: a regularised relative of DINEOF with an error estimate of its own."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import config
from sstfill.checks import check_fraction, check_number
from sstfill.errors import OptionError, SstfillError
from sstfill.fields.gaps import derived_seed
from sstfill.fields.reading.dates import absolute_days, days_since_first
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.common.keyed import pixel_keys
from sstfill.methods.common.lowrank import LowRank, as_fields
from sstfill.methods.common.matrix import ObservationMatrix, pack, time_slabs
from sstfill.methods.common.regression import Regressed, regress, second_moments
from sstfill.methods.common.threads import one_blas_thread
from sstfill.methods.eof.draws import ModeDraws, members_as_field, posterior_deviations
from sstfill.methods.eof.error_correlation import UNCORRELATED, Correlogram, ErrorCorrelation
from sstfill.methods.eof.variational import Posterior, VariationalFit
from sstfill.methods.registry import register
from sstfill.validation.tails import TIME_SCALE
from sstfill.validation.withholding.series_holdout import hide

log = logging.getLogger(__name__)

WITHHELD = 0.1
"""Fraction of the observations that is withheld to see how errors are correlated."""
HIDING = 41
"""Makes, of the method's seed, that of the withheld clouds."""
NOISE_PRIOR = 10.0
"""Weight of the common noise variance against a pixel's own residuals, in observations."""


@register
@dataclass(frozen=True, kw_only=True)
class BayesEof:
    """EOFs of gappy data by variational Bayes, with red-noise amplitudes.

    DINEOF keeps a number of modes and takes each as certain. This method weighs each mode by the
    evidence for it: patterns and amplitudes are estimated with their uncertainty, amplitudes are
    red noise in time with time scales estimated from the data, and modes without support vanish.
    There is no number of modes to choose, less over-fitting under heavy cloud, and an expected
    error for each pixel. Amplitudes are estimated from a sample of pixels and patterns then follow
    for every pixel by regression, so the cost hardly grows with the size of the images.

    Parameters
    ----------
    modes
        Number of modes to start from; ``"auto"`` takes one for two images, at most 50.
    normalise
        Divide each variable by its standard deviation first (for several variables together).
    sample
        Number of pixels that amplitudes are estimated from; ``"auto"`` takes 8 per image, at least
        3000.
    tolerance
        Stop when the noise variance changes by a smaller fraction.
    max_iterations
        Largest number of iterations.
    min_pixel_coverage, min_image_coverage
        Pixels (images) of which a smaller fraction is observed are left out and not filled.
    seed
        Seed of the sample and of the start.

    References
    ----------
    Ilin & Raiko (2010), Journal of Machine Learning Research 11, 1957-2000; Beckers & Rixen (2003),
    Journal of Atmospheric and Oceanic Technology 20, 1839-1856.
    """

    name: ClassVar[str] = "bayes_eof"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 3

    modes: int | Literal["auto"] = "auto"
    normalise: bool = False
    sample: int | Literal["auto"] = "auto"
    tolerance: float = 1e-3
    max_iterations: int = 40
    min_pixel_coverage: float = 0.0
    min_image_coverage: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for option in ("modes", "sample"):
            if getattr(self, option) != "auto":
                check_number(option, getattr(self, option), 1, whole=True)
        check_number("tolerance", self.tolerance, 0, above=True)
        check_number("max_iterations", self.max_iterations, 1, whole=True)
        check_fraction("min_pixel_coverage", self.min_pixel_coverage)
        check_fraction("min_image_coverage", self.min_image_coverage)
        check_number("seed", self.seed, 0, whole=True)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        matrix, posterior = self.decompose(obs, sea)
        with one_blas_thread():
            low_rank = _patterns(matrix, posterior)
        return as_fields(low_rank, matrix.without_values(), obs).assign_attrs(_account(posterior))

    def simulate(self, obs: xr.DataArray, sea: xr.DataArray, members: int) -> xr.Dataset:
        """Fill `obs`, and draw members (see `sstfill.methods.base.Simulates.simulate`).

        How they are drawn, see `sstfill.methods.eof.draws`.
        """
        matrix, posterior = self.decompose(obs, sea)
        with one_blas_thread():
            low_rank = _patterns(matrix, posterior)
            matrix = matrix.without_values()
            # Absolute times key the draws, so that a date has the same numbers in any series.
            days = absolute_days(obs)[matrix.times]
            deviations = posterior_deviations(posterior, days, members, self.seed)
        # In the matrix variables stand side by side; the draws at a pixel differ between them.
        variable, pixel = np.divmod(matrix.pixels, sea.size)
        pixels = pixel_keys(*np.divmod(pixel, sea.shape[1]), variable)
        correlation = self.error_correlation(obs, sea)
        draws = ModeDraws(low_rank, deviations, days, pixels, self.seed, correlation)
        estimate = as_fields(low_rank, matrix, obs).assign_attrs(_account(posterior))
        drawn = members_as_field(draws, matrix, obs)
        drawn.attrs = {TIME_SCALE: float(np.median(posterior.time_scale))}
        return estimate.assign(members=drawn)

    def fitted_to(self, obs: xr.DataArray, sea: xr.DataArray) -> BayesEofOfKnownAmplitudes:
        """Fit the amplitudes (see `sstfill.methods.base.FitsOnce`)."""
        matrix, posterior = self.decompose(obs, sea)
        options = config.values(BayesEof, self)
        return BayesEofOfKnownAmplitudes(
            **options, known=posterior, times=matrix.times, centre=Centre.of(matrix, sea.size)
        )

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        """Fit to an archive larger than memory (see `sstfill.methods.registry.fit`)."""
        from sstfill.methods.eof.fitted.archive_modes import fitted_bayes_eof

        return fitted_bayes_eof(self, archive, folder)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        """Read what `fit` wrote."""
        from sstfill.methods.eof.fitted.archive_modes import load_modes

        return load_modes(folder)

    def error_correlation(self, obs: xr.DataArray, sea: xr.DataArray) -> ErrorCorrelation:
        """Withhold observations as the gaps lie, and correlate the errors there in space.

        Residuals of what was observed would not tell: modes have been drawn to them.
        """
        try:
            hidden = hide(obs.notnull().compute(), sea, derived_seed(self.seed, HIDING), WITHHELD)
            estimate = self.reconstruct(obs.where(~hidden), sea)
        except SstfillError as reason:
            # A series too short to withhold from is filled nevertheless: this only shapes the
            # draws.
            log.warning("draws are not correlated in space beyond the modes: %s", reason)
            return UNCORRELATED
        # In units of the stated error, by which the draws are scaled in turn.
        error = ((estimate["mean"] - obs) / estimate["error"]).where(hidden)
        error = error.transpose("time", ...)
        found = Correlogram()
        for slab in time_slabs(error):
            images = error[slab].values
            for image in images.reshape(-1, *images.shape[-2:]):
                found.add(image)
        return found.fit()

    def decompose(
        self, obs: xr.DataArray, sea: xr.DataArray
    ) -> tuple[ObservationMatrix, Posterior]:
        """Estimate the amplitudes: the packed observations, and the posterior."""
        matrix = self._packed(obs, sea)
        n, m = matrix.values.shape
        if n < self.min_times:
            raise OptionError(
                f"min_image_coverage={self.min_image_coverage} leaves {n} images; lower it"
            )
        days = days_since_first(obs)[matrix.times]
        # Half the images are plenty to start from, since modes without support are dropped.
        modes = min(50, -(-n // 2)) if self.modes == "auto" else min(self.modes, n)
        size = max(3000, 8 * n) if self.sample == "auto" else self.sample
        X, observed = matrix.values, matrix.observed
        # A sample that is most of the pixels saves too little for the copy that it takes.
        if m > 1.5 * size:
            pixels = np.sort(np.random.default_rng(self.seed).choice(m, size, replace=False))
            X, observed = X[:, pixels], observed[:, pixels]
        run = VariationalFit(modes, self.tolerance, self.max_iterations, self.seed)
        with one_blas_thread():
            return matrix, run(X, observed, days, self._known_at(matrix.times))

    def _packed(self, obs: xr.DataArray, sea: xr.DataArray) -> ObservationMatrix:
        return pack(
            obs,
            sea,
            normalise=self.normalise,
            min_pixel_coverage=self.min_pixel_coverage,
            min_image_coverage=self.min_image_coverage,
        )

    def _known_at(self, times: NDArray[np.int64]) -> Posterior | None:
        """Amplitudes of these images to go on from; none are known."""
        return None


class Centre(NamedTuple):
    """What anomalies of a series are taken from and divided by, ``(variable,)`` each."""

    offset: NDArray
    scale: NDArray

    @classmethod
    def of(cls, matrix: ObservationMatrix, pixels: int) -> Centre:
        """Return the centre of a matrix of images of so many pixels."""
        variable, first = np.unique(matrix.pixels // pixels, return_index=True)
        offset, scale = np.zeros(variable.max() + 1), np.ones(variable.max() + 1)
        offset[variable], scale[variable] = matrix.offset[first], matrix.scale[first]
        return cls(offset, scale)

    def recentred(self, matrix: ObservationMatrix, pixels: int) -> ObservationMatrix:
        """Take the anomalies of a part of the series from this centre; changed in place."""
        variable = matrix.pixels // pixels
        offset, scale = self.offset[variable], self.scale[variable]
        # 0 stays in the gaps
        matrix.values[:] *= matrix.scale / scale
        matrix.values[:] += (matrix.offset - offset) / scale * matrix.observed
        return replace(matrix, offset=offset, scale=scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class BayesEofOfKnownAmplitudes(BayesEof):
    """Bayesian EOFs that go on from amplitudes fitted before.

    Parameters
    ----------
    known
        The amplitudes.
    times
        Index of each image that they are of.
    centre
        Of the anomalies that they were fitted to.
    """

    known: Posterior
    times: NDArray[np.int64]
    centre: Centre

    def unchanged(self) -> BayesEofOfFixedAmplitudes:
        """Return EOFs whose amplitudes are these, whatever they fill: a window of the series."""
        return BayesEofOfFixedAmplitudes(**vars(self))

    def error_correlation(self, obs: xr.DataArray, sea: xr.DataArray) -> ErrorCorrelation:
        """Correlate errors from a fit of its own: the known one has seen what is withheld here."""
        return BayesEof(**config.values(BayesEof, self)).error_correlation(obs, sea)

    def _known_at(self, times: NDArray[np.int64]) -> Posterior | None:
        if np.array_equal(times, self.times):
            return self.known
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class BayesEofOfFixedAmplitudes(BayesEofOfKnownAmplitudes):
    """Bayesian EOFs by the amplitudes of a whole series, for a window of it.

    The patterns alone are fitted, as each pixel has its own.
    """

    def decompose(
        self, obs: xr.DataArray, sea: xr.DataArray
    ) -> tuple[ObservationMatrix, Posterior]:
        """Return the packed observations, and the amplitudes that are known."""
        matrix = self._packed(obs, sea)
        if not np.array_equal(matrix.times, self.times):
            raise OptionError(
                f"min_image_coverage={self.min_image_coverage} leaves other images in a window "
                "than in the series; lower it"
            )
        return self.centre.recentred(matrix, sea.size), self.known


def _account(posterior: Posterior) -> dict[str, Any]:
    """Return what the method reports of itself."""
    return {
        "modes": len(posterior.prior),
        "noise": float(np.sqrt(posterior.noise)),
        "time_scale_days": [round(float(t), 3) for t in posterior.time_scale],
        "iterations": posterior.iterations,
    }


def _patterns(matrix: ObservationMatrix, posterior: Posterior) -> LowRank:
    """Regress every pixel on the amplitudes, with an error variance of its own.

    The error variance is that of the pixel's residuals, drawn to the common one.
    """
    c, k = posterior.amplitudes, len(posterior.prior)
    patterns = np.empty((matrix.values.shape[1], k), c.dtype)
    variance = np.empty_like(patterns)
    noise = np.empty(len(patterns), c.dtype)
    moments = second_moments(c, posterior.covariance)
    ridge = posterior.noise / posterior.prior
    # Every pixel, not the sample alone, on amplitudes that the sample has told.
    for part in regress(matrix.values, matrix.observed, c, moments, ridge):
        patterns[part.pixels] = part.patterns
        # `normal` holds the moments at the observed images, so what is left are those in the gaps.
        in_gaps = moments.sum(0) - part.normal
        variance[part.pixels] = posterior.noise * marginal_variance(part, in_gaps)
        observed = matrix.observed[:, part.pixels]
        residual = (c @ part.patterns.T - matrix.values[:, part.pixels]) * observed
        squares = np.square(residual).sum(0) + NOISE_PRIOR * posterior.noise
        noise[part.pixels] = squares / (observed.sum(0) + NOISE_PRIOR)
    return LowRank(patterns, c, posterior.covariance, variance, noise)


def marginal_variance(part: Regressed, weight: NDArray) -> NDArray:
    """Variance of each pattern value, ``(pixels, k)``, from the full covariance.

    `LowRank` adds up the variances of modes as if they were independent, which overstates the error
    where modes are hard to distinguish at a pixel. The variances are therefore scaled such that
    the sum over a pixel's gaps equals the exact ``sum_t c_t^T S c_t = S : sum_t c_t c_t^T``.

    Parameters
    ----------
    part
        Its ``inverse`` is ``S`` of each pixel over the noise variance.
    weight
        ``sum_t c_t c_t^T`` over the gaps of each pixel, packed, ``(pixels, k (k + 1) / 2)``.
    """
    variance, diagonal = part.variance, part.diagonal
    # Of a packed symmetric matrix the elements off the diagonal count twice.
    exact = (part.inverse * weight) @ np.where(diagonal, 1, 2).astype(variance.dtype)
    independent = (variance * weight[:, diagonal]).sum(1)
    # A pixel without gaps has nothing to weigh by.
    positive = independent > 0
    ratio = np.clip(exact / np.where(positive, independent, 1), 0, 1)
    return variance * np.where(positive, ratio, 1)[:, np.newaxis]
