# SPDX-License-Identifier: Apache-2.0
"""The loss of the generator: weighted terms over a completed batch.

Data consistency (equation 6 of Yin, Pajot, de Bezenac and Gallinari 2019, "the paper") needs no
term: a completed sequence holds what was observed, bit by bit.
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
from sstfill.training.draw_score import EnsembleTerm
from sstfill.training.forward import CompletedBatch
from sstfill.training.options import PIXEL, TrainOptions

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
        likelihood = laplace_nll(
            completed.values, completed.log_scale, sample.values, sample.withheld
        )
        return likelihood + over_guess(completed, sample)


def over_guess(completed: CompletedBatch, sample: Sample) -> Tensor:
    """Compute the mean absolute error as a fraction of the first guess's, 0 without one."""
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


class Adversary(nn.Module):
    """The discriminators D_f and D_s, which tell measured from completed sequences (equation 4).

    The real sequence is the archive's own measurement (all that the trainer knows), the fake one a
    completed sequence under an independent mask; land is occluded in both. Where the truth is known
    the same lines compare true with completed sequences, without occlusion (appendix C, both
    supervised variants). The discriminators are not told which sequences belong together.

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
    gain
        Norm of the discriminators' weights, see `sstfill.nn.discriminator.GAIN`.
    masks
        Whether the discriminators are told what is occluded, in a further channel for each one of
        the data; then differences count where both frames are seen. The paper's see an occluded
        pixel as `fill`, which a generator can draw, too: more cloud.
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
        gain: float = 1.0,
        masks: bool = False,
        fill: float = OCCLUDED,
    ) -> None:
        super().__init__()
        self.fill, self.masks, self.differences = fill, masks, differences
        if masks:
            channels, differences = 2 * channels, False  # `views` takes the differences
        of_frames = FrameDiscriminator(channels=channels, base=base, gain=gain)
        self.discriminators = nn.ModuleList([of_frames])
        if sequences:
            of_sequences = SequenceDiscriminator(
                channels=channels, base=base, gain=gain, differences=differences
            )
            self.discriminators.append(of_sequences)

    def forward(self, fake: Tensor, sample: Sample) -> Tensor:
        """Compute the discriminators' loss on completed sequences `fake`, b c t y x."""
        both = torch.cat([sample.values, fake.detach()])  # 2b c t y x
        seen = torch.cat([known_at_sea(sample), seen_again(sample)])
        losses = []
        for scores in self.scores(both, seen):
            real_scores, fake_scores = scores.chunk(2)
            losses.append(discriminator_hinge(real_scores, fake_scores))
        return torch.stack(losses).sum()

    def generator_loss(self, fake: Tensor, sample: Sample) -> Tensor:
        """Compute the generator's loss; the discriminators receive no gradient."""
        self.requires_grad_(False)  # saves their half of the backward pass
        losses = [generator_hinge(scores) for scores in self.scores(fake, seen_again(sample))]
        self.requires_grad_(True)
        return torch.stack(losses).sum()

    def scores(self, values: Tensor, seen: Tensor) -> list[Tensor]:
        """Score sequences b c t y x as measured where `seen`, by each discriminator."""
        pairs = zip(self.discriminators, self.views(values, seen), strict=False)  # or without D_s
        return [discriminator(view).float() for discriminator, view in pairs]

    def views(self, values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return what D_f and D_s are shown of sequences b c t y x measured where `seen`."""
        if not self.masks:
            shown = occlude(values, seen, self.fill)
            return shown, shown
        shown = occlude(values, seen, 0.0)
        frames = torch.cat([shown, seen.to(shown.dtype)], 1)  # b 2c t y x
        if not self.differences:
            return frames, frames
        both = seen[:, :, 1:] & seen[:, :, :-1]
        changes = torch.where(both, shown.diff(dim=2), 0.0)
        return frames, torch.cat([changes, both.to(shown.dtype)], 1)  # b 2c t-1 y x


def known_at_sea(sample: Sample) -> Tensor:
    """Where the archive's own measurement y is known, b c t y x."""
    return (sample.observed | sample.withheld) & sample.sea


def seen_again(sample: Sample) -> Tensor:
    """Where the measurement y_hat of a completed sequence is seen, b c t y x."""
    return sample.second_mask & sample.sea


@dataclass(frozen=True)
class Adversarial:
    """The generator's adversarial loss: D_f and D_s with weights 1:1 (equation 4, hinge)."""

    name: ClassVar[str] = "adversarial"

    adversary: Adversary

    def __call__(self, completed: CompletedBatch, sample: Sample) -> Tensor:
        """Compute the generator's side of the loss."""
        return self.adversary.generator_loss(completed.values, sample)


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
        self, completed: CompletedBatch, sample: Sample
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the generator's loss, and each term without weight or gradient for the log."""
        weighted: list[Tensor] = []
        by_name: dict[str, Tensor] = {}
        for weight, term in self.terms:
            loss = term(completed, sample)
            weighted.append(weight * loss)
            by_name[term.name] = loss.detach()
        return torch.stack(weighted).sum(), by_name


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
    if pixel is not None and objective in PIXEL:
        return Objective(((1.0, pixel),))
    adversary = Adversary(
        channels=channels,
        base=options.discriminator_base,
        sequences=options.sequences,
        differences=options.differences,
        gain=options.gain,
        masks=options.masks_told,
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
    "draws": EnsembleTerm(),
    "draws+adversarial": EnsembleTerm(),
}
