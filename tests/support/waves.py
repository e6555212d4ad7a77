# SPDX-License-Identifier: Apache-2.0
"""Travelling waves under square clouds, to train tiny networks on; as a program, one process of a
training.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sstfill.nn.compact import Compact
from sstfill.nn.generator import Generator
from sstfill.training.data.sample import Sample
from sstfill.training.loop import fit
from sstfill.training.options import TrainOptions
from sstfill.training.trained_network import TrainedNetwork


@dataclass(frozen=True)
class Waves:
    """A source of waves over `frames` frames of `size` pixels; the first column is land."""

    frames: int = 3
    size: int = 16
    samples: int = 8
    kill: tuple[int, int] | None = None
    """Epoch, and sequence in it, at which the process kills itself."""

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        for k in range(self.samples):
            if self.kill == (number, k):
                os.kill(os.getpid(), signal.SIGKILL)
            yield self.sample(rng)

    def validation(self) -> Iterator[Sample]:
        rng = np.random.default_rng(99)
        return (self.sample(rng) for _ in range(4))

    def sample(self, rng: np.random.Generator) -> Sample:
        t, y, x = np.mgrid[: self.frames, : self.size, : self.size]
        phase, slope = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
        truth = 0.2 + 0.3 * np.sin(np.pi * (x + slope * y + t) / self.size + phase)
        sea = x > 0
        known, seen, again = (self.clouds(rng) & sea for _ in range(3))
        return sample_of(truth, known & seen, known & ~seen, again, sea)

    def clouds(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a mask, True = seen: a third of it under small square clouds, each frame with its
        own.
        """
        blocks = rng.random((self.frames, -(-self.size // 3), -(-self.size // 3))) > 1 / 3
        return blocks.repeat(3, 1).repeat(3, 2)[:, : self.size, : self.size]


def sample_of(truth: Any, observed: Any, withheld: Any, again: Any, sea: Any) -> Sample:
    """Make a sequence of one channel of arrays t y x; the first guess is zero, its error 0.5."""
    masks = [
        torch.as_tensor(np.asarray(mask, bool))[None] for mask in (observed, withheld, again, sea)
    ]
    values = torch.where(
        masks[0] | masks[1], torch.as_tensor(truth, dtype=torch.float32)[None], 0.0
    )
    channels = torch.cat([torch.where(masks[0], values, 0.0), masks[0].float()])
    guess = torch.zeros_like(values)
    return Sample(values, *masks, channels, guess, torch.full_like(guess, 0.5))


def compact(drawing: int = 0) -> nn.Module:
    torch.manual_seed(0)
    return Compact(inputs=2, base=8, drawing=drawing)


def paper() -> nn.Module:
    torch.manual_seed(0)
    return Generator(base=1)


def small(**given: Any) -> TrainOptions:
    """Options of a training that takes a second."""
    usual: dict[str, Any] = {
        "frames": 3,
        "size": 16,
        "batch": 2,
        "samples": 8,
        "epochs": 2,
        "base": 8,
        "discriminator_base": 1,
        "learning_rate": 1e-2,
        "device": "cpu",
    }
    return TrainOptions(**(usual | given))


def train(
    out: Path | None, *, epochs: int = 3, kill: tuple[int, int] | None = None, resume: bool = False
) -> TrainedNetwork:
    """Train the paper's network adversarially too, so that all that has a state takes part."""
    options = small(
        network="paper",
        base=1,
        size=34,
        epochs=epochs,
        objective="withheld+adversarial",
        schedule="decay",
        save_minutes=0.0,
    )
    return fit(paper(), Waves(size=34, samples=4, kill=kill), options, out=out, resume=resume)


def weights(fitted: TrainedNetwork) -> dict[str, Tensor]:
    return fitted.network.state_dict()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    fitted = train(Path(sys.argv[1]), kill=(1, 3) if "kill" in sys.argv else None)
    sys.stdout.write(f"{[weight.double().sum().item() for weight in weights(fitted).values()]}")
