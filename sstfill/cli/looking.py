# SPDX-License-Identifier: Apache-2.0
"""``sstfill info``, ``methods`` and ``plot``, and the summary of what was filled."""

from __future__ import annotations

import argparse
import contextlib
import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import xarray as xr

from sstfill import io, plot
from sstfill.cli.options import explained, own_fields, spelled
from sstfill.cli.source import (
    account,
    add_input,
    add_lakes,
    add_links,
    add_variables,
    check_picture,
    names,
    sea,
    series,
)
from sstfill.describe import describe
from sstfill.docstrings import summary as purpose
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.fields.gaps import SOURCE_FLAGS
from sstfill.fields.reading.account import MissingValues
from sstfill.fields.transform import SCALES, WORDS
from sstfill.io.untrusted.documents import parse_json
from sstfill.methods import METHODS, method_class
from sstfill.printable import printable


def add_info(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill info``."""
    add_input(parser)
    add_lakes(parser)
    add_variables(parser)


def run_info(args: argparse.Namespace) -> Iterator[str]:
    """Describe a file; a field that could not be filled is reported, and is not an error."""
    with series(args) as ds:
        missing = {}
        with contextlib.suppress(InputError, OptionError):  # of which the description tells
            missing = account(args, ds)
        given, chosen = sea(args.sea, args.lakes), names(args.variable)
        yield str(describe(ds, variables=chosen, sea=given, lakes=args.lakes, missing=missing))


def add_methods(parser: argparse.ArgumentParser) -> None:
    """Give a parser the argument of ``sstfill methods``."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="list the options of this method")


def run_methods(args: argparse.Namespace) -> Iterator[str]:
    """List the methods, or the options of one."""
    if args.name is None:
        width = max(map(len, METHODS))
        yield "\n".join(f"{name:<{width}}  {purpose(cls)}" for name, cls in sorted(METHODS.items()))
        return
    yield f"{args.name}: {purpose(method_class(args.name))}"
    for field in own_fields(args.name):
        yield f"  {spelled(field)}"
        yield textwrap.fill(
            explained(args.name, field), 100, initial_indent=" " * 6, subsequent_indent=" " * 6
        )


def add_plot(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill plot``."""
    parser.add_argument("input", metavar="FILLED", help="what sstfill fill wrote")
    parser.add_argument("--out", required=True, metavar="PNG", help="picture to write")
    parser.add_argument(
        "--time",
        metavar="WHEN",
        help="a date, or the index of an image; by default an image about half of which was filled",
    )
    parser.add_argument("--variable", metavar="V", help="which variable, where several were filled")
    parser.add_argument(
        "--members",
        type=int,
        metavar="N",
        help="draw the first N members beside the filled field and its error",
    )
    add_links(parser)


def run_plot(args: argparse.Namespace) -> Iterator[str]:
    """Draw one date of a filled file."""
    check_picture(args.out, [args.input])
    when: str | int | None = args.time
    with contextlib.suppress(TypeError, ValueError):
        when = int(args.time)
    links = args.allow_links
    with io.reading(args.input), io.open(args.input, chunks={}, allow_links=links) as filled:
        if args.members is None:
            figure = plot.maps(filled, variable=args.variable, time=when)
        else:
            figure = plot.members(filled, variable=args.variable, time=when, n=args.members)
        yield f"drawn to {plot.save(figure, args.out)}"


def filled_variables(ds: xr.Dataset) -> list[str]:
    """Names of the variables that sstfill filled."""
    found = []
    for name, variable in ds.data_vars.items():
        if f"{name}_source" in ds and _provenance(variable.attrs.get("sstfill_method")):
            found.append(str(name))
    return found


def _provenance(attribute: object) -> dict[str, Any]:
    """Read ``sstfill_method``; empty where `sstfill.fill` did not write the attribute."""
    try:
        found = parse_json(str(attribute), "sstfill_method", remedy="")
    except ReadError:
        return {}
    if isinstance(found, dict) and {"name", "diagnostics"} <= found.keys():
        return found
    return {}


def missing_lines(missing: Mapping[str, MissingValues]) -> Iterator[str]:
    """Yield one line for each variable: its missing values by rule."""
    for name, found in missing.items():
        yield f"missing in {printable(name)}: {found}"


def summary(filled: xr.Dataset) -> str:
    """Describe each filled variable in a few lines, from its attributes and flags."""
    return "\n".join(_summarise(filled, name) for name in filled_variables(filled))


def _summarise(filled: xr.Dataset, name: str) -> str:
    da = filled[name]
    method = _provenance(da.attrs["sstfill_method"])
    diagnostics = method["diagnostics"]
    lines = {"gaps": _gaps(filled[f"{name}_source"])}
    if "sstfill_sea" in da.attrs:
        lines["sea"] = str(da.attrs["sstfill_sea"])
    if "chosen" in diagnostics:
        lines |= _choice(diagnostics)
    else:
        numbers = {k: v for k, v in diagnostics.items() if isinstance(v, int | float)}
        words = [f"{key} {_number(value)}" for key, value in numbers.items()]
        lines["method"] = ", ".join([method["name"], *words])
    if "members" in method:
        lines["members"] = f"{method['members']} plausible fields in {name}_members"
    if "transform" in method:
        lines["values"] = f"filled {WORDS[method['transform']['kind']]}"
        lines["values"] += f" ({method['transform']['why']})"
        if "why" in lines:
            lines["why"] += f", in {SCALES[method['transform']['kind']]}"
    if "sstfill_score" in da.attrs:
        score = json.loads(da.attrs["sstfill_score"])
        lines["score"] = _score(score, str(da.attrs.get("units", "")))
    sizes = ", ".join(f"{dim} {size}" for dim, size in da.sizes.items())
    head = printable(f"{name} ({sizes})")  # names and attributes may hold line breaks
    return "\n".join([head, *(printable(f"  {key:<7} {text}") for key, text in lines.items())])


def _choice(made: dict[str, Any]) -> dict[str, str]:
    """What `sstfill.Auto` chose, why, and what it left out."""
    lines = {"method": f"auto, which chose {' + '.join(made['chosen'])}", "why": made["why"]}
    errors = {k: v for k, v in made.get("rmse", {}).items() if isinstance(v, int | float)}
    if len(errors) > 1:
        best_first = sorted(errors, key=lambda name: errors[name])
        tried = ", ".join(f"{name} {_number(errors[name])}" for name in best_first)
        lines["tried"] = f"RMSE {tried}"
    if "weights" in made:
        weights = [f"{name} {_span(made['weights'][name])}" for name in made["chosen"]]
        lines["weights"] = ", ".join(weights)
    if "skipped" in made:
        lines["without"] = "; ".join(f"{name} ({why})" for name, why in made["skipped"].items())
    return lines


def _span(table: list[list[float]]) -> str:
    """From the least weight to the greatest, in percent."""
    weights = [100 * weight for row in table for weight in row]
    low, high = round(min(weights)), round(max(weights))
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
    text = f"MAE {_number(score['mae'])}, RMSE {_number(score['rmse'])}, "
    text += "bias unknown" if score["bias"] is None else f"bias {score['bias']:+.2g}"
    if units:
        text += f" {units}"
    text += f" at {score['n']} withheld pixels"
    for scale in filter(None, SCALES.values()):
        if f"rmse_{scale}" in score:
            text += f", RMSE {_number(score[f'rmse_{scale}'])} in {scale}"
    coverage = {float(k): v for k, v in score.get("coverage", {}).items() if v is not None}
    if coverage:
        widest = max(coverage)
        text += f"; {coverage[widest]:.1%} inside the {widest:.0%} interval"
    return text


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, int):
        return str(value)
    return f"{value:.3g}"
