# SPDX-License-Identifier: Apache-2.0
"""Climatology, DINEOF and Bayesian EOFs pinned to an archive: patterns as maps, amplitudes from an
image's sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import config
from sstfill.errors import ReadError
from sstfill.fields import grid
from sstfill.fields.patches import Shape
from sstfill.methods.base import STEPS, Archive, Window
from sstfill.methods.common import fitted_store
from sstfill.methods.common.fitted_schema import REMEDY
from sstfill.methods.common.lowrank import LowRank
from sstfill.methods.common.threads import one_blas_thread
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.eof.climatology import Climatology
from sstfill.methods.eof.dineof import Dineof
from sstfill.methods.eof.fitted_amplitudes import Sensor, fit_bayes, fit_dineof
from sstfill.methods.eof.fitted_build import (
    season,
    since_1970,
    write_bayes,
    write_climatology,
    write_dineof,
)

IMAGES = 4
"""Images whose error is worked out at once."""


@dataclass(frozen=True)
class FittedModesOfArchive:
    """Patterns on the archive's grid, and how the amplitudes of any image are told.

    Bayesian EOFs and DINEOF: amplitudes are red noise in time, smoothed (Kalman,
    Rauch-Tung-Striebel) over the images of a window from what these show at the points of the
    sample; so they know the whole image, and the window only has to reach as far in time as a
    smoother remembers. This is what `sstfill.methods.BayesEof` does in memory with the whole
    series. DINEOF in memory takes the amplitudes from its last decomposition, kept smooth by a
    filter of the temporal covariance; pinned, patterns and number of modes are DINEOF's, found in
    the sample (with that filter), but amplitudes are smoothed as above, with time scales fitted to
    them, and the patterns of all pixels follow by a regression that draws them to zero by the error
    of the cross-validation where few observations tell.

    Climatology: amplitudes are the seasonal cycle of the date.

    Attributes
    ----------
    folder
        Where the maps lie: ``patterns`` ``(k, y, x)``, ``noise`` ``(y, x)`` and, but for DINEOF,
        ``variance`` ``(k, y, x)`` of the patterns.
    kind
        Name of the method.
    offset
        Added to what the modes say.
    sensor
        Tells amplitudes from a sample; None for a climatology.
    harmonics
        Of a climatology.
    """

    folder: Path
    kind: str
    offset: float
    sensor: Sensor | None
    harmonics: int = 0

    @property
    def halo(self) -> Shape:
        """Steps (time, y, x) around what is asked for."""
        return (0 if self.sensor is None else STEPS, 0, 0)

    def estimate(self, window: Window) -> xr.Dataset:
        """Estimate what is asked for (see `sstfill.methods.base.FittedMethod.estimate`)."""
        inside = window.inside
        _, rows, columns = window.patch.inside
        patterns = fitted_store.read_part(self.folder, "patterns", rows, columns).reshape(
            -1, inside[0].size
        )
        known = (
            np.isfinite(patterns).all(0)
            & window.sea[window.patch.within[1:]].values.astype(bool).ravel()
        )
        noise = fitted_store.read_part(self.folder, "noise", rows, columns).ravel()[known]
        variance = None
        if self.kind != Dineof.name:
            variance = (
                fitted_store.read_part(self.folder, "variance", rows, columns)
                .reshape(patterns.shape)[:, known]
                .T
            )
        mean, error = np.full((2, len(inside), known.size), np.nan, np.float32)
        with one_blas_thread():
            amplitudes, covariance, part = self._amplitudes(window)
            low = LowRank(
                np.ascontiguousarray(patterns[:, known].T), amplitudes, covariance, variance, noise
            )
            for start in range(0, len(inside), IMAGES):
                some = slice(start, start + IMAGES)
                mean[some, known] = low.mean(some) + np.float32(self.offset)
                error[some, known] = np.sqrt(low.variance(some))
        mean[~part], error[~part] = np.nan, np.nan
        return xr.Dataset(
            {
                "mean": inside.copy(
                    data=mean.reshape(inside.shape).astype(inside.dtype, copy=False)
                ),
                "error": inside.copy(data=error.reshape(inside.shape)),
            }
        ).drop_attrs(deep=False)

    def save(self, folder: Path) -> None:
        """Copy all that was written when this was pinned (see
        `sstfill.methods.base.FittedMethod.save`).
        """
        if folder.resolve() != self.folder.resolve():
            fitted_store.copy(self.folder, folder)

    def _amplitudes(self, window: Window) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
        """Amplitudes and covariance of the images that are asked for, and which of them took part."""
        within = window.patch.within[0]
        if self.sensor is None:
            c = season(since_1970(window.obs, window.patch.seen[0].start), self.harmonics)[within]
            return c, np.zeros((*c.shape, c.shape[1]), np.float32), np.ones(len(c), bool)
        found, part = self.sensor.amplitudes(window.sample, grid.days(window.obs))
        return (
            found.mean[within].astype(np.float32),
            found.covariance[within].astype(np.float32),
            part[within],
        )


def fitted_climatology(method: Climatology, archive: Archive, folder: Path) -> FittedModesOfArchive:
    """Fit each pixel's mean and seasonal cycle, tile by tile."""
    offset, harmonics = write_climatology(method, archive, folder)
    fitted_store.write_state(
        folder,
        method.name,
        {"options": config.options(method), "offset": offset, "harmonics": harmonics},
    )
    return FittedModesOfArchive(folder, method.name, offset, None, harmonics)


def fitted_bayes_eof(method: BayesEof, archive: Archive, folder: Path) -> FittedModesOfArchive:
    """Fit amplitudes to the sample, then patterns of all pixels, tile by tile."""
    fit = fit_bayes(method, archive)
    write_bayes(method, archive, fit, folder)
    return _kept(method, fit.sensor, folder)


def fitted_dineof(method: Dineof, archive: Archive, folder: Path) -> FittedModesOfArchive:
    """Fit amplitudes to the sample, then patterns of all pixels, tile by tile."""
    fit = fit_dineof(method, archive)
    write_dineof(method, archive, fit, folder)
    return _kept(method, fit.sensor, folder)


def _kept(method: BayesEof | Dineof, sensor: Sensor, folder: Path) -> FittedModesOfArchive:
    """Write what tells the amplitudes; this comes last."""
    for name in ("patterns", "products", "used", "time_scale"):
        fitted_store.write_array(folder, f"point_{name}", getattr(sensor, name))
    numbers = {name: getattr(sensor, name) for name in ("offset", "noise", "least")}
    fitted_store.write_state(
        folder, method.name, {"options": config.options(method), "sensor": numbers}
    )
    return FittedModesOfArchive(folder, method.name, sensor.offset, sensor)


def load_modes(folder: Path) -> FittedModesOfArchive:
    """Read what one of the ``pin_...`` functions left in a folder."""
    state = fitted_store.read_state(folder)
    if "sensor" not in state:
        return FittedModesOfArchive(
            folder, state["method"], state["offset"], None, state["harmonics"]
        )
    names = ("patterns", "products", "used", "time_scale")
    arrays: dict[str, Any] = {
        name: fitted_store.read_array(folder, f"point_{name}") for name in names
    }
    sensor = Sensor(**arrays, **state["sensor"])
    points, k = sensor.patterns.shape if sensor.patterns.ndim == 2 else (-1, -1)
    shapes = (sensor.products.shape, sensor.used.shape, sensor.time_scale.shape)
    if shapes != ((points, k * (k + 1) // 2), (points,), (k,)) or sensor.used.dtype != bool:
        raise ReadError(f"cannot read {folder}: its arrays do not go together; {REMEDY}")
    if not all(np.isfinite(a).all() for a in arrays.values()) or not (sensor.time_scale > 0).all():
        raise ReadError(
            f"cannot read {folder}: an amplitude has a number that is not finite; {REMEDY}"
        )
    return FittedModesOfArchive(folder, state["method"], sensor.offset, sensor)
