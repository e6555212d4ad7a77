# SPDX-License-Identifier: Apache-2.0
"""`Auto` fitted to an archive: methods are fitted and tried on withheld clouds, the best stay."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter as clock
from typing import Any

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.errors import InputError
from sstfill.fields.patches import Shape
from sstfill.methods import registry
from sstfill.methods.auto.choice import Choice, choose, untried
from sstfill.methods.auto.method import Auto
from sstfill.methods.base import Archive, FittedMethod, Method, Window
from sstfill.methods.common.fitted_blend import (
    ArchiveHoldout,
    blend_halo,
    blend_window,
    predict_windows,
    withhold,
)
from sstfill.methods.common.fitted_store import read_state, write_state
from sstfill.validation.blend import Blend
from sstfill.validation.withheld_estimates import WithheldEstimates


@dataclass(frozen=True)
class FittedAuto:
    """The methods that were chosen, fitted, and their blend.

    Attributes
    ----------
    folder
        Holds each of them, in a folder of its name.
    method
        The options.
    chosen
        By name.
    blend
        None takes the only one as it is, since none could be tried.
    account
        What was chosen, why, and the score of each method: plain values.
    """

    folder: Path
    method: Auto
    chosen: Mapping[str, FittedMethod]
    blend: Blend | None
    account: dict[str, Any]

    @property
    def halo(self) -> Shape:
        """See `sstfill.methods.base.FittedMethod`."""
        halos = [blend_halo(self.blend), *(one.halo for one in self.chosen.values())]
        t, y, x = np.max(halos, axis=0).tolist()
        return t, y, x

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.base.FittedMethod`."""
        estimates = {name: one.estimate(window) for name, one in self.chosen.items()}
        found = blend_window(self.blend, estimates, window)
        if self.blend is None:
            return found
        return found.assign_attrs(self.account)

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.base.FittedMethod`."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


@dataclass(frozen=True)
class FittedHoldout:
    """The holdout of an archive; each method is fitted to it in a folder of its name."""

    holdout: ArchiveHoldout
    folder: Path

    @property
    def variables(self) -> list[str]:
        """See `sstfill.methods.auto.choice.Holdout`."""
        return [str(self.holdout.archive.obs.name)]

    @property
    def resemblance(self) -> Mapping[str, dict[str, Any]]:
        """See `sstfill.methods.auto.choice.Holdout`."""
        return {self.variables[0]: self.holdout.resemblance}

    @property
    def size(self) -> int:
        """See `sstfill.methods.auto.choice.Holdout`."""
        return sum(window.obs.size for window, *_ in self.holdout.windows)

    def predict(self, method: Method) -> WithheldEstimates:
        """See `sstfill.methods.auto.choice.Holdout`."""
        fitted = registry.fit_part(method, self.holdout.archive, self.folder)
        estimates = predict_windows(
            self.holdout.windows, lambda window: {method.name: fitted.estimate(window)}
        )
        return estimates[method.name]


def fit_archive(method: Auto, archive: Archive, folder: Path) -> FittedAuto:
    """Fit each method that can fill the archive, try them, and keep those that are chosen."""
    started = clock()
    candidates = method.candidates(archive.obs)
    # Other clouds than those of a score with the same seed.
    seed = int(np.random.SeedSequence([method.seed, 2]).generate_state(1)[0])
    try:
        holdout = withhold(archive, fraction=method.fraction, seed=seed)
    except InputError as reason:
        choice = untried(candidates, reason, named=method.methods is not None)
        refit = True
    else:
        choice = choose(
            candidates,
            FittedHoldout(holdout, folder),
            blending=method.blend,
            budget=method.budget,
            started=started,
        )
        refit = not holdout.little
    # What was fitted without the withheld pixels is in the folders already.
    if refit:
        for one in choice.methods:
            registry.fit_part(one, archive, folder)
    _write(method, choice, folder)
    return load(folder)


def load(folder: Path) -> FittedAuto:
    """Read what `fit_archive` or `FittedAuto.save` wrote."""
    state = read_state(folder)
    chosen = {name: registry.load(folder / name) for name in state["account"]["chosen"]}
    blend = None
    if state["weighed"] is not None:
        blend = Blend.from_dict(state["weighed"])
    options = config.build(Auto, state["options"])
    return FittedAuto(folder, options, chosen, blend, state["account"])


def _write(method: Auto, choice: Choice, folder: Path) -> None:
    """Write down the choice, and remove the methods that were not chosen."""
    names = [one.name for one in choice.methods]
    for part in folder.iterdir():
        if part.is_dir() and part.name not in names:
            shutil.rmtree(part)
    state = {
        "options": config.options(method),
        "weighed": None if choice.blend is None else choice.blend.to_dict(),
        "account": config.plain(choice.account),
    }
    write_state(folder, method.name, state)
