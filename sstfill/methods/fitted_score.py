# SPDX-License-Identifier: Apache-2.0
"""Score a fitted method on withheld clouds in windows of an archive."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.methods.base import Archive, FittedMethod, Method, Window
from sstfill.methods.common.fitted_blend import (
    WindowGaps,
    WithheldWindow,
    predict_windows,
    withhold,
    withhold_in_windows,
)
from sstfill.methods.registry import fit
from sstfill.validation.withheld import FRACTION, WithheldScore, score_estimates

log = logging.getLogger(__name__)


def fitted_and_scored(
    method: Method, archive: Archive, folder: Path
) -> tuple[FittedMethod, WithheldScore | None]:
    """Fit a method to an archive, and score it on withheld clouds that it was not fitted to.

    If the withheld clouds are more than a negligible part of the archive, the method is fitted once
    more to the whole of it; the scale is that of the errors which it states then, see
    `sstfill.validation.withheld.WithheldScore.at_level`. The score is None where there are no
    clouds to withhold.
    """
    # Other clouds than those by which `Auto` and `Gan` choose.
    seed = int(np.random.SeedSequence([archive.seed, 7]).generate_state(1)[0])
    try:
        holdout = withhold(archive, fraction=FRACTION, seed=seed)
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return fit(method, archive, folder), None
    fitted = fit(method, holdout.archive, folder)
    name = str(archive.obs.name)
    score = _score(
        fitted.estimate, holdout.windows, holdout.resemblance, name, FRACTION, archive.seed
    )
    if not holdout.little:
        # The fit without the withheld pixels has served its purpose.
        shutil.rmtree(folder)
        fitted = fit(method, archive, folder)
        score = score.at_level(*_stated(fitted, holdout.gaps))
    score.warn_of_scale()
    return fitted, score


def _stated(fitted: FittedMethod, gaps: Sequence[WindowGaps]) -> tuple[NDArray, NDArray]:
    """Return the errors that a method states at gaps of windows, and the odds of these gaps."""
    sigma: list[NDArray] = [np.empty(0)]
    odds: list[NDArray] = [np.empty(0)]
    for window, at, own in gaps:
        found = fitted.estimate(window)
        if "error" in found:
            sigma.append(found["error"].transpose(*window.obs.dims).values[at])
            odds.append(own)
    return np.concatenate(sigma), np.concatenate(odds)


def scored(
    estimate: Callable[[Window], xr.Dataset],
    windows: Sequence[Window],
    seed: int,
    name: str,
    fraction: float = FRACTION,
) -> WithheldScore | None:
    """Score a fitted method, as it is, in windows; None where no clouds can be withheld."""
    # The same stream as in `fitted_and_scored`, which the method was not tuned on.
    seeds = np.random.SeedSequence([seed, 7]).generate_state(max(1, len(windows)))
    try:
        withheld = withhold_in_windows(
            windows, fraction, [int(own) for own in seeds[: len(windows)]]
        )
    except InputError:
        return None
    return _score(estimate, withheld.windows, withheld.resemblance, name, fraction, seed)


def _score(
    estimate: Callable[[Window], xr.Dataset],
    windows: Sequence[WithheldWindow],
    resemblance: dict[str, Any],
    name: str,
    fraction: float,
    seed: int,
) -> WithheldScore:
    estimates = predict_windows(windows, lambda window: {name: estimate(window)})
    settings = {"fraction": fraction, "seed": seed, "windows": len(windows)}
    return score_estimates(estimates[name], [name], settings, {name: resemblance}, {})[name]
