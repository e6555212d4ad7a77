# SPDX-License-Identifier: Apache-2.0
"""Windows of an archive to train and validate on: blocks of time apart, none all land or cloud;
only these are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError

LEAST_SEA, LEAST_SEEN = 0.1, 0.02
"""Of a window's pixels, and of those at sea how many must be observed."""
TRIES = 200
VALIDATED = 6
"""One image in so many is kept for validation, at the end of the archive, and at least a sequence.
"""
HELD = 128 * 2**20
"""Bytes of a lazy array up to which it is loaded; of a larger one slabs are read that take about as
much.
"""
GAP = 5
"""Images left out between training and validation, fewer from short archives: neighbours in time
are alike.
"""


class Blocks(NamedTuple):
    """Images for training and for validation."""

    training: slice
    validation: slice


def gap(images: int) -> int:
    """Images left out between the blocks of an archive, one at least."""
    return max(1, min(GAP, images // 20))


def longest(images: int) -> int:
    """Length of the sequences that an archive surely allows.

    >>> longest(100)
    31
    """
    return max(1, (images - gap(images)) // 3)


def blocks(images: int, frames: int) -> Blocks:
    """Cut an archive in two blocks of time.

    Raises
    ------
    InputError
        If the archive is too short for a sequence in each.

    >>> blocks(100, 24)
    Blocks(training=slice(0, 71, None), validation=slice(76, 100, None))
    """
    held = max(frames, images // VALIDATED)
    trained = images - held - gap(images)
    if trained < frames:
        enough = images > 2 and longest(images) < frames
        shorter = f"frames={longest(images)} or less, or " if enough else ""
        raise InputError(
            f"{images} images are too few to train and validate on sequences of {frames}; "
            f"give {shorter}a longer archive"
        )
    return Blocks(slice(0, trained), slice(images - held, images))


class TrainingWindow(NamedTuple):
    """A piece of the archive, in memory."""

    obs: xr.DataArray
    sea: xr.DataArray
    truth: xr.DataArray | None


@dataclass(frozen=True)
class TrainingWindows:
    """Random windows of a block of time.

    Attributes
    ----------
    obs
        The archive ``(time, y, x)``, lazy or not.
    sea
        True at sea, ``(y, x)``.
    times
        Which images.
    shape
        Of a window.
    truth
        The field without gaps, where it is known.
    """

    obs: xr.DataArray
    sea: xr.DataArray
    times: slice
    shape: tuple[int, int, int]
    truth: xr.DataArray | None = None

    def draw(self, rng: np.random.Generator) -> TrainingWindow:
        """Draw a window with enough sea and observations, which alone is read; `InputError` if many
        tries find none.
        """
        whole = (self.times.stop - self.times.start, *self.obs.shape[1:])
        for _ in range(TRIES):
            start = [int(rng.integers(n - m + 1)) for n, m in zip(whole, self.shape, strict=True)]
            t, y, x = (slice(s, s + m) for s, m in zip(start, self.shape, strict=True))
            wet = self.sea[y, x].values.astype(bool)
            if wet.mean() < LEAST_SEA:
                continue
            t = slice(t.start + self.times.start, t.stop + self.times.start)
            obs = self.obs[t, y, x].load()
            if np.isfinite(obs.values[:, wet]).mean() >= LEAST_SEEN:
                truth = None if self.truth is None else self.truth[t, y, x].load()
                return TrainingWindow(obs.where(self.sea[y, x]), self.sea[y, x], truth)
        raise none_found(self.shape)


def none_found(shape: tuple[int, int, int]) -> InputError:
    """Say that no window can be trained on."""
    return InputError(
        f"no window of {shape} pixels with {LEAST_SEA:.0%} sea, {LEAST_SEEN:.0%} of it observed, "
        f"in {TRIES} tries; give a smaller size, or data with fewer clouds"
    )


def large(field: xr.DataArray) -> bool:
    """Whether an array is lazy and too large to be loaded."""
    return field.chunks is not None and field.nbytes > HELD


def withheld(
    observed: NDArray[np.bool_], clouds: NDArray[np.bool_], most: float = 0.8
) -> NDArray[np.bool_]:
    """What other clouds hide of what is observed, at most a share of it: later images keep theirs.

    >>> withheld(np.array([[[True, True]]]), np.array([[[True, False]]])).tolist()
    [[[False, True]]]
    """
    hidden = observed & ~clouds
    spare = int(most * np.count_nonzero(observed))
    kept: NDArray[np.bool_] = hidden & (np.cumsum(hidden).reshape(hidden.shape) <= spare)
    return kept
