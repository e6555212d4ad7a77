# SPDX-License-Identifier: Apache-2.0
"""Wait for writes that are still under way when one of many fails or is interrupted.

Dask and Zarr raise as soon as one block fails; their other threads go on. What they write would land in a folder that
is being removed, and leave it behind; and Zarr's tasks would tell of themselves when the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import dask
import dask.system
import xarray as xr

from sstfill.errors import ReadError

LONGEST = 30.0
"""Seconds to wait at most; writes to a full disk fail at once, and a block is some megabytes."""


@contextlib.contextmanager
def drained(ds: xr.Dataset | None = None) -> Iterator[None]:
    """Let an error or an interrupt of the body out only when nothing that it began is being written any more.

    Dask computes the lazy variables of `ds` in threads of this context, which are waited for. A `ReadError` passes at
    once: it comes of the input, between two writes.
    """
    try:
        with _own_threads(ds):
            yield
    except ReadError:
        raise
    except BaseException:
        from zarr.core.sync import loop, sync

        if loop[0] is not None:
            sync(_settled(LONGEST))
        raise


@contextlib.contextmanager
def _own_threads(ds: xr.Dataset | None) -> Iterator[None]:
    lazy = ds is not None and any(v.chunks for v in ds.variables.values())
    if not lazy or dask.config.get("pool", None) is not None:
        yield
        return
    pool = _Pool(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)
    try:
        with dask.config.set(pool=pool):
            yield
    finally:
        wait(list(pool.pending))  # not shut down: another thread may have met it in Dask's settings


class _Pool(ThreadPoolExecutor):
    """Threads that know what they have under way."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.pending: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.pending.add(future)
        future.add_done_callback(self.pending.discard)
        return future


async def _settled(seconds: float) -> None:
    """Wait until nothing else runs in this loop, and take note of how it ended."""
    end = time.monotonic() + seconds
    while (others := asyncio.all_tasks() - {asyncio.current_task()}) and (left := end - time.monotonic()) > 0:
        done, _ = await asyncio.wait(others, timeout=left)
        for task in done:
            if not task.cancelled():
                task.exception()
