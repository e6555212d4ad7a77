# SPDX-License-Identifier: Apache-2.0
"""Fraction of a series of liquid water path that each threshold occludes, in one pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from sstfill.checks import check_number
from sstfill.errors import InputError, OptionError
from sstfill.occlusion.lwp import SPIN_UP, LwpSeries, in_grams, ordered
from sstfill.progress import track


def occluded_fractions(
    lwp: LwpSeries,
    thresholds: Sequence[float],
    *,
    start_after: int = SPIN_UP,
    units: str | None = None,
    block_bytes: float = 16e6,
) -> list[float]:
    """Return the fraction of the pixels that each threshold occludes.

    It is `sstfill.occlusion.cloud_fraction` for series larger than memory.

    Parameters
    ----------
    lwp
        LWP ``(time, y, x)``, as `sstfill.occlusion.lwp_series` opens it; read block by block, once.
    thresholds
        In g m-2.
    start_after
        Frames left out at the start of the series (spin-up).
    units
        By default the attribute of `lwp`.
    block_bytes
        Bytes of a block of frames, about.

    Raises
    ------
    OptionError
        No thresholds, one below 0, or units that are not those of LWP.
    InputError
        No frame after `start_after`, or values that are not finite.

    >>> values = [[[20.0, 50.0, 60.0, 90.0]]]
    >>> lwp = xr.DataArray(values, dims=("time", "y", "x"), attrs={"units": "g m-2"})
    >>> occluded_fractions(lwp, [55, 80], start_after=0)
    [0.5, 0.25]
    """
    if not len(thresholds):
        raise OptionError("thresholds=[] names none; give some in g m-2, such as 55 and 80")
    for threshold in thresholds:
        check_number("threshold", threshold, 0)
    check_number("start_after", start_after, 0, whole=True)
    series, grams = ordered(lwp, units)
    if len(series) <= start_after:
        raise InputError(
            f"the LWP series has {len(series)} frames, none after start_after={start_after}; "
            "lower it"
        )
    above, pixels = np.zeros(len(thresholds), dtype=np.int64), 0
    blocks = list(_blocks(series, start_after, block_bytes))
    for block in track(blocks, "occluded fractions", len(blocks)):
        values = in_grams(series[block], grams)
        above += [int((values > threshold).sum()) for threshold in thresholds]
        pixels += values.size
    return [float(count / pixels) for count in above]


def _blocks(series: xr.DataArray, start: int, block_bytes: float) -> Iterator[slice]:
    """Cut the frames from `start` on into blocks that end at the borders of stored chunks."""
    stored = series.encoding.get("preferred_chunks", {}).get("time", 1)
    # whole chunks as stored, so that each is decompressed once
    frames = max(1, int(block_bytes / (series.nbytes / len(series))) // stored) * stored
    cuts = [start, *range((start // frames + 1) * frames, len(series), frames), len(series)]
    yield from (slice(a, b) for a, b in itertools.pairwise(cuts))
