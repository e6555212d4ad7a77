# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says of its network and its training, whatever it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sstfill.methods.guesses import CHANNELS
from sstfill.training.options import TrainOptions

if TYPE_CHECKING:
    from sstfill.training.fitted import Fitted


def described(fitted: Fitted, options: TrainOptions) -> dict[str, Any]:
    """Describe a network and its training, in what JSON can hold; see `sstfill.checkpoint.Checkpoint`."""
    compact = options.network == "compact"
    size: dict[str, Any] = {"base": options.base}
    if compact:
        size = {"inputs": len(CHANNELS), "base": int(fitted.network.base)}  # type: ignore[arg-type]
    return {
        "network": {"name": options.network, "options": size},
        "channels": list(CHANNELS) if compact else None,
        "objective": options.objective,
        "trained": fitted.trained(),
        "scores": {name: value for name, value in fitted.best.items() if name.startswith("withheld_")},
    }
