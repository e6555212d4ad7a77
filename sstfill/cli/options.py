# SPDX-License-Identifier: Apache-2.0
"""Options of a method on the command line, generated from the fields of its dataclass."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Collection
from typing import Any

from sstfill import config
from sstfill.cli.source import names
from sstfill.docstrings import parameters
from sstfill.methods import Method, method_class

SHARED = ("seed",)
"""Fields served by an option of the command: one ``--seed`` for method and withheld clouds."""
PREFIX = "option:"


def flag(name: str) -> str:
    """Spell a field as an option.

    >>> flag("max_modes")
    '--max-modes'
    """
    return "--" + name.replace("_", "-")


def own_fields(name: str, without: Collection[str] = ()) -> list[dataclasses.Field[Any]]:
    """Fields of a method that get an option of their own."""
    return [f for f in dataclasses.fields(method_class(name)) if f.name not in (*SHARED, *without)]


def add_options(parser: argparse.ArgumentParser, name: str, without: Collection[str] = ()) -> None:
    """Give a parser the options of a method, explained as in its docstring, without defaults."""
    group = parser.add_argument_group(f"options of {name}")
    for field in own_fields(name, without):
        add_field(group, field, takes(field), PREFIX + field.name, explained(name, field))


def add_field(
    group: Any, field: dataclasses.Field[Any], metavar: str, dest: str, text: str
) -> None:
    """Give a parser, or a group of it, an option for a field of a dataclass, without default."""
    common: dict[str, Any] = {
        "dest": dest,
        # what was not given is absent, so that the method's own default holds
        "default": argparse.SUPPRESS,
        # argparse formats help by %, and descriptions hold per cent
        "help": text.replace("%", "%%"),
    }
    if field.type in (bool, "bool"):
        group.add_argument(flag(field.name), action=argparse.BooleanOptionalAction, **common)
    else:
        group.add_argument(flag(field.name), metavar=metavar, **common)


def spelled(field: dataclasses.Field[Any]) -> str:
    """Spell an option with what it takes.

    >>> [spelled(field) for field in own_fields("interpolate")]
    ['--limit float|none', '--space, --no-space']
    """
    if field.type in (bool, "bool"):
        return f"{flag(field.name)}, {flag('no_' + field.name)}"
    return f"{flag(field.name)} {takes(field)}"


def takes(field: dataclasses.Field[Any]) -> str:
    """Short form of what a field takes.

    >>> [takes(field) for field in own_fields("dineof")][:3]
    ['int|auto', 'int', 'float|auto']
    """
    words = field.type
    if not isinstance(words, str):
        words = getattr(words, "__name__", str(words))
    # A plus for the comma of a pair, which the next step makes a bar.
    words = words.replace("tuple[str, ...]", "names").replace("tuple[float, float]", "float+float")
    bare = re.sub(r"Literal\[(.*?)\]", r"\1", words).replace(",", "|").replace("None", "none")
    short = re.sub(r"[\s'\"]", "", bare)
    # Any other type is too long to be spelled out here.
    if re.search(r"[\[\]()]", short):
        return "value"
    return short.replace("+", ",")


def explained(name: str, field: dataclasses.Field[Any]) -> str:
    """Help text of an option: the docstring's words without their markup, and the default.

    >>> explained("interpolate", own_fields("interpolate")[0])[-30:]
    'None fills all (default: none)'
    """
    text = parameters(method_class(name)).get(field.name, "")
    # Docstrings are written for Sphinx: ``1.0`` and `name` lose their backquotes.
    plain = re.sub(r"`+\"?(.*?)\"?`+", r"\1", text).removesuffix(".")
    default = field.default
    if not isinstance(default, str):
        default = repr(default).lower().strip("()")
    default = default.replace(", ", ",")
    return f"{plain} (default: {default})".strip()


def method(args: argparse.Namespace, name: str, **fixed: bool) -> Method:
    """Build the method `name` from the options given and those `fixed`.

    Raises
    ------
    OptionError
        A value does not fit its option.
    """
    cls = method_class(name)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    given = {k.removeprefix(PREFIX): v for k, v in vars(args).items() if k.startswith(PREFIX)}
    for key, text in given.items():
        kind = str(fields[key].type)
        is_pair = "tuple[float, float]" in kind and "," in str(text)
        # the shell has no None: the word stands for it, where the option can be None
        if str(text).lower() == "none" and "None" in kind:
            given[key] = None
        elif is_pair or "tuple[str, ...]" in kind:
            given[key] = names(text)
    # Not every method is random.
    shared = {k: getattr(args, k) for k in SHARED if k in fields}
    return config.build(cls, given | shared | fixed)
