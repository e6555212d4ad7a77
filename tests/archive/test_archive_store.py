# SPDX-License-Identifier: Apache-2.0
"""Putting a night's work in place: killed at any step the next run ends it, and a reader sees old
or new days.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import small_archives as small
import xarray as xr

import sstfill
from sstfill import errors
from sstfill.archive import fill_archive, job, store, swap


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


STEPS = [
    (os, "replace"),
    (os, "link"),
    (os, "unlink"),
    (os, "rmdir"),
    (os, "mkdir"),
    (store.swap, "exchange"),
]
"""Every call by which the commit changes what is on the disk."""

MOMENTS = 8
"""How many of them a commit is killed at."""


class Countdown:
    """Lets so many steps happen, then kills; asks `look` before each of them."""

    def __init__(self, monkeypatch, steps: int, look=lambda: None) -> None:
        self.count, self.steps, self.look = 0, steps, look
        for module, name in STEPS:
            self._wrap(monkeypatch, module, name)

    def _wrap(self, monkeypatch, module, name) -> None:
        real = getattr(module, name)

        def step(*args, **kwargs):
            if self.count == self.steps:
                raise Killed
            self.count += 1
            self.look()
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, step)


@pytest.fixture(scope="module")
def _begun(tmp_path_factory, _first_fills):
    """Begins a night of each kind once, up to where it is to be put in place."""

    @cache
    def begun(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        with pytest.MonkeyPatch.context() as m:
            small.small_units(m)
            _begin(kind, folder, _first_fills(10))
        return folder

    return begun


def _begin(kind: str, folder: Path, first: Path) -> None:
    ocean, home = small.ocean(), folder / "before"
    small.moved(first, home)
    archive, out = (home / "in.zarr").rename(folder / "in.zarr"), home / "out.zarr"
    if kind == "late":
        times = np.delete(ocean.time.values[:11], 6)
        small.put(ocean.sel(time=times), archive)
        fill_archive(archive, out, small.METHOD, refit=True)
        small.put(ocean.isel(time=slice(0, 11)), archive)
    else:
        small.put(small.revised(ocean, 8).isel(time=slice(0, 13)), archive)
    with pytest.MonkeyPatch.context() as m, pytest.raises(Killed):
        m.setattr(job, "publish", _kill)
        how = {"method": small.METHOD, "refit": True} if kind == "refit" else {"update": True}
        fill_archive(archive, out, **how)
    how = {"method": small.METHOD} if kind == "refit" else {"like": out}
    fill_archive(archive, folder / "wanted.zarr", **how)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch, _begun):
    """Gives a night that is to be put in place: the folder of its output, the archive, what is
    wanted.
    """
    small.small_units(monkeypatch)

    def begin(kind: str) -> tuple[Path, Path, Path]:
        shutil.copytree(_begun(kind), tmp_path, dirs_exist_ok=True)
        return tmp_path / "before", tmp_path / "in.zarr", tmp_path / "wanted.zarr"

    return begin


def _kill(*_, **__):
    raise Killed


def seen(out: Path) -> list[xr.Dataset]:
    found = []
    for open_store in (lambda p: xr.open_zarr(p), lambda p: sstfill.io.open(p)):
        with open_store(out) as held:
            found.append(held.load())
    return found


def check_reader(out: Path, old: xr.Dataset, new: xr.Dataset) -> None:
    """A store as a reader finds it: whole, with the days of before or after, each unit of before or
    after.
    """
    for held in seen(out):
        whole = next((w for w in (old, new) if w.sizes["time"] == held.sizes["time"]), None)
        assert whole is not None, held.sizes
        assert np.array_equal(held.time, whole.time)
        assert (held.sstfill_revision > 0).all()
        n = held.sizes["time"]
        for name in ("sst", "sst_error", "sst_source"):
            for t, y in itertools.product(
                range(0, n, small.CORE[0]), range(0, small.Y, small.CORE[1])
            ):
                at = (slice(t, min(t + small.CORE[0], n)), slice(y, y + small.CORE[1]))
                block, choices = held[name].values[at], [w[name].values[at] for w in (old, new)]
                assert any(np.array_equal(block, c, equal_nan=True) for c in choices), (name, t, y)


def unlinked(*_):
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("how", ["exchanged", "moved"])
@pytest.mark.parametrize("kind", ["update", "late", "refit"])
def test_killed_at_any_step_of_the_commit(prepared, tmp_path, monkeypatch, kind, how):
    home, archive, wanted = prepared(kind)
    if how == "moved":
        monkeypatch.setattr(swap, "exchange", unlinked)
    old, new = small.loaded(home / "out.zarr"), small.loaded(wanted)
    moments = _moments(home, tmp_path, monkeypatch)
    # Either way of exchanging two folders is killed at every other moment, and both at the last.
    for steps in {*moments[how == "moved" :: 2], moments[-1]}:
        work = tmp_path / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(home, work)
        out = work / "out.zarr"
        with monkeypatch.context() as m:
            Countdown(m, steps)
            with pytest.raises(Killed), job.open_job(out):
                pass
        if how == "exchanged" or (kind != "refit" and kind != "late"):
            check_reader(out, old, new)
        with job.open_job(out):
            pass
        assert small.difference(out, wanted, revision=False) == ""
        assert {p.name for p in job.FillJob(out).folder.iterdir()} == {"job.json", "model", "days"}
    small.sound(out, archive)


def _moments(home: Path, tmp_path: Path, monkeypatch) -> list[int]:
    """Some of the steps of a commit, its last among them."""
    shutil.copytree(home, tmp_path / "counted")
    with monkeypatch.context() as m:
        counted = Countdown(m, -1)
        with job.open_job(tmp_path / "counted/out.zarr"):
            pass
    return np.unique(np.linspace(0, counted.count - 1, MOMENTS).astype(int)).tolist()


@pytest.mark.parametrize("kind", ["update", "refit"])
def test_the_same_command_ends_a_run_that_was_cut_short_at_the_very_last(prepared, kind):
    home, archive, wanted = prepared(kind)
    how = {"method": small.METHOD, "refit": True} if kind == "refit" else {"update": True}
    assert fill_archive(archive, home / "out.zarr", **how).made == 0
    assert small.difference(home / "out.zarr", wanted, revision=False) == ""
    small.sound(home / "out.zarr", archive)


def test_another_command_is_not_taken_for_the_one_that_was_cut_short(prepared):
    home, archive, _ = prepared("refit")
    with pytest.raises(errors.OptionError, match="is filled already"):
        fill_archive(archive, home / "out.zarr", "climatology")
    assert fill_archive(archive, home / "out.zarr", "climatology", refit=True).made > 0


def test_a_reader_sees_one_night_or_the_other_and_nothing_between(prepared, monkeypatch):
    home, _, wanted = prepared("late")
    out = home / "out.zarr"
    old, new = small.loaded(out), small.loaded(wanted)
    states, calls = [], itertools.count()

    def look():
        if next(calls) % 8:
            return
        for held in seen(out):
            names = ("time", "sst", "sst_source")
            now = [
                all(np.array_equal(held[n], w[n], equal_nan=n == "sst") for n in names)
                for w in (old, new)
            ]
            assert any(now)
            states.append(now.index(True))

    Countdown(monkeypatch, -1, look)
    with job.open_job(out):
        pass
    assert states == sorted(states)
    assert states[0] == 0
    assert states[-1] == 1


def test_a_reader_of_a_first_fill_sees_nothing_or_all(tmp_path, monkeypatch):
    small.small_units(monkeypatch)
    archive, out = small.put(small.ocean(8), tmp_path / "in.zarr"), tmp_path / "out.zarr"
    states = []

    def look():
        states.append(out.exists())
        if out.exists():
            assert (small.loaded(out).sstfill_revision == 1).all()

    with monkeypatch.context() as m:
        Countdown(m, -1, look)
        fill_archive(archive, out, small.METHOD)
    assert states == sorted(states)
    assert states[-1]
    small.sound(out, archive)


def test_without_links_chunks_are_moved_and_that_is_said(prepared, monkeypatch, caplog):
    home, archive, wanted = prepared("update")
    monkeypatch.setattr(os, "link", unlinked)
    with caplog.at_level(logging.INFO), job.open_job(home / "out.zarr"):
        pass
    assert "not exchanged in one step" in caplog.text
    assert small.difference(home / "out.zarr", wanted, revision=False) == ""
    small.sound(home / "out.zarr", archive)


def test_what_others_put_into_a_filled_store_is_kept(tmp_path, monkeypatch):
    small.small_units(monkeypatch)
    archive, out = (
        small.put(small.ocean().isel(time=slice(0, 10)), tmp_path / "in.zarr"),
        tmp_path / "out.zarr",
    )
    fill_archive(archive, out, small.METHOD)
    (out / "README").write_text("mine")
    small.append(small.ocean().isel(time=slice(10, 11)), archive)
    fill_archive(archive, out, update=True)
    assert (out / "README").read_text() == "mine"
    small.sound(out, archive)


def test_two_folders_are_exchanged(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    swap.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/file").read_text() == "b"
    with pytest.raises(FileNotFoundError):
        swap.exchange(tmp_path / "a", tmp_path / "c")


def test_empty_chunks_are_written(tmp_path):
    field = xr.DataArray(np.zeros((4, 4, 4), "f4"), dims=("time", "y", "x"), name="sst")
    store.lay_out(tmp_path / "s.zarr", {"sst": field}, (4, 4, 4), {}, xr.Dataset())
    patch = sstfill.fields.patches.Patch((slice(0, 4),) * 3, (slice(0, 4),) * 3)
    empty = np.full((4, 4, 4), np.nan, "f4")
    store.write_unit(
        tmp_path / "s.zarr",
        "sst",
        patch,
        {"": empty, "_error": empty, "_source": np.full((4, 4, 4), 2, "i1")},
    )
    assert all(
        store.chunk_file(tmp_path / "s.zarr", f"sst{p}", patch, (4, 4, 4)).is_file()
        for p in store.PARTS
    )
