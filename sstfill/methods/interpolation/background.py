# SPDX-License-Identifier: Apache-2.0
"""First guess of optimal interpolation: a mean for each pixel, and for each image, smoothed in
time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.ndimage import gaussian_filter

from sstfill.fields import grid
from sstfill.methods.interpolation.interpolate import membrane

SAMPLE = 20_000
"""Pixels from which the means of the images are estimated."""
ROUNDS = 15
INDEPENDENT = 30.0
"""Independent values that a wholly observed image is taken to hold: the weight of its mean against
those around it.
"""
PRIOR = 1.0
"""Weight of the prior that a pixel is like the mean, in observations."""
SMOOTH = 4.0
"""Pixels over which the scatter about the first guess is smoothed."""
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
    """What a first guess says of all pixels alike: a number, and one for each image ``(time,)``."""

    level: float
    image: NDArray[np.float64]


class Smoothing(NamedTuple):
    """What the smoothing of the images' means is worked out from.

    Attributes
    ----------
    rest
        Variance about the first guess, field units squared.
    power
        Variance of the images' means.
    scale
        Their time scale, days.
    """

    rest: float
    power: float
    scale: float


def background(
    obs: xr.DataArray, sea: xr.DataArray, kind: str, given: TimePart | None = None
) -> Background:
    """Fit a first guess to a field ``(time, y, x)``, lazy or not.

    Parameters
    ----------
    kind
        ``"mean"`` (one number), ``"pixel"`` (a mean for each pixel) or ``"additive"`` (that and one
        for each image).
    given
        Its time part, where it is known: from the whole of which `obs` is an excerpt.
    """
    level, image = time_part(obs, sea, kind) if given is None else given
    return _with_pixels(obs, sea.values.astype(bool), level, image, kind)


def time_part(obs: xr.DataArray, sea: xr.DataArray, kind: str) -> TimePart:
    """Fit the time part of a first guess to a sample of the pixels."""
    wet = sea.values.astype(bool)
    every = max(1, int(np.sqrt(wet.sum() / SAMPLE)))
    part = {d: slice(None, None, every) for d in sea.dims}
    sample = obs.isel(part).values.astype(np.float64)
    sample[:, ~wet[::every, ::every]] = np.nan
    if not np.isfinite(sample).any():  # a coarse look at a small corner of a large sea may miss it
        sample = np.where(wet, obs.values.astype(np.float64), np.nan)
    level = float(np.nanmean(sample))
    return TimePart(
        level,
        images(sample - level, grid.days(obs))[0] if kind == "additive" else np.zeros(len(sample)),
    )


def images(
    sample: NDArray[np.float64], days: NDArray[np.float64]
) -> tuple[NDArray[np.float64], Smoothing]:
    """Means of the images ``(time,)`` of anomalies ``(time, y, x)``, apart from those of the
    pixels; how smoothed.
    """
    seen = np.isfinite(sample)
    x = np.where(seen, sample, 0.0)
    per_pixel, per_image = seen.sum(0), seen.sum((1, 2))
    image = np.zeros(len(x))
    for _ in range(ROUNDS):
        pixel = (x - seen * image[:, np.newaxis, np.newaxis]).sum(0) / (per_pixel + PRIOR)
        rest = (
            np.square(x - seen * (pixel + image[:, np.newaxis, np.newaxis])).sum() / per_image.sum()
        )
        raw = (x - seen * pixel).sum((1, 2)) / np.maximum(per_image, 1)
        before, coverage = image, per_image / max(np.count_nonzero(per_pixel), 1)
        image, smoothing = _smoothed(raw, coverage, rest, days)
        if np.abs(image - before).max() <= 1e-3 * np.sqrt(rest):
            break
    return image, smoothing


def _smoothed(
    raw: NDArray[np.float64], coverage: NDArray[np.float64], rest: float, days: NDArray[np.float64]
) -> tuple[NDArray[np.float64], Smoothing]:
    """Posterior mean with the likeliest time scale of `TRIED`."""
    there = coverage > 0
    well = coverage[there] >= min(0.05, float(np.median(coverage[there])))
    power = max(float(np.var(raw[there][well])), 1e-3 * rest, np.finfo(float).tiny)
    step = float(np.median(np.diff(days))) if len(days) > 1 else 1.0
    likeliest, image, best = -np.inf, np.zeros(len(raw)), Smoothing(rest, power, step)
    for scale in (TRIED * step).tolist():
        smoothing = Smoothing(rest, power, scale)
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
    """Posterior mean of an exponentially correlated series whose values are the surer the larger
    the coverage.

    Parameters
    ----------
    raw
        Means of what is seen of the images, ``(time,)``.
    coverage
        Which share of the pixels that is, ``(time,)``.

    Returns
    -------
    likelihood
        Its logarithm but for a constant.
    mean
        ``(time,)``
    """
    rest, power, scale = smoothing
    trust = np.where(coverage > 0, 1 / (rest / power / (1 + INDEPENDENT * coverage) + 1e-9), 0.0)
    pull = trust * raw  # trust is 1 / variance, in `power`
    inner, spread = _red_noise(days, scale)
    inner[0] += trust
    factor = cholesky_banded(inner, lower=True)
    mean: NDArray[np.float64] = cho_solve_banded((factor, True), pull)
    return float(0.5 * (pull @ mean) / power - np.log(factor[0]).sum() - spread), mean


def _red_noise(days: NDArray[np.float64], scale: float) -> tuple[NDArray[np.float64], float]:
    """Inverse of ``exp(-|lag| / scale)``, tridiagonal: its lower band ``(2, time)``. And half the
    log determinant.

    Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, appendix B (Markov
    processes).
    """
    alike = np.exp(-np.diff(days) / scale)
    alone = -np.expm1(-2 * np.diff(days) / scale)
    band = np.zeros((2, len(days)))
    band[0] = 1.0
    band[0, 1:] += alike**2 / alone
    band[0, :-1] += alike**2 / alone
    band[1, :-1] = -alike / alone
    return band, 0.5 * float(np.log(alone).sum())


def _with_pixels(
    obs: xr.DataArray, wet: NDArray[np.bool_], level: float, image: NDArray[np.float64], kind: str
) -> Background:
    """Means and scatter of the pixels, in one pass over the field."""
    n, total, squares = (_sums if obs.chunks is None else _lazy_sums)(obs, level + image)
    n, total, squares = (np.where(wet, a, 0) for a in (n, total, squares))
    pixel = np.zeros(wet.shape)
    if kind != "mean":
        pixel = np.where(n > 0, total / (n + PRIOR), np.nan)
        pixel = np.nan_to_num(membrane(pixel, wet & (n == 0)))
    about = np.maximum(squares - 2 * pixel * total + n * pixel**2, 0.0)
    return Background(level + pixel, image, scattered(about, n, about.sum() / max(n.sum(), 1)))


def _sums(obs: xr.DataArray, about: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """Count, sum and sum of squares over time of the anomalies; image by image, to spare memory."""
    n, total, squares = (
        np.zeros(obs.shape[1:], np.int64),
        np.zeros(obs.shape[1:]),
        np.zeros(obs.shape[1:]),
    )
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
    anomaly = obs.drop_vars("time", errors="ignore").astype(np.float64) - mean
    found = {"n": anomaly.notnull(), "total": anomaly, "squares": anomaly * anomaly}
    sums = xr.Dataset({name: field.sum("time") for name, field in found.items()}).compute()
    return sums["n"].values, sums["total"].values, sums["squares"].values


def scattered(
    squares: NDArray[np.float64], n: NDArray[np.int64], overall: float
) -> NDArray[np.float64]:
    """Root mean square about the first guess near each pixel; drawn to that of all where little is
    observed.

    Parameters
    ----------
    squares
        Sum of squares about the first guess over time, ``(y, x)``.
    n
        Number of observations.
    overall
        Mean square of all pixels.
    """
    there, total = gaussian_filter(n.astype(np.float64), SMOOTH), gaussian_filter(squares, SMOOTH)
    scatter = np.sqrt((total + PRIOR * overall) / (there + PRIOR))
    return np.maximum(scatter, np.finfo(np.float32).tiny ** 0.5)
