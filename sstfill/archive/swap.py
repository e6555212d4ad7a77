# SPDX-License-Identifier: Apache-2.0
"""Put a new version of a store in the place of the old one, in one atomic step."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

from sstfill.io.output.atomic import flush

HERE, EXCHANGE = -100, 2
"""``AT_FDCWD`` and ``RENAME_EXCHANGE`` of renameat2(2), Linux 3.15."""


def linked(target: Path, *stores: Path) -> None:
    """Make a folder of hard links to the files of all `stores`; those of a later store win."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for store in stores:
        files = [path for path in store.rglob("*") if path.is_file()]
        for file in sorted(files):
            link = target / file.relative_to(store)
            link.parent.mkdir(parents=True, exist_ok=True)
            # a file of an earlier store is there already, and `os.link` does not replace
            link.unlink(missing_ok=True)
            os.link(file, link)
    flush(target)
    for path in target.rglob("*"):
        if path.is_dir():
            flush(path)


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders of one file system in one step; `OSError` where the system cannot."""
    rename = None
    if os.name == "posix":
        # The os module has no call for it; glibc has it since 2.28, macOS does not.
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError("this system cannot exchange two folders")
    # not 0 is a failure, as of a file system that cannot do it
    if rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))
    flush(other.parent)
