# SPDX-License-Identifier: Apache-2.0
"""Score a fitted method on withheld clouds in windows of an archive."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.methods.base import Archive, FittedMethod, Method, Window
from sstfill.methods.common.fitted_blend import WithheldWindow, predict_windows, withhold
from sstfill.methods.registry import fit
from sstfill.validation.withheld import FRACTION, WithheldScore, score_estimates

log = logging.getLogger(__name__)


def fitted_and_scored(
    method: Method, archive: Archive, folder: Path
) -> tuple[FittedMethod, WithheldScore | None]:
    """Fit a method to an archive, and score it on withheld clouds that it was not fitted to.

    If the withheld clouds are more than a negligible part of the archive, the method is fitted once
    more to the whole of it. The score is None where there are no clouds to withhold.
    """
    # Other clouds than those by which `Auto` and `Gan` choose.
    seed = int(np.random.SeedSequence([archive.seed, 7]).generate_state(1)[0])
    try:
        holdout = withhold(archive, fraction=FRACTION, seed=seed)
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return fit(method, archive, folder), None
    fitted = fit(method, holdout.archive, folder)
    score = _score(fitted, holdout.windows, str(archive.obs.name), FRACTION, archive.seed)
    if holdout.little:
        return fitted, score
    shutil.rmtree(folder)
    return fit(method, archive, folder), score


def scored(
    fitted: FittedMethod,
    windows: Sequence[Window],
    seed: int,
    name: str,
    fraction: float = FRACTION,
) -> WithheldScore | None:
    """Score a fitted method, as it is, in windows; None where no clouds can be withheld."""
    seeds = np.random.SeedSequence([seed, 7]).generate_state(max(1, len(windows)))
    withheld = []
    for window, own in zip(windows, seeds, strict=False):
        try:
            clouds = gaps.transplant_clouds(
                window.obs, window.sea, fraction=fraction, seed=int(own)
            )
        except InputError:
            continue
        hidden = clouds.values
        inside = hidden[window.patch.within]
        if inside.any():
            truth = window.inside.values[inside]
            withheld.append(WithheldWindow(window.without(hidden), inside, truth))
    if not withheld:
        return None
    return _score(fitted, withheld, name, fraction, seed)


def _score(
    fitted: FittedMethod, windows: Sequence[WithheldWindow], name: str, fraction: float, seed: int
) -> WithheldScore:
    estimates = predict_windows(windows, lambda window: {name: fitted.estimate(window)})
    settings = {"fraction": fraction, "seed": seed, "windows": len(windows)}
    return score_estimates(estimates[name], [name], settings)[name]
