# SPDX-License-Identifier: Apache-2.0
"""Several pinned methods tried on withheld clouds in windows of an archive, and mixed by what these
say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.fields.patches import Box, Shape
from sstfill.methods.common.fitted_windowed import narrowed
from sstfill.methods.fitted import STEPS, Archive, Window
from sstfill.validation.blend import combined, rescaled
from sstfill.validation.blend_weights import Weights
from sstfill.validation.calibration import StratifiedScale, standardised
from sstfill.validation.cross_validation import BlendRecipe, CrossValidation
from sstfill.validation.distances import distance_to_data
from sstfill.validation.withheld_estimates import WithheldEstimates

log = logging.getLogger(__name__)
NEAR: Shape = (STEPS, 40, 40)
"""How far around what is asked for the observations count to which a pixel is near."""
JUDGED = 1_000_000
"""Withheld pixels on which methods are judged, at most: of more, a random part in each window."""
LITTLE = 0.01
"""Share of an archive's observations that need not be missed."""
Mask = tuple[Box, NDArray[np.bool_]]
Estimates = Mapping[str, xr.Dataset]


class Holdout(NamedTuple):
    """A window some of whose observations are hidden; which of the part asked for, and what is true
    there ``(n,)``.
    """

    window: Window
    hidden: NDArray[np.bool_]
    truth: NDArray[np.floating]


class Held(NamedTuple):
    """An archive without what is hidden, for methods must not be pinned to what they are judged on;
    and the trials.

    `little` tells that so little is hidden that what was pinned without it need not be pinned anew.
    """

    archive: Archive
    trials: list[Holdout]
    little: bool


@dataclass(frozen=True)
class Blend:
    """What withheld clouds say of several estimates: which to mix, how to scale their errors, and
    why.

    Attributes
    ----------
    names
        Those that are mixed.
    recipe
        Of these.
    strata
        What the error is scaled by in the end; None leaves it.
    why
        The reason, in words.
    """

    names: tuple[str, ...]
    recipe: BlendRecipe
    strata: StratifiedScale | None
    why: str

    @classmethod
    def of(cls, trials: CrossValidation, *, blending: bool, strata: bool) -> Blend:
        """Decide by what several estimates said at withheld pixels."""
        recipe, fair, why = trials.verdict(blending)
        z = standardised(fair.mean - fair.truth, fair.sigma)
        scale = StratifiedScale.fit(z, fair.image, trials.distance, trials.lag) if strata else None
        used = recipe.weights.used
        log.info("%s", why)
        lean = BlendRecipe(recipe.weights.among(used), recipe.scale[:, used])
        return cls(tuple(trials.names[k] for k in used), lean, scale, why)

    @property
    def reach(self) -> Shape:
        """How far observations matter to the mixture itself."""
        return (0, 0, 0) if len(self.names) == 1 and self.strata is None else NEAR

    def mixed(self, estimates: Estimates, window: Window) -> xr.Dataset:
        """Mix estimates, by name, of what a window asks for."""
        asked = window.inside
        near = None if self.reach == (0, 0, 0) else _nearness(window)
        found = combined(self.recipe, [estimates[name] for name in self.names], asked, near)
        found = found if self.strata is None else rescaled(found, self.strata, asked, near)
        return found.drop_attrs(deep=False)

    def told(self) -> dict[str, Any]:
        """In plain values."""
        weights, strata = self.recipe.weights, self.strata
        return {
            "names": list(self.names),
            "why": self.why,
            "scale": self.recipe.scale.tolist(),
            "weights": [a.tolist() for a in (weights.distance, weights.lag, weights.table)],
            "strata": None
            if strata is None
            else [a.tolist() for a in (strata.distance, strata.lag, strata.logarithm)],
        }

    @classmethod
    def heard(cls, told: Mapping[str, Any]) -> Blend:
        """Make it from plain values."""
        recipe = BlendRecipe(Weights(*map(np.array, told["weights"])), np.array(told["scale"]))
        strata = None if told["strata"] is None else StratifiedScale(*map(np.array, told["strata"]))
        return cls(tuple(told["names"]), recipe, strata, told["why"])


def withhold(archive: Archive, *, share: float, seed: int) -> Held:
    """Hide clouds of other dates in the windows of an archive that are there to judge by.

    Raises
    ------
    InputError
        If there are none to hide in any of them.
    """
    found, masks, reason = (
        [],
        [],
        InputError("the archive has no windows to try methods on; it is empty"),
    )
    most = JUDGED // max(len(archive.trials), 1)
    for number, window in enumerate(archive.trials):
        own = gaps.derived_seed(seed, number)
        try:
            hidden = gaps.transplant_clouds(window.obs, window.sea, share=share, seed=own).values
        except InputError as why:
            reason = why
            continue
        judged = hidden[window.patch.within]
        if judged.sum() > most:
            judged = judged & (
                np.random.default_rng(own).random(judged.shape) < most / judged.sum()
            )
        if judged.any():
            found.append(Holdout(window.without(hidden), judged, window.inside.values[judged]))
            masks.append((window.patch.seen, hidden))
    if not found:
        raise reason
    observed = np.isfinite(archive.sample).mean() * float(archive.sea.sum()) * len(archive.sample)
    little = sum(int(hidden.sum()) for _, hidden in masks) < LITTLE * observed
    return Held(_without(archive, masks), found, little)


def _without(archive: Archive, masks: list[Mask]) -> Archive:
    """What is left of an archive of which parts are hidden."""
    data = archive.obs.data.map_blocks(
        _hidden, masks=masks, dtype=archive.obs.dtype, meta=archive.obs.data._meta
    )
    sample = archive.sample.copy()
    rows, columns = archive.points
    for (times, y, x), hidden in masks:
        here = np.flatnonzero(
            (rows >= y.start) & (rows < y.stop) & (columns >= x.start) & (columns < x.stop)
        )
        part = sample[times, here]
        part[hidden[:, rows[here] - y.start, columns[here] - x.start]] = np.nan
        sample[times, here] = part
    trials = [
        next(
            (window.without(hidden) for seen, hidden in masks if seen == window.patch.seen), window
        )
        for window in archive.trials
    ]
    return replace(archive, obs=archive.obs.copy(data=data), sample=sample, trials=trials)


def _hidden(block: NDArray, *, masks: list[Mask], block_info: Any = None) -> NDArray:
    """Hide what lies in one block."""
    origin = [start for start, _ in block_info[0]["array-location"]]
    out = block.copy()
    for seen, hidden in masks:
        ends = [
            (max(s.start, o), min(s.stop, o + n))
            for s, o, n in zip(seen, origin, block.shape, strict=True)
        ]
        if all(a < b for a, b in ends):
            mine = tuple(slice(a - o, b - o) for (a, b), o in zip(ends, origin, strict=True))
            its = tuple(
                slice(a - s.start, b - s.start) for (a, b), s in zip(ends, seen, strict=True)
            )
            out[mine][hidden[its]] = np.nan
    return out


def ask(
    withheld: Sequence[Holdout], estimate: Callable[[Window], Estimates]
) -> dict[str, WithheldEstimates]:
    """What each estimate says of the hidden pixels of all windows; an image of each window is one
    of its own.
    """
    parts: dict[str, list[WithheldEstimates]] = {}
    images = 0
    for window, hidden, truth in withheld:
        image = np.nonzero(hidden)[0]
        for name, found in estimate(window).items():
            mean = found["mean"].transpose(*window.obs.dims).values[hidden].astype(np.float64)
            sigma = _error(found, window)[hidden].astype(np.float64)
            answers = WithheldEstimates(
                truth.astype(np.float64), mean, sigma, image + images, np.zeros_like(image)
            )
            parts.setdefault(name, []).append(answers)
        images += len(hidden)
    return {
        name: WithheldEstimates(*map(np.concatenate, zip(*some, strict=True)))
        for name, some in parts.items()
    }


def nearness(withheld: Sequence[Holdout]) -> tuple[NDArray, NDArray]:
    """How far the hidden pixels are from data: km in the image, and days; ``(n,)`` each."""
    near = [[field.values[hidden] for field in _nearness(window)] for window, hidden, _ in withheld]
    distance, lag = (
        np.concatenate(column).astype(np.float64) for column in zip(*near, strict=True)
    )
    return distance, lag


def _nearness(window: Window) -> tuple[xr.DataArray, xr.DataArray]:
    shown = narrowed(window, NEAR)
    distance, lag = (field[shown.patch.within] for field in distance_to_data(shown.obs))
    return distance, lag


def _error(found: xr.Dataset, window: Window) -> NDArray:
    if "error" not in found:
        return np.full(found["mean"].shape, np.nan, np.float32)
    values: NDArray = found["error"].transpose(*window.obs.dims).values
    return values
