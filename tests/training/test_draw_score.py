# SPDX-License-Identifier: Apache-2.0
"""The score that draws are trained by is least for draws of the truth's own distribution."""

from __future__ import annotations

import pytest
import torch

from sstfill.training.data.sample import Sample
from sstfill.training.forward import CompletedBatch
from sstfill.training.objectives.draw_score import EnsembleTerm, fair_crps, functionals

SHAPE = (1, 1, 12, 32, 32)


def smooth(seed: int) -> torch.Tensor:
    """A field whose pixels are correlated over some four pixels, of unit variance."""
    frames = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))[0]
    padded = torch.nn.functional.pad(frames, (2, 2, 2, 2), mode="circular")
    return 5 * torch.nn.functional.avg_pool2d(padded, 5, stride=1)[None]


def batch(truth: torch.Tensor, withheld: torch.Tensor) -> Sample:
    none = torch.zeros(SHAPE)
    return Sample(truth, ~withheld, withheld, withheld, withheld, none, none, none)


def loss(first: torch.Tensor, second: torch.Tensor, truth: torch.Tensor) -> float:
    withheld = torch.ones(SHAPE, dtype=torch.bool)
    withheld[..., :8] = False
    estimate, error = torch.zeros(SHAPE), torch.ones(SHAPE)
    completed = CompletedBatch(first, None, (estimate, error, first, second))
    return float(EnsembleTerm()(completed, batch(truth, withheld)))


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.8, 1.25, 2.0])
def test_draws_of_the_right_spread_score_best(factor):
    first, second, truth = smooth(1), smooth(2), smooth(3)
    assert loss(first, second, truth) < loss(factor * first, factor * second, truth)


def test_draws_that_are_right_at_each_pixel_but_not_together_score_worse():
    truth = smooth(3)
    white = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(k)) for k in (1, 2)]
    assert loss(smooth(1), smooth(2), truth) < 0.9 * loss(*white, truth)


def test_a_chequered_draw_scores_worse_than_a_noisy_one():
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    board = torch.where((rows + columns) % 2 == 0, 1.0, -1.0)
    truth, *noisy = [
        torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2, 3)
    ]
    chequered = []
    for seed in (2, 3):
        sign = torch.randn((1, 1, 12, 1, 1), generator=torch.Generator().manual_seed(seed))
        chequered.append(board * sign)
    assert loss(*noisy, truth) < 0.95 * loss(*chequered, truth)


def test_the_score_is_fair_to_small_ensembles():
    generator = torch.Generator().manual_seed(0)
    first, second, truth = torch.randn(3, 200_000, generator=generator)
    spread = [float(fair_crps(f * first, f * second, truth).mean()) for f in (0.9, 1.0, 1.1)]
    assert spread[1] == min(spread)
    # E|x - y| - E|x - x'| / 2 of normal numbers
    assert abs(spread[1] - torch.pi**-0.5) < 0.005


def test_only_withheld_pixels_count():
    truth, withheld = smooth(3), torch.zeros(SHAPE, dtype=torch.bool)
    withheld[..., 3:20, 10:30] = True
    estimate, error = torch.zeros(SHAPE), torch.ones(SHAPE)
    scores = []
    for elsewhere in (0.0, 100.0):
        first = torch.where(withheld, smooth(1), elsewhere)
        second = torch.where(withheld, smooth(2), -elsewhere)
        completed = CompletedBatch(first, None, (estimate, error, first, second))
        scores.append(float(EnsembleTerm()(completed, batch(truth, withheld))))
        for *fields, weight in functionals(completed, batch(truth, withheld)):
            assert all(torch.isfinite(field).all() for field in fields) and (weight >= 0).all()
    assert scores[0] == scores[1]
