# SPDX-License-Identifier: Apache-2.0
"""Fit EOF amplitudes to the sample of an archive, and keep what tells those of any image from its
sample.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import OptionError
from sstfill.fields import grid
from sstfill.methods.base import Archive
from sstfill.methods.common.matrix import ObservationMatrix, pack
from sstfill.methods.common.regression import regress, second_moments, unpack, upper
from sstfill.methods.common.threads import one_blas_thread
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.eof.dineof import Dineof
from sstfill.methods.eof.error import with_error
from sstfill.methods.eof.fitted_maps import Amplitudes
from sstfill.methods.eof.kalman_smoother import Smoothed, fitted_time_scale, smooth

ROUNDS = 6
"""Rounds in which the time scales of DINEOF's amplitudes are found."""


class Sensor(NamedTuple):
    """What the sample of an image says of its amplitudes.

    Attributes
    ----------
    patterns
        Of each point, ``(points, k)``; 0 at points that take no part.
    products
        Packed ``E[u u^T]`` of each point, ``(points, k(k+1)/2)``: the uncertainty of the patterns
        is in it.
    used
        Points that take part, ``(points,)``.
    offset, noise
        What is taken off an observation, and the variance of one about the modes.
    time_scale
        E-folding time of each amplitude, days, ``(k,)``.
    least
        Smallest share of the used points that an image must show, to take part.
    """

    patterns: NDArray[np.float32]
    products: NDArray[np.float32]
    used: NDArray[np.bool_]
    offset: float
    noise: float
    time_scale: NDArray[np.float64]
    least: float

    def amplitudes(self, sample: NDArray, days: NDArray) -> tuple[Smoothed, NDArray[np.bool_]]:
        """Smoothed amplitudes of images from their sample ``(times, points)``, and which images
        took part.
        """
        seen = np.isfinite(sample) & self.used
        part = seen.sum(1) >= self.least * max(1, int(self.used.sum()))
        seen &= part[:, np.newaxis]
        x = np.where(seen, sample - np.float32(self.offset), 0).astype(np.float32)
        precision = unpack(
            (seen.astype(np.float32) @ self.products).astype(np.float64), len(self.time_scale)
        )
        right = (x @ self.patterns).astype(np.float64)
        return smooth(precision / self.noise, right / self.noise, days, self.time_scale), part


class Fit(NamedTuple):
    """What every pixel is regressed on, what the sample says of an image, and the variance left of
    any pixel.
    """

    on: Amplitudes
    sensor: Sensor
    noise: float


def fit_bayes(method: BayesEof, archive: Archive) -> Fit:
    """Fit Bayesian EOFs to the sample."""
    obs, sea = _field(archive)
    matrix = pack(
        obs,
        sea,
        min_pixel_coverage=method.min_pixel_coverage,
        min_image_coverage=method.min_image_coverage,
    )
    _check(matrix, method)
    days = grid.days(obs)[matrix.times]
    with one_blas_thread():
        found = method._fit(matrix, days)
    ridge = found.noise / found.prior
    on = Amplitudes(
        matrix.times,
        found.amplitudes,
        second_moments(found.amplitudes, found.covariance),
        ridge,
        float(matrix.offset[0]),
    )
    return Fit(
        on,
        _sensor(matrix, on, archive, found.noise, found.time_scale, method.min_image_coverage),
        found.noise,
    )


def fit_dineof(method: Dineof, archive: Archive) -> Fit:
    """Fit DINEOF to the sample; the time scales of its amplitudes follow from what the smoother
    makes of them.
    """
    obs, sea = _field(archive)
    matrix, fitted = replace(method, normalise=False).decompose(obs, sea)
    days = grid.days(obs)[matrix.times]
    low = with_error(
        fitted.modes, matrix
    )  # without the error at what was set aside its noise is the residual's
    withheld = max(fitted.cv_error**2, float(low.noise))
    noise = min(float(low.noise) * _freedom(matrix, low.patterns.shape[1]), withheld)
    amplitudes = low.amplitudes.astype(np.float32)
    prior = np.maximum(np.square(low.patterns, dtype=np.float64).mean(0), np.finfo(np.float32).tiny)
    on = Amplitudes(
        matrix.times, amplitudes, second_moments(amplitudes), noise / prior, float(matrix.offset[0])
    )
    start = np.full(len(prior), 5 * np.median(np.diff(days)))
    sensor = _sensor(matrix, on, archive, noise, start, method.min_image_coverage)
    with one_blas_thread():
        for _ in range(ROUNDS):
            smoothed, _ = sensor.amplitudes(archive.sample[matrix.times], days)
            sensor = sensor._replace(time_scale=fitted_time_scale(smoothed, days))
    return Fit(on, sensor, withheld)


def _freedom(matrix: ObservationMatrix, modes: int) -> float:
    """Factor from the residual variance of a decomposition towards that of the noise.

    The noise would be as many times larger as there are observations for each one left over. (A
    decomposition has as many parameters as patterns and amplitudes have values, less a rotation.)
    The root of that fills best: where there are many modes, patterns would be drawn to zero too
    much by the whole of it.
    """
    count = int(matrix.observed.sum())
    return float(np.sqrt(count / max(count - modes * (sum(matrix.values.shape) - modes), 1)))


def _field(archive: Archive) -> tuple[xr.DataArray, xr.DataArray]:
    """Lay the sample out as images of one row."""
    obs = xr.DataArray(
        archive.sample[:, np.newaxis], dims=("time", "y", "x"), name=archive.obs.name
    )
    if "time" in archive.obs.coords:
        obs = obs.assign_coords(time=archive.obs["time"].variable)
    return obs, xr.ones_like(obs.isel(time=0, drop=True), bool)


def _check(matrix: ObservationMatrix, method: BayesEof) -> None:
    if (left := len(matrix.times)) < method.min_times:
        raise OptionError(
            f"min_image_coverage={method.min_image_coverage} leaves {left} images; lower it"
        )


def _sensor(
    matrix: ObservationMatrix,
    on: Amplitudes,
    archive: Archive,
    noise: float,
    time_scale: NDArray,
    least: float,
) -> Sensor:
    """Regress the points of the sample on the amplitudes, as every pixel is."""
    points, k = archive.sample.shape[1], on.values.shape[1]
    rows, columns = upper(k)
    patterns = np.zeros((points, k), np.float32)
    products = np.zeros((points, len(rows)), np.float32)
    with one_blas_thread():
        for part in regress(
            matrix.values.astype(np.float32), matrix.observed, on.values, on.moments, on.ridge
        ):
            u, at = part.patterns, matrix.pixels[part.pixels]
            patterns[at] = u
            products[at] = (
                u[:, rows] * u[:, columns] + np.float32(noise) * part.inverse[:, rows, columns]
            )
    used = np.zeros(points, bool)
    used[matrix.pixels] = True
    return Sensor(patterns, products, used, on.offset, noise, time_scale, least)
