# SPDX-License-Identifier: Apache-2.0
"""Terms of the generator's loss that compare a completed batch with withheld pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from sstfill.nn.losses import laplace_nll, masked_l1
from sstfill.training.data.sample import Sample
from sstfill.training.forward import CompletedBatch

LEAST = 1e-4
"""Error of a first guess, in scaled units, below which there is little to gain."""


class Term(Protocol):
    """A part of the generator's loss; `name` heads its column in the log."""

    name: ClassVar[str]

    def __call__(self, completed: CompletedBatch, sample: Sample) -> Tensor:
        """Compute the loss, one number."""
        ...


@dataclass(frozen=True)
class WithheldTerm:
    """Restore withheld pixels: Laplace likelihood, or absolute error without a stated scale.

    The likelihood measures each error in units of its own stated scale. The second term, the mean
    absolute error as a fraction of the first guess's, gives large errors their weight.
    """

    name: ClassVar[str] = "withheld"

    def __call__(self, completed: CompletedBatch, sample: Sample) -> Tensor:
        """Compute the loss over withheld pixels."""
        if completed.log_scale is None:
            return masked_l1(completed.values, sample.values, sample.withheld)
        # A Laplace distribution, for errors at withheld pixels have tails heavier than a
        # Gaussian's.
        likelihood = laplace_nll(
            completed.values, completed.log_scale, sample.values, sample.withheld
        )
        return likelihood + over_guess(completed, sample)


def over_guess(completed: CompletedBatch, sample: Sample) -> Tensor:
    """Compute the mean absolute error as a fraction of the first guess's, 0 without one."""
    # the paper's networks have no first guess
    if not bool((sample.error > 0).any()):
        return completed.values.new_zeros(())
    own = masked_l1(completed.values, sample.values, sample.withheld)
    return own / (masked_l1(sample.guess, sample.values, sample.withheld) + LEAST)


@dataclass(frozen=True)
class Paired:
    """Mean absolute error over every occluded pixel at sea (appendix C, the paired variant)."""

    name: ClassVar[str] = "l1"

    def __call__(self, completed: CompletedBatch, sample: Sample) -> Tensor:
        """Compute the loss over withheld pixels, which are all the occluded ones."""
        return masked_l1(completed.values, sample.values, sample.withheld)
