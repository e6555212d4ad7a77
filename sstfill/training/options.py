# SPDX-License-Identifier: Apache-2.0
"""Options of training: a recipe's [train] table, with the defaults of each objective."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from sstfill.checks import check_choice, check_fraction, check_most, check_number
from sstfill.errors import OptionError

Network = Literal["compact", "paper", "static", "recurrent"]
ObjectiveName = Literal[
    "withheld",
    "adversarial",
    "withheld+adversarial",
    "paired",
    "unpaired",
    "draws",
    "draws+adversarial",
]
PIXEL = ("withheld", "draws")
"""How the names of objectives begin that score withheld pixels, by an optimiser for that."""
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
Level = Literal["archive", "sequence"]
Schedule = Literal["constant", "cosine", "decay"]

DECAY_STEPS = 50
"""Steps between two reductions of the learning rate, in the schedule "decay"."""
WARMING = 0.05
"""Fraction of the training in which the learning rate rises, in the schedule "cosine"."""
GAIN = 2.2
"""Norm of the discriminators' weights for an adversarial objective; see
`sstfill.nn.discriminator.GAIN`."""
OCCLUDED_VALUE = 1.0
"""What the paper's authors set occluded pixels to, as `sstfill.nn.generator.OCCLUDED`."""
DISCRIMINATED_SIDE = 33
"""Least edge of a frame for the discriminators, as `sstfill.nn.discriminator.SIDE`."""


@dataclass(frozen=True, kw_only=True)
class OptimiserOptions:
    """An Adam optimiser and how its learning rate changes.

    Attributes
    ----------
    learning_rate, beta1, beta2
        Of Adam.
    weight_decay
        Fraction of the weights taken off in each step, per unit of the learning rate (AdamW).
    schedule
        "constant"; "decay", by the factor `decay` every 50 steps; or "cosine", up in the first
        twentieth of the training, then down to nothing along half a cosine.
    decay
        See `schedule`.
    """

    learning_rate: float
    beta1: float
    beta2: float
    weight_decay: float
    schedule: Schedule
    decay: float = 0.99

    def rate(self, steps: int, progress: float) -> float:
        """Compute the learning rate after `steps` steps, at a fraction `progress` of the training.

        >>> PAPER.rate(100, 0.0), PIXELWISE.rate(100, 1.0)
        (9.801e-05, 0.0)
        """
        if self.schedule == "cosine":
            # The cosine begins where the warming ends, so that the rate has no step.
            down = max(0.0, progress - WARMING) / (1 - WARMING)
            up = min(1.0, progress / WARMING)
            return self.learning_rate * up * (1 + math.cos(math.pi * down)) / 2
        if self.schedule == "decay":
            return self.learning_rate * self.decay ** (steps // DECAY_STEPS)
        return self.learning_rate


PAPER = OptimiserOptions(
    learning_rate=1e-4, beta1=0.0, beta2=0.999, weight_decay=0.0, schedule="decay"
)
"""Of the paper (section 3.4): for discriminators and adversarial objectives."""
PIXELWISE = OptimiserOptions(
    learning_rate=1e-3, beta1=0.9, beta2=0.99, weight_decay=0.01, schedule="cosine"
)
"""For objectives that restore withheld pixels."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of training; None stands for the default of the objective.

    Parameters
    ----------
    network
        "compact", or one of the paper's: "paper", "static" (each frame alone, no D_s), "recurrent"
        (past only).
    base
        Channels of the network's first layer, to which all its widths are proportional.
    objective
        "withheld": restore pixels hidden from what was observed (Laplace likelihood where the
        network states a scale, else absolute error). "adversarial": the paper's, equation 4.
        "withheld+adversarial": both. "paired" and "unpaired": the paper's supervised variants,
        which need the truth. "draws": the branch of the compact network that turns noise into
        members learns by the fair score of two draws at what is withheld
        (`sstfill.training.objectives.draw_score`), the rest of it stays; "draws+adversarial": that
        and the paper's adversarial terms on a draw.
    drawing
        Channels of the first layer of the branch that draws, where it is new.
    adversarial_weight
        Of the adversarial term beside a pixel term.
    discriminator_base
        Channels of the discriminators' first layer.
    discriminator_steps
        Steps of the discriminators for each of the generator (on the same batch).
    discriminator_gain
        Norm of each weight of the discriminators. None: 2.2 for "adversarial", with which a network
        learns sooner (`sstfill.nn.discriminator.GAIN`), else the paper's 1.
    discriminator_rate
        Learning rate of the discriminators; None: that of the generator where the objective is the
        paper's, else the paper's 1e-4.
    discriminator_masks
        Whether the discriminators are told what is occluded, in a further channel. None: for
        "adversarial", which does not learn without in the time we have tried; the paper's are not
        told.
    occluded_value
        What the paper's networks, and the discriminators of every network, see where a pixel is
        occluded: the c of the paper's equation 1, in scaled units. Its authors have 1, the upper
        end of the range; with 0, its middle, a network has learnt sooner
        (docs/benchmarks/paper_ordering.md).
    level
        About what the paper's networks see values, in three standard deviations: "archive", its
        mean, as in the paper, or "sequence", the mean of what is seen of each. Over an archive of
        several seasons a network of a few images does not learn without
        (docs/benchmarks/paper_datasets).
    augment
        Whether the paper's networks see each sequence turned by quarters and mirrored at random, as
        the compact network always does. Where an archive is hardly larger than a sequence,
        discriminators know its few windows by heart.
    differences
        Whether D_s sees differences of successive frames (clouds), not frames (the paper's
        Remove-Pixel).
    frames
        Images of a sequence.
    size
        Height and width of a sequence, in pixels.
    batch
        Sequences a batch, in each process.
    samples
        Sequences an epoch.
    epochs
        How many at most.
    learning_rate, beta1, beta2, weight_decay, schedule, decay
        Of the generator's optimiser, see `OptimiserOptions`. None: 1e-3, 0.9, 0.99, 0.01, "cosine"
        for objectives that begin with "withheld"; the paper's 1e-4, 0, 0.999, 0, "decay" (by 0.99)
        for the others.
    clip
        Greatest norm of a gradient, 0 for no limit.
    ema
        Fraction of the averaged weights that a step leaves, once training is well under way.
    patience
        Epochs without a better score on withheld pixels after which training stops.
    save_minutes
        Least time between two saved states within an epoch; one is saved after each epoch in any
        case.
    seed
        Of everything random.
    device
        "auto": a GPU if there is one.
    precision
        "bfloat16": mixed, for GPUs; very slow on most CPUs.

    Raises
    ------
    OptionError
        If an option is out of its range, or does not go with another.

    >>> TrainOptions(objective="adversarial").recipe.learning_rate
    0.0001
    """

    network: Network = "compact"
    base: int = 32
    objective: ObjectiveName = "withheld"
    drawing: int = 32
    adversarial_weight: float = 0.01
    discriminator_base: int = 8
    discriminator_steps: int = 2
    discriminator_gain: float | None = None
    discriminator_rate: float | None = None
    discriminator_masks: bool | None = None
    occluded_value: float = OCCLUDED_VALUE
    level: Level = "archive"
    augment: bool = False
    differences: bool = True
    frames: int = 24
    size: int = 64
    batch: int = 1
    samples: int = 300
    epochs: int = 20
    learning_rate: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    weight_decay: float | None = None
    schedule: Schedule | None = None
    decay: float | None = None
    clip: float = 1.0
    ema: float = 0.999
    patience: int = 5
    save_minutes: float = 10.0
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name, most in _COUNTS.items():
            check_number(name, getattr(self, name), 1, whole=True)
            check_most(name, getattr(self, name), most)
        check_number("seed", self.seed, 0, whole=True)
        check_most("seed", self.seed, 2**63 - 1)
        for name in ("adversarial_weight", "clip", "save_minutes"):
            check_number(name, getattr(self, name), 0)
        if self.discriminator_rate is not None:
            check_number("discriminator_rate", self.discriminator_rate, 0, above=True)
        check_number("discriminator_gain", self.gain, 0, above=True)
        check_number("occluded_value", self.occluded_value, -1, 1)
        check_fraction("ema", self.ema)
        if self.draws and self.network != "compact":
            raise OptionError(
                f"network={self.network!r} does not draw from noise; give network='compact', or "
                "another objective"
            )
        if self.level != "archive" and self.network == "compact":
            raise OptionError(
                f"level={self.level!r} is for the paper's networks; give network='paper', or leave "
                "it out: a compact network works about its first guesses"
            )
        self._check_recipe()
        self._check_discriminators()

    @property
    def adversarial(self) -> bool:
        """Whether discriminators take part."""
        return self.objective not in PIXEL

    @property
    def draws(self) -> bool:
        """Whether the branch of the compact network learns that draws, and nothing else."""
        return self.objective.startswith("draws")

    @property
    def needs_withheld(self) -> bool:
        """Whether a sequence is of use only with something withheld."""
        return self.objective not in ("adversarial", "unpaired")

    @property
    def sequences(self) -> bool:
        """Whether D_s takes part: not against the static network."""
        return self.network != "static"

    @property
    def recipe(self) -> OptimiserOptions:
        """The generator's optimiser."""
        # Fields of the same names are the ones that may be given.
        given = {name: getattr(self, name) for name in OptimiserOptions.__dataclass_fields__}
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        usual = PIXELWISE if self.objective.startswith(PIXEL) else PAPER
        return replace(usual, **chosen)

    @property
    def discriminator_recipe(self) -> OptimiserOptions:
        """The discriminators' optimiser.

        The generator's where the objective is the paper's, else the paper's; its learning rate may
        be another.
        """
        # beside a pixel term the generator's optimiser is another, and the discriminators keep the
        # paper's
        recipe = PAPER if self.objective.startswith(PIXEL) else self.recipe
        if self.discriminator_rate is None:
            return recipe
        return replace(recipe, learning_rate=self.discriminator_rate)

    @property
    def gain(self) -> float:
        """Norm of the discriminators' weights."""
        if self.discriminator_gain is not None:
            return self.discriminator_gain
        return GAIN if self.objective == "adversarial" else 1.0

    @property
    def masks_told(self) -> bool:
        """Whether the discriminators are told what is occluded."""
        if self.discriminator_masks is not None:
            return self.discriminator_masks
        return self.objective == "adversarial"

    def _check_recipe(self) -> None:
        if self.schedule is not None:
            check_choice("schedule", self.schedule, get_args(Schedule))
        recipe = self.recipe
        check_number("learning_rate", recipe.learning_rate, 0, above=True)
        check_fraction("beta1", recipe.beta1)
        check_fraction("beta2", recipe.beta2)
        check_number("weight_decay", recipe.weight_decay, 0)
        check_number("decay", recipe.decay, 0, 1, above=True)

    def _check_discriminators(self) -> None:
        if self.adversarial and self.size < DISCRIMINATED_SIDE:
            raise OptionError(
                f"size={self.size} is too small for the discriminators of "
                f"objective={self.objective!r}; give size={DISCRIMINATED_SIDE} or more, "
                "or objective='withheld'"
            )
        if self.adversarial and self.sequences and self.differences and self.frames < 2:
            raise OptionError(
                f"frames={self.frames} have no differences for the discriminator of sequences; "
                "give frames=2 or more, or network='static'"
            )


_CHOICES = {
    "network": get_args(Network),
    "objective": get_args(ObjectiveName),
    "level": get_args(Level),
    "device": get_args(Device),
    "precision": get_args(Precision),
}
_COUNTS = {
    "base": 4096,
    "drawing": 4096,
    "discriminator_base": 4096,
    "discriminator_steps": 1000,
    "frames": 10_000,
    "size": 10_000,
    "batch": 10_000,
    "samples": 10**9,
    "epochs": 10**9,
    "patience": 10**9,
}
"""Whole numbers from 1, and what they are at most."""
