# SPDX-License-Identifier: Apache-2.0
"""What was put in as missing comes out as a gap, and what was a value stays one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sstfill.io as sio
from sstfill.errors import ReadError
from sstfill.fields.reading.sentinels import TAKEN
from sstfill.io.untrusted import guard

SHAPE = (4, 4, 6)
CHUNK = (1, 4, 3)
DIMS = ("time", "lat", "lon")
DTYPES = ["i1", "u1", "i2", "u2", "i4", "f4", "f8"]
NETCDF = ["NETCDF4", "NETCDF3_CLASSIC"]
STORES = ["zarr2", "zarr3", "shards"]
PLACE = {"time": np.arange(4), "lat": np.linspace(40, 41, 4), "lon": np.linspace(1, 2, 6)}
FEW = settings(
    derandomize=True,
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
NUMBERS = itertools.count()  # a new name: xarray keeps files of the same name open


def write(
    folder: Path,
    kind: str,
    stored: NDArray,
    attrs: dict[str, Any],
    absent: NDArray[np.bool_] | None = None,
    fill: Any = 0,
) -> Path:
    """Write stored numbers as they are; `absent` are chunks of `CHUNK` that are not written."""
    path = folder / f"{next(NUMBERS)}.{'zarr' if kind in STORES else 'nc'}"
    if kind not in STORES:
        attrs = dict(attrs)
        with netCDF4.Dataset(path, "w", format=kind) as file:
            for dim, values in PLACE.items():
                file.createDimension(dim, len(values))
                file.createVariable(dim, values.dtype.str[1:].replace("i8", "i4"), (dim,))
                file[dim][:] = values
            file["time"].units = "days since 2020-01-01"
            fill_value = attrs.pop("_FillValue", None)
            sst = file.createVariable("sst", stored.dtype.str[1:], DIMS, fill_value=fill_value)
            sst.set_auto_maskandscale(False)
            sst.setncatts(attrs)
            sst[:] = stored
        return path
    version = 2 if kind == "zarr2" else 3
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for name, values in {**PLACE, "sst": stored}.items():
        own: dict[str, Any] = {"chunks": values.shape}
        if name == "sst":
            own = {"chunks": CHUNK, "fill_value": fill}
            if kind == "shards":
                own["shards"] = (2, 4, 6)
        dims = DIMS if name == "sst" else (name,)
        if version == 3:
            own["dimension_names"] = dims
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, **own)
        if version == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = list(dims)
        if name != "sst":
            array[:] = values
    group["time"].attrs["units"] = "days since 2020-01-01"
    plain = {k: np.asarray(v).tolist() for k, v in attrs.items()}
    group["sst"].attrs.update(plain)
    left_out = np.zeros((4, 1, 2), bool) if absent is None else absent
    with zarr.config.set({"array.write_empty_chunks": True}):
        array = zarr.open_group(path, mode="r+")["sst"]
        for k, half in itertools.product(range(4), range(2)):
            if not left_out[k, 0, half]:
                array[k, :, 3 * half : 3 * half + 3] = stored[k, :, 3 * half : 3 * half + 3]
    return path


def check(path: Path, expected: NDArray) -> None:
    """The field is as expected, read whole and in blocks, and every gap is accounted for."""
    for chunks in (None, {"time": 1, "lon": 2}):
        with sio.open(path, chunks=chunks) as ds:
            np.testing.assert_allclose(ds.sst.transpose(*DIMS).values, expected, rtol=1e-6)
            part = ds.sst[1, [0, 2], 2:5].values
            np.testing.assert_allclose(part, expected[1, [0, 2], 2:5], rtol=1e-6)
    account = sio.missing_values(path)["sst"]
    assert account.size == expected.size and account.total == np.isnan(expected).sum()
    assert min(account.counts.values(), default=0) >= 0


RULES = ["_FillValue", "missing_value", "both", "two", "text", "default", "unpacked", "array"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, NDArray, dict[str, Any], Any, NDArray]:
    """A file's kind, stored numbers, attributes, array fill value, and the decoded field."""
    kind = draw(st.sampled_from(NETCDF + STORES))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rule = draw(st.sampled_from(RULES))
    if kind == "NETCDF3_CLASSIC" and dtype.kind == "u":
        dtype = np.dtype(f"i{dtype.itemsize}")
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    numbers = rng.integers(0, 90, SHAPE).astype(dtype)
    numbers[1, 2, 3] = 0  # a value like any other
    gap = rng.random(SHAPE) < draw(st.sampled_from([0.0, 0.3]))
    attrs: dict[str, Any] = {}
    truth = numbers.astype("f8")
    if dtype.kind != "f":
        attrs = {"scale_factor": np.float32(0.5), "add_offset": np.float32(10)}
        truth = truth * 0.5 + 10
    fill, one, other = 0, dtype.type(100), dtype.type(110)
    missing = np.full(SHAPE, one)
    if rule in ("_FillValue", "both"):
        attrs["_FillValue"] = one
    if rule == "both":
        attrs["missing_value"] = other
        missing = np.where(rng.random(SHAPE) < 0.5, one, other).astype(dtype)
    if rule == "missing_value":
        attrs["missing_value"] = np.float64(100)
    if rule == "two":
        attrs["missing_value"] = np.array([one, other])
        missing = np.where(rng.random(SHAPE) < 0.5, one, other).astype(dtype)
    if rule == "text":
        attrs["missing_value"] = " 100. "
        if dtype.kind != "f":
            attrs["scale_factor"], attrs["add_offset"] = "5e-1f", "10"
    if rule == "unpacked":
        attrs["missing_value"] = np.float64(1e20)
        if dtype.kind == "f":
            missing = np.full(SHAPE, dtype.type(1e20))
        else:
            gap[:] = False
    if rule == "default":
        number = netCDF4.default_fillvals[dtype.str[1:]]
        missing = np.full(SHAPE, dtype.type(number))
        if dtype.itemsize == 1:  # only whole images
            gap = np.broadcast_to(gap[:, :1, :1], SHAPE)
        if kind == "zarr2" and dtype.kind != "f":  # its array has a fill value: another
            gap = np.zeros(SHAPE, bool)
    if rule == "array":
        fill = 100
        if kind not in STORES:
            gap[:] = False
    if kind == "zarr2" and dtype.kind != "f" and rule in ("default", "array"):
        # of whole numbers without a missing value of their own, 0 is taken as missing
        fill = fill or 127
    numbers[gap] = missing[gap]
    return kind, numbers, attrs, fill, np.where(gap, np.nan, truth)


@given(case=cases())
@FEW
def test_missing_values_are_gaps_and_values_are_not(tmp_path, case):
    kind, numbers, attrs, fill, truth = case
    check(write(tmp_path, kind, numbers, attrs, fill=fill), truth)


@pytest.mark.parametrize("kind", STORES)
@given(
    dtype=st.sampled_from(DTYPES),
    absent=st.lists(st.booleans(), min_size=8, max_size=8),
    declared=st.booleans(),
    fill=st.sampled_from([0, 3, 100]),
)
@FEW
def test_an_absent_chunk_is_a_gap(tmp_path, kind, dtype, absent, declared, fill):
    """Whatever the fill value is; a stored 0 is a value, and so is a stored 3 that nobody means."""
    stored = np.random.default_rng(0).integers(0, 3, SHAPE).astype(dtype)
    truth = stored.astype("f8")
    attrs: dict[str, Any] = {}
    if stored.dtype.kind != "f":
        attrs["scale_factor"], truth = np.float32(0.5), truth * 0.5
    if declared:
        attrs["_FillValue"] = stored.dtype.type(99)
    if kind == "zarr2" and stored.dtype.kind != "f" and fill == 0 and not declared:
        truth = np.where(stored == 0, np.nan, truth)  # as xarray reads and writes whole numbers
    holes = np.reshape(absent, (4, 1, 2))
    path = write(tmp_path, kind, stored, attrs, holes, fill)
    check(path, np.where(np.kron(holes, np.ones(CHUNK)) > 0, np.nan, truth))


def test_zeros_in_format_2_are_counted(tmp_path):
    stored = np.ones(SHAPE, "f4")
    stored[0, 0, :2] = 0
    account = sio.missing_values(write(tmp_path, "zarr2", stored, {}))["sst"]
    assert account.total == 0
    assert "2 values equal 0, the default fill value of the Zarr array" in account.warnings[0]


def test_whole_zeros_in_format_2_are_gaps_and_named(tmp_path):
    """xarray puts ``_FillValue`` into the fill value of the array, and null where there is none."""
    stored = np.ones(SHAPE, "i2")
    stored[0, 0, :2] = 0
    path = write(tmp_path, "zarr2", stored, {"scale_factor": 0.5})
    check(path, np.where(stored == 0, np.nan, 0.5))
    account = sio.missing_values(path)["sst"]
    assert str(account) == "2 by Zarr fill_value 0"
    assert "2 values equal 0, the fill value of the Zarr array" in account.warnings[0]


def test_where_format_2_was_left_at_zero_the_default_fill_value_is_a_gap_too(tmp_path):
    stored = np.ones(SHAPE, "i2")
    stored[0, 0, :2], stored[1, 0, 0] = netCDF4.default_fillvals["i2"], 0
    path = write(tmp_path, "zarr2", stored, {"scale_factor": 0.5})
    check(path, np.where(stored == 1, 0.5, np.nan))
    account = sio.missing_values(path)["sst"]
    assert "1 by Zarr fill_value 0" in str(account) and "2 by" in str(account)


def test_absent_chunks_are_counted_and_named(tmp_path):
    holes = np.zeros((4, 1, 2), bool)
    holes[2] = True
    account = sio.missing_values(write(tmp_path, "zarr3", np.ones(SHAPE, "f4"), {}, holes))["sst"]
    assert str(account) == "24 by absent Zarr chunks"
    assert "24 values lie in chunks that the Zarr store does not hold" in account.warnings[0]


def test_own_stores_read_the_same(tmp_path):
    """A chunk of nothing but the packed 0 is not stored, and is no gap in a store of sstfill."""
    ds = xr.Dataset({"sst": (DIMS, np.full(SHAPE, 5.0, "f4"))}, PLACE)
    ds.sst.encoding = {"dtype": "i2", "scale_factor": 0.1, "add_offset": 5.0, "_FillValue": -9}
    sio.write(ds, tmp_path / "own.zarr")
    assert not list((tmp_path / "own.zarr" / "sst").rglob("c/*/*"))
    with sio.open(tmp_path / "own.zarr") as again:
        assert (again.sst == 5).all()


def test_unsigned_missing_values(tmp_path):
    """xarray converts ``_FillValue`` of ``_Unsigned`` variables, and forgets ``missing_value``."""
    stored = np.full(SHAPE, 100, "i1")
    stored[0, 0, :3] = -1, -2, -3
    attrs = {"_Unsigned": "true", "scale_factor": 0.5, "_FillValue": np.int8(-1)}
    path = write(tmp_path, "NETCDF4", stored, {**attrs, "missing_value": np.int8(-2)})
    truth = np.full(SHAPE, 50.0)
    truth[0, 0, :3] = np.nan, np.nan, 126.5
    check(path, truth)


def test_an_image_of_bytes_is_never_written_or_counted(tmp_path):
    stored = np.full(SHAPE, 7, "u1")
    stored[1] = stored[3, 0, 0] = 255
    path = write(tmp_path, "NETCDF4", stored, {"scale_factor": 1.0})
    truth = stored.astype("f8")
    truth[1] = np.nan
    check(path, truth)
    images, others = sio.missing_values(path)["sst"].warnings
    assert images.startswith("1 images hold nothing but 255")
    assert others.startswith("1 values equal 255")


@pytest.mark.parametrize("name", ["plain", "packed", "floats"])
def test_what_the_file_declares_stays_in_the_encoding(tmp_path, name):
    """What is declared to the decoder in addition does not show."""
    attrs: dict[str, Any] = {"packed": {"scale_factor": 0.5, "_FillValue": np.int16(-9)}}.get(
        name, {"missing_value": np.float32(4)} if name == "floats" else {}
    )
    stored = np.ones(SHAPE, "i2" if name == "packed" else "f4")
    path = write(tmp_path, "NETCDF4", stored, attrs)
    with sio.open(path) as ds, xr.open_dataset(path) as plain:
        own = {k: v for k, v in ds.sst.encoding.items() if k != TAKEN}
        xr.testing.assert_identical(ds, plain)
        assert own == plain.sst.encoding


def test_text_that_is_no_number(tmp_path, caplog):
    stored = np.ones(SHAPE, "i2")
    path = write(tmp_path, "NETCDF4", stored, {"scale_factor": "half"})
    with pytest.raises(ReadError, match="scale_factor of 'sst' is 'half'"):
        sio.open(path)
    path = write(tmp_path, "NETCDF4", stored, {"scale_factor": "0.5", "missing_value": "none"})
    for _ in range(2):
        with sio.open(path) as ds:
            assert (ds.sst == 0.5).all()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "scale_factor '0.5' is text; it is read as the number 0.5" in said[0]
    assert "missing_value 'none' is not a number" in said[1]


def test_a_named_range_that_removes_much(tmp_path):
    stored = np.arange(96, dtype="i2").reshape(SHAPE)
    attrs = {"scale_factor": 0.01, "valid_range": np.array([0, 40], "i2")}
    account = sio.missing_values(write(tmp_path, "NETCDF4", stored, attrs))["sst"]
    assert account.counts["valid_range [0, 40]"] == 55
    (said,) = account.warnings
    assert "valid_range [0, 40] removes 55 of 96 values (57.3 %), from 0.41 to 0.95" in said
    assert "those kept lie from 0 to 0.4" in said


def test_a_range_in_other_units(tmp_path):
    """Floats are in unpacked units by the conventions; these were meant as packed ones."""
    stored = np.arange(1000, 1096, dtype="i2").reshape(SHAPE)
    attrs = {"scale_factor": 0.01, "valid_min": 900.0, "valid_max": 2000.0}
    account = sio.missing_values(write(tmp_path, "NETCDF4", stored, attrs))["sst"]
    (said,) = account.warnings
    assert "removes 96 of 96 values (100.0 %)" in said
    assert "in packed units it would remove 0: is it in other units?" in said


def test_junk_outside_a_range_is_no_warning(tmp_path):
    stored = np.ones(SHAPE, "f4")
    stored[:2] = -999
    attrs = {"valid_min": np.float32(0), "valid_max": np.float32(30)}
    account = sio.missing_values(write(tmp_path, "NETCDF4", stored, attrs))["sst"]
    assert account.total == 48 and not account.warnings


def test_quality_counts_after_the_other_rules(tmp_path):
    stored = np.ones(SHAPE, "f4")
    stored[0] = -9
    path = write(tmp_path, "NETCDF4", stored, {"_FillValue": np.float32(-9)})
    with netCDF4.Dataset(path, "a") as file:
        quality = file.createVariable("quality_level", "i1", DIMS)
        quality[:] = 5
        quality[:2] = 1
    account = sio.missing_values(path, quality_level=3)["sst"]
    assert str(account) == "24 by _FillValue -9, 24 by quality_level below 3"


def test_raw_numbers_are_those_of_the_file(tmp_path):
    """Other readers of raw numbers see what is stored, and the attributes as they are."""
    path = write(tmp_path, "NETCDF4", np.ones(SHAPE, "f4"), {})
    with guard.open_dataset(path, mask_and_scale=False) as raw:
        assert "missing_value" not in raw.sst.attrs and TAKEN not in raw.sst.encoding
