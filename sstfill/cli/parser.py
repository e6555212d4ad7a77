# SPDX-License-Identifier: Apache-2.0
"""The grammar of the command line: subcommands, their options, and errors about options.

The module of a subcommand is imported when that subcommand is used; ``sstfill --help`` imports
none.
"""

from __future__ import annotations

import argparse
import importlib
import math
import re
import reprlib
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from sstfill.cli.process.terminal import say
from sstfill.errors import OptionError, unknown
from sstfill.version import versions

ABOUT = (
    "Fill the gaps that clouds leave in satellite archives, and estimate the error of each filled "
    "pixel."
)
LARGEST = 2**63 - 1
"""Largest whole number that an option takes: what libraries can hold."""

Run = Callable[[argparse.Namespace], Iterator[str]]


class Command(NamedTuple):
    """A subcommand: its purpose, and the module that holds its ``add_NAME`` and ``run_NAME``."""

    purpose: str
    module: str

    def parts(self, name: str) -> tuple[Callable[[argparse.ArgumentParser], None], Run]:
        """Import the functions that add the options of the subcommand and that run it."""
        module = importlib.import_module(f"sstfill.cli.{self.module}")
        plain = name.replace("-", "_")
        return getattr(module, f"add_{plain}"), getattr(module, f"run_{plain}")


COMMANDS = {
    "fill": Command("fill the gaps of a file", "filling"),
    "verify": Command("check a filled archive, chunk by chunk", "archives"),
    "nightly": Command("download, fill, score, report; for cron", "nightly"),
    "train": Command("train a network on an archive", "training"),
    "score": Command("compare methods on withheld pixels", "evaluating"),
    "info": Command("describe a file, and what would fail", "looking"),
    "methods": Command("list the methods, or the options of one", "looking"),
    "recipes": Command("list the recipes for downloads, or print one", "downloading"),
    "plan": Command("describe what a recipe would download", "downloading"),
    "download": Command("download the data of a recipe, and continue after a kill", "downloading"),
    "import-granules": Command("import daily level-3 files into one Zarr store", "importing"),
    "import-video": Command("import video clips into a Zarr store", "importing"),
    "import-pycles": Command("import the clouds of a PyCLES run", "importing"),
    "clouds": Command("compute how much a series of clouds hides", "importing"),
    "dineof-modes": Command("write the EOF modes that DINEOF finds", "filling"),
    "from-dineof": Command("print the command for an init file of DINEOF", "from_dineof"),
    "plot": Command("draw one date of a filled file", "looking"),
    "bench": Command("run the paper's protocol on the data at hand", "evaluating"),
    "demo": Command("score, fill and draw a synthetic ocean", "evaluating"),
    "completion": Command("print the script that completes words in a shell", "completion"),
}


def whole_number(text: str) -> int:
    """Read a whole number that libraries can hold.

    >>> whole_number("-3")
    -3
    """
    # by length first: Python refuses to read thousands of digits, in words of its own
    if len(text) > 30 or not -LARGEST <= int(text) <= LARGEST:
        raise argparse.ArgumentTypeError(f"{reprlib.repr(text)} is not a whole number below 2**63")
    return int(text)


def number(text: str) -> float:
    """Read a number, but not NaN, which would pass every later comparison.

    >>> number("1e3")
    1000.0
    """
    value = float(text)
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


class Parser(argparse.ArgumentParser):
    """An argument parser that raises an `OptionError` of one line for a mistake of the user."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        # an abbreviation that works today would mean another option as soon as one is added
        self.allow_abbrev = False
        # argparse looks types up here first: `type=int` of every option then means a number of
        # bounded size
        self.register("type", int, whole_number)
        self.register("type", float, number)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write ``--help`` and ``--version`` like other text; argparse hides a full disk."""
        say(message.rstrip("\n"))

    def error(self, message: str) -> NoReturn:
        """Raise the mistake, and point to the help."""
        words = message.split(" ")
        for position, word in enumerate(words):
            # a value that was pasted by mistake may be of any length
            if len(word) > 200:
                words[position] = reprlib.repr(word)
        raise OptionError(f"{' '.join(words)}; see {self.prog} --help")


class _Versions(argparse.Action):
    """Print versions, which are looked up only when they are asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        lines = [f"{name} {number}" for name, number in versions().items()]
        say("\n".join(lines))
        parser.exit()


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; `run` of the result is the subcommand to call with it.

    Raises
    ------
    OptionError
        An unknown method, option or value, or an argument that is missing.
    SystemExit
        ``--help`` or ``--version`` were answered.

    >>> parse(["fill", "in.nc", "--out", "out.nc", "--method", "oi", "--noise", "0.3"]).method
    'oi'
    """
    # options before the subcommand take no value: the first other word is the subcommand
    command = next((word for word in words if not word.startswith("-")), "")
    parser, opened = grammar([command])
    usage = ""
    if command in opened:
        _add_method(opened[command], words)
        usage = opened[command].format_usage()
    elif command:
        raise unknown("command", command, COMMANDS)
    args, rest = parser.parse_known_args(words)
    if rest:
        raise _excess(rest, args, usage)
    args.command_line = shlex.join(["sstfill", *words])
    return args


def grammar(names: Collection[str]) -> tuple[Parser, dict[str, Parser]]:
    """Make the parser, and the parsers of the subcommands `names`, which alone have their options.

    To add them, the module of a subcommand is imported.
    """
    parser = Parser("sstfill", description=ABOUT)
    parser.add_argument(
        "--version",
        action=_Versions,
        nargs=0,
        default=argparse.SUPPRESS,
        help="print the versions of sstfill and of what it computes with",
    )
    # here alone: a subparser's own default would undo what stands before the subcommand
    parser.set_defaults(quiet=False, progress=False, debug=False)
    _add_messages(parser)
    subparsers = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands", parser_class=Parser
    )
    opened = {}
    for name, known in COMMANDS.items():
        about = known.purpose.capitalize() + "."
        subparser = subparsers.add_parser(name, help=known.purpose, description=about)
        if name in names:
            add, run = known.parts(name)
            subparser.set_defaults(run=run)
            add(subparser)
            _add_messages(subparser)
            opened[name] = subparser
    return parser, opened


def _add_method(subparser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Give the parser of ``fill`` the options of the method that ``--method`` names, if any."""
    if subparser.prog != "sstfill fill":
        return
    from sstfill.cli.options import add_options
    from sstfill.methods import method_class

    # a parser that looks for --method alone: its value decides which other options there are
    scout = Parser(add_help=False)
    scout.add_argument("--method", nargs="?")
    name: str | None = scout.parse_known_args(words)[0].method
    if name is not None:
        add_options(subparser, str(method_class(name).name))


def _add_messages(parser: argparse.ArgumentParser) -> None:
    """Add options that may stand before or after the subcommand; neither resets the other."""
    group = parser.add_argument_group("messages")
    texts = {
        "--quiet": "print only errors",
        "--debug": "show the traceback of an error, and the warnings of libraries",
        "--progress": "show progress even where standard error is not a terminal",
    }
    for option, text in texts.items():
        group.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=text)


def _excess(rest: list[str], args: argparse.Namespace, usage: str) -> OptionError:
    from sstfill.cli.options import flag, own_fields
    from sstfill.methods import METHODS

    wrong = next((word for word in rest if word.startswith("-")), None)
    if wrong is None:
        return OptionError(
            f"{rest[0]!r} is one argument too many; see sstfill {args.command} --help"
        )
    name = wrong.partition("=")[0]
    method = getattr(args, "method", None)
    takers = []
    for known in sorted(METHODS):
        flags = [flag(field.name) for field in own_fields(known)]
        # flags that are on or off have a second spelling
        if name.replace("--no-", "--") in flags:
            takers.append(known)
    if takers and args.command == "fill" and method is None:
        return OptionError(
            f"{name} is an option of {', '.join(takers)}; name the method too: --method {takers[0]}"
        )
    own = []
    if method is not None:
        own = [flag(field.name) for field in own_fields(method)]
    # the usage lists what the subcommand takes; a dict drops what is in both
    valid = dict.fromkeys([*own, *re.findall(r"--[a-z][a-z0-9-]*", usage)])
    return unknown(f"option of {method or args.command}", name, valid)
