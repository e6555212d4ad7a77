# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says of its network and its training, whatever it was trained on; and its
saving.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sstfill.methods.gan.network_inputs import CHANNELS
from sstfill.nn.checkpoint.checkpoint import Checkpoint

if TYPE_CHECKING:
    from sstfill.training.fitted import TrainedNetwork


def described(fitted: TrainedNetwork, network: str, options: dict[str, Any]) -> dict[str, Any]:
    """Describe a network, of that name and with those options, and its training, in what JSON can
    hold.
    """
    return {
        "network": {"name": network, "options": options},
        "channels": list(CHANNELS) if network == "compact" else None,
        "objective": fitted.options.objective,
        "trained": fitted.trained(),
        "scores": {
            name: value for name, value in fitted.best.items() if name.startswith("withheld_")
        },
    }


def save(checkpoint: Checkpoint, out: str | Path | None) -> None:
    """Save a checkpoint where a folder is given; of several processes under torchrun the first does
    it for all.
    """
    if out is not None and os.environ.get("RANK", "0") == "0":
        checkpoint.save(out)
