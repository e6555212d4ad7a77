# SPDX-License-Identifier: Apache-2.0
"""How training begins: the networks and optimisers on their device, and what stays fixed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
from torch import nn
from torch.optim import AdamW, Optimizer

from sstfill.errors import InputError
from sstfill.training.data.sample import Batches, Sample, SampleSource
from sstfill.training.distributed import Processes
from sstfill.training.ema import EMA
from sstfill.training.forward import Completer
from sstfill.training.objectives.compose import Objective, compose
from sstfill.training.options import OptimiserOptions, TrainOptions
from sstfill.training.state import TrainingState


@dataclass(frozen=True)
class TrainingJob:
    """The parts of a training that stay fixed.

    Attributes
    ----------
    source, options, processes, objective
        As given to `begin`, and what the options compose.
    completer, discriminators
        The forward passes of the generator and of the discriminators' loss, each wrapped in
        `DistributedDataParallel` where there are several processes.
    """

    source: SampleSource
    options: TrainOptions
    processes: Processes
    objective: Objective
    completer: nn.Module
    discriminators: nn.Module | None

    def batches(self, epoch: int) -> Batches:
        """Give this process's batches of an epoch, the same ones each time."""
        options, processes = self.options, self.processes
        # Seeded by the epoch, so that one that is resumed draws what it would have drawn.
        sequences = self.source.epoch(epoch, np.random.default_rng([options.seed, epoch]))
        return Batches(
            sequences,
            options.batch,
            needs_withheld=options.needs_withheld,
            rank=processes.rank,
            processes=processes.size,
        )

    def first_batches(self, epoch: int, count: int) -> Iterator[Sample]:
        """Yield the first `count` batches of an epoch, on the device."""
        with closing(self.batches(epoch)) as batches:
            for batch in islice(batches, count):
                yield batch.to(self.processes.device)


def begin(
    network: nn.Module, source: SampleSource, options: TrainOptions, processes: Processes
) -> tuple[TrainingState, TrainingJob]:
    """Copy the network to the device, and draw new discriminators."""
    # The caller's network stays as it was given.
    own = copy.deepcopy(network).to(processes.device).train().requires_grad_(True)
    branch = getattr(own, "drawing", None)
    if options.draws:
        own.requires_grad_(False)
    if branch is not None:  # learns by itself, what it is given by the rest must not change
        branch.requires_grad_(options.draws)
    # wrapped before anything is copied from it: all processes now have the weights of the first
    completer = processes.wrap(Completer(own, drawing=options.draws))
    # the discriminators see in a gap what the generator sees there
    fill = getattr(own, "fill", options.occluded_value)
    first = next(iter(source.validation()), None)
    if first is None:
        raise InputError("the validation holds no sequence; give some, with pixels withheld")
    objective = compose(options.objective, options, channels=len(first.values), fill=fill)
    optimiser = _adamw(own, options.recipe)
    adversary = objective.adversary
    if adversary is None:
        state = TrainingState(own, EMA(own, options.ema), None, optimiser, None)
        return state, TrainingJob(source, options, processes, objective, completer, None)
    # Before its optimiser is made, which keeps the weights it is given.
    adversary.to(processes.device)
    discriminators = processes.wrap(adversary)
    discriminator_optimizer = _adamw(adversary, options.discriminator_recipe)
    state = TrainingState(own, EMA(own, options.ema), adversary, optimiser, discriminator_optimizer)
    return state, TrainingJob(source, options, processes, objective, completer, discriminators)


def _adamw(network: nn.Module, recipe: OptimiserOptions) -> Optimizer:
    betas = (recipe.beta1, recipe.beta2)
    # weight decay would shrink weights that are to stay
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    return AdamW(learning, recipe.learning_rate, betas, weight_decay=recipe.weight_decay)
