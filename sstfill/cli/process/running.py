# SPDX-License-Identifier: Apache-2.0
"""Run one command line; whatever ends it becomes one line on standard error and an exit status."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from sstfill.cli.parser import parse
from sstfill.cli.process.signals import Signals
from sstfill.cli.process.terminal import (
    ReaderGoneError,
    complain,
    messages,
    open_closed_streams,
    say,
    show_traceback,
    silence_the_end,
)
from sstfill.errors import InputError, SstfillError
from sstfill.memory import return_large_blocks

FAILED, UNEXPECTED, READER_GONE = 2, 70, 141
"""Exit statuses; of an interrupt it is 128 and the number of the signal."""
NOT_A_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)
"""What a file system answers to a name that it cannot hold or follow."""
NO_MEMORY = (
    "fill into a .zarr output with --memory SIZE, which goes unit by unit, "
    "or give fewer variables, images or pixels at a time"
)


def run(words: Sequence[str], signals: Signals, *, whole_process: bool) -> int:
    """Run a command line and return its exit status; see `sstfill.cli.main`."""
    # a module that was never imported has put nothing in place
    writer = sys.modules.get("sstfill.io.output.atomic")
    if writer is not None:  # an earlier command of this process
        writer.begin_work()
    try:
        return _run_caught(words, signals, whole_process)
    except KeyboardInterrupt as stop:
        if "--debug" in words:
            show_traceback(stop)
        writer = sys.modules.get("sstfill.io.output.atomic")
        standing = "an earlier output is unchanged" if writer is None else writer.what_stands()
        complain(f"interrupted; {str(stop) or standing}")
        return signals.status()


def _run_caught(words: Sequence[str], signals: Signals, whole_process: bool) -> int:
    """Run a command line; an error becomes a line and a status, an interrupt is raised."""
    open_closed_streams()
    try:
        return _run(words, signals, whole_process)
    except ReaderGoneError:
        return READER_GONE
    except Exception as error:
        if "--debug" in words:
            show_traceback(error)
        line, status = _explain(error)
        complain(line)
        return status


def _explain(error: Exception) -> tuple[str, int]:
    """State an error in one line, with the exit status that goes with it."""
    if isinstance(error, SstfillError):
        return f"error: {error}", FAILED
    if isinstance(error, MemoryError):
        return f"error: there is not enough memory ({error or 'MemoryError'}); {NO_MEMORY}", FAILED
    if isinstance(error, RecursionError):
        return f"error: the input is nested too deeply to be read ({error}); check it", FAILED
    if isinstance(error, OSError) and error.errno in NOT_A_NAME:
        # such a name is met wherever a path is first looked at
        name = str(error.filename)
        shown = name if len(name) < 80 else f"{name[:80]}..."
        return f"error: cannot use {shown}: {error.strerror}; check the name", FAILED
    what = f"{type(error).__name__}: {error}"
    return f"unexpected {what}; please report it; --debug shows where", UNEXPECTED


def _run(words: Sequence[str], signals: Signals, whole_process: bool) -> int:
    args = parse(words)
    _check_current_folder()
    return_large_blocks()
    # until here a signal ends the process at once, see `Signals`
    signals.starting = False
    if whole_process:
        silence_the_end(debug=args.debug)
    with messages(quiet=args.quiet, progress=args.progress, debug=args.debug):
        texts = args.run(args)
        # a generator that is not exhausted still holds files and locks
        with contextlib.closing(texts):
            while True:
                try:
                    text = next(texts)
                except StopIteration as end:
                    # what a generator returns comes with the exception that ends it
                    return int(end.value or 0)
                if not args.quiet:
                    say(text)


def _check_current_folder() -> None:
    """Refuse to run in a folder that was deleted.

    Libraries ask for it in places where the error could name no file.
    """
    try:
        os.getcwd()  # noqa: PTH109  # the error is what is asked for
    except OSError as error:
        raise InputError(
            f"the current folder cannot be used: {error.strerror}; change to another: cd"
        ) from error
