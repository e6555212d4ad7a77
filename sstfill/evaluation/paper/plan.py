# SPDX-License-Identifier: Apache-2.0
"""What a run of the paper's protocol consists of: how many sequences, which operators on which
data, which methods.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sstfill import occlusion
from sstfill.checks import check_choice, check_number
from sstfill.errors import unknown
from sstfill.evaluation.paper.datasets import FRAMES, SHARES, Materials
from sstfill.evaluation.paper.sequences import Masks, SceneWindows, TruthSource
from sstfill.methods import METHODS, Method, method_class
from sstfill.methods.base import seeded
from sstfill.nn.device import pick_device

CLOUD, SCENES = "cloud", "cloud-scenes"
SIMPLE = (occlusion.Raindrops, occlusion.RemovePixel, occlusion.VerticalMovingBar)
OPERATORS = (CLOUD, SCENES, *(cls.name for cls in SIMPLE))
MIDDLE = 0.395
"""Occluded share at the paper's LWP threshold of 70 g m-2, which its Tables 2b and 4 are for."""
DEVICES = ("auto", "cpu", "cuda")


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
    shares
        Occluded shares by clouds, among those of Table 2a.
    methods
        Names; by default every registered method.
    operators
        Among `OPERATORS`; by default all.
    seed
        Equal seeds draw equal sequences and masks, for every method alike.
    device
        For methods that have an option `device`: ``"auto"``, ``"cpu"`` or ``"cuda"``.
    """

    sequences: int = 3
    frames: int = FRAMES
    clip_frames: int = 35
    size: int = 64
    shares: tuple[float, ...] = SHARES
    methods: tuple[str, ...] | None = None
    operators: tuple[str, ...] | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for option in ("sequences", "frames", "clip_frames", "size"):
            check_number(option, getattr(self, option), 1, whole=True)
        check_number("seed", self.seed, 0, whole=True)
        for share in self.shares:
            if share not in SHARES:
                raise unknown("occluded share", share, map(str, SHARES))
        for name in self.methods or ():
            method_class(name)
        for name in self.operators or ():
            if name not in OPERATORS:
                raise unknown("operator", name, OPERATORS)
        check_choice("device", self.device, DEVICES)
        if self.device == "cuda":
            pick_device(self.device)

    @property
    def chosen(self) -> dict[str, Method]:
        """The methods with their default options, this seed and device."""
        names = METHODS if self.methods is None else dict.fromkeys(self.methods)
        return {name: _on(seeded(METHODS[name], self.seed), self.device) for name in names}


def quick(plan: ProtocolPlan) -> ProtocolPlan:
    """Shrink a plan to a run of seconds: two small, short sequences and three of the occluded
    shares.
    """
    return replace(
        plan,
        sequences=min(plan.sequences, 2),
        frames=12,
        clip_frames=12,
        size=32,
        shares=(SHARES[0], MIDDLE, SHARES[-1]),
    )


class Case(NamedTuple):
    """A data set under an operator; `share` is NaN where the operator has no set share."""

    source: TruthSource
    operator: str
    masks: Masks
    origin: str
    share: float = math.nan

    @property
    def drawn_by(self) -> str:
        """Seeds the masks; without the share, so that the clouds of one share lie within those of a
        larger one.
        """
        return f"{self.source.name} {self.operator} {self.origin}"


def cases(plan: ProtocolPlan, materials: Materials) -> Iterator[Case]:
    """Every data set under every operator; clips are put under no clouds, as in the paper."""
    wanted = plan.operators or OPERATORS
    for source in materials.sources:
        if source.kind != "clip":
            if CLOUD in wanted:
                yield from _cloudy(source, plan, materials)
            if SCENES in wanted and materials.scenes:
                yield Case(
                    source, SCENES, SceneWindows(scenes=materials.scenes), "satellite images"
                )
        for cls in SIMPLE:
            if cls.name in wanted:
                yield Case(source, cls.name, cls(), "drawn")


def _cloudy(source: TruthSource, plan: ProtocolPlan, materials: Materials) -> Iterator[Case]:
    for clouds in materials.clouds:
        yield from (Case(source, CLOUD, clouds.at(s), clouds.name, s) for s in plan.shares)
    if not materials.clouds:
        yield from (
            Case(source, CLOUD, occlusion.SyntheticClouds(share=s), "synthetic clouds", s)
            for s in plan.shares
        )


def _on(method: Any, device: str) -> Any:
    """The method on a device, if it has a choice."""
    takes = "device" in {f.name for f in dataclasses.fields(method)}
    return replace(method, device=device) if takes else method


def uses_device(methods: Iterable[str]) -> list[str]:
    """Names of the methods that have an option `device`; no other can use an accelerator."""
    return [
        name
        for name in methods
        if "device" in {f.name for f in dataclasses.fields(method_class(name))}
    ]
