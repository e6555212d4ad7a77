# SPDX-License-Identifier: Apache-2.0
"""The fair ensemble score of two draws, at withheld pixels and of what is made of them.

Draws that are right at each pixel by itself may still be wrong together: their means over blocks,
and how they differ from one pixel or image to the next. Each of these is a number that the truth
has as well, and is scored alike: by the continuous ranked probability score of two members in its
fair form, ``(|x - y| + |x' - y|) / 2 - |x - x'| / 2`` (Ferro 2014, Quarterly Journal of the Royal
Meteorological Society 140), which is least in expectation for draws of the distribution of ``y``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sstfill.nn.compact import Compact
from sstfill.training.data.sample import Batches, Sample, SampleSource
from sstfill.training.forward import CompletedBatch, complete_twice

BLOCKS = (2, 4, 8, 16)
"""Edges of the blocks, in pixels, whose means are scored."""
OFFSETS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 1, -1), (0, 2, 0), (0, 0, 2))
"""Images, rows and columns between two pixels whose difference is scored.

By the differences of next neighbours alone a chequered draw would be as good as a noisy one.
"""
COVERED = 0.25
"""Least fraction of a block that is withheld."""
LEAST = 1e-6
"""Keeps quotients finite."""


def fair_crps(first: Tensor, second: Tensor, truth: Tensor) -> Tensor:
    """Compute the score of two draws at each pixel.

    >>> fair_crps(torch.tensor(1.0), torch.tensor(-1.0), torch.tensor(0.5))
    tensor(0.)
    """
    off = (first - truth).abs() + (second - truth).abs()
    return (off - (first - second).abs()) / 2


@dataclass(frozen=True)
class EnsembleTerm:
    """The score over withheld pixels, block means and differences, each over its usual size."""

    name: ClassVar[str] = "crps"

    def __call__(self, completed: CompletedBatch, sample: Sample) -> Tensor:
        """Compute the loss."""
        losses = []
        for first, second, truth, weight in functionals(completed, sample):
            total = weight.sum()
            if total > 0:
                score = (weight * fair_crps(first, second, truth)).sum()
                size = (weight * truth.abs()).sum()
                # over its usual size, so that large functionals do not outweigh the others
                losses.append(score / (size + LEAST * total))
        return torch.stack(losses).mean()


@torch.no_grad()
def to_unit_spread(network: nn.Module, source: SampleSource) -> None:
    """Scale the deviations that a network draws to the error that it states, on the whole of the
    withheld pixels of the validation: how large errors are is found again on each series.

    The score alone makes them smaller: errors have more outliers than what is drawn, and it takes
    little note of outliers.
    """
    assert isinstance(network, Compact) and network.drawing is not None
    squares, count = 0.0, 0
    with torch.random.fork_rng(devices=[]):
        # the same factor each time it is computed
        torch.manual_seed(0)
        for batch in Batches(source.validation(), 1, needs_withheld=True):
            completed = complete_twice(network, batch)
            assert completed.drawn is not None
            estimate, error, *draws = completed.drawn
            for draw in draws:
                apart = ((draw - estimate) / error)[batch.withheld]
                # In double: a sum of millions of squares.
                squares += float(apart.double().square().sum())
                count += apart.numel()
    # The last layer is linear, so that all that is drawn scales by its weights.
    leave = network.drawing.leave
    for weight in leave.parameters():
        weight.div_(math.sqrt(squares / count))


def functionals(
    completed: CompletedBatch, sample: Sample
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield two draws, the truth, all less the estimate and over its error, and weights: at the
    pixels, then of blocks, then of differences.
    """
    assert completed.drawn is not None
    estimate, error, first, second = completed.drawn
    mask = sample.withheld.to(error.dtype)
    size = error * mask
    # All three are taken through the same means and differences together.
    parts = torch.stack(
        [(first - estimate) * mask, (second - estimate) * mask, (sample.values - estimate) * mask]
    )  # 3 b c t y x
    yield *(parts / error), mask
    flat, sizes = parts.flatten(0, 3), size.flatten(0, 2)  # (3 b c t) y x, (b c t) y x
    for block in BLOCKS:
        if block > min(flat.shape[-2:]):
            break
        seen = functional.avg_pool2d(mask.flatten(0, 2)[:, None], block)
        scale = functional.avg_pool2d(sizes[:, None], block)
        means = functional.avg_pool2d(flat[:, None], block).unflatten(0, (3, -1))
        yield *(means / (scale + LEAST)), torch.where(seen >= COVERED, seen, 0.0)
    for offset in OFFSETS:
        if any(abs(n) >= size for n, size in zip(offset, mask.shape[-3:], strict=True)):
            continue
        here, there = _apart(parts, offset)
        seen, too = _apart(mask, offset)
        one, other = _apart(error, offset)
        both = seen * too
        yield *((there - here) * both / ((one + other) / 2)), both


def _apart(field: Tensor, offset: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Cut two parts out of a field, the second so far from the first."""
    here = there = field
    for axis, n in zip((-3, -2, -1), offset, strict=True):
        length = field.shape[axis] - abs(n)
        here = here.narrow(axis, max(0, -n), length)
        there = there.narrow(axis, max(0, n), length)
    return here, there
