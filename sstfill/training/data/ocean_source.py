# SPDX-License-Identifier: Apache-2.0
"""Training sequences from synthetic oceans, their first guesses kept on disk."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sstfill.fields import grid
from sstfill.methods.common.threads import available_cores
from sstfill.progress import track
from sstfill.training.data import cache as bank
from sstfill.training.data.oceans import Oceans, draw
from sstfill.training.data.sample import Sample


class OceanSource:
    """Oceans by their numbers; see `sstfill.training.data.sample.SampleSource`.

    Parameters
    ----------
    oceans
        Which.
    folder
        Where sequences are kept; those already there are not made again.
    samples
        Sequences of an epoch.
    """

    def __init__(self, oceans: Oceans, folder: Path, samples: int) -> None:
        self.oceans, self.folder, self.samples = oceans, folder, samples
        self._validation = range(1, 1 + oceans.validation)
        self._training = range(oceans.first, oceans.first + oceans.training)

    def prepare(self) -> None:
        """Make all sequences that are not there yet, on all cores."""
        numbers = [n for n in (*self._validation, *self._training) if not self._file(n).exists()]
        if not numbers:
            return
        make = partial(made, paper=self.oceans.paper, folder=self.folder)
        with ProcessPoolExecutor(available_cores(), get_context("spawn")) as pool:
            for _ in track(pool.map(make, numbers), "oceans", len(numbers)):
                pass

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Give oceans at random, each turned and mirrored at random."""
        del number
        for ocean in rng.choice(self._training, self.samples):
            own = np.random.default_rng(rng.integers(2**63))
            if arrays := self._arrays(int(ocean)):
                yield bank.sample(bank.turned(arrays, own))

    def validation(self) -> Iterator[Sample]:
        """Give the oceans that are not trained on; the first time, all oceans are made."""
        self.prepare()
        for ocean in self._validation:
            if arrays := self._arrays(ocean):
                yield bank.sample(arrays)

    def traits(self) -> list[list[float]]:
        """Range of each trait over the training oceans."""
        found = [self._arrays(n).get("traits") for n in self._training]
        rows = np.array([row for row in found if row is not None])
        return np.stack([rows.min(0), rows.max(0)], 1).tolist()

    def _arrays(self, number: int) -> dict[str, NDArray]:
        file = self._file(number)
        if not file.exists():
            made(number, self.oceans.paper, self.folder)
        return bank.read(file)

    def _file(self, number: int) -> Path:
        return _file(self.folder, number)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.npz"


def made(number: int, paper: float, folder: Path) -> None:
    """Draw an ocean, work out its first guesses, and keep them; an empty file where there is next
    to nothing to see.
    """
    ocean = draw(number, paper)
    arrays: dict[str, NDArray] = {}
    if ocean is not None:
        obs = grid.standardise(ocean.obs)
        arrays = bank.compute_inputs(
            obs, np.where(ocean.sea.values, ocean.seen, np.nan), ocean.sea, number
        )
    bank.write(_file(folder, number), arrays)
