# SPDX-License-Identifier: Apache-2.0
"""How training begins: networks and optimisers on their device, and what will not change any more."""

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
from sstfill.nn.generator import OCCLUDED
from sstfill.training.data.sample import Batches, Sample, SampleSource
from sstfill.training.distributed import Processes
from sstfill.training.ema import Average
from sstfill.training.forward import Completer
from sstfill.training.objectives import Objective, compose
from sstfill.training.options import OptimiserRecipe, TrainOptions
from sstfill.training.state import State


@dataclass(frozen=True)
class TrainingJob:
    """What training does not change.

    Attributes
    ----------
    source, options, processes, objective
        As given to `begin`, and what the options compose.
    completer, discriminator_optimizer
        The generator's and the discriminators' forward passes, each with `DistributedDataParallel`
        around it where there are several processes.
    """

    source: SampleSource
    options: TrainOptions
    processes: Processes
    objective: Objective
    completer: nn.Module
    discriminator_optimizer: nn.Module | None

    def batches(self, epoch: int) -> Batches:
        """Give this process's batches of an epoch, the same ones each time."""
        options, processes = self.options, self.processes
        sequences = self.source.epoch(epoch, np.random.default_rng([options.seed, epoch]))
        return Batches(
            sequences,
            options.batch,
            hidden=options.hidden,
            rank=processes.rank,
            processes=processes.size,
        )

    def some(self, epoch: int, count: int) -> Iterator[Sample]:
        """Yield the first `count` batches of an epoch, on the device; the source is asked with the
        first of them.
        """
        with closing(self.batches(epoch)) as batches:
            for batch in islice(batches, count):
                yield batch.to(self.processes.device)


def begin(
    network: nn.Module, source: SampleSource, options: TrainOptions, processes: Processes
) -> tuple[State, TrainingJob]:
    """Copy the network to the device, and draw new discriminators; they see in a gap what the
    generator sees there.
    """
    own = copy.deepcopy(network).to(processes.device).train().requires_grad_(True)
    completer = processes.wrap(
        Completer(own)
    )  # from here on all processes have the weights of the first
    fill = getattr(own, "fill", OCCLUDED)
    objective = compose(options.objective, options, channels=_channels(source), fill=fill)
    adversary = objective.adversary.to(processes.device) if objective.adversary else None
    discriminator_optimizer = processes.wrap(adversary) if adversary else None
    now = State(
        own,
        Average(own, options.ema),
        adversary,
        _adam(own, options.recipe),
        _adam(adversary, options.opposing) if adversary else None,
    )
    return now, TrainingJob(
        source, options, processes, objective, completer, discriminator_optimizer
    )


def _channels(source: SampleSource) -> int:
    """Count the channels of the data, in the first sequence of the validation."""
    for sample in source.validation():
        return len(sample.values)
    raise InputError("the validation holds no sequence; give some, with pixels withheld")


def _adam(network: nn.Module, recipe: OptimiserRecipe) -> Optimizer:
    betas = (recipe.beta1, recipe.beta2)
    return AdamW(
        network.parameters(), recipe.learning_rate, betas, weight_decay=recipe.weight_decay
    )
