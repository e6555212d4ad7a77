# SPDX-License-Identifier: Apache-2.0
"""Record beside an unfinished store what is on the disk; each line is flushed at once."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sstfill.errors import ReadError, WriteError
from sstfill.io.output.atomic import flush
from sstfill.io.output.lock import acquire
from sstfill.io.untrusted.documents import parse_json

GONE = -1
"""In place of a number of chunks: the window is not done after all."""


def ledger_path(store: Path) -> Path:
    """Return the path of the ledger of a store.

    >>> ledger_path(Path("natl.zarr")).name
    'natl.zarr.ledger'
    """
    return store.with_name(store.name + ".ledger")


class Ledger:
    """The plan of a download and which of its windows are done; one process holds it at a time.

    A line that was cut short, by a kill or a full disk, counts as not written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "natl.zarr.ledger"
    >>> with Ledger(path) as ledger:
    ...     ledger.begin({"windows": 3})
    ...     ledger.record(1)
    >>> with Ledger(path) as again:
    ...     again.plan, again.done
    ({'windows': 3}, {1})
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan: dict[str, Any] | None = None
        self.done: set[int] = set()
        self._empty: dict[int, int] = {}  # number of chunks by window, see `empty`
        self._descriptor = -1

    def __enter__(self) -> Ledger:
        try:
            # the ledger is its own lock
            self._descriptor = acquire(self.path, self._busy, signed=False, flags=os.O_APPEND)
            self._read()
        except OSError as error:
            self._close()
            if isinstance(error, WriteError):
                raise
            raise WriteError(
                f"cannot write {self.path}: {error.strerror or error}; choose another folder"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.plan is None:  # nothing was begun, or all is done
            self.path.unlink(missing_ok=True)
        self._close()

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Replace what was there by a new plan."""
        self.plan, self.done, self._empty = dict(plan), set(), {}
        os.ftruncate(self._descriptor, 0)
        self._append(self.plan)
        flush(self.path.parent)

    def record(self, window: int, empty: int = 0) -> None:
        """Note that a window is on the disk, and how many of its chunks were taken for empty."""
        self._append([window, empty] if empty else window)
        self._take(window, empty)

    def forget(self, window: int) -> None:
        """Note that a window must be fetched again, whatever is on the disk."""
        self._append([window, GONE])
        self._take(window, GONE)

    @property
    def empty(self) -> int:
        """Number of chunks that were taken for empty, in all windows that are done."""
        return sum(self._empty.values())

    def finish(self) -> None:
        """Note that all is done; the file is removed when the ledger is closed."""
        os.ftruncate(self._descriptor, 0)
        self.plan, self.done, self._empty = None, set(), {}

    def _take(self, window: int, empty: int) -> None:
        if empty == GONE:
            self.done.discard(window)
            self._empty.pop(window, None)
            return
        self.done.add(window)
        self._empty[window] = empty

    def _append(self, value: Any) -> None:
        line = json.dumps(value).encode() + b"\n"
        end = os.fstat(self._descriptor).st_size
        try:
            while line:
                # a disk that is nearly full may take a part of it
                line = line[os.write(self._descriptor, line) :]
            # a window that is recorded must be on the disk after a loss of power
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, end)
            raise WriteError(
                f"cannot write {self.path}: {error.strerror or error}; make room and run the same "
                "command again, it goes on where it was"
            ) from error

    def _read(self) -> None:
        text = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        good = 0
        # what follows the last end of line was cut short
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            try:
                value = parse_json(line, self.path, remedy="")
            except ReadError:
                break
            if self.plan is None and isinstance(value, dict):
                self.plan = value
            elif self.plan is None:
                break
            elif type(value) is int:  # a bool is an int, and not a window
                self._take(value, 0)
            elif isinstance(value, list) and [type(number) for number in value] == [int, int]:
                self._take(*value)
            else:
                break
            good += len(line)
        os.ftruncate(self._descriptor, good)  # what comes next begins a line of its own

    def _busy(self, _: str) -> WriteError:
        return WriteError(
            f"another download is writing {self.path.stem}; wait for it, or choose another name"
        )

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
