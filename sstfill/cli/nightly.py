# SPDX-License-Identifier: Apache-2.0
"""``sstfill nightly``."""

from __future__ import annotations

import argparse
from collections.abc import Generator

from sstfill.cli.archives import report, size
from sstfill.cli.process.terminal import complain
from sstfill.errors import OptionError

STATUS = (
    "exit status: 0 all is well; 1 done, but look at the report; 2 failed, nothing is lost, run "
    "the same command again; 70 an unexpected error, please report it; 75 another run holds the "
    "lock, nothing was done; 129, 130 or 143 ended by a signal, run the same command again"
)


def add_nightly(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill nightly``."""
    parser.epilog = STATUS
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a TOML file, or one that ships: nightly/med_l3s"
    )
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="where the recipe's relative paths begin (default: the folder of the recipe; for one "
        "that ships, the working directory)",
    )
    parser.add_argument(
        "--refit",
        action="store_true",
        help="fit the method again and fill everything again, as after a new version of sstfill",
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="fill with N processes of this machine"
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="fill on a dask.distributed cluster that sees the same files: tcp://host:8786",
    )
    parser.add_argument("--memory", metavar="SIZE", help="memory that may be used: 4GB")


def run_nightly(args: argparse.Namespace) -> Generator[str, None, int]:
    """Run a recipe once; what calls for attention goes to standard error.

    So cron sends a mail only then.
    """
    from sstfill.nightly import load_nightly, run_night

    if args.workers < 0:
        raise OptionError(f"--workers {args.workers} is less than 0; give a number of processes")
    recipe = load_nightly(args.recipe, args.folder)
    memory = size(args.memory)
    night = run_night(
        recipe, workers=args.workers, scheduler=args.scheduler, memory=memory, refit=args.refit
    )
    # no error: cron runs the command again, and finds the lock free
    if night.status == "busy":
        complain(f"busy: {night.failure}")
        return night.exit
    if night.outcome is not None:
        yield report(night.outcome)
    if args.quiet:  # else they were shown as warnings
        for text in night.attention:
            complain(f"attention: {text}")
    yield f"{night.status}; the report: {recipe.report / 'index.html'}"
    return night.exit
