# SPDX-License-Identifier: Apache-2.0
"""Interpolation fitted to an archive: linear in time, and in space where a window never shows a
pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.fields.patches import Shape
from sstfill.fields.reading.dates import days_since_first
from sstfill.methods.base import STEPS, Archive, Window
from sstfill.methods.common import fitted_store
from sstfill.methods.interpolation.interpolate import SAMPLE, Interpolate, in_time, membrane
from sstfill.methods.interpolation.variogram import Variogram

DAYS, MOST_STEPS = 30.0, 240
"""Halo in time: so many days (or as long as gaps may be), but `STEPS` to `MOST_STEPS` steps."""
SPACE = 32
"""Halo in space, in pixels, for the membrane through pixels that the window never shows."""


@dataclass(frozen=True)
class FittedInterpolate:
    """Interpolation with the archive's own semivariogram.

    A pixel hidden for longer than the halo is held at the nearest observation, and one never
    observed in the window is filled in space, as the method does with a pixel never observed at
    all.

    Attributes
    ----------
    method
        The options.
    variogram
        In time, of the sample.
    steps
        Halo in time.
    """

    method: Interpolate
    variogram: Variogram
    steps: int

    @classmethod
    def fit(cls, method: Interpolate, archive: Archive, folder: Path) -> FittedInterpolate:
        """Estimate the semivariogram from the sample."""
        days = days_since_first(archive.obs)
        # Its points are sorted by row, so every n-th of them is spread over the whole.
        some = archive.sample[:, :: max(1, archive.sample.shape[1] // SAMPLE)]
        variogram = Variogram.of(np.ascontiguousarray(some.T), days).valid()
        step = DAYS
        if len(days) > 1:
            step = float(np.median(np.diff(days)))
        steps = np.ceil(max(DAYS, method.limit or 0.0) / step)
        fitted = cls(method, variogram, int(np.clip(steps, STEPS, MOST_STEPS)))
        fitted.save(folder)
        return fitted

    @classmethod
    def load(cls, folder: Path) -> FittedInterpolate:
        """Read what `save` wrote."""
        state = fitted_store.read_state(folder)
        variogram = Variogram(np.array(state["lags"]), np.array(state["gamma"]))
        return cls(config.build(Interpolate, state["options"]), variogram, state["steps"])

    @property
    def halo(self) -> Shape:
        """See `sstfill.methods.base.FittedMethod`."""
        space = SPACE if self.method.space else 0
        return (self.steps, space, space)

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.base.FittedMethod`."""
        obs, sea = window.obs.values, window.sea.values.astype(bool)
        times, rows, columns = window.patch.within
        series = np.ascontiguousarray(np.moveaxis(obs, 0, -1)[sea])  # (sea pixels, times)
        # Times around the part wanted are seen, but not estimated.
        found = in_time(
            series,
            days=days_since_first(window.obs),
            limit=np.inf if self.method.limit is None else self.method.limit,
            variogram=self.variogram,
            wanted=times,
        )
        mean = np.full((found[0].shape[1], *sea.shape), np.nan, found[0].dtype)
        error = np.full(mean.shape, np.nan, found[1].dtype)
        mean[:, sea], error[:, sea] = found[0].T, found[1].T
        never = sea & ~np.isfinite(obs).any(0)
        if self.method.space and never[rows, columns].any():
            mean = np.stack([membrane(image, never) for image in mean])
            # Nothing is known of a pixel never seen: twice the sill is the variance of the
            # difference between two unrelated values.
            farthest = np.float32(np.sqrt(2 * self.variogram.gamma[-1]))
            error = np.where(np.isnan(error), farthest, error)
            # Pixels that the membrane does not reach have no estimate, so no error.
            error = np.where(np.isnan(mean), np.float32(np.nan), error)
        inside = window.inside
        fields = {
            "mean": inside.copy(data=mean[:, rows, columns]),
            "error": inside.copy(data=error[:, rows, columns]),
        }
        return xr.Dataset(fields).drop_attrs(deep=False)

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.base.FittedMethod`."""
        state = {
            "options": config.options(self.method),
            "lags": self.variogram.lags.tolist(),
            "gamma": self.variogram.gamma.tolist(),
            "steps": self.steps,
        }
        fitted_store.write_state(folder, self.method.name, state)
