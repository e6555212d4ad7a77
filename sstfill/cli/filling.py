# SPDX-License-Identifier: Apache-2.0
"""``sstfill fill`` and ``sstfill dineof-modes``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from sstfill import io
from sstfill.cli import archives
from sstfill.cli.archives import shown
from sstfill.cli.looking import missing_lines
from sstfill.cli.options import add_options, method
from sstfill.cli.source import (
    account,
    add_input,
    add_lakes,
    add_transform,
    add_variables,
    check_output,
    check_picture,
    computing_in_threads,
    names,
    sea,
    series,
)
from sstfill.fill import fill
from sstfill.methods import METHODS, Dineof
from sstfill.modes import dineof_modes
from sstfill.printable import printable
from sstfill.report.summary import summary
from sstfill.report.write import check_target

FIXED = ("outliers", "return_modes")
"""Options of DINEOF that do not apply where only the modes are wanted."""


def add_fill(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill fill``, but for those of a method."""
    _add_common(parser)
    add_lakes(parser)
    parser.add_argument(
        "--method",
        metavar="NAME",
        help=f"{', '.join(sorted(METHODS))}; by default auto, which takes the one that does best "
        "on withheld clouds. For the options of a method: sstfill fill --method NAME --help",
    )
    add_transform(parser)
    parser.add_argument(
        "--members",
        type=int,
        metavar="N",
        help="also write N plausible fields, which equal the observations and differ in the gaps "
        "as the truth may: the spread of a regional mean among them is its error (default: 0; with "
        "--update as many as the output has)",
    )
    parser.add_argument(
        "--no-score",
        action="store_true",
        help="do not score the fill on withheld clouds, nor scale the errors by that score; halves "
        "the time of a method given by name (auto always needs the score)",
    )
    parser.add_argument(
        "--plot", metavar="PNG", help="also draw one date of the first filled variable"
    )
    parser.add_argument(
        "--report",
        metavar="HTML",
        help="also write a page about the fill: maps, scores, errors, what was decided and why",
    )
    archives.add_archive(parser)


def add_dineof_modes(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill dineof-modes``."""
    _add_common(parser)
    add_options(parser, "dineof", FIXED)


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_input(parser)
    parser.add_argument(
        "--out",
        required=True,
        metavar="OUT",
        help="output, .nc or .zarr; an earlier one is replaced once the new one is complete",
    )
    add_variables(parser)
    parser.add_argument(
        "--together", action="store_true", help="fill several variables as one multivariate field"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of everything random (default: 0)"
    )


def run_fill(args: argparse.Namespace) -> Iterator[str]:
    """Fill a file, and report."""
    started = time.perf_counter()
    check_output(args.out, args.inputs, claimed=True)
    check_picture(args.plot, args.inputs)
    if args.report is not None:
        # All outputs are checked before hours of work.
        check_target(args.report, args.inputs)
    # before the input is opened: a slip in an option costs no time then
    chosen = None  # auto, with the seed
    if args.method is not None:
        chosen = method(args, args.method)
    if archives.is_for_archive(args):
        yield from archives.run_archive(args, chosen)
        return
    # claimed before the work: two commands that fill one output for hours would overwrite each
    # other
    with io.claimed(args.out, source=args.inputs) as output, series(args) as ds:
        output.check(ds)
        missing = account(args, ds)
        filled = fill(
            ds,
            chosen,
            variables=names(args.variable),
            together=args.together,
            sea=sea(args.sea, args.lakes),
            lakes=args.lakes,
            score=not args.no_score,
            transform=args.transform,
            members=args.members or 0,
            seed=args.seed,
        )
        output.write(filled)
    # read back: what is reported is what is in the file
    with computing_in_threads(), io.open(args.out, chunks={}) as written:
        yield summary(written)
        yield from missing_lines(missing)
        yield from shown(args, written, missing)
    yield f"written to {args.out} in {time.perf_counter() - started:.1f} s"


def run_dineof_modes(args: argparse.Namespace) -> Iterator[str]:
    """Write the modes that DINEOF finds, and list them."""
    check_output(args.out, args.inputs, claimed=True)
    dineof = method(args, "dineof", return_modes=True)
    assert isinstance(dineof, Dineof)
    with io.claimed(args.out, source=args.inputs) as output, series(args) as ds:
        chosen = names(args.variable)
        found = dineof_modes(
            ds, dineof, variables=chosen, together=args.together, sea=sea(args.sea)
        )
        output.write(found)
    for name, variance in found.filter_by_attrs(units="percent").data_vars.items():
        # Variables of one file may have different numbers of modes, and the rest is NaN.
        known = variance.dropna("mode").values
        shown = [f"{value:.1f} %" for value in known[:8]]
        if known.size > 8:
            shown.append("...")
        yield f"{printable(str(name))}: {known.size} modes, of the variance {', '.join(shown)}"
    yield f"written to {args.out}"
