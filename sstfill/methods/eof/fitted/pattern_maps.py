# SPDX-License-Identifier: Apache-2.0
"""Compute and write the maps of climatology, DINEOF and Bayesian EOFs over an archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.reading.dates import days_since_first, year_length
from sstfill.methods.base import Archive
from sstfill.methods.common import fitted_store
from sstfill.methods.common.fitted_store import Map
from sstfill.methods.common.regression import second_moments
from sstfill.methods.eof.bayes_eof import NOISE_PRIOR, BayesEof, marginal_variance
from sstfill.methods.eof.climatology import RIDGE, Climatology, season
from sstfill.methods.eof.dineof import Dineof
from sstfill.methods.eof.fitted.amplitude_model import SampleFit
from sstfill.methods.eof.fitted.pixel_equations import Amplitudes, Band, summed


def since_1970(obs: xr.DataArray, first: int) -> NDArray[np.float64]:
    """Days since 1970 of a part of an archive that starts at its step `first`.

    Without a time coordinate, steps count as days.

    >>> dates = np.array(["1970-01-03", "1970-01-04"], "M8[ns]")
    >>> since_1970(xr.DataArray(np.zeros(2), {"time": dates}, "time"), 0)
    array([2., 3.])
    """
    if "time" not in obs.coords:
        return first + days_since_first(obs)
    time = obs["time"].variable
    if time.dtype == object:  # dates of cftime, in their own calendar
        start = {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0}
        epoch = time.values[0].replace(year=1970, **start)
    else:
        epoch = np.zeros((), time.dtype)[()]
    # `days_since_first` counts from the first step, so the epoch is put before it.
    values = np.concatenate([np.array([epoch], time.dtype), time.values])
    longer = xr.Variable("time", values, time.attrs)
    return days_since_first(xr.DataArray(longer, {"time": longer}))[1:]


def write_climatology(
    method: Climatology, archive: Archive, folder: Path
) -> tuple[float, int, float]:
    """Write the maps of a climatology; return its offset, its harmonics, and its year in days."""
    days, year = since_1970(archive.obs, 0), year_length(archive.obs)
    used = 0
    # A year of daily images spans a day less than a year.
    if days[-1] - days[0] >= year - 1:
        used = method.harmonics
    c = season(days, used, year).astype(np.float32)
    ridge = np.full(c.shape[1], RIDGE)
    # The mean is free, but for enough to solve for a pixel never observed.
    ridge[0] = 1e-6
    observed = archive.sample[np.isfinite(archive.sample)]
    offset = 0.0
    if observed.size:
        # Double: single precision loses digits in a sum of so many equal values.
        offset = float(observed.mean(dtype=np.float64))
    amplitudes = Amplitudes(np.arange(len(c)), c, second_moments(c), ridge, offset)
    _create(folder, archive, c.shape[1], {"variance": Map((c.shape[1],)), "free": Map()})
    totals = np.zeros(4)
    for band in summed(archive, amplitudes):
        # In the first pass the maps hold sums, which the second turns into variances.
        totals += _write_least_squares(folder, band, ridge)
    squares, free, power, count = totals
    # No pattern is more uncertain than the field varies.
    common = max(power / max(count, 1), float(np.finfo(np.float32).tiny) ** 2)
    pooled = squares / free if free else common
    # In a second pass, since the scatter of a pixel is drawn to that of all.
    for tile in archive.tiles:
        own_squares = fitted_store.read_part(folder, "noise", *tile)
        own_free = fitted_store.read_part(folder, "free", *tile)
        # As if each pixel had one more observation, with the scatter of all pixels.
        scatter = (own_squares + pooled) / (own_free + 1)
        unscaled = fitted_store.read_part(folder, "variance", *tile)
        variance = np.minimum(unscaled * scatter, common)
        fitted_store.write_tile(folder, "noise", tile, scatter)
        fitted_store.write_tile(folder, "variance", tile, variance)
    return offset, used, year


def _write_least_squares(folder: Path, band: Band, ridge: NDArray) -> NDArray[np.float64]:
    """Write patterns, their variance over the scatter, residual squares and degrees of freedom.

    Returns four sums over the pixels: residual squares and degrees of freedom, where there are any,
    squares of the observations, and their number.
    """
    sums, k = band.sums, len(ridge)
    patterns = np.full((len(sums.count), k), np.nan, np.float32)
    variance = patterns.copy()
    squares = np.zeros(len(sums.count))
    for part in sums.solve(ridge):
        patterns[part.pixels] = part.patterns
        variance[part.pixels] = part.variance
        squares[part.pixels] = sums.residual(part)
    free = np.maximum(sums.count - k, 0)
    maps: dict[str, NDArray] = {"patterns": patterns, "variance": variance}
    maps |= {"noise": squares, "free": free}
    _write(folder, band, sums.count > 0, maps)
    return np.array([squares[free > 0].sum(), free.sum(), sums.power.sum(), sums.count.sum()])


def write_bayes(method: BayesEof, archive: Archive, fit: SampleFit, folder: Path) -> None:
    """Write the maps of Bayesian EOFs."""
    k = len(fit.amplitudes.ridge)
    _create(folder, archive, k, {"variance": Map((k,))})
    total = fit.amplitudes.moments.sum(0)
    for band in summed(archive, fit.amplitudes):
        sums = band.sums
        patterns = np.empty((len(sums.count), k), np.float32)
        variance = np.empty_like(patterns)
        noise = np.empty(len(sums.count))
        for part in sums.solve(fit.amplitudes.ridge):
            here = part.pixels
            patterns[here] = part.patterns
            # The error counts in the gaps of a pixel: the moments of all images less those it was
            # seen in.
            variance[here] = fit.noise * marginal_variance(part, total - part.normal)
            # A pixel's own noise, drawn to the common one where it has few observations.
            squares = sums.residual(part) + NOISE_PRIOR * fit.noise
            noise[here] = squares / (sums.count[here] + NOISE_PRIOR)
        known = _enough(sums.count, len(fit.amplitudes.times), method.min_pixel_coverage)
        _write(folder, band, known, {"patterns": patterns, "variance": variance, "noise": noise})


def write_dineof(method: Dineof, archive: Archive, fit: SampleFit, folder: Path) -> None:
    """Write the maps of DINEOF."""
    amplitudes = fit.amplitudes
    _create(folder, archive, len(amplitudes.ridge), {})
    for band in summed(archive, amplitudes):
        patterns = np.concatenate([part.patterns for part in band.sums.solve(amplitudes.ridge)])
        # One error for all pixels, as DINEOF states it in memory.
        noise = np.full(len(patterns), fit.noise)
        known = _enough(band.sums.count, len(amplitudes.times), method.min_pixel_coverage)
        _write(folder, band, known, {"patterns": patterns, "noise": noise})


def _enough(count: NDArray, images: int, least: float) -> NDArray[np.bool_]:
    # A coverage of 0 asks for one observation nevertheless.
    return np.asarray((count > 0) & (count >= least * images))


def _create(folder: Path, archive: Archive, k: int, more: dict[str, Map]) -> None:
    y, x = archive.sea.shape
    fitted_store.create_maps(folder, {"patterns": Map((k,)), "noise": Map(), **more}, y, x)


def _write(folder: Path, band: Band, known: NDArray[np.bool_], fields: dict[str, NDArray]) -> None:
    """Write maps of a band, NaN where not `known`; `fields` have shape ``(sea pixels[, k])``."""
    for name, values in fields.items():
        where = known if values.ndim == 1 else known[:, np.newaxis]
        values = np.where(where, values, np.nan)
        fitted_store.write_tile(folder, name, band.tile, band.laid_out(values))
