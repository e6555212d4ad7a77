# SPDX-License-Identifier: Apache-2.0
"""Filling by the compact network: first guesses of the whole series, corrected patch by patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.patches import PatchGrid, map_patches
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.gan.domain_check import domain_shift
from sstfill.methods.gan.network import Networks
from sstfill.methods.gan.network_inputs import (
    CHANNELS,
    FIELDS,
    SIGNED,
    FirstGuesses,
    channels,
    unit,
)
from sstfill.methods.gan.tiling import laid_out

GRID = PatchGrid(core=(64, 128, 128), overlap=(8, 16, 16), halo=(4, 8, 8))
"""Large patches: the halo and the overlap cost less than a twofold of the pixels."""


def corrected(
    obs: xr.DataArray, sea: xr.DataArray, networks: Networks, seed: int
) -> dict[str, xr.Dataset]:
    """Fill `obs` by the network (``gan``) and by its first guesses, each with ``mean`` and
    ``error``.

    Where EOFs or the interpolation cannot tell, optimal interpolation stands in.
    """
    obs = laid_out(obs, GRID)
    guesses = FirstGuesses.of(obs, sea, seed=seed)
    fields = guesses.fields
    dtypes = {"mean": obs.dtype, "error": np.dtype(np.float32)}
    job = Correction(networks, guesses.lean())
    found = map_patches(
        job, obs, sea, *(fields[name] for name in FIELDS), grid=GRID, outputs=dtypes
    )
    found.attrs["concern"] = domain_shift(networks.checkpoint, obs, guesses.traits)
    names = (
        ["oi", "eof", "interpolated"]
        if obs.sizes["time"] >= BayesEof.min_times
        else ["oi", "interpolated"]
    )
    guessed = {n: xr.Dataset({"mean": fields[n], "error": fields[f"{n}_error"]}) for n in names}
    return {"gan": found} | {n: guess.fillna(guessed["oi"]) for n, guess in guessed.items()}


@dataclass(frozen=True)
class Correction:
    """What is done to a patch; sent whole to where it is done."""

    networks: Networks
    guesses: FirstGuesses

    def __call__(self, obs: NDArray, sea: NDArray, *guessed: Any) -> tuple[NDArray, NDArray]:
        """Mean and error of the pixels inside a patch, ``(time, y, x)``; `guessed` are `FIELDS`,
        then the patch.
        """
        *fields, patch = guessed
        named: dict[str, NDArray] = dict(zip(FIELDS, fields, strict=True))
        level, scatter = self.guesses.within(patch)
        gap = np.isnan(obs) & sea.astype(bool)
        mean, sigma = np.where(np.isnan(obs), named["oi"], obs), unit(named["oi_error"], scatter)
        if gap[patch.within].any():
            seen = channels(obs, sea, named, level, scatter, self.guesses.traits)
            correction, log_ratio = self.networks.correct(seen, np.isin(CHANNELS, SIGNED))
            ratio = np.exp(log_ratio) * np.sqrt(2)  # of a Laplace scale
            mean, sigma = (
                np.where(gap, mean + sigma * correction, mean),
                np.where(gap, sigma * ratio, sigma),
            )
        return mean[patch.within], np.where(np.isfinite(mean), sigma, np.nan)[patch.within]
