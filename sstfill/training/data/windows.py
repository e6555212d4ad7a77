# SPDX-License-Identifier: Apache-2.0
"""Windows of an archive to train and to validate on.

Training and validation have separate blocks of time. Only the windows are read, and none is all
land or cloud.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError

LEAST_SEA, LEAST_SEEN = 0.1, 0.02
"""Least fraction of a window's pixels at sea, and of these the least fraction observed."""
TRIES = 200
"""Windows drawn until one has enough sea and enough observations; then there are none."""
VALIDATED = 6
"""One image in six is kept for validation, at the end of the archive, and at least a sequence."""
GAP = 5
"""Images left out between training and validation, whose neighbours in time are alike.

Short archives lose fewer.
"""


@dataclass(frozen=True, kw_only=True)
class MemoryLimits:
    """How much of an archive is held in memory.

    Attributes
    ----------
    load
        Bytes up to which a lazy array is loaded; a larger one is read in segments.
    segment
        Bytes of a segment at most, or of one window if that has more; field and truth together.
    windows
        Windows taken from a segment at most.
    """

    load: int = 128 * 2**20
    segment: int = 32 * 2**20
    windows: int = 48

    def allow(self, field: xr.DataArray) -> bool:
        """Whether an array may be loaded whole, unless it is in memory already."""
        return field.chunks is None or field.nbytes <= self.load


USUAL_LIMITS = MemoryLimits()


class Blocks(NamedTuple):
    """Images for training and for validation."""

    training: slice
    validation: slice


def gap(images: int) -> int:
    """Images left out between the blocks of an archive, one at least."""
    return max(1, min(GAP, images // 20))


def longest_sequence(images: int) -> int:
    """Length of the sequences that an archive surely allows.

    >>> longest_sequence(100)
    31
    """
    # One of three for validation, two for training, which needs more than one place to begin.
    return max(1, (images - gap(images)) // 3)


def split_in_time(images: int, frames: int) -> Blocks:
    """Cut an archive in two blocks of time.

    Raises
    ------
    InputError
        If the archive is too short for a sequence in each.

    >>> split_in_time(100, 24)
    Blocks(training=slice(0, 71, None), validation=slice(76, 100, None))
    """
    # At least one whole sequence must fit into the block.
    kept = max(frames, images // VALIDATED)
    trained = images - kept - gap(images)
    if trained < frames:
        enough = images > 2 and longest_sequence(images) < frames
        shorter = ""
        if enough:
            shorter = f"frames={longest_sequence(images)} or less, or "
        raise InputError(
            f"{images} images are too few to train and validate on sequences of {frames}; "
            f"give {shorter}a longer archive"
        )
    # The latest images validate: a network is used on dates after those it learnt from.
    return Blocks(slice(0, trained), slice(images - kept, images))


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
    limits
        How much of the archive is held in memory.
    tries
        Windows drawn until one has enough sea and enough observations; then there are none.
    """

    obs: xr.DataArray
    sea: xr.DataArray
    times: slice
    shape: tuple[int, int, int]
    truth: xr.DataArray | None = None
    limits: MemoryLimits = USUAL_LIMITS
    tries: int = TRIES

    def draw(self, rng: np.random.Generator) -> TrainingWindow:
        """Draw a window with enough sea and observations, and read it alone.

        Raises
        ------
        InputError
            If `tries` draws find none.
        """
        whole = (self.times.stop - self.times.start, *self.obs.shape[1:])
        for _ in range(self.tries):
            drawn = []
            for least, length in zip(whole, self.shape, strict=True):
                start = int(rng.integers(least - length + 1))
                drawn.append(slice(start, start + length))
            t, y, x = drawn
            # the mask is in memory: a window on land costs no reading
            at_sea = self.sea[y, x].values.astype(bool)
            if at_sea.mean() < LEAST_SEA:
                continue
            # drawn within the block, read from the archive
            t = slice(t.start + self.times.start, t.stop + self.times.start)
            obs = self.obs[t, y, x].load()
            if np.isfinite(obs.values[:, at_sea]).mean() >= LEAST_SEEN:
                truth = None
                if self.truth is not None:
                    truth = self.truth[t, y, x].load()
                return TrainingWindow(obs.where(self.sea[y, x]), self.sea[y, x], truth)
        raise self.none_found()

    def none_found(self) -> InputError:
        """Return the error for an archive without a window that can be trained on."""
        return InputError(
            f"no window of {self.shape} pixels with {LEAST_SEA:.0%} sea, {LEAST_SEEN:.0%} of it "
            f"observed, in {self.tries} tries; give a smaller size, or data with fewer clouds"
        )


def withhold(
    observed: NDArray[np.bool_], clouds: NDArray[np.bool_], most: float = 0.8
) -> NDArray[np.bool_]:
    """Choose the observed pixels that other clouds hide, at most a fraction of all.

    The first images come first: if that fraction is reached, later images keep theirs.

    >>> withhold(np.array([[[True, True]]]), np.array([[[True, False]]])).tolist()
    [[[False, True]]]
    """
    hidden = observed & ~clouds
    spare = int(most * np.count_nonzero(observed))
    chosen: NDArray[np.bool_] = hidden & (np.cumsum(hidden).reshape(hidden.shape) <= spare)
    return chosen
