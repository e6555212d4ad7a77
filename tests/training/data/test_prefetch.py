# SPDX-License-Identifier: Apache-2.0
"""Items made ahead: in order, not too many, errors where they belong, and no thread left behind."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing

import pytest

from sstfill.errors import InputError
from sstfill.training.data.prefetch import DEPTH, WaitTimer, prefetch


def threads() -> int:
    return sum(thread.name.startswith("sstfill-prefetch") for thread in threading.enumerate())


def broken() -> Iterator[int]:
    yield 1
    raise InputError("no")


class TestAhead:
    def test_all_in_order(self) -> None:
        made: list[int] = []
        stream = prefetch(made.append(k) or k for k in range(4))  # type: ignore[func-returns-value]
        assert next(stream) == 0
        assert list(stream) == [1, 2, 3]
        assert made == [0, 1, 2, 3]
        assert list(prefetch([])) == []

    @pytest.mark.parametrize("depth", [1, DEPTH])
    def test_as_many_as_asked_for_and_no_more(self, depth: int) -> None:
        made: list[int] = []
        with closing(prefetch((made.append(k) or k for k in range(50)), depth)) as stream:  # type: ignore[func-returns-value]
            for k in range(3):
                assert next(stream) == k
                _until(lambda k=k: len(made) == k + 1 + depth)
                time.sleep(0.02)
                assert len(made) == k + 1 + depth

    def test_an_error_comes_in_its_turn_with_where_it_arose(self) -> None:
        stream = prefetch(broken())
        assert next(stream) == 1
        with pytest.raises(InputError, match="no") as raised:
            next(stream)
        assert "broken" in [
            frame.name for frame in traceback.extract_tb(raised.value.__traceback__)
        ]
        assert not threads()

    def test_an_interruption_passes(self) -> None:
        def interrupted() -> Iterator[int]:
            yield 1
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(prefetch(interrupted()))
        assert not threads()

    def test_closed_early_it_leaves_no_thread(self) -> None:
        slow = (time.sleep(0.01) or k for k in range(1000))  # type: ignore[func-returns-value]
        with pytest.raises(KeyboardInterrupt), closing(prefetch(slow)) as stream:
            assert next(stream) == 0 and threads() == 1
            raise KeyboardInterrupt
        assert not threads()
        assert next(slow) <= 1 + DEPTH  # nor was more than that made


class TestWaited:
    def test_only_what_items_took_counts(self) -> None:
        slow = WaitTimer(time.sleep(0.03) or k for k in range(3))  # type: ignore[func-returns-value]
        found = []
        for k in slow:
            found.append(k)
            time.sleep(0.1)
        assert found == [0, 1, 2]
        assert 0.09 <= slow.seconds < 0.3


def _until(true: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.001)
