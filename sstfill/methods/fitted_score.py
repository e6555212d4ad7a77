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
from sstfill.methods.common.fitted_blend import WithheldWindow, predict_withheld, withhold
from sstfill.methods.registry import fit
from sstfill.validation.withheld import SHARE, WithheldScore, score_estimates

log = logging.getLogger(__name__)


def fitted_and_scored(
    method: Method, archive: Archive, folder: Path
) -> tuple[FittedMethod, WithheldScore | None]:
    """Fit a method to an archive, and score it, fit included, on clouds withheld from it.

    The method is fitted without the withheld pixels, scored, and fitted again to the whole unless
    so little was withheld that this would change nothing. The score is None where nothing could be
    withheld.
    """
    try:
        held = withhold(archive, share=SHARE, seed=gaps.derived_seed(archive.seed, 7))
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return fit(method, archive, folder), None
    tried = fit(method, held.archive, folder)
    score = _score(tried, held.windows, str(archive.obs.name), SHARE, archive.seed)
    if held.little:
        return tried, score
    shutil.rmtree(folder)
    return fit(method, archive, folder), score


def scored(
    fitted: FittedMethod, windows: Sequence[Window], seed: int, name: str, share: float = SHARE
) -> WithheldScore | None:
    """Score a fitted method on clouds withheld from each window; None where nothing could be
    withheld.
    """
    seeds = np.random.SeedSequence([seed, 7]).generate_state(max(1, len(windows)))
    held = []
    for window, own in zip(windows, seeds, strict=False):
        try:
            clouds = gaps.transplant_clouds(window.obs, window.sea, share=share, seed=int(own))
        except InputError:
            continue
        inside = clouds.values[window.patch.within]
        if inside.any():
            truth = window.inside.values[inside]
            held.append(WithheldWindow(window.without(clouds.values), inside, truth))
    if not held:
        return None
    return _score(fitted, held, name, share, seed)


def _score(
    fitted: FittedMethod, held: list[WithheldWindow], name: str, share: float, seed: int
) -> WithheldScore:
    found = predict_withheld(held, lambda window: {name: fitted.estimate(window)})[name]
    about = {"share": share, "seed": seed, "windows": len(held)}
    return score_estimates(found, [name], about)[name]
