# SPDX-License-Identifier: Apache-2.0
"""Does the paper's network learn from clouds alone? On moving stripes, and on the synthetic ocean.

Each training is kept in a folder and goes on where it was interrupted; the page
docs/benchmarks/paper_gan.md is written from what is there.

Run: OMP_NUM_THREADS=1 python benchmarks/paper_gan.py FOLDER [NAME ...], names of `TOYS` and
`OCEANS`; without one the page is written.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sstfill import synthetic
from sstfill.fields.scaling import Scaling
from sstfill.nn.discriminator import GAIN
from sstfill.nn.generator import Generator
from sstfill.training.data.sample import Sample
from sstfill.training.loop import fit
from sstfill.training.options import TrainOptions

SEED = 3
BAR = {
    "network": "paper",
    "base": 2,
    "objective": "adversarial",
    "discriminator_base": 4,
    "frames": 6,
    "size": 33,
    "samples": 50,
    "epochs": 8,
    "patience": 99,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "seed": SEED,
    "device": "cpu",
}
TOYS: dict[str, dict[str, Any]] = {
    "pixel": {"objective": "withheld", "beta1": 0.0, "beta2": 0.999, "weight_decay": 0.0},
    "gain": {"discriminator_gain": GAIN},
    "paper": {},
    "gain, c=2": {"discriminator_gain": GAIN, "fill": 2.0},
    "gain, D 4x": {"discriminator_gain": GAIN, "discriminator_rate": 4e-3},
    "gain, D steps 6": {"discriminator_gain": GAIN, "discriminator_steps": 6},
    "gain, G 1/4": {
        "discriminator_gain": GAIN,
        "learning_rate": 2.5e-4,
        "discriminator_rate": 1e-3,
    },
    "pixel, c=2": {
        "objective": "withheld",
        "beta1": 0.0,
        "beta2": 0.999,
        "weight_decay": 0.0,
        "fill": 2.0,
    },
}
"""Options that differ from `BAR`."""
OCEAN = BAR | {
    "base": 4,
    "discriminator_base": 8,
    "frames": 16,
    "size": 48,
    "epochs": 80,
    "schedule": "cosine",
}
OCEANS: dict[str, dict[str, Any]] = {"ocean-gain": {"discriminator_gain": GAIN}, "ocean-paper": {}}
"""Options that differ from `OCEAN`."""
COVER = 0.4
IMAGES = 240


@dataclass(frozen=True)
class Stripes:
    """Waves of one length and direction a sequence, under drifting clouds; a source of sequences.

    `known`: the hidden pixels are withheld ones, as a pixel loss needs; otherwise nothing of them
    is known in training.
    """

    frames: int
    size: int
    samples: int
    known: bool

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        del number
        for _ in range(self.samples):
            yield self.sample(rng, self.known)

    def validation(self) -> Iterator[Sample]:
        rng = np.random.default_rng(99)
        return (self.sample(rng, True) for _ in range(8))

    def sample(self, rng: np.random.Generator, known: bool) -> Sample:
        """Draw a sequence."""
        t = np.arange(self.frames)[:, np.newaxis, np.newaxis]
        y, x = np.mgrid[: self.size, : self.size]
        angle, length, speed = rng.uniform((0, 17, 0.5), (2 * np.pi, 34, 1.5))
        along = np.cos(angle) * x + np.sin(angle) * y - speed * t  # t y x
        truth = 0.6 * np.sin(2 * np.pi * (along / length + rng.uniform()))
        seen, again = self.clouds(rng), self.clouds(rng)
        withheld = ~seen & known
        masks = [torch.from_numpy(mask[np.newaxis]) for mask in (seen, withheld, again)]
        values = torch.from_numpy(np.where(seen | withheld, truth, 0).astype("f4")[np.newaxis])
        zero = torch.zeros_like(values)
        return Sample(values, *masks, torch.ones_like(masks[0]), zero[:0], zero, zero)

    def clouds(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Draw a mask, True = seen."""
        shape = (self.frames + 8, self.size + 24, self.size + 24)
        field = gaussian_filter(rng.standard_normal(shape), (1.2, 2.5, 2.5))[4:-4]
        drift = rng.uniform(-1.5, 1.5, 2)
        frames = []
        for t, frame in enumerate(field):
            moved = np.roll(frame, np.rint(drift * t).astype(int), (0, 1))
            frames.append(moved[12:-12, 12:-12])
        deck = np.stack(frames)
        cover = np.clip(COVER + 0.08 * rng.standard_normal(), 0.1, 0.8)
        return deck < np.quantile(deck, 1 - cover)


@dataclass(frozen=True)
class Ocean:
    """Windows of one synthetic ocean under clouds of 40 %; validated on its last fifth."""

    frames: int
    size: int
    samples: int
    known: bool

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        del number
        block = slice(0, int(0.8 * IMAGES))
        for _ in range(self.samples):
            yield self.sample(rng, block, self.known)

    def validation(self) -> Iterator[Sample]:
        rng = np.random.default_rng(99)
        block = slice(int(0.8 * IMAGES) + self.frames, IMAGES)
        return (self.sample(rng, block, True) for _ in range(8))

    def sample(self, rng: np.random.Generator, block: slice, known: bool) -> Sample:
        """Draw a window of a block of time, and a window of its clouds as second mask."""
        truth, cloudy = self.archive
        place, other = self.place(rng, block), self.place(rng, block)
        seen, again = ~cloudy[place], ~cloudy[other]
        withheld = ~seen & known
        masks = [torch.from_numpy(mask[np.newaxis].copy()) for mask in (seen, withheld, again)]
        values = torch.from_numpy(np.where(seen | withheld, truth[place], 0)[np.newaxis])
        zero = torch.zeros_like(values)
        return Sample(values, *masks, torch.ones_like(masks[0]), zero[:0], zero, zero)

    def place(self, rng: np.random.Generator, block: slice) -> tuple[slice, slice, slice]:
        """Draw a window."""
        t = int(rng.integers(block.start, block.stop - self.frames + 1))
        y, x = rng.integers(0, 64 - self.size + 1, 2)
        return slice(t, t + self.frames), slice(y, y + self.size), slice(x, x + self.size)

    @cached_property
    def archive(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The truth, scaled by what is observed of it, and the clouds; both t y x."""
        shape = (IMAGES, 64, 64)
        truth = synthetic.sst(shape=shape, step="6h", seed=SEED).values
        cloudy = synthetic.clouds(shape=shape, fraction=COVER, step="6h", seed=SEED).values
        scaling = Scaling.fit(np.where(cloudy, np.nan, truth))
        return scaling.apply(truth).astype("f4"), cloudy


def level(samples: Iterator[Sample]) -> float:
    """MAE at withheld pixels of predicting the mean of what is seen of the sequence."""
    errors = []
    for sample in samples:
        mean = sample.values[sample.observed].mean()
        errors.append((sample.values[sample.withheld] - mean).abs())
    return float(torch.cat(errors).mean())


def bar(name: str, folder: Path) -> None:
    """Train on moving stripes, or train on."""
    given = BAR | TOYS[name]
    c = given.pop("fill", 1.0)
    options = TrainOptions(**given)
    torch.manual_seed(SEED)
    network = Generator(base=options.base, fill=c)
    source = Stripes(options.frames, options.size, options.samples, options.needs_withheld)
    fit(network, source, options, out=folder / name, resume=True)


def ocean(name: str, folder: Path) -> None:
    """Train on the synthetic ocean, or train on."""
    options = TrainOptions(**(OCEAN | OCEANS[name]))
    torch.manual_seed(SEED)
    network = Generator(base=options.base)
    source = Ocean(options.frames, options.size, options.samples, options.needs_withheld)
    fit(network, source, options, out=folder / name, resume=True)


def log(folder: Path, name: str) -> list[dict[str, float]]:
    """Rows of a training's log."""
    with (folder / name / "log.csv").open() as stream:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    for word in sys.argv[2:]:
        (bar if word in TOYS else ocean)(word, place)
