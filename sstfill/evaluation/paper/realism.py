# SPDX-License-Identifier: Apache-2.0
"""How real a fill looks: features of its frames and of its pieces, for Frechet distances.

FID and FVD need networks whose weights a user may have, and no package brings. Without them frames
are compared by a network whose weights come as a package (`EfficientNetFeatures`) or by one with
random weights (`RandomFeatures`), pieces of sequences by the latter: both compare methods within
one table, and mean nothing beside the paper's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.evaluation.paper.frechet import Features, Rows, frechet_distance
from sstfill.evaluation.paper.frechet_features import (
    EfficientNetFeatures,
    I3DFeatures,
    InceptionFeatures,
    RandomFeatures,
)

RANDOM = RandomFeatures()
PIECE = (8, 32, 32)
"""Frames, rows and columns of a piece: a set of some sequences gives dozens, as a covariance
needs."""
LEAST = 2
"""Rows that a covariance needs."""


class Looks(NamedTuple):
    """Features of a sequence: a row for each frame, and for each piece."""

    frames: Rows
    pieces: Rows


class Viewers(NamedTuple):
    """The features by which frames, and pieces of sequences or sequences, are compared."""

    frames: Features = RANDOM
    pieces: Features = RANDOM

    @classmethod
    def of(cls, frames: str, inception: str | None, i3d: str | None) -> Viewers:
        """Choose them: InceptionV3 and I3D where there are files of their weights.

        Parameters
        ----------
        frames
            Features of frames without InceptionV3, "random" or "efficientnet".
        inception, i3d
            See `sstfill.evaluation.paper.frechet_features`.

        Raises
        ------
        OptionError
            If a library is missing.
        ReadError
            If there is no such file.
        """
        of_frames: Features = EfficientNetFeatures() if frames == "efficientnet" else RANDOM
        if inception is not None:
            of_frames = InceptionFeatures(weights=inception)
        return cls(of_frames, RANDOM if i3d is None else I3DFeatures(weights=i3d))

    @property
    def names(self) -> dict[str, str]:
        """Name of each."""
        return {"frames": self.frames.name, "sequences": self.pieces.name}


AT_HAND = Viewers()
"""What needs no file and no further package."""


def looks(values: NDArray[Any], span: tuple[float, float], viewers: Viewers = AT_HAND) -> Looks:
    """Compute the features of a sequence.

    Parameters
    ----------
    values
        ``(channel, time, y, x)``, one or three channels; NaN (land) is shown as black.
    span
        Values that are shown black and white; see `sstfill.evaluation.paper.frechet.frechet_score`.
    viewers
        The features. I3D sees whole sequences, as FVD is defined; others see pieces.
    """
    shown = np.nan_to_num(values, nan=span[0])
    channels, images, rows, columns = shown.shape
    # Each frame is a sequence of one image.
    frames = shown.swapaxes(0, 1)[:, :, np.newaxis]  # t c 1 y x
    if isinstance(viewers.pieces, I3DFeatures):
        return Looks(viewers.frames(frames, span), viewers.pieces(shown[np.newaxis], span))
    t, y, x = np.minimum(PIECE, (images, rows, columns))
    # What is left over at the end, less than a piece, is not used.
    k, i, j = images // t, rows // y, columns // x
    pieces = (
        shown[:, : k * t, : i * y, : j * x]
        .reshape(channels, k, t, i, y, j, x)
        .transpose(1, 3, 5, 0, 2, 4, 6)
        .reshape(-1, channels, t, y, x)
    )
    return Looks(viewers.frames(frames, span), viewers.pieces(pieces, span))


def distances(truth: list[Looks], filled: list[Looks]) -> tuple[float, float]:
    """Compute the Frechet distances of frames and of pieces between two sets of sequences.

    NaN where there is no sequence, or fewer than two frames or pieces.
    """
    return (
        _distance([one.frames for one in truth], [one.frames for one in filled]),
        _distance([one.pieces for one in truth], [one.pieces for one in filled]),
    )


def _distance(truth: list[Rows], filled: list[Rows]) -> float:
    if sum(map(len, filled)) < LEAST:
        return math.nan
    return frechet_distance(np.concatenate(truth), np.concatenate(filled))
