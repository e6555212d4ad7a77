# SPDX-License-Identifier: Apache-2.0
"""``sstfill score``: a table of methods on withheld clouds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from sstfill import plot
from sstfill.cli.source import add_input, check_picture, names, sea, series
from sstfill.evaluation import score
from sstfill.evaluation.withheld import ALL
from sstfill.io import atomic_path, place
from sstfill.methods import METHODS


def add_score(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill score``."""
    add_input(parser)
    parser.add_argument(
        "--methods",
        metavar="A,B,C",
        help=f"of {', '.join(sorted(METHODS))}, with default options; "
        "all for each one that can do with so many images, by default all but auto, which costs "
        "as much as the others together",
    )
    parser.add_argument("--variable", metavar="V", help="which field, where there are several")
    parser.add_argument(
        "--share",
        type=float,
        default=0.1,
        metavar="X",
        help="part of the observed pixels to hide (default: 0.1)",
    )
    parser.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="hide so often and pool (default: 1)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="equal seeds hide equal pixels (default: 0)",
    )
    parser.add_argument(
        "--no-calibrate",
        action="store_true",
        help="judge the errors as the methods state them, not as fill scales them; halves the time",
    )
    parser.add_argument("--plot", metavar="PNG", help="also draw the scores")
    parser.add_argument("--json", metavar="FILE", help="also write all numbers as JSON")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def run_score(args: argparse.Namespace) -> Iterator[str]:
    """Score methods on a file and print the table."""
    check_picture(args.plot, args.input)
    if args.json is not None:
        place.check(args.json, args.input)
    with series(args) as ds:
        wanted = ALL if args.methods == ALL else names(args.methods)
        card = score(
            ds,
            wanted,
            variable=args.variable,
            share=args.share,
            seed=args.seed,
            repeats=args.repeats,
            sea=sea(args.sea),
            calibrate=not args.no_calibrate,
        )
    yield card.to_markdown() if args.markdown else str(card)
    if args.json:
        with atomic_path(args.json, replaces=place.check_replaceable) as temporary:
            temporary.write_text(card.to_json())
        yield f"numbers written to {args.json}"
    if args.plot:
        yield f"drawn to {plot.save(plot.scorecard(card), args.plot)}"
