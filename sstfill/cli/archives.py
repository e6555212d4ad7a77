# SPDX-License-Identifier: Apache-2.0
"""``sstfill fill`` of an archive, unit by unit, and ``sstfill verify``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from sstfill import io, plot
from sstfill.cli.looking import missing_lines
from sstfill.cli.source import account, add_links, names, sea
from sstfill.errors import InputError, OptionError
from sstfill.fields.reading.account import MissingValues
from sstfill.methods import Method
from sstfill.printable import printable
from sstfill.report.summary import filled_variables
from sstfill.report.write import write_report

# `sstfill.archive` takes a fifth of a second to import, which a fill in memory saves.
if TYPE_CHECKING:
    from sstfill.archive import FillOutcome

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
        f"With an input above {LARGE / 1e9:.0f} GB, or any of these options, a .zarr output is "
        "filled unit by unit. If it is killed, the same command continues. The fitted method is "
        "kept beside the output, in OUT.job",
    )
    group.add_argument(
        "--update",
        action="store_true",
        help="fill only days that are new or revised, and those that they influence, "
        "by the fitted method",
    )
    group.add_argument(
        "--refit", action="store_true", help="fit the method again and fill everything again"
    )
    group.add_argument(
        "--like", metavar="FILLED", help="fill by the method that was fitted for this output"
    )
    group.add_argument(
        "--workers", type=int, default=0, metavar="N", help="fill with N processes of this machine"
    )
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="fill on a dask.distributed cluster that sees the same files: tcp://host:8786",
    )
    group.add_argument("--memory", metavar="SIZE", help="memory that may be used: 4GB")


def is_for_archive(args: argparse.Namespace) -> bool:
    """Whether the input is to be filled unit by unit."""
    options = ("update", "refit", "like", "workers", "scheduler", "memory")
    asked = [option for option in options if getattr(args, option)]
    if Path(args.out).suffix.lower() != ".zarr":
        if asked:
            raise OptionError(
                f"--{asked[0]} fills unit by unit, into a Zarr store; {args.out!r} does not end "
                "with .zarr; change --out"
            )
        return False
    if len(args.inputs) > 1:
        if asked:
            raise OptionError(
                f"--{asked[0]} fills one store unit by unit, and {len(args.inputs)} inputs are "
                "given; make one of them first: sstfill import-granules"
            )
        return False
    from sstfill.archive.job import is_archive_output

    # What was filled unit by unit is gone on with, however small the input.
    if asked or is_archive_output(args.out):
        return True
    with (
        io.reading(args.inputs[0]),
        io.open(args.inputs[0], chunks={}, group=args.group, allow_links=args.allow_links) as ds,
    ):
        # decoded, as `sstfill.fill` would hold it in memory
        return bool(ds.nbytes > LARGE)


def run_archive(args: argparse.Namespace, method: Method | None) -> Iterator[str]:
    """Fill an archive, and report."""
    from sstfill import archive
    from sstfill.archive.job import is_archive_output

    if args.together:
        raise OptionError(
            "--together does not work unit by unit: each variable is filled alone; leave it out"
        )
    if args.workers < 0:
        raise OptionError(f"--workers {args.workers} is less than 0; give a number of processes")
    # an update does not read what it has filled already, nor is it counted again
    updated = args.update and is_archive_output(args.out)
    missing = {} if updated else account(args)
    done = archive.fill_archive(
        args.inputs[0],
        args.out,
        method,
        variables=names(args.variable),
        sea=sea(args.sea, args.lakes),
        lakes=args.lakes,
        quality_level=args.quality_level,
        l2p_flags=names(args.l2p_flags) or (),
        group=args.group,
        allow_links=args.allow_links,
        transform=args.transform,
        members=args.members,
        seed=args.seed,
        update=args.update,
        refit=args.refit,
        like=args.like,
        workers=args.workers,
        scheduler=args.scheduler,
        memory=size(args.memory),
    )
    yield report(done)
    yield from missing_lines(missing)
    if args.plot or args.report:
        with io.open(args.out, chunks={}) as written:
            yield from shown(args, written, missing)


def shown(
    args: argparse.Namespace, filled: xr.Dataset, missing: Mapping[str, MissingValues]
) -> Iterator[str]:
    """Draw the picture and write the report that were asked for."""
    if args.plot:
        figure = plot.maps(filled, variable=filled_variables(filled)[0])
        yield f"drawn to {plot.save(figure, args.plot)}"
    if args.report:
        rules = {name: str(found) for name, found in missing.items()}
        write_report(filled, args.report, command=args.command_line, missing=rules)
        yield f"report written to {args.report}"


def report(done: FillOutcome) -> str:
    """Summarise a run in a few lines."""
    if not done.made:
        return f"nothing to do: {done.out} holds all days as they are, none is new or revised"
    counts = {"new": done.new, "revised": done.revised, "influenced by these": done.influenced}
    days = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    lines = [f"{done.made} of {done.units} units filled; days: {days}"]
    gaps = done.filled + done.not_filled
    if gaps:
        lines.append(f"{done.filled / gaps:.1%} of the gaps at sea in them filled")
    for name, score in done.score.items():
        if score:
            error, bias = f"RMSE {score['rmse']:.3g}", f"bias {score['bias']:+.2g}"
            # Of a transformed field, whose error in units says little where values are small.
            for key in ("rmse_log10", "rmse_logit"):
                if key in score:
                    error += f" ({score[key]:.3g} in {key.removeprefix('rmse_')})"
            lines.append(f"{printable(name)}: {error}, {bias} on withheld clouds")
    # The time of the fit apart: it is spent once, and not by the nights that follow.
    last = f"written to {done.out} in {done.seconds:.1f} s"
    if done.fitting:
        last += f", {done.fitting:.0f} s of it to fit the method"
    if done.memory:
        last += f"; {done.memory / 1e9:.2f} GB of memory at most"
    return "\n".join([*lines, last])


def size(text: str | None) -> int | None:
    """Read a size in bytes.

    >>> size("4GB"), size("512 MiB"), size(None)
    (4000000000, 536870912, None)
    """
    if text is None:
        return None
    # SI prefixes are powers of 1000, those with an i of 1024.
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([kmgt]?i?)b?\s*", text.lower())
    bytes_given = 0.0
    if found:
        bytes_given = float(found[1]) * UNITS[found[2]]
    if not 1 <= bytes_given < 2**63:
        shown = text if len(text) < 40 else f"{text[:40]}..."
        raise OptionError(f"--memory {shown!r} is not a size; give one such as 4GB or 800MB")
    return int(bytes_given)


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill verify``."""
    parser.add_argument("filled", metavar="FILLED", help="Zarr store that was filled as an archive")
    parser.add_argument(
        "--input",
        metavar="ARCHIVE",
        help="archive to compare the observed values with (default: the one it was last filled "
        "from, if that is there)",
    )
    add_links(parser)


def run_verify(args: argparse.Namespace) -> Iterator[str]:
    """Check a filled store; each fault is one line, and any fault is an error."""
    from sstfill import archive

    found = archive.verify(args.filled, args.input, allow_links=args.allow_links)
    # every fault, before the error that ends the command
    yield from map(printable, found.wrong)
    if found.wrong:
        raise InputError(
            f"{args.filled} has {len(found.wrong)} faults; fill again what they concern: "
            "--update, or --refit"
        )
    against = "not compared with an archive: --input"
    if found.compared:
        against = "observed values are those of the archive"
    yield (
        f"{args.filled}: {found.units} units, every chunk is there, flags and values agree; "
        f"{against}"
    )
