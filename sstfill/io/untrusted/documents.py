# SPDX-License-Identifier: Apache-2.0
"""Read JSON and TOML documents that may be damaged or a stranger's.

Whatever is wrong with one ends in a `ReadError` of one line that names the file and what to do.
Sizes, nesting and numbers are bounded before anything is built from them, so that no document costs
more memory than its own size allows.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import reprlib
import stat
import tomllib
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sstfill.errors import OptionError, ReadError
from sstfill.printable import printable

if TYPE_CHECKING:
    from pydantic import BaseModel

JSON_BYTES = 64 * 2**20
"""Largest JSON file that is read: job folders of a million input files stay below."""
TOML_BYTES = 64 * 2**10
"""Largest TOML file that is read. Shipped recipes have a kilobyte."""
TOML_DOTS = 400
"""Most dots in one line of TOML: `tomllib` takes quadratic time for long dotted keys."""
DEEPEST = 40
"""Levels of nesting. Documents of sstfill have fewer than ten, an optimiser's state some twenty."""
TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"
JSON_NUMBER = 2**128
"""Bound of whole numbers in JSON: a seed may have 128 bits."""
TOML_NUMBER = 2**63
"""Bound of whole numbers in TOML, by its specification."""
JSON_DIGITS = 40
"""Digits that are converted at all; 2**128 has 39, and conversion takes quadratic time."""

StrPath = str | os.PathLike[str]
Schema = TypeVar("Schema", bound="BaseModel")


def read_json(path: StrPath, *, remedy: str, most: int = JSON_BYTES) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Parameters
    ----------
    path
        A regular file.
    remedy
        What the user does about a damaged one, such as ``"copy the checkpoint again"``.
    most
        Largest size in bytes.

    Raises
    ------
    ReadError
        It is missing, too large, not UTF-8, not JSON, or not an object.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "job.json"
    >>> _ = file.write_text('{"noise": 1e999}')
    >>> read_json(file, remedy="fill again")
    Traceback (most recent call last):
    ...
    sstfill.errors.ReadError: cannot read ...job.json: it holds the number 1e999, which is not
    finite; fill again
    """
    content = read_bytes(path, remedy=remedy, most=most)
    document = parse_json(content, path, remedy=remedy)
    if not isinstance(document, dict):
        raise unreadable(path, f"it holds {short(document)}, not an object {{...}}", remedy)
    return document


def parse_json(content: str | bytes, name: StrPath, *, remedy: str, finite: bool = True) -> Any:
    """Parse JSON of bounded numbers and nesting, by default without NaN and infinity.

    Parameters
    ----------
    content
        The document.
    name
        Of the file, for messages.
    remedy, finite
        What the user does about a damaged one; whether numbers must be finite.

    Raises
    ------
    ReadError
        It is not UTF-8 or not JSON, or a number or its nesting exceeds the bounds.
    """
    # The hooks see the digits before Python converts them.
    hooks: dict[str, Any] = {"parse_int": _whole_number}
    if finite:
        hooks |= {"parse_constant": _refuse_constant, "parse_float": _finite_number}
    try:
        # json.loads would guess UTF-16 or UTF-32 from the first bytes.
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        document = json.loads(text, **hooks)
    except UnicodeDecodeError as error:
        raise unreadable(name, f"it is not UTF-8 text (byte {error.start})", remedy) from error
    except RecursionError as error:
        raise unreadable(name, TOO_DEEP, remedy) from error
    except _RefusedError as error:
        raise unreadable(name, str(error), remedy) from error
    except ValueError as error:
        raise unreadable(name, f"it is not valid JSON ({error})", remedy) from error
    if not _is_shallow(document):
        raise unreadable(name, TOO_DEEP, remedy)
    return document


def read_toml(path: StrPath) -> tuple[dict[str, Any], str]:
    """Read a TOML file and return its tables and its text.

    Raises
    ------
    ReadError
        It is missing, too large, not UTF-8 or not TOML, or a number or its nesting exceeds the
        bounds.
    """
    remedy = "correct it"
    content = read_bytes(path, remedy="give a TOML file", most=TOML_BYTES)
    try:
        text = content.decode("utf-8")
        # Before tomllib: what it costs is in the parsing.
        if any(line.count(".") > TOML_DOTS for line in text.splitlines()):
            raise unreadable(path, f"a line of it has more than {TOML_DOTS} dots", remedy)
        tables = tomllib.loads(text)
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 text (byte {error.start})"
        raise unreadable(path, reason, "save it as UTF-8") from error
    except RecursionError as error:
        raise unreadable(path, TOO_DEEP, remedy) from error
    except ValueError as error:  # of tomllib, or of a number with thousands of digits
        raise ReadError(
            f"{os.fspath(path)} is not valid TOML: {squeezed(error)}; {remedy}"
        ) from error
    if not _is_shallow(tables):
        raise unreadable(path, TOO_DEEP, remedy)
    for key, value in _leaves(tables):
        if isinstance(value, int) and not -TOML_NUMBER <= value < TOML_NUMBER:
            raise unreadable(path, f"{short(key)} is a number of more than 64 bits", remedy)
    return tables, text


def read_bytes(path: StrPath, *, remedy: str, most: int) -> bytes:
    """Read a regular file of at most `most` bytes whole; `ReadError` if it is anything else."""
    try:
        with open_regular(path, remedy=remedy) as file:
            # One byte more than allowed tells a longer file, whatever its size said; it may grow
            # meanwhile.
            content = file.read(most + 1)
    except ReadError:
        raise
    except OSError as error:
        raise unreadable(path, error.strerror or squeezed(error), remedy) from error
    if len(content) > most:
        raise unreadable(path, f"it is larger than {most:,} bytes", remedy)
    return content


def open_regular(path: StrPath, *, remedy: str) -> BufferedReader:
    """Open a regular file for reading; a FIFO is refused without waiting for its writer."""
    try:
        # O_NONBLOCK: to open a FIFO waits for a writer, which may never come.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else squeezed(error)
        raise unreadable(path, reason or type(error).__name__, remedy) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise unreadable(path, "it is not a regular file", remedy)
    return os.fdopen(descriptor, "rb")


def checked(
    schema: type[Schema], document: Mapping[str, Any], name: StrPath, *, remedy: str
) -> Schema:
    """Validate a document with a pydantic model.

    Raises
    ------
    ReadError
        With the key and the value of the first thing that does not fit.
    """
    try:
        return schema.model_validate(document)
    except ValueError as error:  # pydantic's ValidationError is one
        raise unreadable(name, misfit(error), remedy) from error


def misfit(error: ValueError) -> str:
    """Describe pydantic's first finding in one line: key, value, and what it should be.

    >>> from pydantic import TypeAdapter
    >>> try:
    ...     TypeAdapter(dict[str, int]).validate_python({"seed": "x"})
    ... except ValueError as error:
    ...     misfit(error)
    "seed='x': input should be a valid integer, unable to parse string as an integer"
    """
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return squeezed(error)
    # The first is enough for one line; others often follow from it.
    first = error.errors(include_url=False, include_context=False)[0]
    where = squeezed(".".join(map(str, first["loc"])))
    message = squeezed(first["msg"].removeprefix("Value error, "))
    message = message[:1].lower() + message[1:]
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "extra_forbidden":
        return f"{where} is not a key of it"
    if not where:
        return message
    return f"{where}={short(first['input'])}: {message}"


@contextlib.contextmanager
def naming(file: str) -> Iterator[None]:
    """Begin the message of an `OptionError` with the name of its document.

    >>> with naming("own.toml"):
    ...     raise OptionError("epochs=0 must be a whole number, 1 or more")
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: own.toml: epochs=0 must be a whole number, 1 or more
    """
    try:
        yield
    except OptionError as error:
        shown = printable(file)
        if shown in str(error):
            raise
        raise OptionError(f"{shown}: {error}") from error


def one_line(name: str, value: object) -> str:
    r"""Return text of one printable line; `OptionError` for anything else.

    >>> one_line("title", "a\x1b[31m")
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: title='a\x1b[31m'; write one line of text
    """
    if not isinstance(value, str) or not value.isprintable() or len(value) > 1000:
        raise OptionError(f"{name}={short(value)}; write one line of text")
    return value


def without_comments(tables: Mapping[str, Any]) -> str:
    """Write the tables of a TOML file for people to read, without its comments.

    Comments may hold anything, a password among it.

    >>> print(without_comments({"title": "A", "fill": {"method": "oi", "seed": 3}}))
    title = "A"
    <BLANKLINE>
    [fill]
    method = "oi"
    seed = 3
    """

    def line(key: str, value: Any) -> str:
        return f"{key} = {json.dumps(value, ensure_ascii=False, default=str)}"

    lines = [line(key, value) for key, value in tables.items() if not isinstance(value, dict)]
    for key, table in tables.items():
        if isinstance(table, dict):
            lines += ["", f"[{key}]"]
            lines += [line(name, value) for name, value in table.items()]
    return "\n".join(lines)


def place(text: StrPath, name: str, base: StrPath | None = None) -> Path:
    """Turn what a user wrote into a path.

    ``~`` becomes the home folder, and a relative path begins at `base`.

    Raises
    ------
    OptionError
        For an unknown user, no home folder, a NUL, or a loop of links.

    >>> place("out.zarr", "filled", "/data").as_posix()
    '/data/out.zarr'
    >>> place("~nobody-here/out.zarr", "filled")
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: filled='~nobody-here/out.zarr': ... home directory...; write the
    whole path
    """
    try:
        if "\0" in os.fspath(text):
            raise ValueError("it holds the character NUL")
        path = Path(base or "", Path(text).expanduser())
        # Only to see whether it can be: loops of links show here and not at the first file written.
        path.resolve()
    # RuntimeError: no such user, no home folder, or a loop of links
    except (RuntimeError, ValueError, OSError) as error:
        raise OptionError(
            f"{name}={short(os.fspath(text))}: {squeezed(error)}; write the whole path"
        ) from error
    return path


def short(value: Any) -> str:
    """A value's `repr` on one line, its middle left out where it is long."""
    shown = reprlib.Repr()
    shown.maxstring, shown.maxother, shown.maxlong = 200, 200, 40
    try:
        return " ".join(shown.repr(value).split())
    except ValueError:  # a number too long to be written
        return f"a {type(value).__name__}"


class _RefusedError(ValueError):
    """Valid JSON that is refused all the same."""


def _refuse_constant(text: str) -> Any:
    raise _RefusedError("it holds NaN or Infinity, which JSON does not have")


def _finite_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedError(f"it holds the number {text[:40]}, which is not finite")
    return value


def _whole_number(text: str) -> int:
    value = int(text) if len(text) <= JSON_DIGITS else JSON_NUMBER
    if abs(value) >= JSON_NUMBER:
        raise _RefusedError(f"it holds a number of {len(text)} digits")
    return value


def _is_shallow(tree: Any) -> bool:
    """Whether mappings and lists are nested at most `DEEPEST` levels, without recursion."""
    # Level by level, since recursion is what deep nesting would exhaust.
    level = [tree] if isinstance(tree, dict | list) else []
    for _ in range(DEEPEST):
        below: list[Any] = []
        for outer in level:
            members = outer.values() if isinstance(outer, dict) else outer
            below += [inner for inner in members if isinstance(inner, dict | list)]
        if not below:
            return True
        level = below
    return False


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value that is not a mapping or list, with the key of the mapping above it."""
    # A stack of its own, for the same reason as in `_is_shallow`.
    todo: list[tuple[str, Any]] = [("", tree)]
    while todo:
        key, value = todo.pop()
        if isinstance(value, dict):
            todo += value.items()
        elif isinstance(value, list):
            todo += [(key, inner) for inner in value]
        else:
            yield key, value


def unreadable(path: StrPath, reason: str, remedy: str) -> ReadError:
    """Build the error for a file that cannot be read."""
    return ReadError(f"cannot read {printable(os.fspath(path))}: {reason}; {remedy}")


def squeezed(error: object) -> str:
    """Return the message of an error on one line, or its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__
