# SPDX-License-Identifier: Apache-2.0
"""Interpolation pinned to an archive: linear in time within a window, then in space where it shows
a pixel never.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.fields import grid
from sstfill.fields.patches import Shape
from sstfill.methods.base import STEPS, Archive, Window
from sstfill.methods.common import fitted_store
from sstfill.methods.interpolation.interpolate import SAMPLE, Interpolate, in_time, membrane
from sstfill.methods.interpolation.variogram import Variogram

DAYS, MOST_STEPS = 30.0, 240
"""How far in time a window must reach: so many days (or as long as gaps may be), `STEPS` to
`MOST_STEPS` steps.
"""
SPACE = 32
"""How far a window must reach in space, in pixels, for the membrane through pixels that it never
shows.
"""


@dataclass(frozen=True)
class FittedInterpolate:
    """Interpolation with the archive's own semivariogram.

    What lies beyond `reach` is not seen: a pixel hidden for longer than that is held at the nearest
    observation, and one never observed in the window is filled in space, as the method does with a
    pixel never observed at all.

    Attributes
    ----------
    method
        The options.
    variogram
        In time, of the sample.
    steps
        How far a window must reach in time.
    """

    method: Interpolate
    variogram: Variogram
    steps: int

    @property
    def halo(self) -> Shape:
        """Steps (time, y, x) around what is asked for."""
        space = SPACE if self.method.space else 0
        return (self.steps, space, space)

    def estimate(self, window: Window) -> xr.Dataset:
        """Estimate what is asked for (see `sstfill.methods.base.FittedMethod.estimate`)."""
        obs, sea = window.obs.values, window.sea.values.astype(bool)
        within = window.patch.within
        series = np.ascontiguousarray(np.moveaxis(obs, 0, -1)[sea])  # (sea pixels, times)
        limit = np.inf if self.method.limit is None else self.method.limit
        found = in_time(
            series,
            days=grid.days(window.obs),
            limit=limit,
            variogram=self.variogram,
            wanted=within[0],
        )
        mean, error = (np.full((part.shape[1], *sea.shape), np.nan, part.dtype) for part in found)
        for field, part in zip((mean, error), found, strict=True):
            field[:, sea] = part.T
        never = sea & ~np.isfinite(obs).any(0)
        if self.method.space and never[within[1:]].any():
            mean = np.stack([membrane(image, never) for image in mean])
            error = np.where(
                np.isnan(error), np.float32(np.sqrt(2 * self.variogram.gamma[-1])), error
            )
            error = np.where(np.isnan(mean), np.float32(np.nan), error)
        inside = window.inside
        return xr.Dataset(
            {
                "mean": inside.copy(data=mean[:, *within[1:]]),
                "error": inside.copy(data=error[:, *within[1:]]),
            }
        ).drop_attrs(deep=False)

    def save(self, folder: Path) -> None:
        """Write all that is needed to load it (see `sstfill.methods.base.FittedMethod.save`)."""
        state = {
            "lags": self.variogram.lags.tolist(),
            "gamma": self.variogram.gamma.tolist(),
            "steps": self.steps,
        }
        fitted_store.write_state(
            folder, self.method.name, {"options": config.options(self.method), **state}
        )


def fitted_interpolate(method: Interpolate, archive: Archive, folder: Path) -> FittedInterpolate:
    """Learn the semivariogram from the sample."""
    days = grid.days(archive.obs)
    some = archive.sample[:, :: max(1, archive.sample.shape[1] // SAMPLE)]
    step = float(np.median(np.diff(days))) if len(days) > 1 else DAYS
    steps = int(np.clip(np.ceil(max(DAYS, method.limit or 0.0) / step), STEPS, MOST_STEPS))
    pinned = FittedInterpolate(method, Variogram.of(np.ascontiguousarray(some.T), days), steps)
    pinned.save(folder)
    return pinned


def load_interpolate(folder: Path) -> FittedInterpolate:
    """Read what `FittedInterpolate.save` wrote."""
    state = fitted_store.read_state(folder)
    variogram = Variogram(np.array(state["lags"]), np.array(state["gamma"]))
    return FittedInterpolate(config.build(Interpolate, state["options"]), variogram, state["steps"])
