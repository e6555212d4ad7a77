# SPDX-License-Identifier: Apache-2.0
"""Full disks, interrupts in the midst of a write, and what a format cannot hold."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray as xr
from forked import forked
from hypothesis import given, settings
from hypothesis import strategies as st
from small_series import series

from sstfill import io
from sstfill.cli import main
from sstfill.errors import WriteError
from sstfill.io.attributes import check_storable, storable
from sstfill.io.output.drain import drained


def large(lazy: bool) -> xr.Dataset:
    """Some 5 MB of noise in chunks of 100 kB."""
    values = np.random.default_rng(1).normal(size=(24, 160, 160)).astype("f4")
    ds = xr.Dataset({name: (("time", "lat", "lon"), values) for name in ("a", "b")})
    return ds.chunk(time=1) if lazy else ds


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB, where the system lets us mount one."""
    at = tmp_path / "disk"
    at.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(at)], check=False, stderr=-1
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield at
    subprocess.run(["umount", "-l", str(at)], check=True)


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_a_full_disk_leaves_nothing(small_disk, suffix, lazy):
    out = small_disk / f"a{suffix}"
    io.write(series(), out)
    for _ in range(3):
        with pytest.raises(WriteError, match="cannot write"):
            io.write(large(lazy), out)
        assert [p.name for p in small_disk.iterdir()] == [out.name]
    with io.open(out) as back:
        assert back.sizes["time"] == 3


def write_within_a_limit(out: Path, said: Connection) -> None:
    """Write a file larger than the system allows; tell what the error says."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ds = large(True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        io.write(ds, out)
    except WriteError as error:
        said.send(str(error))


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_a_limit_on_the_size_of_files_leaves_nothing(tmp_path, quick_workers, suffix):
    heard, said = multiprocessing.get_context("forkserver").Pipe(duplex=False)
    assert forked(write_within_a_limit, tmp_path / f"a{suffix}", said) == 0
    assert heard.poll()
    told = heard.recv()
    assert told.startswith("cannot write") and "\n" not in told
    assert not list(tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 50_000


class Stopped(KeyboardInterrupt):
    """As the command line turns SIGTERM into."""


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
@pytest.mark.parametrize("after", [0.02, 0.1])
def test_an_interrupt_leaves_nothing(tmp_path, suffix, lazy, after):
    def stop(*_):
        raise Stopped

    ds, out = large(lazy), tmp_path / f"a{suffix}"
    before = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(after, os.kill, [os.getpid(), signal.SIGTERM])
    try:
        # one that falls into a destructor is lost, and all is written
        with contextlib.suppress(Stopped):
            timer.start()  # on a busy machine the signal comes before this returns
            for _ in range(3):
                io.write(ds, out)
            timer.join()
            time.sleep(0.01)  # for a signal that is not handled yet
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
    time.sleep(0.1)
    assert [p.name for p in tmp_path.iterdir()] in ([], [out.name])


def test_an_interrupt_while_an_earlier_output_is_removed_leaves_nothing(tmp_path, monkeypatch):
    ds, out = large(False), tmp_path / "a.zarr"
    io.write(ds, out)
    remove, removed = shutil.rmtree, []

    def interrupted(path: Path) -> None:
        removed.append(path)
        if len(removed) == 1:
            raise Stopped
        remove(path)

    monkeypatch.setattr("sstfill.io.output.atomic.shutil.rmtree", interrupted)
    with pytest.raises(Stopped):
        io.write(ds, out)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_blocks_under_way_end_before_an_error_goes_on():
    ended = []

    def block(x, block_info=None):
        if block_info[None]["chunk-location"] == (0,):
            raise OSError("full")
        time.sleep(0.2)
        ended.append(1)
        return x

    lazy = dask.array.zeros(4, chunks=1).map_blocks(block, dtype="f8", meta=np.empty(0))
    ds = xr.Dataset({"a": ("x", lazy)})
    with pytest.raises(OSError, match="full"), drained(ds):
        ds["a"].values  # noqa: B018
    now = len(ended)
    time.sleep(0.3)
    assert len(ended) == now


ODD: dict[str, Any] = {
    "nested": {"a": 1},
    "none": None,
    "true": True,
    "flag": np.bool_(True),
    "big": 2**70,
    "complex": 1 + 2j,
    "date": np.datetime64("2024-01-01"),
    "nul": "a\0b",
    "surrogate": "\udcff",
    "mixed": [1, "a"],
    "empty": [],
    "square": np.eye(2),
    "objects": np.array([None, 1], dtype=object),
    "half": np.float16(1),
    "a/b": 1,
    " lead": 1,
    "": 1,
    "_NCProperties": "x",
    "bytes": b"\xff",
    "path": Path("x"),
    "set": {1},
    "long": np.longdouble(1),
    "fine": 1.5,
    "texts": ["a", "b"],
    "numbers": np.arange(3),
    "nan": float("nan"),
}


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_no_attribute_loses_a_finished_run(tmp_path, suffix):
    ds = series()
    ds.attrs |= ODD
    ds["sst"].attrs |= ODD
    ds["lat"].attrs |= ODD
    before = dict(ds.attrs)
    path = tmp_path / f"a{suffix}"
    io.write(ds, path)
    with io.open(path) as back:
        assert np.array_equal(back["sst"], ds["sst"], equal_nan=True)
        for key in ODD:
            assert key in back["sst"].attrs or key in ("a/b", " lead", "", "_NCProperties"), key
    assert list(ds.attrs) == list(before)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(deadline=None, max_examples=30)
@given(
    attrs=st.dictionaries(st.text(max_size=4), VALUES, max_size=3),
    suffix=st.sampled_from([".zarr", ".nc"]),
)
def test_whatever_the_attributes_are_the_values_are_written(tmp_path_factory, attrs, suffix):
    ds = series()
    ds.attrs, ds["sst"].attrs = dict(attrs), dict(attrs)
    path = tmp_path_factory.mktemp("attrs") / f"a{suffix}"
    io.write(ds, path)
    how = {"engine": "zarr", "consolidated": False} if suffix == ".zarr" else {"engine": "netcdf4"}
    with xr.open_dataset(path, **how) as back:
        assert np.array_equal(back["sst"], ds["sst"], equal_nan=True)


def test_attributes_that_can_be_stored_are_left_as_they_are():
    ds = series().assign_attrs(title="a", levels=[1, 2], names=["a", "b"])
    for zarr in (True, False):
        xr.testing.assert_identical(storable(ds, zarr=zarr), ds)


@pytest.mark.parametrize("zarr", [True, False])
@pytest.mark.parametrize("name", ["a/b", "", " a", "a\n", 3])
def test_names_that_cannot_be_stored_are_refused_before_the_work(zarr, name):
    with pytest.raises(WriteError, match="rename it"):
        check_storable(series().rename(sst=name), Path("a"), zarr=zarr)


@pytest.mark.parametrize("zarr", [True, False])
def test_types_that_cannot_be_stored_are_refused_before_the_work(zarr):
    odd = np.array([{"a": 1}, None, 3], dtype=object)
    with pytest.raises(WriteError, match="variable 'odd' cannot be stored: "):
        check_storable(series().assign(odd=("time", odd)), Path("a"), zarr=zarr)
    check_storable(
        series().assign(word=("time", np.array(list("abc"), object))), Path("a"), zarr=zarr
    )


def test_the_command_refuses_before_it_fills(tmp_path, capsys, monkeypatch):
    ds = series(8).assign(odd=("time", np.arange(8, dtype="c16")))
    ds.to_zarr(tmp_path / "in.zarr", zarr_format=3, consolidated=False)
    monkeypatch.setattr("sstfill.cli.filling.fill", lambda *_, **__: pytest.fail("it was filled"))
    if (
        main(
            [
                "fill",
                str(tmp_path / "in.zarr"),
                "--out",
                str(tmp_path / "out.nc"),
                "--method",
                "climatology",
            ]
        )
        == 2
    ):
        assert "'odd' cannot be stored" in capsys.readouterr().err
