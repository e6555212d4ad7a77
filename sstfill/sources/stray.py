# SPDX-License-Identifier: Apache-2.0
"""Writes that zarr leaves to themselves when one of many fails, as on a full disk: waited for before the error goes on.

Otherwise they land in a store that was given up, and tell of themselves in hundreds of lines when the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from sstfill.errors import ReadError

LONGEST = 5.0  # seconds; writes to a full disk fail at once


@contextlib.contextmanager
def no_stray_writes() -> Iterator[None]:
    """Let an `OSError` of the body out only when nothing is being written any more."""
    try:
        yield
    except ReadError:
        raise
    except OSError:
        from zarr.core.sync import loop, sync

        if loop[0] is not None:
            sync(_settled(LONGEST))
        raise


async def _settled(seconds: float) -> None:
    """Wait until nothing else runs in this loop, and take note of how it ended."""
    end = time.monotonic() + seconds
    while (others := asyncio.all_tasks() - {asyncio.current_task()}) and (left := end - time.monotonic()) > 0:
        done, _ = await asyncio.wait(others, timeout=left)
        for task in done:
            if not task.cancelled():
                task.exception()
