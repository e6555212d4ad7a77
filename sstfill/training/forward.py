# SPDX-License-Identifier: Apache-2.0
"""One call for every generator.

The paper's networks complete a sequence, the compact one corrects a first guess.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sstfill.methods.gan.noise import Noise
from sstfill.nn.compact import Compact
from sstfill.nn.masking import keep_observed
from sstfill.nn.sizes import SPACINGS
from sstfill.training.data.sample import Sample

LEAST_ERROR = 1e-6
"""Floor of a first guess's error, in scaled units, before its logarithm is taken."""


class CompletedBatch(NamedTuple):
    """A completed batch.

    Attributes
    ----------
    values
        b c t y x: bit-identical where observed, the estimate elsewhere.
    log_scale
        b c t y x: natural logarithm of the Laplace scale, in scaled units; None where the network
        states none.
    drawn
        Of a network that draws: the estimate, its stated error (one sigma), and two draws, all as
        the network states them; `values` then holds the first draw. None otherwise.
    """

    values: Tensor
    log_scale: Tensor | None
    drawn: tuple[Tensor, Tensor, Tensor, Tensor] | None = None


def complete(network: nn.Module, sample: Sample) -> CompletedBatch:
    """Complete a batch by a generator.

    Parameters
    ----------
    network
        One with ``estimate(values, observed)`` (`Generator`, `RecurrentGenerator`), or one whose
        ``forward(channels)`` returns a correction in units of the first guess's error, and the log
        of the new error (`Compact`).
    sample
        A batch, b c t y x.
    """
    estimate = getattr(network, "estimate", None)
    if estimate is not None:
        estimated: Tensor = estimate(sample.values, sample.observed)  # b c t y x
        return CompletedBatch(
            keep_observed(sample.values, sample.observed, estimated.float()), None
        )
    corrected, log_scale = _corrected(sample, *network(sample.channels))
    return CompletedBatch(keep_observed(sample.values, sample.observed, corrected), log_scale)


def complete_twice(network: Compact, sample: Sample) -> CompletedBatch:
    """Complete a batch by two draws of `Compact`, of which only the branch that draws learns."""
    # The trunk stays as it is: its gradients would cost memory and change nothing.
    with torch.no_grad():
        known = network.encode(sample.channels)
        corrected = network.estimate_from(list(known), sample.channels.shape)
        estimate, log_scale = _corrected(sample, *corrected)
        error = math.sqrt(2) * log_scale.exp()  # of a Laplace distribution
    first = estimate + error * network.draw_from(known, draw_noise(sample))
    second = estimate + error * network.draw_from(known, draw_noise(sample))
    values = keep_observed(sample.values, sample.observed, first)
    return CompletedBatch(values, log_scale, (estimate, error, first, second))


def draw_noise(sample: Sample) -> Tensor:
    """Draw the noise of a batch, b k t y x, from torch's generator: as a series has it that lies
    anywhere on the whole grid.
    """
    b, _, t, y, x = sample.values.shape
    # from torch's generator, whose state is saved: a training that is resumed draws the same
    seed, row, column = torch.randint(2**31, (3,)).tolist()
    # At a random corner of the grid, since noise has a coarse lattice whose phase must not be
    # learnt.
    noise = Noise(seed, b, np.arange(float(t)), row % SPACINGS[-1], column % SPACINGS[-1])
    members = np.stack(list(noise.within((slice(0, t), slice(0, y), slice(0, x)))))
    return torch.from_numpy(members).to(sample.values.device)


def _corrected(sample: Sample, correction: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corrected first guess and the logarithm of its Laplace scale."""
    # The correction is in units of the first guess's error, so that it is of the order of 1.
    corrected = sample.guess + sample.error * correction.float()
    return corrected, sample.error.clamp_min(LEAST_ERROR).log() + log_ratio.float()


class Completer(nn.Module):
    """`complete` as a module, so that `DistributedDataParallel` can stand around it."""

    def __init__(self, network: nn.Module, *, drawing: bool = False) -> None:
        super().__init__()
        self.network = network
        self.drawing = drawing

    def forward(self, sample: Sample) -> CompletedBatch:
        """Complete a batch."""
        if self.drawing:
            assert isinstance(self.network, Compact)
            return complete_twice(self.network, sample)
        return complete(self.network, sample)
