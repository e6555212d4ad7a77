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
from sstfill.fields.gaps import derived_seed
from sstfill.fields.patches import Box, Shape
from sstfill.fields.reading.dates import days_since_first
from sstfill.methods.base import STEPS, Archive, Window
from sstfill.validation.blend import Blend
from sstfill.validation.distances import Distances, distance_to_data
from sstfill.validation.withheld_estimates import WithheldEstimates
from sstfill.validation.withholding.likeness import Likeness, Surroundings
from sstfill.validation.withholding.resemblance import Resemblance
from sstfill.validation.withholding.runs import withheld_runs

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
    distance, lag
        How far they are from what is left, see `window_distances`; ``(n,)``.
    weight
        How much each of them counts: with these weights the withheld pixels of all windows resemble
        the gaps more. ``(n,)``.
    odds
        Of each of them to be a gap, by all that is known of its surroundings; ``(n,)``.
    """

    window: Window
    hidden: NDArray[np.bool_]
    truth: NDArray[np.floating]
    distance: NDArray[np.floating]
    lag: NDArray[np.floating]
    weight: NDArray[np.floating]
    odds: NDArray[np.floating]


class WindowGaps(NamedTuple):
    """Some of the gaps inside a window of which nothing is withheld.

    Attributes
    ----------
    window
        With all its observations.
    gaps
        True at them, shape of `Window.inside`.
    odds
        See `WithheldWindow.odds`; ``(n,)``.
    """

    window: Window
    gaps: NDArray[np.bool_]
    odds: NDArray[np.floating]


class WithheldWindows(NamedTuple):
    """Windows of an archive of which some observations are withheld.

    Attributes
    ----------
    windows
        Those with withheld observations inside.
    masks
        Where each of them lies in the archive, and what is hidden there.
    gaps
        Gaps of the same windows.
    resemblance
        How far the withheld pixels resemble the gaps without weights, see
        `sstfill.validation.withholding.resemblance.Resemblance.summary`.
    """

    windows: list[WithheldWindow]
    masks: list[Mask]
    gaps: list[WindowGaps]
    resemblance: dict[str, Any]


class ArchiveHoldout(NamedTuple):
    """An archive of which some observations are withheld.

    Attributes
    ----------
    archive
        Without them: methods must not be fitted to the pixels that they are scored on.
    windows
        Where they were.
    gaps
        Gaps of the same windows of the whole archive.
    little
        So little is withheld that a method fitted to the rest need not be refitted to the whole.
    resemblance
        See `WithheldWindows`.
    """

    archive: Archive
    windows: list[WithheldWindow]
    gaps: list[WindowGaps]
    little: bool
    resemblance: dict[str, Any]


def withhold(
    archive: Archive, *, fraction: float, seed: int, little: float = LITTLE
) -> ArchiveHoldout:
    """Withhold observations in the validation windows of an archive, as their gaps lie.

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
        If there are no gaps whose like could be hidden in any of the windows.
    """
    if not archive.trials:
        raise InputError("the archive has no windows to try methods on; it is empty")
    seeds = [derived_seed(seed, number) for number in range(len(archive.trials))]
    found = withhold_in_windows(archive.trials, fraction, seeds)
    # Estimated from the sample: counting would read the whole archive once more.
    observed = np.isfinite(archive.sample).mean() * float(archive.sea.sum()) * len(archive.sample)
    withheld = sum(int(hidden.sum()) for _, hidden in found.masks)
    return ArchiveHoldout(
        _without(archive, found.masks),
        found.windows,
        found.gaps,
        withheld < little * observed,
        found.resemblance,
    )


def withhold_in_windows(
    windows: Sequence[Window], fraction: float, seeds: Sequence[int]
) -> WithheldWindows:
    """Withhold observations in windows, each with a seed of its own.

    Raises
    ------
    InputError
        If there are no gaps whose like could be hidden in any of the windows.
    """
    found, masks, unseen = [], [], []
    around_hidden, around_gaps = [], []
    reason = InputError("there are no windows to try methods on")
    most = SCORED // max(len(windows), 1)
    for window, seed in zip(windows, seeds, strict=True):
        try:
            hidden = withheld_runs(window.obs, window.sea, fraction=fraction, seed=seed).values
        except InputError as why:
            # Another window may do; if none does, the last reason is told.
            reason = why
            continue
        # Only the inside of a window is estimated; around it, pixels are hidden all the same.
        scored = hidden[window.patch.within]
        rng = np.random.default_rng(seed)
        scored = _random_part(scored, most, rng)
        if not scored.any():
            continue
        left = window.without(hidden)
        around = _surroundings(left, scored)
        truth = window.inside.values[scored]
        ones = np.ones(truth.size)
        found.append(WithheldWindow(left, scored, truth, around.distance, around.lag, ones, ones))
        around_hidden.append(around)
        masks.append((window.patch.seen, hidden))
        sea = window.sea[window.patch.within[1:]].values
        # The gaps before anything was withheld: these are what is to be resembled.
        gap = _random_part(window.inside.isnull().values & sea, most, rng)
        unseen.append(WindowGaps(window, gap, np.ones(np.count_nonzero(gap))))
        around_gaps.append(_surroundings(window, gap))
    if not found:
        raise reason
    gaps = Surroundings(*map(np.concatenate, zip(*around_gaps, strict=True)))
    if not gaps.dates.size:  # all gaps lie around the windows
        return WithheldWindows(found, masks, [], {})
    held = Surroundings(*map(np.concatenate, zip(*around_hidden, strict=True)))
    alike = Resemblance.of((gaps.distance, gaps.lag), (held.distance, held.lag))
    likeness = Likeness.fit(held, gaps)
    weight, odds = alike.weights(held.distance, held.lag), likeness.odds(held)
    ends = np.cumsum([one.truth.size for one in found])[:-1]
    weighted = []
    for one, part, own in zip(found, np.split(weight, ends), np.split(odds, ends), strict=True):
        weighted.append(one._replace(weight=part, odds=own))
    ends = np.cumsum([one.odds.size for one in unseen])[:-1]
    parts = np.split(likeness.odds(gaps), ends)
    known = [one._replace(odds=own) for one, own in zip(unseen, parts, strict=True)]
    return WithheldWindows(weighted, masks, known, alike.summary())


def _surroundings(window: Window, at: NDArray[np.bool_]) -> Surroundings:
    """Look around some of the pixels inside a window, no farther than `NEAR`."""
    distance, lag = window_distances(window)
    shown = window.narrowed(NEAR)
    times, rows, columns = np.nonzero(at)
    t, y, x = shown.patch.within
    pixels = times + t.start, np.zeros_like(times), rows + y.start, columns + x.start
    left = shown.obs.notnull().values[:, np.newaxis]
    far = distance.values[at].astype(np.float64)
    late = lag.values[at].astype(np.float64)
    return Surroundings.of(left, days_since_first(shown.obs), pixels, far, late)


def _random_part(mask: NDArray[np.bool_], most: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Keep each pixel of a mask with a chance that leaves about `most`, if there are more."""
    count = np.count_nonzero(mask)
    if count <= most:
        return mask
    drawn: NDArray[np.bool_] = mask & (rng.random(mask.shape) < most / count)
    return drawn


def _without(archive: Archive, masks: list[Mask]) -> Archive:
    """Hide parts of an archive: in its field, its sample and its windows."""
    data = archive.obs.data.map_blocks(
        # meta: without it Dask would call the function with an empty block, which has no place in
        # the archive.
        _hidden,
        masks=masks,
        dtype=archive.obs.dtype,
        meta=archive.obs.data._meta,
    )
    sample = archive.sample.copy()
    rows, columns = archive.points
    for (times, y, x), hidden in masks:
        here = np.flatnonzero(
            (rows >= y.start) & (rows < y.stop) & (columns >= x.start) & (columns < x.stop)
        )
        # Indexed by a list, so it is a copy, which has to be put back.
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
    # Dask may hand the same block to other tasks.
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
    for window, hidden, truth, distance, lag, weight, odds in windows:
        # In the order in which boolean indexing picks the values.
        image = np.nonzero(hidden)[0]
        for name, found in estimate(window).items():
            mean = found["mean"].transpose(*window.obs.dims).values[hidden]
            if "error" in found:
                sigma = found["error"].transpose(*window.obs.dims).values[hidden]
            else:
                # A method without error takes part all the same; its scores of the error are NaN.
                sigma = np.full(mean.shape, np.nan)
            part = WithheldEstimates(
                truth.astype(np.float64),
                mean.astype(np.float64),
                sigma.astype(np.float64),
                image + images,
                np.zeros_like(image),
                distance,
                lag,
                weight,
                odds,
            )
            parts.setdefault(name, []).append(part)
        images += len(hidden)
    joined = {}
    for name, some in parts.items():
        joined[name] = WithheldEstimates(*map(np.concatenate, zip(*some, strict=True)))
    return joined


def window_distances(window: Window, near: Shape = NEAR) -> Distances:
    """Distance to data of the pixels inside a window, from no more than `near` around them."""
    shown = window.narrowed(near)
    distance, lag = distance_to_data(shown.obs)
    return distance[shown.patch.within], lag[shown.patch.within]


def blend_window(blend: Blend | None, estimates: Estimates, window: Window) -> xr.Dataset:
    """Blend estimates of the inside of a window; with None take the first as it is."""
    # One method alone was chosen.
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
