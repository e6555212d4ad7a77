# SPDX-License-Identifier: Apache-2.0
"""Hide clouds, fill them, compare: how a method is judged on the very series it is to fill."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields import gaps
from sstfill.validation import metrics
from sstfill.validation.withheld_estimates import WithheldEstimates, gather

if TYPE_CHECKING:
    from sstfill.methods.base import Method
from sstfill.errors import InputError
from sstfill.validation.calibration import LEVELS, error_scale, standardised

log = logging.getLogger(__name__)
SHARE = 0.1
USUAL = 4.0
"""Beyond this factor something is amiss with the stated error, and the log says so."""


@dataclass(frozen=True)
class WithheldScore:
    """What a method made of the withheld clouds of one variable.

    Attributes
    ----------
    summary
        Scores on the withheld pixels, as JSON can hold them; ``std`` is the standard deviation of
        what was withheld.
    sigma_scale
        Factor that makes the method's stated error hold on the withheld pixels.
    """

    summary: dict[str, Any]
    sigma_scale: float

    @property
    def rmse(self) -> float:
        """Root mean square error on the withheld pixels; NaN if the method filled none of them."""
        return float(self.summary["rmse"])

    @property
    def loss(self) -> float:
        """RMSE over the standard deviation of what was withheld; a pixel not filled counts as
        filled with the mean.
        """
        share, std = float(self.summary["filled_share"]), float(self.summary["std"])
        return float(np.sqrt(share * self.rmse**2 + (1 - share) * std**2)) / (std or 1.0)


def withheld_score(
    method: Method, obs: xr.DataArray, sea: xr.DataArray, seed: int, share: float = SHARE
) -> dict[str, WithheldScore]:
    """Fill clouds transplanted from other dates and score each variable; nothing (but a warning)
    where there are none.

    The error is scaled so that it holds as well as can be at all of `LEVELS`, see `error_scale`.
    The coverage reported is an honest one: scale from every other image, tested on those between.
    """
    try:
        hidden = hide(obs, sea, seed, share)
        found = predict_withheld(method, obs, sea, hidden)
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return {}
    return score_estimates(found, variables(obs), {"share": share, "seed": seed})


def hide(obs: xr.DataArray, sea: xr.DataArray, seed: int, share: float) -> xr.DataArray:
    """Where to hide, bool with the dims of `obs`; of several variables each where the same other
    date lacks it.

    Raises `InputError` if there are no clouds to transplant.
    """
    seed = gaps.derived_seed(seed, 2)  # clouds of their own, not those of a score
    if "variable" not in obs.dims:
        return gaps.transplant_clouds(obs, sea, share=share, seed=seed)
    return gaps.transplant_together(obs, sea, share=share, seed=seed)


def variables(obs: xr.DataArray) -> list[str]:
    """Names of the variables along ``variable``, or the one name of a field."""
    return [str(n) for n in obs["variable"].values] if "variable" in obs.dims else [str(obs.name)]


def predict_withheld(
    method: Method,
    obs: xr.DataArray,
    sea: xr.DataArray,
    hidden: xr.DataArray,
    judged: xr.DataArray | None = None,
) -> WithheldEstimates:
    """Fill `obs` without what is hidden, and keep what the method says there (NaN where it does
    not).

    With `judged`, at those of the hidden pixels only.
    """
    estimate = method.reconstruct(obs.where(~hidden), sea)
    sigma = estimate["error"] if "error" in estimate else xr.full_like(obs, np.nan)
    return WithheldEstimates(
        *gather(hidden if judged is None else judged, obs, estimate["mean"], sigma)
    )


def score_estimates(
    answers: WithheldEstimates, names: list[str], how: dict[str, Any]
) -> dict[str, WithheldScore]:
    """Score each variable of which something was hidden; `how` goes into the summary."""
    *columns, layer = answers
    at = {name: layer == i for i, name in enumerate(names)}
    return {
        name: _scored(how, *(c[here] for c in columns)) for name, here in at.items() if here.any()
    }


def _scored(
    how: dict[str, Any], truth: NDArray, mean: NDArray, sigma: NDArray, image: NDArray
) -> WithheldScore:
    known = np.isfinite(mean)
    filled, wanted = mean[known], truth[known]
    summary: dict[str, Any] = {
        **how,
        "n": truth.size,
        "filled_share": float(known.mean()),
        "mae": metrics.mae(filled, wanted),
        "rmse": metrics.rmse(filled, wanted),
        "bias": metrics.bias(filled, wanted),
        "correlation": metrics.correlation(filled, wanted),
        "std": float(truth.std()),
    }
    stated = known & np.isfinite(sigma)
    if not stated.any():
        return WithheldScore(summary, 1.0)
    z = standardised(np.abs(mean - truth)[stated], sigma[stated])
    even = np.unique(image[stated], return_inverse=True)[1] % 2 == 0
    if not even.all():
        fair = np.where(even, z / error_scale(z[~even]), z / error_scale(z[even]))
        summary["coverage"] = {
            str(p): metrics.coverage(fair, np.ones_like(fair), p) for p in LEVELS
        }
    scale = summary["sigma_scale"] = error_scale(z)
    if not 1 / USUAL < scale < USUAL:
        log.warning(
            "the stated error had to be scaled by %.3g to hold on withheld clouds; do not rely on it",
            scale,
        )
    return WithheldScore(summary, scale)
