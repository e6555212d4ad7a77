# SPDX-License-Identifier: Apache-2.0
"""What the user sees: text on standard output; warnings, progress and errors on standard error."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

from sstfill.errors import WriteError
from sstfill.printable import printable
from sstfill.progress import shown

OURS = "sstfill"
LONGEST = 2000
"""Characters of a line on standard error; a message may quote a value of any length."""


class ReaderGoneError(Exception):
    """The process that read standard output has ended."""


def say(text: str) -> None:
    """Write to standard output.

    Raises
    ------
    ReaderGoneError
        Nobody reads it any more.
    WriteError
        It cannot be written to, as on a full disk.
    """
    # None under pythonw, and where the parent process closed the stream before Python began
    if sys.stdout is None:
        return
    with _written_out():
        sys.stdout.write(printable(text, _encoding(sys.stdout), lines=True) + "\n")
        # at once: a full disk or a reader that has gone shows at this line, and not at the end
        sys.stdout.flush()


def complain(text: str) -> None:
    """Write one line to standard error; a failure to do so is ignored."""
    line = printable(text, _encoding(sys.stderr))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    _write_error(f"sstfill: {line}\n")


def show_traceback(error: BaseException) -> None:
    """Write the traceback of an error to standard error."""
    text = "".join(traceback.format_exception(error))
    _write_error(printable(text, _encoding(sys.stderr), lines=True))


def open_closed_streams() -> None:
    """Open the standard streams that the parent process has closed (``>&-``).

    Otherwise the first file opened would get the number of a closed stream, and receive its text.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one


def _write_error(text: str) -> None:
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        _give_up(sys.stderr)


@contextlib.contextmanager
def _written_out() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        _give_up(sys.stdout)
        raise ReaderGoneError from error
    except OSError as error:
        _give_up(sys.stdout)
        raise WriteError(
            f"cannot write to standard output: {error.strerror}; send it elsewhere"
        ) from error


def _give_up(stream: TextIO) -> None:
    """Discard the rest: the interpreter flushes its buffers at its end, and would fail."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        # the descriptor, not the object: libraries in C write to it, too
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _encoding(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


class _Complaints(logging.Handler):
    """Shows warnings of sstfill as lines, and those of libraries only with ``--debug``."""

    def __init__(self, *, quiet: bool, debug: bool) -> None:
        super().__init__(logging.ERROR if quiet else logging.WARNING)
        self._debug = debug
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        is_ours = record.name == OURS or record.name.startswith(OURS + ".")
        if not is_ours and not self._debug:
            return
        origin = "" if is_ours else f"{record.name}: "
        try:
            line = f"{record.levelname.lower()}: {origin}{record.getMessage().strip()}"
            # A field is looked at more than once, with the same result.
            if line not in self._shown:
                self._shown.add(line)
                complain(line)
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def messages(*, quiet: bool, progress: bool, debug: bool) -> Iterator[None]:
    """Show warnings and progress of sstfill in this context.

    Progress is shown if asked for, or if standard error is a terminal. Warnings of other libraries
    go to the log, and are shown only with `debug`.
    """
    handler = _Complaints(quiet=quiet, debug=debug)
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    try:
        with shown(sys.stderr is not None and (progress or (is_terminal and not quiet))):
            yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)


def silence_the_end(*, debug: bool) -> None:
    """Keep libraries off standard error while the process ends, and in their own threads."""
    if debug:
        return
    logging.getLogger().addHandler(logging.NullHandler())
    # The workers of a cluster that is started here are processes of the command, too.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    os.environ.setdefault("DASK_DISTRIBUTED__LOGGING__DISTRIBUTED", "critical")
    threading.excepthook = _log_failed_thread
    earlier = sys.unraisablehook

    def log_unraisable(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            earlier(unraisable)
            return
        logging.getLogger("sstfill.unraisable").debug(
            "%r in %r", unraisable.exc_value, unraisable.object
        )

    sys.unraisablehook = log_unraisable


def _log_failed_thread(failed: threading.ExceptHookArgs) -> None:
    logging.getLogger("sstfill.threads").debug("%r in %r", failed.exc_value, failed.thread)
