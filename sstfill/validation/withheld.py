# SPDX-License-Identifier: Apache-2.0
"""Score a method on the series that it is to fill: hide clouds, fill them, compare."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.fields.transform import Transform
from sstfill.validation import metrics
from sstfill.validation.calibration import LEVELS, error_scale, standardised
from sstfill.validation.withheld_estimates import WithheldEstimates, gather

if TYPE_CHECKING:
    from sstfill.methods.base import Method

log = logging.getLogger(__name__)
FRACTION = 0.1
"""Fraction of the observed pixels that is withheld for a score."""
GAIN = 0.05
"""Fraction by which a transform must lower the RMSE there, and may raise the MAE in units."""
ERRORS = ("mae", "rmse", "bias", "correlation", "std")
"""Entries of a score that differ from one space to another."""
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
    sigma_scale
        Factor that makes the method's stated error hold on the withheld pixels.
    estimates
        What the scores are of.
    """

    summary: dict[str, Any]
    sigma_scale: float
    estimates: WithheldEstimates | None = field(default=None, repr=False, compare=False)

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
    """Withhold clouds transplanted from other dates, and score each variable.

    The error scale fits all of `sstfill.validation.calibration.LEVELS` as well as can be, see
    `error_scale`. The coverage is out of sample: the scale from every other image is tested on the
    images between.

    Returns
    -------
    dict
        By variable. Empty, with a warning, where there are no clouds to transplant, or where the
        method refuses the series without the withheld clouds.
    """
    try:
        hidden = hide(obs, sea, seed, fraction)
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return {}
    try:
        estimates = predict_withheld(method, obs, sea, hidden)
    except InputError as reason:
        # The whole series has more observations, so it may be filled all the same.
        log.warning(
            "%s has no score and its error is not calibrated, because it refused the series "
            "with clouds withheld: %s",
            method.name,
            reason,
        )
        return {}
    return score_estimates(estimates, variables(obs), {"fraction": fraction, "seed": seed})


def hide(obs: xr.DataArray, sea: xr.DataArray, seed: int, fraction: float) -> xr.DataArray:
    """Draw the pixels to withhold, under clouds of other dates.

    Parameters
    ----------
    obs
        Of several variables, each is hidden where the same other date lacks it.
    sea
        True at sea.
    seed
        Of the draw. The clouds differ from those of `sstfill.score` with the same seed, so that a
        method is not tuned on the pixels that it is scored on.
    fraction
        Of the observed pixels to hide.

    Returns
    -------
    DataArray
        True where hidden, dims of `obs`.

    Raises
    ------
    InputError
        If there are no clouds to transplant.
    """
    seed = int(np.random.SeedSequence([seed, 2]).generate_state(1)[0])
    if "variable" in obs.dims:
        return gaps.transplant_together(obs, sea, fraction=fraction, seed=seed)
    return gaps.transplant_clouds(obs, sea, fraction=fraction, seed=seed)


def variables(obs: xr.DataArray) -> list[str]:
    """Names of the variables along ``variable``, or the one name of a field."""
    if "variable" in obs.dims:
        return [str(name) for name in obs["variable"].values]
    return [str(obs.name)]


def predict_withheld(
    method: Method,
    obs: xr.DataArray,
    sea: xr.DataArray,
    hidden: xr.DataArray,
    scored: xr.DataArray | None = None,
) -> WithheldEstimates:
    """Fill `obs` without the hidden pixels, and return the estimates there (NaN where none).

    With `scored`, only those of the hidden pixels are returned.
    """
    estimate = method.reconstruct(obs.where(~hidden), sea)
    sigma = estimate["error"] if "error" in estimate else xr.full_like(obs, np.nan)
    scored = hidden if scored is None else scored
    return WithheldEstimates(*gather(scored, obs, estimate["mean"], sigma))


def score_estimates(
    estimates: WithheldEstimates, names: list[str], settings: dict[str, Any]
) -> dict[str, WithheldScore]:
    """Score each variable of which pixels were withheld; `settings` go into the summary."""
    scores = {}
    for number, name in enumerate(names):
        here = estimates.layer == number
        if here.any():
            of_variable = WithheldEstimates(*(column[here] for column in estimates))
            scores[name] = _score_variable(of_variable, settings)
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
    summary = score.summary | _errors(truth, mean) | {"transform": transform.kind} | there
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
    truth, mean = map(transform.apply, plain.estimates[:2])
    known = np.isfinite(mean)
    rmse = metrics.rmse(mean[known], truth[known])
    there = transformed.summary[f"rmse_{transform.scale}"]
    about_as_well = transformed.summary["mae"] < (1 + GAIN) * plain.summary["mae"]
    return bool(there < (1 - GAIN) * rmse and about_as_well)


def _errors(truth: NDArray, mean: NDArray) -> dict[str, float]:
    """Score estimates where there are any; ``std`` is that of all of the truth."""
    known = np.isfinite(mean)
    filled, wanted = mean[known], truth[known]
    return {
        "mae": metrics.mae(filled, wanted),
        "rmse": metrics.rmse(filled, wanted),
        "bias": metrics.bias(filled, wanted),
        "correlation": metrics.correlation(filled, wanted),
        "std": float(truth.std()),
    }


def _score_variable(estimates: WithheldEstimates, settings: dict[str, Any]) -> WithheldScore:
    truth, mean, sigma, image, _ = estimates
    known = np.isfinite(mean)
    summary: dict[str, Any] = {
        **settings,
        "n": truth.size,
        "filled_fraction": float(known.mean()),
        **_errors(truth, mean),
    }
    stated = known & np.isfinite(sigma)
    if not stated.any():
        return WithheldScore(summary, 1.0, estimates)
    z = standardised(np.abs(mean - truth)[stated], sigma[stated])
    even = np.unique(image[stated], return_inverse=True)[1] % 2 == 0
    if not even.all():
        cross_fitted = np.where(even, z / error_scale(z[~even]), z / error_scale(z[even]))
        ones = np.ones_like(cross_fitted)
        summary["coverage"] = {str(p): metrics.coverage(cross_fitted, ones, p) for p in LEVELS}
    scale = error_scale(z)
    summary["sigma_scale"] = scale
    if not 1 / USUAL < scale < USUAL:
        log.warning(
            "the stated error had to be scaled by %.3g to hold on withheld clouds; do not rely "
            "on it",
            scale,
        )
    return WithheldScore(summary, scale, estimates)
