# SPDX-License-Identifier: Apache-2.0
"""Clouds of an archive too large for memory: many masks are drawn from each segment read."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import repeat

import numpy as np
import xarray as xr

from sstfill.occlusion import ObservedClouds, Occlusion
from sstfill.training.data.chunk_buffer import (
    Rng,
    SegmentPlan,
    Shape,
    endless_permutations,
    interleave,
)
from sstfill.training.data.prefetch import prefetch
from sstfill.training.data.windows import LEAST_SEA, TRIES, USUAL_LIMITS, MemoryLimits

BYTES = 4
"""Bytes read for a pixel of a lazy mask, which is computed from an archive of float32."""


def loaded(clouds: Occlusion, limits: MemoryLimits = USUAL_LIMITS) -> Occlusion:
    """Return an operator with its clouds in memory, if `limits` allow that."""
    given = None
    if isinstance(clouds, ObservedClouds):
        given = clouds.observed
    if not isinstance(given, xr.DataArray) or given.chunks is None or not limits.allow(given):
        return clouds
    return replace(clouds, observed=given.compute())  # type: ignore[type-var]


def cloud_operators(
    clouds: Occlusion, shape: Shape, rng: Rng, limits: MemoryLimits = USUAL_LIMITS
) -> Generator[Occlusion, None, None]:
    """Yield the operator for each mask, without end: itself, if `limits` allow to load its clouds.

    Else each is an operator on a segment of its archive, as windows come from segments
    (`sstfill.training.data.chunk_buffer.shuffled_windows`). Segments without sea, without a cloud
    or without anything else are left out.
    """
    observed = getattr(clouds, "observed", None)
    large = isinstance(observed, xr.DataArray) and not limits.allow(observed)
    if not isinstance(clouds, ObservedClouds) or not large:
        yield from repeat(clouds)
        return
    at_random, turns = rng.spawn(2)
    with closing(prefetch(_segments(clouds, shape, at_random, limits), 1)) as segments:
        yield from interleave(segments, turns)


def _segments(
    clouds: ObservedClouds, shape: Shape, rng: Rng, limits: MemoryLimits
) -> Iterator[Iterator[Occlusion]]:
    """Read segment after segment, and repeat the operator on each as often as it is drawn from."""
    (whole,) = clouds.split(1, gap=0)  # time first, its sea an array
    series, sea = xr.DataArray(whole.observed), np.asarray(whole.sea)
    plan = _plan(series, shape, clouds.stride, limits)
    boxes = plan.boxes()
    useless = 0
    for k in endless_permutations(len(boxes), rng):
        if useless == min(len(boxes), TRIES):
            break
        t, y, x = boxes[k].around(plan.shape)
        at_sea = sea[y, x]
        # Known from the mask in memory, so nothing is read.
        if at_sea.mean() < LEAST_SEA:
            useless += 1
            continue
        seen = np.asarray(series[t, y, x])[:, at_sea]
        # A mask that hides nothing, or all, trains nothing.
        if seen.all() or not seen.any():
            useless += 1
            continue
        useless = 0
        observed = np.zeros((t.stop - t.start, *at_sea.shape), bool)
        observed[:, at_sea] = seen
        yield repeat(replace(clouds, observed=observed, sea=at_sea), plan.windows_per_segment())
    yield repeat(clouds)  # its draw raises the error that names what is wrong with it


def _plan(series: xr.DataArray, shape: Shape, stride: int, limits: MemoryLimits) -> SegmentPlan:
    frames, height, width = shape
    images, rows, columns = series.shape
    # Masks are `stride` images apart, so a window of them spans more of the archive.
    covered = (min(stride * max(frames - 1, 1) + 1, images), min(height, rows), min(width, columns))
    spans = tuple((0, n - m + 1) for n, m in zip(series.shape, covered, strict=True))
    pixels = limits.segment // BYTES
    return SegmentPlan(series.chunks or (), spans, covered, pixels, limits.windows)
