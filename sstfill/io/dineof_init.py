# SPDX-License-Identifier: Apache-2.0
"""Read the init file of the DINEOF reference program: lines of ``key = value``."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from sstfill.errors import ReadError
from sstfill.io.untrusted.documents import read_bytes, short, unreadable

LARGEST = 2**16
"""Bytes of an init file that is read. The one that ships with DINEOF has three kilobytes."""
REMEDY = "give the file that dineof was run with, such as dineof.init"
WORD = r"[^\s=!'\[\],;]+"
QUOTED = r"'(?:[^']|'')*'"
LIST = rf"\[(?:{QUOTED}|[^\]'])*\]"
ENTRY = re.compile(rf"\s*({WORD})\s*=\s*({LIST}|{QUOTED}|{WORD})")
ITEM = re.compile(rf"{QUOTED}|{WORD}")


class InitEntry(NamedTuple):
    """What a line of an init file sets: its number, the text of the value, and its items."""

    line: int
    text: str
    items: tuple[str, ...]


def read_init(path: str | os.PathLike[str]) -> dict[str, InitEntry]:
    """Read what an init file sets, by key, as the reference program does.

    Text behind ``!`` or ``#`` is a comment, except within quotes. Values are words, quoted text, or
    several of them in brackets. Of a key that stands twice the later line counts.

    Raises
    ------
    ReadError
        It is missing, too large or not text, or a line is no ``key = value``.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "dineof.init"
    >>> _ = file.write_text("data = ['a.nc#SST', 'a.nc#CHL'] ! two\\nnev = 5\\n")
    >>> read_init(file)["data"].items, read_init(file)["nev"].items
    (('a.nc#SST', 'a.nc#CHL'), ('5',))
    """
    content = read_bytes(path, remedy=REMEDY, most=LARGEST)
    if b"\0" in content:
        raise unreadable(path, "it is not a text file", REMEDY)
    found = {}
    # Names of files in it may be of any encoding: their bytes are kept.
    for number, line in enumerate(content.decode("utf-8", "surrogateescape").splitlines(), 1):
        bare = line.strip()
        if not bare or bare[0] in "!#":
            continue
        entry = ENTRY.match(line)
        if entry is None:
            raise ReadError(
                f"{os.fspath(path)}, line {number}: {short(bare)} is not KEY = VALUE, which stands "
                f"in one line; {REMEDY}"
            )
        key, value = entry.groups()
        items = [_plain(item) for item in ITEM.findall(value)]
        found[key] = InitEntry(number, value, tuple(items))
    return found


def _plain(item: str) -> str:
    """Return an item without its quotes; a quote within quotes is written twice.

    >>> _plain("'it''s.nc#SST'"), _plain("1.0e-3")
    ("it's.nc#SST", '1.0e-3')
    """
    if item.startswith("'"):
        return item[1:-1].replace("''", "'")
    return item.strip('"')
