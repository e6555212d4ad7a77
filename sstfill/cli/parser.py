# SPDX-License-Identifier: Apache-2.0
"""The grammar of the command line: subcommands, their options, and what is said of an option that does not exist."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sstfill.cli import (
    archives,
    benching,
    clouds,
    demo,
    downloading,
    filling,
    importing,
    looking,
    nightly,
    scoring,
    training,
)
from sstfill.cli.options import add_options, flag, own_fields
from sstfill.errors import OptionError, unknown
from sstfill.methods import METHODS, method_class
from sstfill.version import __version__

ABOUT = "Fill the gaps that clouds leave in satellite archives, and say how wrong each filled pixel may be."


class Command(NamedTuple):
    """A subcommand: what it is for, what gives a parser its options, and what runs it, text by text."""

    purpose: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Iterator[str]]


COMMANDS = {
    "fill": Command("fill the gaps of a file", filling.add_fill, filling.run_fill),
    "verify": Command("check a filled archive, chunk by chunk", archives.add_verify, archives.run_verify),
    "nightly": Command("download, fill, score, report; for cron", nightly.add_nightly, nightly.run_nightly),
    "train": Command("train a network on an archive", training.add_train, training.run_train),
    "score": Command("compare methods on observed pixels hidden from them", scoring.add_score, scoring.run_score),
    "info": Command("say what is seen of a file, and what would fail", looking.add_info, looking.run_info),
    "methods": Command("list the methods, or the options of one", looking.add_methods, looking.run_methods),
    "recipes": Command(
        "list the recipes that bring data in, or print one", downloading.add_recipes, downloading.run_recipes
    ),
    "plan": Command("say what a recipe would bring in", downloading.add_plan, downloading.run_plan),
    "download": Command(
        "bring in what a recipe says; killed, it goes on", downloading.add_download, downloading.run_download
    ),
    "import-granules": Command(
        "bring daily level-3 files into one Zarr store", importing.add_import_granules, importing.run_import_granules
    ),
    "import-video": Command(
        "bring video clips into a Zarr store", importing.add_import_video, importing.run_import_video
    ),
    "import-pycles": Command("import the clouds of a PyCLES run", clouds.add_import_pycles, clouds.run_import_pycles),
    "clouds": Command("say what thresholds hide of a series of clouds", clouds.add_clouds, clouds.run_clouds),
    "dineof-modes": Command("write the EOF modes that DINEOF finds", filling.add_modes, filling.run_modes),
    "plot": Command("draw one date of a filled file", looking.add_plot, looking.run_plot),
    "bench": Command("run the paper's protocol on the data at hand", benching.add_bench, benching.run_bench),
    "demo": Command("score, fill and draw a synthetic ocean", demo.add_demo, demo.run_demo),
}


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; `run` of the result is the subcommand to call with it.

    Raises
    ------
    OptionError
        An unknown method or option. (Other mistakes end the process with status 2, as argparse does.)

    >>> parse(["fill", "in.nc", "--out", "out.nc", "--method", "interpolate", "--limit", "5"]).method
    'interpolate'
    """
    parser, subparsers = _grammar(_method_named(words))
    args, rest = parser.parse_known_args(words)
    if rest:
        raise _excess(rest, args, subparsers[args.command].format_usage())
    return args


def _method_named(words: Sequence[str]) -> str | None:
    """Name after ``--method`` of ``fill``: it decides which options there are."""
    if next((word for word in words if not word.startswith("-")), "") != "fill":
        return None
    scout = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    scout.add_argument("--method", nargs="?")
    name: str | None = scout.parse_known_args(words)[0].method
    return None if name is None else str(method_class(name).name)


def _grammar(method: str | None) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser("sstfill", description=ABOUT, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"sstfill {__version__}")
    parser.set_defaults(quiet=False, progress=False, debug=False)
    _add_messages(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    made = {}
    for name, command in COMMANDS.items():
        about = command.purpose.capitalize() + "."
        made[name] = commands.add_parser(name, help=command.purpose, description=about, allow_abbrev=False)
        made[name].set_defaults(run=command.run)
        command.add(made[name])
        _add_messages(made[name])
    if method is not None:
        add_options(made["fill"], method)
    return parser, made


def _add_messages(parser: argparse.ArgumentParser) -> None:
    """Options that may stand before or after the subcommand, which therefore must not reset them."""
    group = parser.add_argument_group("messages")
    for name, text in (("quiet", "say nothing but errors"), ("debug", "show the traceback of an error"),
                       ("progress", "show progress even where standard error is no terminal")):  # fmt: skip
        group.add_argument(flag(name), action="store_true", default=argparse.SUPPRESS, help=text)


def _excess(rest: list[str], args: argparse.Namespace, usage: str) -> OptionError:
    wrong = next((word for word in rest if word.startswith("-")), None)
    if wrong is None:
        return OptionError(f"{rest[0]!r} is one argument too many; see sstfill {args.command} --help")
    name = wrong.partition("=")[0]
    method = getattr(args, "method", None)
    takers = [m for m in sorted(METHODS) if name.replace("--no-", "--") in {flag(f.name) for f in own_fields(m)}]
    if takers and args.command == "fill" and method is None:
        return OptionError(f"{name} is an option of {', '.join(takers)}; name the method too: --method {takers[0]}")
    own = [flag(f.name) for f in own_fields(method)] if method is not None else []
    valid = dict.fromkeys([*own, *re.findall(r"--[a-z][a-z0-9-]*", usage)])
    return unknown(f"option of {method or args.command}", name, valid)
