# SPDX-License-Identifier: Apache-2.0
"""``sstfill info``, ``sstfill methods`` and ``sstfill plot``: look without filling."""

from __future__ import annotations

import argparse
import contextlib
import textwrap
from collections.abc import Iterator

from sstfill import io, plot
from sstfill.cli.options import explained, own_fields, spelled
from sstfill.cli.source import (
    add_input,
    add_links,
    add_variables,
    check_picture,
    names,
    sea,
    series,
)
from sstfill.describe import describe
from sstfill.docstrings import summary
from sstfill.methods import METHODS, method_class


def add_info(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill info``."""
    add_input(parser)
    add_variables(parser)


def run_info(args: argparse.Namespace) -> Iterator[str]:
    """Say what is seen of a file; a field that could not be filled is told, not an error."""
    with series(args) as ds:
        yield str(describe(ds, variables=names(args.variable), sea=sea(args.sea)))


def add_methods(parser: argparse.ArgumentParser) -> None:
    """Give a parser the argument of ``sstfill methods``."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="list the options of this method")


def run_methods(args: argparse.Namespace) -> Iterator[str]:
    """List the methods, or the options of one."""
    if args.name is None:
        width = max(map(len, METHODS))
        yield "\n".join(f"{name:<{width}}  {summary(cls)}" for name, cls in sorted(METHODS.items()))
        return
    yield f"{args.name}: {summary(method_class(args.name))}"
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
        help="a date, or the index of an image; by default the one of which about half was filled",
    )
    parser.add_argument("--variable", metavar="V", help="which variable, where several were filled")
    add_links(parser)


def run_plot(args: argparse.Namespace) -> Iterator[str]:
    """Draw one date of a filled file."""
    check_picture(args.out, args.input)
    when: str | int | None = args.time
    with contextlib.suppress(TypeError, ValueError):
        when = int(args.time)
    links = args.allow_links
    with io.reading(args.input), io.open(args.input, chunks={}, allow_links=links) as filled:
        picture = plot.maps(filled, variable=args.variable, time=when)
        yield f"drawn to {plot.save(picture, args.out)}"
