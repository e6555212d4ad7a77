# SPDX-License-Identifier: Apache-2.0
"""``sstfill fill`` of an archive, unit by unit, and ``sstfill verify``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from sstfill import archive, io, plot
from sstfill.archive import FillOutcome
from sstfill.archive.job import is_archive_output
from sstfill.cli.source import add_links, names, sea
from sstfill.cli.summary import filled_variables
from sstfill.errors import InputError, OptionError
from sstfill.methods import Method

LARGE = 2e9
"""Bytes of an input, decoded, beyond which it is filled unit by unit anyway, if into a Zarr store.
"""
UNITS = {
    "": 1,
    "k": 1e3,
    "m": 1e6,
    "g": 1e9,
    "t": 1e12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def add_archive(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of filling unit by unit."""
    group = parser.add_argument_group(
        "archives",
        f"An input above {LARGE / 1e9:.0f} GB, or with any of these, is filled unit by unit into a .zarr output; "
        "killed, the same command goes on where it was. The fitted method is kept beside the output, in OUT.job",
    )
    group.add_argument(
        "--update",
        action="store_true",
        help="fill only days that are new or revised since and those that they influence, by the fitted method",
    )
    group.add_argument(
        "--refit", action="store_true", help="fit the method again and fill everything again"
    )
    group.add_argument(
        "--like", metavar="FILLED", help="fill by the method that was fitted for this output"
    )
    group.add_argument(
        "--workers", type=int, default=0, metavar="N", help="fill by N processes of this machine"
    )
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="fill by a dask.distributed cluster that sees the same files, such as tcp://host:8786",
    )
    group.add_argument("--memory", metavar="SIZE", help="memory that may be used, such as 4GB")


def meant(args: argparse.Namespace) -> bool:
    """Whether the input is to be filled as an archive."""
    asked = [
        o for o in ("update", "refit", "like", "workers", "scheduler", "memory") if getattr(args, o)
    ]
    if Path(args.out).suffix.lower() != ".zarr":
        if asked:
            raise OptionError(
                f"--{asked[0]} fills unit by unit, into a Zarr store; {args.out!r} does not end with .zarr"
            )
        return False
    if asked or is_archive_output(args.out):
        return True
    with io.reading(args.input), io.open(args.input, chunks={}, allow_links=args.allow_links) as ds:
        return bool(ds.nbytes > LARGE)


def run_archive(args: argparse.Namespace, method: Method | None) -> Iterator[str]:
    """Fill an archive, and report."""
    if args.together:
        raise OptionError(
            "--together fills several variables at once, which is not done unit by unit; leave it out"
        )
    if args.workers < 0:
        raise OptionError(f"--workers {args.workers} is less than 0; give a number of processes")
    done = archive.fill_archive(
        args.input,
        args.out,
        method,
        variables=names(args.variable),
        sea=sea(args.sea),
        quality_level=args.quality_level,
        l2p_flags=names(args.l2p_flags) or (),
        allow_links=args.allow_links,
        seed=args.seed,
        update=args.update,
        refit=args.refit,
        like=args.like,
        workers=args.workers,
        scheduler=args.scheduler,
        memory=size(args.memory),
    )
    yield told(done)
    if args.plot:
        with io.open(args.out, chunks={}) as written:
            yield f"drawn to {plot.save(plot.maps(written, variable=filled_variables(written)[0]), args.plot)}"


def told(done: FillOutcome) -> str:
    """Say what a run did."""
    if not done.made:
        return f"nothing to do: {done.out} holds all days as they are, none is new or revised"
    days = ", ".join(
        f"{n} {what}"
        for n, what in (
            (done.new, "new"),
            (done.revised, "revised"),
            (done.influenced, "influenced by these"),
        )
        if n
    )
    lines = [f"{done.made} of {done.units} units filled; days: {days}"]
    gaps = done.filled + done.not_filled
    if gaps:
        lines.append(f"{done.filled / gaps:.1%} of the gaps at sea in them filled")
    for name, score in done.score.items():
        if score:
            lines.append(
                f"{name}: RMSE {score['rmse']:.3g}, bias {score['bias']:+.2g} on withheld clouds"
            )
    fitting = f", {done.fitting:.0f} s of it to fit the method" if done.fitting else ""
    memory = f"; {done.memory / 1e9:.2f} GB of memory at most" if done.memory else ""
    lines.append(f"written to {done.out} in {done.seconds:.1f} s{fitting}{memory}")
    return "\n".join(lines)


def size(text: str | None) -> int | None:
    """Read a size in bytes.

    >>> size("4GB"), size("512 MiB"), size(None)
    (4000000000, 536870912, None)
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?i?)b?\s*", text.lower())
    if not found or found[1].count(".") > 1 or not float(found[1]) > 0:
        raise OptionError(f"--memory {text!r} is no size; give one such as 4GB or 800MB")
    return int(float(found[1]) * UNITS[found[2]])


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill verify``."""
    parser.add_argument("filled", metavar="FILLED", help="Zarr store that was filled as an archive")
    parser.add_argument(
        "--input",
        metavar="ARCHIVE",
        help="archive that it was filled from, to compare observed "
        "values with; by default the one that it was filled from last, if that is there",
    )
    add_links(parser)


def run_verify(args: argparse.Namespace) -> Iterator[str]:
    """Check a filled store; what is wrong is one line each, and an error."""
    found = archive.verify(args.filled, args.input, allow_links=args.allow_links)
    yield from found.wrong
    if found.wrong:
        raise InputError(
            f"{args.filled}: {len(found.wrong)} things are wrong; fill again what they concern: --update, or --refit"
        )
    against = (
        "observed values are those of the archive"
        if found.compared
        else "not compared with an archive: --input"
    )
    yield f"{args.filled}: {found.units} units, every chunk is there, flags and values agree; {against}"
