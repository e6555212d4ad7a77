# SPDX-License-Identifier: Apache-2.0
"""Clouds of an archive too large for memory: many masks are drawn from a piece of it, before
another is read.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import repeat

import numpy as np
import xarray as xr

from sstfill.occlusion import ObservedClouds, Occlusion
from sstfill.training.data.chunk_buffer import SLAB, Reading, Rng, Shape, mixed, without_end
from sstfill.training.data.prefetch import ahead
from sstfill.training.data.windows import LEAST_SEA, TRIES, large

READ_AS = 4
"""Bytes of a pixel when a lazy mask is worked out, whose archive is of float32."""


def loaded(clouds: Occlusion) -> Occlusion:
    """Return an operator with its clouds in memory, if they are not too large for that."""
    given = clouds.observed if isinstance(clouds, ObservedClouds) else None
    if not isinstance(given, xr.DataArray) or given.chunks is None or large(given):
        return clouds
    return replace(clouds, observed=given.compute())  # type: ignore[type-var]


def operators(clouds: Occlusion, shape: Shape, rng: Rng) -> Generator[Occlusion, None, None]:
    """Give what to draw each mask with, without end: the operator itself, unless its clouds are
    lazy and large.

    Then each is an operator on a slab of its archive, as windows are from slabs
    (`sstfill.training.data.chunk_buffer.shuffled`). Those without sea, without a cloud or without
    anything else are passed over.
    """
    if not isinstance(clouds, ObservedClouds) or not _large(clouds):
        yield from repeat(clouds)
        return
    at_random, turns = rng.spawn(2)
    with closing(ahead(_slabs(clouds, shape, at_random), 1)) as slabs:
        yield from mixed(slabs, turns)


def _large(clouds: ObservedClouds) -> bool:
    return isinstance(clouds.observed, xr.DataArray) and large(clouds.observed)


def _slabs(clouds: ObservedClouds, shape: Shape, rng: Rng) -> Iterator[Iterator[Occlusion]]:
    """Read one slab after the other, and repeat the operator on each as often as it is to be drawn
    from.
    """
    (whole,) = clouds.split(1, gap=0)  # time first, its sea an array
    series, sea = xr.DataArray(whole.observed), np.asarray(whole.sea)
    reading = _reading(series, shape, clouds.stride)
    boxes = reading.boxes()
    barren = 0
    for k in without_end(len(boxes), rng):
        if barren == min(len(boxes), TRIES):
            break
        t, y, x = boxes[k].around(reading.shape)
        wet = sea[y, x]
        seen = np.asarray(series[t, y, x])[:, wet] if wet.mean() >= LEAST_SEA else np.zeros(0, bool)
        barren = barren + 1 if seen.all() or not seen.any() else 0
        if not barren:
            observed = np.zeros((t.stop - t.start, *wet.shape), bool)
            observed[:, wet] = seen
            yield repeat(replace(clouds, observed=observed, sea=wet), reading.uses())
    yield repeat(clouds)  # whose draw tells what is wrong with it


def _reading(series: xr.DataArray, shape: Shape, stride: int) -> Reading:
    frames, height, width = shape
    images, rows, columns = series.shape
    covered = min(stride * max(frames - 1, 1) + 1, images), min(height, rows), min(width, columns)
    spans = tuple((0, n - m + 1) for n, m in zip(series.shape, covered, strict=True))
    return Reading(series.chunks or (), spans, covered, SLAB // READ_AS)
