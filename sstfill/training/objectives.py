# SPDX-License-Identifier: Apache-2.0
"""What is minimised: weighted terms, each of them one line over a completed batch.

Data consistency (eq. 6) is no term: a completed sequence holds what was observed, bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from sstfill.errors import unknown
from sstfill.nn.discriminator import FrameDiscriminator, SequenceDiscriminator
from sstfill.nn.generator import OCCLUDED
from sstfill.nn.losses import discriminator_hinge, generator_hinge, laplace_nll, masked_l1
from sstfill.nn.masking import occlude
from sstfill.training.data.sample import Sample
from sstfill.training.forward import CompletedBatch
from sstfill.training.options import TrainOptions

LEAST = 1e-4
"""Error of a first guess, in scaled units, below which there is little to gain."""


class Term(Protocol):
    """A part of the generator's loss; `name` heads its column in the log."""

    name: ClassVar[str]

    def __call__(self, completion: CompletedBatch, sample: Sample) -> Tensor:
        """Compute the loss, one number."""
        ...


@dataclass(frozen=True)
class WithheldTerm:
    """Restore what was hidden: Laplace likelihood where the network states a scale, else mean
    absolute error.

    The likelihood alone would count an error by how many of its own scale it is; beside it stands
    the mean absolute error over that of the first guess, where there is one, which counts large
    errors for what they are.
    """

    name: ClassVar[str] = "withheld"

    def __call__(self, completion: CompletedBatch, sample: Sample) -> Tensor:
        """Compute the loss over withheld pixels."""
        if completion.log_scale is None:
            return masked_l1(completion.values, sample.values, sample.withheld)
        return laplace_nll(
            completion.values, completion.log_scale, sample.values, sample.withheld
        ) + over_guess(completion, sample)


def over_guess(completion: CompletedBatch, sample: Sample) -> Tensor:
    """Compute the mean absolute error over withheld pixels as a share of the first guess's; 0 where
    there is none.
    """
    if not bool((sample.error > 0).any()):
        return completion.values.new_zeros(())
    own = masked_l1(completion.values, sample.values, sample.withheld)
    return own / (masked_l1(sample.guess, sample.values, sample.withheld) + LEAST)


@dataclass(frozen=True)
class Paired:
    """Regress to the truth: mean absolute error over every occluded pixel at sea (appendix C,
    paired variant).
    """

    name: ClassVar[str] = "l1"

    def __call__(self, completion: CompletedBatch, sample: Sample) -> Tensor:
        """Compute the loss over withheld pixels, which are all the occluded ones."""
        return masked_l1(completion.values, sample.values, sample.withheld)


class Adversary(nn.Module):
    """D_f and D_s and what they judge: measurements against completed sequences measured once more
    (equation 4).

    The real one is the archive's own measurement (everything known to the trainer), the fake one a
    completed sequence under an independent mask; land is occluded in both. Where the truth is at
    hand the same lines compare true with completed sequences (appendix C, both supervised
    variants): nothing is occluded then. The discriminators are not told which sequences belong
    together.

    Parameters
    ----------
    channels
        Of the data.
    base
        Channels after the discriminators' first layer.
    sequences
        Whether there is a D_s beside D_f.
    differences
        Whether D_s sees differences of successive frames.
    fill
        What occluded pixels are set to.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        base: int = 32,
        sequences: bool = True,
        differences: bool = True,
        fill: float = OCCLUDED,
    ) -> None:
        super().__init__()
        self.fill = fill
        self.discriminators = nn.ModuleList([FrameDiscriminator(channels=channels, base=base)])
        if sequences:
            self.discriminators.append(
                SequenceDiscriminator(channels=channels, base=base, differences=differences)
            )

    def forward(self, fake: Tensor, sample: Sample) -> Tensor:
        """Compute the discriminators' loss; `fake` are completed sequences b c t y x, without a
        gradient.
        """
        both = torch.cat([self.real(sample), self.again(fake.detach(), sample)])  # 2b c t y x
        scores = [judge(both).float().chunk(2) for judge in self.discriminators]
        return torch.stack([discriminator_hinge(real, fake) for real, fake in scores]).sum()

    def generator_loss(self, fake: Tensor, sample: Sample) -> Tensor:
        """Compute the generator's loss; the discriminators receive no gradient."""
        self.requires_grad_(False)
        again = self.again(fake, sample)
        loss = torch.stack(
            [generator_hinge(judge(again).float()) for judge in self.discriminators]
        ).sum()
        self.requires_grad_(True)
        return loss

    def real(self, sample: Sample) -> Tensor:
        """Return what was measured, y, b c t y x."""
        return occlude(sample.values, (sample.observed | sample.withheld) & sample.sea, self.fill)

    def again(self, fake: Tensor, sample: Sample) -> Tensor:
        """Return what would be measured of a completed sequence, y_hat, b c t y x."""
        return occlude(fake, sample.again & sample.sea, self.fill)


@dataclass(frozen=True)
class Adversarial:
    """Fool D_f and D_s, with weights 1:1 (equation 4, hinge)."""

    name: ClassVar[str] = "adversarial"

    adversary: Adversary

    def __call__(self, completion: CompletedBatch, sample: Sample) -> Tensor:
        """Compute the generator's side of the loss."""
        return self.adversary.generator_loss(completion.values, sample)


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms.

    Attributes
    ----------
    terms
        With the weight of each.
    adversary
        The discriminators that learn beside the generator, if any.
    """

    terms: tuple[tuple[float, Term], ...]
    adversary: Adversary | None = None

    def __call__(
        self, completion: CompletedBatch, sample: Sample
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute what the generator minimises, and each term by name, without its weight or a
        gradient.
        """
        losses = [(weight, term.name, term(completion, sample)) for weight, term in self.terms]
        total = torch.stack([weight * loss for weight, _, loss in losses]).sum()
        return total, {name: loss.detach() for _, name, loss in losses}


def compose(
    objective: str, options: TrainOptions, *, channels: int = 1, fill: float = OCCLUDED
) -> Objective:
    """Compose an objective by name; new discriminators are drawn from torch's global generator.

    Parameters
    ----------
    objective
        See `TrainOptions`.
    options
        Weight of the adversarial term beside a pixel term, and the discriminators.
    channels
        Of the data.
    fill
        What occluded pixels are set to where the discriminators look: what the generator sees
        there.

    Raises
    ------
    OptionError
        If there is no such objective.
    """
    if objective not in _PIXEL_TERMS:
        raise unknown("objective", objective, _PIXEL_TERMS)
    pixel = _PIXEL_TERMS[objective]
    if objective == "withheld":
        return Objective(((1.0, WithheldTerm()),))
    adversary = Adversary(
        channels=channels,
        base=options.discriminator_base,
        sequences=options.sequences,
        differences=options.differences,
        fill=fill,
    )
    if pixel is None:
        return Objective(((1.0, Adversarial(adversary)),), adversary)
    return Objective(
        ((1.0, pixel), (options.adversarial_weight, Adversarial(adversary))), adversary
    )


_PIXEL_TERMS: dict[str, Term | None] = {
    "withheld": WithheldTerm(),
    "adversarial": None,
    "withheld+adversarial": WithheldTerm(),
    "paired": Paired(),
    "unpaired": None,
}
