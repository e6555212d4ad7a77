# SPDX-License-Identifier: Apache-2.0
"""Filling by the paper's networks, which complete a scaled sequence by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.patches import Patch, PatchGrid, map_patches
from sstfill.fields.scaling import Scaling
from sstfill.methods.gan.domain_check import domain_shift
from sstfill.methods.gan.network import Networks
from sstfill.methods.gan.tiling import laid_out


def completed(
    obs: xr.DataArray, sea: xr.DataArray, networks: Networks, seed: int
) -> dict[str, xr.Dataset]:
    """Fill `obs` by the network: ``gan``, with ``mean``, and as ``error`` the spread among several
    views.
    """
    config = networks.checkpoint.config
    frames, height, width = config["patch"]
    grid = PatchGrid(
        core=tuple(max(1, n // 2) for n in (frames, height, width)),
        overlap=tuple(n // 2 for n in (frames, height, width)),
    )
    job = PatchCompletion(networks, Scaling(**config["scaling"]))
    outputs = {"mean": obs.dtype} | (
        {"error": np.dtype(np.float32)} if networks.samples > 1 else {}
    )
    found = map_patches(job, laid_out(obs, grid), sea, grid=grid, outputs=outputs)
    found.attrs["concern"] = domain_shift(networks.checkpoint, obs)
    return {"gan": found}


@dataclass(frozen=True)
class PatchCompletion:
    """What is done to a patch; sent whole to where it is done."""

    networks: Networks
    scaling: Scaling

    def __call__(self, obs: NDArray, sea: NDArray, patch: Patch) -> tuple[NDArray, ...]:
        """Mean (and spread among views) of the pixels inside a patch, ``(time, y, x)``."""
        gap = np.isnan(obs) & sea.astype(bool)
        mean, error = obs, np.full(obs.shape, np.nan, np.float32)
        if gap[patch.within].any():
            estimate, spread = self._estimated(obs, np.isfinite(obs) & sea.astype(bool))
            filled = self.scaling.invert(estimate)
            mean = np.where(gap, filled, obs)
            error = np.where(gap, np.abs(self.scaling.invert(estimate + spread) - filled), np.nan)
        answers = (mean[patch.within], error[patch.within])
        return answers if self.networks.samples > 1 else answers[:1]

    def _estimated(self, obs: NDArray, observed: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
        """What the network says, scaled, and the spread among views; a row or column of pixels gets
        another one.
        """
        scaled = self.scaling.apply(np.where(observed, obs, np.nan))
        _, height, width = obs.shape
        room = ((0, 0), (0, max(0, 2 - height)), (0, max(0, 2 - width)))
        values = np.pad(np.where(observed, scaled, 0.0).astype(np.float32), room)
        estimate, spread = self.networks.complete(values, np.pad(observed, room))
        return estimate[:, :height, :width], spread[:, :height, :width]
