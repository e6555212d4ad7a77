# SPDX-License-Identifier: Apache-2.0
"""Measurement operators of the inpainting GAN: random occlusion masks, and a pure `apply`.

Four are those of Yin, Pajot, de Bezenac and Gallinari (2019), "Unsupervised spatiotemporal data
inpainting", section 3.2. `ObservedClouds` takes the archive's own clouds of other dates,
`SyntheticClouds` simulates them. Each is a frozen dataclass whose fields are its parameters. `draw`
returns a mask `observed` (True where observed), `fill_value` is the constant c of the paper, and
`recover` reads the mask off an occluded sequence.
"""

from sstfill.occlusion.base import Mask, Occlusion, Shape, apply, recover
from sstfill.occlusion.cloud import Cloud
from sstfill.occlusion.lwp import (
    GRAMS,
    SPIN_UP,
    LwpSeries,
    cloud_fraction,
    lwp_series,
    threshold_for,
)
from sstfill.occlusion.moving import Raindrops, VerticalMovingBar
from sstfill.occlusion.observed import ObservedClouds
from sstfill.occlusion.operators import OPERATORS, operator_class
from sstfill.occlusion.scattered import RemovePixel
from sstfill.occlusion.synthetic import SyntheticClouds

__all__ = [
    "GRAMS",
    "OPERATORS",
    "SPIN_UP",
    "Cloud",
    "LwpSeries",
    "Mask",
    "ObservedClouds",
    "Occlusion",
    "Raindrops",
    "RemovePixel",
    "Shape",
    "SyntheticClouds",
    "VerticalMovingBar",
    "apply",
    "cloud_fraction",
    "lwp_series",
    "operator_class",
    "recover",
    "threshold_for",
]
