# SPDX-License-Identifier: Apache-2.0
"""The command ``sstfill``: fill, score and look at gridded series from a shell.

Only what catches signals is imported here; the rest is imported once they are caught.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sstfill.cli.process.signals import Signals


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv
        Arguments without the program's name; by default those of the process, which is then taken
        to be the command's own: its signals and its messages stay as the command needs them until
        it ends.

    Returns
    -------
    int
        0, or the status that a command returns (see ``sstfill nightly``); 2 on an error with a
        remedy, 70 on an unexpected one, 128 + n when signal n ended it (130 for Ctrl-C), 141 when
        the reader of standard output went away.

    Examples
    --------
    >>> main(["fill", "nowhere.nc", "--out", "filled.nc"])
    2
    """
    whole_process = argv is None
    signals = Signals(whole_process=whole_process)
    signals.catch()
    try:
        from sstfill.cli.process.running import run

        return run(
            list(sys.argv[1:] if argv is None else argv), signals, whole_process=whole_process
        )
    finally:
        if whole_process:
            signals.end_plainly()
        else:
            signals.release()
