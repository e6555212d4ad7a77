# SPDX-License-Identifier: Apache-2.0
"""Training sequences from a cloudy archive: observed pixels are hidden under more clouds."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sstfill.errors import InputError
from sstfill.fields.scaling import Scaling, SequenceScaling
from sstfill.occlusion import Occlusion
from sstfill.progress import track
from sstfill.training.data import cache
from sstfill.training.data.chunk_buffer import shuffled_windows
from sstfill.training.data.cloud_buffer import cloud_operators
from sstfill.training.data.sample import Sample
from sstfill.training.data.windows import TrainingWindow, TrainingWindows, withhold

TRIES = 20
"""Masks drawn until one hides something."""
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ArchivePart:
    """The windows for training or for validation, and the clouds to lay over them."""

    windows: TrainingWindows
    clouds: Occlusion

    def draw(
        self, rng: np.random.Generator
    ) -> Generator[tuple[TrainingWindow, ArchivePart, np.random.Generator], None, None]:
        """Yield windows without end, each with its clouds and a random generator of its own.

        Windows of an archive too large for memory come from a shuffle buffer: see
        `sstfill.training.data.chunk_buffer`.
        """
        places, masks = rng.spawn(2)  # which leaves `rng` as it is
        with ExitStack() as opened:
            operators = self.cloud_operators(masks)
            opened.enter_context(closing(operators))
            buffer = None
            if not self.windows.limits.allow(self.windows.obs):
                buffer = shuffled_windows(self.windows, places)
                opened.enter_context(closing(buffer))
            for operator in operators:
                # a generator for each sequence, so that what one draws does not shift the next
                own = np.random.default_rng(rng.integers(2**63))
                window = next(buffer) if buffer else self.windows.draw(own)
                yield window, replace(self, clouds=operator), own

    def cloud_operators(self, rng: np.random.Generator) -> Generator[Occlusion, None, None]:
        """Yield the operator for each mask, without end."""
        return cloud_operators(self.clouds, self.windows.shape, rng, self.windows.limits)

    def with_some_clouds(self, rng: np.random.Generator) -> ArchivePart:
        """Return it with part of the clouds in memory, if all are too many."""
        with closing(self.cloud_operators(rng)) as operators:
            return replace(self, clouds=next(operators))

    def second_mask(self, adversarial: bool, rng: np.random.Generator) -> Bools:
        """Draw the mask under which discriminators see a completed sequence.

        It hides nothing without discriminators, or where the truth is known.
        """
        shape = self.windows.shape
        if adversarial and self.windows.truth is None:
            return self.clouds.draw(shape, rng)
        # With the truth at hand true sequences are compared with completed ones, without occlusion.
        return np.ones(shape, bool)


@dataclass(frozen=True)
class PaperSource:
    """Sequences for the paper's networks, drawn again for each epoch.

    Attributes
    ----------
    training_part, validation_part
        What they are drawn from.
    scaling
        From observed values of the training block; one of each sequence, by what the network sees
        of it.
    samples
        Sequences of an epoch.
    validated
        Sequences to validate on.
    needs_withheld
        Whether pixels are withheld from the network in training.
    adversarial
        Whether discriminators see the completed sequences, under a second mask.
    seed
        Of the validation.
    augment
        Whether sequences are turned and mirrored at random in training.
    """

    training_part: ArchivePart
    validation_part: ArchivePart
    scaling: Scaling | SequenceScaling
    samples: int
    validated: int
    needs_withheld: bool
    adversarial: bool
    seed: int
    augment: bool = False

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Yield random sequences."""
        del number
        with closing(self.training_part.draw(rng)) as drawn:
            for window, part, own in islice(drawn, self.samples):
                sample = self._sample(window, part, self.needs_withheld, own)
                yield turned(sample, own) if self.augment else sample

    def validation(self) -> Iterator[Sample]:
        """Yield the same sequences each time."""
        for k in range(self.validated):
            # a generator for each sequence: the same one, whatever was drawn before
            own = np.random.default_rng([self.seed, 1, k])
            window = self.validation_part.windows.draw(own)
            part = self.validation_part.with_some_clouds(own)
            yield self._sample(window, part, True, own)

    def _sample(
        self,
        window: TrainingWindow,
        part: ArchivePart,
        needs_withheld: bool,
        rng: np.random.Generator,
    ) -> Sample:
        observed, withheld = split_observed(window, part, needs_withheld, rng)
        # as in a fill, where the network's observations are all there is
        scaling = self.scaling.of_sequence(np.where(observed, window.obs.values, np.nan))
        scaled = scaling.apply(known_values(window, observed, withheld))
        # NaN times 0 is NaN: masks alone would not keep it out of the sums
        values = np.nan_to_num(scaled).astype(np.float32)
        second_mask = part.second_mask(self.adversarial, rng)
        sea = np.broadcast_to(window.sea.values.astype(bool), values.shape)
        # the paper's networks have neither channels nor a first guess
        return Sample(
            values=_tensor(values),
            observed=_tensor(observed),
            withheld=_tensor(withheld),
            second_mask=_tensor(second_mask),
            sea=_tensor(sea),
            channels=torch.zeros((0, *values.shape)),
            guess=torch.zeros((1, *values.shape)),
            error=torch.zeros((1, *values.shape)),
        )


def turned(sample: Sample, rng: np.random.Generator) -> Sample:
    """Turn a square sequence by quarters and mirror it, with all its masks, at random."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    parts = [torch.rot90(part, turns, (-2, -1)) for part in sample]
    if mirror:
        parts = [part.transpose(-2, -1) for part in parts]
    return Sample._make(parts)


def _tensor(array: NDArray) -> Tensor:
    """Copy t y x to a tensor c t y x."""
    return torch.from_numpy(np.array(array[np.newaxis], order="C"))


def split_observed(
    window: TrainingWindow, part: ArchivePart, needs_withheld: bool, rng: np.random.Generator
) -> tuple[Bools, Bools]:
    """Choose what the network sees and what is withheld from it.

    Where the truth is known, all that is not observed is withheld.
    """
    seen, shape = np.isfinite(window.obs.values), part.windows.shape
    if window.truth is not None:
        at_sea = np.broadcast_to(window.sea.values.astype(bool), shape)
        known = at_sea & np.isfinite(window.truth.values)
        observed = seen & known
        if seen[known].all():  # without gaps of its own
            observed = known & part.clouds.draw(shape, rng)
        return observed, known & ~observed
    withheld = np.zeros(shape, bool)
    if needs_withheld:
        for _ in range(TRIES):  # a mask may hide nothing of what is observed here
            withheld = withhold(seen, part.clouds.draw(shape, rng))
            if withheld.any():
                break
    return seen & ~withheld, withheld


def known_values(window: TrainingWindow, observed: Bools, withheld: Bools) -> NDArray[np.floating]:
    """Return what the trainer knows, NaN elsewhere: observed values and, where withheld, the truth.

    Where no truth is given the withheld values are the observations.
    """
    # Observed values stay as they were observed, noise included, also where the truth is known.
    target = window.obs if window.truth is None else window.truth
    values = np.where(withheld, target.values, np.nan)
    return np.where(observed, window.obs.values, values)


@dataclass(frozen=True)
class FirstGuessSource:
    """Sequences for the compact network; their first guesses are computed once and kept on disk.

    Attributes
    ----------
    training_part, validation_part, samples, validated, adversarial, seed
        As for `PaperSource`.
    clips
        Sequences to train on; each epoch rotates and mirrors them at random.
    folder
        Where they are kept.
    """

    training_part: ArchivePart
    validation_part: ArchivePart
    samples: int
    clips: int
    validated: int
    adversarial: bool
    folder: Path
    seed: int

    def prepare(self, rank: int = 0, processes: int = 1) -> None:
        """Make the sequences that are not there yet; see `PreparedSource`."""
        clips = [("validation", k) for k in range(self.validated)]
        clips += [("training", k) for k in range(self.clips)]
        for name, k in track(clips[rank::processes], "first guesses"):
            if not self._file(name, k).exists():
                self._make(name, k)

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Yield kept sequences at random, rotated and mirrored."""
        del number
        part = self.training_part
        (masks,) = rng.spawn(1)
        with closing(part.cloud_operators(masks)) as operators:
            # with replacement: there may be fewer clips than sequences of an epoch
            for k in rng.choice(self.clips, self.samples):
                own = np.random.default_rng(rng.integers(2**63))
                sample = cache.to_sample(cache.augment(self._arrays("training", int(k)), own))
                if self.adversarial:
                    part = replace(part, clouds=next(operators))
                second_mask = part.second_mask(self.adversarial, own)
                yield sample._replace(second_mask=_tensor(second_mask))

    def validation(self) -> Iterator[Sample]:
        """Yield the same sequences each time; the first time, all sequences are made."""
        self.prepare()
        for k in range(self.validated):
            yield cache.to_sample(self._arrays("validation", k))

    def traits(self) -> list[list[float]]:
        """Range of each trait over the training sequences."""
        # Of the training alone: outside these ranges a network has not been tried.
        rows = np.array([self._arrays("training", k)["traits"] for k in range(self.clips)])
        return np.stack([rows.min(0), rows.max(0)], 1).tolist()

    def _arrays(self, name: str, k: int) -> cache.Arrays:
        file = self._file(name, k)
        if not file.exists():
            self._make(name, k)
        return cache.read(file)

    def _make(self, name: str, k: int) -> None:
        # by its number, so that each process can make any of them alone
        rng = np.random.default_rng([self.seed, 2, name == "training", k])
        whole = self.training_part if name == "training" else self.validation_part
        part = whole.with_some_clouds(rng)
        for _ in range(TRIES):
            window = part.windows.draw(rng)
            observed, withheld = split_observed(window, part, True, rng)
            if observed.any() and withheld.any():
                break
        else:
            raise InputError(
                "clouds of other dates hide nothing of what is observed; "
                "name an operator as clouds="
            )
        obs = window.obs.copy(data=np.where(observed, window.obs.values, np.nan))
        known = known_values(window, observed, withheld)
        arrays = cache.compute_inputs(obs, known, window.sea, self.seed + k)
        cache.write(self._file(name, k), arrays)

    def _file(self, name: str, k: int) -> Path:
        return self.folder / name / f"{k}.npz"
