# SPDX-License-Identifier: Apache-2.0
"""Bayesian EOFs: the regularised sibling of DINEOF, with an expected error of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.checks import check_number, check_share
from sstfill.errors import OptionError
from sstfill.fields import grid
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.common.lowrank import LowRank, as_fields
from sstfill.methods.common.matrix import ObservationMatrix, pack
from sstfill.methods.common.regression import regress, second_moments, upper
from sstfill.methods.common.threads import one_blas_thread
from sstfill.methods.eof.variational import Posterior, VariationalFit
from sstfill.methods.registry import register

NOISE_PRIOR = 10.0
"""Weight of the common noise against a pixel's own residuals, in observations."""


@register
@dataclass(frozen=True, kw_only=True)
class BayesEof:
    """EOFs of gappy data by variational Bayes, with red-noise amplitudes.

    Where DINEOF truncates (so many modes, each taken as certain), here each mode is weighed by what
    the data say of it: patterns and amplitudes are estimated with their uncertainty, amplitudes are
    red noise in time with time scales learnt from the data, and modes without support vanish. There
    is no number of modes to choose, less over-fitting under heavy cloud, and an expected error for
    each pixel. Amplitudes are learnt from a sample of pixels, patterns then follow for every pixel
    by regression, so that the cost hardly grows with the size of the images.

    Parameters
    ----------
    modes
        Modes to start from; ``"auto"`` takes one for two images, at most 50.
    normalise
        Divide each variable by its standard deviation first (for several variables together).
    sample
        Number of pixels that amplitudes are learnt from; ``"auto"`` takes 8 per image, at least
        3000.
    tolerance
        Stop when the noise variance changes by a smaller share.
    max_iterations
        Stop after so many iterations in any case.
    min_pixel_coverage, min_image_coverage
        Pixels (images) observed to a smaller share take no part and are not filled.
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
        for option in ("min_pixel_coverage", "min_image_coverage"):
            check_share(option, getattr(self, option))
        check_number("seed", self.seed, 0, whole=True)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        matrix = pack(
            obs,
            sea,
            normalise=self.normalise,
            min_pixel_coverage=self.min_pixel_coverage,
            min_image_coverage=self.min_image_coverage,
        )
        if len(matrix.times) < self.min_times:
            left = len(matrix.times)
            raise OptionError(
                f"min_image_coverage={self.min_image_coverage} leaves {left} images; lower it"
            )
        days = grid.days(obs)[matrix.times]
        with one_blas_thread():
            posterior = self._fit(matrix, days)
            low = _patterns(matrix, posterior)
        matrix = matrix.without_values()
        found = as_fields(low, matrix, obs)
        found.attrs = {
            "modes": len(posterior.prior),
            "noise": float(np.sqrt(posterior.noise)),
            "time_scale_days": [round(float(t), 3) for t in posterior.time_scale],
            "iterations": posterior.iterations,
        }
        return found

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        """Fit to an archive larger than memory (see `sstfill.methods.registry.fit`)."""
        from sstfill.methods.eof.fitted import fitted_bayes_eof

        return fitted_bayes_eof(self, archive, folder)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        """Read what `fit` wrote."""
        from sstfill.methods.eof.fitted import load_modes

        return load_modes(folder)

    def _fit(self, matrix: ObservationMatrix, days: NDArray) -> Posterior:
        n, m = matrix.values.shape
        modes = min(50, -(-n // 2)) if self.modes == "auto" else min(self.modes, n)
        size = max(3000, 8 * n) if self.sample == "auto" else self.sample
        fit = VariationalFit(modes, self.tolerance, self.max_iterations, self.seed)
        if m <= 1.5 * size:
            return fit(matrix.values, matrix.observed, days)
        some = np.sort(np.random.default_rng(self.seed).choice(m, size, replace=False))
        return fit(matrix.values[:, some], matrix.observed[:, some], days)


def _patterns(matrix: ObservationMatrix, posterior: Posterior) -> LowRank:
    """Regress every pixel on the amplitudes; its noise is its own residual variance, drawn to the
    common one.
    """
    c, k = posterior.amplitudes, len(posterior.prior)
    patterns = np.empty((matrix.values.shape[1], k), c.dtype)
    variance, noise = np.empty_like(patterns), np.empty(len(patterns), c.dtype)
    moments = second_moments(c, posterior.covariance)
    for part in regress(
        matrix.values, matrix.observed, c, moments, posterior.noise / posterior.prior
    ):
        patterns[part.pixels] = part.patterns
        seen = matrix.observed[:, part.pixels]
        variance[part.pixels] = posterior.noise * _marginal(
            part.inverse, moments.sum(0) - part.normal
        )
        residual = np.square((c @ part.patterns.T - matrix.values[:, part.pixels]) * seen).sum(0)
        noise[part.pixels] = (residual + NOISE_PRIOR * posterior.noise) / (
            seen.sum(0) + NOISE_PRIOR
        )
    return LowRank(patterns, c, posterior.covariance, variance, noise)


def _marginal(inverse: NDArray, weight: NDArray) -> NDArray:
    """Variance of each pattern value, scaled so that its sum over the gaps equals that under the
    full covariance.

    The exact ``sum_t c_t^T S c_t`` over a pixel's gaps is ``S : sum_t c_t c_t^T`` (`weight`,
    packed); the diagonal of ``S`` alone overstates it where modes are hard to tell apart at that
    pixel.
    """
    rows, columns = upper(inverse.shape[-1])
    diagonal = rows == columns
    variance = np.diagonal(inverse, axis1=1, axis2=2)
    exact = (inverse[:, rows, columns] * weight) @ np.where(diagonal, 1, 2).astype(inverse.dtype)
    loose = (variance * weight[:, diagonal]).sum(1)
    return (
        variance
        * np.where(loose > 0, np.clip(exact / np.where(loose > 0, loose, 1), 0, 1), 1)[
            :, np.newaxis
        ]
    )
