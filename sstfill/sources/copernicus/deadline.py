# SPDX-License-Identifier: Apache-2.0
"""Limits in time: attempts with growing pauses until a deadline, and calls that may hang."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import tenacity

T = TypeVar("T")

LONGEST_PAUSE = 20.0  # seconds


class Deadline:
    """A moment, so many seconds from now, after which no attempt is made any more.

    Parameters
    ----------
    seconds
        From now on.
    first_pause
        Seconds between the first two attempts.

    >>> Deadline(60).left > 59
    True
    """

    def __init__(self, seconds: float, *, first_pause: float = 0.25) -> None:
        self._end = time.monotonic() + seconds
        self._first_pause = first_pause

    @property
    def left(self) -> float:
        """Seconds until the deadline, 0 after it."""
        return max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self.left == 0.0

    def attempts(
        self,
        may_pass: Callable[[BaseException], bool] = lambda error: isinstance(error, Exception),
        *,
        most: float = math.inf,
        stopped: threading.Event | None = None,
    ) -> tenacity.Retrying:
        """Return what calls a function until it succeeds, with pauses that double up to 20 s.

        Parameters
        ----------
        may_pass
            Whether another attempt may help after an error; by default after any.
        most
            Number of attempts.
        stopped
            Ends a pause, and the attempts, when it is set.

        Returns
        -------
        Retrying
            Call it with the function. The error of the last attempt is raised as it came.

        >>> Deadline(60).attempts()(lambda: 42)
        42
        """
        # a wait on an event ends at once when it is set; a sleep would not
        event = stopped or threading.Event()
        pause = tenacity.wait_exponential(self._first_pause, LONGEST_PAUSE)

        def wait(state: tenacity.RetryCallState) -> float:
            jitter = random.uniform(0.7, 1.3)  # clients refused together must not return together
            return min(pause(state) * jitter, self.left)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_pass),
            stop=lambda state: self.over or event.is_set() or state.attempt_number >= most,
            wait=wait,
            sleep=tenacity.sleep_using_event(event),
            reraise=True,
        )


class NoAnswerError(TimeoutError):
    """A call did not return in time; it goes on in a thread of its own."""


def limited(call: Callable[[], T], seconds: float) -> T:
    """Return what `call` returns, or raise `NoAnswerError` after so many seconds.

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

    # a daemon: a call that hangs must not keep the process alive
    thread = threading.Thread(target=body, daemon=True, name="sstfill-limited")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise NoAnswerError(f"no answer within {seconds:.0f} s")
    if failure:
        raise failure[0]
    return answer[0]
