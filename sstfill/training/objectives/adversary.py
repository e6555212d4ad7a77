# SPDX-License-Identifier: Apache-2.0
"""The discriminators that learn beside the generator, and the generator's loss against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sstfill.nn.discriminator import FrameDiscriminator, SequenceDiscriminator
from sstfill.nn.generator import OCCLUDED
from sstfill.nn.losses import discriminator_hinge, generator_hinge
from sstfill.nn.masking import occlude
from sstfill.training.data.sample import Sample
from sstfill.training.forward import CompletedBatch


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
        # real and fake in one pass: each pass of training renews the estimates of singular values
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
        # With a mask beside it the value is of no matter, and 0 is the mean.
        shown = occlude(values, seen, 0.0)
        frames = torch.cat([shown, seen.to(shown.dtype)], 1)  # b 2c t y x
        if not self.differences:
            return frames, frames
        # A difference to an occluded frame would show the cloud, not the sea.
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
