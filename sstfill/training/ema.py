# SPDX-License-Identifier: Apache-2.0
"""The weights that are scored and kept: an exponential moving average of those that train."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import swa_utils

from sstfill.training.data.sample import Sample
from sstfill.training.forward import Completer


# `torch.optim.swa_utils.AveragedModel` copies the network at its first update, and prefixes the
# names of its weights: other results, and states saved before could not be resumed.
class EMA:
    """A copy of a network whose weights follow the network's smoothly.

    Parameters
    ----------
    network
        Copied, not changed.
    decay
        Fraction of the average that a step leaves. It is (1 + n) / (10 + n) after n steps where
        that is less, so that the average soon forgets how the network began.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int) -> None:
        """Move towards the network as it is after `steps` steps; its buffers are copied."""
        step = 1 - min(self.decay, (1 + steps) / (10 + steps))
        # one call for all weights: a GPU would launch a kernel for each
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), step)
        for own, new in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(new)


def update_bn(network: nn.Module, batches: Iterable[Sample]) -> None:
    """Measure the statistics of batch normalisation again, and leave evaluation mode on.

    The statistics gathered in training belong to weights that have moved since, not to their
    average. A forward pass in training mode also refreshes the singular values of spectral
    normalisation, which stands in the same networks. Without batch normalisation no batch is asked
    for.
    """
    network.eval()
    # torch passes on the first element of a tuple, and a `Sample` is a tuple
    swa_utils.update_bn(((batch,) for batch in batches), Completer(network).eval())
