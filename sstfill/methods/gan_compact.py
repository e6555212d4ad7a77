# SPDX-License-Identifier: Apache-2.0
"""Filling by the compact network: first guesses of the whole series, corrected patch by patch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.methods.gan_limits import concerns
from sstfill.methods.gan_network import Networks
from sstfill.methods.guesses import CHANNELS, FIELDS, SIGNED, Guesses, channels, unit
from sstfill.patches import Patch, PatchGrid, map_patches

GRID = PatchGrid(core=(64, 128, 128), overlap=(8, 16, 16), halo=(4, 8, 8))
"""Large patches: the halo and the overlap cost less than a twofold of the pixels."""
LOG_RATIO = 4.0
"""The network's error is at most so many e-foldings from the first guess's."""


def corrected(obs: xr.DataArray, sea: xr.DataArray, networks: Networks, seed: int) -> dict[str, xr.Dataset]:
    """Fill `obs` by the network (``gan``) and by its first guesses, each with ``mean`` and maybe ``error``."""
    guesses = Guesses.of(obs, sea, seed=seed)
    fields = [guesses.fields[name] for name in FIELDS]
    dtypes = {"mean": obs.dtype, "error": np.dtype(np.float32)}
    job = Correction(networks, guesses.lean())
    found = map_patches(job, obs, sea, *fields, grid=GRID, outputs=dtypes)
    found.attrs["concerns"] = concerns(networks.checkpoint, obs, guesses.traits)
    oi, oi_error, eof, eof_error, interpolated = fields
    return {
        "gan": found,
        "oi": xr.Dataset({"mean": oi, "error": oi_error}),
        "eof": xr.Dataset({"mean": eof, "error": eof_error}),
        "interpolated": xr.Dataset({"mean": interpolated}),
    }


@dataclass(frozen=True)
class Correction:
    """What is done to a patch; sent whole to where it is done."""

    networks: Networks
    guesses: Guesses

    def __call__(self, obs: NDArray, sea: NDArray, *fields: NDArray | Patch) -> tuple[NDArray, NDArray]:
        """Mean and error of the pixels inside a patch, ``(time, y, x)``."""
        *arrays, patch = fields
        assert isinstance(patch, Patch)
        named = dict(zip(FIELDS, arrays, strict=True))
        level, scatter = self.guesses.within(patch)
        seen = channels(obs, sea, named, level, scatter, self.guesses.traits)
        correction, log_ratio = self.networks.correct(seen, np.isin(CHANNELS, SIGNED))
        error = unit(named["oi_error"], scatter)
        mean = np.where(np.isfinite(obs), obs, named["oi"] + error * correction)
        sigma = error * np.exp(np.clip(log_ratio, -LOG_RATIO, LOG_RATIO)) * np.sqrt(2)  # of a Laplace scale
        return mean[patch.within], np.where(np.isfinite(mean), sigma, np.nan)[patch.within]
