# SPDX-License-Identifier: Apache-2.0
"""The ledger holds what was written to it whole, and one process at a time."""

from __future__ import annotations

import errno
import os

import pytest

from sstfill.errors import WriteError
from sstfill.io.ledger import Ledger, ledger_path


@pytest.fixture
def path(tmp_path):
    return ledger_path(tmp_path / "natl.zarr")


def test_what_was_recorded_is_there_again(path):
    with Ledger(path) as ledger:
        assert ledger.plan is None
        ledger.begin({"edges": [0, 2]})
        for window in (3, 0):
            ledger.record(window)
    with Ledger(path) as ledger:
        assert ledger.plan == {"edges": [0, 2]} and ledger.done == {0, 3}
        ledger.record(7)
        ledger.begin({"edges": [0, 9]})
        assert ledger.done == set()
    with Ledger(path) as ledger:
        assert (ledger.plan, ledger.done) == ({"edges": [0, 9]}, set())


def test_chunks_taken_for_empty_are_counted_over_all_runs(path):
    with Ledger(path) as ledger:
        ledger.begin({})
        ledger.record(0, 2)
        ledger.record(1)
    with Ledger(path) as ledger:
        assert (ledger.done, ledger.empty) == ({0, 1}, 2)
        ledger.record(2, 3)
    with Ledger(path) as ledger:
        assert (ledger.done, ledger.empty) == ({0, 1, 2}, 5)
        ledger.begin({})
        assert ledger.empty == 0


def test_a_window_that_must_be_fetched_again_is_not_done_and_counts_nothing(path):
    with Ledger(path) as ledger:
        ledger.begin({})
        ledger.record(0, 2)
        ledger.record(1, 1)
        ledger.forget(0)
        assert (ledger.done, ledger.empty) == ({1}, 1)
    with Ledger(path) as ledger:
        assert (ledger.done, ledger.empty) == ({1}, 1)
        ledger.record(0)
    with Ledger(path) as ledger:
        assert (ledger.done, ledger.empty) == ({0, 1}, 1)


def test_cut_anywhere_it_holds_what_came_before(path):
    with Ledger(path) as ledger:
        ledger.begin({"a": 1})
        for window in (10, 11, 12):
            ledger.record(window)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with Ledger(path) as ledger:
            lines = whole[:length].count(b"\n")
            assert ledger.done == set(range(10, 10 + max(0, lines - 1)))
            assert (ledger.plan is None) == (lines == 0)
            if ledger.plan is not None:
                ledger.record(99)  # on a line of its own
        if lines:
            with Ledger(path) as ledger:
                assert 99 in ledger.done and 1 not in ledger.done


def test_nothing_begun_leaves_nothing(path):
    with Ledger(path):
        assert path.exists()
    assert not path.exists()


def test_finished_it_is_gone(path):
    with Ledger(path) as ledger:
        ledger.begin({})
        ledger.finish()
    assert not path.exists()


def test_after_one_plan_comes_another(path):
    with Ledger(path) as ledger:
        ledger.begin({"first": 1})
        ledger.finish()
        ledger.begin({"second": 2})
    with Ledger(path) as ledger:
        assert ledger.plan == {"second": 2}


def test_a_second_download_is_refused(path):
    with Ledger(path) as ledger:
        ledger.begin({})
        with (
            pytest.raises(WriteError, match=r"another download is writing natl\.zarr; wait"),
            Ledger(path),
        ):
            pass
        ledger.record(1)
    with Ledger(path) as ledger:
        assert ledger.done == {1}


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with (
        pytest.raises(WriteError, match="choose another folder"),
        Ledger(tmp_path / "no" / "x.zarr.ledger"),
    ):
        pass


def test_a_line_written_in_parts_is_whole_and_one_that_fails_is_taken_back(path, monkeypatch):
    write = os.write
    with Ledger(path) as ledger:
        ledger.begin({"a": 1})
        monkeypatch.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:1]))
        ledger.record(123)
        before = path.read_bytes()
        rooms = iter([2])

        def full(descriptor, text):
            if (room := next(rooms, 0)) == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, text[:room])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(WriteError, match="No space left on device; make room"):
            ledger.record(456)
        assert path.read_bytes() == before and ledger.done == {123}
        monkeypatch.undo()
        ledger.record(7)
    with Ledger(path) as ledger:
        assert (ledger.plan, ledger.done) == ({"a": 1}, {123, 7})


@pytest.mark.parametrize("bad", [b"1{", b'"x"', b"\xff", b"", b"[1]", b"[1, true]"])
def test_from_the_first_bad_line_on_nothing_is_taken(path, bad):
    path.write_bytes(b'{"a": 1}\n1\n' + bad + b"\n2\n")
    with Ledger(path) as ledger:
        assert (ledger.plan, ledger.done) == ({"a": 1}, {1})
        ledger.record(3)
    assert path.read_bytes() == b'{"a": 1}\n1\n3\n'
