# SPDX-License-Identifier: Apache-2.0
"""Verifying finds whatever is wrong with a filled store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_archives as small
import zarr

from sstfill import errors
from sstfill.archive import fill_archive, verify
from sstfill.archive.source import ArchiveSource


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as m:
        small.small_units(m)
        fill_archive(small.put(small.ocean(12), home / "in.zarr"), home / "out.zarr", small.METHOD)
    return home


@pytest.fixture
def filled(made, tmp_path, monkeypatch) -> tuple[Path, Path]:
    small.small_units(monkeypatch)
    shutil.copytree(made, tmp_path / "home")
    return tmp_path / "home/in.zarr", tmp_path / "home/out.zarr"


def put(out: Path, name: str, where: np.ndarray, value: float) -> None:
    array = zarr.open_array(out / name)
    values = array[...]
    t, y, x = np.argwhere(where)[0]
    values[t, y, x] = value
    array[...] = values


CASES = [
    ("sst_source", lambda s: s == 1, 9, "a flag that means nothing"),
    ("sst_source", lambda s: s == 1, 4, "flagged as missing has a value"),
    ("sst_source", lambda s: s == 4, 1, "flagged as observed or filled is missing"),
    ("sst_source", lambda s: s == 4, 0, "flagged as observed or filled is missing"),
    ("sst", lambda s: s == 1, np.nan, "flagged as observed or filled is missing"),
    ("sst", lambda s: s == 4, 3.0, "flagged as missing has a value"),
    ("sst_error", lambda s: s == 0, 0.5, "an error where nothing was filled"),
    ("sst", lambda s: s == 0, 11.0, "observed values differ"),
    ("sst_source", lambda s: s == 0, 1, "what is observed is not what the archive holds"),
]


@pytest.mark.parametrize(("name", "where", "value", "told"), CASES)
def test_one_wrong_pixel_is_found(filled, name, where, value, told):
    archive, out = filled
    put(out, name, where(zarr.open_array(out / "sst_source")[...]), value)
    found = verify(out, archive).wrong
    assert len(found) == 1 or told in " ".join(found)
    assert any(told in line for line in found), found
    assert found[0].startswith("sst, images ")


def test_a_missing_and_a_truncated_chunk_are_found(filled):
    archive, out = filled
    (out / "sst_error/c/1/0/0").unlink()
    (out / "sst/c/0/1/0").write_bytes(b"\0" * 3)
    found = verify(out, archive).wrong
    assert len(found) == 2
    assert "cannot read" in found[0]
    assert "rows 16-19" in found[0]
    assert "no chunk of sst_error" in found[1]
    assert "images 8-11, rows 0-15" in found[1]


def test_days_that_were_not_made_are_found(filled):
    archive, out = filled
    array = zarr.open_array(out / "sstfill_revision")
    array[3] = 0
    assert any("no revision" in line for line in verify(out, archive).wrong)


def test_a_night_that_is_half_in_place_is_found(filled):
    _, out = filled
    (out.with_name("out.zarr.job") / "commit").write_text("")
    assert any("cut short" in line for line in verify(out).wrong)


def test_an_archive_that_has_changed_since_is_told(filled):
    archive, out = filled
    small.write(small.revised(small.ocean(12), 2).where(np.arange(small.X) > 2), archive, 2)
    assert any("--update" in line for line in verify(out, archive).wrong)
    small.append(small.ocean(13).isel(time=[12]), archive)
    assert verify(out, archive).wrong


def test_what_is_no_filled_archive_is_refused(filled):
    archive, _ = filled
    with pytest.raises(errors.ReadError, match="is not beside it"):
        verify(archive)
    with pytest.raises(errors.ReadError, match="no such file"):
        verify(filled[1], archive.with_name("gone.zarr"))


def test_without_the_archive_it_says_so(filled):
    archive, out = filled
    shutil.rmtree(archive)
    job = out.with_name("out.zarr.job") / "job.json"
    assert verify(out).units == 4
    assert job.exists()


def test_the_archive_is_closed_whatever_is_found(filled, monkeypatch):
    archive, out = filled
    closed = []
    real = ArchiveSource.open

    def opened(self):
        ds = real(self)
        ds.set_close(lambda: closed.append(self.path))
        return ds

    monkeypatch.setattr(ArchiveSource, "open", opened)
    assert verify(out, archive).compared
    assert closed == [str(archive)]
    (out / "sst/c/0/1/0").unlink()
    assert verify(out, archive).wrong
    assert len(closed) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_in_the_place_of_a_chunk_is_not_waited_for(filled):
    archive, out = filled
    chunk = next(file for file in (out / "sst" / "c").rglob("*") if file.is_file())
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(errors.ReadError, match=r"named pipe|regular file|no file"):
        verify(out, archive)
