# SPDX-License-Identifier: Apache-2.0
"""Fill by the compact network: first guesses of the whole series, corrected patch by patch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.ancillary import MEMBER
from sstfill.fields.patches import PatchGrid, map_patches
from sstfill.fields.reading.dates import absolute_days
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.gan.domain_check import domain_shift
from sstfill.methods.gan.network import Networks
from sstfill.methods.gan.network_inputs import FIELDS, FirstGuesses, FittedGuesses, channels, unit
from sstfill.methods.gan.noise import Noise
from sstfill.methods.gan.tiling import pieces_of, rechunk


def estimate_compact(
    obs: xr.DataArray,
    sea: xr.DataArray,
    networks: Networks,
    seed: int,
    members: int = 0,
    fitted: FittedGuesses | None = None,
) -> dict[str, xr.Dataset]:
    """Fill `obs` by the network (``gan``) and by each of its first guesses.

    Parameters
    ----------
    obs, sea, networks, seed, members
        As of `sstfill.methods.Gan`.
    fitted
        See `sstfill.methods.gan.network_inputs.FirstGuesses.of`.

    Returns
    -------
    dict
        Datasets of ``mean`` and ``error``, ``gan`` also of ``members`` if there are any. Where EOFs
        or the interpolation have no estimate, that of optimal interpolation replaces it.
    """
    t, y, x = obs.shape
    grid = pieces_of((t, y, x))
    obs = rechunk(obs, grid)
    first_guesses = FirstGuesses.of(obs, sea, seed=seed, fitted=fitted)
    fields = first_guesses.fields
    noise = Noise(seed, members, absolute_days(obs))
    correction = Correction(networks, first_guesses.without_fields(), noise)
    found = correction.apply(obs, sea, fields, grid)
    features = first_guesses.features
    found.attrs["domain_shift"] = domain_shift(networks.checkpoint, obs, features)
    names = ["oi", "eof", "interpolated"]
    if obs.sizes["time"] < BayesEof.min_times:
        names.remove("eof")
    guesses = {n: xr.Dataset({"mean": fields[n], "error": fields[f"{n}_error"]}) for n in names}
    return {"gan": found} | {n: guess.fillna(guesses["oi"]) for n, guess in guesses.items()}


@dataclass(frozen=True)
class Correction:
    """Corrects the first guess of a patch; pickled to the workers that fill patches."""

    networks: Networks
    first_guesses: FirstGuesses
    noise: Noise

    def apply(
        self,
        obs: xr.DataArray,
        sea: xr.DataArray,
        fields: Mapping[Any, xr.DataArray],
        grid: PatchGrid,
    ) -> xr.Dataset:
        """Correct a series patch by patch: ``mean``, ``error`` and, where noise has members,
        ``members``.
        """
        names = [f"member {k}" for k in range(self.noise.members)]
        outputs = {"mean": obs.dtype, "error": np.dtype(np.float32)}
        outputs |= dict.fromkeys(names, obs.dtype)
        guessed = [fields[name] for name in FIELDS]
        found = map_patches(self, obs, sea, *guessed, grid=grid, outputs=outputs)
        if not names:
            return found
        members = xr.concat([found[name] for name in names], MEMBER)
        return found[["mean", "error"]].assign(members=members)

    def __call__(self, obs: NDArray, sea: NDArray, *guessed: Any) -> tuple[NDArray, ...]:
        """Return mean, error and members of the inside of a patch, ``(time, y, x)`` each.

        Parameters
        ----------
        obs
            ``(time, y, x)``, NaN in the gaps.
        sea
            ``(y, x)``, True at sea.
        guessed
            The `FIELDS`, each of the shape of `obs`; then the patch.
        """
        *fields, patch = guessed
        named: dict[str, NDArray] = dict(zip(FIELDS, fields, strict=True))
        level, scatter = self.first_guesses.within(patch)
        gap = np.isnan(obs) & sea.astype(bool)
        mean = np.where(np.isnan(obs), named["oi"], obs)
        sigma = unit(named["oi_error"], scatter)
        members = [mean] * self.noise.members
        if gap[patch.within].any():
            noise, shift = self.noise.aligned(patch.seen)
            # not named here, so that the network can free them
            correction, log_ratio, deviations = self.networks.correct(
                channels(obs, sea, named, level, scatter, self.first_guesses.features), noise, shift
            )
            # The network states the scale of a Laplace distribution.
            ratio = np.exp(log_ratio) * np.sqrt(2)
            mean = np.where(gap, mean + sigma * correction, mean)
            sigma = np.where(gap, sigma * ratio, sigma)
            members = [mean + np.where(gap, sigma * apart, 0.0) for apart in deviations]
        sigma = np.where(np.isfinite(mean), sigma, np.nan)
        return tuple(field[patch.within] for field in (mean, sigma, *members))
