# SPDX-License-Identifier: Apache-2.0
"""A method that draws: the mean of each pixel, and independent normal members about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr

from sstfill.fields.ancillary import MEMBER
from sstfill.fields.reading.dates import in_days
from sstfill.methods.base import Archive, FittedMethod, Window
from sstfill.methods.common.fitted_store import read_state, write_state
from sstfill.methods.common.keyed import keyed_normals


def estimate(
    obs: xr.DataArray, level: xr.DataArray, members: int, seed: int, row: int = 0, column: int = 0
) -> xr.Dataset:
    """Estimate each image by its level, with an error of 0.5; draw members if any."""
    mean = (xr.zeros_like(obs).fillna(0) + level.astype(obs.dtype)).transpose(*obs.dims)
    found = {"mean": mean, "error": xr.full_like(mean, 0.5, np.float32)}
    if members:
        days = np.arange(obs.sizes["time"])
        if "time" in obs.coords:
            days = in_days(obs["time"], obs["time"].values - np.datetime64("1970-01-01"))
        rows, columns = (np.arange(n) for n in obs.shape[-2:])
        normals = keyed_normals(
            *(seed, np.arange(members)[:, None, None, None], days.astype(int)[:, None, None]),
            *((rows + row)[:, None], columns + column),
        ).astype(obs.dtype)
        if "variable" in obs.dims:
            normals = normals[:, np.newaxis]
        normals = np.broadcast_to(normals, (members, *obs.shape))
        draws = xr.DataArray(normals, dims=(MEMBER, *obs.dims))
        found["members"] = mean + obs.dtype.type(0.5) * draws
        found["members"] = found["members"].transpose(MEMBER, *obs.dims)
    return xr.Dataset(found).drop_attrs(deep=False)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Draws members."""

    name: ClassVar[str] = "drawing"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1

    seed: int = 0

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        return self.simulate(obs, sea, 0)

    def simulate(self, obs: xr.DataArray, sea: xr.DataArray, members: int) -> xr.Dataset:
        level = obs.mean(obs.dims[-2:]).fillna(0)
        return estimate(obs, level, members, self.seed)

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        write_state(folder, self.name, {"options": {"seed": self.seed}})
        return FittedDrawing(self.seed)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        return FittedDrawing(read_state(folder)["options"]["seed"])


@dataclass(frozen=True)
class FittedDrawing:
    """Its form for archives: the median is that of the sample."""

    seed: int
    halo: ClassVar[tuple[int, int, int]] = (0, 0, 0)

    def estimate(self, window: Window) -> xr.Dataset:
        return self.simulate(window, 0)

    def simulate(self, window: Window, members: int) -> xr.Dataset:
        inside = window.inside
        _, rows, columns = window.patch.inside
        level = np.nanmean(window.sample, axis=1)[window.patch.within[0]]
        by_image = xr.DataArray(level, dims="time")
        return estimate(inside, by_image, members, self.seed, rows.start, columns.start)

    def save(self, folder: Path) -> None:
        write_state(folder, Drawing.name, {"options": {"seed": self.seed}})
