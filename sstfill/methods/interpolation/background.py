# SPDX-License-Identifier: Apache-2.0
"""Background of optimal interpolation: a mean for each pixel, and for each image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.ndimage import gaussian_filter

from sstfill.fields.reading.dates import days_since_first, usual_step
from sstfill.methods.common.threads import one_blas_thread
from sstfill.methods.interpolation.interpolate import membrane

SAMPLE = 20_000
ROUNDS = 15
"""Most iterations between the means of the pixels and those of the images."""
INDEPENDENT = 30.0
"""Independent values that a fully observed image is taken to hold: they weigh its mean against
those of the images around it.
"""
PRIOR = 1.0
"""Weight of the prior that a pixel is like the mean, in observations."""
SMOOTH = 4.0
"""Pixels over which the scatter about the background is smoothed."""
FEW = 3
"""So few images do not tell how much a pixel scatters: one that is like the mean by chance would
seem to hardly vary.
"""
TRIED = 0.5 * 2.0 ** np.arange(9)
"""Time scales tried for the means of the images, in time steps."""


class Background(NamedTuple):
    """``pixel(y, x) + image(time)``, and the scatter of observations about it.

    Attributes
    ----------
    pixel, scatter
        ``(y, x)``, field units.
    image
        ``(time,)``, field units.
    """

    pixel: NDArray[np.float64]
    image: NDArray[np.float64]
    scatter: NDArray[np.float64]


class TimePart(NamedTuple):
    """The part of a background that is the same at all pixels.

    Attributes
    ----------
    level
        Mean of all, field units.
    image
        Anomaly of each image, ``(time,)``.
    """

    level: float
    image: NDArray[np.float64]


class Smoothing(NamedTuple):
    """The red-noise model by which the means of images are smoothed.

    Attributes
    ----------
    residual
        Variance about the background, field units squared.
    power
        Variance of the images' means.
    time_scale
        Their time scale, days.
    """

    residual: float
    power: float
    time_scale: float


def fit_background(
    obs: xr.DataArray,
    sea: xr.DataArray,
    kind: str,
    time_part: TimePart | None = None,
    *,
    sample: int = SAMPLE,
) -> Background:
    """Fit a background to a field ``(time, y, x)``, lazy or not.

    Parameters
    ----------
    obs, sea
        The field, and True at sea.
    kind
        ``"mean"`` (one number), ``"trend"`` (a plane), ``"pixel"`` (a mean for each pixel) or
        ``"additive"`` (that and one for each image).
    time_part
        Its part in time, where it is known: from the whole of which `obs` is an excerpt.
    sample
        About how many pixels the means of the images are estimated from.
    """
    if time_part is None:
        time_part = fit_time_part(obs, sea, kind, sample)
    level, image = time_part
    at_sea = sea.values.astype(bool)
    sums = _sums if obs.chunks is None else _lazy_sums
    n, total, squares = sums(obs, level + image)
    n = np.where(at_sea, n, 0)
    total = np.where(at_sea, total, 0)
    squares = np.where(at_sea, squares, 0)
    pixel = np.zeros(at_sea.shape)
    if kind == "trend":
        pixel = plane(n, total)
    elif kind != "mean":
        pixel = np.where(n > 0, total / (n + PRIOR), np.nan)
        # What no membrane reaches, an island sea without observations, keeps the level.
        pixel = np.nan_to_num(membrane(pixel, at_sea & (n == 0)))
    # Expanded, so that the field is read once; rounding may leave it just below 0.
    about = np.maximum(squares - 2 * pixel * total + n * pixel**2, 0.0)
    scatter = smoothed_scatter(about, n, about.sum() / max(n.sum(), 1), len(image))
    return Background(level + pixel, image, scatter)


def plane(n: NDArray[np.integer], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit a plane to observations by least squares, ``(y, x)``; it does not rise above the highest
    mean of a pixel, nor fall below the lowest, for far from observations it would.

    Parameters
    ----------
    n, total
        Number and sum of the observations of each pixel, ``(y, x)``.
    """
    rows, columns = np.ogrid[: n.shape[0], : n.shape[1]]
    weight = float(max(n.sum(dtype=np.int64), 1))
    # about the middle of the observations, so that the equations keep their digits
    up = rows - float((n * rows).sum() / weight)
    along = columns - float((n * columns).sum() / weight)
    uneven = np.array(
        [
            [(n * up * up).sum(), (n * up * along).sum()],
            [(n * up * along).sum(), (n * along * along).sum()],
        ]
    )
    told = np.array([(total * up).sum(), (total * along).sum()])
    # observations in one line leave the slope across it free: it is then zero
    slope, *_ = np.linalg.lstsq(uneven, told)
    tilted = total.sum() / weight + slope[0] * up + slope[1] * along
    means = total[n > 0] / n[n > 0]
    return np.clip(tilted, means.min(initial=0.0), means.max(initial=0.0))


def fit_time_part(
    obs: xr.DataArray, sea: xr.DataArray, kind: str, pixels: int = SAMPLE
) -> TimePart:
    """Fit the time part of a background to a sample of about so many pixels."""
    at_sea = sea.values.astype(bool)
    every = max(1, int(np.sqrt(at_sea.sum() / pixels)))
    some = {d: slice(None, None, every) for d in sea.dims}
    sample = obs.isel(some).values.astype(np.float64)
    # Lakes and coasts may hold values, which must not shift the means.
    sample[:, ~at_sea[::every, ::every]] = np.nan
    if not np.isfinite(sample).any():  # a coarse look at a small corner of a large sea may miss it
        sample = np.where(at_sea, obs.values.astype(np.float64), np.nan)
    level = float(np.nanmean(sample))
    image = np.zeros(len(sample))
    if kind == "additive":
        sample -= level
        image, _ = image_means(sample, days_since_first(obs))
    return TimePart(level, image)


def image_means(
    sample: NDArray[np.float64], days: NDArray[np.float64]
) -> tuple[NDArray[np.float64], Smoothing]:
    """Fit means of images ``(time,)`` to anomalies ``(time, y, x)``, apart from the means of the
    pixels; return also how they were smoothed.
    """
    seen = np.isfinite(sample).reshape(len(sample), -1)
    x = np.where(seen, sample.reshape(seen.shape), 0.0)
    per_pixel, per_image = seen.sum(0), seen.sum(1)
    of_pixel, of_image = x.sum(0), x.sum(1)
    coverage = per_image / max(np.count_nonzero(per_pixel), 1)
    image = np.zeros(len(x))
    # all sums over what is seen follow from two products with this matrix
    weight = seen.astype(np.float64)
    with one_blas_thread():
        square = np.vdot(x, x)
        for _ in range(ROUNDS):
            pixel = (of_pixel - image @ weight) / (per_pixel + PRIOR)
            over_image = weight @ pixel
            # |x - pixel - image|^2 over what is seen, expanded: no array of that size is made.
            explained = 2 * (of_pixel @ pixel + of_image @ image - over_image @ image)
            explained -= per_pixel @ pixel**2 + per_image @ image**2
            residual = max(square - explained, 0.0) / per_image.sum()
            # An image without observations gets 0 here, and no weight by its coverage.
            raw = (of_image - over_image) / np.maximum(per_image, 1)
            before = image
            image, smoothing = _smoothed(raw, coverage, residual, days)
            if np.abs(image - before).max() <= 1e-3 * np.sqrt(residual):
                break
    return image, smoothing


def _smoothed(
    raw: NDArray[np.float64],
    coverage: NDArray[np.float64],
    residual: float,
    days: NDArray[np.float64],
) -> tuple[NDArray[np.float64], Smoothing]:
    """Posterior mean with the likeliest time scale of `TRIED`."""
    seen = coverage > 0
    # the means of images of which little is seen vary by chance
    well = coverage[seen] >= min(0.05, float(np.median(coverage[seen])))
    # Not 0, by which noise is divided: of one image, say.
    power = max(float(np.var(raw[seen][well])), 1e-3 * residual, np.finfo(float).tiny)
    # Scales in steps of the series: it may be hourly or monthly.
    step = usual_step(days)
    likeliest, image, best = -np.inf, np.zeros(len(raw)), Smoothing(residual, power, step)
    for time_scale in (TRIED * step).tolist():
        smoothing = Smoothing(residual, power, time_scale)
        likelihood, mean = posterior(raw, coverage, smoothing, days)
        if likelihood > likeliest:
            likeliest, image, best = likelihood, mean, smoothing
    return image, best


def posterior(
    raw: NDArray[np.float64],
    coverage: NDArray[np.float64],
    smoothing: Smoothing,
    days: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """Posterior mean of an exponentially correlated series, each value weighted by its coverage.

    Parameters
    ----------
    raw
        Means of what is seen of the images, ``(time,)``.
    coverage
        Fraction of the pixels that is seen, ``(time,)``.
    smoothing
        Variances and time scale.
    days
        Of the images, ``(time,)``.

    Returns
    -------
    likelihood
        Its logarithm but for a constant.
    mean
        ``(time,)``
    """
    residual, power, time_scale = smoothing
    noise = residual / power / (1 + INDEPENDENT * coverage) + 1e-9  # in units of `power`
    precision = np.where(coverage > 0, 1 / noise, 0.0)
    weighted = precision * raw
    inner, half_determinant = _red_noise(days, time_scale)
    # Precisions add: that of the red noise is tridiagonal, that of the observations diagonal, so
    # the series is solved in linear time.
    inner[0] += precision
    factor = cholesky_banded(inner, lower=True)
    mean: NDArray[np.float64] = cho_solve_banded((factor, True), weighted)
    likelihood = 0.5 * (weighted @ mean) / power - np.log(factor[0]).sum() - half_determinant
    return float(likelihood), mean


def _red_noise(days: NDArray[np.float64], scale: float) -> tuple[NDArray[np.float64], float]:
    """Invert the covariance ``exp(-|lag| / scale)``: the lower band ``(2, time)`` of its
    tridiagonal inverse, and half the logarithm of its determinant.

    Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, appendix B (Markov
    processes).
    """
    alike = np.exp(-np.diff(days) / scale)
    # expm1, for of images minutes apart 1 - exp would leave no digits.
    alone = -np.expm1(-2 * np.diff(days) / scale)
    band = np.zeros((2, len(days)))
    band[0] = 1.0
    band[0, 1:] += alike**2 / alone
    band[0, :-1] += alike**2 / alone
    band[1, :-1] = -alike / alone
    return band, 0.5 * float(np.log(alone).sum())


def _sums(obs: xr.DataArray, about: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """Count, sum and sum of squares over time of the anomalies; image by image, to spare memory."""
    n = np.zeros(obs.shape[1:], np.int64)
    total, squares = np.zeros((2, *obs.shape[1:]))
    for image, mean in zip(obs.values, about, strict=True):
        anomaly = image.astype(np.float64) - mean
        seen = np.isfinite(anomaly)
        anomaly[~seen] = 0.0
        n += seen
        total += anomaly
        squares += anomaly**2
    return n, total, squares


def _lazy_sums(obs: xr.DataArray, about: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    mean = xr.DataArray(about, dims="time")
    # Without its coordinate xarray aligns by position: `mean` has none.
    anomaly = obs.drop_vars("time", errors="ignore").astype(np.float64) - mean
    found = {"n": anomaly.notnull(), "total": anomaly, "squares": anomaly * anomaly}
    # One compute for the three, so that each block is read once.
    sums = xr.Dataset({name: field.sum("time") for name, field in found.items()}).compute()
    return sums["n"].values, sums["total"].values, sums["squares"].values


def smoothed_scatter(
    squares: NDArray[np.float64], n: NDArray[np.int64], overall: float, times: int
) -> NDArray[np.float64]:
    """Root mean square about the background near each pixel, drawn to that of all pixels where
    little is observed; in few images that of all pixels.

    Parameters
    ----------
    squares
        Sum of squares about the background over time, ``(y, x)``.
    n
        Number of observations.
    overall
        Mean square of all pixels.
    times
        Number of images.
    """
    if times <= FEW:
        scatter = np.full(n.shape, np.sqrt(overall))
    else:
        count = gaussian_filter(n.astype(np.float64), SMOOTH)
        total = gaussian_filter(squares, SMOOTH)
        scatter = np.sqrt((total + PRIOR * overall) / (count + PRIOR))
    # a constant field has no scatter, and anomalies are divided by it
    return np.maximum(scatter, np.finfo(np.float32).tiny ** 0.5)
