# SPDX-License-Identifier: Apache-2.0
"""``sstfill info``, ``methods`` and ``plot``."""

from __future__ import annotations

import argparse
import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from sstfill import io, plot
from sstfill.cli.options import explained, own_fields, spelled
from sstfill.cli.source import (
    FILMS,
    PICTURES,
    account,
    add_input,
    add_lakes,
    add_links,
    add_variables,
    check_picture,
    is_film,
    names,
    sea,
    series,
)
from sstfill.describe import describe
from sstfill.docstrings import summary as purpose
from sstfill.errors import InputError, OptionError
from sstfill.fields.reading.account import MissingValues
from sstfill.methods import METHODS, method_class
from sstfill.printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    parser.add_argument(
        "--out",
        required=True,
        metavar="PNG",
        help="picture to write; a name that ends in .gif or .mp4 is a film of all dates",
    )
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
    """Draw one date of a filled file, or all of them as a film."""
    check_picture(args.out, [args.input], (*PICTURES, *FILMS))
    film = is_film(args.out)
    for option in ("time", "members"):
        if film and getattr(args, option) is not None:
            raise OptionError(
                f"--{option} is for a picture, and {args.out!r} is a film; leave it out, or end "
                "the name in .png"
            )
    # without --time None is not a number either, and `plot` chooses
    when: str | int | None = args.time
    with contextlib.suppress(TypeError, ValueError):
        # a number is an index; what is no number is a date, which `plot` reads
        when = int(args.time)
    links = args.allow_links
    with io.reading(args.input), io.open(args.input, chunks={}, allow_links=links) as filled:
        figure: Figure | plot.Animation
        if film:
            figure = plot.animation(filled, variable=args.variable)
        elif args.members is None:
            figure = plot.maps(filled, variable=args.variable, time=when)
        else:
            figure = plot.members(filled, variable=args.variable, time=when, n=args.members)
        yield f"drawn to {plot.save(figure, args.out)}"


def missing_lines(missing: Mapping[str, MissingValues]) -> Iterator[str]:
    """Yield one line for each variable: its missing values by rule."""
    for name, found in missing.items():
        yield f"missing in {printable(name)}: {found}"
