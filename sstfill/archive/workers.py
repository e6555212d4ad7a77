# SPDX-License-Identifier: Apache-2.0
"""Fill units in this process, in worker processes of its own, or on a running cluster."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from sstfill.archive.source import BLOCK_BYTES
from sstfill.archive.unit import Done, Task, fill_unit, forget
from sstfill.errors import InputError, OptionError, ReadError, SstfillError, WriteError
from sstfill.methods.common import sampling
from sstfill.version import __version__

log = logging.getLogger(__name__)
AHEAD = 2
"""Units queued for each thread beyond the one it works on, which keeps it busy."""
RETRIES = 2
"""How often a unit is tried again whose worker was lost while it sent its answer."""

LEAST = {
    "climatology": 900_000_000,
    "interpolate": 900_000_000,
    "dineof": 1_600_000_000,
    "bayes_eof": 1_600_000_000,
    "oi": 1_200_000_000,
}
MOST = 2_000_000_000
"""Bytes that a process needs to fit a method and fill units: measured, and a third more.

A method not in `LEAST` needs `MOST`. All units have one size, so the rest grows with the image.
"""
KEPT = 256_000_000
"""Bytes of slabs that a process keeps where no memory is given."""
COPIES_DECODED = 2
"""Arrays of a stored chunk that are in memory at once while it is read, as measured."""
COPIES = 5
"""Arrays of all members of a unit that are in memory at once while it is filled."""
A_PIXEL = 50
"""Bytes for each pixel of an image: counts, sea mask, index of the chunks."""

Fill = Callable[[Task], Done]


class Workers(Protocol):
    """A function that fills units, in any order."""

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Fill all units; an error is raised once the units under way are done."""
        ...


def here(tasks: Iterable[Task]) -> Iterator[Done]:
    """Fill units one by one in this process, each with all cores."""
    try:
        for task in tasks:
            yield fill_unit(task)
    finally:
        forget()


@dataclass(frozen=True)
class Cluster:
    """The workers of a `dask.distributed` cluster."""

    client: Any

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Fill all units; the scheduler holds only a few at a time for each worker thread."""
        from distributed import as_completed

        forget()  # what this process kept to plan the units; the workers read their own
        waiting = iter(tasks)
        futures = as_completed(loop=self.client.loop)
        submitted: dict[str, Task] = {}
        first_error: SstfillError | None = None

        def submit(count: int) -> None:
            for task in islice(waiting, count):
                key = f"sstfill-{task.run_id}-{task.name}-{task.number}"
                submitted[key] = task
                # Not pure: a unit of the same name may have other observations by now.
                futures.add(
                    self.client.submit(fill_unit, task, 1, key=key, retries=RETRIES, pure=False)
                )

        submit(self._capacity())
        for future in futures:
            try:
                yield _result(future, submitted.pop(future.key))
            except SstfillError as error:
                # Units under way are still waited for: what they write is not lost.
                first_error = first_error or error
            # else the scheduler keeps every result until the end
            future.release()
            if first_error is None:
                submit(max(1, self._capacity() - len(submitted)))
        if self.client.status == "running":  # else the cluster went away
            self.client.run(forget, on_error="ignore")
        if first_error is not None:
            raise first_error

    def _capacity(self) -> int:
        """Return how many units the scheduler may hold; workers come and go."""
        # -1: else some workers only are listed
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        threads = sum(worker["nthreads"] for worker in workers)
        return max(1, threads) * (1 + AHEAD)


def _result(future: Any, task: Task) -> Done:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except KilledWorker as error:
        # Dask suspects units that only waited there, too.
        raise InputError(
            f"workers ended {error.allowed_failures + 1} times with unit {task.number} of "
            f"{task.name}, or with one beside it, as too little memory makes them; give more "
            "(--memory), or fewer workers (--workers), and run the same command again"
        ) from error
    except FutureCancelledError as error:
        raise WriteError(
            "the cluster went away; run the same command again, it goes on where it was"
        ) from error


def check_memory(
    memory: int | None, count: int, method: str, pixels: int, members: int = 0, decoded: int = 0
) -> int:
    """Refuse less memory than a process needs to fill units of images of so many pixels.

    `decoded` is how many bytes of an archive are decoded at once. Returns how many bytes of slabs a
    process may keep, see `sstfill.archive.slabs`: three quarters of what is left, since Dask ends
    workers that come near to their limit.

    >>> check_memory(10**9, 2, "interpolate", 10**6)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: interpolate needs about 0.9 GB in each of 2 workers, ...
    """
    least = LEAST.get(method, MOST) + A_PIXEL * pixels
    # 4 bytes a value: members are in single precision
    least += COPIES * 4 * members * math.prod(sampling.CORE)
    least += COPIES_DECODED * max(0, decoded - BLOCK_BYTES)
    if not memory:
        return KEPT
    processes = max(1, count)
    each = memory // processes
    if each < least:
        where = ""
        if count:
            where = f" in each of {count} workers"
        if decoded > BLOCK_BYTES:
            where += f", as {decoded / 1e9:.1f} GB of stored chunks are decoded at once"
        raise OptionError(
            f"{method} needs about {least / 1e9:.1f} GB{where}, --memory leaves {each / 1e9:.2g} "
            f"GB; give {least * processes / 1e9:.1f}GB or more, or fewer workers"
        )
    return 3 * (each - least) // 4


@contextlib.contextmanager
def staff(
    count: int, scheduler: str | None, memory: int | None, *, timeout: float = 20.0
) -> Iterator[Workers]:
    """Start or connect to the workers that fill units.

    Parameters
    ----------
    count
        Worker processes of one thread each to start on this machine; 0 for none.
    scheduler
        Address of a cluster that runs already.
    memory
        Bytes that all workers started here may use together.
    timeout
        Seconds that a cluster may take to answer.
    """
    if count and scheduler:
        raise OptionError(
            f"--workers {count} starts a cluster, --scheduler {scheduler} names one; give one of "
            "them"
        )
    if not count and not scheduler:
        yield here
        return
    from distributed import Client

    with contextlib.ExitStack() as stack:
        if scheduler:
            try:
                client = Client(scheduler, timeout=timeout, set_as_default=False)
            except (OSError, ValueError, TimeoutError) as error:
                raise ReadError(
                    f"no cluster answers at {scheduler}: {error}; start one: dask scheduler"
                ) from error
        else:
            cluster = stack.enter_context(_local_cluster(count, memory))
            # not the default: reading in this process must not go to the cluster
            client = Client(cluster, set_as_default=False)
        stack.enter_context(client)
        _check_versions(client)
        yield Cluster(client)


@contextlib.contextmanager
def _local_cluster(count: int, memory: int | None) -> Iterator[Any]:
    """Start a cluster on this machine, which ends with the context."""
    import dask
    from distributed import LocalCluster

    # Errors are raised here; what workers log of them besides, while they end, is noise.
    quiet = {"distributed.logging.distributed": "critical", "distributed.worker.daemon": True}
    # A worker would wait for memory that its next unit is to free, for ever.
    unpaused = {"distributed.worker.memory.pause": False}
    with dask.config.set(quiet | unpaused), contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    # each unit is filled by one thread
                    threads_per_worker=1,
                    processes=True,
                    # any free port: two runs on one machine would both ask for the usual one
                    dashboard_address=":0",
                    memory_limit=memory // count if memory else "auto",
                    silence_logs=logging.ERROR,
                )
            )
        except RuntimeError as error:
            reason = error.__cause__ or error
            raise WriteError(
                f"{count} workers did not start: {reason}; run the same command again"
            ) from error
        yield cluster


def _check_versions(client: Any) -> None:
    """Refuse a cluster without workers, or whose workers have another version of sstfill."""
    answers = client.run(_version, on_error="return")
    alive = 0
    for worker, answer in answers.items():
        if isinstance(answer, ImportError):
            raise InputError(
                f"a worker has no sstfill: {answer}; install version {__version__} there"
            ) from answer
        if not isinstance(answer, str):
            continue  # the worker has just died
        alive += 1
        if answer != __version__:
            raise InputError(
                f"worker {worker} has sstfill {answer}, here is {__version__}; install the same "
                "there"
            )
    if not alive:
        raise InputError("the cluster has no workers; start some: dask worker ADDRESS")


def _version() -> str:
    return __version__
