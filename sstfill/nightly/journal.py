# SPDX-License-Identifier: Apache-2.0
"""The folder of the report while a night is under way: its lock, its log file, and the warnings
that are heard.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

from sstfill.errors import WriteError
from sstfill.io import place
from sstfill.io.lock import acquire

LOGGER = logging.getLogger("sstfill")
MARK = ".sstfill-report"
"""File by which a night knows the folder of a report as one that nights made."""
SIZE, KEPT = 1_000_000, 5
"""Bytes of the log file beyond which another one is begun, and how many old ones are kept."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a report folder, made where it is not there; the system lets go of it with
    the process.

    Raises
    ------
    WriteError
        Another night holds it (see `held_by_another`), or the folder cannot be written.
    """

    def busy(who: str) -> WriteError:
        return WriteError(f"another night is under way in {folder}: {who}; wait for it, or end it")

    try:
        claim(folder)
        descriptor = acquire(folder / "lock", busy)
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise WriteError(
            f"cannot write {folder}: {error.strerror}; choose another folder for the report"
        ) from error
    try:
        yield
    finally:
        (folder / "lock").unlink(
            missing_ok=True
        )  # while it is held: whoever waits for it makes another
        os.close(descriptor)


def claim(folder: Path) -> None:
    """Mark a new or empty folder as that of a report; refuse one that holds anything that no night
    put there.

    A report of a version that made no mark is known by its history, and is marked.
    """
    place.check_regular(folder)
    if not folder.exists():
        folder.mkdir(exist_ok=True)
    if not folder.is_dir():
        raise WriteError(
            f"cannot write {folder}: it is a file; choose another folder for the report"
        )
    mark = folder / MARK
    held = sorted(member.name for member in folder.iterdir() if member.name != "lock")
    ours = mark.is_file() or (not mark.exists() and _is_report(folder))
    if held and not ours:
        named = ", ".join(held[: place.NAMED]) + (", ..." if len(held) > place.NAMED else "")
        raise WriteError(
            f"cannot write a report to {folder}: no night made that folder, and it holds {named}; give "
            "report= a new folder of its own"
        )
    if not mark.is_file():
        mark.write_text(
            "The report of a nightly job of sstfill; each night writes it again.\n",
            encoding="utf-8",
        )


def _is_report(folder: Path) -> bool:
    """Whether a folder holds the page, the log and the history of nights before there were marks."""
    try:
        first = (folder / "history.jsonl").read_text("utf-8").partition("\n")[0]
        return (folder / "nightly.log").is_file() and {"status", "started", "found"} <= json.loads(
            first
        ).keys()
    except (OSError, ValueError, AttributeError):
        return False


def held_by_another(error: BaseException | None) -> bool:
    """Whether an error came of a lock that another process holds: of a night, a fill or a download."""
    while error is not None:
        if isinstance(error, BlockingIOError):
            return True
        error = error.__cause__ or error.__context__
    return False


class _Heard(logging.Handler):
    """Keeps the warnings of the library for the report, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        if text not in self.lines:
            self.lines.append(text)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[list[str]]:
    """Write what the library logs into a file, in UTC; gives the warnings heard so far."""
    heard = _Heard()
    file = RotatingFileHandler(path, maxBytes=SIZE, backupCount=KEPT, encoding="utf-8", delay=True)
    form = logging.Formatter(
        "%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    form.converter = time.gmtime
    file.setFormatter(form)
    before = LOGGER.level
    handlers = (file, heard)
    for handler in handlers:
        LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield heard.lines
    finally:
        LOGGER.setLevel(before)
        for handler in handlers:
            LOGGER.removeHandler(handler)
            handler.close()
