# SPDX-License-Identifier: Apache-2.0
"""Wait for writes that are still under way when one of many fails or is interrupted.

Dask and Zarr raise as soon as one block fails; their other threads go on. What they write would
land in a folder that is being removed, and leave it behind; and Zarr's tasks would log errors when
the process ends.

An exception that a signal handler raises in the middle of a storage library can leave a lock of
that library held, and whatever writes next waits for ever. Signals are therefore held back until a
block is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import dask
import dask.system
import xarray as xr
from dask.callbacks import Callback

from sstfill.errors import ReadError

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
LONGEST = 30.0
"""Seconds to wait at most; writes to a full disk fail at once, and a block is some megabytes."""


@contextlib.contextmanager
def drained(ds: xr.Dataset | None = None) -> Iterator[None]:
    """Delay an error or interrupt of the body until nothing that it began is being written.

    Dask computes the lazy variables of `ds` in threads of this context, which are waited for. A
    `ReadError` passes at once: it arises from the input, between two writes.
    """
    try:
        with _own_threads(ds), signals_between_blocks():
            yield
    except ReadError:
        raise
    except BaseException:
        from zarr.core.sync import loop, sync

        # Zarr runs its tasks in one loop of its own
        if loop[0] is not None:
            sync(_finish_tasks(LONGEST))
        raise


@contextlib.contextmanager
def signals_between_blocks() -> Iterator[None]:
    """Delay the signals that end a process until a block of Dask is done, or until the end.

    A second signal is not held back. Nothing is done in threads other than the main one, which
    receive no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers: dict[int, Any] = {}

    def hold(number: int, frame: Any) -> None:
        waiting.append(number)
        # whoever asks twice does not want to wait
        if len(waiting) > 1:
            handlers[number](number, frame)

    def release() -> None:
        if waiting:
            number = waiting[0]
            waiting.clear()
            handlers[number](number, None)

    for name in ENDING:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and callable(handler := signal.getsignal(number)):
            handlers[number] = handler
            signal.signal(number, hold)
    try:
        # the scheduler calls this in the main thread, where no storage library is at work
        with Callback(pretask=lambda key, graph, state: release()):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        release()


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
    """Threads with a record of what is under way."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.pending: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.pending.add(future)
        future.add_done_callback(self.pending.discard)
        return future


async def _finish_tasks(seconds: float) -> None:
    """Wait until nothing else runs in this loop, and retrieve how each task ended."""
    end = time.monotonic() + seconds
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        left = end - time.monotonic()
        if left <= 0:
            return
        done, _ = await asyncio.wait(others, timeout=left)
        for task in done:
            if not task.cancelled():
                task.exception()  # else asyncio logs that it was never retrieved
