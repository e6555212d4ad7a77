# SPDX-License-Identifier: Apache-2.0
"""Climatology, DINEOF and Bayesian EOFs fitted to an archive."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from sstfill import config
from sstfill.errors import ReadError
from sstfill.fields.ancillary import MEMBER
from sstfill.fields.patches import Shape
from sstfill.fields.reading.dates import YEAR, absolute_days, days_since_first
from sstfill.methods.base import STEPS, Archive, Window
from sstfill.methods.common import fitted_store
from sstfill.methods.common.fitted_schema import REMEDY
from sstfill.methods.common.keyed import pixel_keys
from sstfill.methods.common.lowrank import LowRank
from sstfill.methods.common.threads import one_blas_thread
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.eof.climatology import Climatology, season
from sstfill.methods.eof.dineof import Dineof
from sstfill.methods.eof.draws import ModeDraws, amplitude_deviations
from sstfill.methods.eof.error_correlation import UNCORRELATED, ErrorCorrelation
from sstfill.methods.eof.fitted.amplitude_model import Sensor, fit_bayes, fit_dineof
from sstfill.methods.eof.fitted.pattern_maps import (
    since_1970,
    write_bayes,
    write_climatology,
    write_dineof,
)
from sstfill.validation.tails import TIME_SCALE

ARRAYS = ("patterns", "products", "used", "time_scale")
IMAGES = 4
"""Images whose error is computed at once."""
MOST_IMAGES, MOST_VALUES, SIDES = 400, 2**21, (16, 256)
"""Of the part of an archive in which errors are correlated: images, values, pixels of a side."""


class _ModesInside(NamedTuple):
    """The modes inside a window.

    Attributes
    ----------
    low_rank
        Of the pixels that are known.
    known
        True at these, of all pixels of an image.
    used
        True for the images that have an estimate.
    """

    low_rank: LowRank
    known: NDArray[np.bool_]
    used: NDArray[np.bool_]


@dataclass(frozen=True)
class FittedModesOfArchive:
    """Modes fitted to an archive: patterns on its grid, and a model of the amplitudes.

    Bayesian EOFs and DINEOF: amplitudes are red noise in time. They are estimated by a smoother
    (Kalman, Rauch-Tung-Striebel) over the images of a window, from the observations at the points
    of the sample. They therefore depend on the whole image, and the window only has to extend as
    far in time as the smoother remembers. `sstfill.methods.BayesEof` does the same in memory, with
    the whole series. `sstfill.methods.Dineof` in memory takes the amplitudes from its last
    decomposition, kept smooth by a filter of the temporal covariance. Fitted to an archive, the
    number of modes and the amplitudes of the sample are DINEOF's (with that filter), but the
    amplitudes of an image are smoothed as above, with time scales fitted to them; patterns follow
    for all pixels by a regression, which draws them to zero by the error of the cross-validation
    where there are few observations.

    Climatology: amplitudes are the seasonal cycle of the date.

    Attributes
    ----------
    folder
        Folder of the maps: ``patterns`` ``(k, y, x)``, ``noise`` ``(y, x)`` and, except for DINEOF,
        ``variance`` ``(k, y, x)`` of the patterns.
    kind
        Name of the method.
    offset
        The number added to the modes.
    sensor
        Model of the amplitudes; None for a climatology.
    harmonics, year
        Of a climatology: their number, and the length of the year in days.
    seed
        Of draws.
    correlation
        Of errors in space, as they are drawn.
    """

    folder: Path
    kind: str
    offset: float
    sensor: Sensor | None
    harmonics: int = 0
    year: float = YEAR
    seed: int = 0
    correlation: ErrorCorrelation = UNCORRELATED

    @property
    def halo(self) -> Shape:
        """Steps (time, y, x) around what is asked for."""
        return (0 if self.sensor is None else STEPS, 0, 0)

    def estimate(self, window: Window) -> xr.Dataset:
        """Estimate the inside of a window (see `sstfill.methods.base.FittedMethod.estimate`)."""
        return self._estimated(*self._modes(window), window)

    def _modes(self, window: Window) -> _ModesInside:
        """Return the modes of the inside of a window."""
        inside = window.inside
        _, rows, columns = window.patch.inside
        patterns = fitted_store.read_part(self.folder, "patterns", rows, columns)
        patterns = patterns.reshape(-1, inside[0].size)
        sea = window.sea[window.patch.within[1:]].values.astype(bool).ravel()
        # Patterns are NaN on the land of the fit, and where a pixel was observed too rarely.
        known = np.isfinite(patterns).all(0) & sea
        noise = fitted_store.read_part(self.folder, "noise", rows, columns).ravel()[known]
        variance = None
        # DINEOF takes its patterns as certain.
        if self.kind != Dineof.name:
            variance = fitted_store.read_part(self.folder, "variance", rows, columns)
            variance = variance.reshape(patterns.shape)[:, known].T
        # Pixels come first, as the products of `LowRank` want them in memory.
        patterns = np.ascontiguousarray(patterns[:, known].T)
        with one_blas_thread():
            amplitudes, covariance, used = self._amplitudes(window)
        return _ModesInside(LowRank(patterns, amplitudes, covariance, variance, noise), known, used)

    def _estimated(
        self, low_rank: LowRank, known: NDArray[np.bool_], used: NDArray[np.bool_], window: Window
    ) -> xr.Dataset:
        """Lay out mean and error of the inside of a window."""
        inside = window.inside
        mean = np.full((len(inside), known.size), np.nan, np.float32)
        error = mean.copy()
        with one_blas_thread():
            # A few at a time, for each product for all images is as large as the estimate.
            for start in range(0, len(inside), IMAGES):
                some = slice(start, start + IMAGES)
                mean[some, known] = low_rank.mean(some) + np.float32(self.offset)
                error[some, known] = np.sqrt(low_rank.variance(some))
        # The smoother bridges an image too cloudy to be used, but the option asks that it stay
        # empty.
        mean[~used] = np.nan
        error[~used] = np.nan
        mean = mean.reshape(inside.shape).astype(inside.dtype, copy=False)
        error = error.reshape(inside.shape)
        # Attributes of the observations, such as a valid range, are not those of an error.
        fields = {"mean": inside.copy(data=mean), "error": inside.copy(data=error)}
        return xr.Dataset(fields).drop_attrs(deep=False)

    def save(self, folder: Path) -> None:
        """Copy the folder (see `sstfill.methods.base.FittedMethod.save`)."""
        if folder.resolve() != self.folder.resolve():
            fitted_store.copy(self.folder, folder)

    def _amplitudes(self, window: Window) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
        """Amplitudes of the inside of a window, their covariance, and which images are used."""
        within = window.patch.within[0]
        if self.sensor is None:
            days = since_1970(window.obs, window.patch.seen[0].start)
            # Days since 1970 in any window: the phase of the season must not depend on its first
            # image.
            c = season(days, self.harmonics, self.year).astype(np.float32)[within]
            # The season of a date is known exactly; all error is in the patterns.
            return c, np.zeros((*c.shape, c.shape[1]), np.float32), np.ones(len(c), bool)
        smoothed, used = self.sensor.amplitudes(window.sample, days_since_first(window.obs))
        mean = smoothed.mean[within].astype(np.float32)
        covariance = smoothed.covariance[within].astype(np.float32)
        return mean, covariance, used[within]


class FittedBayesEof(FittedModesOfArchive):
    """Bayesian EOFs, whose posterior members are drawn from: see `sstfill.methods.eof.draws`."""

    def simulate(self, window: Window, members: int) -> xr.Dataset:
        """See `sstfill.methods.base.FittedSimulates`."""
        assert self.sensor is not None
        low_rank, known, used = self._modes(window)
        found, inside = self._estimated(low_rank, known, used, window), window.inside
        _, rows, columns = window.patch.inside
        within = window.patch.within[0]
        # Absolute times key the draws, so that neighbouring windows draw the same red noise.
        days = absolute_days(window.obs, first=window.patch.seen[0].start)
        with one_blas_thread():
            precision, _, _ = self.sensor.evidence(window.sample)
            deviations = amplitude_deviations(
                precision, days, self.sensor.time_scale, members, self.seed
            )
        # Keys are places in the whole grid, so that the noise has no seam between windows.
        y, x = np.divmod(np.flatnonzero(known), inside.shape[2])
        pixels = pixel_keys(y + rows.start, x + columns.start)
        draws = ModeDraws(
            low_rank, deviations[:, within], days[within], pixels, self.seed, self.correlation
        )
        drawn = np.full((members, len(inside), known.size), np.nan, inside.dtype)
        with one_blas_thread():
            for member in range(members):
                # Once a member: the same patterns hold for all images.
                patterns = draws.patterns(member)
                for start in range(0, len(inside), IMAGES):
                    some = slice(start, start + IMAGES)
                    values = draws.values(member, some, patterns)
                    drawn[member, some, known] = (values + np.float32(self.offset)).T
        drawn[:, ~used] = np.nan
        drawn = drawn.reshape(members, *inside.shape)
        scales = {TIME_SCALE: float(np.median(self.sensor.time_scale))}
        return found.assign(members=((MEMBER, *inside.dims), drawn, scales))


def fitted_climatology(method: Climatology, archive: Archive, folder: Path) -> FittedModesOfArchive:
    """Fit each pixel's mean and seasonal cycle, tile by tile."""
    offset, harmonics, year = write_climatology(method, archive, folder)
    state = {"options": config.options(method), "offset": offset, "harmonics": harmonics}
    # Left out for the usual year, as earlier versions wrote it.
    if year != YEAR:
        state["year"] = year
    fitted_store.write_state(folder, method.name, state)
    return FittedModesOfArchive(folder, method.name, offset, None, harmonics, year)


def fitted_bayes_eof(method: BayesEof, archive: Archive, folder: Path) -> FittedModesOfArchive:
    """Fit amplitudes to the sample, then patterns of all pixels, tile by tile."""
    fit = fit_bayes(method, archive)
    write_bayes(method, archive, fit, folder)
    correlation = None
    # Only draws need it, and it costs a fit of its own.
    if archive.members:
        correlation = _error_correlation(method, archive)
    return _saved(method, fit.sensor, folder, correlation)


def _error_correlation(method: BayesEof, archive: Archive) -> ErrorCorrelation:
    """Correlate errors in a part of an archive that can be filled in memory."""
    sea = archive.sea
    images = min(archive.obs.sizes["time"], MOST_IMAGES)
    side = int(np.clip(np.sqrt(MOST_VALUES / images), *SIDES))
    height = min(side, sea.shape[0])
    width = min(side, sea.shape[1])
    # The square with most sea.
    # A centred mean of the sea: cut to squares wholly inside the grid, its index is their corner.
    cover = uniform_filter(sea.values.astype(np.float32), (height, width), mode="constant")
    inside = cover[height // 2 : sea.shape[0] - (height - 1) // 2]
    inside = inside[:, width // 2 : sea.shape[1] - (width - 1) // 2]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    start = (archive.obs.sizes["time"] - images) // 2
    rows, columns = slice(top, top + height), slice(left, left + width)
    obs = archive.obs[start : start + images, rows, columns].load()
    return method.error_correlation(obs, sea[rows, columns])


def fitted_dineof(method: Dineof, archive: Archive, folder: Path) -> FittedModesOfArchive:
    """Fit amplitudes to the sample, then patterns of all pixels, tile by tile."""
    fit = fit_dineof(method, archive)
    write_dineof(method, archive, fit, folder)
    return _saved(method, fit.sensor, folder)


def _saved(
    method: BayesEof | Dineof,
    sensor: Sensor,
    folder: Path,
    correlation: ErrorCorrelation | None = None,
) -> FittedModesOfArchive:
    """Write the model of the amplitudes, which marks the folder as complete."""
    # The state is written last: a folder without it is not a fit.
    for name in ARRAYS:
        fitted_store.write_array(folder, f"point_{name}", getattr(sensor, name))
    numbers = {name: getattr(sensor, name) for name in ("offset", "noise", "least")}
    state: dict[str, Any] = {"options": config.options(method), "sensor": numbers}
    if correlation is not None:
        state["correlation"] = asdict(correlation)
    fitted_store.write_state(folder, method.name, state)
    return load_modes(folder)


def load_modes(folder: Path) -> FittedModesOfArchive:
    """Read a folder written by one of the ``fitted_...`` functions.

    Raises
    ------
    ReadError
        An array is damaged, or belongs to another fit.
    """
    state = fitted_store.read_state(folder)
    if "sensor" not in state:
        offset, harmonics = state["offset"], state["harmonics"]
        # Climatologies fitted by former versions have the Gregorian year in any calendar.
        year = state.get("year") or YEAR
        return FittedModesOfArchive(folder, state["method"], offset, None, harmonics, year)
    arrays: dict[str, Any] = {}
    for name in ARRAYS:
        arrays[name] = fitted_store.read_array(folder, f"point_{name}")
    sensor = Sensor(**arrays, **state["sensor"])
    # Arrays of another fit might broadcast without an error, so their shapes are compared.
    points, k = sensor.patterns.shape if sensor.patterns.ndim == 2 else (-1, -1)
    shapes = (sensor.products.shape, sensor.used.shape, sensor.time_scale.shape)
    if shapes != ((points, k * (k + 1) // 2), (points,), (k,)) or sensor.used.dtype != bool:
        raise ReadError(f"cannot read {folder}: the shapes of its arrays do not match; {REMEDY}")
    # Values of a damaged array would pass on silently into every estimate.
    finite = all(np.isfinite(array).all() for array in arrays.values())
    if not finite or not (sensor.time_scale > 0).all():
        raise ReadError(
            f"cannot read {folder}: a number is not finite or a time scale not positive; {REMEDY}"
        )
    correlation = UNCORRELATED
    if kept := state.get("correlation"):
        correlation = ErrorCorrelation(kept["fraction"], tuple(kept["radius"]))
    cls = FittedBayesEof if state["method"] == BayesEof.name else FittedModesOfArchive
    seed = state["options"].get("seed", 0)
    return cls(
        *(folder, state["method"], sensor.offset, sensor), seed=seed, correlation=correlation
    )
