# SPDX-License-Identifier: Apache-2.0
"""How real a fill looks: features of its frames and of its pieces, for Frechet distances.

FID and FVD need networks whose weights are not at hand. Here frames are compared by a network whose
weights come as a package (`EfficientNetFeatures`) or by one with random weights (`RandomFeatures`),
pieces of sequences by the latter: both compare methods within one table, and mean nothing beside
the paper's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.evaluation.paper.frechet import Features, Rows, frechet_distance
from sstfill.evaluation.paper.frechet_features import EfficientNetFeatures, RandomFeatures

OF_PIECES = RandomFeatures()
PIECE = (8, 32, 32)
"""Frames, rows and columns of a piece: a set of some sequences gives dozens, as a covariance
needs."""
LEAST = 2
"""Rows that a covariance needs."""


class Looks(NamedTuple):
    """Features of a sequence: a row for each frame, and for each piece."""

    frames: Rows
    pieces: Rows


def frame_features(name: str) -> Features:
    """Choose the features by which frames are compared: "random" or "efficientnet"."""
    return EfficientNetFeatures() if name == "efficientnet" else OF_PIECES


def looks(
    values: NDArray[Any], span: tuple[float, float], of_frames: Features = OF_PIECES
) -> Looks:
    """Compute the features of a sequence.

    Parameters
    ----------
    values
        ``(channel, time, y, x)``, one or three channels; NaN (land) is shown as black.
    span
        Values that are shown black and white; see `sstfill.evaluation.paper.frechet.frechet_score`.
    of_frames
        Features of the frames.
    """
    shown = np.nan_to_num(values, nan=span[0])
    channels, images, rows, columns = shown.shape
    # Each frame is a sequence of one image.
    frames = shown.swapaxes(0, 1)[:, :, np.newaxis]  # t c 1 y x
    t, y, x = np.minimum(PIECE, (images, rows, columns))
    # What is left over at the end, less than a piece, is not used.
    k, i, j = images // t, rows // y, columns // x
    pieces = (
        shown[:, : k * t, : i * y, : j * x]
        .reshape(channels, k, t, i, y, j, x)
        .transpose(1, 3, 5, 0, 2, 4, 6)
        .reshape(-1, channels, t, y, x)
    )
    return Looks(of_frames(frames, span), OF_PIECES(pieces, span))


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
