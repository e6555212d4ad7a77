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
    head = printable(f"{name} ({sizes})")  # names and attributes may hold line breaks
    return "\n".join([head, *(printable(f"  {key:<7} {text}") for key, text in lines.items())])


def decisions(da: xr.DataArray) -> dict[str, str]:
    """Return what was decided about a filled variable, and why: method, space, sea."""
    method = fill_record(da.attrs["sstfill_method"])
    diagnostics = method["diagnostics"]
    lines = {}
    if "sstfill_sea" in da.attrs:
        lines["sea"] = str(da.attrs["sstfill_sea"])
    if "chosen" in diagnostics:
        lines |= _choice(diagnostics)
    else:
        numbers = {k: v for k, v in diagnostics.items() if isinstance(v, int | float)}
        words = [f"{key} {number(value)}" for key, value in numbers.items()]
        lines["method"] = ", ".join([method["name"], *words])
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
    errors = {k: v for k, v in made.get("rmse", {}).items() if isinstance(v, int | float)}
    if len(errors) > 1:
        best_first = sorted(errors, key=lambda name: errors[name])
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
    low, high = round(100 * min(weights)), round(100 * max(weights))
    if low == high:
        return f"{low} %"
    return f"{low}-{high} %"


def _gaps(source: xr.DataArray) -> str:
    """Count the flags; the percentage refers to the sea."""
    flags = {key: (source == value).sum() for key, value in SOURCE_FLAGS.items()}
    counted = xr.Dataset(flags).compute()  # all in one pass over the data
    counts = {str(key): int(n) for key, n in counted.data_vars.items()}
    sea = source.size - counts["land"]
    gaps = counts["filled"] + counts["not_filled"]
    text = f"{100 * gaps / sea:.1f} % of the sea was missing, {counts['filled']} pixels filled"
    if counts["not_filled"]:
        text += f", {counts['not_filled']} left empty"
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
    coverage = {float(k): v for k, v in score.get("coverage", {}).items() if v is not None}
    if coverage:
        widest = max(coverage)
        text += f"; {coverage[widest]:.1%} inside the {widest:.0%} interval"
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
