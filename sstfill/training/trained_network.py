# SPDX-License-Identifier: Apache-2.0
"""The result of a training: a network, its history, and which epoch was the best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from sstfill import config
from sstfill.methods.gan.network_inputs import CHANNELS
from sstfill.training.log import Row
from sstfill.training.options import TrainOptions

CHOOSING = ("withheld_draws", "withheld_crps", "withheld_mae")
"""Scores by which the best epoch is chosen: by the first that all have. Of draws the estimate does
not change, so that its error cannot choose among epochs."""


@dataclass(frozen=True)
class TrainedNetwork:
    """The result of a training.

    Attributes
    ----------
    network
        With the averaged weights that scored best; on the CPU, in evaluation mode.
    history
        A row for each epoch, see `sstfill.training.log.Row`.
    steps, seconds, device
        Batches in all, time in all, where.
    stopped
        Why training ended, in words.
    options
        As given.
    """

    network: nn.Module
    history: tuple[Row, ...]
    steps: int
    seconds: float
    device: str
    stopped: str
    options: TrainOptions

    @property
    def best(self) -> Row:
        """The row of the epoch whose weights these are."""
        return best_row(self.history)

    def card(self, network: str, options: dict[str, Any]) -> dict[str, Any]:
        """Describe a network of this name and these options, and its training, for a checkpoint."""
        return {
            "network": {"name": network, "options": options},
            "channels": list(CHANNELS) if network == "compact" else None,
            "objective": self.options.objective,
            "trained": self.to_dict(),
            "scores": {name: self.best[name] for name in self.best if name.startswith("withheld_")},
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all but the weights, as JSON can hold it: for a checkpoint."""
        return config.plain(
            {
                "options": config.options(self.options),
                "steps": self.steps,
                "seconds": self.seconds,
                "device": self.device,
                "stopped": self.stopped,
                "best_epoch": self.best["epoch"],
                "history": self.history,
            }
        )


def best_row(history: Iterable[Row]) -> Row:
    """Return the row with the least error, of a network that draws the least score of its draws.

    It is the first of equals; NaN is the worst. Rows of a training that an earlier version began
    lack the score that draws are trained by: all are compared by one that each of them has.

    >>> rows = [{"withheld_mae": 0.1, "withheld_crps": 0.07}, {"withheld_mae": 0.1}]
    >>> rows[1] |= {"withheld_crps": 0.06, "withheld_draws": 0.5}
    >>> best_row(rows) is rows[1]
    True
    """
    rows = list(history)
    name = next(score for score in CHOOSING if all(score in row for row in rows))

    def error(row: Row) -> float:
        score: float = row[name]
        return math.inf if math.isnan(score) else score

    return min(rows, key=error)
