# SPDX-License-Identifier: Apache-2.0
"""The lock of an output, and what is kept beside it."""

from __future__ import annotations

import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import small_archives as small
from forked import talking

from sstfill import errors
from sstfill.archive import fill_archive, job, run
from sstfill.cli import main


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small.small_units(monkeypatch)


def hold(out: Path, line: Connection) -> None:
    """Hold the lock of a job until the other end of the line is closed."""
    with job.open_job(out):
        line.send("held")
        with pytest.raises(EOFError):
            line.recv()


def test_a_second_job_gets_one_line_and_the_first_is_unharmed(tmp_path, quick_workers):
    archive, out = small.put(small.ocean(4), tmp_path / "in.zarr"), tmp_path / "out.zarr"
    with talking(hold, out) as (first, line):
        assert line.recv() == "held"
        with pytest.raises(
            errors.WriteError, match=rf"being filled by process {first.pid} on .* wait for it"
        ):
            fill_archive(archive, out, small.METHOD)
        assert (tmp_path / "out.zarr.job/lock").exists()
        with pytest.raises(errors.WriteError, match="being filled"):
            fill_archive(archive, out, small.METHOD)
    assert first.exitcode == 0
    assert not (tmp_path / "out.zarr.job").exists()
    fill_archive(archive, out, small.METHOD)
    small.sound(out, archive)


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path, quick_workers):
    archive, out = small.put(small.ocean(4), tmp_path / "in.zarr"), tmp_path / "out.zarr"
    with talking(hold, out) as (first, line):
        assert line.recv() == "held"
        first.kill()
    assert first.exitcode == -signal.SIGKILL
    assert (tmp_path / "out.zarr.job/lock").read_text().startswith(f"process {first.pid}")
    fill_archive(archive, out, small.METHOD)
    small.sound(out, archive)


def test_two_jobs_that_start_at_once(tmp_path, monkeypatch):
    archive, out = small.put(small.ocean(4), tmp_path / "in.zarr"), tmp_path / "out.zarr"
    first_is_in, second_is_done, found = threading.Event(), threading.Event(), []
    real = run._FillRun.run

    def slow(self, fill):
        first_is_in.set()
        assert second_is_done.wait(60)
        return real(self, fill)

    monkeypatch.setattr(run._FillRun, "run", slow)
    thread = threading.Thread(target=lambda: found.append(fill_archive(archive, out, small.METHOD)))
    thread.start()
    assert first_is_in.wait(60)
    with pytest.raises(errors.WriteError, match="being filled"):
        fill_archive(archive, out, small.METHOD)
    second_is_done.set()
    thread.join()
    assert found[0].made == found[0].units
    small.sound(out, archive)


def test_a_lock_whose_file_was_removed_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    real, opened = job.os.open, []

    def replaced(path, flags, mode=0o777, **where):
        descriptor = real(path, flags, mode, **where)
        if str(path).endswith("job/lock"):
            opened.append(path)
            if (
                len(opened) == 1
            ):  # its holder ends between the opening and the locking, and takes its folder away
                job.shutil.rmtree(tmp_path / "out.zarr.job")
        return descriptor

    monkeypatch.setattr(job.os, "open", replaced)
    with job.open_job(tmp_path / "out.zarr") as held:
        assert (held.folder / "lock").exists()
        assert len(opened) == 2


def test_nothing_is_left_of_a_job_that_did_not_begin(tmp_path):
    with job.open_job(tmp_path / "out.zarr"):
        pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(errors.WriteError, match="mkdir -p"):
        fill_archive(tmp_path / "in.zarr", tmp_path / "no" / "out.zarr")
    with pytest.raises(errors.ReadError, match="no such file"):
        fill_archive(tmp_path / "in.zarr", tmp_path / "out.zarr")
    assert not list(tmp_path.iterdir())


def test_an_interrupt_while_work_is_put_in_place_frees_the_lock(tmp_path, monkeypatch):
    for part in ("model", "days"):
        (tmp_path / "out.zarr.job" / part).mkdir(parents=True)
    (tmp_path / "out.zarr.job/commit").write_text("")

    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(job.FillJob, "_put_in_place", interrupted)
        with job.open_job(tmp_path / "out.zarr"):
            pass
    with job.open_job(tmp_path / "out.zarr"):
        pass


def test_an_output_that_is_a_link_is_followed(tmp_path):
    archive = small.put(small.ocean(4), tmp_path / "in.zarr")
    (tmp_path / "disk").mkdir()
    out = tmp_path / "out.zarr"
    out.symlink_to(tmp_path / "disk/real.zarr")
    fill_archive(archive, out, small.METHOD)
    small.append(small.ocean(5).isel(time=[4]), archive)
    fill_archive(archive, out, update=True)
    assert out.is_symlink()
    assert (tmp_path / "disk/real.zarr.job").is_dir()
    small.sound(tmp_path / "disk/real.zarr", archive)


@pytest.mark.parametrize("given", ["out.zarr", "out.zarr/", "link.zarr", "./link.zarr/"])
def test_an_archive_is_known_however_its_path_is_written(tmp_path, monkeypatch, given):
    """Else a fill in memory would take its place."""
    monkeypatch.chdir(tmp_path)
    archive = small.put(small.ocean(4), tmp_path / "in.zarr")
    fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    (tmp_path / "link.zarr").symlink_to("out.zarr")
    assert job.is_archive_output(given)
    assert main(["fill", "in.zarr", "--out", given, "--method", "interpolate"]) == 2
    small.sound(tmp_path / "out.zarr", archive)


@pytest.mark.parametrize("spoilt", [b"", b"PK\x03\x04half", None])
def test_days_that_cannot_be_read_are_told(tmp_path, spoilt):
    path = tmp_path / "out.zarr.job/days/sst.npz"
    path.parent.mkdir(parents=True)
    if spoilt is not None:
        path.write_bytes(spoilt)
    with pytest.raises(errors.ReadError, match="fill anew"):
        job.Days.load(path)


def test_days_are_kept(tmp_path):
    days = job.Days(
        np.arange(3),
        np.arange(3, dtype="u8"),
        np.arange(3),
        np.ones(3, "i4"),
        np.ones((3, 2), "f4"),
        {"a": [1]},
    )
    days.save(tmp_path / "days/sst.npz")
    again = job.Days.load(tmp_path / "days/sst.npz")
    assert all(np.array_equal(v, vars(again)[k]) for k, v in vars(days).items())


def test_a_folder_that_is_damaged_is_told(tmp_path):
    archive, out = small.put(small.ocean(4), tmp_path / "in.zarr"), tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD)
    (tmp_path / "out.zarr.job/job.json").write_text("{")
    with pytest.raises(errors.ReadError, match=r"job.json: .*fill anew"):
        fill_archive(archive, out, update=True)


def test_a_job_that_says_anew_is_read_as_a_refit(tmp_path):
    archive, out = small.put(small.ocean(4), tmp_path / "in.zarr"), tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD)
    path = tmp_path / "out.zarr.job" / "job.json"
    path.write_text(path.read_text().replace('"mode": "first"', '"mode": "anew"'))
    assert job.FillJob(out).finished["mode"] == "refit"
    assert fill_archive(archive, out, update=True).made == 0
