# SPDX-License-Identifier: Apache-2.0
"""Choose among methods on withheld clouds, for a series in memory and for an archive alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter as clock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import InputError, SstfillError
from sstfill.methods.base import EstimatesPart, Method, Simulates
from sstfill.methods.registry import METHODS, seeded
from sstfill.progress import track
from sstfill.validation.blend import Blend
from sstfill.validation.cross_validation import CrossValidation, Decision
from sstfill.validation.withheld import USUAL
from sstfill.validation.withheld_estimates import WithheldEstimates

log = logging.getLogger(__name__)
COST = {
    "climatology": 0.1,
    "interpolate": 0.3,
    "dineof": 1.5,
    "bayes_eof": 2.0,
    "oi": 3.0,
    "patchmatch": 50.0,
}
"""Usual seconds for a million values, on one core or two; the cheapest are tried first, others
last. Those of m_20k_200, 4.6 million values, as of November 2026.
"""
COSTLY = 5.0
"""Usual seconds for the whole series from which on a method is tried on a part of it first."""
PART = 120_000
"""Values of that part; it is no use unless the series has `TIMES` as many."""
TIMES = 3
DRAWS = "oi"
"""Draws where no method that was tried can."""
LEAST_LEFT = 0.05
"""Fraction of a budget that the fill may still take when the budget is used up."""


class Holdout(Protocol):
    """Data of which some observations are withheld, to try methods on."""

    @property
    def variables(self) -> list[str]:
        """Names of the variables."""
        ...

    @property
    def resemblance(self) -> Mapping[str, dict[str, Any]]:
        """By variable, how far the withheld pixels resemble its gaps."""
        ...

    @property
    def size(self) -> int:
        """How many values a method is given in a trial."""
        ...

    def fitted(self, method: Method) -> Method:
        """Return a method that keeps its fit to what is left, if it can; else the method."""
        ...

    def predict(self, method: Method) -> WithheldEstimates:
        """Estimate the withheld pixels by a method from what is left."""
        ...

    def part(self, values: int) -> tuple[Holdout, NDArray[np.bool_]] | None:
        """Return about so many values of it, and which of the withheld pixels these contain; None
        if a trial on fewer would not cost less.
        """
        ...


@dataclass(frozen=True)
class Choice:
    """Which methods fill, how they are blended, and how good that is out of sample.

    Attributes
    ----------
    methods
        Those that fill.
    blend
        Of these methods; None takes the only method as it is, for none could be tried.
    cross_fitted
        Estimates at withheld pixels that the blend was not fitted to; None with `blend`.
    account
        What was chosen, why, and the score of each method: plain values.
    """

    methods: tuple[Method, ...]
    blend: Blend | None
    cross_fitted: WithheldEstimates | None
    account: dict[str, Any]


@dataclass(frozen=True)
class TrialResults:
    """Results of the methods that were tried, by name.

    Attributes
    ----------
    estimates
        At the withheld pixels.
    methods
        By which they were made, with what was fitted.
    seconds
        That each method took.
    skipped
        Methods without estimates, and the reason.
    """

    estimates: dict[str, WithheldEstimates]
    methods: dict[str, Method]
    seconds: dict[str, float]
    skipped: dict[str, str]


def choose(
    candidates: Sequence[Method],
    holdout: Holdout,
    *,
    blending: bool,
    budget: float | None,
    started: float,
) -> Choice:
    """Try methods on withheld clouds; choose the best of them, or a blend of several.

    A method that is usually costly is tried on a part of the data first, and is out of the race if
    it is clearly behind there. One that can keep its fit fills by that of its trial.

    Parameters
    ----------
    candidates
        The methods, cheapest first.
    holdout
        What they are tried on.
    blending
        Blend methods where that is better.
    budget
        Seconds from `started`, a reading of `time.perf_counter`, for trials and fill together; None
        sets no limit.

    Raises
    ------
    InputError
        If no method has an estimate at any withheld pixel.
    """
    trials = _try_methods(candidates, holdout, budget, started)
    if not trials.estimates:
        raise InputError(
            "no method could be tried on withheld clouds; name one, such as method='interpolate'"
        )
    tried = CrossValidation.of(trials.estimates, len(holdout.variables))
    # The trials have used up some of it.
    left = np.inf if budget is None else budget - (clock() - started)
    decision = _affordable_decision(tried, trials, blending, budget or 0.0, left)
    seconds = {name: round(s, 3) for name, s in trials.seconds.items()}
    log.info("%s (seconds: %s)", decision.blend.why, seconds)
    rmse: dict[str, Any] = {}
    for name, values in zip(tried.names, tried.rmse(), strict=True):
        rmse[name] = values[0]
        if len(holdout.variables) > 1:
            # Of several variables an RMSE each, in its own units.
            rmse[name] = dict(zip(holdout.variables, values, strict=True))
    account = {"chosen": list(decision.blend.names), "why": decision.blend.why, "rmse": rmse}
    if trials.skipped:
        account["skipped"] = trials.skipped
    if budget is not None:
        # Times differ from run to run, so they are recorded only where the choice depends on them.
        account["seconds"] = seconds
    account |= _account_of_blend(decision.blend)
    chosen = tuple(trials.methods[name] for name in decision.blend.names)
    return Choice(chosen, decision.blend, decision.cross_fitted, account)


def untried(candidates: Sequence[Method], reason: InputError, *, named: bool) -> Choice:
    """Choose where no clouds can be withheld: interpolation, or the first method that was named.

    Raises
    ------
    InputError
        If the data cannot be interpolated, and the user `named` no methods.
    """
    # It is the one method that needs no choice of its own, and fills anything.
    wanted = [method for method in candidates if method.name == "interpolate"]
    if not wanted and named:
        wanted = list(candidates[:1])
    if not wanted:
        raise InputError(
            "no method could be tried on withheld clouds; name one, such as method='dineof' "
            f"({reason})"
        )
    first = wanted[0]
    text = f"since no method can be tried on withheld clouds: {reason}"
    log.warning("%s fills, %s", first.name, text)
    account = {"chosen": [first.name], "why": f"{first.name}, {text}"}
    return Choice((first,), None, None, account)


def drawing_method(choice: Choice, candidates: Sequence[Method], seed: int) -> Method:
    """Return the method whose draws tell how errors are correlated.

    It is the one of most weight among those that fill and can draw; if none of them can, the best
    of those that were tried, else optimal interpolation.
    """
    able = [method for method in choice.methods if isinstance(method, Simulates)]
    if able:
        weights: dict[str, float] = {}
        if choice.blend is not None:
            mean = choice.blend.weights.table.mean((0, 1))
            weights = dict(zip(choice.blend.names, mean.tolist(), strict=True))
        # Its errors are most of the blend's.
        return max(able, key=lambda method: weights.get(method.name, 0.0))
    errors = {}
    for name, rmse in choice.account.get("rmse", {}).items():
        errors[name] = np.array(list(rmse.values()) if isinstance(rmse, dict) else [rmse], float)
    # Of those that were tried, since only their errors are known.
    tried = [m for m in candidates if isinstance(m, Simulates) and m.name in errors]
    if not tried:
        drawer: Method = seeded(METHODS[DRAWS], seed)
        return drawer
    least = np.min([errors[method.name] for method in tried], axis=0)
    # of several variables, which may have different units, relative to the best of each
    return min(tried, key=lambda method: float((errors[method.name] / least).sum()))


def _try_methods(
    candidates: Sequence[Method], holdout: Holdout, budget: float | None, started: float
) -> TrialResults:
    trials = TrialResults({}, {}, {}, {})

    # Shown beside the progress bar, for the trials may take longer than the fill.
    def so_far() -> str:
        if not trials.estimates:
            return ""
        return "so far " + CrossValidation.of(trials.estimates, len(holdout.variables)).leader()

    for method in track(candidates, "choosing a method on withheld clouds", so_far=so_far):
        begun = clock()
        if budget is not None and trials.estimates:
            left = max(budget - (begun - started), 0.0)
            # Of a method of another package nothing is known: only what the others took counts.
            usual = COST.get(method.name, 0.0) * holdout.size / 1e6
            # Once here and once when it is chosen; and no less than the cheaper ones before it.
            needed = 2 * max(usual, *trials.seconds.values())
            if left < needed:
                trials.skipped[method.name] = (
                    f"{left:.3g} s of the budget left, and it needs about {needed:.3g} s"
                )
                continue
        # Only what is clearly worse on the part is spared the whole; anything near may win there.
        if behind := _behind_on_part(method, holdout, trials.estimates):
            log.info("%s is %s", method.name, behind)
            trials.skipped[method.name] = behind
            continue
        try:
            fitted = holdout.fitted(method)
            estimates = holdout.predict(fitted)
        # A method that refuses the data must not keep the others from filling them.
        except SstfillError as reason:
            log.warning("%s not considered: %s", method.name, reason)
            trials.skipped[method.name] = str(reason)
            continue
        # A method may refuse nothing and still fill nothing, such as one with a short limit.
        if np.isfinite(estimates.mean).any():
            trials.estimates[method.name] = estimates
            trials.methods[method.name] = fitted
            trials.seconds[method.name] = clock() - begun
        else:
            trials.skipped[method.name] = "filled no withheld pixel"
    return trials


def _behind_on_part(
    method: Method, holdout: Holdout, others: Mapping[str, WithheldEstimates]
) -> str:
    """Try a costly method on a part of the data; say in words that it is clearly behind there."""
    # A method of another package is taken for costly.
    costly = COST.get(method.name, np.inf) * holdout.size / 1e6 > COSTLY
    if not others or not costly or holdout.size < TIMES * PART or isinstance(method, EstimatesPart):
        return ""
    part = holdout.part(PART)
    if part is None:
        return ""
    smaller, rows = part
    try:
        own = smaller.predict(method)
    except SstfillError:  # the whole has more observations
        return ""
    # The others have filled the whole; of theirs the same pixels count.
    estimates = {name: one.at(rows) for name, one in others.items()}
    race = CrossValidation.of(estimates | {method.name: own}, len(holdout.variables))
    if not race.is_behind(method.name):
        return ""
    *losses, loss = race.loss(race.mean)
    times = loss / min(losses)
    return f"clearly behind on a part of the area: {times:.3g} times the error of the best there"


def _affordable_decision(
    tried: CrossValidation, trials: TrialResults, blending: bool, budget: float, left: float
) -> Decision:
    """Decide; while the time left is too short for the chosen methods, drop the dearest of them."""
    seconds = trials.seconds
    # A budget that the trials used up must not leave a series unfilled.
    bearable = max(left, LEAST_LEFT * budget)
    while True:
        decision = tried.decision(blending=blending, sparing=True)
        chosen = decision.blend.names
        cheapest = min(tried.names, key=lambda name: seconds[name])
        # The cheapest method fills in any case: there must be one.
        if sum(seconds[name] for name in chosen) <= bearable or chosen == (cheapest,):
            return decision
        # Decided anew without it, since the others' weights change.
        dearest = max(chosen, key=lambda name: seconds[name])
        trials.skipped[dearest] = (
            f"{max(left, 0.0):.3g} s of the budget left, and filling by it takes "
            f"{seconds[dearest]:.3g} s"
        )
        tried = tried.without(dearest)


def _account_of_blend(blend: Blend) -> dict[str, Any]:
    """Return error scales and weights as plain values; warn of errors scaled by much."""
    scales: dict[str, list[float]] = {}
    for k, name in enumerate(blend.names):
        scale = blend.scale[:, k].round(4)
        scales[name] = scale.tolist()
        if not ((scale > 1 / USUAL) & (scale < USUAL)).all():
            log.warning(
                "the error that %s states had to be scaled by %s to hold on withheld clouds",
                name,
                scales[name],
            )
    account: dict[str, Any] = {"error_scale": scales}
    # Of one method the weight is 1 everywhere.
    if len(blend.names) > 1:
        weights = blend.weights
        account["weights"] = {
            "distance": weights.distance.round(3).tolist(),
            "lag_days": weights.lag.round(3).tolist(),
        }
        for k, name in enumerate(blend.names):
            account["weights"][name] = weights.table[:, :, k].round(3).tolist()
    return account
