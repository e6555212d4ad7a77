# SPDX-License-Identifier: Apache-2.0
"""``sstfill demo``: score and fill a synthetic ocean whose truth is known."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from sstfill import io, plot
from sstfill.cli.source import check_output, check_picture
from sstfill.cli.summary import summary
from sstfill.evaluation import score
from sstfill.fill import fill
from sstfill.synthetic import ocean
from sstfill.validation import metrics

SHAPE = (60, 96, 96)
QUICK = ("climatology", "interpolate", "dineof", "bayes_eof", "oi")


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill demo``."""
    parser.add_argument(
        "--out", default=".", metavar="DIR", help="folder for filled.nc and filled.png (default: .)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another ocean (default: 0)"
    )


def run_demo(args: argparse.Namespace) -> Iterator[str]:
    """Make an ocean, score all methods on it, fill it with the best, and compare with the truth."""
    target, picture = Path(args.out) / "filled.nc", Path(args.out) / "filled.png"
    check_output(str(target))
    check_picture(str(picture))
    seen = ocean(shape=SHAPE, step="1D", seed=args.seed)
    days, rows, columns = SHAPE
    yield f"a synthetic ocean of {days} days, {rows} x {columns} pixels, behind moving clouds\n"
    card = score(seen, QUICK, variable="sst", seed=args.seed)
    yield f"{card}\n"
    filled = fill(seen, card.best, variables="sst", seed=args.seed)
    yield summary(filled)
    gap = (filled.sst_source == 1).values
    error = metrics.rmse(filled.sst.values[gap], seen.truth.values[gap])
    yield f"  truth   RMSE {error:.3f} {seen.sst.units} at all filled pixels, where the truth is known here\n"
    io.write(filled, target)
    yield f"written to {target}"
    yield f"drawn to {plot.save(plot.maps(filled, variable='sst'), picture)}"
