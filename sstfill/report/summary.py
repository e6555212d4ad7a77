# SPDX-License-Identifier: Apache-2.0
"""What was filled and what was decided, in words, from attributes and flags of the output."""

from __future__ import annotations

import itertools
from typing import Any

import xarray as xr

from sstfill.errors import ReadError
from sstfill.fields.gaps import SOURCE_FLAGS
from sstfill.fields.transform import SCALES, WORDS
from sstfill.io.untrusted.documents import parse_json
from sstfill.printable import printable


def filled_variables(ds: xr.Dataset) -> list[str]:
    """Names of the variables that sstfill filled."""
    found = []
    for name, variable in ds.data_vars.items():
        if f"{name}_source" in ds and fill_record(variable.attrs.get("sstfill_method")):
            found.append(str(name))
    return found


def fill_record(attribute: object) -> dict[str, Any]:
    """Read ``sstfill_method``; empty where `sstfill.fill` did not write the attribute."""
    found = _parsed(attribute, "sstfill_method")
    if {"name", "diagnostics"} <= found.keys():
        return found
    return {}


def fill_score(attribute: object) -> dict[str, Any]:
    """Read ``sstfill_score``; empty where the fill has none."""
    found = _parsed(attribute, "sstfill_score")
    if {"mae", "rmse", "bias", "n"} <= found.keys():
        return found
    return {}


def _parsed(attribute: object, name: str) -> dict[str, Any]:
    """Read an attribute that holds a JSON object; empty if it does not, as in a file of others."""
    try:
        found = parse_json(str(attribute), name, remedy="")
    # The attribute is a hint of how a field was made, and its absence no reason to fail.
    except ReadError:
        return {}
    if isinstance(found, dict):
        return found
    return {}


def summary(filled: xr.Dataset) -> str:
    """Describe each filled variable in a few lines, from its attributes and flags."""
    return "\n".join(_summarise(filled, name) for name in filled_variables(filled))


def _summarise(filled: xr.Dataset, name: str) -> str:
    da = filled[name]
    lines = {"gaps": _gaps(filled[f"{name}_source"])} | decisions(da)
    score = fill_score(da.attrs.get("sstfill_score"))
    if score:
        lines["score"] = _score(score, str(da.attrs.get("units", "")))
    sizes = ", ".join(f"{dim} {size}" for dim, size in da.sizes.items())
    # Line by line, since names and attributes may hold line breaks.
    shown = [printable(f"{name} ({sizes})")]
    for key, text in lines.items():
        shown.append(printable(f"  {key:<7} {text}"))
    return "\n".join(shown)


def decisions(da: xr.DataArray) -> dict[str, str]:
    """Return what was decided about a filled variable, and why: method, space, sea."""
    method = fill_record(da.attrs["sstfill_method"])
    diagnostics = method["diagnostics"]
    lines = {}
    if "sstfill_sea" in da.attrs:
        lines["sea"] = str(da.attrs["sstfill_sea"])
    # `auto` tells of the methods that it tried; any other method of its own numbers.
    if "chosen" in diagnostics:
        lines |= _choice(diagnostics)
    else:
        words = [method["name"]]
        for key, value in diagnostics.items():
            # Lists, such as the error for each number of modes, would fill the screen.
            if isinstance(value, int | float):
                words.append(f"{key} {number(value)}")
        lines["method"] = ", ".join(words)
    if "members" in method:
        lines["members"] = f"{method['members']} plausible fields in {da.name}_members"
        if "drawn_by" in diagnostics:
            lines["members"] += f", errors correlated as those of {diagnostics['drawn_by']}"
    if "transform" in method:
        lines["values"] = f"filled {WORDS[method['transform']['kind']]}"
        lines["values"] += f" ({method['transform']['why']})"
        if "why" in lines:
            lines["why"] += f", in {SCALES[method['transform']['kind']]}"
    return lines


def _choice(made: dict[str, Any]) -> dict[str, str]:
    """What `sstfill.Auto` chose, why, and what it left out."""
    lines = {"method": f"auto, which chose {' + '.join(made['chosen'])}", "why": made["why"]}
    errors = {}
    for name, rmse in made.get("rmse", {}).items():
        # Of variables filled together there is a number for each of them, and no order.
        if isinstance(rmse, int | float):
            errors[name] = rmse
    if len(errors) > 1:
        best_first = sorted(errors, key=errors.__getitem__)
        tried = ", ".join(f"{name} {number(errors[name])}" for name in best_first)
        lines["tried"] = f"RMSE {tried}"
    if "weights" in made:
        weights = [f"{name} {_span(made['weights'][name])}" for name in made["chosen"]]
        lines["weights"] = ", ".join(weights)
    if "skipped" in made:
        lines["without"] = "; ".join(f"{name} ({why})" for name, why in made["skipped"].items())
    return lines


def _span(table: list[list[float]]) -> str:
    """From the least weight to the greatest, in percent."""
    weights = list(itertools.chain.from_iterable(table))
    # Strata differ, so a method may weigh much near data and little far from them.
    low, high = round(100 * min(weights)), round(100 * max(weights))
    if low == high:
        return f"{low} %"
    return f"{low}-{high} %"


def _gaps(source: xr.DataArray) -> str:
    """Count the flags; the percentage refers to the sea."""
    counted = xr.Dataset()
    for key, value in SOURCE_FLAGS.items():
        counted[key] = (source == value).sum()
    counted = counted.compute()  # all in one pass over the data
    filled, empty = int(counted["filled"]), int(counted["not_filled"])
    # A part of a filled series may hold no sea.
    sea = max(source.size - int(counted["land"]), 1)
    text = f"{100 * (filled + empty) / sea:.1f} % of the sea was missing, {filled} pixels filled"
    if empty:
        text += f", {empty} left empty"
    return text


def _score(score: dict[str, Any], units: str) -> str:
    text = f"MAE {number(score['mae'])}, RMSE {number(score['rmse'])}, "
    text += "bias unknown" if score["bias"] is None else f"bias {score['bias']:+.2g}"
    if units:
        text += f" {units}"
    text += f" at {score['n']} withheld pixels"
    for scale in filter(None, SCALES.values()):
        if f"rmse_{scale}" in score:
            text += f", RMSE {number(score[f'rmse_{scale}'])} in {scale}"
    coverage = score.get("coverage", {})
    # By number, for JSON has its keys as text: the widest interval tells most of a wrong error.
    for level in sorted(coverage, key=float, reverse=True):
        if coverage[level] is not None:
            text += f"; {coverage[level]:.1%} inside the {float(level):.0%} interval"
            break
    return text


def number(value: float | None) -> str:
    """Write a number with three digits, a count with all; None is unknown.

    >>> number(0.123456), number(12345), number(None)
    ('0.123', '12345', 'unknown')
    """
    if value is None:
        return "unknown"
    if isinstance(value, int):
        return str(value)
    return f"{value:.3g}"
