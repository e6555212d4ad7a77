# SPDX-License-Identifier: Apache-2.0
"""A lock of the system on an open file, which goes with the process that holds it; and who holds it."""

from __future__ import annotations

import contextlib
import os
import socket
from datetime import UTC, datetime


def lock(descriptor: int) -> None:
    """Lock an open file; `BlockingIOError` if another holds it. On Windows, which has no fcntl, nothing is locked."""
    with contextlib.suppress(ImportError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sign(descriptor: int) -> None:
    """Write into a locked file who holds it, and since when."""
    os.ftruncate(descriptor, 0)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now}".encode())


def holder(descriptor: int) -> str:
    """Who holds a file, as `sign` wrote it."""
    return os.read(descriptor, 200).decode(errors="replace") or "another process"
