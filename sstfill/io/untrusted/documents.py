# SPDX-License-Identifier: Apache-2.0
"""Read small documents that may be damaged or a stranger's: JSON, TOML, and the arrays that sstfill
itself saves.

Whatever is wrong with one ends in a `ReadError` of one line that names the file and what to do.
Sizes, nesting and numbers are bounded before anything is built of them, so that no document costs
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
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import OptionError, ReadError

if TYPE_CHECKING:
    from pydantic import BaseModel

JSON_BYTES = 64 * 2**20
"""Largest JSON file that is read: job folders of a million input files stay below."""
TOML_BYTES = 64 * 2**10
"""Largest TOML file that is read: those that ship have a kilobyte, and long dotted keys take
quadratic time.
"""
TOML_DOTS = 400
"""Dots in one line of TOML at most, for the same reason."""
DEEPEST = 40
"""Levels of nesting: what sstfill writes has fewer than ten, the saved state of an optimiser some
twenty.
"""
JSON_NUMBER, TOML_NUMBER = 2**128, 2**63
"""Whole numbers lie between minus and plus this: a seed may have 128 bits, TOML promises 64."""
HOLDS_NAN = "NaN or Infinity, which JSON does not have"

StrPath = str | os.PathLike[str]
Schema = TypeVar("Schema", bound="BaseModel")


def read_json(path: StrPath, *, remedy: str, most: int = JSON_BYTES) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Parameters
    ----------
    path
        A file, not a device or a FIFO.
    remedy
        What the user does about a damaged one, such as ``"copy the checkpoint again"``.
    most
        Bytes.

    Raises
    ------
    ReadError
        If it is missing, too large, not UTF-8, not JSON, or no mapping.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "job.json"
    >>> _ = file.write_text('{"noise": 1e999}')
    >>> read_json(file, remedy="fill anew")
    Traceback (most recent call last):
    ...
    sstfill.errors.ReadError: cannot read ...job.json: it holds the number 1e999, which is not
    finite; fill anew
    """
    found = parse_json(read_bytes(path, remedy=remedy, most=most), os.fspath(path), remedy=remedy)
    if not isinstance(found, dict):
        raise _unreadable(path, f"it holds no mapping but {short(found)}", remedy)
    return found


def parse_json(content: str | bytes, name: StrPath, *, remedy: str, finite: bool = True) -> Any:
    """Parse JSON of bounded numbers and nesting, by default without NaN and infinity; errors as of
    `read_json`.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        if finite:
            found = json.loads(
                text, parse_constant=_constant, parse_float=_finite, parse_int=_bounded
            )
        else:
            found = json.loads(text, parse_int=_bounded)
    except UnicodeDecodeError as error:
        raise _unreadable(name, f"it is not UTF-8 text (byte {error.start})", remedy) from error
    except RecursionError as error:
        raise _unreadable(name, f"it is nested deeper than {DEEPEST} levels", remedy) from error
    except _RefusedError as error:
        raise _unreadable(name, str(error), remedy) from error
    except ValueError as error:
        raise _unreadable(name, f"it is no JSON ({error})", remedy) from error
    if not _is_shallow(found):
        raise _unreadable(name, f"it is nested deeper than {DEEPEST} levels", remedy)
    return found


def read_toml(path: StrPath) -> tuple[dict[str, Any], str]:
    """Read a TOML file; returns its tables and its text.

    Raises
    ------
    ReadError
        If it is missing, too large, not UTF-8 or not TOML, or holds a number or a nesting that
        nothing here takes.
    """
    remedy = "correct it"
    content = read_bytes(path, remedy="give a TOML file", most=TOML_BYTES)
    try:
        text = content.decode("utf-8")
        if any(line.count(".") > TOML_DOTS for line in text.splitlines()):
            raise _unreadable(path, f"a line of it has more than {TOML_DOTS} dots", remedy)
        tables = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise _unreadable(
            path, f"it is not UTF-8 text (byte {error.start})", "save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ReadError(f"{os.fspath(path)} is no TOML: {error}; {remedy}") from error
    except RecursionError as error:
        raise _unreadable(path, f"it is nested deeper than {DEEPEST} levels", remedy) from error
    except ValueError as error:  # a number of thousands of digits
        raise ReadError(f"{os.fspath(path)} is no TOML: {_one_line(error)}; {remedy}") from error
    if not _is_shallow(tables):
        raise _unreadable(path, f"it is nested deeper than {DEEPEST} levels", remedy)
    for key, value in _leaves(tables):
        if isinstance(value, int) and not -TOML_NUMBER <= value < TOML_NUMBER:
            raise _unreadable(path, f"{short(key)} is a number of more than 64 bits", remedy)
    return tables, text


def read_bytes(path: StrPath, *, remedy: str, most: int) -> bytes:
    """Read a whole regular file of bounded size; errors as of `read_json`."""
    try:
        with open_regular(path, remedy=remedy) as file:
            content = file.read(most + 1)
    except OSError as error:
        if isinstance(error, ReadError):
            raise
        raise _unreadable(path, error.strerror or _one_line(error), remedy) from error
    if len(content) > most:
        raise _unreadable(path, f"it is larger than {most:,} bytes", remedy)
    return content


def open_regular(path: StrPath, *, remedy: str) -> BufferedReader:
    """Open a file for reading that is no device, FIFO or folder; opening never waits for a writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else _one_line(error)
        raise _unreadable(path, reason or type(error).__name__, remedy) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _unreadable(path, "it is no regular file", remedy)
    return os.fdopen(descriptor, "rb")


def read_arrays(path: StrPath, dtypes: Mapping[str, str], *, remedy: str) -> dict[str, NDArray]:
    """Read arrays that `numpy.savez` saved, uncompressed, without pickles.

    Parameters
    ----------
    path
        The file.
    dtypes
        The arrays that it must hold, and the kinds of their dtypes (`numpy.dtype.kind`).
    remedy
        As in `read_json`.

    Raises
    ------
    ReadError
        If it is damaged, lacks an array, or an array declares more bytes than the file has.
    """
    try:
        with open_regular(path, remedy=remedy) as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, os.fstat(file.fileno()).st_size)
            if missing := [name for name in dtypes if name not in members]:
                raise _unreadable(path, f"it lacks the array {missing[0]!r}", remedy)
            found = {name: _array(archive, member) for name, member in members.items()}
    except _DAMAGED as error:
        if isinstance(error, ReadError):
            raise
        raise _unreadable(path, _one_line(error), remedy) from error
    for name, kinds in dtypes.items():
        if found[name].dtype.kind not in kinds:
            raise _unreadable(path, f"the array {name!r} has dtype {found[name].dtype}", remedy)
    return found


_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    SyntaxError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
)
"""What `zipfile` and `numpy.lib.format` raise for a damaged file."""


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name of their array; refuses compressed ones, and more bytes than the file
    has.
    """
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
        raise ValueError("it holds a compressed array, which sstfill never writes")
    if sum(info.file_size for info in members.values()) > size:
        raise ValueError("its arrays claim more bytes than the file has")
    return members


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray:
    """Read one array, its declared size compared with what is there before any memory is taken."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"array {member.filename!r} has the unknown version {version}")
        if dtype.hasobject:
            raise ValueError(
                f"array {member.filename!r} holds pickled objects, which are never loaded"
            )
        if math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
            raise ValueError(
                f"array {member.filename!r} declares shape {shape}, which is not what it holds"
            )
    with archive.open(member) as stream:
        array: NDArray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def checked(
    schema: type[Schema], found: Mapping[str, Any], name: StrPath, *, remedy: str
) -> Schema:
    """Hold what was read against a pydantic model.

    Raises
    ------
    ReadError
        With the key and the value of the first thing that does not fit.
    """
    try:
        return schema.model_validate(found)
    except ValueError as error:  # pydantic's ValidationError is one
        raise _unreadable(name, misfit(error), remedy) from error


def misfit(error: ValueError) -> str:
    """Say in one line what pydantic found first: key, value, and what it should be.

    >>> from pydantic import TypeAdapter
    >>> try:
    ...     TypeAdapter(dict[str, int]).validate_python({"seed": "x"})
    ... except ValueError as error:
    ...     misfit(error)
    "seed='x': input should be a valid integer, unable to parse string as an integer"
    """
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return _one_line(error)
    first = error.errors(include_url=False, include_context=False)[0]
    where = _one_line(".".join(str(part) for part in first["loc"]))
    message = _one_line(first["msg"].removeprefix("Value error, "))
    message = message[:1].lower() + message[1:]
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "extra_forbidden":
        return f"{where} is not a key of it"
    return f"{where}={short(first['input'])}: {message}" if where else message


@contextlib.contextmanager
def naming(file: str) -> Iterator[None]:
    """Begin the message of an `OptionError` with the name of the document that the option stands
    in.

    >>> with naming("own.toml"):
    ...     raise OptionError("epochs=0 must be a whole number, 1 or more")
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: own.toml: epochs=0 must be a whole number, 1 or more
    """
    try:
        yield
    except OptionError as error:
        shown = file if file.isprintable() else ascii(file)
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
    """Write the tables of a TOML file for people to read; comments, which may hold anything, are
    left out.

    >>> print(without_comments({"title": "A", "fill": {"method": "oi", "seed": 3}}))
    title = "A"
    <BLANKLINE>
    [fill]
    method = "oi"
    seed = 3
    """
    lines = [
        f"{key} = {_toml(value)}" for key, value in tables.items() if not isinstance(value, dict)
    ]
    for key, table in tables.items():
        if isinstance(table, dict):
            lines += [
                "",
                f"[{key}]",
                *(f"{name} = {_toml(value)}" for name, value in table.items()),
            ]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def place(text: StrPath, name: str, base: StrPath | None = None) -> Path:
    """Turn what a user wrote into a path: ``~`` becomes the home folder, a relative one begins at
    `base`.

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
        path.resolve()
    except (
        RuntimeError,
        ValueError,
        OSError,
    ) as error:  # RuntimeError: no such user, no home, a loop of links
        raise OptionError(
            f"{name}={short(os.fspath(text))}: {_one_line(error)}; write the whole path"
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
    """What is JSON, and refused all the same."""


def _constant(text: str) -> Any:
    raise _RefusedError(f"it holds {HOLDS_NAN}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedError(f"it holds the number {text[:40]}, which is not finite")
    return value


def _bounded(text: str) -> int:
    value = int(text) if len(text) <= 40 else JSON_NUMBER
    if abs(value) >= JSON_NUMBER:
        raise _RefusedError(f"it holds a number of {len(text)} digits")
    return value


def _is_shallow(tree: Any) -> bool:
    """Whether mappings and lists are nested no deeper than `DEEPEST`; without recursion."""
    level = [tree]
    for _ in range(DEEPEST):
        level = [
            inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping or list, with the key of the nearest mapping above it."""
    todo: list[tuple[str, Any]] = [("", tree)]
    while todo:
        key, value = todo.pop()
        if isinstance(value, dict):
            todo += value.items()
        elif isinstance(value, list):
            todo += [(key, inner) for inner in value]
        else:
            yield key, value


def _inside(tree: Any) -> Sequence[Any]:
    if isinstance(tree, dict):
        return list(tree.values())
    return tree if isinstance(tree, list) else ()


def _unreadable(path: StrPath, reason: str, remedy: str) -> ReadError:
    shown = os.fspath(path)
    return ReadError(
        f"cannot read {shown if shown.isprintable() else ascii(shown)}: {reason}; {remedy}"
    )


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
