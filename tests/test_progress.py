# SPDX-License-Identifier: Apache-2.0
"""Progress is silent unless asked for, goes to standard error, and never changes what is iterated
over.
"""

from __future__ import annotations

import contextvars

import pytest
from light import light

from sstfill.fill import fill
from sstfill.progress import shown, track
from sstfill.synthetic import ocean


def test_silent_by_default(capfd):
    assert list(track(range(3), "fitting")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_shown_on_standard_error(capfd):
    with shown():
        assert list(track("abc", "fitting", total=3)) == ["a", "b", "c"]
    out, err = capfd.readouterr()
    assert out == "" and "fitting" in err and "0/3" in err


def test_silent_again_after_an_error(capfd):
    with pytest.raises(RuntimeError, match="mine"), shown():
        raise RuntimeError("mine")
    list(track(range(3), "fitting"))
    assert capfd.readouterr().err == ""


def test_nested(capfd):
    with shown(), shown(False):
        list(track(range(3), "inner"))
    with shown():
        with shown(False):
            pass
        list(track(range(3), "outer"))
    err = capfd.readouterr().err
    assert "inner" not in err and "outer" in err


def test_other_contexts_stay_silent(capfd):
    elsewhere = contextvars.copy_context()
    with shown():
        elsewhere.run(list, track(range(3), "fitting"))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("on", [False, True])
def test_items_are_taken_one_by_one(on, capfd):
    taken = []
    with shown(on):
        for item in track((taken.append(i) or i for i in range(9)), "fitting"):
            if item == 2:
                break
    assert taken == [0, 1, 2]
    capfd.readouterr()


def test_filling_tells_how_far_it_is(capfd):
    ds, few = ocean(shape=(8, 12, 12), seed=1), light("auto")
    with shown():
        loud = fill(ds, few, variables="sst")
    assert "choosing a method" in capfd.readouterr().err
    quiet = fill(ds, few, variables="sst")
    assert capfd.readouterr() == ("", "") and quiet["sst"].equals(loud["sst"])


def test_what_was_found_so_far_stands_behind_the_bar(capfd):
    found = []
    with shown():
        for item in track("ab", "looking", so_far=lambda: f"so far {found}"):
            found.append(item)
    assert "so far ['a']" in capfd.readouterr().err
