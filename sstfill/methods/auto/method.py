# SPDX-License-Identifier: Apache-2.0
"""Auto: try the methods on withheld clouds, then fill with the best of them, or with a blend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter as clock
from typing import ClassVar

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.checks import check_number
from sstfill.errors import InputError, OptionError, unknown
from sstfill.methods.auto.choice import COST, Choice, choose, drawing_method, untried
from sstfill.methods.base import Archive, FitsOnce, FittedMethod, Method, Simulates
from sstfill.methods.common.deviations import about, check_error
from sstfill.methods.registry import METHODS, affordable, register, seeded
from sstfill.validation.withheld import WithheldScore, score_estimates
from sstfill.validation.withholding.series_holdout import SeriesHoldout

SCORED = 1_000_000
"""Withheld pixels on which methods are compared, at most: of more, a random part."""


@register
@dataclass(frozen=True, kw_only=True)
class Auto:
    """Try every method on withheld clouds, and fill with the best of them or a blend of several.

    Observed pixels are withheld as the gaps of the series lie, and each method (with its default
    options) fills them. Weights of least error are fitted by distance to the nearest observation in
    the image and by days to the nearest one of the pixel. They are cross-validated: weights from
    every other image are tested on the images between, and a blend is taken only if it does better
    there than the best single method; no method is in it that improves it by less than 0.5 %. The
    chosen methods then fill the series itself, starting from what they fitted in the trial. The
    expected error of a blend combines the errors of its methods and their disagreement.

    A method that is costly for so large a series is tried on a window of it first, and is out of
    the race if it is clearly behind there. The trials cost less than a fill by each method, and
    each that is chosen costs one more. Where nothing can be withheld, since there are no gaps whose
    like could hide observations, the series is interpolated, with a warning.

    Parameters
    ----------
    methods
        Names of the methods to try (at the command line with commas between them); None tries each
        one that can fill the data, but patchmatch, which is costly, only in series of up to 750,000
        values.
    blend
        Blend methods where that is better; otherwise the best one fills.
    budget
        Seconds that trials and fill should take together. Methods are tried from the usually
        cheapest on, at least one, and none for which the time left seems too short; a trial is not
        interrupted. None sets no limit; with a budget the result depends on the machine.
    fraction
        Fraction of the observed pixels to withhold: twice that of a score, because more clouds make
        a safer choice.
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
    fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.methods is not None:
            # Frozen, and a list of names from TOML has to become a tuple to be hashable.
            object.__setattr__(self, "methods", _checked(self.methods))
        if not isinstance(self.blend, bool):
            raise OptionError(f"blend={self.blend!r} must be True or False")
        if self.budget is not None:
            check_number("budget", self.budget, 0, above=True)
        check_number("fraction", self.fraction, 0, 0.9, above=True)
        check_number("seed", self.seed, 0, whole=True)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        return self.plan(obs, sea).reconstruct(obs, sea)

    def simulate(self, obs: xr.DataArray, sea: xr.DataArray, members: int) -> xr.Dataset:
        """Fill `obs`, and draw members (see `sstfill.methods.base.Simulates.simulate`).

        How they are drawn, see `sstfill.methods.common.deviations`.
        """
        return self.plan(obs, sea).simulate(obs, sea, members)

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
        """Try the methods on `obs`, and decide which of them shall fill it.

        Raises
        ------
        InputError
            If no method could be tried, and the data cannot be interpolated either (several
            variables together).
        OptionError
            If none of `methods` can fill such data.
        """
        started = clock()
        candidates = self.candidates(obs)
        try:
            holdout = SeriesHoldout.draw(obs, sea, self.seed, self.fraction, SCORED)
        except InputError as reason:
            choice = untried(candidates, reason, named=self.methods is not None)
            return FillPlan(choice, {}, candidates, self.seed)
        choice = choose(
            candidates, holdout, blending=self.blend, budget=self.budget, started=started
        )
        assert choice.cross_fitted is not None
        settings = {"fraction": self.fraction, "seed": self.seed}
        # On the pixels of the choice, but cross-fitted: no further clouds need be withheld for it.
        # What is fitted anew may state errors on another level than in its trial.
        anew = not any(isinstance(method, FitsOnce) for method in choice.methods)
        scores = score_estimates(
            *(choice.cross_fitted, holdout.variables, settings, holdout.resemblance),
            holdout.gaps if anew else {},
        )
        return FillPlan(choice, scores, candidates, self.seed)

    def candidates(self, obs: xr.DataArray) -> list[Method]:
        """Return the methods to try on such data, the cheap ones first.

        Raises
        ------
        OptionError
            If none of `methods` can fill such data.
        """
        several, times = "variable" in obs.dims, obs.sizes["time"]
        names = self.methods
        if names is None:
            # `auto` cannot try itself.
            names = tuple(name for name in affordable(obs) if name != self.name)
        able = []
        for name in names:
            method = METHODS[name]
            if times >= method.min_times and (method.multivariate or not several):
                able.append(name)
        # Where nothing was named, interpolation or an error of the trial follows.
        if not able and self.methods is not None:
            what = "several variables together" if several else f"{times} time steps"
            raise OptionError(
                f"methods={self.methods!r}: none can fill {what}; name others, or leave it out"
            )
        # Cheapest first, so that a budget that runs out has tried as many as can be.
        able.sort(key=lambda name: COST.get(name, np.inf))
        return [seeded(METHODS[name], self.seed) for name in able]


@dataclass(frozen=True)
class FillPlan:
    """How a series will be filled, and its score.

    Attributes
    ----------
    choice
        The methods and their blend.
    scores
        Of each variable, on pixels that the blend scored there was not fitted to. Its
        ``sigma_scale`` is a factor of the error that `reconstruct` returns.
    candidates
        The methods that might have been chosen, of which one may draw.
    seed
        Of draws.
    """

    choice: Choice
    scores: dict[str, WithheldScore]
    candidates: Sequence[Method]
    seed: int

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs`: ``mean`` and, where the methods state one, ``error``; lazy where `obs` is.

        The dataset's attributes are the account, with what each method reports of itself in
        ``diagnostics``.
        """
        estimates = {method.name: method.reconstruct(obs, sea) for method in self.choice.methods}
        return self._filled(estimates, obs)

    def simulate(self, obs: xr.DataArray, sea: xr.DataArray, members: int) -> xr.Dataset:
        """Fill `obs` as `reconstruct` does, and draw members; ``drawn_by`` in the attributes names
        the method whose draws tell how the errors are correlated.

        Raises
        ------
        OptionError
            None of the methods that fill states an error.
        """
        drawer, estimates = drawing_method(self.choice, self.candidates, self.seed), {}
        assert isinstance(drawer, Simulates)
        drawn = drawer.simulate(obs, sea, members)
        for method in self.choice.methods:
            # A method that draws returns its estimate as well.
            estimates[method.name] = drawn
            if method.name != drawer.name:
                estimates[method.name] = method.reconstruct(obs, sea)
        filled = self._filled(estimates, obs)
        check_error(filled, list(estimates))
        filled["members"] = about(filled, drawn, obs, self.seed)
        return filled.assign_attrs(drawn_by=drawer.name)

    def _filled(self, estimates: dict[str, xr.Dataset], obs: xr.DataArray) -> xr.Dataset:
        """Blend the estimates of the chosen methods."""
        reports = {name: config.plain(one.attrs) for name, one in estimates.items()}
        # Where no method could be tried there is one alone, and no blend.
        filled = estimates[self.choice.methods[0].name]
        if self.choice.blend is not None:
            filled = self.choice.blend.apply(estimates, obs)
        account = self.choice.account | {"diagnostics": reports}
        return filled.drop_attrs(deep=False).assign_attrs(account)


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
    # A name given twice would be tried twice.
    return tuple(dict.fromkeys(methods))
