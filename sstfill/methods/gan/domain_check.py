# SPDX-License-Identifier: Apache-2.0
"""Domain shift: whether a series lies outside what a checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from sstfill.fields.reading.dates import days_since_first, usual_step
from sstfill.fields.reading.positions import cell_km
from sstfill.nn.checkpoint.checkpoint import Checkpoint

FEATURES = ("correlation from image to image", "correlation from pixel to pixel", "noise")
"""Names of `sstfill.methods.gan.network_inputs.FirstGuesses.features`."""
TOLERANCE = 0.05
"""How far beyond the range of its training a feature may lie, on its logarithmic scale."""
ALIKE = 1.5
"""Factor by which grid step, time step and variability may differ from those of the training."""
SPELLINGS = {
    "celsius": (
        "c",
        "degc",
        "deg_c",
        "°c",
        "degree_c",
        "degrees_c",
        "degree_celsius",
        "degrees_celsius",
    ),
    "kelvin": ("k", "kelvins", "degk", "deg_k", "degree_kelvin", "degrees_kelvin"),
}
"""Ways to write a unit of temperature, in lower case."""


def domain_shift(checkpoint: Checkpoint, obs: xr.DataArray, features: Sequence[float] = ()) -> str:
    """Describe in what a series lies outside what a checkpoint was trained on.

    Parameters
    ----------
    checkpoint
        States the range of its training, as far as it is known.
    obs
        The series, ``(time, y, x)``.
    features
        Of the series, as the compact network sees them.

    Returns
    -------
    str
        A warning; empty where the series lies inside.
    """
    config = checkpoint.config
    found = []
    # The key "traits" is that of the checkpoint's format.
    ranges = config.get("traits") or ()
    for name, value, (low, high) in zip(FEATURES, features, ranges, strict=False):
        if low is None or high is None:
            continue
        if not low - TOLERANCE <= value <= high + TOLERANCE:
            found.append(f"unusual {name}")
    units, known = str(obs.attrs.get("units") or ""), str(config.get("units") or "")
    if units and known and _one_spelling(units) != _one_spelling(known):
        # A checkpoint may come from a stranger; its text must not reach a terminal as it is.
        printable = known if known.isprintable() else ascii(known)
        found.append(f"units are {units}, it was trained on {printable}")
    step, cell = usual_step(days_since_first(obs)), float(np.mean(cell_km(obs)))
    found += _unlike("time step", step, config.get("step_days"), "days")
    found += _unlike("grid step", cell, config.get("cell_km"), "km")
    of_logarithms = (config.get("scaling") or {}).get("kind") == "log"  # then spread is in units
    if config.get("spread") and not of_logarithms:
        spread = spread_of(obs, config)
        found += _unlike("variability", spread, config["spread"], config.get("units", ""))
    if not found:
        return ""
    return (
        f"the series is unlike what the network was trained on ({'; '.join(found)}); "
        "mind the withheld-cloud score"
    )


def spread_of(obs: xr.DataArray, config: Mapping[str, Any]) -> float:
    """Compute the standard deviation of a series, which is one of the kinds of series.

    It is that about the levels of successive sequences where a checkpoint's `config` says that each
    is scaled about its own.
    """
    if (config.get("scaling") or {}).get("kind") != "sequence":
        return float(obs.std())
    frames, _, _ = config["patch"]
    number = xr.DataArray(np.arange(obs.sizes["time"]) // frames, dims="time", name="sequence")
    sequences = obs.groupby(number)
    total, count = sequences.sum(...), sequences.count(...)
    # of a sequence of which nothing is seen, any level will do
    return float((sequences - total / count.clip(min=1)).std())


def _one_spelling(units: str) -> str:
    """Return one spelling of a unit.

    >>> _one_spelling("degree_Celsius") == _one_spelling("degC")
    True
    >>> _one_spelling("K") == _one_spelling("degC")
    False
    """
    text = "_".join(units.lower().split())
    for unit, spellings in SPELLINGS.items():
        if text in spellings:
            return unit
    return text


def _unlike(name: str, value: float, known: Any, units: str) -> list[str]:
    """Return a text, in a list, if a value differs by more than `ALIKE` from a known one."""
    if not known or not np.isfinite(value) or value <= 0 or 1 / ALIKE <= value / known <= ALIKE:
        return []
    return [f"{name} of {value:.3g} {units}, not {known:.3g}".replace("  ", " ")]
