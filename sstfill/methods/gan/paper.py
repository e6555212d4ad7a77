# SPDX-License-Identifier: Apache-2.0
"""Fill by the paper's networks, which complete a scaled sequence without first guesses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.patches import Patch, PatchGrid, map_patches
from sstfill.fields.scaling import Scaling, SequenceScaling
from sstfill.methods.gan.domain_check import domain_shift
from sstfill.methods.gan.network import Networks
from sstfill.methods.gan.tiling import rechunk


def estimate_paper(
    obs: xr.DataArray, sea: xr.DataArray, networks: Networks
) -> dict[str, xr.Dataset]:
    """Fill `obs` by the network: ``gan``, with ``mean``; it states no error."""
    grid = patch_grid(networks)
    found = complete_patches(rechunk(obs, grid), sea, networks, grid)
    found.attrs["domain_shift"] = domain_shift(networks.checkpoint, obs)
    return {"gan": found}


def patch_grid(networks: Networks) -> PatchGrid:
    """Return patches that overlap by half of the size that the network was trained on."""
    frames, height, width = networks.checkpoint.config["patch"]
    t, y, x = frames // 2, height // 2, width // 2
    return PatchGrid(core=(max(1, t), max(1, y), max(1, x)), overlap=(t, y, x))


def complete_patches(
    obs: xr.DataArray, sea: xr.DataArray, networks: Networks, grid: PatchGrid
) -> xr.Dataset:
    """Complete `obs` patch by patch: ``mean``."""
    completion = PatchCompletion(networks, scaling_of(networks.checkpoint.config))
    return map_patches(completion, obs, sea, grid=grid, outputs={"mean": obs.dtype})


def scaling_of(config: Mapping[str, Any]) -> Scaling | SequenceScaling:
    """Return the scaling of what a network is given.

    Early checkpoints name the logarithm here; now `sstfill.fill` takes it (`Gan.trained_transform`)
    and the network is given logarithms, as it was then.
    """
    scaling = dict(config["scaling"])
    if scaling["kind"] == "log":
        scaling["kind"] = "standardise"
    if scaling["kind"] == "sequence":
        return SequenceScaling(**scaling)
    return Scaling(**scaling)


@dataclass(frozen=True)
class PatchCompletion:
    """Completes a patch; pickled to the workers that fill patches."""

    networks: Networks
    scaling: Scaling | SequenceScaling

    def __call__(self, obs: NDArray, sea: NDArray, patch: Patch) -> tuple[NDArray]:
        """Return the mean of the inside of a patch, ``(time, y, x)``."""
        gap = np.isnan(obs) & sea.astype(bool)
        mean = obs
        if gap[patch.within].any():
            mean = np.where(gap, self._complete(obs, np.isfinite(obs) & sea.astype(bool)), obs)
        return (mean[patch.within],)

    def _complete(self, obs: NDArray, observed: NDArray[np.bool_]) -> NDArray:
        """Return the network's estimate."""
        seen = np.where(observed, obs, np.nan)
        scaling = self.scaling.of_sequence(seen)
        scaled = scaling.apply(seen)
        _, height, width = obs.shape
        # The networks need two rows and two columns.
        padding = ((0, 0), (0, max(0, 2 - height)), (0, max(0, 2 - width)))
        values = np.pad(np.where(observed, scaled, 0.0).astype(np.float32), padding)
        estimate = self.networks.complete(values, np.pad(observed, padding))
        return scaling.invert(estimate[:, :height, :width])
