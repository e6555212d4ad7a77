# SPDX-License-Identifier: Apache-2.0
"""What is written reads back, by sstfill, xarray and netCDF4-python, whatever the packing."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill import io
from sstfill.archive import fill_archive
from sstfill.fill import fill
from sstfill.io.packing import as_given
from sstfill.methods import Interpolate

DIMS = ("time", "lat", "lon")
SHAPE = (4, 3, 5)


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A method that estimates the same value everywhere."""

    name: ClassVar[str] = "constant"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1
    value: float

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Estimate."""
        mean = xr.full_like(obs, self.value)
        return xr.Dataset({"mean": mean, "error": abs(obs * 0).fillna(0) + 0.5})


@dataclass(frozen=True)
class Stored:
    """A variable as somebody's file holds it: type, attributes, numbers."""

    dtype: str
    attrs: dict[str, Any]
    numbers: np.ndarray

    def put(self, path: Path, file_format: str = "NETCDF4") -> Path:
        """Write the file."""
        with netCDF4.Dataset(path, "w", format=file_format) as raw:
            for name, size in zip(DIMS, SHAPE, strict=True):
                raw.createDimension(name, size)
                variable = raw.createVariable(name, "f8", (name,))
                variable[:] = np.arange(size)
            raw["time"].units = "days since 2020-01-01"
            attrs = dict(self.attrs)
            fill_value = attrs.pop("_FillValue", None)
            variable = raw.createVariable("v", self.dtype, DIMS, fill_value=fill_value)
            variable.set_auto_maskandscale(False)
            variable.setncatts(attrs)
            variable[...] = self.numbers
        return path


@st.composite
def stored(draw: st.DrawFn) -> Stored:
    """Draw a packing, a fill value and a valid range in either unit."""
    dtype = draw(st.sampled_from(["i1", "u1", "i2", "u2", "i4", "f4", "f8"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    gap = rng.random(SHAPE) < 0.4
    gap[0], gap[1, 0] = False, True
    if dtype[0] == "f":
        numbers = rng.uniform(-3, 3, SHAPE).astype(dtype)
        fill_value = draw(st.sampled_from([np.nan, -999.0, 0.0, 1e20]))
        attrs: dict[str, Any] = {"_FillValue": np.dtype(dtype).type(fill_value)}
        numbers = np.where(gap, attrs["_FillValue"], np.where(numbers == 0, 1, numbers))
        whole = st.sampled_from([np.array([0, 250], "i2"), np.array([-1, 2], "i4")])
        true = st.just(np.array([-3, 3], dtype))
        valid = draw(st.none() | whole | true)
        kind = dtype
    else:
        unsigned = dtype[0] == "i" and draw(st.booleans())
        kind = dtype.replace("i", "u") if unsigned else dtype
        info = np.iinfo(kind)
        least, most = max(info.min, -30_000), min(info.max, 30_000)
        fill_value = draw(st.sampled_from([info.min, info.max, 5]))
        numbers = rng.integers(least, most, SHAPE, endpoint=True)
        numbers[numbers == fill_value] = 7
        numbers = np.where(gap, fill_value, numbers).astype(kind)
        scale = draw(st.sampled_from([0.004, 0.01, 1.0, -0.5]))
        attrs = {"scale_factor": scale, "add_offset": draw(st.sampled_from([0.0, 20.0]))}
        attrs["_FillValue"] = np.array(fill_value).astype(kind).astype(dtype)[()]
        packed = np.array([least // 2, most // 2], kind)
        unpacked = np.sort(packed * attrs["scale_factor"] + attrs["add_offset"])
        valid = draw(st.none() | st.just(packed.astype(dtype)) | st.just(unpacked))
        if unsigned:
            attrs["_Unsigned"] = "true"
            numbers = numbers.astype(dtype)
    if valid is not None:
        if draw(st.booleans()):
            attrs["valid_range"] = valid
        else:
            attrs |= {"valid_min": valid[0], "valid_max": valid[1]}
    attrs |= draw(st.sampled_from([{}, {"comment": "ours", "units": "degC"}, {"flag": np.int8(1)}]))
    return Stored(dtype, attrs, numbers.astype(dtype))


def by_netcdf4(path: Path, name: str) -> np.ndarray:
    """Read a variable by netCDF4-python, which compares stored numbers with what is declared."""
    with netCDF4.Dataset(path) as raw:
        return np.ma.filled(np.ma.asarray(raw[name][:]).astype("f8"), np.nan)


def readings(path: Path, name: str) -> dict[str, np.ndarray]:
    """Read a variable by each library."""
    read = {}
    with io.open(path) as opened:
        read["sstfill"] = opened[name].values
    how = {"consolidated": False} if path.suffix == ".zarr" else {}
    with xr.open_dataset(path, **how) as opened:
        read["xarray"] = opened[name].values
    if path.suffix == ".nc":
        read["netCDF4"] = by_netcdf4(path, name)
    return read


def check(path: Path, filled: xr.Dataset) -> None:
    """Assert that each library reads each value that is in memory."""
    given = as_given(filled["v"].variable).encoding
    packed = np.dtype(given.get("dtype", "f8")).kind in "iu"
    step = abs(float(given.get("scale_factor", 1))) * 0.51 if packed else 0.0
    for name, within in (("v", step), ("v_error", 0.0), ("v_source", 0.0)):
        for reader, values in readings(path, name).items():
            np.testing.assert_allclose(
                values,
                filled[name].values,
                rtol=1e-6,
                atol=within + 1e-5,
                err_msg=f"{reader} {name}",
            )


@given(
    source=stored(),
    estimate=st.sampled_from([0.0, -0.02, 5.0, 21.0, 500.0, 1e6, -40_000.0]),
    by=st.sampled_from(["sstfill", "xarray"]),
    suffix=st.sampled_from([".nc", ".zarr"]),
    lazy=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_every_filled_pixel_reads_back(tmp_path_factory, source, estimate, by, suffix, lazy):
    folder = tmp_path_factory.mktemp("packing")
    path, out = source.put(folder / "in.nc"), folder / f"out{suffix}"
    opener = io.open if by == "sstfill" else xr.open_dataset
    with opener(path, chunks={} if lazy else None) as ds:
        filled = fill(ds, Constant(value=estimate), score=False)
        assert not set(filled["v"].attrs) & set(filled["v"].encoding)
        if by == "sstfill":
            io.write(filled, out)
        elif suffix == ".nc":
            filled.to_netcdf(out)
        else:
            filled.to_zarr(out, zarr_format=3, consolidated=False)
        check(out, filled.compute())
    shutil.rmtree(folder)


@pytest.mark.parametrize("dtype", ["i1", "i2"])
def test_archives_read_back(tmp_path, dtype):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 250, SHAPE).astype(dtype.replace("i", "u"))
    numbers[1:3, :2] = 255
    attrs = {
        "_FillValue": np.array(255).astype(numbers.dtype).view(dtype)[()],
        "_Unsigned": "true",
        "scale_factor": 0.1,
        "add_offset": 200.0,
        "valid_range": np.array([0, 250]).astype(numbers.dtype).view(dtype),
    }
    path = Stored(dtype, attrs, numbers.view(dtype)).put(tmp_path / "in.nc")
    fill_archive(path, tmp_path / "out.zarr", Interpolate())
    with xr.open_dataset(path) as ds:
        given = ds["v"].values
    for values in readings(tmp_path / "out.zarr", "v").values():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values[np.isfinite(given)], given[np.isfinite(given)])


def test_the_quick_start_widens_what_would_wrap(tmp_path, caplog):
    attrs = {"_FillValue": np.uint8(255), "scale_factor": 0.004, "comment": "ice"}
    numbers = np.full(SHAPE, 100, "u1")
    numbers[1:3, 0] = 255
    with xr.open_dataset(Stored("u1", attrs, numbers).put(tmp_path / "in.nc")) as ds:
        with caplog.at_level(logging.WARNING, "sstfill"):
            filled = fill(ds, Constant(value=-0.02), score=False)
        assert "values of v do not fit uint8; its encoding is int32 now" in caplog.text
        assert filled["v"].attrs["comment"].startswith("ice; sstfill: stored as int32, because")
        assert filled["v"].encoding["dtype"] == np.int32
        again = fill(filled, Constant(value=0.5), score=False)
        assert again["v"].attrs["comment"].count("sstfill") == 1
        inside = fill(ds, Constant(value=0.5), score=False)
        assert inside["v"].encoding["dtype"] == np.uint8 and inside["v"].attrs["comment"] == "ice"
        lazy = fill(ds.chunk(time=2), Constant(value=0.5), score=False)
        assert lazy["v"].encoding["dtype"] == np.int32
        io.write(lazy, tmp_path / "kept.nc")  # which checks each block
    with netCDF4.Dataset(tmp_path / "kept.nc") as raw:
        assert raw["v"].dtype == np.uint8 and raw["v"].comment == "ice"
