# SPDX-License-Identifier: Apache-2.0
"""Auto: try the methods on withheld clouds, then fill with the best of them, or with a blend of
several.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter as clock
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import config
from sstfill.checks import check_number
from sstfill.errors import InputError, OptionError, SstfillError, unknown
from sstfill.methods.base import Archive, FittedMethod, Method
from sstfill.methods.registry import METHODS, affordable, register, seeded
from sstfill.progress import track
from sstfill.validation.blend import combined
from sstfill.validation.cross_validation import BlendRecipe, CrossValidation, Decision
from sstfill.validation.distances import distance_to_data
from sstfill.validation.withheld import (
    USUAL,
    WithheldScore,
    hide,
    predict_withheld,
    score_estimates,
    variables,
)
from sstfill.validation.withheld_estimates import WithheldEstimates, gather

log = logging.getLogger(__name__)
COST = {
    "climatology": 0.1,
    "interpolate": 0.3,
    "bayes_eof": 2.0,
    "dineof": 3.0,
    "oi": 20.0,
    "patchmatch": 50.0,
}
"""Usual seconds for a million values, on one core or two; the cheapest are tried first, others
last.
"""
JUDGED = 1_000_000
"""Withheld pixels on which methods are judged, at most: of more, a random part."""
LITTLE = 0.05
"""Share of a budget that a method may still take when it is used up."""


@register
@dataclass(frozen=True, kw_only=True)
class Auto:
    """Try every method on withheld clouds, and fill with the best of them or a blend of several.

    Clouds of other dates are laid over observed pixels once, and each method (with its default
    options) fills them. Weights are then found that make the error least, by distance to the
    nearest observation in the image and by days to the nearest one of the pixel. Weights from every
    other image are tested on those between: only if the blend does better there than the best
    single method, it is taken. The methods chosen then fill the series itself. The expected error
    of a blend is that of the mixture: what its methods expect, and how much they disagree.

    Costs a fill by each method, and one more by each that is chosen. Where no clouds can be
    withheld (in a single image, or if no image has clouds to lend), the series is interpolated,
    with a warning.

    Parameters
    ----------
    methods
        Names of the methods to try (at the command line with commas between them); None tries each
        one that can do with the data, but patchmatch only in series of up to 750,000 values, for
        its cost.
    blend
        Blend methods where that is better; otherwise the best one fills.
    budget
        Seconds that trying and filling should take together: methods are tried from the usually
        cheapest on, none for which the time left seems too short, but always one; what has begun is
        not interrupted. None sets no limit; with one, the result hangs on the machine.
    share
        Part of the observed pixels to withhold: twice that of a score, for more different clouds
        make a surer choice.
    seed
        Seed of the withheld clouds and of the methods.

    References
    ----------
    Bates & Granger (1969), Operational Research Quarterly 20, 451-468 (weights of least error);
    Stone (1974), Journal of the Royal Statistical Society B 36, 111-147 (cross-validated choice).
    """

    name: ClassVar[str] = "auto"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1

    methods: tuple[str, ...] | None = None
    blend: bool = True
    budget: float | None = None
    share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.methods is not None:
            object.__setattr__(self, "methods", _checked(self.methods))
        if not isinstance(self.blend, bool):
            raise OptionError(f"blend={self.blend!r} must be True or False")
        if self.budget is not None:
            check_number("budget", self.budget, 0, above=True)
        check_number("share", self.share, 0, 0.9, above=True)
        check_number("seed", self.seed, 0, whole=True)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        return self.plan(obs, sea).reconstruct(obs, sea)

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        """Fit to an archive larger than memory (see `sstfill.methods.registry.fit`)."""
        from sstfill.methods.auto.fitted import fit_archive

        return fit_archive(self, archive, folder)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        """Read what `fit` wrote."""
        from sstfill.methods.auto.fitted import load

        return load(folder)

    def plan(self, obs: xr.DataArray, sea: xr.DataArray) -> FillPlan:
        """Try the methods on `obs`; say which of them shall fill it, with what weights, and how
        good that is.

        Raises
        ------
        InputError
            If no method could be tried, and the data cannot be interpolated either (several
            variables together).
        OptionError
            If none of `methods` can do with the data.
        """
        started = clock()
        able = self._able(obs)
        try:
            hidden = hide(obs, sea, self.seed, self.share)
        except InputError as reason:
            return self._untried(able, reason)
        judged = _thinned(hidden, self.seed)
        answers, seconds, skipped = self._answers(able, obs, sea, hidden, judged, started)
        if not answers:
            raise InputError(
                "no method could be tried on withheld clouds; name one, such as method='interpolate'"
            )
        trials = CrossValidation.of(
            answers, len(variables(obs)), *self._reach(obs, hidden, judged, len(answers))
        )
        left = np.inf if self.budget is None else self.budget - (clock() - started)
        trials, verdict = self._affordable(trials, seconds, skipped, left)
        log.info(
            "%s (seconds: %s)", verdict.why, {name: round(s, 2) for name, s in seconds.items()}
        )
        account = _account(
            CrossValidation.of(answers, trials.layers, trials.distance, trials.lag),
            variables(obs),
            verdict.why,
        )
        account |= {"skipped": skipped} if skipped else {}
        if (
            self.budget is not None
        ):  # what hangs on the machine is recorded only where the result hangs on it too
            account["seconds"] = {name: round(s, 3) for name, s in seconds.items()}
        scores = score_estimates(
            verdict.fair, variables(obs), {"share": self.share, "seed": self.seed}
        )
        return FillPlan.of(able, trials, verdict.recipe, scores, account)

    def _able(self, obs: xr.DataArray) -> list[Method]:
        """Methods that can do with such data, the cheap ones first."""
        names = (
            [n for n in affordable(obs) if n != self.name] if self.methods is None else self.methods
        )
        several, times = "variable" in obs.dims, obs.sizes["time"]
        fit = [
            n
            for n in names
            if times >= METHODS[n].min_times and (METHODS[n].multivariate or not several)
        ]
        if not fit and self.methods is not None:
            what = "several variables together" if several else f"{times} time steps"
            raise OptionError(
                f"methods={self.methods!r}: none can do with {what}; name others, or leave it out"
            )
        return [
            seeded(METHODS[n], self.seed) for n in sorted(fit, key=lambda n: COST.get(n, np.inf))
        ]

    def _untried(self, able: list[Method], reason: InputError) -> FillPlan:
        """Fill by interpolation, or else by the first method that was named."""
        wanted = [m for m in able if m.name == "interpolate"] or (able[:1] if self.methods else [])
        if not wanted:
            raise InputError(
                f"no method could be tried on withheld clouds; name one, such as method='dineof' ({reason})"
            )
        first = wanted[0]
        log.warning(
            "%s fills, since no method can be tried on withheld clouds: %s", first.name, reason
        )
        why = f"{first.name}, since no method can be tried on withheld clouds: {reason}"
        return FillPlan((first,), None, {}, {"chosen": [first.name], "why": why})

    def _answers(
        self,
        able: list[Method],
        obs: xr.DataArray,
        sea: xr.DataArray,
        hidden: xr.DataArray,
        judged: xr.DataArray,
        started: float,
    ) -> tuple[dict[str, WithheldEstimates], dict[str, float], dict[str, str]]:
        """Try the methods: what they answer, the seconds each takes, and of those left out the
        reason.
        """
        answers: dict[str, WithheldEstimates] = {}
        seconds: dict[str, float] = {}
        skipped: dict[str, str] = {}
        for method in track(able, "choosing a method on withheld clouds"):
            begun = clock()
            if self.budget is not None and answers:
                left = max(self.budget - (begun - started), 0.0)
                usual = COST.get(method.name, 0.0) * obs.size / 1e6
                need = 2 * max(
                    usual, *seconds.values()
                )  # no less than those before it; here, and when it is chosen
                if left < need:
                    skipped[method.name] = (
                        f"{left:.3g} s of the budget left, and it needs about {need:.3g} s"
                    )
                    continue
            try:
                found = predict_withheld(method, obs, sea, hidden, judged)
            except SstfillError as reason:
                log.warning("%s not considered: %s", method.name, reason)
                skipped[method.name] = str(reason)
                continue
            if np.isfinite(found.mean).any():
                answers[method.name], seconds[method.name] = found, clock() - begun
            else:
                skipped[method.name] = "filled no withheld pixel"
        return answers, seconds, skipped

    def _reach(
        self, obs: xr.DataArray, hidden: xr.DataArray, judged: xr.DataArray, methods: int
    ) -> tuple[NDArray, NDArray]:
        """How far the withheld pixels are from what was left; needed to blend only."""
        if not self.blend or methods < 2:
            nowhere = np.full(int(judged.sum()), np.nan)
            return nowhere, nowhere
        distance, lag, *_ = gather(judged, *distance_to_data(obs.where(~hidden)))
        return distance, lag

    def _affordable(
        self,
        trials: CrossValidation,
        seconds: Mapping[str, float],
        skipped: dict[str, str],
        left: float,
    ) -> tuple[CrossValidation, Decision]:
        """Decide; while the time left does not suffice for those chosen, do without the dearest of
        them.
        """
        while True:
            verdict = trials.verdict(self.blend)
            chosen = [trials.names[k] for k in verdict.recipe.weights.used]
            least = min(trials.names, key=lambda name: seconds[name])
            bearable = max(left, LITTLE * (self.budget or 0.0))
            if sum(seconds[name] for name in chosen) <= bearable or chosen == [least]:
                return trials, verdict
            dearest = max(chosen, key=lambda name: seconds[name])
            spare = max(left, 0.0)
            skipped[dearest] = (
                f"{spare:.3g} s of the budget left, and filling by it takes {seconds[dearest]:.3g} s"
            )
            trials = trials.without(dearest)


@dataclass(frozen=True)
class FillPlan:
    """How a series will be filled, and how good that proved on withheld clouds.

    Attributes
    ----------
    methods
        Those that fill.
    recipe
        Their weights and error scales; None takes the only method as it is.
    scores
        Of each variable, on pixels that the recipe scored there was not fitted to; of the error
        that `reconstruct` gives, which ``sigma_scale`` of the score still has to scale.
    account
        What was chosen, why, and what each method was worth: plain values.
    """

    methods: tuple[Method, ...]
    recipe: BlendRecipe | None
    scores: dict[str, WithheldScore]
    account: dict[str, Any]

    @classmethod
    def of(
        cls,
        able: Sequence[Method],
        trials: CrossValidation,
        recipe: BlendRecipe,
        scores: dict[str, WithheldScore],
        account: dict[str, Any],
    ) -> FillPlan:
        """Keep of the methods tried those that a recipe uses."""
        used = recipe.weights.used
        names = [trials.names[k] for k in used]
        weights = recipe.weights.among(used)
        account = {"chosen": names} | account
        account["error_scale"] = {
            name: recipe.scale[:, k].round(4).tolist() for name, k in zip(names, used, strict=True)
        }
        for name, scale in account["error_scale"].items():
            if any(not 1 / USUAL < s < USUAL for s in scale):
                log.warning(
                    "the error that %s states had to be scaled by %s to hold on withheld clouds",
                    name,
                    scale,
                )
        if len(names) > 1:
            tables = {
                name: weights.table[:, :, k].round(3).tolist() for k, name in enumerate(names)
            }
            centres = {
                "distance": weights.distance.round(3).tolist(),
                "lag_days": weights.lag.round(3).tolist(),
            }
            account["weights"] = centres | tables
        by_name = {m.name: m for m in able}
        return cls(
            tuple(by_name[n] for n in names),
            BlendRecipe(weights, recipe.scale[:, used]),
            scores,
            account,
        )

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs`: ``mean`` and, where the methods tell, ``error``; lazy where `obs` is.

        The dataset's attributes are the account, with what each method reports of itself in
        ``diagnostics``.
        """
        estimates = [m.reconstruct(obs, sea) for m in self.methods]
        reports = {
            m.name: config.plain(e.attrs) for m, e in zip(self.methods, estimates, strict=True)
        }
        found = estimates[0] if self.recipe is None else combined(self.recipe, estimates, obs)
        return found.drop_attrs(deep=False).assign_attrs(self.account | {"diagnostics": reports})


def _thinned(hidden: xr.DataArray, seed: int) -> xr.DataArray:
    """Random part of what is hidden, if it is much: enough to judge by."""
    share = JUDGED / max(int(hidden.sum()), 1)
    if share >= 1:
        return hidden
    drawn = np.random.default_rng(seed).random(hidden.shape, np.float32) < share
    return hidden.copy(data=hidden.values & drawn)


def _account(trials: CrossValidation, names: list[str], why: str) -> dict[str, Any]:
    """Why, and the RMSE of each method: a number, or one for each of several variables."""
    found = dict(zip(trials.names, trials.rmse(), strict=True))
    rmse: dict[str, Any] = {
        m: dict(zip(names, v, strict=True)) if len(names) > 1 else v[0] for m, v in found.items()
    }
    return {"why": why, "rmse": rmse}


def _checked(methods: object) -> tuple[str, ...]:
    if isinstance(methods, str) or not isinstance(methods, Sequence) or not methods:
        raise OptionError(
            f"methods={methods!r} must be names, such as ('interpolate', 'dineof'); None tries all"
        )
    choices = sorted(n for n in METHODS if n != Auto.name)
    for name in methods:
        if name not in choices:
            raise OptionError(
                f"methods={tuple(methods)!r}: {unknown('method to try', name, choices)}"
            )
    return tuple(dict.fromkeys(methods))
