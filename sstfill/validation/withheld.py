# SPDX-License-Identifier: Apache-2.0
"""Score a method on the series that it is to fill: hide clouds, fill them, compare."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError, OptionError
from sstfill.fields.gaps import derived_seed
from sstfill.fields.transform import Transform
from sstfill.validation import metrics
from sstfill.validation.calibration import (
    EXTREME,
    IMAGES,
    LEVELS,
    StratifiedScale,
    error_scale,
    standardised,
)
from sstfill.validation.withheld_estimates import WithheldEstimates, halves
from sstfill.validation.withholding.likeness import GapSample, weights
from sstfill.validation.withholding.series_holdout import SeriesHoldout, hide, variables

if TYPE_CHECKING:
    from sstfill.methods.base import Method

__all__ = [
    "FRACTION",
    "WithheldScore",
    "hide",
    "in_both_spaces",
    "is_better",
    "score_estimates",
    "variables",
    "withheld_score",
]
log = logging.getLogger(__name__)
FRACTION = 0.1
"""Fraction of the observed pixels that is withheld for a score."""
GAIN = 0.05
"""Fraction by which a transform must lower the RMSE there, and may raise the MAE in units."""
ERRORS = ("mae", "rmse", "bias", "correlation", "std")
"""Entries of a score that differ from one space to another."""
TRIALS_VALUES = 400_000
"""Values of a series in all the trials of a method that asks for several: the spread of the scale
from one choice of withheld runs to another matters where there are few clouds to choose from.
"""
ANOTHER = 51
"""Makes, of the seed of a score, and of the number of a trial after the first, that of the trial.
"""
MOST_OFF = 3.0
"""By which factor the errors stated in a trial and in the fill may differ, and be reconciled."""
LEAST_ALIKE = 0.1
"""Mean weight of withheld pixels, and of gaps, from which on their surroundings are comparable: 0.5
where they are the same, 0.26 to 0.43 on the series of docs/benchmarks/errors.md.
"""
USUAL = 4.0
"""Beyond this factor something is wrong with the stated error, and the log warns of it."""


@dataclass(frozen=True)
class WithheldScore:
    """How well a method estimates the withheld pixels of one variable.

    Attributes
    ----------
    summary
        Scores on the withheld pixels, as JSON can hold them; ``std`` is the standard deviation of
        what was withheld.
    scale
        Factors that make the method's stated error hold on the withheld pixels, by distance to
        data; one factor where the data do not allow more. And the distribution of the errors.
    estimates
        What the scores are of.
    gaps
        Some of the gaps of the variable, if it has any and the fill is fitted anew.
    """

    summary: dict[str, Any]
    scale: StratifiedScale = field(repr=False, compare=False)
    estimates: WithheldEstimates | None = field(default=None, repr=False, compare=False)
    gaps: GapSample | None = field(default=None, repr=False, compare=False)

    def at_level(self, stated: NDArray, odds: NDArray) -> WithheldScore:
        """Return the score with the scale for a fill that states errors on another level.

        A method may find one level of its errors for a whole fill, as `dineof` does by a
        cross-validation of its own: with more withheld, the pixels of that are harder, and all
        errors are stated larger, up to 1.8 times in 24 images. The true errors of pixels with the
        same surroundings are as large in the fill as in the trial: over 92 fills of real and
        cloudy series by four methods they changed by a tenth of the change of what is stated. So
        the scale takes it back.

        Where hardly any withheld pixel is like a gap, as where whole images are missing, nothing
        can be compared: what differs may belong to the pixels, and the scale stays as it is. So it
        does for a fill by all that was fitted in the trial, where the level is the same.

        The level is the mean logarithm of the errors stated. Pixels withheld and gaps count by the
        odds that they were of the other kind, with which both have the same mean surroundings (Li,
        Morgan & Zaslavsky 2018, Journal of the American Statistical Association 113, 390-400).

        Parameters
        ----------
        stated
            By the method in the fill, at some of the gaps; ``(n,)``.
        odds
            Of these gaps, see `sstfill.validation.withholding.likeness.Likeness`; ``(n,)``.
        """
        found = self.estimates
        if found is None or np.unique(found.image).size < IMAGES:
            return self
        of_withheld, of_gaps = found.odds / (1 + found.odds), 1 / (1 + odds)
        in_trial = _mean_logarithm(found.sigma, of_withheld)
        in_fill = _mean_logarithm(stated, of_gaps)
        if in_trial is None or in_fill is None:
            return self
        if min(of_withheld.mean(), of_gaps.mean()) < LEAST_ALIKE:
            return self
        bound, extreme = np.log(MOST_OFF), np.log(EXTREME)
        level = float(np.clip(in_trial - in_fill, -bound, bound))
        logarithm = np.clip(self.scale.logarithm + level, -extreme, extreme)
        scale = replace(self.scale, logarithm=logarithm)
        summary = self.summary | {
            "level": float(np.exp(level)),
            "sigma_scale": self.sigma_scale * float(np.exp(level)),
        }
        if not scale.is_single:
            summary["scale"] = scale.to_dict()
        return replace(self, summary=summary, scale=scale)

    def warn_of_scale(self) -> None:
        """Warn where the stated error is scaled by much: something is wrong with it."""
        if not 1 / USUAL < self.sigma_scale < USUAL:
            log.warning(
                "the stated error had to be scaled by %.3g to hold on withheld clouds; do not rely "
                "on it",
                self.sigma_scale,
            )

    @property
    def sigma_scale(self) -> float:
        """The one factor that suits all withheld pixels best; 1 where no error is stated."""
        return float(self.summary.get("sigma_scale", 1.0))

    @property
    def rmse(self) -> float:
        """Root mean square error on the withheld pixels; NaN if the method filled none of them."""
        return float(self.summary["rmse"])

    @property
    def loss(self) -> float:
        """RMSE over the standard deviation of what was withheld.

        A pixel without an estimate counts as filled with the mean.
        """
        filled, std = float(self.summary["filled_fraction"]), float(self.summary["std"])
        return float(np.sqrt(filled * self.rmse**2 + (1 - filled) * std**2)) / (std or 1.0)


def withheld_score(
    method: Method, obs: xr.DataArray, sea: xr.DataArray, seed: int, fraction: float = FRACTION
) -> dict[str, WithheldScore]:
    """Withhold observations as the gaps of the series lie, and score each variable.

    Pixels count by weights with which they resemble the gaps: in the errors by distance and lag, in
    scale and coverage by all their surroundings (`sstfill.validation.withholding.likeness`). The
    error scale, by distance to data, fits all of `sstfill.validation.calibration.LEVELS` as well as
    can be, see `sstfill.validation.calibration.StratifiedScale`. The coverage is out of sample:
    scale and distribution from some of the images are tested on the others, see
    `sstfill.validation.withheld_estimates.halves`. Of a method that states ``shares_fit`` the few
    parameters that trial and fill share have seen what is withheld.

    A method whose ``trials`` are several (see `sstfill.methods.base.Method`) is tried on so many
    choices of what is withheld, as far as together they are of `TRIALS_VALUES`, and all of them are
    scored together; the resemblance is that of the first.

    Returns
    -------
    dict
        By variable. Empty, with a warning, where there are no gaps whose like could be hidden, or
        where the method refuses the series without the withheld pixels.
    """
    try:
        holdout = SeriesHoldout.draw(obs, sea, seed, fraction)
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return {}
    try:
        estimates = holdout.predict(method)
    except (InputError, OptionError) as reason:
        # The whole series has more observations, so it may be filled all the same.
        log.warning(
            "%s has no score and its error is not calibrated, because it refused the series "
            "with clouds withheld: %s",
            method.name,
            reason,
        )
        return {}
    parts = [estimates]
    trials = min(getattr(method, "trials", 1), TRIALS_VALUES // obs.size)
    if len(np.unique(estimates.image)) == 1:
        # halves of one image are of its pixels, which other trials might withhold again
        trials = 1
    for number in range(1, trials):
        own = derived_seed(seed, ANOTHER + number)
        try:
            parts.append(SeriesHoldout.draw(obs, sea, own, fraction).predict(method))
        except (InputError, OptionError) as reason:
            log.info("%s is scored on %d trials only: %s", method.name, len(parts), reason)
            break
    settings = {"fraction": fraction, "seed": seed}
    if len(parts) > 1:
        settings["trials"] = len(parts)
    together = WithheldEstimates(*map(np.concatenate, zip(*parts, strict=True)))
    return score_estimates(together, holdout.variables, settings, holdout.resemblance, holdout.gaps)


def score_estimates(
    estimates: WithheldEstimates,
    names: list[str],
    settings: dict[str, Any],
    resemblance: Mapping[str, dict[str, Any]],
    gaps: Mapping[str, GapSample],
) -> dict[str, WithheldScore]:
    """Score each variable of which pixels were withheld.

    `settings`, and of `resemblance` what is known of the variable, go into the summary; `gaps` are
    kept for `WithheldScore.at_level`.
    """
    scores = {}
    for number, name in enumerate(names):
        here = estimates.layer == number
        if here.any():
            about = dict(settings)
            if name in resemblance:
                about["resemblance"] = resemblance[name]
            score = _score_variable(estimates.at(here), about)
            scores[name] = replace(score, gaps=gaps.get(name))
    return scores


def in_both_spaces(score: WithheldScore, transform: Transform) -> WithheldScore:
    """Add to a score in transformed space the one in the units of the field.

    ``mae``, ``rmse``, ``bias``, ``correlation`` and ``std`` are in the units of the field, those in
    transformed space get its name, as in ``rmse_log10``. ``coverage`` and ``sigma_scale`` stay
    those of the error in transformed space.

    Parameters
    ----------
    score
        With its estimates, in the space of `transform`.
    """
    if transform.kind == "none":
        return score
    assert score.estimates is not None
    there = {f"{key}_{transform.scale}": score.summary[key] for key in ERRORS}
    truth, mean = map(transform.invert, score.estimates[:2])
    summary = (
        score.summary
        | _errors(truth, mean, score.estimates.weight)
        | {"transform": transform.kind}
        | there
    )
    return replace(score, summary=summary)


def is_better(transformed: WithheldScore, plain: WithheldScore, transform: Transform) -> bool:
    """Whether a fill in transformed space does better there, and about as well in units.

    In units the mean absolute error counts: the estimate of a transformed field is a median.

    Parameters
    ----------
    transformed
        Score `in_both_spaces`.
    plain
        Of the same pixels, filled as they are.
    """
    assert plain.estimates is not None
    # The plain fill is brought into transformed space, so that both are compared in the same.
    truth, mean = map(transform.apply, plain.estimates[:2])
    known = np.isfinite(mean)
    rmse = metrics.rmse(mean[known], truth[known], plain.estimates.weight[known])
    there = transformed.summary[f"rmse_{transform.scale}"]
    about_as_well = transformed.summary["mae"] < (1 + GAIN) * plain.summary["mae"]
    return bool(there < (1 - GAIN) * rmse and about_as_well)


def _mean_logarithm(sigma: NDArray, weight: NDArray) -> float | None:
    """Mean logarithm of the errors that are stated; None where there is none."""
    stated = np.isfinite(sigma) & (sigma > 0)
    if not stated.any():
        return None
    return float(np.average(np.log(sigma[stated]), weights=weight[stated]))


def _errors(truth: NDArray, mean: NDArray, weight: NDArray) -> dict[str, float]:
    """Score estimates where there are any; ``std`` is that of all of the truth."""
    known = np.isfinite(mean)
    filled, wanted, part = mean[known], truth[known], weight[known]
    return {
        "mae": metrics.mae(filled, wanted, part),
        "rmse": metrics.rmse(filled, wanted, part),
        "bias": metrics.bias(filled, wanted, part),
        "correlation": metrics.correlation(filled, wanted, part),
        # Of all that was withheld, so that methods which fill different parts are measured by one
        # scale.
        "std": metrics.rmse(truth, np.average(truth, weights=weight), weight),
    }


def _score_variable(estimates: WithheldEstimates, settings: dict[str, Any]) -> WithheldScore:
    truth, mean, sigma, *_, weight, _ = estimates
    known = np.isfinite(mean)
    summary: dict[str, Any] = {
        **settings,
        "n": truth.size,
        "filled_fraction": float(np.average(known, weights=weight)),
        **_errors(truth, mean, weight),
    }
    stated = known & np.isfinite(sigma)
    if not stated.any():
        return WithheldScore(summary, StratifiedScale.single(1.0), estimates)
    found = estimates.at(stated)
    alike = weights(found.odds)
    z = standardised(found.mean - found.truth, found.sigma)
    half = halves(found.image)
    if half.any() and not half.all():
        cross_fitted, degrees = np.empty(z.size), np.empty(z.size)
        # The scale of one half is tried on the other: coverage on the pixels of the fit would
        # always look right.
        for here in (half, ~half):
            fitted = _scale(z, found, ~here)
            factor = fitted.at(found.distance[here], found.lag[here])
            # Scaled errors are stated to be of standard deviation 1.
            cross_fitted[here] = z[here] / factor
            degrees[here] = fitted.distribution.degrees_of_freedom
        ones = np.ones_like(cross_fitted)
        summary["coverage"] = {}
        for level in LEVELS:
            held = metrics.coverage(cross_fitted, ones, level, alike, degrees)
            summary["coverage"][str(level)] = held
    # What is applied to the fill comes from all pixels: the halves only tell how well that works.
    scale = _scale(z, found, np.ones(z.size, bool))
    summary["sigma_scale"] = error_scale(z, alike, scale.distribution)
    if not scale.is_single:
        summary["scale"] = scale.to_dict()
    summary |= scale.distribution.attrs()
    return WithheldScore(summary, scale, estimates)


def _scale(z: NDArray, estimates: WithheldEstimates, rows: NDArray) -> StratifiedScale:
    """Fit the scale to some of the pixels; `z` are their standardised errors."""
    some = estimates.at(rows)
    return StratifiedScale.fit(z[rows], some.image, some.distance, some.lag, weights(some.odds))
