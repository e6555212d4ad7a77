# SPDX-License-Identifier: Apache-2.0
"""A few lines on what was filled, by what, and how well, read off the attributes and flags of the
result.
"""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from sstfill.errors import ReadError
from sstfill.fields.gaps import SOURCE_FLAGS
from sstfill.io.untrusted.documents import parse_json


def filled_variables(ds: xr.Dataset) -> list[str]:
    """Names of the variables that sstfill filled."""
    return [
        str(n)
        for n, v in ds.data_vars.items()
        if f"{n}_source" in ds and _told(v.attrs.get("sstfill_method"))
    ]


def _told(attribute: object) -> dict[str, Any]:
    """What an attribute tells of a method; nothing where it is not one that `sstfill.fill` wrote."""
    try:
        said = parse_json(str(attribute), "sstfill_method", remedy="")
    except ReadError:
        return {}
    return said if isinstance(said, dict) and {"name", "diagnostics"} <= said.keys() else {}


def summary(filled: xr.Dataset) -> str:
    """Describe each filled variable."""
    return "\n".join(_of(filled, name) for name in filled_variables(filled))


def _of(filled: xr.Dataset, name: str) -> str:
    da = filled[name]
    said = _told(da.attrs["sstfill_method"])
    sizes = ", ".join(f"{d} {n}" for d, n in da.sizes.items())
    found = [
        f"{k} {_number(v)}" for k, v in said["diagnostics"].items() if isinstance(v, int | float)
    ]
    lines = {"gaps": _gaps(filled[f"{name}_source"]), "method": ", ".join([said["name"], *found])}
    if "chosen" in said["diagnostics"]:
        lines |= _choice(said["diagnostics"])
    if "sstfill_score" in da.attrs:
        lines["score"] = _score(
            json.loads(da.attrs["sstfill_score"]), str(da.attrs.get("units", ""))
        )
    return "\n".join([f"{name} ({sizes})", *(f"  {key:<7} {text}" for key, text in lines.items())])


def _choice(made: dict[str, Any]) -> dict[str, str]:
    """What `sstfill.Auto` chose, on what grounds, and what it left out."""
    lines = {"method": f"auto, which chose {' + '.join(made['chosen'])}", "why": made["why"]}
    errors = {k: v for k, v in made.get("rmse", {}).items() if isinstance(v, int | float)}
    if len(errors) > 1:
        best = sorted(errors, key=lambda name: errors[name])
        lines["tried"] = "RMSE " + ", ".join(f"{name} {_number(errors[name])}" for name in best)
    if "weights" in made:
        lines["weights"] = ", ".join(
            f"{name} {_span(made['weights'][name])}" for name in made["chosen"]
        )
    if "skipped" in made:
        lines["without"] = "; ".join(f"{name} ({why})" for name, why in made["skipped"].items())
    return lines


def _span(table: list[list[float]]) -> str:
    """From the least weight to the greatest, in percent."""
    low, high = (100 * pick(map(pick, table)) for pick in (min, max))
    return f"{low:.0f} %" if round(low) == round(high) else f"{low:.0f}-{high:.0f} %"


def _gaps(source: xr.DataArray) -> str:
    """Count the flags; the share refers to the sea."""
    found = xr.Dataset(
        {key: (source == value).sum() for key, value in SOURCE_FLAGS.items()}
    ).compute()  # in one pass
    counts = {str(key): int(n) for key, n in found.data_vars.items()}
    sea = source.size - counts["land"]
    gaps = counts["filled"] + counts["not_filled"]
    left = f", {counts['not_filled']} left empty" if counts["not_filled"] else ""
    return (
        f"{100 * gaps / sea:.1f} % of the sea was missing, {counts['filled']} pixels filled{left}"
    )


def _score(score: dict[str, Any], units: str) -> str:
    errors = [f"{key.upper()} {_number(score[key])}" for key in ("mae", "rmse")]
    parts = [*errors, f"bias {score['bias']:+.2g}" if score["bias"] is not None else "bias unknown"]
    held = {float(k): v for k, v in score.get("coverage", {}).items() if v is not None}
    text = ", ".join(parts) + (f" {units}" if units else "") + f" at {score['n']} withheld pixels"
    return text + "".join(
        f"; {v:.1%} inside the {k:.0%} interval" for k, v in held.items() if k == max(held)
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else str(value) if isinstance(value, int) else f"{value:.3g}"
