# SPDX-License-Identifier: Apache-2.0
"""Who fills the units: this process, worker processes of its own, or a cluster that runs already."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sstfill.archive.unit import Done, Task, fill_unit, forget
from sstfill.errors import InputError, OptionError, ReadError, SstfillError, WriteError
from sstfill.version import __version__

log = logging.getLogger(__name__)
AHEAD = 2
"""Units that wait at a worker beyond the one it works on: enough to keep it busy, few enough for
the scheduler.
"""
PATIENCE = "20s"
"""How long a cluster may take to answer."""
RETRIES = 2
"""How often a unit is tried again whose worker was lost while it sent its answer."""

LEAST = {
    "climatology": 600_000_000,
    "interpolate": 600_000_000,
    "dineof": 1_600_000_000,
    "bayes_eof": 1_600_000_000,
    "oi": 1_200_000_000,
}
MOST = 2_000_000_000
"""Bytes that a process needs to settle a method and fill units by it: what was measured, and a
third more; else `MOST`.

Units are of one size, so that this grows with the maps of what was looked at only.
"""
A_PIXEL = 50
"""Bytes for each pixel of an image: counts, the sea, what knows where the chunks are."""

Fill = Callable[[Task], Done]


class Workers(Protocol):
    """Fills units, in any order."""

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Fill them all; an error of one is raised when those under way are done."""
        ...


def here(tasks: Iterable[Task]) -> Iterator[Done]:
    """Fill units one after the other in this process, each with all its cores."""
    try:
        for task in tasks:
            yield fill_unit(task)
    finally:
        forget()


@dataclass(frozen=True)
class Cluster:
    """Fills units by the workers of a `dask.distributed` cluster, a few at a time."""

    client: Any

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Fill them all; at any moment the scheduler knows of a few units for each worker thread
        only.
        """
        from distributed import as_completed

        waiting = iter(tasks)
        underway = as_completed(loop=self.client.loop)
        names: dict[str, Task] = {}
        trouble: SstfillError | None = None
        for task in _several(waiting, self._room()):
            underway.add(self._sent(task, names))
        for future in underway:
            try:
                yield _answer(future, names.pop(future.key))
            except SstfillError as error:  # what is under way is not thrown away for it
                trouble = trouble or error
            future.release()
            for task in _several(waiting, 0 if trouble else max(1, self._room() - len(names))):
                underway.add(self._sent(task, names))
        if trouble:
            raise trouble
        self.client.run(forget, on_error="ignore")

    def _room(self) -> int:
        threads = sum(
            w["nthreads"] for w in self.client.scheduler_info(n_workers=-1)["workers"].values()
        )
        return max(1, threads) * (1 + AHEAD)

    def _sent(self, task: Task, names: dict[str, Task]) -> Any:
        key = f"sstfill-{task.night}-{task.name}-{task.number}"
        names[key] = task
        return self.client.submit(fill_unit, task, 1, key=key, retries=RETRIES, pure=False)


def _several(tasks: Iterator[Task], count: int) -> Iterator[Task]:
    for _, task in zip(range(count), tasks, strict=False):
        yield task


def _answer(future: Any, task: Task) -> Done:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except KilledWorker as error:
        raise InputError(
            f"unit {task.number} of {task.name} ended its worker {error.allowed_failures + 1} times, as too little "
            "memory does; give more (--memory), or fewer workers (--workers), and run the same command again"
        ) from error
    except FutureCancelledError as error:
        raise WriteError(
            "the cluster went away; run the same command again, it goes on where it was"
        ) from error


def check_memory(memory: int | None, count: int, method: str, pixels: int) -> None:
    """Refuse less memory than a process needs to fill units by a method, of images of so many
    pixels.

    >>> check_memory(10**9, 2, "interpolate", 10**6)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: interpolate needs about 0.7 GB in each of 2 workers, ...
    """
    least = LEAST.get(method, MOST) + A_PIXEL * pixels
    each = memory // max(1, count) if memory else least
    if each < least:
        of = f" in each of {count} workers" if count else ""
        enough = f"{least * max(1, count) / 1e9:.1f}GB"
        raise OptionError(
            f"{method} needs about {least / 1e9:.1f} GB{of}, --memory leaves {each / 1e9:.2g} GB; "
            f"give {enough} or more, or fewer workers"
        )


@contextlib.contextmanager
def staff(count: int, scheduler: str | None, memory: int | None) -> Iterator[Workers]:
    """Give whoever is to fill units.

    Parameters
    ----------
    count
        Worker processes of one thread each to start on this machine; 0 for none.
    scheduler
        Address of a cluster that runs already.
    memory
        Bytes that all workers started here may use together.
    """
    if count and scheduler:
        raise OptionError(
            f"--workers {count} starts a cluster, --scheduler {scheduler} names one; give one of them"
        )
    if not count and not scheduler:
        yield here
        return
    from distributed import Client

    with contextlib.ExitStack() as stack:
        if scheduler:
            try:
                client = stack.enter_context(
                    Client(scheduler, timeout=PATIENCE, set_as_default=False)
                )
            except (OSError, ValueError, TimeoutError) as error:
                raise ReadError(
                    f"no cluster answers at {scheduler}: {error}; start one: dask scheduler"
                ) from error
        else:
            client = stack.enter_context(
                Client(stack.enter_context(_own(count, memory)), set_as_default=False)
            )
        _check_versions(client)
        yield Cluster(client)


@contextlib.contextmanager
def _own(count: int, memory: int | None) -> Iterator[Any]:
    """Start a cluster on this machine, which ends with the context."""
    import dask
    from distributed import LocalCluster

    # What goes wrong is raised here; what workers log of it beside that, while they end, concerns
    # nobody.
    quiet = {"distributed.logging.distributed": "critical", "distributed.worker.daemon": True}
    with dask.config.set(quiet), contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
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
    told = client.run(_version, on_error="return")
    for error in told.values():
        if isinstance(error, ImportError):
            raise InputError(
                f"a worker has no sstfill: {error}; install version {__version__} there"
            ) from error
    found = {
        worker: version for worker, version in told.items() if isinstance(version, str)
    }  # others have just died
    if not found:
        raise InputError("the cluster has no workers; start some: dask worker ADDRESS")
    if other := {w: v for w, v in found.items() if v != __version__}:
        worker, version = next(iter(other.items()))
        raise InputError(
            f"worker {worker} has sstfill {version}, here is {__version__}; install the same there"
        )


def _version() -> str:
    return __version__
