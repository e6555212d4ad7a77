# SPDX-License-Identifier: Apache-2.0
"""Signals that end the command: it tidies up, prints one line, and exits with status 128 + n.

This module is the first that the command imports and must stay light: until `Signals.catch` has
run, Ctrl-C shows a traceback of Python's own.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False  # as `typing` has it, which takes time to import
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

ENDING = [signal.SIGINT, signal.SIGTERM]
"""What ends the command."""
if hasattr(signal, "SIGHUP"):  # Windows has none
    ENDING.append(signal.SIGHUP)
INSISTS = 1.0
"""Seconds after which a second signal counts; one Ctrl-C often arrives twice, the second time from
a wrapper.
"""
AGAIN = 0.05
"""Seconds after which a signal is sent again that was lost where Python ignores exceptions."""


class Stopped(KeyboardInterrupt):
    """A signal asks the command to end; raised in the main thread, wherever it is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Signals:
    """How the command handles signals.

    While it is `starting`, a signal ends the process at once: an exception in the middle of an
    import can come out as a traceback of a library. Later a signal raises `Stopped`, so that
    unfinished files are removed. A second one ends the process without that.
    """

    def __init__(self, *, whole_process: bool) -> None:
        self.starting = whole_process
        self.received: int | None = None
        self._when = 0.0
        self._before: dict[int, Any] = {}
        self._unraisable = sys.unraisablehook

    def catch(self) -> None:
        """Handle the signals, except those that the parent process has ignored, as nohup does."""
        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:
                try:
                    self._before[number] = signal.signal(number, self._on_signal)
                except ValueError:  # a thread other than the main one runs the command, and may not
                    return
        sys.unraisablehook = self._on_unraisable

    def release(self) -> None:
        """Restore the handlers that were there before."""
        for number, before in self._before.items():
            signal.signal(number, before)
        sys.unraisablehook = self._unraisable

    def end_plainly(self) -> None:
        """Have a further signal end the process silently: only Python's own shutdown is left."""
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)

    def status(self) -> int:
        """Exit status that states which signal ended the command."""
        return 128 + (signal.SIGINT if self.received is None else self.received)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.starting:
            os.write(2, b"sstfill: interrupted; nothing was begun\n")
            # not sys.exit: an exception within an import may be caught there
            os._exit(128 + number)
        if self.received is None:
            self.received, self._when = number, time.monotonic()
            raise Stopped(number)
        if time.monotonic() - self._when > INSISTS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _on_unraisable(self, unraisable: Any) -> None:
        """Send a signal again whose exception was lost in a finaliser."""
        if not isinstance(unraisable.exc_value, Stopped):
            self._unraisable(unraisable)
            return
        import threading

        self.received = None
        threading.Timer(AGAIN, _wake_main_thread, [unraisable.exc_value.number]).start()


def _wake_main_thread(number: int) -> None:
    import threading

    if hasattr(signal, "pthread_kill"):
        # What the main thread waits for is interrupted only by a signal of its own.
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)
