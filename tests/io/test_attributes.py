# SPDX-License-Identifier: Apache-2.0
"""Attributes that a format cannot hold become text, wherever they stand."""

from __future__ import annotations

import datetime

import netCDF4
import numpy as np
import pytest
import xarray as xr
from small_fields import series

from sstfill import io
from sstfill.errors import WriteError

ODD = {
    "null": None,
    "true": True,
    "numpy_true": np.True_,
    "nested": {"type": {"a": [1, None]}},
    "lists": [[1, 2], [3, 4]],
    "dicts": [{"a": 1}],
    "mixed": [1, "a"],
    "empty": [],
    "long": 2**70,
    "bytes": b"a\x00b",
    "half": np.float16(0.5),
    "complex": 1 + 2j,
    "date": datetime.date(2020, 1, 2),
    "date64": np.datetime64("2020-01-02"),
    "object": object(),
    "set": {1},
    "nul": "a\x00b",
    "surrogate": "\udcff",
    "matrix": np.ones((2, 2)),
}


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("holder", ["dataset", "v", "lat", "time"])
def test_odd_attributes_are_written(tmp_path, holder, suffix):
    ds = series().rename("v").to_dataset()
    (ds if holder == "dataset" else ds[holder]).attrs |= ODD
    out = tmp_path / f"a{suffix}"
    with io.claimed(out) as output:
        output.check(ds)
        output.write(ds)
    with io.open(out) as back:
        xr.testing.assert_equal(back.load(), ds)
        attrs = (back if holder == "dataset" else back[holder]).attrs
        assert set(ODD) <= set(attrs)
        assert "1180591620717411303424" in str(attrs["long"]) and "2020-01-02" in attrs["date"]


@pytest.mark.parametrize("value", [{"a": 1}, [None], 2**70])
def test_what_compiled_code_raises_is_one_line(tmp_path, value):
    ds = series().rename("v").to_dataset()
    ds["v"].attrs["units"] = value  # xarray's own, which is left as it is
    with pytest.raises(WriteError, match=r"cannot write .*a\.nc") as refused:
        io.write(ds, tmp_path / "a.nc")
    assert "\n" not in str(refused.value)
    with io.claimed(tmp_path / "a.nc") as output, pytest.raises(WriteError, match="'v'"):
        output.check(ds)


def test_ranges_of_coordinates_are_those_of_the_stored_numbers(tmp_path):
    ds = series().rename("v").to_dataset()
    ds["lat"].attrs["valid_range"] = np.array([0, 10], "i2")  # packed, left over
    ds["lon"].attrs |= {"valid_min": -180.0, "valid_max": 370.0}
    io.write(ds, tmp_path / "a.nc")
    with netCDF4.Dataset(tmp_path / "a.nc") as raw:
        for name in ("lat", "lon", "time"):
            assert np.ma.count(raw[name][:]) == ds.sizes[name]
        assert raw["lon"].valid_max == 370.0
