# SPDX-License-Identifier: Apache-2.0
"""Make items ahead of their use in a thread, and measure the time that is still spent waiting."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
DEPTH = 3
"""Items made, or being made, ahead of the one in use."""


def prefetch(items: Iterable[T], depth: int = DEPTH) -> Generator[T, None, None]:
    """Iterate while a thread makes the next `depth` items: the accelerator need not wait for them.

    An error in the thread is raised here, in its turn and with its traceback. Closed before the end
    or interrupted, the generator waits for the item being made and leaves no thread behind: use
    `contextlib.closing`.

    >>> list(prefetch(range(4)))
    [0, 1, 2, 3]
    """
    stream = iter(items)
    with ThreadPoolExecutor(1, "sstfill-prefetch") as pool:
        # one thread: the items of a generator come in order, and it may not be entered twice
        upcoming = deque(pool.submit(_step, stream) for _ in range(depth))
        try:
            while found := upcoming.popleft().result():
                upcoming.append(pool.submit(_step, stream))
                yield found[0]
        finally:
            pool.shutdown(cancel_futures=True)


def _step(stream: Iterator[T]) -> tuple[T] | None:
    """Take the next item, or None at the end."""
    for item in stream:
        return (item,)
    return None


class WaitTimer(Generic[T]):
    """Items, and the seconds spent waiting for them.

    Attributes
    ----------
    seconds
        So far.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self.seconds = 0.0
        self._items = items

    def __iter__(self) -> Iterator[T]:
        """Yield the items."""
        stream = iter(self._items)
        while True:
            asked = time.monotonic()
            found = _step(stream)
            self.seconds += time.monotonic() - asked
            if found is None:
                return
            yield found[0]
