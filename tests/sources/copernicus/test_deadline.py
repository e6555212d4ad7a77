# SPDX-License-Identifier: Apache-2.0
"""Attempts end with success, with the last error as it came, or when nobody waits any more."""

from __future__ import annotations

import threading
import time

import pytest

from sstfill.sources.copernicus.deadline import Deadline


class Failing:
    """Fails so many times, then returns the number of calls."""

    def __init__(self, times: float, error: BaseException) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return self.calls


def test_a_failure_that_passes_is_tried_again():
    assert Deadline(20, first_pause=0.001).attempts()(Failing(3, OSError("reset"))) == 4


def test_the_last_error_is_raised_as_it_came_once_the_deadline_has_passed():
    error, started = OSError("reset"), time.monotonic()
    with pytest.raises(OSError, match="reset") as caught:
        Deadline(0.1, first_pause=0.001).attempts()(Failing(float("inf"), error))
    assert caught.value is error
    assert 0.1 <= time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("options", "calls"), [({"most": 3}, 3), ({"may_pass": lambda error: False}, 1)]
)
def test_attempts_are_limited_in_number_and_to_what_may_pass(options, calls):
    failing = Failing(float("inf"), OSError("reset"))
    with pytest.raises(OSError, match="reset"):
        Deadline(20, first_pause=0.001).attempts(**options)(failing)
    assert failing.calls == calls


def test_ctrl_c_is_not_tried_again():
    failing = Failing(1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        Deadline(20, first_pause=0.001).attempts()(failing)
    assert failing.calls == 1


def test_an_event_ends_a_pause_and_the_attempts():
    stopped, failing = threading.Event(), Failing(float("inf"), OSError("reset"))
    timer = threading.Timer(0.1, stopped.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(OSError, match="reset"):
        Deadline(60, first_pause=10.0).attempts(stopped=stopped)(failing)
    timer.join()
    assert time.monotonic() - started < 5
    assert failing.calls == 2
