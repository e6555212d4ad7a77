# SPDX-License-Identifier: Apache-2.0
"""Where training runs: one device, or several processes that torchrun has started, each with its
own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sstfill.errors import OptionError

PATIENCE = timedelta(hours=1)
"""How long a process waits for the others."""


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
        """Stand `DistributedDataParallel` around a module, which averages gradients over processes;
        alone, nothing.
        """
        if self.size == 1:
            return module
        own = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=own, broadcast_buffers=False)

    def all(self, yes: bool) -> bool:
        """Whether all processes say yes."""
        return yes if self.size == 1 else self.sum(torch.tensor(float(yes))).item() == self.size

    def sum(self, numbers: Tensor) -> Tensor:
        """Sum numbers over processes; on the CPU."""
        if self.size == 1:
            return numbers.cpu()
        total = numbers.to(self.device)
        distributed.all_reduce(total)
        return total.cpu()

    def share(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers."""
        for buffer in module.buffers() if self.size > 1 else ():
            distributed.broadcast(buffer, 0)


def chosen(device: str) -> torch.device:
    """Choose the device of this process.

    Parameters
    ----------
    device
        "cpu", "cuda", or "auto": a GPU if there is one.

    Raises
    ------
    OptionError
        If a GPU is asked for and torch sees none.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise OptionError(
            "device='cuda', but torch sees no GPU; give device='cpu' or 'auto', or install torch for CUDA"
        )
    if device == "cpu" or not there:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())))


@contextmanager
def together(device: str, seed: int) -> Iterator[Processes]:
    """Join the other processes, if torchrun has started any, with torch's own random numbers seeded
    while inside.

    Raises
    ------
    OptionError
        If a GPU is asked for and there is none.
    """
    own = chosen(device)
    cuda = own.type == "cuda"
    with (
        torch.random.fork_rng([own.index] if cuda else []),
        torch.backends.cudnn.flags(benchmark=cuda),
    ):
        torch.manual_seed(seed)
        if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
            yield Processes(own)
            return
        if cuda:
            torch.cuda.set_device(own)
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
        try:
            yield Processes(own, distributed.get_rank(), distributed.get_world_size())
        finally:
            distributed.destroy_process_group()
