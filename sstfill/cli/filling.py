# SPDX-License-Identifier: Apache-2.0
"""``sstfill fill`` and ``sstfill dineof-modes``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from sstfill import io, plot
from sstfill.cli import archives
from sstfill.cli.options import add_options, method
from sstfill.cli.source import (
    add_input,
    add_variables,
    check_output,
    check_picture,
    names,
    sea,
    series,
)
from sstfill.cli.summary import filled_variables, summary
from sstfill.fill import fill
from sstfill.methods import METHODS, Dineof
from sstfill.modes import dineof_modes

FIXED = ("outliers", "return_modes")
"""Options of DINEOF that mean nothing where only the modes are wanted."""


def add_fill(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill fill``, but for those of a method."""
    _add_common(parser)
    parser.add_argument(
        "--method",
        metavar="NAME",
        help=f"{', '.join(sorted(METHODS))}; auto by default, "
        "which takes what does best on withheld clouds. Its options: "
        "sstfill fill --method NAME --help",
    )
    parser.add_argument(
        "--no-score",
        action="store_true",
        help="do without the score on withheld clouds and the "
        "scaling of the errors that comes with it; halves the time of a method that is named (auto is "
        "scored anyway)",
    )
    parser.add_argument(
        "--plot", metavar="PNG", help="also draw one date of the first filled variable"
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
        help="output, .nc or .zarr; an earlier one is replaced when the new one is whole",
    )
    add_variables(parser)
    parser.add_argument(
        "--together", action="store_true", help="take several variables as one multivariate field"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all that is random (default: 0)"
    )


def run_fill(args: argparse.Namespace) -> Iterator[str]:
    """Fill a file, and report."""
    started = time.perf_counter()
    check_output(args.out, args.input, claimed=True)
    check_picture(args.plot, args.input)
    chosen = None if args.method is None else method(args, args.method)  # None: auto with the seed
    if archives.meant(args):
        yield from archives.run_archive(args, chosen)
        return
    with io.claimed(args.out, source=args.input) as output, series(args) as ds:
        output.check(ds)
        filled = fill(
            ds,
            chosen,
            variables=names(args.variable),
            together=args.together,
            sea=sea(args.sea),
            score=not args.no_score,
            seed=args.seed,
        )
        output.write(filled)
    with io.open(args.out, chunks={}) as written:
        yield summary(written)
        if args.plot:
            yield f"drawn to {plot.save(plot.maps(written, variable=filled_variables(written)[0]), args.plot)}"
    yield f"written to {args.out} in {time.perf_counter() - started:.1f} s"


def run_dineof_modes(args: argparse.Namespace) -> Iterator[str]:
    """Write the modes that DINEOF finds, and list them."""
    check_output(args.out, args.input, claimed=True)
    dineof = method(args, "dineof", return_modes=True)
    assert isinstance(dineof, Dineof)
    with io.claimed(args.out, source=args.input) as output, series(args) as ds:
        chosen = names(args.variable)
        found = dineof_modes(
            ds, dineof, variables=chosen, together=args.together, sea=sea(args.sea)
        )
        output.write(found)
    for name, share in found.filter_by_attrs(units="percent").data_vars.items():
        known = share.dropna("mode").values
        first = ", ".join(f"{value:.1f} %" for value in known[:8])
        yield f"{name}: {known.size} modes, of the variance {first}{', ...' if known.size > 8 else ''}"
    yield f"written to {args.out}"
