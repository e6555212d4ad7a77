# SPDX-License-Identifier: Apache-2.0
"""The folder of the report while a night is under way: its lock, its log file, and the warnings that are heard."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

from sstfill.errors import WriteError
from sstfill.io.lock import holder, lock, sign

LOGGER = logging.getLogger("sstfill")
SIZE, KEPT = 1_000_000, 5
"""Bytes of the log file beyond which another one is begun, and how many old ones are kept."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a report folder, made where it is not there; the system lets go of it with the process.

    Raises
    ------
    WriteError
        Another night holds it (see `held_by_another`), or the folder cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise WriteError(f"cannot write {folder}: {error.strerror}; choose another folder for the report") from error
    try:
        _take(descriptor, folder)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        lock(descriptor)
    except BlockingIOError:
        who = holder(descriptor)
        raise WriteError(f"another night is under way in {folder}: {who}; wait for it, or end it") from None
    sign(descriptor)


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
    form = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
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
