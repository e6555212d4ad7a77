# SPDX-License-Identifier: Apache-2.0
"""Training sequences from a cloudy archive: what it shows is hidden under more clouds, to be
restored.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields.scaling import Scaling
from sstfill.occlusion import Occlusion
from sstfill.progress import track
from sstfill.training.data import cache as bank
from sstfill.training.data.chunk_buffer import shuffled
from sstfill.training.data.cloud_slabs import operators
from sstfill.training.data.sample import Sample
from sstfill.training.data.windows import TrainingWindow, TrainingWindows, large, withheld

VALIDATED = 8
"""Sequences to validate on."""
TRIES = 20
Masks = tuple[NDArray[np.bool_], NDArray[np.bool_]]


@dataclass(frozen=True)
class ArchivePart:
    """Windows, and clouds to lay over them that are not those of the other part."""

    windows: TrainingWindows
    clouds: Occlusion

    def drawn(
        self, rng: np.random.Generator
    ) -> Generator[tuple[TrainingWindow, ArchivePart, np.random.Generator], None, None]:
        """Draw windows without end, each with what occludes it and random numbers of its own.

        Those of an archive too large for memory come from slabs of it: see
        `sstfill.training.data.chunk_buffer`.
        """
        places, masked = rng.spawn(2)  # which leaves `rng` as it is
        with (
            closing(operators(self.clouds, self.windows.shape, masked)) as clouds,
            ExitStack() as reading,
        ):
            slabs = (
                reading.enter_context(closing(shuffled(self.windows, places)))
                if large(self.windows.obs)
                else None
            )
            for occlusion in clouds:
                own = np.random.default_rng(rng.integers(2**63))
                yield (
                    next(slabs) if slabs else self.windows.draw(own),
                    replace(self, clouds=occlusion),
                    own,
                )

    def held(self, rng: np.random.Generator) -> ArchivePart:
        """Return it with some clouds in memory, if all are too many."""
        with closing(operators(self.clouds, self.windows.shape, rng)) as clouds:
            return replace(self, clouds=next(clouds))

    def again(self, judged: bool, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Draw what occludes a completed sequence once more: nothing if it is not `judged`, or the
        truth is at hand.
        """
        shape = self.windows.shape
        return (
            self.clouds.draw(shape, rng)
            if judged and self.windows.truth is None
            else np.ones(shape, bool)
        )


@dataclass(frozen=True)
class PaperSource:
    """Sequences for the paper's networks, drawn anew each time.

    Attributes
    ----------
    training, validated
        What they are drawn from.
    scaling
        From observed values of the training block.
    samples
        Sequences of an epoch.
    hidden
        Whether pixels are withheld from the network in training.
    judged
        Whether discriminators see the completed sequences, which are occluded once more for them.
    seed
        Of the validation.
    """

    training: ArchivePart
    validated: ArchivePart
    scaling: Scaling
    samples: int
    hidden: bool
    judged: bool
    seed: int

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Give random sequences."""
        del number
        with closing(self.training.drawn(rng)) as drawn:
            for window, part, own in islice(drawn, self.samples):
                yield self._sample(window, part, self.hidden, own)

    def validation(self) -> Iterator[Sample]:
        """Give the same sequences each time."""
        for k in range(VALIDATED):
            own = np.random.default_rng([self.seed, 1, k])
            yield self._sample(
                self.validated.windows.draw(own), self.validated.held(own), True, own
            )

    def _sample(
        self, window: TrainingWindow, part: ArchivePart, hidden: bool, rng: np.random.Generator
    ) -> Sample:
        observed, out = masks(window, part, hidden, rng)
        scaled = self.scaling.apply(known(window, observed, out))
        values = np.nan_to_num(scaled).astype(np.float32)
        again = part.again(self.judged, rng)
        sea = np.broadcast_to(window.sea.values.astype(bool), values.shape)
        nothing = np.zeros((0, *values.shape), np.float32)
        zeros = np.zeros_like(values)[np.newaxis]
        arrays = (
            *(a[np.newaxis] for a in (values, observed, out, again, sea)),
            nothing,
            zeros,
            zeros,
        )
        return Sample(*(torch.from_numpy(np.array(a, order="C")) for a in arrays))


def masks(
    window: TrainingWindow, part: ArchivePart, hidden: bool, rng: np.random.Generator
) -> Masks:
    """What the network sees, and what is withheld from it: with the truth at hand all that is not
    observed.
    """
    seen, shape = np.isfinite(window.obs.values), part.windows.shape
    if window.truth is not None:
        wet = np.broadcast_to(window.sea.values.astype(bool), shape) & np.isfinite(
            window.truth.values
        )
        observed = seen & wet if not seen[wet].all() else wet & part.clouds.draw(shape, rng)
        return observed, wet & ~observed
    out = np.zeros(shape, bool)
    for _ in range(TRIES if hidden else 0):
        out = withheld(seen, part.clouds.draw(shape, rng))
        if out.any():
            break
    return seen & ~out, out


def known(
    window: TrainingWindow, observed: NDArray[np.bool_], out: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """What the trainer knows: what was observed, and under the mask the truth where it is at hand;
    NaN elsewhere.
    """
    hidden = window.obs if window.truth is None else window.truth
    return np.where(observed, window.obs.values, np.where(out, hidden.values, np.nan))


@dataclass(frozen=True)
class GuessedSource:
    """Sequences for the compact network, with first guesses that are worked out once and kept in a
    folder.

    Attributes
    ----------
    training, validated, samples, judged, seed
        As for `PaperSource`.
    clips
        Sequences to train on; each epoch turns and mirrors them anew.
    folder
        Where they are kept.
    """

    training: ArchivePart
    validated: ArchivePart
    samples: int
    clips: int
    judged: bool
    folder: Path
    seed: int

    def prepare(self) -> None:
        """Work out all sequences that are not there yet."""
        names = [("validation", k) for k in range(VALIDATED)] + [
            ("training", k) for k in range(self.clips)
        ]
        for name, k in track(names, "first guesses"):
            if not self._file(name, k).exists():
                self._make(name, k)

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Give kept sequences at random, turned and mirrored."""
        del number
        (masked,) = rng.spawn(1)
        with closing(
            operators(self.training.clouds, self.training.windows.shape, masked)
        ) as clouds:
            for k in rng.choice(self.clips, self.samples):
                own = np.random.default_rng(rng.integers(2**63))
                found = bank.sample(bank.turned(self._arrays("training", int(k)), own))
                part = replace(self.training, clouds=next(clouds)) if self.judged else self.training
                again = np.ascontiguousarray(part.again(self.judged, own))
                yield found._replace(again=torch.from_numpy(again)[np.newaxis])

    def validation(self) -> Iterator[Sample]:
        """Give the same sequences each time; the first time, all are worked out."""
        self.prepare()
        for k in range(VALIDATED):
            yield bank.sample(self._arrays("validation", k))

    def traits(self) -> list[list[float]]:
        """Range of each trait over the training sequences."""
        rows = np.array([self._arrays("training", k)["traits"] for k in range(self.clips)])
        return np.stack([rows.min(0), rows.max(0)], 1).tolist()

    def _arrays(self, name: str, k: int) -> dict[str, NDArray]:
        file = self._file(name, k)
        if not file.exists():
            self._make(name, k)
        return bank.read(file)

    def _make(self, name: str, k: int) -> None:
        rng = np.random.default_rng([self.seed, 2, name == "training", k])
        part = (self.training if name == "training" else self.validated).held(rng)
        for _ in range(TRIES):
            window = part.windows.draw(rng)
            observed, out = masks(window, part, True, rng)
            if observed.any() and out.any():
                break
        else:
            raise InputError(
                "clouds of other dates hide nothing of what is observed; name an operator as clouds="
            )
        obs = window.obs.copy(data=np.where(observed, window.obs.values, np.nan))
        arrays = bank.compute_inputs(obs, known(window, observed, out), window.sea, self.seed + k)
        bank.write(self._file(name, k), arrays)

    def _file(self, name: str, k: int) -> Path:
        return self.folder / name / f"{k}.npz"
