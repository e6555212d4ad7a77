# SPDX-License-Identifier: Apache-2.0
"""What an output may replace: only what sstfill made, and nothing that lies in it or beside it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from small_series import series

from sstfill import io
from sstfill.cli import main
from sstfill.errors import WriteError
from sstfill.io.output import place
from sstfill.io.output.atomic import _hidden, _process, atomic_path, begin_work, sweep, what_stands
from sstfill.plot.output import save, signed
from sstfill.plot.sheet import new_figure


def snapshot(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}


def raw(path: Path, zarr_format: int) -> Path:
    """A store that sstfill never made."""
    series().to_zarr(path, zarr_format=zarr_format, consolidated=False)
    return path


def refused(path: Path, message: str, source: Path | None = None) -> None:
    """Writing to a path is refused with a message, and nothing there changes."""
    before = snapshot(path)
    with pytest.raises(WriteError, match=message) as caught:
        io.write(series(2), path, source=source)
    assert "\n" not in str(caught.value)
    assert snapshot(path) == before
    assert not [p for p in path.parent.iterdir() if ".tmp" in p.name or p.name.endswith(".job")]


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_an_output_of_ours_is_replaced_as_often_as_one_likes(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for steps in (3, 2, 4):
        io.write(series(steps), path)
        with io.open(path) as back:
            assert back.sizes["time"] == steps
            assert place.MARK not in back.attrs
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_raw_archive_is_not_replaced(tmp_path, zarr_format):
    refused(
        raw(tmp_path / "raw.zarr", zarr_format),
        "not made as an output of sstfill.*remove it yourself",
    )


def test_the_fill_of_a_stranger_s_folder_is_refused_before_the_work(tmp_path, capsys):
    source, target = raw(tmp_path / "in.zarr", 3), raw(tmp_path / "mine.zarr", 3)
    before = snapshot(target)
    assert main(["fill", str(source), "--out", str(target), "--method", "climatology"]) == 2
    assert "remove it yourself" in capsys.readouterr().err
    assert snapshot(target) == before


STRANGE = {
    "notes": lambda store: (store / "notes.txt").write_text("mine"),
    "the input": lambda store: series().to_netcdf(store / "input.nc"),
    "a group": lambda store: series().to_zarr(
        store, group="raw", mode="a", zarr_format=3, consolidated=False
    ),
    "a note at an array": lambda store: (store / "sst/README").write_text("mine"),
    "a note among chunks": lambda store: (store / "sst/c/README").write_text("mine"),
    "a number among chunks": lambda store: (store / "sst/c/0/0/0.txt").write_text("mine"),
    "a link": lambda store: (store / "link").symlink_to("/tmp"),
    "a link for a chunk": lambda store: (store / "sst/c/7").symlink_to("/tmp"),
    "a folder": lambda store: (store / "empty").mkdir(),
    "a named pipe": lambda store: os.mkfifo(store / "pipe"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_store_of_ours_that_holds_something_else_is_not_replaced(tmp_path, what):
    path = tmp_path / "a.zarr"
    io.write(series(), path)
    STRANGE[what](path)
    known = sorted(str(p) for p in path.rglob("*"))
    with pytest.raises(
        WriteError, match=r"holds something else than a Zarr store that sstfill made: .*remove it"
    ):
        io.write(series(2), path)
    assert sorted(str(p) for p in path.rglob("*")) == known


@settings(deadline=None, max_examples=25)
@given(
    at=st.sampled_from(["", "sst", "sst/c", "sst/c/0", "lat/c", "sst/c/0/0/0/x"]),
    name=st.text("abc019.-_", min_size=1, max_size=6).filter(lambda n: n.strip(".") and n != "c"),
)
def test_whatever_else_lies_in_a_store_is_found(tmp_path_factory, at, name):
    path = tmp_path_factory.mktemp("store") / "a.zarr"
    io.write(series(), path)
    file = path / at / name
    if file.exists() or any(p.is_file() for p in file.parents):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    with pytest.raises(WriteError, match=r"something else|changed since"):
        io.write(series(2), path)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("change", ["values", "attributes", "another variable"])
def test_a_derivative_that_inherits_the_mark_is_not_taken_for_ours(tmp_path, suffix, change):
    ours, mine = tmp_path / f"ours{suffix}", tmp_path / f"mine{suffix}"
    io.write(series(), ours)
    how = {"engine": "zarr", "consolidated": False} if suffix == ".zarr" else {"engine": "netcdf4"}
    with xr.open_dataset(ours, decode_cf=False, **how) as ds:
        held = ds.load()
    if suffix == ".zarr":
        held = held.chunk()
    assert place.MARK in held.attrs
    if change == "values":
        held["sst"] = held["sst"].copy(
            data=np.random.default_rng(5).normal(0, 1, held["sst"].shape).astype("f4") ** 3
        )
    elif change == "attributes":
        held["sst"].attrs["comment"] = "mine"
    else:
        held["mine"] = held["sst"] * 2
    if suffix == ".zarr":
        held.to_zarr(mine, zarr_format=3, consolidated=False)
    else:
        held.to_netcdf(mine)
    refused(mine, "changed since")


@pytest.mark.parametrize("suffix", [".nc", ".nc4", ".cdf"])
def test_a_netcdf_file_of_somebody_else_is_not_replaced(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    series().to_netcdf(path, engine="netcdf4")
    refused(path, "was not made by sstfill")
    path.write_text("notes")
    refused(path, "was not made by sstfill")
    path.write_text("")  # as a tool that makes temporary names leaves it
    io.write(series(), path)


def test_an_output_that_is_in_the_input_or_holds_it_is_refused(tmp_path):
    source = raw(tmp_path / "in.zarr", 3)
    refused(source, "input itself", source)
    with pytest.raises(WriteError, match="lies in the input"):
        io.write(series(), source / "out.nc", source=source)
    around = tmp_path / "around.zarr"
    io.write(series(), around)
    shutil.move(source, around / "in.zarr")
    with pytest.raises(WriteError, match="holds the input"):
        io.write(series(), around, source=around / "in.zarr")
    file = tmp_path / "in.nc"
    io.write(series(), file)
    os.link(file, tmp_path / "also.nc")
    refused(tmp_path / "also.nc", "input itself", file)


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".png", ".json"])
def test_pipes_and_loops_are_refused(tmp_path, suffix):
    pipe, loop = tmp_path / f"pipe{suffix}", tmp_path / f"loop{suffix}"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for target in (pipe, loop):
        with pytest.raises(WriteError, match=r"pipe|loop"):
            place.check(target)
    with pytest.raises(WriteError, match="a named pipe"), atomic_path(pipe) as temporary:
        temporary.write_text("x")
    assert pipe.is_fifo() and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg", "jpg", "eps"])
def test_pictures_of_ours_are_replaced_and_others_are_not(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    figure = new_figure(2, 2, None)
    save(figure, path)
    first = path.read_bytes()
    save(figure, path)
    assert path.read_bytes() and signed(suffix)
    path.write_bytes(first.replace(place.PICTURE.encode(), b"x" * len(place.PICTURE)))
    with pytest.raises(WriteError, match="not made by sstfill"):
        save(figure, path)


def test_json_of_ours_is_replaced_and_other_json_is_not(tmp_path, capsys):
    source, target = raw(tmp_path / "in.zarr", 3), tmp_path / "scores.json"
    target.write_text(json.dumps({"mine": 1}))
    command = ["score", str(source), "--methods", "climatology", "--json", str(target)]
    assert main(command) == 2
    assert "remove it yourself" in capsys.readouterr().err
    assert json.loads(target.read_text()) == {"mine": 1}
    target.write_text(json.dumps({"sstfill": "0", "data_vars": {}}))
    place.check(target)


def test_what_took_the_place_of_an_output_meanwhile_is_kept(tmp_path):
    for suffix in (".nc", ".zarr"):
        path = tmp_path / f"a{suffix}"
        io.write(series(), path)
        with io.claimed(path) as output:
            shutil.rmtree(path) if suffix == ".zarr" else path.unlink()
            io.write(series(5), tmp_path / f"b{suffix}")
            (tmp_path / f"b{suffix}").rename(path)
            with pytest.raises(WriteError, match="another process has written it since"):
                output.write(series(2))
        with io.open(path) as back:
            assert back.sizes["time"] == 5


def test_an_interrupt_says_what_is_true(tmp_path, monkeypatch):
    path = tmp_path / "a.nc"
    io.write(series(), path)
    begin_work()
    assert what_stands() == "an earlier output is unchanged"
    real = os.replace

    def before(*names):
        if Path(names[1]).parent == tmp_path:
            raise KeyboardInterrupt
        real(*names)

    def after(*names):
        real(*names)
        if Path(names[1]).parent == tmp_path:
            raise KeyboardInterrupt

    for at, said in (
        (before, "an earlier output is unchanged"),
        (after, f"{path} is written whole"),
    ):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(os, "replace", at)
            io.write(series(2), path)
        assert what_stands().startswith(said)
        with io.open(path) as back:
            assert back.sizes["time"] == (3 if at is before else 2)


def test_an_interrupt_when_a_folder_was_replaced_leaves_the_new_one(tmp_path, monkeypatch):
    path, real, calls = tmp_path / "a.zarr", os.replace, []
    io.write(series(), path)

    def second(*names):
        real(*names)
        if Path(names[1]).parent == tmp_path:  # zarr puts its own files in place likewise
            calls.append(names)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", second)
        io.write(series(2), path)
    assert what_stands().startswith(f"{path} is written whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    with io.open(path) as back:
        assert back.sizes["time"] == 2


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    path = tmp_path / "a.zarr"
    here = _process(os.getpid())
    host = here.partition("-")[0]
    dead = tmp_path / f".a.{host}-{2**22 + 1}-7-0123abcd.tmp.zarr"
    old = dead.with_name(dead.name + ".old")
    living, elsewhere = _hidden(path), tmp_path / f".a.00000000-{2**22 + 1}-7-0123abcd.tmp.zarr"
    mine = tmp_path / ".a.mine.tmp.zarr"
    io.write(series(), old.with_name("b.zarr"))
    (tmp_path / "b.zarr").rename(old)  # killed between the two steps of a replace
    for folder in (dead, living, elsewhere, mine):
        folder.mkdir()
        (folder / "zarr.json").write_text("{}")
    sweep(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [path.name, living.name, elsewhere.name, mine.name]
    )
    with io.open(path) as back:
        assert back.sizes["time"] == 3


def test_the_folder_of_a_training_keeps_what_is_not_of_a_training(tmp_path):
    pytest.importorskip("torch")
    from sstfill.training.loop import _prepare

    for name, content in {
        "log.csv": "date,event\n",
        "config.json": "{}",
        "weights.safetensors": "mine",
    }.items():
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(WriteError):
            _prepare(folder, resume=False)
        assert (folder / name).read_text() == content
    (tmp_path / "log/log.csv").write_text("epoch,steps,withheld_mae\n")
    assert _prepare(tmp_path / "log", resume=False) is False


@pytest.mark.parametrize("name", ["paper.json", "paper.csv", "paper.md", "paper_sample_1.png"])
def test_the_folder_of_a_benchmark_keeps_what_no_benchmark_wrote(tmp_path, name):
    from sstfill.cli.evaluating import check_out

    (tmp_path / "notes.txt").write_text("mine")
    check_out(tmp_path)
    (tmp_path / name).write_text("mine")
    with pytest.raises(WriteError, match="remove it yourself"):
        check_out(tmp_path)
