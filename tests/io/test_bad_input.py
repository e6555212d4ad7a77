# SPDX-License-Identifier: Apache-2.0
"""What cannot be filled ends in one clear line with the remedy, and leaves an earlier output
untouched.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from light import light

import sstfill
from sstfill import io as sio
from sstfill.errors import InputError, OptionError, ReadError, SstfillError, WriteError
from sstfill.fields.reading.variables import pick_field
from sstfill.fill import fill
from sstfill.methods import METHODS, Dineof, Interpolate
from sstfill.synthetic import ocean

Change = Callable[[xr.Dataset], xr.Dataset]
SUFFIXES = [".nc", ".zarr"]


@cache
def small_ocean() -> xr.Dataset:
    return ocean(shape=(8, 10, 12), seed=1)[["sst", "sea"]]


def series() -> xr.Dataset:
    """A small ocean under clouds, with its sea mask."""
    return small_ocean().copy(deep=True)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, hidden ones too."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text and "\n" not in text and len(text) < 400
    return text


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of inputs and earlier outputs, to copy."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "out").mkdir()
    for suffix in SUFFIXES:
        sio.write(series(), folder / f"in{suffix}")
        sio.write(series().isel(time=slice(3)), folder / "out" / f"filled{suffix}")
    return folder


def in_turn(cases: Iterable[Any]) -> Any:
    """Try a case with a NetCDF file, the next with a Zarr store: `files` of a test."""
    pairs = list(zip(cases, itertools.cycle(SUFFIXES)))
    return pytest.mark.parametrize(("case", "files"), pairs, indirect=["files"])


@pytest.fixture(params=SUFFIXES)
def files(
    tmp_path: Path, written: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Path, Path]]:
    """Input to spoil, and an earlier output that must be as it was when the test is over."""
    source, output = tmp_path / f"in{request.param}", tmp_path / "out" / f"filled{request.param}"
    output.parent.mkdir()
    for made in (source, output):
        kept = written / made.relative_to(tmp_path)
        if kept.is_dir():
            shutil.copytree(kept, made)
        else:
            shutil.copy(kept, made)
    before = snapshot(output.parent)
    yield source, output
    assert snapshot(output.parent) == before


def run(source: Path, output: Path, method: object = "interpolate", **options: object) -> None:
    """From file to file, as the command line does it."""
    with sio.open(source, chunks={}) as ds:
        sio.write(fill(ds, method, **options), output, source=source)  # type: ignore[arg-type]


# --- data that cannot be filled

SPOILT: dict[str, tuple[Change, str]] = {
    "no time dimension": (lambda d: d.isel(time=0, drop=True), r"no time dimension.*expand_dims"),
    "all land": (
        lambda d: d.assign(sea=d.sea * 0),
        "sea mask is land everywhere.*give 1 at sea and 0 on land",
    ),
    "nothing observed": (
        lambda d: d.assign(sst=d.sst * np.nan),
        "nothing observed at sea in 8 images; check the fill",
    ),
    "observed on land only": (
        lambda d: (
            d.assign(sst=d.sst * np.nan)
            .fillna({"sst": 15.0})
            .assign(sst=lambda e: e.sst.where(d.sea == 0))
        ),
        "nothing observed at sea",
    ),
    "no gaps": (
        lambda d: d.fillna({"sst": 15.0}),
        "no gaps at sea, nothing to fill; is the fill value decoded",
    ),
    "one time step, no mask": (
        lambda d: d[["sst"]].isel(time=[0]),
        "never observed count as land unless sea=",
    ),
    "infinite": (
        lambda d: d.assign(sst=d.sst.fillna(np.inf)),
        r"infinite values; make them missing: ds.where",
    ),
    "minus infinite": (lambda d: d.assign(sst=d.sst.where(d.sst < 19, -np.inf)), "infinite values"),
    "duplicate times": (
        lambda d: d.isel(time=[0, 1, 1, 2]),
        r"twice; drop one: ds.drop_duplicates\('time'\)",
    ),
    "descending times": (
        lambda d: d.isel(time=slice(None, None, -1)),
        r"goes back to .* sort it: ds.sortby\('time'\)",
    ),
    "unsorted times": (lambda d: d.isel(time=[0, 2, 1, 3]), r"sort it: ds.sortby\('time'\)"),
    "a missing time": (
        lambda d: d.assign_coords(time=d.time.where(d.time != d.time[2])),
        "missing .NaT. at step 2",
    ),
    "three spatial dimensions": (
        lambda d: d.expand_dims(depth=[0.0, 5.0], axis=1),
        r"choose one: .isel\(depth=0\)",
    ),
    "one spatial dimension": (lambda d: d.isel(lat=0, drop=True), "needs two spatial dimensions"),
    "whole numbers": (
        lambda d: d.assign(sst=d.sst.fillna(0).astype("i2")),
        "nothing to fill.*int16",
    ),
    "no variables": (lambda d: d.drop_vars(["sst", "sea"]), "nothing to fill"),
}


@in_turn(SPOILT)
def test_data_that_cannot_be_filled(case, files):
    spoil, message = SPOILT[case]
    source, output = files
    shutil.rmtree(source) if source.is_dir() else source.unlink()
    spoil(series()).to_zarr(
        source, consolidated=False, zarr_format=3
    ) if source.suffix == ".zarr" else spoil(series()).to_netcdf(source)
    with pytest.raises(InputError, match=message) as raised:
        run(source, output)
    one_line(raised.value)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("case", [c for c in SPOILT if c not in ("no variables", "whole numbers")])
@pytest.mark.parametrize("lazy", [False, True])
def test_arrays_that_cannot_be_filled(case, lazy):
    ds = SPOILT[case][0](series())
    sea = ds.get("sea")
    with pytest.raises(InputError, match=SPOILT[case][1]) as raised:
        fill(ds["sst"].chunk() if lazy else ds["sst"], "interpolate", sea=sea)
    one_line(raised.value)


REMEDIES: dict[str, Change] = {
    "no time dimension": lambda d: d.assign(
        sst=d.sst.expand_dims(time=[pd.Timestamp("2020-01-01")])
    ),
    "infinite": lambda d: d.assign(sst=d.sst.where(np.isfinite(d.sst))),
    "duplicate times": lambda d: d.drop_duplicates("time"),
    "descending times": lambda d: d.sortby("time"),
    "unsorted times": lambda d: d.sortby("time"),
    "three spatial dimensions": lambda d: d.isel(depth=0),
}


@pytest.mark.parametrize("case", REMEDIES)
def test_the_remedy_works(case):
    out = fill(REMEDIES[case](SPOILT[case][0](series())), "interpolate")
    assert (out["sst_source"] == 1).any()


@pytest.mark.parametrize("name", METHODS)
def test_one_time_step(name):
    ds = series().isel(time=[4])
    if METHODS[name].min_times > 1:
        with pytest.raises(
            InputError, match=r"needs at least .* time steps, the data have 1; give a longer series"
        ):
            fill(ds, light(name))
    else:
        assert fill(ds, light(name))["sst"].where(ds.sea == 1).notnull().any()


def test_one_time_step_is_interpolated_where_no_method_is_named():
    ds = series().isel(time=[4])
    xr.testing.assert_equal(fill(ds)["sst"], fill(ds, "interpolate")["sst"])


def test_two_candidates_are_both_filled_or_named():
    ds = series()
    ds = ds.assign(chl=ds.sst.rename("chl") * 2)
    assert {"sst_source", "chl_source"} <= set(fill(ds, "interpolate").data_vars)
    with pytest.raises(InputError, match="2 fields, sst, chl; name one: variable='sst'") as raised:
        pick_field(ds)
    one_line(raised.value)


@pytest.mark.parametrize("data", [None, 3, "sst.nc", np.zeros((3, 4, 5)), [series()]])
def test_what_is_no_dataset(data):
    with pytest.raises(InputError, match="give an xarray Dataset or DataArray") as raised:
        fill(data, "interpolate")
    one_line(raised.value)


def test_a_field_called_as_its_coordinate():
    with pytest.raises(InputError, match=r"rename it: .rename\('sst'\)"):
        fill(series()["sst"].rename("time"), "interpolate")


# --- options that do not exist


@in_turn(
    [
        ("dinof", {}, "no method 'dinof'; did you mean 'dineof'"),
        (
            "",
            {},
            "no method ''; Choose from auto, bayes_eof, climatology, dineof, gan, interpolate",
        ),
        (Dineof, {}, r"Dineof is a class; call it: Dineof\(\)"),
        (5, {}, "5 is not a method; give a name such as 'dineof'"),
        (object(), {}, "is not a method"),
        ("interpolate", {"variables": "sts"}, "no variable 'sts'; did you mean 'sst'"),
        ("interpolate", {"variables": []}, "names nothing to fill"),
        ("interpolate", {"seed": -1}, "seed=-1 is not a seed; give a whole number, 0 or more"),
        ("interpolate", {"seed": 1.5}, "seed=1.5 is not a seed"),
    ]
)
def test_unknown_methods_and_options(case, files):
    method, options, message = case
    with pytest.raises(OptionError, match=message) as raised:
        run(*files, method, **options)
    one_line(raised.value)


def test_the_door_checks_before_it_works():
    """A wrong option is told before the data are read."""
    lazy = series()["sst"].chunk()
    unread = lazy.copy(
        data=lazy.data.map_blocks(lambda x: 1 / 0, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    )
    for options in (
        {"method": Interpolate},
        {"method": "nope"},
        {"seed": -1},
        {"variables": "nope"},
    ):
        with pytest.raises(OptionError):
            fill(unread, **options)
    with pytest.raises(InputError, match="sea is a ndarray"):
        fill(unread, sea=np.ones((10, 12)))


def test_variables_of_an_array():
    assert "sst_source" in fill(series()["sst"], "interpolate", variables="sst")
    with pytest.raises(OptionError, match="no variable 'chl'"):
        fill(series()["sst"], "interpolate", variables="chl")


# --- files that cannot be read or written


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.unlink(), "no such file; check the name"),
        (lambda p: p.write_bytes(b""), "it is empty, often a failed download; fetch it again"),
        (
            lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
            "damaged or cut short, fetch it again",
        ),
        (lambda p: p.write_text("<html>404</html>"), "a web page or XML"),
        (lambda p: p.write_bytes(os.urandom(1000)), "neither NetCDF nor Zarr"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, spoil, message):
    source, output = tmp_path / "in.nc", tmp_path / "out" / "filled.nc"
    output.parent.mkdir()
    for path in (source, output):
        sio.write(series(), path)
    before = snapshot(output.parent)
    spoil(source)
    with pytest.raises(ReadError, match=message) as raised:
        run(source, output)
    assert str(source) in one_line(raised.value) and isinstance(raised.value, OSError)
    assert snapshot(output.parent) == before


def test_damage_met_while_filling(tmp_path):
    """A block that cannot be unpacked shows only when it is read: still one line, and the old
    output stays.
    """
    source, output = tmp_path / "in.zarr", tmp_path / "out" / "filled.nc"
    output.parent.mkdir()
    sio.write(series().chunk(time=2), source)
    sio.write(series(), output)
    before = snapshot(output.parent)
    block = source / "sst" / "c" / "2" / "0" / "0"
    block.write_bytes(block.read_bytes()[:40])
    with pytest.raises(ReadError, match="damaged or cut short") as raised, sio.reading(source):
        run(source, output)
    one_line(raised.value)
    assert snapshot(output.parent) == before


def test_output_equal_to_input(files):
    source, _ = files
    before = snapshot(source.parent)
    with pytest.raises(
        WriteError, match="it is the input itself; choose another output name"
    ) as raised:
        run(source, source)
    one_line(raised.value)
    assert snapshot(source.parent) == before


@in_turn([errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_no_permission_and_full_disk(case, files, monkeypatch):
    """The disk refuses halfway: the new file is being written when the operating system says no."""
    source, output = files
    written = []

    def refuse(ds: xr.Dataset, path: Path, *_: object, **__: object) -> None:
        (path.mkdir() or path / "part" if path.suffix == ".zarr" else path).write_bytes(b"half")
        written.append(path)
        raise OSError(case, os.strerror(case), str(path))

    monkeypatch.setattr(xr.Dataset, "to_netcdf", refuse)
    monkeypatch.setattr(xr.Dataset, "to_zarr", refuse)
    with pytest.raises(
        WriteError, match=rf"{os.strerror(case)}.*choose another folder or make room"
    ) as raised:
        run(source, output)
    assert str(output) in one_line(raised.value)
    assert written and written[0].parent == output.parent


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(files):
    source, output = files
    output.parent.chmod(0o500)
    try:
        with pytest.raises(WriteError, match="Permission denied"):
            run(source, output)
    finally:
        output.parent.chmod(0o700)


def test_every_error_is_sstfill_s_own():
    for error in (InputError, OptionError, ReadError, WriteError):
        assert issubclass(error, SstfillError) and getattr(sstfill, error.__name__) is error
