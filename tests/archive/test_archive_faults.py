# SPDX-License-Identifier: Apache-2.0
"""Faults: full disk, read-only target, damaged input, input that changes while it is read, wrong
names.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import small_archives as small
from forked import forked, talking

from sstfill import errors
from sstfill.archive import fill_archive, layout, model, run, store, unit, workers


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small.small_units(monkeypatch)


@pytest.fixture
def full_disk(tmp_path: Path):
    """A folder on a disk of 2 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_told_at_whatever_step_and_the_run_goes_on_when_there_is_room(
    archive, wanted, full_disk
):
    out, ballast, met = full_disk / "out.zarr", full_disk / "ballast", set()
    for free in (0, 8_000, 40_000, 80_000, 120_000, 160_000):
        room = os.statvfs(full_disk)
        ballast.write_bytes(b"\0" * max(0, room.f_bavail * room.f_frsize - free))
        try:
            fill_archive(archive, out, small.METHOD)
        except errors.WriteError as error:
            met.add(str(error).partition(":")[2])
            assert "\n" not in str(error)
            assert "No space left" in str(error)
        assert not out.exists() or small.difference(out, wanted) == ""
        ballast.unlink()
    assert met
    if not out.exists():
        fill_archive(archive, out, small.METHOD)
    assert small.difference(out, wanted) == ""
    small.sound(out, archive)


PLACES = [
    (unit, "write_unit"),
    (store, "lay_out"),
    (store, "adopt"),
    (layout.store, "finish"),
    (run, "take"),
    (run.Days, "save"),
    (model, "_fingerprint"),
    (run.FillJob, "begin"),
    (run.FillJob, "commit"),
]


@pytest.mark.parametrize(("module", "name"), PLACES, ids=lambda p: getattr(p, "__name__", p))
def test_a_write_that_fails_is_one_line_wherever_it_fails(tmp_path, monkeypatch, module, name):
    archive = small.put(small.ocean(days=5), tmp_path / "in.zarr")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out.zarr"
    with monkeypatch.context() as m, pytest.raises(errors.WriteError, match="No space left"):
        m.setattr(module, name, full)
        fill_archive(archive, out, small.METHOD)
    assert not out.exists()
    fill_archive(archive, out, small.METHOD)
    small.sound(out, archive)


def test_a_read_only_folder_is_one_line(archive, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(errors.WriteError, match="Read-only file system"):
            fill_archive(archive, disk / "out.zarr", small.METHOD)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_disk_that_turns_read_only_leaves_the_old_output(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        archive, out = (
            small.put(small.ocean().isel(time=slice(0, 10)), tmp_path / "in.zarr"),
            disk / "out.zarr",
        )
        fill_archive(archive, out, small.METHOD)
        before = small.loaded(out)
        small.append(small.ocean().isel(time=[10]), archive)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(errors.WriteError, match="Read-only file system"):
            fill_archive(archive, out, update=True)
        assert small.loaded(out).identical(before)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert fill_archive(archive, out, update=True).new == 1
        small.sound(out, archive)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def fill_within_a_limit(archive: Path, out: Path) -> None:
    """Fill where files may not grow: a quota, as it were, with its signal ignored."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
    with pytest.MonkeyPatch.context() as patched:
        small.small_units(patched)
        with pytest.raises(errors.WriteError, match="File too large") as told:
            fill_archive(archive, out, small.METHOD)
    assert "\n" not in str(told.value)


def test_a_file_that_may_not_grow_is_told(archive, tmp_path, quick_workers):
    assert forked(fill_within_a_limit, archive, tmp_path / "out.zarr") == 0
    assert not (tmp_path / "out.zarr").exists()
    fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    small.sound(tmp_path / "out.zarr", archive)


def test_a_truncated_chunk_is_told_by_the_first_look(archive, tmp_path):
    chunk = archive / "sst/c/9/0/0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.ReadError, match=r"in.zarr: .*damaged or cut short"):
        fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    chunk.write_bytes(whole)
    fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    small.sound(tmp_path / "out.zarr", archive)


def after_units(monkeypatch, count: int, act) -> list[int]:
    """Do something when so many units are done; returns the numbers of the units that are."""
    real, done = run.take, []

    def take(task, staged):
        real(task, staged)
        done.append(task.number)
        if len(done) == count:
            act()

    monkeypatch.setattr(run, "take", take)
    return done


def test_a_chunk_that_is_cut_under_a_run_is_told_and_what_was_done_is_kept(
    archive, wanted, tmp_path, monkeypatch
):
    chunk, out = archive / "sst/c/18/0/0", tmp_path / "out.zarr"
    whole = chunk.read_bytes()
    with monkeypatch.context() as m:
        done = after_units(m, 2, lambda: chunk.write_bytes(whole[:40]))
        with pytest.raises(errors.ReadError, match=r"in.zarr: .*damaged or cut short"):
            fill_archive(archive, out, small.METHOD)
    assert not out.exists()
    kept = len(done)
    assert kept >= 2
    with pytest.raises(errors.ReadError):
        fill_archive(archive, out, small.METHOD)
    chunk.write_bytes(whole)
    with monkeypatch.context() as m:
        done = after_units(m, 0, None)
        fill_archive(archive, out, small.METHOD)
    assert small.UNITS - kept <= len(done) <= small.UNITS - 2
    assert small.difference(out, wanted) == ""


@pytest.mark.parametrize("change", ["revised", "late", "revised twice"])
def test_an_input_that_changes_while_it_is_read(tmp_path, monkeypatch, change):
    ocean = small.ocean(22)
    first = ocean.isel(time=[t for t in range(20) if change != "late" or t != 7])
    archive, out = small.put(first, tmp_path / "in.zarr"), tmp_path / "out.zarr"

    def act():
        if "revised" in change:
            small.write(small.revised(ocean, 1), archive, 1)
        else:
            small.put(ocean.isel(time=slice(0, 20)), archive)

    with monkeypatch.context() as m:
        done = after_units(m, 4, act)
        if change == "revised twice":
            real = run._FillRun._archive_changed

            def changed(self):
                if len(done) == small.UNITS:
                    small.write(small.revised(ocean, 2), archive, 2)
                return real(self)

            m.setattr(run._FillRun, "_archive_changed", changed)
        fill_archive(archive, out, small.METHOD)
    assert len(done) > small.UNITS
    small.sound(out, archive)
    fill_archive(archive, tmp_path / "scratch.zarr", like=out)
    assert small.difference(out, tmp_path / "scratch.zarr") == ""


def test_days_that_come_while_a_run_is_under_way_wait_for_the_next(tmp_path, monkeypatch):
    ocean = small.ocean(22)
    archive, out = (
        small.put(ocean.isel(time=slice(0, 20)), tmp_path / "in.zarr"),
        tmp_path / "out.zarr",
    )
    with monkeypatch.context() as m:
        after_units(m, 3, lambda: small.append(ocean.isel(time=[20, 21]), archive))
        fill_archive(archive, out, small.METHOD)
    assert small.loaded(out).sizes["time"] == 20
    assert fill_archive(archive, out, update=True).new == 2
    small.sound(out, archive)


def test_an_input_that_changes_and_changes_back_leaves_nothing_behind(
    archive, wanted, tmp_path, monkeypatch
):
    """Units that were filled in between are filled again though the archive is what it was."""
    ocean, real, count = small.ocean(), run.take, [0]

    def take(task, staged):
        real(task, staged)
        count[0] += 1
        if count[0] in (1, 5):
            small.write(small.revised(ocean, 6) if count[0] == 1 else ocean, archive, 6)

    with monkeypatch.context() as m:
        m.setattr(run, "take", take)
        fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    assert small.difference(tmp_path / "out.zarr", wanted) == ""


def test_an_input_that_changes_all_the_time_is_given_up_and_what_was_done_is_kept(
    archive, tmp_path, monkeypatch
):
    with monkeypatch.context() as m:
        m.setattr(run._FillRun, "_archive_changed", lambda self: True)
        with pytest.raises(errors.InputError, match="changes all the time"):
            fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
        done = after_units(m, 0, None)
    assert not (tmp_path / "out.zarr").exists()
    fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    assert done == []
    small.sound(tmp_path / "out.zarr", archive)


def test_who_still_writes_for_a_run_that_was_cut_short_spoils_nothing(tmp_path, monkeypatch):
    ocean = small.ocean()
    archive, out, sent = small.put(ocean, tmp_path / "in.zarr"), tmp_path / "out.zarr", []
    real = unit.fill_unit
    with monkeypatch.context() as m, pytest.raises(RuntimeError):
        m.setattr(
            workers,
            "fill_unit",
            lambda task: sent.append(task) or (real(task) if len(sent) < 3 else _cut()),
        )
        fill_archive(archive, out, small.METHOD)
    late = real.__globals__["filled"](
        unit.Model.load(sent[0].model),
        unit._window(
            unit.opened(sent[0].source, "sst", "x"),
            unit.Model.load(sent[0].model),
            unit.Days.load(sent[0].days).sample,
            sent[0],
            "threads",
        ),
    )
    small.write(small.revised(ocean, 2), archive, 2)

    def write_late():
        with pytest.raises(OSError):
            unit.write_unit(sent[0].draft, "sst", sent[0].patch, late)

    after_units(monkeypatch, small.UNITS - 2, write_late)
    fill_archive(archive, out, small.METHOD)
    small.sound(out, archive)
    fill_archive(archive, tmp_path / "scratch.zarr", like=out)
    assert small.difference(out, tmp_path / "scratch.zarr") == ""


def _cut():
    raise RuntimeError("the run is cut short here")


def test_what_cannot_be_an_output_is_refused(archive, tmp_path):
    with pytest.raises(errors.WriteError, match="it is the input itself"):
        fill_archive(archive, archive, small.METHOD)
    (tmp_path / "link.zarr").symlink_to(archive)
    with pytest.raises(errors.WriteError, match="it is the input itself"):
        fill_archive(archive, tmp_path / "link.zarr", small.METHOD)
    for name in ("out.nc", "out"):
        with pytest.raises(errors.OptionError, match=r"does not end with .zarr"):
            fill_archive(archive, tmp_path / name, small.METHOD)
    shutil.copytree(archive, tmp_path / "other.zarr")
    with pytest.raises(errors.WriteError, match="it was not filled as an archive"):
        fill_archive(archive, tmp_path / "other.zarr", small.METHOD)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr", "link.zarr", "other.zarr"]


def fill_and_tell(archive: Path, out: Path, line: Connection) -> None:
    """Fill an archive; tell of each unit that is done, and wait for leave to go on."""
    real = run.take

    def take(task, staged):
        real(task, staged)
        line.send("unit")
        line.recv()

    with pytest.MonkeyPatch.context() as patched:
        small.small_units(patched)
        patched.setattr(run, "take", take)
        fill_archive(archive, out, small.METHOD)


def test_a_process_that_is_killed_again_and_again_ends_with_the_same(
    archive, wanted, tmp_path, quick_workers
):
    for units in (1, 2):
        with talking(fill_and_tell, archive, tmp_path / "out.zarr") as (process, line):
            for done in range(units):
                assert line.recv() == "unit"
                if done + 1 < units:
                    line.send("go on")
            process.kill()
        assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "out.zarr").exists()
    fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    assert small.difference(tmp_path / "out.zarr", wanted) == ""
    small.sound(tmp_path / "out.zarr", archive)
