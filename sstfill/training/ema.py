# SPDX-License-Identifier: Apache-2.0
"""The weights that are scored and kept: an exponential moving average of those that train."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from sstfill.training.data.sample import Sample
from sstfill.training.forward import complete


class Average:
    """A copy of a network whose weights follow the network's, smoothly.

    Parameters
    ----------
    network
        Copied, not changed.
    decay
        Share of the average that a step leaves. At first less, (1 + n) / (10 + n) after n steps, so
        that the average soon forgets how the network began.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def follow(self, network: nn.Module, steps: int) -> None:
        """Move towards the network as it is after `steps` steps; its buffers are copied."""
        step = 1 - min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), step)
        for own, new in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(new)


@torch.no_grad()
def settle(network: nn.Module, batches: Iterable[Sample]) -> None:
    """Measure anew what evaluation takes as fixed: statistics of batch normalisation, and largest
    singular values.

    Those gathered in training belong to weights that have moved since, not to their average. Leaves
    a network without either as it is, without asking for a batch, and every network in evaluation
    mode.
    """
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not norms and not any(is_parametrized(module) for module in network.modules()):
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    network.train()
    for batch in batches:
        complete(network, batch)
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
