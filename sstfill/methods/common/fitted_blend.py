# SPDX-License-Identifier: Apache-2.0
"""Withheld clouds in windows of an archive: fitted methods compared there, and blended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.fields.patches import Box, Shape
from sstfill.methods.base import STEPS, Archive, Window
from sstfill.validation.blend import Blend
from sstfill.validation.distances import Distances, distance_to_data
from sstfill.validation.withheld_estimates import WithheldEstimates

NEAR: Shape = (STEPS, 40, 40)
"""Halo in which the nearest observation to a pixel is looked for."""
SCORED = 1_000_000
"""Withheld pixels on which methods are compared, at most: of more, a random part in each window."""
LITTLE = 0.01
"""If a smaller fraction of an archive's observations is withheld, methods need not be refitted to
the whole archive.
"""
Mask = tuple[Box, NDArray[np.bool_]]
Estimates = Mapping[str, xr.Dataset]


class WithheldWindow(NamedTuple):
    """A window of which some observations are withheld.

    Attributes
    ----------
    window
        Without them.
    hidden
        True where they were, shape of `Window.inside`.
    truth
        Their values, ``(n,)``.
    """

    window: Window
    hidden: NDArray[np.bool_]
    truth: NDArray[np.floating]


class ArchiveHoldout(NamedTuple):
    """An archive of which some observations are withheld.

    Attributes
    ----------
    archive
        Without them: methods must not be fitted to the pixels that they are scored on.
    windows
        Where they were.
    little
        So little is withheld that a method fitted to the rest need not be refitted to the whole.
    """

    archive: Archive
    windows: list[WithheldWindow]
    little: bool


def withhold(
    archive: Archive, *, fraction: float, seed: int, little: float = LITTLE
) -> ArchiveHoldout:
    """Withhold clouds of other dates in the validation windows of an archive.

    Parameters
    ----------
    fraction
        Of the observed pixels of each window.
    seed
        Of the draw.
    little
        See `ArchiveHoldout.little`: the fraction of the archive below which it is True.

    Raises
    ------
    InputError
        If there are no clouds to transplant in any of the windows.
    """
    windows, masks = [], []
    reason = InputError("the archive has no windows to try methods on; it is empty")
    most = SCORED // max(len(archive.trials), 1)
    for number, window in enumerate(archive.trials):
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        try:
            clouds = gaps.transplant_clouds(window.obs, window.sea, fraction=fraction, seed=own)
        except InputError as why:
            reason = why
            continue
        hidden = clouds.values
        # Only the inside of a window is estimated; around it, pixels are hidden all the same.
        scored = hidden[window.patch.within]
        if scored.sum() > most:
            drawn = np.random.default_rng(own).random(scored.shape) < most / scored.sum()
            scored = scored & drawn
        if scored.any():
            truth = window.inside.values[scored]
            windows.append(WithheldWindow(window.without(hidden), scored, truth))
            masks.append((window.patch.seen, hidden))
    if not windows:
        raise reason
    # Estimated from the sample: counting would read the whole archive once more.
    observed = np.isfinite(archive.sample).mean() * float(archive.sea.sum()) * len(archive.sample)
    withheld = sum(int(hidden.sum()) for _, hidden in masks)
    return ArchiveHoldout(_without(archive, masks), windows, withheld < little * observed)


def _without(archive: Archive, masks: list[Mask]) -> Archive:
    """Hide parts of an archive: in its field, its sample and its windows."""
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
    windows = []
    for window in archive.trials:
        for seen, hidden in masks:
            if seen == window.patch.seen:
                window = window.without(hidden)
                break
        windows.append(window)
    return replace(archive, obs=archive.obs.copy(data=data), sample=sample, trials=windows)


def _hidden(block: NDArray, *, masks: list[Mask], block_info: Any = None) -> NDArray:
    """Hide the parts that lie in one block."""
    origin = [start for start, _ in block_info[0]["array-location"]]
    out = block.copy()
    for seen, hidden in masks:
        in_block, in_mask = [], []
        for side, start, length in zip(seen, origin, block.shape, strict=True):
            first, last = max(side.start, start), min(side.stop, start + length)
            in_block.append(slice(first - start, max(first, last) - start))
            in_mask.append(slice(first - side.start, max(first, last) - side.start))
        # Both are empty where mask and block do not meet.
        out[tuple(in_block)][hidden[tuple(in_mask)]] = np.nan
    return out


def predict_windows(
    windows: Sequence[WithheldWindow], estimate: Callable[[Window], Estimates]
) -> dict[str, WithheldEstimates]:
    """Estimate the withheld pixels of all windows; returns the estimates by name.

    Images of different windows count as different images.
    """
    parts: dict[str, list[WithheldEstimates]] = {}
    images = 0
    for window, hidden, truth in windows:
        image = np.nonzero(hidden)[0]
        for name, found in estimate(window).items():
            mean = found["mean"].transpose(*window.obs.dims).values[hidden]
            if "error" in found:
                sigma = found["error"].transpose(*window.obs.dims).values[hidden]
            else:
                sigma = np.full(mean.shape, np.nan)
            part = WithheldEstimates(
                truth.astype(np.float64),
                mean.astype(np.float64),
                sigma.astype(np.float64),
                image + images,
                np.zeros_like(image),
            )
            parts.setdefault(name, []).append(part)
        images += len(hidden)
    joined = {}
    for name, some in parts.items():
        joined[name] = WithheldEstimates(*map(np.concatenate, zip(*some, strict=True)))
    return joined


def withheld_distances(windows: Sequence[WithheldWindow]) -> tuple[NDArray, NDArray]:
    """Distance (km) and lag (days) of the withheld pixels to what is left, ``(n,)`` each."""
    distances, lags = [], []
    for window, hidden, _ in windows:
        distance, lag = window_distances(window)
        distances.append(distance.values[hidden])
        lags.append(lag.values[hidden])
    return (np.concatenate(distances).astype(np.float64), np.concatenate(lags).astype(np.float64))


def window_distances(window: Window) -> Distances:
    """Distance to data of the pixels inside a window, from no more than `NEAR` around them."""
    shown = window.narrowed(NEAR)
    distance, lag = distance_to_data(shown.obs)
    return distance[shown.patch.within], lag[shown.patch.within]


def blend_window(blend: Blend | None, estimates: Estimates, window: Window) -> xr.Dataset:
    """Blend estimates of the inside of a window; with None take the first as it is."""
    if blend is None:
        return next(iter(estimates.values()))
    distances = None
    if blend.depends_on_distance:
        distances = window_distances(window)
    return blend.apply(estimates, window.inside, distances).drop_attrs(deep=False)


def blend_halo(blend: Blend | None) -> Shape:
    """Return the halo of `blend_window` itself, beside that of the methods."""
    if blend is not None and blend.depends_on_distance:
        return NEAR
    return (0, 0, 0)
