# SPDX-License-Identifier: Apache-2.0
"""Objectives by name: which terms the generator's loss has, and with what weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sstfill.errors import unknown
from sstfill.nn.generator import OCCLUDED
from sstfill.training.data.sample import Sample
from sstfill.training.forward import CompletedBatch
from sstfill.training.objectives.adversary import Adversarial, Adversary
from sstfill.training.objectives.draw_score import EnsembleTerm
from sstfill.training.objectives.terms import Paired, Term, WithheldTerm
from sstfill.training.options import PIXEL, TrainOptions


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
            # The log keeps numbers, not the graphs that they came from.
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
    # A pixel term alone: no discriminators are drawn.
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
