# SPDX-License-Identifier: Apache-2.0
"""Filling by the paper's networks, which complete a scaled sequence by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.methods.gan_limits import concerns
from sstfill.methods.gan_network import Networks
from sstfill.patches import Patch, PatchGrid, map_patches
from sstfill.scaling import Scaling


def completed(obs: xr.DataArray, sea: xr.DataArray, networks: Networks, seed: int) -> dict[str, xr.Dataset]:
    """Fill `obs` by the network: ``gan``, with ``mean``, and as ``error`` the spread among several views."""
    config = networks.checkpoint.config
    frames, height, width = config["patch"]
    if min(obs.shape[1:]) < 2:
        raise InputError(f"images of {obs.shape[1]}x{obs.shape[2]} pixels; the network needs 2x2 or more")
    grid = PatchGrid(
        core=tuple(max(1, n // 2) for n in (frames, height, width)),
        overlap=tuple(n // 2 for n in (frames, height, width)),
    )
    job = Completion(networks, Scaling(**config["scaling"]))
    outputs = {"mean": obs.dtype} | ({"error": np.dtype(np.float32)} if networks.samples > 1 else {})
    found = map_patches(job, obs, sea, grid=grid, outputs=outputs)
    found.attrs["concerns"] = concerns(networks.checkpoint, obs)
    return {"gan": found}


@dataclass(frozen=True)
class Completion:
    """What is done to a patch; sent whole to where it is done."""

    networks: Networks
    scaling: Scaling

    def __call__(self, obs: NDArray, sea: NDArray, patch: Patch) -> tuple[NDArray, ...]:
        """Mean (and spread among views) of the pixels inside a patch, ``(time, y, x)``."""
        observed = np.isfinite(obs) & sea.astype(bool)
        scaled = np.where(observed, self.scaling.apply(obs), 0.0).astype(np.float32)
        short = max(0, 2 - min(obs.shape[1:]))
        room = ((0, 0), (0, short), (0, short))
        estimate, spread = (
            part[:, : obs.shape[1], : obs.shape[2]]
            for part in self.networks.complete(np.pad(scaled, room), np.pad(observed, room))
        )
        mean = np.where(np.isfinite(obs), obs, self.scaling.invert(estimate))
        error = np.abs(self.scaling.invert(estimate + spread) - self.scaling.invert(estimate))
        answers = (mean[patch.within], error[patch.within])
        return answers if self.networks.samples > 1 else answers[:1]
