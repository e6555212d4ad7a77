# SPDX-License-Identifier: Apache-2.0
"""The plan of a run of the paper's protocol: sequences, operators, data and methods."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sstfill import occlusion
from sstfill.checks import check_choice, check_number
from sstfill.errors import OptionError, unknown
from sstfill.evaluation.paper.datasets import FRAMES, DatasetChoice
from sstfill.evaluation.paper.frechet_features import I3D_FRAMES
from sstfill.evaluation.paper.published import MIDDLE, OCCLUDED
from sstfill.evaluation.paper.realism import Viewers
from sstfill.evaluation.paper.sequences import Masks, SceneWindows, TruthSource
from sstfill.methods import METHODS, Method, method_class
from sstfill.methods.registry import seeded
from sstfill.nn.device import DEVICES, pick_device

CLOUD, SCENES = "cloud", "cloud-scenes"
SIMPLE = (occlusion.Raindrops, occlusion.RemovePixel, occlusion.VerticalMovingBar)
FEATURES = ("random", "efficientnet")
OPERATORS = (CLOUD, SCENES, *(cls.name for cls in SIMPLE))


@dataclass(frozen=True, kw_only=True)
class ProtocolPlan:
    """How much of the protocol to run, and how.

    Parameters
    ----------
    sequences
        Sequences of each data set; each is occluded by every operator. (The paper's test set has
        60.)
    frames, clip_frames, size
        Of a sequence: images, frames of a clip, and pixels along the edge. Paper: 24, 35, 64.
    fractions
        Occluded fractions by clouds, among those of Table 2a.
    methods
        Names; by default every registered method.
    operators
        Among `OPERATORS`; by default all.
    seed
        Equal seeds draw equal sequences and masks, for every method alike.
    device
        For methods that have an option `device`: ``"auto"``, ``"cpu"`` or ``"cuda"``.
    features
        Of frames, for Frechet distances: "random" or "efficientnet", a trained network.
    inception, i3d
        Files of weights of InceptionV3 and I3D: with them the distances are FID and FVD, see
        `sstfill.evaluation.paper.frechet_features`. FVD needs sequences of ten frames.
    training
        How the networks that the protocol is given were trained, in words.
    trained_on
        By data set, what its network was trained on, or why there is none, in words.
    """

    sequences: int = 3
    frames: int = FRAMES
    clip_frames: int = 35
    size: int = 64
    fractions: tuple[float, ...] = OCCLUDED
    methods: tuple[str, ...] | None = None
    operators: tuple[str, ...] | None = None
    seed: int = 0
    device: str = "auto"
    features: str = "random"
    inception: str | None = None
    i3d: str | None = None
    training: str = ""
    trained_on: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for option in ("sequences", "frames", "clip_frames", "size"):
            check_number(option, getattr(self, option), 1, whole=True)
        check_number("seed", self.seed, 0, whole=True)
        for fraction in self.fractions:
            if fraction not in OCCLUDED:
                raise unknown("occluded fraction", fraction, map(str, OCCLUDED))
        for name in self.methods or ():
            method_class(name)
        for name in self.operators or ():
            if name not in OPERATORS:
                raise unknown("operator", name, OPERATORS)
        check_choice("features", self.features, FEATURES)
        _ = self.viewers.names  # fail now rather than in every row
        shortest = min(self.frames, self.clip_frames)
        if self.i3d is not None and shortest < I3D_FRAMES:
            raise OptionError(
                f"sequences of {shortest} frames; I3D needs at least {I3D_FRAMES}, give longer "
                "ones, or leave i3d out"
            )
        check_choice("device", self.device, DEVICES)
        if self.device == "cuda":
            pick_device(self.device)  # fail now rather than in every row

    @property
    def viewers(self) -> Viewers:
        """The features by which sequences are compared."""
        return Viewers.of(self.features, self.inception, self.i3d)

    @property
    def chosen(self) -> dict[str, Method]:
        """The methods with their default options, this seed and device."""
        names = METHODS if self.methods is None else dict.fromkeys(self.methods)
        chosen: dict[str, Any] = {}
        for name in names:
            chosen[name] = seeded(METHODS[name], self.seed)
            # Other methods have no such option, and would refuse it.
            if _has_device(METHODS[name]):
                chosen[name] = replace(chosen[name], device=self.device)
        return chosen


def quick(plan: ProtocolPlan) -> ProtocolPlan:
    """Shrink a plan to a run of seconds: two small, short sequences, three occluded fractions."""
    return replace(
        plan,
        sequences=min(plan.sequences, 2),
        frames=12,
        clip_frames=12,
        size=32,
        # Least, middle and most, so that every table has a line.
        fractions=(OCCLUDED[0], MIDDLE, OCCLUDED[-1]),
    )


class Case(NamedTuple):
    """A data set under an operator; `fraction`, the occluded fraction, is NaN if it is not set."""

    source: TruthSource
    operator: str
    masks: Masks
    origin: str
    fraction: float = math.nan

    @property
    def drawn_by(self) -> str:
        """Text that seeds the masks.

        It does not depend on the fraction: the clouds of one lie within those of a larger one.
        """
        return f"{self.source.name} {self.operator} {self.origin}"


def cases(plan: ProtocolPlan, datasets: DatasetChoice) -> Iterator[Case]:
    """Yield every data set under every operator, but no clip under clouds, as in the paper."""
    wanted = plan.operators or OPERATORS
    for source in datasets.sources:
        if source.kind != "clip":
            if CLOUD in wanted:
                yield from _cloudy(source, plan, datasets)
            if SCENES in wanted and datasets.scenes:
                windows = SceneWindows(scenes=tuple(datasets.scenes))
                yield Case(source, SCENES, windows, "satellite images")
        for cls in SIMPLE:
            if cls.name in wanted:
                yield Case(source, cls.name, cls(), "drawn")


def _cloudy(source: TruthSource, plan: ProtocolPlan, datasets: DatasetChoice) -> Iterator[Case]:
    for clouds in datasets.clouds:
        for fraction in plan.fractions:
            yield Case(source, CLOUD, clouds.at(fraction), clouds.name, fraction)
    if not datasets.clouds:
        for fraction in plan.fractions:
            synthetic = occlusion.SyntheticClouds(fraction=fraction)
            yield Case(source, CLOUD, synthetic, "synthetic clouds", fraction)


def uses_device(methods: Iterable[str]) -> list[str]:
    """Names of the methods that have an option `device`; no other can use an accelerator."""
    users = []
    for name in methods:
        # what is not registered is a network that was handed in
        if name not in METHODS or _has_device(METHODS[name]):
            users.append(name)
    return users


def _has_device(method: Any) -> bool:
    return any(field.name == "device" for field in dataclasses.fields(method))
