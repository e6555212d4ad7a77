# SPDX-License-Identifier: Apache-2.0
"""Units filled by a real `dask.distributed` cluster: threads, processes, deaths, what the scheduler
is given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_archives as small
from distributed import Client, LocalCluster

from sstfill import errors
from sstfill.archive import fill_archive, run, unit, workers

pytestmark = pytest.mark.usefixtures("quick_workers")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small.small_units(monkeypatch)


@pytest.fixture
def made(wanted) -> Path:
    """The folder of an archive, and of what this process makes of it."""
    return wanted.parent


@contextlib.contextmanager
def cluster(**how) -> Iterator[LocalCluster]:
    """A cluster that tells of no death of a worker."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with LocalCluster(dashboard_address=":0", silence_logs=logging.CRITICAL, **how) as found:
        yield found


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalCluster]:
    with cluster(n_workers=2, threads_per_worker=1, memory_limit=0) as found:
        yield found


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_any_cluster_makes_the_same(made, tmp_path, kind, request):
    if kind == "threads":
        with cluster(n_workers=1, threads_per_worker=3, processes=False) as found:
            fill_archive(
                made / "in.zarr",
                tmp_path / "out.zarr",
                small.METHOD,
                scheduler=found.scheduler_address,
            )
    else:
        found = request.getfixturevalue("processes")
        fill_archive(
            made / "in.zarr", tmp_path / "out.zarr", small.METHOD, scheduler=found.scheduler_address
        )
    assert small.difference(tmp_path / "out.zarr", made / "out.zarr") == ""
    small.sound(tmp_path / "out.zarr", made / "in.zarr")


@pytest.mark.slow
def test_own_workers_make_the_same(made, tmp_path):
    done = fill_archive(made / "in.zarr", tmp_path / "out.zarr", small.METHOD, workers=2)
    assert done.made == small.UNITS
    assert small.difference(tmp_path / "out.zarr", made / "out.zarr") == ""


def pids(client: Client) -> list[int]:
    return list(client.run(os.getpid).values())


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_changes_nothing(
    made, tmp_path, processes, monkeypatch
):
    real, count = run.take, [0]
    with Client(processes, set_as_default=False) as client:

        def take(task, staged):
            real(task, staged)
            count[0] += 1
            if count[0] in (2, 5):
                os.kill(pids(client)[0], signal.SIGKILL)

        monkeypatch.setattr(run, "take", take)
        fill_archive(
            made / "in.zarr",
            tmp_path / "out.zarr",
            small.METHOD,
            scheduler=processes.scheduler_address,
        )
    assert count[0] == small.UNITS
    assert small.difference(tmp_path / "out.zarr", made / "out.zarr") == ""
    small.sound(tmp_path / "out.zarr", made / "in.zarr")


def _deadly(task, threads=0):
    if task.number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return unit.fill_unit(task, threads)


@pytest.mark.slow
def test_a_unit_that_ends_each_worker_is_one_line_and_the_others_are_kept(
    made, tmp_path, processes, monkeypatch
):
    out, where = tmp_path / "out.zarr", processes.scheduler_address
    told = r"workers ended 4 times with unit \d of sst, .*run the same command again"
    with monkeypatch.context() as m:
        m.setattr(workers, "fill_unit", _deadly)
        with pytest.raises(errors.InputError, match=told):
            fill_archive(made / "in.zarr", out, small.METHOD, scheduler=where)
    assert not out.exists()
    asked, real = [], run.take
    monkeypatch.setattr(
        run, "take", lambda task, staged: (asked.append(task.number), real(task, staged))
    )
    fill_archive(made / "in.zarr", out, small.METHOD, scheduler=where)
    assert 4 in asked
    assert len(asked) < small.UNITS
    assert small.difference(out, made / "out.zarr") == ""


def _greedy(task, threads=0):
    """Takes more memory than a worker may have, at the first try of unit 3."""
    mark = Path(task.draft).with_name(f"tried-{task.number}")
    if task.number == 3 and not mark.exists():
        mark.touch()
        held = bytearray(10**9)
        held[::4096] = b"1" * len(held[::4096])
        time.sleep(20)
    return unit.fill_unit(task, threads)


@pytest.mark.slow
def test_a_worker_out_of_memory_is_started_again(made, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "fill_unit", _greedy)
    with cluster(n_workers=1, threads_per_worker=1, memory_limit="700MB") as found:
        fill_archive(
            made / "in.zarr", tmp_path / "out.zarr", small.METHOD, scheduler=found.scheduler_address
        )
    assert small.difference(tmp_path / "out.zarr", made / "out.zarr") == ""
    small.sound(tmp_path / "out.zarr", made / "in.zarr")


def test_an_error_of_a_unit_is_told_and_the_others_are_kept(made, tmp_path, processes, monkeypatch):
    archive, out = tmp_path / "in.zarr", tmp_path / "out.zarr"
    small.put(small.ocean(), archive)
    chunk = archive / "sst/c/18/0/0"
    whole, real = chunk.read_bytes(), run._FillRun._plan
    with monkeypatch.context() as m:
        m.setattr(
            run._FillRun,
            "_plan",
            lambda self, ledger: (real(self, ledger), chunk.write_bytes(whole[:30]))[0],
        )
        with pytest.raises(errors.ReadError, match=r"in.zarr: .*damaged or cut short"):
            fill_archive(archive, out, small.METHOD, scheduler=processes.scheduler_address)
    chunk.write_bytes(whole)
    done = fill_archive(archive, out, small.METHOD, scheduler=processes.scheduler_address)
    assert done.made == small.UNITS
    assert small.difference(out, made / "out.zarr") == ""


def _fake(task, threads=0):
    return unit.Done(number=task.number, observed=1, filled=0, not_filled=0, seconds=0.0, memory=0)


MANY = 300
"""Units, of which a scheduler with two threads may hold 14."""


def test_the_scheduler_is_given_a_few_of_many_units_at_a_time(made, monkeypatch):
    monkeypatch.setattr(workers, "fill_unit", _fake)
    task = unit.Task(
        number=0,
        name="sst",
        patch=None,
        slabs=None,
        source=None,
        days=made,
        model=made,
        draft=made,
        run_id="x",
    )
    with (
        cluster(n_workers=1, threads_per_worker=2, processes=False) as found,
        Client(found, set_as_default=False) as client,
    ):
        most, done = 0, []
        for one in workers.Cluster(client)(
            dataclasses.replace(task, number=n) for n in range(MANY)
        ):
            done.append(one.number)
            most = max(most, len(found.scheduler.tasks))
        left = len(found.scheduler.tasks)
    assert sorted(done) == list(range(MANY))
    assert (
        most <= 2 * (1 + workers.AHEAD) + 8
    )  # and those of which it has yet to hear that they are done with
    assert left <= 8


def test_what_is_sent_of_a_unit_is_small(made):
    import pickle

    import dask.array as da

    from sstfill.archive.slabs import SlabGrid
    from sstfill.archive.source import ArchiveSource
    from sstfill.fields.patches import PatchGrid

    shape, core, halo = (20, 300, 300), (16, 256, 256), (30, 32, 32)
    patch = next(PatchGrid(core=core, halo=halo).patches(shape))
    task = unit.Task(
        number=0,
        name="sst",
        patch=patch,
        slabs=SlabGrid.choose(da.zeros(shape, chunks=(1, 100, 100)), core, halo, 10**6),
        source=ArchiveSource(path="/a"),
        days=made,
        model=made,
        draft=made,
        run_id="x",
    )
    assert len(pickle.dumps(task)) < 2000


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "xyz://127.0.0.1:8786"])
def test_a_wrong_address_is_one_line_soon(address):
    started = time.perf_counter()
    with (
        pytest.raises(errors.ReadError, match=f"no cluster answers at {address}"),
        workers.staff(0, address, None, timeout=0.5),
    ):
        pass
    assert time.perf_counter() - started < 25


def test_a_wrong_address_leaves_nothing(made, tmp_path):
    with pytest.raises(errors.ReadError, match="no cluster answers at xyz"):
        fill_archive(made / "in.zarr", tmp_path / "out.zarr", small.METHOD, scheduler="xyz://a:1")
    assert not (tmp_path / "out.zarr.job").exists()


def test_a_cluster_without_workers_is_refused(made, tmp_path):
    with cluster(n_workers=0) as found, pytest.raises(errors.InputError, match="has no workers"):
        fill_archive(
            made / "in.zarr", tmp_path / "out.zarr", small.METHOD, scheduler=found.scheduler_address
        )


def test_workers_that_do_not_start_are_one_line(made, tmp_path, monkeypatch):
    def failing(**_):
        raise RuntimeError("Nanny failed to start.") from RuntimeError("no memory")

    monkeypatch.setattr("distributed.LocalCluster", failing)
    with pytest.raises(
        errors.WriteError, match="2 workers did not start: no memory; run the same command again"
    ):
        fill_archive(made / "in.zarr", tmp_path / "out.zarr", small.METHOD, workers=2)


def test_workers_of_another_version_are_refused(made, tmp_path, processes, monkeypatch):
    monkeypatch.setattr(workers, "__version__", "99.0")
    with pytest.raises(errors.InputError, match=r"has sstfill .*, here is 99.0"):
        fill_archive(
            made / "in.zarr",
            tmp_path / "out.zarr",
            small.METHOD,
            scheduler=processes.scheduler_address,
        )


def test_own_workers_and_a_cluster_at_once_are_refused(made, tmp_path):
    with pytest.raises(errors.OptionError, match="give one of them"):
        fill_archive(
            made / "in.zarr", tmp_path / "out.zarr", small.METHOD, workers=2, scheduler="tcp://a:1"
        )
