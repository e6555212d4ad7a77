# SPDX-License-Identifier: Apache-2.0
"""The paper's system, small, learns from clouds alone where the answer is known.

Nothing of what is hidden is told: no truth, no withheld pixel, no pixel term; discriminators
compare completed sequences under other clouds with observed ones. The bounds leave room: what was
measured over three seeds stands beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import waves
from numpy.typing import NDArray

from sstfill.nn.generator import Generator
from sstfill.training.data.sample import Sample
from sstfill.training.loop import fit
from sstfill.training.options import DISCRIMINATED_SIDE, TrainOptions

pytestmark = pytest.mark.slow

SIDE, FRAMES = DISCRIMINATED_SIDE, 2
LEVEL = 0.6
"""Of a mode, and of the bar; scaled units."""
CLOUDS, CLOUD = 4, 12
"""Square clouds of a sequence, and their edge: they hide some 40 %."""
EPOCHS, STEPS, BATCH = 6, 25, 4

Field = NDArray[np.floating]


def bar(rng: np.random.Generator) -> Field:
    """A bright bar, 16 of 33 pixels wide, that moves one pixel a frame, to the left or right."""
    start, velocity = rng.integers(SIDE), rng.choice([-1, 1])
    moved = np.arange(SIDE) - start - velocity * np.arange(FRAMES)[:, np.newaxis]
    away = np.abs((moved + SIDE / 2) % SIDE - SIDE / 2)
    row = LEVEL * np.tanh((8 - away) / 1.5)
    return np.broadcast_to(row[:, np.newaxis], (FRAMES, SIDE, SIDE))


def modes(rng: np.random.Generator) -> Field:
    """One of two fields, everywhere the same."""
    return np.full((FRAMES, SIDE, SIDE), rng.choice([-LEVEL, LEVEL]))


def clouds(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Squares that move one row a frame; True where seen."""
    seen = np.ones((FRAMES, SIDE, SIDE), bool)
    for y, x in rng.integers(0, SIDE - CLOUD + 1, (CLOUDS, 2)):
        for t in range(FRAMES):
            seen[t, y + t : y + t + CLOUD, x : x + CLOUD] = False
    return seen


@dataclass(frozen=True)
class Hidden:
    """A source of sequences of which the hidden part is known in the validation alone."""

    truth: Callable[[np.random.Generator], Field]

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        del number
        for _ in range(STEPS * BATCH):
            yield self.sample(rng, False)

    def validation(self) -> Iterator[Sample]:
        rng = np.random.default_rng(99)
        return (self.sample(rng, True) for _ in range(8))

    def sample(self, rng: np.random.Generator, known: bool) -> Sample:
        truth, seen, again = self.truth(rng), clouds(rng), clouds(rng)
        return waves.sample_of(truth.copy(), seen, ~seen & known, again, np.ones_like(seen))


def learned(truth: Callable[[np.random.Generator], Field], seed: int = 0) -> Iterator[Field]:
    """Train, and yield of further sequences the estimate, the truth and the mean of what is seen,
    where it is hidden.
    """
    torch.set_num_threads(1)
    options = TrainOptions(
        network="paper",
        base=2,
        objective="adversarial",
        discriminator_base=4,
        occluded_value=0.0,
        frames=FRAMES,
        size=SIDE,
        batch=BATCH,
        samples=STEPS * BATCH,
        epochs=EPOCHS,
        patience=EPOCHS,
        learning_rate=5e-4,
        schedule="constant",
        discriminator_rate=3e-4,
        ema=0.99,
        seed=seed,
        device="cpu",
    )
    torch.manual_seed(seed)
    source = Hidden(truth)
    fitted = fit(Generator(base=2, fill=0.0), source, options)
    rng = np.random.default_rng(7)
    for _ in range(32):
        sample = source.sample(rng, True)
        with torch.no_grad():
            estimate = fitted.network.estimate(sample.values[None], sample.observed[None])[0]
        known = sample.values[sample.withheld].numpy()
        mean = float(sample.values[sample.observed].mean())
        yield np.stack([estimate[sample.withheld].numpy(), known, np.full_like(known, mean)])


def test_a_moving_bar_is_completed_from_clouds_alone() -> None:
    estimate, truth, mean = np.concatenate(list(learned(bar)), axis=1)
    # measured: 0.50, 0.46 and 0.51 of the error of the mean
    assert np.abs(estimate - truth).mean() < 0.7 * np.abs(mean - truth).mean()


def test_hidden_pixels_get_the_mode_that_is_seen() -> None:
    sequences = list(learned(modes))
    # 0 is both the mean of the two modes and the value that the network sees under clouds
    means = np.array([[estimate.mean(), truth.mean()] for estimate, truth, _ in sequences])
    assert (np.sign(means[:, 0]) == np.sign(means[:, 1])).mean() > 0.9
    estimate, truth, _ = np.concatenate(sequences, axis=1)
    # measured: 0.20, 0.45 and 0.73 of the error of 0, with the right sign in all of 32 sequences
    assert np.abs(estimate - truth).mean() < 0.9 * LEVEL
