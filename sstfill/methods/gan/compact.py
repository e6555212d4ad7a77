# SPDX-License-Identifier: Apache-2.0
"""Fill by the compact network: first guesses of the whole series, corrected patch by patch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.ancillary import MEMBER
from sstfill.fields.patches import PatchGrid, map_patches
from sstfill.fields.reading.dates import absolute_days
from sstfill.memory import return_freed_blocks
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
    wanted: Collection[str] | None = None,
) -> dict[str, xr.Dataset]:
    """Fill `obs` by the network (``gan``) and by its first guesses.

    Parameters
    ----------
    obs, sea, networks, seed, members
        As of `sstfill.methods.Gan`.
    fitted
        See `sstfill.methods.gan.network_inputs.FirstGuesses.of`.
    wanted
        Names of the first guesses to return: some of ``oi``, ``eof`` and ``interpolated``; None for
        all.

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
    fields, bare = first_guesses.fields, first_guesses.without_fields()
    del first_guesses
    names = ["oi", "eof", "interpolated"]
    if t < BayesEof.min_times:
        names.remove("eof")
    if wanted is not None:
        names = [name for name in names if name in wanted]
    # the network sees no error of the interpolation
    if "interpolated" not in names:
        fields = fields.drop_vars("interpolated_error")
    noise = Noise(seed, members, absolute_days(obs))
    found = Correction(networks, bare, noise).apply(obs, sea, fields, grid)
    found.attrs["domain_shift"] = domain_shift(networks.checkpoint, obs, bare.features)
    guesses = {n: xr.Dataset({"mean": fields[n], "error": fields[f"{n}_error"]}) for n in names}
    oi = xr.Dataset({"mean": fields["oi"], "error": fields["oi_error"]})
    return {"gan": found} | {n: guess.fillna(oi) for n, guess in guesses.items()}


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
        gap = np.isnan(obs) & sea.astype(bool)
        scatter = self.first_guesses.scatter(patch)
        filled = bool(gap[patch.within].any())
        if filled:
            return_freed_blocks()  # what the patch before left
            noise, shift = self.noise.aligned(patch.seen)
            # neither level nor channels have a name here, so that the network can free them
            correction, log_ratio, deviations = self.networks.correct(
                channels(
                    obs,
                    sea,
                    named,
                    self.first_guesses.level(patch),
                    scatter,
                    self.first_guesses.features,
                ),
                noise,
                shift,
            )
        mean = np.where(np.isnan(obs), named["oi"], obs)
        sigma = unit(named["oi_error"], scatter)
        members = [mean] * self.noise.members
        if filled:
            # The network states the scale of a Laplace distribution.
            ratio = np.exp(log_ratio) * np.sqrt(np.float32(2))
            mean = np.where(gap, mean + sigma * correction, mean)
            sigma = np.where(gap, sigma * ratio, sigma)
            members = [mean + np.where(gap, sigma * apart, 0.0) for apart in deviations]
        sigma = np.where(np.isfinite(mean), sigma, np.nan)
        return tuple(field[patch.within] for field in (mean, sigma, *members))
