# SPDX-License-Identifier: Apache-2.0
"""Lock a file for one process; the system releases the lock when the process ends."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sstfill.errors import WriteError

SIGNED = "process "
"""How the content of a lock file begins; a file that begins otherwise is not ours."""


def acquire(
    path: Path, busy: Callable[[str], WriteError], *, signed: bool = True, flags: int = 0
) -> int:
    """Open a file, made if it does not exist, lock it, and return the descriptor.

    Parameters
    ----------
    path
        The file.
    busy
        Makes the error for a file that another process holds, from the name of that process.
    signed
        Write into the file who holds it; a file with other content is refused, not truncated.
    flags
        For opening it, beside those needed here.

    Raises
    ------
    WriteError
        Another process holds it, or it is not a lock.
    OSError
        It cannot be opened or locked; no descriptor is left open.
    """
    while True:
        # not O_EXCL: the lock is on the open file, and a file that was left behind is no lock
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        taken = False
        try:
            _lock(descriptor)
            taken = _is_file(descriptor, path)  # False: its holder has just removed it, try again
            if taken and signed:
                _sign(descriptor, path)
            if taken:
                return descriptor
        except BlockingIOError:
            raise busy(_holder(descriptor)) from None
        except BaseException:
            taken = False
            raise
        finally:
            if not taken:
                os.close(descriptor)


def held_by(path: Path) -> str:
    """Name the process that holds a lock; empty if nobody does, or if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    try:
        _lock(descriptor)
    except BlockingIOError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return ""


class OutputLock:
    """The lock of a Zarr output, ``OUT.job/lock``, for fills in memory and archive jobs alike.

    The folder is made if it does not exist, and removed with the lock if nothing else is in it; a
    folder that somebody else made stays. Use as a context; a second one for the same output is
    refused, in this process too.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".job")
        self.path = self.folder / "lock"
        self._descriptor = -1
        self._own = False

    def __enter__(self) -> OutputLock:
        while self._descriptor < 0:
            # a lock that a killed process left: that process made the folder
            self._own = self.path.is_file()
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir()
                self._own = True
            with contextlib.suppress(FileNotFoundError):  # its holder has just removed the folder
                self._descriptor = acquire(self.path, self._busy)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor < 0:
            return
        try:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                self._tidy()
        finally:  # an interrupt must not leave the lock with a process that goes on
            os.close(self._descriptor)
            self._descriptor = -1

    def _busy(self, who: str) -> WriteError:
        return WriteError(f"{self.out} is being filled by {who}; wait for it, or end it")

    def _tidy(self) -> None:
        """Remove the lock while it is held; whoever has it open sees that, and tries again."""
        others = {member.name for member in self.folder.iterdir()} - {self.path.name}
        if others and "job.json" not in others:
            return  # a run that was cut short: the lock marks the folder as ours
        self.path.unlink()
        if not others and self._own:
            self.folder.rmdir()


def _lock(descriptor: int) -> None:
    """Lock an open file; `BlockingIOError` if another holds it.

    On Windows, which has no fcntl, nothing is locked.
    """
    with contextlib.suppress(ImportError):
        import fcntl

        # not lockf: its locks do not keep this process itself out, and go when any descriptor of
        # the file is closed
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_file(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _sign(descriptor: int, path: Path) -> None:
    """Write into a locked file who holds it, and since when."""
    regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    if not regular or not _content(descriptor).startswith((SIGNED, "\0")):
        raise WriteError(
            f"cannot write {path}: it is not a lock of sstfill; remove it, or choose another output"
        )
    os.ftruncate(descriptor, 0)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    holder = f"{SIGNED}{os.getpid()} on {socket.gethostname()} since {now}"
    os.pwrite(descriptor, holder.encode(), 0)


def _content(descriptor: int) -> str:
    """Return the first bytes of a file; of an empty file, a NUL."""
    return os.pread(descriptor, 200, 0).decode(errors="replace") or "\0"


def _holder(descriptor: int) -> str:
    content = _content(descriptor)
    return content if content.startswith(SIGNED) else "another process"
