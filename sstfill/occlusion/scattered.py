# SPDX-License-Identifier: Apache-2.0
"""The measurement operator Remove-Pixel: single pixels are lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sstfill.checks import check_fraction
from sstfill.occlusion.base import Mask, Shape, checked


@dataclass(frozen=True, kw_only=True)
class RemovePixel:
    """Each pixel of each frame is lost independently, with probability `fraction` in [0, 1)."""

    name: ClassVar[str] = "remove-pixel"
    fill_value: ClassVar[float] = 0.0

    fraction: float = 0.5

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask of `shape` (time, y, x), True where observed."""
        return rng.random(checked(shape)) >= self.fraction
