# SPDX-License-Identifier: Apache-2.0
"""How long to go on trying: a clock that every answer winds up again, and growing pauses between
attempts.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 20.0


class Deadline:
    """Seconds left before giving up; `renew` after an answer, `wait` after a failure.

    Parameters
    ----------
    seconds
        How long without any answer is too long.
    clock, sleep
        In place of those of `time`.

    >>> patience = Patience(60)
    >>> patience.left > 59
    True
    """

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.seconds = seconds
        self._clock, self._sleep = clock, sleep
        self._since = clock()

    def renew(self) -> None:
        """Wind the clock up: something was answered."""
        self._since = self._clock()

    @property
    def left(self) -> float:
        """Seconds before giving up, 0 at least."""
        return max(0.0, self.seconds - (self._clock() - self._since))

    def wait(self, attempt: int) -> bool:
        """Pause before the next attempt, longer after each; False where there was no time left for
        one.
        """
        left = self.left
        jitter = random.uniform(0.7, 1.3)  # clients must not march in step
        (self._sleep or time.sleep)(
            min(min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * jitter, left)
        )
        return left > 0


class NoAnswerError(TimeoutError):
    """A call that is left to itself: it did not come back in time."""


def limited(call: Callable[[], T], seconds: float) -> T:
    """Return what `call` returns; `NoAnswerError` if that takes longer, and the call is left to
    itself.

    >>> limited(lambda: 42, 5.0)
    42
    """
    answer: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            answer.append(call())
        except BaseException as error:  # handed to the thread that waits
            failure.append(error)

    thread = threading.Thread(
        target=body, daemon=True, name="sstfill-limited"
    )  # never waited for at exit
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise NoAnswerError(f"no answer within {seconds:.0f} s")
    if failure:
        raise failure[0]
    return answer[0]
