# SPDX-License-Identifier: Apache-2.0
"""The measurement operator that forgets itself from frame to frame: pixels lost one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sstfill.checks import check_share
from sstfill.occlusion.base import Mask, Shape, checked


@dataclass(frozen=True, kw_only=True)
class RemovePixel:
    """Each pixel of each frame is lost independently, with probability `share` (0 or more, less
    than 1).
    """

    name: ClassVar[str] = "remove-pixel"
    fill_value: ClassVar[float] = 0.0

    share: float = 0.5

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` (True = seen) of `shape` (time, y, x)."""
        return rng.random(checked(shape)) >= self.share
