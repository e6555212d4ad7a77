# SPDX-License-Identifier: Apache-2.0
"""Training sequences from synthetic oceans, kept on disk with their first guesses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from sstfill.fields import grid
from sstfill.methods.common.threads import available_cores
from sstfill.progress import track
from sstfill.training.data import cache
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

    def prepare(self, rank: int = 0, processes: int = 1) -> None:
        """Make the sequences that are not there yet, on all cores; see `PreparedSource`."""
        numbers = [*self._validation, *self._training][rank::processes]
        missing = [number for number in numbers if not _file(self.folder, number).exists()]
        if not missing:
            return
        # the processes of torchrun on this machine share its cores
        cores = max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        make = partial(make_ocean, paper=self.oceans.paper, folder=self.folder)
        # spawned: a fork of a process that has run torch's threads may hang
        with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
            for _ in track(pool.map(make, missing), "oceans", len(missing)):
                pass

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Yield oceans at random, each rotated and mirrored at random."""
        del number
        for ocean in rng.choice(self._training, self.samples):
            own = np.random.default_rng(rng.integers(2**63))
            # An ocean with next to nothing to see is kept as an empty file.
            if arrays := self._arrays(int(ocean)):
                yield cache.to_sample(cache.augment(arrays, own))

    def validation(self) -> Iterator[Sample]:
        """Yield the oceans that are not trained on; the first time, all oceans are made."""
        self.prepare()
        for ocean in self._validation:
            if arrays := self._arrays(ocean):
                yield cache.to_sample(arrays)

    def traits(self) -> list[list[float]]:
        """Range of each trait over the training oceans."""
        found = [self._arrays(number).get("traits") for number in self._training]
        rows = np.array([row for row in found if row is not None])
        return np.stack([rows.min(0), rows.max(0)], 1).tolist()

    def _arrays(self, number: int) -> cache.Arrays:
        file = _file(self.folder, number)
        if not file.exists():
            make_ocean(number, self.oceans.paper, self.folder)
        return cache.read(file)


def make_ocean(number: int, paper: float, folder: Path) -> None:
    """Draw an ocean, compute its first guesses, and keep them.

    An ocean with next to nothing to see leaves an empty file, so that it is not drawn again.
    """
    ocean = draw(number, paper)
    arrays: cache.Arrays = {}
    if ocean is not None:
        obs = grid.standardise(ocean.obs)
        known = np.where(ocean.sea.values, ocean.seen, np.nan)
        arrays = cache.compute_inputs(obs, known, ocean.sea, number)
    cache.write(_file(folder, number), arrays)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.npz"
