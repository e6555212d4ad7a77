# SPDX-License-Identifier: Apache-2.0
"""The command ``sstfill``: fill, score and look at gridded series from a shell; an error is one line and status 2."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from sstfill.cli.memory import return_large_blocks
from sstfill.cli.parser import parse
from sstfill.cli.terminal import complain, messages, say
from sstfill.errors import SstfillError

FAILED, INTERRUPTED, READER_GONE = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        0, or what a command returned beside its texts (see `sstfill nightly`); 2 on an error of sstfill's, 130 when
        interrupted, 141 when the reader of standard output went away.

    Examples
    --------
    >>> main(["fill", "nowhere.nc", "--out", "filled.nc"])
    2
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return_large_blocks()
    try:
        return _run(words)
    except SstfillError as error:
        if "--debug" in words:
            traceback.print_exc()
        complain(f"error: {error}")
        return FAILED
    except KeyboardInterrupt as stop:
        from sstfill.io.atomic import what_stands

        complain(f"interrupted; {str(stop) or what_stands()}")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return READER_GONE


def _run(words: Sequence[str]) -> int:
    args = parse(words)
    with messages(quiet=args.quiet, progress=args.progress):
        texts = args.run(args)
        while True:
            try:
                text = next(texts)
            except StopIteration as end:
                return int(end.value or 0)
            if not args.quiet:
                say(text)
