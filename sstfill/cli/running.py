# SPDX-License-Identifier: Apache-2.0
"""Run one command line; whatever ends it becomes one line on standard error and an exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from sstfill.cli.memory import return_large_blocks
from sstfill.cli.parser import parse
from sstfill.cli.signals import Signals
from sstfill.cli.terminal import (
    ReaderGoneError,
    complain,
    messages,
    open_closed_streams,
    say,
    show_traceback,
    silence_the_end,
)
from sstfill.errors import InputError, SstfillError

FAILED, UNFORESEEN, READER_GONE = 2, 70, 141

NO_MEMORY = "fill unit by unit, into a .zarr output with --memory SIZE, or give fewer variables, images or pixels at a time"


def run(words: Sequence[str], signals: Signals, *, whole_process: bool) -> int:
    """Run a command line and return its exit status; see `sstfill.cli.main`."""
    try:
        return _ended(words, signals, whole_process)
    except KeyboardInterrupt as stop:
        if "--debug" in words:
            show_traceback(stop)
        # a writer that was never imported has replaced nothing
        writer = sys.modules.get("sstfill.io.atomic")
        standing = writer.what_stands() if writer else "an earlier output is unchanged"
        complain(f"interrupted; {str(stop) or standing}")
        return signals.status()


def _ended(words: Sequence[str], signals: Signals, whole_process: bool) -> int:
    """Run a command line; an error becomes a line and a status, an interrupt is raised."""
    open_closed_streams()
    try:
        return _run(words, signals, whole_process)
    except ReaderGoneError:
        return READER_GONE
    except Exception as error:
        if "--debug" in words:
            show_traceback(error)
        line, status = _told(error)
        complain(line)
        return status


def _told(error: Exception) -> tuple[str, int]:
    """Say an error in one line, and give the exit status that goes with it."""
    if isinstance(error, SstfillError):
        return f"error: {error}", FAILED
    if isinstance(error, MemoryError):
        return f"error: there is not enough memory ({error or 'MemoryError'}); {NO_MEMORY}", FAILED
    if isinstance(error, RecursionError):
        return f"error: what was given is nested too deeply to be read ({error}); check it", FAILED
    what = f"{type(error).__name__}: {error}"
    return f"unexpected {what}; please report it; --debug shows where", UNFORESEEN


def _run(words: Sequence[str], signals: Signals, whole_process: bool) -> int:
    args = parse(words)
    _check_current_folder()
    return_large_blocks()
    signals.starting = False
    if whole_process:
        silence_the_end(debug=args.debug)
    with messages(quiet=args.quiet, progress=args.progress, debug=args.debug):
        texts = args.run(args)
        with contextlib.closing(texts):
            while True:
                try:
                    text = next(texts)
                except StopIteration as end:
                    return int(end.value or 0)
                if not args.quiet:
                    say(text)


def _check_current_folder() -> None:
    """Refuse to run in a folder that was deleted: libraries ask for it in places where no name can
    be told.
    """
    try:
        os.getcwd()  # noqa: PTH109  # the error is what is asked for
    except OSError as error:
        raise InputError(
            f"the current folder cannot be used: {error.strerror}; change to another: cd"
        ) from error
