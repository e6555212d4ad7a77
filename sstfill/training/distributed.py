# SPDX-License-Identifier: Apache-2.0
"""Where training runs: in one process, or in several that torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sstfill.nn.device import pick_device

TIMEOUT = timedelta(hours=1)
"""How long a process waits for the others in one step."""
PREPARATION = timedelta(days=7)
"""How long a process waits for the others' first guesses, which may take hours."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together.

    Attributes
    ----------
    device
        Of this process.
    rank, size
        Number of this process, and how many there are. The first, rank 0, writes.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module in `DistributedDataParallel`, which averages gradients over processes.

        A process that is alone gets the module itself.
        """
        if self.size == 1:
            return module
        own = None
        if self.device.type == "cuda":
            own = [self.device]
        # statistics and singular values are each process's own in training; before a score the
        # first one's go to all
        return DistributedDataParallel(module, device_ids=own, broadcast_buffers=False)

    def all(self, condition: bool) -> bool:
        """Whether a condition holds in all processes."""
        if self.size == 1:
            return condition
        # Agreed upon by all, or one process would wait for ever in a step that others left out.
        return self.sum(torch.tensor(float(condition))).item() == self.size

    def sum(self, numbers: Tensor) -> Tensor:
        """Sum numbers over processes; the result is on the CPU."""
        if self.size == 1:
            return numbers.cpu()
        total = numbers.to(self.device)
        distributed.all_reduce(total)
        return total.cpu()

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers."""
        if self.size == 1:
            return
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size == 1:
            return
        # on the CPU whatever the device: a barrier of NCCL would keep the GPU busy waiting
        group = distributed.new_group(backend="gloo", timeout=PREPARATION)
        distributed.barrier(group)
        distributed.destroy_process_group(group)


@contextmanager
def process_group(device: str, seed: int) -> Iterator[Processes]:
    """Join the other processes, if torchrun has started any, and seed torch while inside.

    Raises
    ------
    OptionError
        If a GPU is asked for and there is none.
    """
    own = torch.device(pick_device(device))
    cuda = own.type == "cuda"
    if cuda and own.index is None:
        # With its number, which the random state of the device is saved by.
        own = torch.device("cuda", torch.cuda.current_device())
    with (
        torch.random.fork_rng([own.index] if cuda else []),
        # cuDNN itself is off in this context unless it is asked for
        torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, benchmark=cuda),
    ):
        torch.manual_seed(seed)
        # torchrun sets both; alone, no group is needed, nor a port for it.
        if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
            yield Processes(own)
            return
        if cuda:
            torch.cuda.set_device(own)
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
        try:
            yield Processes(own, distributed.get_rank(), distributed.get_world_size())
        finally:
            distributed.destroy_process_group()
