# SPDX-License-Identifier: Apache-2.0
"""``sstfill completion``: the script by which a shell completes commands, options and names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from sstfill.cli.options import PREFIX, add_field, own_fields, takes
from sstfill.cli.parser import COMMANDS, Parser, grammar
from sstfill.errors import OptionError, unknown
from sstfill.methods import METHODS

FOLDERS = ("DIR",)
FILES = (
    *("INPUT", "OUT", "PNG", "HTML", "FILE", "FILE[:VAR]", "ZARR", "TOML", "INIT", "FILLED"),
    *("ARCHIVE", "PATH", "RECIPE"),
)
"""What stands for a file in the help of an option."""


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Give a parser the argument of ``sstfill completion``."""
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh, tcsh, fish, ...")


def run_completion(args: argparse.Namespace) -> Iterator[str]:
    """Print the script."""
    try:
        import shtab
    except ImportError as error:
        raise OptionError("completion needs shtab; pip install 'sstfill[completion]'") from error
    if args.shell not in shtab.SUPPORTED_SHELLS:
        raise unknown("shell", args.shell, shtab.SUPPORTED_SHELLS)
    parser = whole_parser()
    parsers: list[Any] = [parser]
    # argparse has no public way from a parser to its subparsers and options
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers += action.choices.values()
    for one in parsers:
        for action in one._actions:
            if action.metavar in FOLDERS:
                action.complete = shtab.DIRECTORY
            elif action.metavar in FILES:
                action.complete = shtab.FILE
    yield shtab.complete(parser, args.shell)


def whole_parser() -> Parser:
    """Return the parser with the options of all subcommands and, of ``fill``, of all methods."""
    parser, opened = grammar(COMMANDS)
    fill = opened["fill"]
    known = set(fill._option_string_actions)
    group = fill.add_argument_group("options of the methods")
    for name in sorted(METHODS):
        for field in own_fields(name):
            # Methods share options of one name, which a parser takes once only.
            if f"--{field.name.replace('_', '-')}" not in known:
                add_field(group, field, takes(field), PREFIX + field.name, "")
        known = set(fill._option_string_actions)
    for action in fill._actions:
        if "--method" in action.option_strings:
            # choices are what the shell completes
            action.choices = sorted(METHODS)
    return parser
