# SPDX-License-Identifier: Apache-2.0
"""Whether a series lies outside what a checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from sstfill.fields import grid
from sstfill.methods.oi.solver import usual_step
from sstfill.nn.checkpoint.checkpoint import Checkpoint

TRAITS = ("correlation from image to image", "correlation from pixel to pixel", "noise")
ROOM = 0.05
"""How far beyond the range of its training a trait may lie, on its logarithmic scale, before it is
worth a word.
"""
ALIKE = 1.5
"""Grid step, time step and variability may differ by this factor from those of the archive trained
on.
"""


def domain_shift(checkpoint: Checkpoint, obs: xr.DataArray, traits: Sequence[float] = ()) -> str:
    """Say in what a series lies outside what a checkpoint was trained on; nothing ("") where it
    does not.
    """
    config = checkpoint.config
    found = _traits(config.get("traits"), traits)
    units, known = str(obs.attrs.get("units") or ""), str(config.get("units") or "")
    if units and known and _spelled(units) != _spelled(known):
        found.append(
            f"units are {units}, it was trained on {known if known.isprintable() else ascii(known)}"
        )
    days, cell = usual_step(grid.days(obs)), float(np.mean(grid.cell_km(obs)))
    found += _factor("time step", days, config.get("step_days"), "days")
    found += _factor("grid step", cell, config.get("cell_km"), "km")
    if config.get("spread"):
        found += _factor("variability", float(obs.std()), config["spread"], config.get("units", ""))
    if not found:
        return ""
    return f"the series is unlike what the network was trained on ({'; '.join(found)}); mind the withheld-cloud score"


def _spelled(units: str) -> str:
    """One spelling of a unit.

    >>> _spelled("degree_Celsius") == _spelled("degC"), _spelled("K") == _spelled("degC")
    (True, False)
    """
    return grid.temperature_unit(units) or "_".join(units.lower().split())


def _traits(ranges: Sequence[Sequence[float | None]] | None, traits: Sequence[float]) -> list[str]:
    if ranges is None:
        return []
    found = []
    for name, value, (low, high) in zip(TRAITS, traits, ranges, strict=False):
        if low is not None and high is not None and not low - ROOM <= value <= high + ROOM:
            found.append(f"unusual {name}")
    return found


def _factor(name: str, met: float, known: Any, units: str) -> list[str]:
    if not known or not np.isfinite(met) or met <= 0 or 1 / ALIKE <= met / known <= ALIKE:
        return []
    return [f"{name} of {met:.3g} {units}, not {known:.3g}".replace("  ", " ")]
