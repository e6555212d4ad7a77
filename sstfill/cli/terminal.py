# SPDX-License-Identifier: Apache-2.0
"""What the user sees: text on standard output; warnings, progress and errors on standard error."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

from sstfill.progress import shown

LOGGER = logging.getLogger("sstfill")


def say(text: str) -> None:
    """Write to standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"sstfill: {text}\n")


class _Complaints(logging.Handler):
    """Shows the library's warnings as lines of the command's own."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(f"{record.levelname.lower()}: {record.getMessage()}")


@contextlib.contextmanager
def messages(*, quiet: bool, progress: bool) -> Iterator[None]:
    """Show the library's warnings and its progress (always, or where standard error is a terminal) in this context."""
    handler = _Complaints(logging.ERROR if quiet else logging.WARNING)
    LOGGER.addHandler(handler)
    try:
        with shown(progress or (sys.stderr.isatty() and not quiet)):
            yield
    finally:
        LOGGER.removeHandler(handler)
