# SPDX-License-Identifier: Apache-2.0
"""The measurement operators by name: the four of the paper, and two more."""

from __future__ import annotations

from typing import Any

from sstfill.errors import unknown
from sstfill.occlusion.cloud import Cloud
from sstfill.occlusion.moving import Raindrops, VerticalMovingBar
from sstfill.occlusion.observed import ObservedClouds
from sstfill.occlusion.scattered import RemovePixel
from sstfill.occlusion.synthetic import SyntheticClouds

PAPERS = (Cloud, Raindrops, RemovePixel, VerticalMovingBar)
OPERATORS: dict[str, type[Any]] = {
    cls.name: cls for cls in (*PAPERS, ObservedClouds, SyntheticClouds)
}


def operator_class(name: str) -> type[Any]:
    """Return the measurement operator called `name`; `OptionError` lists the choices.

    >>> operator_class("raindrops")(count=3).count
    3
    """
    if name not in OPERATORS:
        raise unknown("measurement operator", name, OPERATORS)
    return OPERATORS[name]
