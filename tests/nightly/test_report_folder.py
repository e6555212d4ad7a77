# SPDX-License-Identifier: Apache-2.0
"""The folder of a nightly report: new, empty, or one that nights made; no other is written to."""

from __future__ import annotations

import json

import pytest

from sstfill.errors import WriteError
from sstfill.nightly.journal import MARK, locked
from sstfill.nightly.run import _check_apart


@pytest.mark.parametrize("name", ["index.html", "latest.json", "lock", "notes.txt"])
def test_a_folder_of_the_user_s_is_left_as_it_is(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(WriteError, match=r"it holds|not a lock"), locked(tmp_path):
        pass
    assert (tmp_path / name).read_text() == "mine"
    assert [member.name for member in tmp_path.iterdir()] == [name]


def test_new_empty_and_own_folders_are_taken(tmp_path):
    new, empty, old = tmp_path / "new", tmp_path / "empty", tmp_path / "old"
    empty.mkdir()
    old.mkdir()
    (old / "nightly.log").write_text("night of x begins")
    line = {"status": "fine", "started": "2024", "found": {}, "state": ""}
    (old / "history.jsonl").write_text(json.dumps(line) + "\n")
    (old / "index.html").write_text("<html>")
    for folder in (new, empty, old):
        for _ in range(2):
            with locked(folder):
                assert (folder / "lock").exists()
            assert (folder / MARK).is_file() and not (folder / "lock").exists()


def test_a_report_apart_from_what_it_tells_of(tmp_path):
    archive = tmp_path / "data/in.zarr"
    archive.mkdir(parents=True)
    for report in (archive, archive / "report", archive.parent, archive.with_name("in.zarr.job")):
        with pytest.raises(WriteError):
            _check_apart(report, archive)
    _check_apart(tmp_path / "report", archive)
