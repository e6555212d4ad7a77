# SPDX-License-Identifier: Apache-2.0
"""Training sequences from a cloudy archive: what it shows is hidden under more clouds, to be restored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.occlusion import Occlusion
from sstfill.progress import track
from sstfill.scaling import Scaling
from sstfill.training import bank
from sstfill.training.sample import Sample
from sstfill.training.windows import Window, Windows, withheld

VALIDATED = 8
"""Sequences to validate on."""
TRIES = 20
Masks = tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]


@dataclass(frozen=True)
class Part:
    """Windows, and clouds to lay over them that are not those of the other part."""

    windows: Windows
    clouds: Occlusion


@dataclass(frozen=True)
class PaperSource:
    """Sequences for the paper's networks, drawn anew each time.

    Attributes
    ----------
    training, validation
        What they are drawn from.
    scaling
        From observed values of the training block.
    samples
        Sequences of an epoch.
    hidden
        Whether pixels are withheld from the network in training.
    seed
        Of the validation.
    """

    training: Part
    validated: Part
    scaling: Scaling
    samples: int
    hidden: bool
    seed: int

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Give random sequences."""
        del number
        for _ in range(self.samples):
            yield self._sample(self.training, self.hidden, np.random.default_rng(rng.integers(2**63)))

    def validation(self) -> Iterator[Sample]:
        """Give the same sequences each time."""
        for k in range(VALIDATED):
            yield self._sample(self.validated, True, np.random.default_rng([self.seed, 1, k]))

    def _sample(self, part: Part, hidden: bool, rng: np.random.Generator) -> Sample:
        window = part.windows.draw(rng)
        observed, out, again = masks(window, part.clouds, hidden, rng)
        field = window.obs if window.truth is None else window.truth
        known = observed | out
        values = np.where(known, self.scaling.apply(field.values), 0.0).astype(np.float32)
        sea = np.broadcast_to(window.sea.values.astype(bool), values.shape)
        nothing = np.zeros((0, *values.shape), np.float32)
        zeros = np.zeros_like(values)[np.newaxis]
        arrays = (*(a[np.newaxis] for a in (values, observed, out, again, sea)), nothing, zeros, zeros)
        return Sample(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))


def masks(window: Window, clouds: Occlusion, hidden: bool, rng: np.random.Generator) -> Masks:
    """What the network sees, what is withheld from it, and a mask to occlude the completed sequence with.

    With the truth at hand, all that is not observed is withheld, and the completed sequence is not occluded again.
    """
    shape = window.obs.shape
    seen = np.isfinite(window.obs.values)
    if window.truth is not None:
        wet = np.broadcast_to(window.sea.values.astype(bool), shape) & np.isfinite(window.truth.values)
        observed = seen & wet if not seen[wet].all() else wet & clouds.draw(shape, rng)
        return observed, wet & ~observed, np.ones(shape, bool)
    out = np.zeros(shape, bool)
    for _ in range(TRIES if hidden else 0):
        out = withheld(seen, clouds.draw(shape, rng))
        if out.any():
            break
    return seen & ~out, out, clouds.draw(shape, rng)


@dataclass(frozen=True)
class GuessedSource:
    """Sequences for the compact network, with first guesses that are worked out once and kept in a folder.

    Attributes
    ----------
    training, validated, samples, seed
        As for `PaperSource`.
    clips
        Sequences to train on; each epoch turns and mirrors them anew.
    folder
        Where they are kept.
    """

    training: Part
    validated: Part
    samples: int
    clips: int
    folder: Path
    seed: int

    def prepare(self) -> None:
        """Work out all sequences that are not there yet."""
        names = [("validation", k) for k in range(VALIDATED)] + [("training", k) for k in range(self.clips)]
        for name, k in track(names, "first guesses"):
            if not self._file(name, k).exists():
                self._make(name, k)

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Give kept sequences at random, turned and mirrored."""
        del number
        for k in rng.choice(self.clips, self.samples):
            own = np.random.default_rng(rng.integers(2**63))
            yield self._given(bank.turned(self._arrays("training", int(k)), own), own)

    def validation(self) -> Iterator[Sample]:
        """Give the same sequences each time."""
        for k in range(VALIDATED):
            yield self._given(self._arrays("validation", k), np.random.default_rng([self.seed, 3, k]))

    def traits(self) -> list[list[float]]:
        """Range of each trait over the training sequences."""
        rows = np.array([self._arrays("training", k)["traits"] for k in range(self.clips)])
        return np.stack([rows.min(0), rows.max(0)], 1).tolist()

    def _given(self, arrays: dict[str, NDArray], rng: np.random.Generator) -> Sample:
        """Make a sample whose independent mask is of the training's clouds, or shows all where the truth is known."""
        found = bank.sample(arrays)
        if self.training.windows.truth is not None:
            return found._replace(again=torch.ones_like(found.again))
        again = self.training.clouds.draw(tuple(found.values.shape[1:]), rng)  # type: ignore[arg-type]
        return found._replace(again=torch.from_numpy(np.ascontiguousarray(again))[np.newaxis])

    def _arrays(self, name: str, k: int) -> dict[str, NDArray]:
        file = self._file(name, k)
        if not file.exists():
            self._make(name, k)
        return bank.read(file)

    def _make(self, name: str, k: int) -> None:
        part = self.training if name == "training" else self.validated
        rng = np.random.default_rng([self.seed, 2, name == "training", k])
        for _ in range(TRIES):
            window = part.windows.draw(rng)
            observed, out, _ = masks(window, part.clouds, True, rng)
            if observed.any() and out.any():
                break
        else:
            raise InputError("clouds of other dates hide nothing of what is observed; name an operator as clouds=")
        field = window.obs if window.truth is None else window.truth
        obs = field.where(window.obs.copy(data=observed))
        known = np.where(observed | out, field.values, np.nan)
        bank.write(self._file(name, k), bank.worked_out(obs, known, window.sea, self.seed + k))

    def _file(self, name: str, k: int) -> Path:
        return self.folder / name / f"{k}.npz"
