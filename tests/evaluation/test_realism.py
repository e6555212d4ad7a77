# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sstfill.evaluation.paper.realism import distances, looks

SPAN = (-1.0, 1.0)


def moving(seed: int, times: int = 16, size: int = 64) -> NDArray[np.float64]:
    """A smooth field that drifts one pixel a frame, one channel."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal((size, size)), 3, mode="wrap")
    frames = [np.roll(field / field.std() / 3, t, 1) for t in range(times)]
    return np.stack(frames)[np.newaxis]


def test_a_perfect_fill_is_at_no_distance_and_a_blurred_one_farther_than_another_truth() -> None:
    truth = [looks(moving(seed), SPAN) for seed in range(4)]
    others = [looks(moving(seed), SPAN) for seed in range(10, 14)]
    blurred = [looks(gaussian_filter(moving(s), (0, 0, 4, 4)), SPAN) for s in range(4)]
    assert distances(truth, truth) == pytest.approx((0.0, 0.0), abs=1e-9)
    for near, far in zip(distances(truth, others), distances(truth, blurred), strict=True):
        assert 0 < near < far


def test_shuffled_frames_differ_as_sequences_only() -> None:
    order = np.random.default_rng(0).permutation(16)
    truth = [looks(moving(seed), SPAN) for seed in range(4)]
    shuffled = [looks(moving(seed)[:, order], SPAN) for seed in range(4)]
    frames, sequences = distances(truth, shuffled)
    assert frames == pytest.approx(0.0, abs=1e-9)
    assert sequences > 1e-4


def test_pieces_cover_a_sequence_and_a_small_one_is_one_piece() -> None:
    assert [len(rows) for rows in looks(moving(0, 24), SPAN)] == [24, 3 * 2 * 2]
    assert [len(rows) for rows in looks(moving(0, 5, 20), SPAN)] == [5, 1]


def test_too_few_are_no_number() -> None:
    assert all(math.isnan(found) for found in distances([], []))
    one = [looks(moving(0, 5, 20), SPAN)]
    assert math.isnan(distances(one, one)[1])
