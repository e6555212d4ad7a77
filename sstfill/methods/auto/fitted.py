# SPDX-License-Identifier: Apache-2.0
"""`Auto` pinned to an archive: every method pinned and tried on withheld clouds, those kept that
fill.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter as clock
from typing import Any

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.errors import InputError, SstfillError
from sstfill.fields import gaps
from sstfill.fields.patches import Shape
from sstfill.methods import registry
from sstfill.methods.auto.method import Auto
from sstfill.methods.base import Archive, FittedMethod, Method, Window
from sstfill.methods.common.fitted_blend import (
    Blend,
    Estimates,
    Holdout,
    distances,
    predict_withheld,
    withhold,
)
from sstfill.methods.common.fitted_store import read_state, write_state
from sstfill.progress import track
from sstfill.validation.cross_validation import CrossValidation
from sstfill.validation.withheld_estimates import WithheldEstimates

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FittedAuto:
    """The methods that were chosen, and how they are mixed.

    Attributes
    ----------
    folder
        Where each lies, under its name.
    method
        The options.
    chosen
        By name.
    weighed
        None takes the only one as it is, since nothing could be tried.
    account
        What was chosen, why, and what each method was worth: plain values.
    """

    folder: Path
    method: Auto
    chosen: Mapping[str, FittedMethod]
    weighed: Blend | None
    account: dict[str, Any]

    @property
    def halo(self) -> Shape:
        """See `sstfill.methods.base.FittedMethod`."""
        own = (0, 0, 0) if self.weighed is None else self.weighed.halo
        t, y, x = (
            max(sides)
            for sides in zip(own, *(one.halo for one in self.chosen.values()), strict=True)
        )
        return t, y, x

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.base.FittedMethod`."""
        estimates = {name: one.estimate(window) for name, one in self.chosen.items()}
        if self.weighed is None:
            return next(iter(estimates.values()))
        return self.weighed.blended(estimates, window).assign_attrs(self.account)

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.base.FittedMethod`."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


def fit_archive(method: Auto, archive: Archive, folder: Path) -> FittedAuto:
    """Pin each method that can do with the archive, try them, keep those that fill."""
    able = method._able(archive.obs)
    seed = gaps.derived_seed(method.seed, 2)  # not the clouds of a score
    try:
        held = withhold(archive, share=method.share, seed=seed)
    except InputError as reason:
        return _untried(method, able, archive, folder, reason)
    answers, skipped = _answers(method, able, held, folder)
    if not answers:
        raise InputError(
            "no method could be tried on withheld clouds; name one, such as method='interpolate'"
        )
    trials = CrossValidation.of(answers, 1, *distances(held.windows))
    weighed = Blend.of(trials, blending=method.blend, strata=False)
    rmse = {name: values[0] for name, values in zip(trials.names, trials.rmse(), strict=True)}
    account = {"chosen": list(weighed.names), "why": weighed.why, "rmse": rmse}
    account |= {"skipped": skipped} if skipped else {}
    for one in able:
        if not held.little and one.name in weighed.names:
            _pinned(one, archive, folder)
    return _kept(method, folder, weighed.names, weighed, account)


def load(folder: Path) -> FittedAuto:
    """Read what `pin` or `FittedAuto.save` wrote."""
    state = read_state(folder)
    chosen = {name: registry.load(folder / name) for name in state["account"]["chosen"]}
    weighed = None if state["weighed"] is None else Blend.from_dict(state["weighed"])
    return FittedAuto(
        folder, config.build(Auto, state["options"]), chosen, weighed, state["account"]
    )


def _answers(
    method: Auto, able: list[Method], held: Holdout, folder: Path
) -> tuple[dict[str, WithheldEstimates], dict[str, str]]:
    """Pin and try the methods: what they answer, and of those left out the reason."""
    answers: dict[str, WithheldEstimates] = {}
    skipped: dict[str, str] = {}
    begun, last = clock(), 0.0
    for one in track(able, "choosing a method on withheld clouds"):
        started = clock()
        if method.budget is not None and answers and started - begun + last > method.budget:
            skipped[one.name] = f"the budget of {method.budget:.3g} s is used up"
            continue
        try:
            found = predict_withheld(
                held.windows, _alone(one.name, _pinned(one, held.archive, folder))
            )[one.name]
        except SstfillError as reason:
            log.warning("%s not considered: %s", one.name, reason)
            skipped[one.name] = str(reason)
            continue
        if np.isfinite(found.mean).any():
            answers[one.name], last = found, max(last, clock() - started)
        else:
            skipped[one.name] = "filled no withheld pixel"
    return answers, skipped


def _alone(name: str, pinned: FittedMethod) -> Callable[[Window], Estimates]:
    return lambda window: {name: pinned.estimate(window)}


def _pinned(one: Method, archive: Archive, folder: Path) -> FittedMethod:
    """Pin a method in a new folder under its name."""
    own = folder / one.name
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    return registry.fit(one, archive, own)


def _untried(
    method: Auto, able: list[Method], archive: Archive, folder: Path, reason: InputError
) -> FittedAuto:
    """Pin interpolation, or else the first method that was named."""
    wanted = [m for m in able if m.name == "interpolate"] or (able[:1] if method.methods else [])
    if not wanted:
        raise InputError(
            f"no method could be tried on withheld clouds; name one, such as method='dineof' ({reason})"
        )
    first = wanted[0]
    why = f"{first.name}, since no method can be tried on withheld clouds: {reason}"
    log.warning("%s", why)
    _pinned(first, archive, folder)
    return _kept(method, folder, (first.name,), None, {"chosen": [first.name], "why": why})


def _kept(
    method: Auto,
    folder: Path,
    names: tuple[str, ...],
    weighed: Blend | None,
    account: dict[str, Any],
) -> FittedAuto:
    """Remove the methods that do not fill, write down what does."""
    for part in [p for p in folder.iterdir() if p.is_dir() and p.name not in names]:
        shutil.rmtree(part)
    write_state(
        folder,
        method.name,
        {
            "options": config.options(method),
            "weighed": None if weighed is None else weighed.to_dict(),
            "account": config.plain(account),
        },
    )
    return load(folder)
