# SPDX-License-Identifier: Apache-2.0
"""The description of a network and its training in a checkpoint, and how it is saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sstfill.methods.gan.network_inputs import CHANNELS
from sstfill.nn.checkpoint.checkpoint import Checkpoint

if TYPE_CHECKING:
    from sstfill.training.trained_network import TrainedNetwork


def model_card(trained: TrainedNetwork, network: str, options: dict[str, Any]) -> dict[str, Any]:
    """Describe a network of this name and these options, and its training, as JSON can hold it."""
    best = trained.best
    return {
        "network": {"name": network, "options": options},
        "channels": list(CHANNELS) if network == "compact" else None,
        "objective": trained.options.objective,
        "trained": trained.to_dict(),
        "scores": {name: best[name] for name in best if name.startswith("withheld_")},
    }


def save(checkpoint: Checkpoint, out: str | Path | None) -> None:
    """Save a checkpoint, if a folder is given; under torchrun the first process does it for all."""
    if out is not None and os.environ.get("RANK", "0") == "0":
        checkpoint.save(out)
