# SPDX-License-Identifier: Apache-2.0
"""Work out and write the maps of climatology, DINEOF and Bayesian EOFs over an archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields import grid
from sstfill.methods.base import Archive
from sstfill.methods.common import fitted_store
from sstfill.methods.common.fitted_store import Map
from sstfill.methods.common.regression import second_moments
from sstfill.methods.eof.bayes_eof import NOISE_PRIOR, BayesEof, _marginal
from sstfill.methods.eof.climatology import RIDGE, YEAR, Climatology, _season
from sstfill.methods.eof.dineof import Dineof
from sstfill.methods.eof.fitted_amplitudes import Fit
from sstfill.methods.eof.fitted_maps import Amplitudes, Band, summed


def since_1970(obs: xr.DataArray, first: int) -> NDArray[np.float64]:
    """Days since 1970 of a piece of an archive that starts at its step `first` (they count where
    there is no time).

    >>> since_1970(xr.DataArray(np.zeros(2), {"time": np.array(["1970-01-03", "1970-01-04"], "M8[ns]")}, "time"), 0)
    array([2., 3.])
    """
    if "time" not in obs.coords:
        return first + grid.days(obs)
    time = obs["time"].variable
    epoch = time.values[0]
    if time.dtype == object:
        epoch = epoch.replace(year=1970, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    else:
        epoch = np.zeros((), time.dtype)[()]
    longer = xr.Variable(
        "time", np.concatenate([np.array([epoch], time.dtype), time.values]), time.attrs
    )
    return grid.days(xr.DataArray(longer, {"time": longer}))[1:]


def season(days: NDArray, harmonics: int) -> NDArray[np.float32]:
    """Columns of a climatology at days since 1970, ``(times, 1 + 2 harmonics)``."""
    return _season(days, harmonics).astype(np.float32)


def write_climatology(method: Climatology, archive: Archive, folder: Path) -> tuple[float, int]:
    """Write the maps of a climatology; return its offset and the harmonics used."""
    days = since_1970(archive.obs, 0)
    used = method.harmonics if days[-1] - days[0] >= YEAR - 1 else 0
    c = season(days, used)
    ridge = np.full(c.shape[1], RIDGE)
    ridge[0] = 1e-6
    seen = archive.sample[np.isfinite(archive.sample)]
    offset = float(seen.mean(dtype=np.float64)) if seen.size else 0.0
    on = Amplitudes(np.arange(len(c)), c, second_moments(c), ridge, offset)
    _create(folder, archive, c.shape[1], {"variance": Map((c.shape[1],)), "free": Map()})
    totals = np.zeros(
        4
    )  # squares about the fit and degrees of freedom where there are any; power and count
    for band in summed(archive, on):
        totals += _write_least_squares(folder, band, ridge)
    squares, free, power, count = totals
    common = max(power / max(count, 1), float(np.finfo(np.float32).tiny) ** 2)
    pooled = squares / free if free else common
    for tile in archive.tiles:
        left = fitted_store.read_part(folder, "noise", *tile)
        scatter = (left + pooled) / (fitted_store.read_part(folder, "free", *tile) + 1)
        variance = np.minimum(fitted_store.read_part(folder, "variance", *tile) * scatter, common)
        fitted_store.write_tile(folder, "noise", tile, scatter)
        fitted_store.write_tile(folder, "variance", tile, variance)
    return offset, used


def _write_least_squares(folder: Path, band: Band, ridge: NDArray) -> NDArray[np.float64]:
    """Patterns, their variance over the scatter, residual squares and degrees of freedom; these
    also in sum.
    """
    sums, k = band.sums, len(ridge)
    patterns, variance = np.full((2, len(sums.count), k), np.nan, np.float32)
    squares = np.zeros(len(sums.count))
    for part in sums.solve(ridge):
        patterns[part.pixels] = part.patterns
        variance[part.pixels] = np.diagonal(part.inverse, axis1=1, axis2=2)
        squares[part.pixels] = sums.residual(part)
    free = np.maximum(sums.count - k, 0)
    _write(
        folder,
        band,
        sums.count > 0,
        {"patterns": patterns, "variance": variance, "noise": squares, "free": free},
    )
    return np.array([squares[free > 0].sum(), free.sum(), sums.power.sum(), sums.count.sum()])


def write_bayes(method: BayesEof, archive: Archive, fit: Fit, folder: Path) -> None:
    """Write the maps of Bayesian EOFs."""
    k = len(fit.on.ridge)
    _create(folder, archive, k, {"variance": Map((k,))})
    total = fit.on.moments.sum(0)
    for band in summed(archive, fit.on):
        sums = band.sums
        patterns, variance = np.empty((2, len(sums.count), k), np.float32)
        noise = np.empty(len(sums.count))
        for part in sums.solve(fit.on.ridge):
            here = part.pixels
            patterns[here] = part.patterns
            variance[here] = fit.noise * _marginal(part.inverse, total - part.normal)
            noise[here] = (sums.residual(part) + NOISE_PRIOR * fit.noise) / (
                sums.count[here] + NOISE_PRIOR
            )
        known = _enough(sums.count, len(fit.on.times), method.min_pixel_coverage)
        _write(folder, band, known, {"patterns": patterns, "variance": variance, "noise": noise})


def write_dineof(method: Dineof, archive: Archive, fit: Fit, folder: Path) -> None:
    """Write the maps of DINEOF."""
    k = len(fit.on.ridge)
    _create(folder, archive, k, {})
    for band in summed(archive, fit.on):
        patterns = np.concatenate([part.patterns for part in band.sums.solve(fit.on.ridge)])
        known = _enough(band.sums.count, len(fit.on.times), method.min_pixel_coverage)
        _write(
            folder, band, known, {"patterns": patterns, "noise": np.full(len(patterns), fit.noise)}
        )


def _enough(count: NDArray, images: int, least: float) -> NDArray[np.bool_]:
    return np.asarray((count > 0) & (count >= least * images))


def _create(folder: Path, archive: Archive, k: int, more: dict[str, Map]) -> None:
    y, x = archive.sea.shape
    fitted_store.create_maps(folder, {"patterns": Map((k,)), "noise": Map(), **more}, y, x)


def _write(folder: Path, band: Band, known: NDArray[np.bool_], fields: dict[str, NDArray]) -> None:
    for name, values in fields.items():
        values = np.where(known if values.ndim == 1 else known[:, np.newaxis], values, np.nan)
        fitted_store.write_tile(folder, name, band.tile, band.laid_out(values))
