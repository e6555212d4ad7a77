# SPDX-License-Identifier: Apache-2.0
"""`Auto` fitted to an archive: methods are fitted and tried on withheld clouds, the best stay."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter as clock
from typing import Any

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.errors import InputError, OptionError
from sstfill.fields.patches import Shape
from sstfill.methods import registry
from sstfill.methods.auto.choice import Choice, choose, drawing_method, untried
from sstfill.methods.auto.method import Auto
from sstfill.methods.base import Archive, FittedMethod, FittedSimulates, Method, Window
from sstfill.methods.common.deviations import about, check_error
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
        # As wide as any of them needs.
        halos = [blend_halo(self.blend), *(one.halo for one in self.chosen.values())]
        t, y, x = np.max(halos, axis=0).tolist()
        return t, y, x

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.base.FittedMethod`."""
        return self._blended({k: one.estimate(window) for k, one in self.chosen.items()}, window)

    def _blended(self, estimates: Mapping[str, xr.Dataset], window: Window) -> xr.Dataset:
        found = blend_window(self.blend, estimates, window)
        if self.blend is None:
            return found
        return found.assign_attrs(self.account)

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.base.FittedMethod`."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


@dataclass(frozen=True)
class FittedDrawingAuto(FittedAuto):
    """The same, with a method that draws.

    Attributes
    ----------
    drawn_by
        Its name: one of `chosen`, or one that is kept for its draws alone.
    drawer
        The method, fitted.
    """

    drawn_by: str
    drawer: FittedMethod

    @property
    def halo(self) -> Shape:
        """See `sstfill.methods.base.FittedMethod`."""
        t, y, x = np.max([super().halo, self.drawer.halo], axis=0).tolist()
        return t, y, x

    def simulate(self, window: Window, members: int) -> xr.Dataset:
        """See `sstfill.methods.base.FittedSimulates` and `sstfill.methods.common.deviations`."""
        assert isinstance(self.drawer, FittedSimulates)
        drawn, estimates = self.drawer.simulate(window, members), {}
        for name, one in self.chosen.items():
            # A method that draws returns its estimate as well.
            estimates[name] = drawn if name == self.drawn_by else one.estimate(window)
        found = self._blended(estimates, window)
        check_error(found, list(estimates))
        return found.assign(members=about(found, drawn, window.inside, self.method.seed))


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

    def fitted(self, method: Method) -> Method:
        """See `sstfill.methods.auto.choice.Holdout`: what is fitted lies in the folder."""
        return method

    def part(self, values: int) -> None:
        """See `sstfill.methods.auto.choice.Holdout`: methods are fitted to the whole archive."""

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
        # Nothing was fitted for a trial.
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
    wanted = list(choice.methods)
    if archive.members:
        drawer = drawing_method(choice, candidates, method.seed)
        choice.account["drawn_by"] = drawer.name
        # It is fitted and kept for its draws alone.
        if drawer not in wanted:
            wanted.append(drawer)
    # What was fitted without the withheld pixels is in the folders already.
    for one in wanted:
        if refit or not (folder / one.name).is_dir():
            registry.fit_part(one, archive, folder)
    _write(method, choice, folder, [one.name for one in wanted])
    return load(folder)


def load(folder: Path) -> FittedAuto:
    """Read what `fit_archive` or `FittedAuto.save` wrote."""
    state = read_state(folder)
    chosen = {name: registry.load(folder / name) for name in state["account"]["chosen"]}
    blend = None
    if state["weighed"] is not None:
        blend = Blend.from_dict(state["weighed"])
    options = config.build(Auto, state["options"])
    account = state["account"]
    # Models fitted by earlier versions, or without members, do not say.
    drawn_by = account.get("drawn_by") or _able(chosen, blend)
    if drawn_by is None:
        return FittedAuto(folder, options, chosen, blend, account)
    drawer = chosen.get(drawn_by) or registry.load(folder / drawn_by)
    if not isinstance(drawer, FittedSimulates):
        raise OptionError(
            f"{drawn_by} draws members of series in memory only; fill without members, or name the "
            "methods to try without it"
        )
    return FittedDrawingAuto(folder, options, chosen, blend, account, drawn_by, drawer)


def _able(chosen: Mapping[str, FittedMethod], blend: Blend | None) -> str | None:
    """Return which of the chosen methods draws, as `drawing_method` would; None if none can."""
    able = [name for name, one in chosen.items() if isinstance(one, FittedSimulates)]
    if blend is None or len(able) < 2:
        return able[0] if able else None
    weights = dict(zip(blend.names, blend.weights.table.mean((0, 1)), strict=True))
    return max(able, key=lambda name: weights.get(name, 0.0))


def _write(method: Auto, choice: Choice, folder: Path, names: Sequence[str]) -> None:
    """Write down the choice, and remove the methods that are not among `names`."""
    for part in folder.iterdir():
        # Methods that were only tried: their folders may be large.
        if part.is_dir() and part.name not in names:
            shutil.rmtree(part)
    state = {
        "options": config.options(method),
        "weighed": None if choice.blend is None else choice.blend.to_dict(),
        "account": config.plain(choice.account),
    }
    # Last, since a folder with a state counts as a fitted method.
    write_state(folder, method.name, state)
