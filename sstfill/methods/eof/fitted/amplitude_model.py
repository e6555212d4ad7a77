# SPDX-License-Identifier: Apache-2.0
"""EOF amplitudes of an archive: fit them to its sample, and estimate those of any image."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.reading.dates import days_since_first
from sstfill.methods.base import Archive
from sstfill.methods.common.matrix import ObservationMatrix
from sstfill.methods.common.regression import regress, second_moments, unpack
from sstfill.methods.common.threads import one_blas_thread
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.eof.dineof import Dineof
from sstfill.methods.eof.fitted.pixel_equations import Amplitudes
from sstfill.methods.eof.iteration import with_error
from sstfill.methods.eof.kalman_smoother import Smoothed, fitted_time_scale, smooth

ROUNDS = 6
"""Iterations that estimate the time scales of DINEOF's amplitudes."""


class Sensor(NamedTuple):
    """The linear model by which the sample of an image determines its amplitudes.

    Attributes
    ----------
    patterns
        Pattern values at each point, ``(points, k)``; 0 at points that are not used.
    products
        Packed ``E[u u^T]`` of each point, ``(points, k(k+1)/2)``, which holds the uncertainty of
        the patterns too.
    used
        True at the points that are used, ``(points,)``.
    offset, noise
        The number subtracted from an observation, and its variance about the modes.
    time_scale
        E-folding time of each amplitude, days, ``(k,)``.
    least
        Least fraction of the used points that an image must show to be used.
    """

    patterns: NDArray[np.float32]
    products: NDArray[np.float32]
    used: NDArray[np.bool_]
    offset: float
    noise: float
    time_scale: NDArray[np.float64]
    least: float

    def amplitudes(self, sample: NDArray, days: NDArray) -> tuple[Smoothed, NDArray[np.bool_]]:
        """Smoothed amplitudes of images from their sample ``(times, points)``.

        Also returns which images are used, ``(times,)``.
        """
        precision, right, used = self.evidence(sample)
        return smooth(precision, right, days, self.time_scale), used

    def evidence(self, sample: NDArray) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
        """Precision and right-hand side of each image (see `kalman_smoother.smooth`) from its
        sample, and which images are used.
        """
        observed = np.isfinite(sample) & self.used
        # Counted on the sample, which stands for the image.
        used = observed.sum(1) >= self.least * max(1, int(self.used.sum()))
        # An image that is not used gives no evidence: its neighbours in time tell its amplitudes.
        observed &= used[:, np.newaxis]
        x = np.where(observed, sample - np.float32(self.offset), 0).astype(np.float32)
        # One product for all images: packed products of the observed points add up to ``E[U^T U]``.
        normal = (observed.astype(np.float32) @ self.products).astype(np.float64)
        precision = unpack(normal, len(self.time_scale))
        right = (x @ self.patterns).astype(np.float64)
        return precision / self.noise, right / self.noise, used


class SampleFit(NamedTuple):
    """A fit to the sample of an archive.

    Attributes
    ----------
    amplitudes
        The amplitudes that every pixel is regressed on.
    sensor
        The model that estimates the amplitudes of any image.
    noise
        Variance of an observation about the modes.
    """

    amplitudes: Amplitudes
    sensor: Sensor
    noise: float


def fit_bayes(method: BayesEof, archive: Archive) -> SampleFit:
    """Fit Bayesian EOFs to the sample."""
    # An archive holds one variable, so there is nothing to weigh by its scale.
    matrix, found = replace(method, normalise=False).decompose(*_sample_field(archive))
    amplitudes = Amplitudes(
        matrix.times,
        found.amplitudes,
        second_moments(found.amplitudes, found.covariance),
        # The ridge of a Gaussian prior: noise variance over the variance of a pattern value.
        found.noise / found.prior,
        float(matrix.offset[0]),
    )
    least = method.min_image_coverage
    sensor = _sensor(matrix, amplitudes, archive, found.noise, found.time_scale, least)
    return SampleFit(amplitudes, sensor, found.noise)


def fit_dineof(method: Dineof, archive: Archive) -> SampleFit:
    """Fit DINEOF to the sample; the time scales of its amplitudes are fitted by the smoother."""
    obs, sea = _sample_field(archive)
    matrix, fitted = replace(method, normalise=False).decompose(obs, sea)
    days = days_since_first(obs)[matrix.times]
    # Without the error at withheld points, the noise is that of the residual.
    low_rank = with_error(fitted.modes, matrix)
    residual = float(low_rank.noise)
    withheld = max(fitted.cv_error**2, residual)
    # Statistically the noise is the residual times the number of observations over the degrees of
    # freedom left. (A decomposition has as many parameters as patterns and amplitudes have values,
    # less a rotation.) The square root of that factor fills best: with many modes, the whole
    # factor draws patterns to zero too much.
    count, modes = int(matrix.observed.sum()), low_rank.patterns.shape[1]
    parameters = modes * (sum(matrix.values.shape) - modes)
    noise = min(residual * float(np.sqrt(count / max(count - parameters, 1))), withheld)
    values = low_rank.amplitudes.astype(np.float32)
    power = np.square(low_rank.patterns, dtype=np.float64).mean(0)
    # A mode that vanished on all points must not divide by zero.
    prior = np.maximum(power, np.finfo(np.float32).tiny)
    amplitudes = Amplitudes(
        matrix.times, values, second_moments(values), noise / prior, float(matrix.offset[0])
    )
    # Five steps, as `VariationalFit` starts; the rounds below move it to the data.
    start = np.full(len(prior), 5 * np.median(np.diff(days)))
    sensor = _sensor(matrix, amplitudes, archive, noise, start, method.min_image_coverage)
    with one_blas_thread():
        # Expectation maximisation: smooth by the time scales, then fit them to what was smoothed.
        for _ in range(ROUNDS):
            smoothed, _ = sensor.amplitudes(archive.sample[matrix.times], days)
            sensor = sensor._replace(time_scale=fitted_time_scale(smoothed, days))
    # The error at withheld points, not the residual: maps state the error of a filled pixel.
    return SampleFit(amplitudes, sensor, withheld)


def _sample_field(archive: Archive) -> tuple[xr.DataArray, xr.DataArray]:
    """Lay the sample out as images of one row."""
    obs = xr.DataArray(
        archive.sample[:, np.newaxis], dims=("time", "y", "x"), name=archive.obs.name
    )
    if "time" in archive.obs.coords:
        obs = obs.assign_coords(time=archive.obs["time"].variable)
    return obs, xr.ones_like(obs.isel(time=0, drop=True), bool)


def _sensor(
    matrix: ObservationMatrix,
    amplitudes: Amplitudes,
    archive: Archive,
    noise: float,
    time_scale: NDArray,
    least: float,
) -> Sensor:
    """Regress the points of the sample on the amplitudes, as every pixel is."""
    points, k = archive.sample.shape[1], amplitudes.values.shape[1]
    patterns = np.zeros((points, k), np.float32)
    products = np.zeros((points, k * (k + 1) // 2), np.float32)
    values = matrix.values.astype(np.float32)
    c, moments, ridge = amplitudes.values, amplitudes.moments, amplitudes.ridge
    with one_blas_thread():
        for part in regress(values, matrix.observed, c, moments, ridge):
            u = part.patterns
            at = matrix.pixels[part.pixels]
            patterns[at] = u
            # ``E[u u^T]``, so that an uncertain point tells less of the amplitudes.
            products[at] = second_moments(u) + np.float32(noise) * part.inverse
    # Points observed too rarely were dropped when the matrix was packed.
    used = np.zeros(points, bool)
    used[matrix.pixels] = True
    return Sensor(patterns, products, used, amplitudes.offset, noise, time_scale, least)
