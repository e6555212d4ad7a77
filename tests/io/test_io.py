# SPDX-License-Identifier: Apache-2.0
"""What is read is what was stored; what is written comes back, whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import pickle
from pathlib import Path

import cftime
import dask.array
import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import sstfill.io as sio
from sstfill.errors import InputError, OptionError, ReadError, WriteError
from sstfill.io.packing import DoesNotFit, ladder
from sstfill.io.untrusted.netcdf3 import header

DIMS = ("time", "lat", "lon")
PACKED = {
    "dtype": "int16",
    "scale_factor": 0.01,
    "add_offset": 20.0,
    "_FillValue": np.int16(-32768),
}
SUFFIXES = [".nc", ".zarr"]


def dataset(encoding: dict | None = None, steps: int = 4) -> xr.Dataset:
    rng = np.random.default_rng(0)
    values = (20 + np.round(rng.normal(0, 3, (steps, 5, 6)), 2)).astype("f4")
    values[rng.random(values.shape) < 0.3] = np.nan
    coords = {
        "time": pd.date_range("2020-01-01", periods=steps),
        "lat": np.linspace(36, 35, 5),
        "lon": np.arange(350.0, 356),
    }
    ds = xr.Dataset({"sst": (DIMS, values, {"units": "degC"})}, coords, {"title": "t"})
    ds["sst"].encoding = dict(encoding or {})
    return ds


def stored_numbers(path: Path, name: str = "sst") -> np.ndarray:
    engine = "zarr" if path.is_dir() else "netcdf4"
    options = {"consolidated": False} if engine == "zarr" else {}
    with xr.open_dataset(path, engine=engine, mask_and_scale=False, **options) as raw:
        return raw[name].values


def litter(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def snapshot(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


# --- round trips


@pytest.mark.parametrize(
    ("suffix", "chunks"),
    [
        (".nc", None),
        (".nc", {"time": 2}),
        (".nc4", {"time": (1, 2, 1)}),
        (".cdf", {"time": 2}),
        (".zarr", None),
        (".zarr", {"time": 2}),
        (".zarr", {"time": (1, 2, 1)}),
    ],
)
def test_round_trip(tmp_path, suffix, chunks):
    ds = dataset()
    ds["flag"] = ds["sst"].notnull().astype("i1")
    sio.write(ds if chunks is None else ds.chunk(chunks), tmp_path / f"a{suffix}")
    with sio.open(tmp_path / f"a{suffix}") as back:
        xr.testing.assert_identical(back.load(), ds)
        assert back["sst"].dtype == np.float32 and back["flag"].dtype == np.int8
    assert litter(tmp_path) == []


@pytest.mark.parametrize(
    "how", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4", 2, 3]
)
def test_formats_are_told_by_content(tmp_path, how):
    path, ds = tmp_path / "whatever.bin", dataset()
    if isinstance(how, int):
        ds.to_zarr(path, zarr_format=how, consolidated=how == 2)
    else:
        ds.to_netcdf(path, format=how, engine="netcdf4")
    with sio.open(path) as back:
        xr.testing.assert_identical(back.load(), ds)
    for suffix in SUFFIXES:  # and again out of each, with that format's encodings
        with sio.open(path, chunks={"time": 4}) as back:
            sio.write(back, tmp_path / f"out{suffix}")
        with sio.open(tmp_path / f"out{suffix}") as again:
            xr.testing.assert_identical(again.load(), ds)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_noleap_calendar_and_curvilinear_positions(tmp_path, suffix):
    ds = dataset().drop_vars(["lat", "lon"]).rename(lat="y", lon="x").transpose("x", "time", "y")
    y, x = np.mgrid[0:5, 0:6]
    times = [cftime.datetime(2004, 2, d, calendar="noleap") for d in (1, 2, 3, 28)]
    ds = ds.assign_coords(
        time=times, nav_lat=(("y", "x"), 40.0 + y), nav_lon=(("y", "x"), 350.0 + x)
    )
    sio.write(ds, tmp_path / f"a{suffix}")
    with sio.open(tmp_path / f"a{suffix}") as back:
        xr.testing.assert_identical(back.load(), ds)
        assert back["time"].values[-1].calendar == "noleap"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_kinds_of_variables(tmp_path, suffix):
    ds = dataset().assign_coords(
        label="abc", names=("time", list("wxyz")), ok=("lat", np.array([True] * 5))
    )
    ds = ds.assign(
        n=("time", np.arange(4, dtype="u4")),
        text=("lat", list("abcde")),
        ref=pd.Timestamp("2000-01-01"),
    )
    sio.write(ds, tmp_path / f"a{suffix}")
    with sio.open(tmp_path / f"a{suffix}") as back:
        xr.testing.assert_identical(back.load(), ds)


def test_positions_outside_coordinates_become_coordinates(tmp_path):
    ds = dataset().drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    ds["nav_lat"] = ds["nav_lon"] = (("y", "x"), np.ones((5, 6)))
    ds.to_netcdf(tmp_path / "a.nc")
    with sio.open(tmp_path / "a.nc") as back:
        assert {"nav_lat", "nav_lon"} <= set(back.coords)


def test_netcdf_is_compressed_and_stale_layouts_are_dropped(tmp_path):
    stale = {
        "chunksizes": (99, 5, 6),
        "original_shape": (99, 5, 6),
        "chunks": (1, 1, 1),
        "source": "x",
        "coordinates": "no",
    }
    ds = dataset(
        stale
        | {"preferred_chunks": {"time": 1}, "compressors": ("blosc",), "filters": [1], "shards": 3}
    )
    ds.encoding = {"unlimited_dims": {"time", "gone"}}
    ds["sst"].attrs["_FillValue"] = np.nan
    ds["sst"].encoding["_FillValue"] = np.nan
    for suffix in SUFFIXES:
        sio.write(ds.chunk(time=3), tmp_path / f"a{suffix}")
    with netCDF4.Dataset(tmp_path / "a.nc") as raw:
        assert raw["sst"].filters()["zlib"] and raw["sst"].filters()["shuffle"]
        assert raw["sst"].chunking() == [3, 5, 6] and raw.dimensions["time"].isunlimited()
        assert "_FillValue" not in raw["lat"].ncattrs()
    assert ds["sst"].encoding["chunksizes"] == (99, 5, 6)  # the caller's object is left alone


# --- packing


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("chunked", [False, True])
def test_packed_integers_come_back(tmp_path, suffix, chunked):
    path = tmp_path / "in.nc"
    dataset(PACKED).to_netcdf(path)
    with sio.open(path, chunks={"time": 2} if chunked else None) as ds:
        filled = ds.assign(sst=ds["sst"].copy(data=ds["sst"].fillna(21.237).data))
        sio.write(filled, tmp_path / f"out{suffix}", source=path)
    before, after = stored_numbers(path), stored_numbers(tmp_path / f"out{suffix}")
    assert after.dtype == np.int16
    np.testing.assert_array_equal(after, np.where(before == -32768, 124, before))


@pytest.mark.parametrize(("suffix", "chunked"), [(".nc", False), (".nc", True), (".zarr", True)])
@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        (655.0 + 20, "int32", "do not fit int16"),  # wraps to a plausible temperature in xarray
        (-307.68, "int32", "land on its fill value"),  # becomes a gap in xarray
        (1e9, "float32", "do not fit int32"),
        (np.inf, "float32", "do not fit int32"),
    ],
)
def test_what_does_not_fit_widens_the_packing(
    tmp_path, caplog, suffix, chunked, value, dtype, reason
):
    ds, path = dataset(PACKED), tmp_path / f"a{suffix}"
    ds["sst"][2, 1, 1] = value
    with caplog.at_level(logging.WARNING, "sstfill"):
        sio.write(ds.chunk(time=1) if chunked else ds, path)
    assert stored_numbers(path).dtype == dtype and reason in caplog.text
    with sio.open(path) as back:
        np.testing.assert_allclose(back["sst"], ds["sst"], rtol=1e-6)
        assert reason in back["sst"].attrs["comment"] and float(
            back["sst"][2, 1, 1]
        ) == pytest.approx(value)
    assert litter(tmp_path) == []


@given(
    values=st.lists(
        st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan"))), min_size=1, max_size=20
    ),
    dtype=st.sampled_from(["i1", "u1", "i2", "u2", "i4"]),
    scale=st.sampled_from([0.01, 0.5, 1.0, -0.1]),
    fill=st.sampled_from([None, 0, 5, 100, -1]),
)
@settings(max_examples=25, deadline=None)
def test_no_packing_ever_changes_a_value_beyond_its_step(values, dtype, scale, fill):
    encoding = {"dtype": np.dtype(dtype), "scale_factor": scale, "add_offset": 3.0}
    variable = xr.Variable(
        "x",
        np.array(values, "f8"),
        encoding=encoding | ({} if fill is None else {"_FillValue": fill}),
    )
    for packing in ladder("v", variable):
        try:
            stored = packing.pack(variable.values)
        except DoesNotFit:
            continue
        exact = packing.dtype.kind == "f"
        raw = np.where(stored == packing.fill, np.nan, stored.astype("f8"))
        back = raw if exact else raw * scale + 3.0
        np.testing.assert_allclose(
            back, variable.values, rtol=0, atol=0 if exact else abs(scale) * 0.5001
        )
        return
    raise AssertionError("nothing held the values")


def test_a_float_fill_value_is_kept_unless_a_value_equals_it(tmp_path):
    ds = dataset({"_FillValue": np.float32(-9999), "dtype": "float32"})
    sio.write(ds, tmp_path / "a.nc")
    assert (stored_numbers(tmp_path / "a.nc") == -9999).sum() == int(ds["sst"].isnull().sum())
    ds["sst"][0, 0, 0] = -9999
    sio.write(ds, tmp_path / "a.nc")
    with sio.open(tmp_path / "a.nc") as back:
        xr.testing.assert_equal(back["sst"].load(), ds["sst"])


def test_unsigned_packing_of_classic_files(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w", format="NETCDF3_CLASSIC") as raw:
        for name, size in zip(DIMS, (2, 2, 3), strict=True):
            raw.createDimension(name, size)
        v = raw.createVariable("sst", "i1", DIMS, fill_value=-1)
        v.set_auto_maskandscale(False)
        v.setncatts({"_Unsigned": "true", "scale_factor": 0.1})
        v[:] = np.arange(12).reshape(2, 2, 3) - 6
    with sio.open(tmp_path / "a.nc") as ds:
        assert int(ds["sst"].isnull().sum()) == 1 and float(ds["sst"].max()) == pytest.approx(25.4)
        sio.write(ds, tmp_path / "b.nc")
        with sio.open(tmp_path / "b.nc") as back:
            xr.testing.assert_equal(back["sst"].load(), ds["sst"].load())
    assert stored_numbers(tmp_path / "b.nc").dtype == np.uint8


def test_packed_without_fill_value_gets_one(tmp_path):
    ds = dataset({k: v for k, v in PACKED.items() if k != "_FillValue"})
    sio.write(ds, tmp_path / "a.nc")
    with sio.open(tmp_path / "a.nc") as back:
        np.testing.assert_array_equal(back["sst"].isnull(), ds["sst"].isnull())


@pytest.mark.parametrize("value", [44.0, 46.0])
def test_a_value_outside_the_valid_range_survives(tmp_path, value):
    ds = dataset(PACKED)
    ds["sst"].attrs |= {"valid_min": np.int16(-2200), "valid_max": np.int16(2500)}
    ds["sst"][0, 0, 0] = value
    sio.write(ds, tmp_path / "a.nc")
    with sio.open(tmp_path / "a.nc") as back:
        assert float(back["sst"][0, 0, 0]) == pytest.approx(value)
        assert ("valid_max" in back["sst"].attrs) == (value < 45)
        assert ("without a valid range" in back["sst"].attrs.get("comment", "")) == (value > 45)
    assert stored_numbers(tmp_path / "a.nc").dtype == np.int16


def test_a_leftover_packed_valid_range_is_not_written_on_floats(tmp_path):
    ds = dataset()
    ds["sst"].attrs |= {"valid_min": np.int16(0), "valid_max": np.int16(10)}
    sio.write(ds, tmp_path / "a.nc")
    with sio.open(tmp_path / "a.nc") as back:
        assert "valid_min" not in back["sst"].attrs
        np.testing.assert_array_equal(back["sst"], ds["sst"])


# --- missing values


@pytest.mark.parametrize("missing", ["-9999", np.float64(1e20), np.float32(-9999)])
def test_missing_values_that_the_decoder_overlooks(tmp_path, missing):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as raw:
        for name, size in zip(DIMS, (2, 2, 3), strict=True):
            raw.createDimension(name, size)
        v = raw.createVariable("sst", "f4", DIMS)
        v.set_auto_maskandscale(False)
        v.setncattr("missing_value", missing)
        v[:] = 15
        v[0, 0, :] = np.float32(float(missing))
    with sio.open(tmp_path / "a.nc") as ds:
        assert int(ds["sst"].isnull().sum()) == 3
        sio.write(ds, tmp_path / "b.nc")
    with sio.open(tmp_path / "b.nc") as back:
        assert int(back["sst"].isnull().sum()) == 3


@pytest.mark.parametrize(
    ("encoding", "attrs"),
    [
        ({}, {"valid_min": np.float32(-2.5), "valid_max": 45.0}),
        ({}, {"valid_range": np.array([-2.5, 45.0])}),
        (PACKED, {"valid_min": np.int16(-2250), "valid_max": np.int16(2500)}),
        (PACKED, {"valid_range": np.array([-2.5, 45.0])}),
    ],
)
def test_values_outside_the_valid_range_are_gaps(tmp_path, encoding, attrs):
    ds = dataset(encoding)
    ds["sst"].attrs |= attrs
    ds["sst"][0, 0, :4] = [-2.5, 45.0, 99.0, -99.0]
    ds.to_netcdf(tmp_path / "a.nc")
    with sio.open(tmp_path / "a.nc") as back:
        assert back["sst"][0, 0, :4].isnull().values.tolist() == [False, False, True, True]
        assert int(back["sst"].isnull().sum()) == int(ds["sst"].isnull().sum()) + 2


# --- GHRSST


def ghrsst(tmp_path: Path, meanings: str | None = None) -> Path:
    ds = dataset(PACKED).fillna(20.0)
    shape = ds["sst"].shape
    ds["quality_level"] = (DIMS, (np.arange(120).reshape(shape) % 6).astype("i1"))
    attrs = (
        {}
        if meanings is None
        else {"flag_meanings": meanings, "flag_masks": np.array([1, 2, 4], "i2")}
    )
    ds["l2p_flags"] = (DIMS, (np.arange(120).reshape(shape) % 32).astype("i2"), attrs)
    ds["other"] = ds["sst"] + 1
    ds.to_netcdf(tmp_path / "g.nc", encoding={"quality_level": {"_FillValue": np.int8(0)}})
    return tmp_path / "g.nc"


@pytest.mark.parametrize("chunks", [None, {}])
def test_quality_and_flags(tmp_path, chunks):
    path = ghrsst(tmp_path)
    n = np.arange(120).reshape(4, 5, 6)
    with sio.open(path, quality_level=4, chunks=chunks) as ds:
        np.testing.assert_array_equal(ds["sst"].notnull(), n % 6 >= 4)
        np.testing.assert_array_equal(ds["other"].notnull(), n % 6 >= 4)
    with sio.open(path, l2p_flags=["land", "ice"], chunks=chunks, variables="sst") as ds:
        np.testing.assert_array_equal(ds["sst"].isnull(), (n % 32) & 6 > 0)
        assert "other" not in ds and "l2p_flags" in ds


def test_flags_by_the_file_s_own_meanings(tmp_path):
    path = ghrsst(tmp_path, "glint land snow")
    with sio.open(path, l2p_flags="snow") as ds:
        np.testing.assert_array_equal(ds["sst"].isnull(), np.arange(120).reshape(4, 5, 6) & 4 > 0)
    with pytest.raises(OptionError, match=r"no l2p flag 'ice'.*glint, land, snow"):
        sio.open(path, l2p_flags=["ice"])


def test_quality_refusals(tmp_path):
    with pytest.raises(OptionError, match="0 to 5"):
        sio.open(ghrsst(tmp_path), quality_level=7)
    with pytest.raises(OptionError, match="did you mean 'sst'"):
        sio.open(ghrsst(tmp_path), variables=["sts"])
    dataset().to_netcdf(tmp_path / "a.nc")
    for option in ({"quality_level": 3}, {"l2p_flags": ["ice"]}):
        with pytest.raises(InputError, match="holds only sst"):
            sio.open(tmp_path / "a.nc", **option)


# --- files that cannot be read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"hello world", "neither NetCDF nor Zarr"),
        (b"<!DOCTYPE html>", "failed download"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"PK\x03\x04", "unzip"),
        (b"CDF\x01\x00\x00", "cut short"),
    ],
)
def test_not_a_series(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(ReadError, match=message) as caught:
        sio.open(tmp_path / "a.nc")
    assert "\n" not in str(caught.value)


def test_folders_and_remote_addresses(tmp_path):
    with pytest.raises(ReadError, match="no Zarr store"):
        sio.open(tmp_path)
    with pytest.raises(ReadError, match="download it first"):
        sio.open("https://example.org/sst.nc")
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(ReadError, match="cannot read"):
        sio.open(tmp_path)


def test_permission_denied(tmp_path, monkeypatch):
    dataset().to_netcdf(tmp_path / "a.nc")

    def deny(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(ReadError, match="permission denied"):
        sio.open(tmp_path / "a.nc")


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_DATA", "NETCDF4"])
@pytest.mark.parametrize("fraction", [0.3, 0.7, 0.99])
def test_truncated_files_never_read_as_data(tmp_path, form, fraction):
    ds = dataset(steps=40)
    ds.to_netcdf(
        tmp_path / "a.nc",
        format=form,
        engine="netcdf4",
        unlimited_dims=["time"] if "3" in form else [],
    )
    whole = (tmp_path / "a.nc").read_bytes()
    if "3" in form:
        assert (
            header(tmp_path / "a.nc").nbytes <= len(whole) <= header(tmp_path / "a.nc").nbytes + 3
        )
    (tmp_path / "a.nc").write_bytes(whole[: int(len(whole) * fraction)])
    with (
        pytest.raises(ReadError, match=r"cut short|damaged"),
        sio.reading("a.nc"),
        sio.open(tmp_path / "a.nc") as back,
    ):
        back.load()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_that_shows_when_values_are_read(tmp_path, suffix):
    ds = xr.Dataset({"sst": (DIMS, np.random.default_rng(0).normal(size=(6, 50, 50)).astype("f4"))})
    path = tmp_path / f"a{suffix}"
    sio.write(ds.chunk(time=1), path)
    if suffix == ".nc":
        body = bytearray(path.read_bytes())
        body[len(body) // 2 : len(body) // 2 + 4000] = bytes(4000)
        path.write_bytes(body)
    else:
        chunk = path / "sst" / "c" / "3" / "0" / "0"
        chunk.write_bytes(chunk.read_bytes()[:100])
    for chunks in (None, {}):
        with sio.open(path, chunks=chunks) as back:
            with pytest.raises(ReadError, match="damaged"), sio.reading(path):
                back["sst"].compute()
            with pytest.raises((ReadError, WriteError), match="cannot write"):
                sio.write(back, tmp_path / f"b{suffix}")
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_reading_leaves_other_errors_alone():
    for error in (ValueError("mine"), KeyError("k"), RuntimeError("r")):
        with pytest.raises(type(error)), sio.reading("a.nc"):
            raise error


# --- writing whole or not at all


class BoomError(Exception):
    pass


def exploding() -> xr.Dataset:
    def block(x, block_info=None):
        if block_info and block_info[None]["chunk-location"][0] == 2:
            raise BoomError("in the middle")
        return x

    ds = dataset()
    lazy = dask.array.map_blocks(block, ds.chunk(time=1)["sst"].data, dtype="f4")
    return ds.assign(sst=(DIMS, lazy))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failure_midway_leaves_the_old_output(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    sio.write(dataset(), path)
    before = snapshot(path)
    with pytest.raises(BoomError):
        sio.write(exploding(), path)
    assert snapshot(path) == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("failing", ["os.replace", "os.fsync"])
def test_a_failing_disk_leaves_the_old_output(tmp_path, monkeypatch, suffix, failing):
    path = tmp_path / f"a{suffix}"
    sio.write(dataset(), path)
    before, real = snapshot(path), os.replace

    def full(*args):
        if failing == "os.fsync" or (
            ".tmp" in Path(args[0]).name and not str(args[0]).endswith(".old")
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(failing, full)
        with pytest.raises(WriteError, match=r"No space left on device.*MB free") as caught:
            sio.write(dataset(steps=3), path)
    assert "\n" not in str(caught.value)
    assert snapshot(path) == before and [p.name for p in tmp_path.iterdir()] == [path.name]
    sio.write(dataset(steps=3), path)
    with sio.open(path) as back:
        assert back.sizes["time"] == 3


def test_full_disk_as_the_netcdf_library_tells_it(tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("NetCDF: HDF error")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    with pytest.raises(WriteError, match="HDF error; check the free space"):
        sio.write(dataset(), tmp_path / "a.nc")


def test_where_no_output_can_go(tmp_path):
    ds = dataset()
    (tmp_path / "file").write_text("x")
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / "keep.txt").write_text("x")
    (tmp_path / "d.nc").mkdir()
    (tmp_path / "f.zarr").write_text("x")
    for name, message in [
        ("none/a.nc", "does not exist; create it"),
        ("file/a.nc", "is a file"),
        ("notes.zarr", "something else"),
        ("d.nc", "is a folder"),
        ("f.zarr", "is a file"),
    ]:
        with pytest.raises(WriteError, match=message):
            sio.write(ds, tmp_path / name)
    for name in ("a.tif", "a"):
        with pytest.raises(OptionError, match=r"\.nc, \.nc4, \.cdf, \.zarr"):
            sio.write(ds, tmp_path / name)
    assert (tmp_path / "notes.zarr" / "keep.txt").exists() and litter(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_output_must_not_be_the_input(tmp_path, suffix):
    path, link = tmp_path / f"a{suffix}", tmp_path / f"link{suffix}"
    sio.write(dataset(), path)
    link.symlink_to(path)
    for target in (path, link):
        with sio.open(path) as ds, pytest.raises(WriteError, match="input itself"):
            sio.write(ds, target, source=[tmp_path / "absent.nc", path])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_link_is_followed(tmp_path, suffix):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / f"a{suffix}", tmp_path / f"link{suffix}"
    sio.write(dataset(), real)
    link.symlink_to(real)
    sio.write(dataset(steps=2), link)
    assert link.is_symlink()
    with sio.open(real) as back:
        assert back.sizes["time"] == 2


def test_atomic_path(tmp_path):
    target = tmp_path / "a.json"
    with sio.atomic_path(target) as temporary:
        temporary.write_text("1")
        assert temporary.parent == tmp_path and temporary.suffix == ".json" and not target.exists()
    with pytest.raises(ValueError, match="mine"), sio.atomic_path(target) as temporary:
        temporary.write_text("2")
        raise ValueError("mine")
    with pytest.raises(WriteError, match="No such file"), sio.atomic_path(target):
        pass  # nothing was written
    assert target.read_text() == "1" and [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lazy_blocks_are_computed_once_each(tmp_path, suffix):
    seen = []
    ds = dataset(PACKED)
    lazy = (
        ds["sst"]
        .chunk(time=1)
        .data.map_blocks(
            lambda x: seen.append(x.shape) or x, dtype="f4", meta=np.empty((0, 0, 0), "f4")
        )
    )
    sio.write(ds.assign(sst=ds["sst"].copy(data=lazy)), tmp_path / f"a{suffix}")
    assert seen == [(1, 5, 6)] * 4


def test_refusals_travel_between_processes():
    assert pickle.loads(pickle.dumps(DoesNotFit("sst", "why"))).args == ("sst", "why")


# --- real files


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("real/SST_MED_SST_L3S_NRT_OBSERVATIONS_010_012_a_example.nc", "sea_surface_temperature"),
        ("real/alboran_l3s_2022.nc", "sst"),
        ("real/npac_modis_2016.nc", "sst"),
        ("real/alboran_avhrr_2017.nc", "sst"),
        ("dineof/alboran_s42_input.nc", "sst"),
        ("truth/ostia_neatl_2003_2004.nc", "sst"),
        ("truth/globcurrent_agulhas_2002.nc", "u"),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_real_files_keep_their_stored_numbers(shared_data, tmp_path, file, name, suffix):
    source, out = shared_data / file, tmp_path / f"a{suffix}"
    with sio.open(source, variables=name, chunks={} if suffix == ".zarr" else None) as ds:
        sio.write(ds, out, source=source)
        with sio.open(out) as back:
            if suffix == ".nc":
                xr.testing.assert_identical(back.load(), ds.load())
            else:
                # Zarr's JSON does not keep the type of a scale factor, and with it the width of
                # the decoded floats
                np.testing.assert_allclose(back[name], ds[name], rtol=1e-6)
    np.testing.assert_array_equal(stored_numbers(source, name), stored_numbers(out, name))
    assert stored_numbers(source, name).dtype == stored_numbers(out, name).dtype


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_unfinished_download_is_refused(tmp_path, zarr_format):
    path = tmp_path / "a.zarr"
    for state in ("incomplete", "complete"):
        marked = dataset().assign_attrs(sstfill_state=state)
        marked.to_zarr(path, mode="w", consolidated=False, zarr_format=zarr_format)
        if state == "incomplete":
            with pytest.raises(
                ReadError,
                match=r"a\.zarr: it is an unfinished download; run the same `sstfill download`",
            ):
                sio.open(path)
    with sio.open(path) as back:
        assert back.sizes["time"] == 4
