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
from report import ROOT, heading, publish, table
from scipy.ndimage import gaussian_filter

from sstfill import synthetic
from sstfill.fields.scaling import Scaling
from sstfill.nn.discriminator import GAIN
from sstfill.nn.generator import Generator
from sstfill.training.data.sample import Sample
from sstfill.training.loop import fit
from sstfill.training.options import TrainOptions

SEED = 3
STRIPES = {
    "network": "paper",
    "base": 2,
    "objective": "adversarial",
    "discriminator_base": 4,
    "frames": 6,
    "size": 33,
    "samples": 50,
    "epochs": 8,
    "patience": 99,
    "learning_rate": 3e-4,
    "schedule": "constant",
    "discriminator_rate": 2e-4,
    "discriminator_gain": 1.0,
    "discriminator_masks": False,
    "seed": SEED,
    "device": "cpu",
}
PIXEL = {"objective": "withheld", "beta1": 0.0, "beta2": 0.999, "weight_decay": 0.0}
GAINED = {"discriminator_gain": GAIN}
TOLD = GAINED | {"discriminator_masks": True}
FAST = {"learning_rate": 1e-3, "discriminator_rate": 1e-3}
TOYS: dict[str, dict[str, Any]] = {
    "gain, masks told": TOLD,
    "masks told": {"discriminator_masks": True},
    "gain": GAINED,
    "as the paper": {},
    "pixel loss": PIXEL | FAST,
    "pixel loss, c=2": PIXEL | FAST | {"fill": 2.0},
    "as the paper, rates 1e-3": FAST,
    "gain, rates 1e-3": GAINED | FAST,
    "gain, rates 1e-3, c=2": GAINED | FAST | {"fill": 2.0},
    "gain, rates 1e-3 and 4e-3": GAINED | FAST | {"discriminator_rate": 4e-3},
    "gain, rates 1e-3, 6 D steps": GAINED | FAST | {"discriminator_steps": 6},
    "gain, rates 2.5e-4 and 1e-3": GAINED | FAST | {"learning_rate": 2.5e-4},
}
"""Options that differ from `STRIPES`."""
OCEAN = STRIPES | {"base": 4, "discriminator_base": 8, "frames": 8, "size": 40, "epochs": 80}
OCEANS: dict[str, dict[str, Any]] = {"ocean, gain, masks told": TOLD, "ocean, as the paper": {}}
"""Options that differ from `OCEAN`."""
COVER = 0.4
IMAGES = 240


READING = """\
The paper's generator and objective at reduced width: adversarial only, no pixel of the truth, \
clouds of 40 %. MAE is over the occluded pixels of the validation, by the averaged weights, as a \
fraction of that of predicting the mean of what is seen of the sequence: **1 is knowing nothing**. \
Rates are those of the generator and of the discriminators where both are named; not named: 3e-4 \
and 2e-4. "Pixel loss" is the same generator told the hidden truth: what such a network can learn \
in so many steps at all.

![Curves](paper_gan.png)

"""
NOTES = """\
## What we found

First by a prototype of the same loop outside this repository (the stripes above, 96 of them, \
C_base 2, rates 3e-4 and 2e-4, one seed); MAE of the averaged weights over that of the mean:

| discriminators | after 100 steps | 200 | 400 | 1000 |
|---|---|---|---|---|
| gain 2.2, told the masks | 0.94 | 0.72 | 0.54 | 0.42 |
| gain 1, told the masks | 0.89 | 0.92 | 0.65 | |
| gain 2.2, not told | 1.32 | 0.93 | 0.91 | |
| none: absolute error to the hidden truth, rate 1e-3 | 0.54 | 0.50 (150) | | |

- **Discriminators must be told which pixels are occluded** (`discriminator_masks`), with \
differences of frames only where both are seen. Not told, they see an occluded pixel as a value \
that the generator can draw, and edges of clouds are the largest differences of frames.
- A new discriminator of eight spectrally normalised layers gives scores that differ by 0.0001 \
between any two sequences, at C_base 4, 8 and 32 alike; the hinge knows a margin of 1. Until that \
has grown, the generator follows noise at the full rate of Adam, and drifts: to the occluded \
value or away from it. A gain of 2.2 for each layer brings the spread to 0.05 and more. By itself \
it does not make a network learn in 400 steps.
- In five of the prototype's trials with rates of 1e-3 and 2e-3 for the discriminators D_s ended \
in one score for everything (gain or none, told or not); with 2e-4 and 5e-4 it never did.
- c = 2, beyond the range of the tanh, does not help: estimates drift up all the same.
- **Batches of four learn where batches of one do not.** On smaller toys still (33x33, C_base 2, \
c = 0, rates 5e-4 and 3e-4; tests/training/test_adversarial_learning.py), 150 steps of four \
sequences of two images, 31 s of CPU, bring a moving bar to 0.50, 0.46 and 0.51 of the error of \
the mean (three seeds), and a field that is -0.6 or +0.6 as a whole to 0.20, 0.45 and 0.73 of the \
error of 0, with the right sign in all of 32 sequences. In batches of one sequence of four images, \
300 to 350 steps, 33 to 45 s, the bar came to 0.49, 0.54 and 0.91 (at rates of 1e-3 and 5e-4: \
0.89), and nearly every field got the same mode at both pairs of rates. Perhaps because the \
statistics of batch normalisation then are those of a single mode; we have not looked.
- Statistics of batch normalisation are not to blame: MAE in training mode and in evaluation mode \
differ by some hundredths, by 0.2 at worst, either way.
- With `clouds=SyntheticClouds(...)` every second mask hides exactly its fraction, whereas windows \
of a cloudy archive hide 0.39 +- 0.13 (12x40x40): discriminators can tell real from fake by that \
alone. `clouds="own"`, the default, and this page draw both from the same clouds.
- A step of 8x40x40 at C_base 4 took 1.0 s of CPU, 0.96 s of it in the generator: torch leaves a \
convolution of one small clip to a kernel up to five times slower than oneDNN's. It takes 0.3 s \
now (`sstfill.nn.layers.resnet.FrameConvolution`).

On the ocean the network ends at 0.066 of three standard deviations. That is learning from clouds \
alone, and still poor: this ocean is so steady that linear interpolation in time errs by 0.018 °C \
(gan_ablation.md), some 0.03 of a standard deviation.

So "adversarial" is trained with gain and masks by default. `discriminator_gain = 1` and \
`discriminator_masks = false` are the paper's; the default rate, 1e-4 for both sides, still is its \
own and slower than the one used here.

Not measured: 24x64x64, more than one seed. The ordering of the paper's variants, c = 0, and \
what an archive no larger than a sequence does: [variants](paper_ordering.md). Trainings with \
fewer than 400 steps were interrupted, as was that on the ocean, whose error fell little after \
1300 steps; they go on where they stopped.
"""


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
    given = STRIPES | TOYS[name]
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


def page(folder: Path) -> None:
    """Write the page and its figure from the logs in a folder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = []
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    cases = (("Moving stripes", TOYS, STRIPES, Stripes), ("Synthetic ocean", OCEANS, OCEAN, Ocean))
    for (title, names, common, kind), axis in zip(cases, axes, strict=True):
        reference = level(kind(common["frames"], common["size"], 1, False).validation())
        rows: list[list[object]] = []
        for name in names:
            if not (folder / name / "log.csv").exists():
                continue
            history = log(folder, name)
            errors = [row["withheld_mae"] / reference for row in history]
            last = history[-1]
            lost = last.get("discriminator")
            steps = [row["steps"] for row in history]
            rows.append(
                [
                    name,
                    int(last["steps"]),
                    errors[-1],
                    min(errors),
                    last["withheld_bias"] / reference,
                    "" if lost is None else lost,
                ]
            )
            if "1e-3" not in name:
                axis.plot(steps, errors, label=name)
        axis.axhline(1, color="0.6", linewidth=1)
        axis.set(title=title, xlabel="steps", ylabel="MAE over that of the mean", ylim=(0, None))
        axis.legend(fontsize="small")
        sizes = "x".join(str(common[key]) for key in ("frames", "size", "size"))
        parts.append(
            f"## {title}, {sizes}, C_base {common['base']}, discriminators "
            f"{common['discriminator_base']}\n\n"
        )
        head = ["", "steps", "MAE, last", "MAE, least", "bias, last", "loss of D (of 4)"]
        parts.append(table(head, rows) + "\n")
    figure.savefig(ROOT / "docs" / "benchmarks" / "paper_gan.png", dpi=110)
    text = heading(
        "Does the paper's network learn from clouds alone?",
        seed=SEED,
        torch=torch.__version__,
        run="python benchmarks/paper_gan.py FOLDER [NAME ...]",
    )
    publish("paper_gan", text + READING + "".join(parts) + NOTES)


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, words = Path(sys.argv[1]), sys.argv[2:]
    for word in words:
        (bar if word in TOYS else ocean)(word, place)
    if not words:
        page(place)
