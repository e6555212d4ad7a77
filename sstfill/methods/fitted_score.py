# SPDX-License-Identifier: Apache-2.0
"""Judge a pinned method on withheld clouds in windows of an archive."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.methods.base import Method
from sstfill.methods.common.fitted_blend import WithheldWindow, predict_windows, withhold
from sstfill.methods.fitted import Archive, FittedMethod, Window
from sstfill.methods.registry import fit
from sstfill.validation.withheld import FRACTION, WithheldScore, score_estimates

log = logging.getLogger(__name__)


def fitted_and_scored(
    method: Method, archive: Archive, folder: Path
) -> tuple[FittedMethod, WithheldScore | None]:
    """Pin a method to an archive, and say how good it is where clouds are hidden from it, fit
    included.

    Where so much had to be hidden that the method would miss it, it is pinned anew to the whole.
    """
    try:
        held = withhold(
            archive,
            fraction=FRACTION,
            seed=int(np.random.SeedSequence([archive.seed, 7]).generate_state(1)[0]),
        )
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return fit(method, archive, folder), None
    tried = fit(method, held.archive, folder)
    name = str(archive.obs.name)
    found = predict_windows(held.windows, lambda window: {name: tried.estimate(window)})[name]
    told = {"share": FRACTION, "seed": archive.seed, "windows": len(held.windows)}
    score = score_estimates(found, [name], told)[name]
    if held.little:
        return tried, score
    shutil.rmtree(folder)
    return fit(method, archive, folder), score


def scored(
    pinned: FittedMethod,
    windows: Sequence[Window],
    seed: int,
    name: str,
    fraction: float = FRACTION,
) -> WithheldScore | None:
    """Hide clouds in each window, ask, compare; None where nothing could be hidden."""
    seeds = np.random.SeedSequence([seed, 7]).generate_state(max(1, len(windows)))
    held = []
    for window, own in zip(windows, seeds, strict=False):
        try:
            hidden = gaps.transplant_clouds(
                window.obs, window.sea, share=fraction, seed=int(own)
            ).values
        except InputError:
            continue
        judged = hidden[window.patch.within]
        if judged.any():
            held.append(
                WithheldWindow(window.without(hidden), judged, window.inside.values[judged])
            )
    if not held:
        return None
    found = predict_windows(held, lambda window: {name: pinned.estimate(window)})[name]
    return score_estimates(found, [name], {"share": fraction, "seed": seed, "windows": len(held)})[
        name
    ]
