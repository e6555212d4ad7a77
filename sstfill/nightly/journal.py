# SPDX-License-Identifier: Apache-2.0
"""The folder of the report while a night is under way: its lock, log file and warnings."""

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
from sstfill.io.output import place
from sstfill.io.output.lock import acquire

LOGGER = logging.getLogger("sstfill")
MARK = ".sstfill-report"
"""File that marks a folder as one that nights made."""
SIZE, KEPT = 1_000_000, 5
"""Bytes after which another log file is begun, and how many old ones are kept."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a report folder, which is made if needed; it ends with the process.

    Raises
    ------
    WriteError
        Another night holds it (see `held_by_another`), or the folder cannot be written.
    """

    def busy(who: str) -> WriteError:
        return WriteError(f"another night is under way in {folder}: {who}; wait for it, or end it")

    with contextlib.ExitStack() as stack:
        try:
            _check_folder(folder)
            # Refuses a lock file of the user's, so nothing is written to the folder before this.
            descriptor = acquire(folder / "lock", busy)
            stack.callback(os.close, descriptor)
            # Removed while it is held: a process that waits for it then makes another.
            stack.callback((folder / "lock").unlink, missing_ok=True)
            if not (folder / MARK).is_file():
                (folder / MARK).write_text(
                    "The report of a nightly job of sstfill; each night writes it again.\n",
                    encoding="utf-8",
                )
        except OSError as error:
            if isinstance(error, WriteError):
                raise
            raise WriteError(
                f"cannot write {folder}: {error.strerror}; choose another folder for the report"
            ) from error
        yield


def _check_folder(folder: Path) -> None:
    """Make a folder for the report; refuse one that holds anything that no night put there.

    A report of a version that made no mark is recognised by its history.
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
        named = held[: place.NAMED]
        if len(held) > place.NAMED:
            named.append("...")
        raise WriteError(
            f"cannot write a report to {folder}: no night made that folder, and it holds "
            f"{', '.join(named)}; give report= a new folder of its own"
        )


def _is_report(folder: Path) -> bool:
    """Whether a folder holds the log and the history of nights before there were marks."""
    try:
        first = (folder / "history.jsonl").read_text("utf-8").partition("\n")[0]
        keys = json.loads(first).keys()
    except (OSError, ValueError, AttributeError):
        return False
    return (folder / "nightly.log").is_file() and {"status", "started", "found"} <= keys


def held_by_another(error: BaseException | None) -> bool:
    """Whether an error comes from a lock that another night, fill or download holds."""
    while error is not None:
        if isinstance(error, BlockingIOError):
            return True
        error = error.__cause__ or error.__context__
    return False


class _Collector(logging.Handler):
    """Collects the warnings of the library for the report, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        if text not in self.lines:
            self.lines.append(text)


@contextlib.contextmanager
def logged(path: Path) -> Iterator[list[str]]:
    """Write what the library logs into a file, in UTC; yields its warnings as they come."""
    collector = _Collector()
    # delayed: a night that logs nothing makes no file
    file = RotatingFileHandler(path, maxBytes=SIZE, backupCount=KEPT, encoding="utf-8", delay=True)
    line = "%(asctime)sZ %(levelname)s %(name)s: %(message)s"
    formatter = logging.Formatter(line, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    file.setFormatter(formatter)
    before = LOGGER.level
    handlers = (file, collector)
    for handler in handlers:
        LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield collector.lines
    finally:
        LOGGER.setLevel(before)
        for handler in handlers:
            LOGGER.removeHandler(handler)
            handler.close()
