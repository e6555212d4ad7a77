# SPDX-License-Identifier: Apache-2.0
"""Judge a pinned method on withheld clouds in windows of an archive."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import gaps
from sstfill.answers import Answers
from sstfill.errors import InputError
from sstfill.hindcast import SHARE, Hindcast, judge
from sstfill.methods import Method
from sstfill.pinned import pin
from sstfill.pinned.base import Archive, Pinned, Window
from sstfill.pinned.mix import ask, withhold

log = logging.getLogger(__name__)


def hide(window: Window, seed: int, share: float) -> NDArray[np.bool_] | None:
    """Observations of a window to hide, under clouds of its other dates; None where there are none to lend."""
    try:
        return gaps.transplant_clouds(window.obs, window.sea, share=share, seed=seed).values
    except InputError:
        return None


def pinned_and_scored(method: Method, archive: Archive, folder: Path) -> tuple[Pinned, Hindcast | None]:
    """Pin a method to an archive, and say how good it is where clouds are hidden from it, fit included.

    Where so much had to be hidden that the method would miss it, it is pinned anew to the whole.
    """
    try:
        held = withhold(archive, share=SHARE, seed=int(np.random.SeedSequence([archive.seed, 7]).generate_state(1)[0]))
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return pin(method, archive, folder), None
    tried = pin(method, held.archive, folder)
    name = str(archive.obs.name)
    found = ask(held.trials, lambda window: {name: tried.estimate(window)})[name]
    told = {"share": SHARE, "seed": archive.seed, "windows": len(held.trials)}
    score = judge(found, [name], told)[name]
    if held.little:
        return tried, score
    shutil.rmtree(folder)
    return pin(method, archive, folder), score


def scored(pinned: Pinned, windows: Sequence[Window], seed: int, name: str, share: float = SHARE) -> Hindcast | None:
    """Hide clouds in each window, ask, compare; None where nothing could be hidden."""
    seeds = np.random.SeedSequence([seed, 7]).generate_state(max(1, len(windows)))
    found = [answers(pinned, w, int(s), share, 10**6 * i) for i, (w, s) in enumerate(zip(windows, seeds, strict=True))]
    kept = [a for a in found if a is not None and a.truth.size]
    if not kept:
        return None
    pooled = Answers(*(np.concatenate(column) for column in zip(*kept, strict=True)))
    return judge(pooled, [name], {"share": share, "seed": seed, "windows": len(kept)})[name]


def answers(pinned: Pinned, window: Window, seed: int, share: float, first: int = 0) -> Answers | None:
    """What a pinned method says at hidden pixels of what a window asks for; images are numbered from `first` on."""
    hidden = hide(window, seed, share)
    if hidden is None:
        return None
    within = window.patch.within
    here = hidden[within] & window.sea.values[within[1:]]
    estimate = pinned.estimate(window.without(hidden)).transpose(*window.obs.dims)
    mean = estimate["mean"].values
    sigma = estimate["error"].values if "error" in estimate else np.full(mean.shape, np.nan, np.float32)
    columns = [field[here].astype(np.float64) for field in (window.inside.values, mean, sigma)]
    image = np.broadcast_to(np.arange(len(here))[:, np.newaxis, np.newaxis], here.shape)[here] + first
    truth, mean, sigma = columns
    return Answers(truth, mean, sigma, image, np.zeros(len(image), np.int64))


def recent(obs: xr.DataArray) -> slice:
    """The last images of an archive, as many as a window judges."""
    from sstfill.pinned.gathering import TRIED

    n = obs.sizes["time"]
    return slice(max(0, n - TRIED[0]), n)
