# SPDX-License-Identifier: Apache-2.0
"""One call for every generator.

The paper's networks complete a sequence, the compact one corrects a first guess.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from sstfill.nn.masking import keep_observed
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
    """

    values: Tensor
    log_scale: Tensor | None


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
    correction, log_ratio = network(sample.channels)  # b c t y x each
    corrected = sample.guess + sample.error * correction.float()
    log_scale = sample.error.clamp_min(LEAST_ERROR).log() + log_ratio.float()
    return CompletedBatch(keep_observed(sample.values, sample.observed, corrected), log_scale)


class Completer(nn.Module):
    """`complete` as a module, so that `DistributedDataParallel` can stand around it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sample: Sample) -> CompletedBatch:
        """Complete a batch."""
        return complete(self.network, sample)
