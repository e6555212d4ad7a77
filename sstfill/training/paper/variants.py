# SPDX-License-Identifier: Apache-2.0
"""The paper's network and its variants, trained by the benchmark itself on the synthetic ocean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xarray as xr

from sstfill import config, synthetic
from sstfill.checks import check_number
from sstfill.methods import Gan
from sstfill.training.options import (
    DISCRIMINATED_SIDE,
    GAIN,
    OCCLUDED_VALUE,
    Network,
    ObjectiveName,
    TrainOptions,
)
from sstfill.training.train import train

VARIANTS: dict[str, tuple[Network, ObjectiveName]] = {
    "gan-paper": ("paper", "adversarial"),
    "gan-recurrent": ("recurrent", "adversarial"),
    "gan-static": ("static", "adversarial"),
    "gan-unpaired": ("paper", "unpaired"),
    "gan-paired": ("paper", "paired"),
    "gan-withheld": ("paper", "withheld"),
    "gan-both": ("paper", "withheld+adversarial"),
    "gan-static-both": ("static", "withheld+adversarial"),
}
"""Network and objective: the paper's own, its variants without the future and without time, its
supervised ones, and those that restore withheld pixels; the last as Shibata et al. (2018) restore
each image by itself."""
FRACTION = 0.395
"""Of the ocean that is occluded: the paper's middle threshold."""
IMAGES = 360
"""Of the ocean that is trained on: 90 days, every 6 hours."""
ROOM = 88
"""Pixels by which that ocean is wider than a frame: in one just as wide, discriminators learn its
few hundred frames by heart, their loss falls below 0.1 of 4, and the generator learns nothing."""
SEED = 910_000
"""Of that ocean: none that the protocol draws."""
EPOCH = 50
"""Steps between two scores."""
RATES: dict[str, Any] = {"learning_rate": 3e-4, "discriminator_rate": 2e-4}
"""Of the paper's objectives: its own 1e-4 learns three times as slowly, and with 1e-3 D_s ends in
one score for everything (benchmarks/paper_gan.py)."""
DISCRIMINATORS: dict[str, Any] = {"discriminator_gain": GAIN, "discriminator_masks": True}
"""Of every objective: a generator learns sooner from them, see `sstfill.nn.discriminator`."""
SINCE = ("level", "augment")
"""Options that there were not when the first networks were kept."""


@dataclass(frozen=True, kw_only=True)
class VariantTraining:
    """How long the variants train, and where they are kept.

    Parameters
    ----------
    steps
        Of the generator, of one sequence each.
    base
        Channels of the generator's first layer (the paper's: 32).
    occluded_value
        What networks and discriminators see where a pixel is occluded.
    unsteady
        Whether the ocean is the unsteady one (`sstfill.synthetic.UNSTEADY`).
    folder
        Where networks are kept. One that was trained with the same options on the same ocean is
        taken from there, one whose training was interrupted trains on.
    """

    steps: int
    base: int = 4
    occluded_value: float = OCCLUDED_VALUE
    unsteady: bool = False
    folder: str = "networks"

    def __post_init__(self) -> None:
        check_number("steps", self.steps, 1, whole=True)
        check_number("base", self.base, 1, whole=True)
        check_number("occluded_value", self.occluded_value, -1, 1)

    def options(
        self,
        network: Network,
        objective: ObjectiveName,
        frames: int,
        size: int,
        seed: int,
        device: str,
    ) -> TrainOptions:
        """Return the options of a training."""
        rates = {} if objective.startswith("withheld") else RATES
        samples = min(EPOCH, self.steps)
        epochs = -(-self.steps // samples)
        return TrainOptions(
            network=network,
            objective=objective,
            base=self.base,
            occluded_value=self.occluded_value,
            frames=frames,
            size=size,
            samples=samples,
            epochs=epochs,
            patience=epochs,
            seed=seed,
            device=device,  # type: ignore[arg-type]
            **DISCRIMINATORS,
            **rates,
        )

    def network(
        self,
        name: str,
        content: bytes,
        obs: xr.DataArray,
        options: TrainOptions,
        truth: xr.DataArray | None = None,
    ) -> Gan:
        """Train a network, or take the one that was kept under this name for the same content."""
        kept = hashlib.sha256(content).hexdigest()[:12]
        folder = Path(self.folder) / f"{name}-{kept}"
        found = train(obs, options, truth=truth, out=folder, resume=True)
        # the paper's networks know no first guess
        return replace(found, adapt=False)

    def __str__(self) -> str:
        trained = f"{self.steps} steps of one sequence, C_base {self.base}"
        if self.occluded_value == OCCLUDED_VALUE:
            return trained
        return f"{trained}, occluded value {self.occluded_value:g}"


def trained(
    training: VariantTraining,
    *,
    frames: int,
    size: int,
    seed: int,
    device: str,
    images: int = IMAGES,
    variants: Mapping[str, tuple[Network, ObjectiveName]] = VARIANTS,
) -> Iterator[tuple[str, Gan]]:
    """Yield each variant with its name, trained on sequences of `frames` x `size` x `size`.

    All see the same ocean under clouds of the paper's middle fraction; the supervised ones see the
    truth, too. Of the networks of all epochs the one with the least error at withheld pixels is
    kept.
    """
    side = max(size, DISCRIMINATED_SIDE)
    shape = (max(images, 12 * frames), side + ROOM, side + ROOM)
    further = synthetic.UNSTEADY if training.unsteady else {}
    truth = synthetic.sst(shape=shape, step="6h", seed=SEED + seed, **further)
    cloudy = synthetic.clouds(shape=shape, fraction=FRACTION, step="6h", seed=SEED + seed)
    obs = truth.where(~cloudy.values).rename("sst")
    for name, (network, objective) in variants.items():
        options = training.options(network, objective, frames, side, seed, device)
        supervised = objective in ("paired", "unpaired")
        told = told_in_names(options)
        if training.occluded_value == OCCLUDED_VALUE:
            # networks of before there was this option keep their names
            del told["occluded_value"]
        content = json.dumps([told, shape, SEED, FRACTION, further]).encode()
        yield name, training.network(name, content, obs, options, truth if supervised else None)


def told_in_names(options: TrainOptions) -> dict[str, Any]:
    """Return the options by which kept networks are named: those of before an option keep theirs.

    >>> "level" in told_in_names(TrainOptions())
    False
    """
    since = [name for name in SINCE if getattr(options, name) == getattr(TrainOptions, name)]
    return config.without(config.options(options), since)
