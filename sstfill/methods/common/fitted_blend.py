# SPDX-License-Identifier: Apache-2.0
"""Validate fitted methods on clouds withheld from windows of an archive, and blend estimates."""

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
from sstfill.methods.base import STEPS, Archive, Window
from sstfill.validation.blend import combined, rescaled
from sstfill.validation.blend_weights import Weights
from sstfill.validation.calibration import StratifiedScale, standardised
from sstfill.validation.cross_validation import BlendRecipe, CrossValidation
from sstfill.validation.distances import distance_to_data
from sstfill.validation.withheld_estimates import WithheldEstimates

log = logging.getLogger(__name__)
NEAR: Shape = (STEPS, 40, 40)
"""Halo within which distances to data are measured."""
SCORED = 1_000_000
"""Most withheld pixels on which methods are scored: of more, a random part in each window."""
LITTLE = 0.01
"""Fraction of an archive's observations that a fit can do without."""
Mask = tuple[Box, NDArray[np.bool_]]
Estimates = Mapping[str, xr.Dataset]


class WithheldWindow(NamedTuple):
    """A window without some of its observations.

    Attributes
    ----------
    window
        What is left.
    hidden
        Which pixels of `Window.inside` are withheld and scored, bool.
    truth
        Their observations, ``(n,)``.
    """

    window: Window
    hidden: NDArray[np.bool_]
    truth: NDArray[np.floating]


class Holdout(NamedTuple):
    """An archive without the withheld pixels, so that methods are not fitted to what they are
    scored on.

    Attributes
    ----------
    archive
        What is left.
    windows
        The windows in which pixels are withheld.
    little
        Whether so little is withheld that a method fitted without it need not be fitted again.
    """

    archive: Archive
    windows: list[WithheldWindow]
    little: bool


@dataclass(frozen=True)
class Blend:
    """How to blend the estimates of several methods, as chosen on withheld clouds.

    Attributes
    ----------
    names
        Methods that are blended.
    recipe
        Their weights and error scales.
    strata
        Scale of the blend's error by distance to data; None leaves the error as it is.
    why
        The reason for the choice, in words.
    """

    names: tuple[str, ...]
    recipe: BlendRecipe
    strata: StratifiedScale | None
    why: str

    @classmethod
    def of(cls, trials: CrossValidation, *, blending: bool, strata: bool) -> Blend:
        """Choose by the estimates of several methods at withheld pixels."""
        recipe, fair, why = trials.verdict(blending)
        z = standardised(fair.mean - fair.truth, fair.sigma)
        scale = StratifiedScale.fit(z, fair.image, trials.distance, trials.lag) if strata else None
        used = recipe.weights.used
        log.info("%s", why)
        names = tuple(trials.names[k] for k in used)
        recipe = BlendRecipe(recipe.weights.among(used), recipe.scale[:, used])
        return cls(names, recipe, scale, why)

    @property
    def halo(self) -> Shape:
        """Margin (time, y, x) within which observations matter to the blend itself."""
        return (0, 0, 0) if len(self.names) == 1 and self.strata is None else NEAR

    def blended(self, estimates: Estimates, window: Window) -> xr.Dataset:
        """Blend estimates, by name, of the inside of a window."""
        inside = window.inside
        near = None if self.halo == (0, 0, 0) else _distances(window)
        found = combined(self.recipe, [estimates[name] for name in self.names], inside, near)
        if self.strata is not None:
            found = rescaled(found, self.strata, inside, near)
        return found.drop_attrs(deep=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        weights, strata = self.recipe.weights, None
        if self.strata is not None:
            strata = [self.strata.distance, self.strata.lag, self.strata.logarithm]
            strata = [array.tolist() for array in strata]
        return {
            "names": list(self.names),
            "why": self.why,
            "scale": self.recipe.scale.tolist(),
            "weights": [weights.distance.tolist(), weights.lag.tolist(), weights.table.tolist()],
            "strata": strata,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Blend:
        """Build it from what `to_dict` returned."""
        weights = Weights(*map(np.array, state["weights"]))
        strata = None
        if state["strata"] is not None:
            strata = StratifiedScale(*map(np.array, state["strata"]))
        recipe = BlendRecipe(weights, np.array(state["scale"]))
        return cls(tuple(state["names"]), recipe, strata, state["why"])


def withhold(archive: Archive, *, share: float, seed: int) -> Holdout:
    """Withhold pixels under clouds of other dates in the trial windows of an archive.

    Parameters
    ----------
    archive
        Its `trials` are the windows.
    share
        Fraction of the observed pixels of a window to hide.
    seed
        Of the clouds.

    Raises
    ------
    InputError
        If nothing can be hidden in any of the windows.
    """
    found, masks = [], []
    reason = InputError("the archive has no windows to try methods on; it is empty")
    most = SCORED // max(len(archive.trials), 1)
    for number, window in enumerate(archive.trials):
        own = gaps.derived_seed(seed, number)
        try:
            hidden = gaps.transplant_clouds(window.obs, window.sea, share=share, seed=own).values
        except InputError as why:
            reason = why
            continue
        scored = hidden[window.patch.within]
        if scored.sum() > most:
            drawn = np.random.default_rng(own).random(scored.shape)
            scored = scored & (drawn < most / scored.sum())
        if scored.any():
            truth = window.inside.values[scored]
            found.append(WithheldWindow(window.without(hidden), scored, truth))
            masks.append((window.patch.seen, hidden))
    if not found:
        raise reason
    observed = np.isfinite(archive.sample).mean() * float(archive.sea.sum()) * len(archive.sample)
    little = sum(int(hidden.sum()) for _, hidden in masks) < LITTLE * observed
    return Holdout(_without(archive, masks), found, little)


def _without(archive: Archive, masks: list[Mask]) -> Archive:
    """Hide parts of an archive: of its field, its sample and its windows."""
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
    trials = []
    for window in archive.trials:
        for seen, hidden in masks:
            if seen == window.patch.seen:
                window = window.without(hidden)
                break
        trials.append(window)
    return replace(archive, obs=archive.obs.copy(data=data), sample=sample, trials=trials)


def _hidden(block: NDArray, *, masks: list[Mask], block_info: Any = None) -> NDArray:
    """Hide the parts of one Dask block that lie under the masks."""
    origin = [start for start, _ in block_info[0]["array-location"]]
    out = block.copy()
    for seen, hidden in masks:
        in_block, in_mask = [], []
        for side, start, n in zip(seen, origin, block.shape, strict=True):
            first, last = max(side.start, start), min(side.stop, start + n)
            in_block.append(slice(first - start, max(first, last) - start))
            in_mask.append(slice(first - side.start, max(first, last) - side.start))
        out[tuple(in_block)][hidden[tuple(in_mask)]] = np.nan
    return out


def predict_withheld(
    withheld: Sequence[WithheldWindow], estimate: Callable[[Window], Estimates]
) -> dict[str, WithheldEstimates]:
    """Collect the estimates of the withheld pixels of all windows, by method.

    Images of different windows get different numbers, also where their dates are the same.
    """
    parts: dict[str, list[WithheldEstimates]] = {}
    images = 0
    for window, hidden, truth in withheld:
        image = np.nonzero(hidden)[0]
        for name, found in estimate(window).items():
            mean = found["mean"].transpose(*window.obs.dims).values[hidden].astype(np.float64)
            sigma = np.full(mean.shape, np.nan)
            if "error" in found:
                sigma[:] = found["error"].transpose(*window.obs.dims).values[hidden]
            part = WithheldEstimates(
                truth.astype(np.float64), mean, sigma, image + images, np.zeros_like(image)
            )
            parts.setdefault(name, []).append(part)
        images += len(hidden)
    joined = {}
    for name, some in parts.items():
        joined[name] = WithheldEstimates(*map(np.concatenate, zip(*some, strict=True)))
    return joined


def distances(withheld: Sequence[WithheldWindow]) -> tuple[NDArray, NDArray]:
    """Distance of the withheld pixels to data: km in the image, and days; ``(n,)`` each."""
    distance, lag = [], []
    for window, hidden, _ in withheld:
        in_space, in_time = _distances(window)
        distance.append(in_space.values[hidden])
        lag.append(in_time.values[hidden])
    return np.concatenate(distance).astype(np.float64), np.concatenate(lag).astype(np.float64)


def _distances(window: Window) -> tuple[xr.DataArray, xr.DataArray]:
    shown = window.narrowed(NEAR)  # the rest must not matter: it depends on the window
    distance, lag = distance_to_data(shown.obs)
    return distance[shown.patch.within], lag[shown.patch.within]
