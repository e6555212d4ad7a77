# SPDX-License-Identifier: Apache-2.0
"""One lock for all who write an output: taken once, told, and gone with the end."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_series import series

from sstfill import io
from sstfill.archive import job
from sstfill.errors import WriteError
from sstfill.io.ledger import Ledger
from sstfill.io.output.lock import OutputLock, acquire, held_by
from sstfill.nightly.journal import locked


def test_a_fill_in_memory_and_an_archive_job_exclude_each_other(tmp_path):
    out = tmp_path / "out.zarr"
    with (
        io.claimed(out),
        pytest.raises(WriteError, match=f"being filled by process {os.getpid()} "),
        job.open_job(out),
    ):
        pass
    with job.open_job(out), pytest.raises(WriteError, match="being filled by"), io.claimed(out):
        pass
    with job.open_job(out), pytest.raises(WriteError, match="being filled by"):
        io.write(series(), out)
    assert not list(tmp_path.iterdir())
    assert not job.is_archive_output(out)
    io.write(series(), out)


def test_the_lock_goes_and_a_folder_of_the_user_s_stays(tmp_path):
    out, folder = tmp_path / "out.zarr", tmp_path / "out.zarr.job"
    folder.mkdir()
    with OutputLock(out) as lock:
        assert held_by(lock.path).startswith(f"process {os.getpid()}")
    assert folder.is_dir() and not list(folder.iterdir())
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(WriteError, match=r"holds notes.txt; move that"), job.open_job(out):
        pass
    io.write(series(), out)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["next", "model"])
def test_a_folder_that_looks_like_a_job_s_is_not_cleared(tmp_path, name):
    mine = tmp_path / "out.zarr.job" / name / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with (
        pytest.raises(WriteError, match="move that elsewhere"),
        job.open_job(tmp_path / "out.zarr"),
    ):
        pass
    assert mine.read_text() == "mine"


def test_a_file_that_is_not_a_lock_is_not_truncated(tmp_path):
    path = tmp_path / "lock"
    path.write_text("my notes")
    with pytest.raises(WriteError, match="not a lock of sstfill"):
        acquire(path, WriteError)
    assert path.read_text() == "my notes"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EIO])
@pytest.mark.parametrize(
    "holder", [lambda p: Ledger(p / "a.ledger"), lambda p: OutputLock(p / "a.zarr"), locked]
)
def test_no_descriptor_is_left_open_when_the_system_cannot_lock(
    tmp_path, monkeypatch, code, holder
):
    fcntl = pytest.importorskip("fcntl")

    def broken(*_):
        raise OSError(code, os.strerror(code))

    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open descriptors cannot be counted here")
    opened = len(list(descriptors.iterdir()))
    monkeypatch.setattr(fcntl, "flock", broken)
    for _ in range(5):
        with pytest.raises(OSError, match=os.strerror(code)), holder(tmp_path):
            pass
    assert len(list(descriptors.iterdir())) == opened


def test_the_lock_of_a_killed_process_is_free_and_leaves_nothing(tmp_path):
    script = "import sys, os\nfrom pathlib import Path\n"
    script += "from sstfill.io.output.lock import OutputLock\n"
    script += "OutputLock(Path(sys.argv[1])).__enter__()\nos._exit(9)"
    out = tmp_path / "out.zarr"
    subprocess.run([sys.executable, "-c", script, str(out)], check=False)
    assert (tmp_path / "out.zarr.job/lock").exists()
    io.write(series(), out)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]
