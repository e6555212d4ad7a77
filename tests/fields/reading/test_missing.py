# SPDX-License-Identifier: Apache-2.0
"""Missing values of datasets in memory: attributes and encoding tell what a decoder overlooked."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import sstfill
from sstfill.fields.reading.missing import mask_missing
from sstfill.fields.reading.sentinels import default_fill, numbers_in
from sstfill.synthetic import ocean
from sstfill.training.data.training_field import TrainingField

DIMS = ("time", "lat", "lon")
DEFAULT = {"f4": default_fill(np.dtype("f4")), "f8": default_fill(np.dtype("f8"))}


def field(values: np.ndarray, attrs: dict | None = None, encoding: dict | None = None):
    ds = xr.Dataset({"sst": (DIMS, values, attrs or {})})
    ds.sst.encoding = encoding or {}
    return ds


@given(
    text=st.one_of(
        st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**9), 10**9)
    ).flatmap(
        lambda n: st.sampled_from([f"{n}", f" {n} ", f"{n}f", f"[{n}]"]).map(lambda t: (n, t))
    )
)
@settings(max_examples=50, deadline=None)
def test_numbers_are_read_from_text(text):
    number, spelled = text
    assert numbers_in(spelled) == [number]
    assert numbers_in(f"{spelled.strip()}, 7") in ([number, 7], None)  # not after a bracket


@pytest.mark.parametrize("text", ["", "none", "1 to 2", "0x10", "1,2,x", "--1", "true"])
def test_other_text_is_no_number(text):
    assert numbers_in(text) is None


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("lazy", [False, True])
def test_default_fill_values_in_memory(dtype, lazy, caplog):
    values = np.ones((3, 2, 2), dtype)
    values[1] = DEFAULT[dtype]
    ds = field(values)
    masked = mask_missing(ds.chunk() if lazy else ds)
    assert masked.sst.isnull().sum() == 4 and (masked.sst[0] == 1).all()
    said = [record.getMessage() for record in caplog.records]
    assert lazy or "4 values equal 9.96921e+36, NetCDF's default fill value" in said[0]


def test_a_declared_fill_value_leaves_the_default_one_alone():
    values = np.full((3, 2, 2), DEFAULT["f8"])
    assert mask_missing(field(values, encoding={"_FillValue": np.nan})).sst.notnull().all()


@pytest.mark.parametrize("dtype", ["i2", "u2", "i4"])
def test_default_fill_values_of_packed_numbers(dtype, tmp_path):
    """xarray unpacks them as it unpacks any number."""
    path = Path(tmp_path, "packed.nc")
    with netCDF4.Dataset(path, "w") as file:
        for dim, size in zip(DIMS, (3, 2, 2), strict=True):
            file.createDimension(dim, None if dim == "time" else size)
        sst = file.createVariable("sst", dtype, DIMS)
        sst.scale_factor, sst.add_offset = 0.01, 20.0
        sst.set_auto_maskandscale(False)
        sst[0], sst[2] = 5, 7  # image 1 is never written
    with xr.open_dataset(path) as ds:
        masked = mask_missing(ds.load())
    assert masked.sst[1].isnull().all() and masked.sst[[0, 2]].notnull().all()


def test_undecoded_fill_values_of_floats():
    values = np.ones((3, 2, 2), "f4")
    values[0] = -999
    assert mask_missing(field(values, {"missing_value": -999.0})).sst.isnull().sum() == 4


def test_zarr_fill_values_in_memory():
    values = np.ones((3, 2, 2), "f4")
    values[0] = -9
    encoding = {"dtype": np.dtype("f4"), "fill_value": np.float32(-9)}
    assert mask_missing(field(values, encoding=encoding)).sst.isnull().sum() == 4
    assert mask_missing(field(values * 0, encoding={"fill_value": 0})).sst.notnull().all()


def test_the_range_of_a_computed_field_may_be_in_other_units():
    """Arithmetic keeps attributes and drops the encoding."""
    celsius = field(np.full((3, 2, 2), 15.0), {"valid_min": 270.0})
    assert mask_missing(celsius).sst.notnull().all()
    kelvin = field(np.full((3, 2, 2), 15.0), {"valid_min": 270.0}, {"dtype": np.dtype("f8")})
    assert mask_missing(kelvin).sst.isnull().all()


def test_nothing_to_mask_is_no_copy():
    ds = field(np.ones((3, 2, 2)))
    assert mask_missing(ds).sst.variable._data is ds.sst.variable._data


def test_fill_masks_what_the_decoder_overlooked(tmp_path):
    values = np.random.default_rng(0).normal(15, 1, (6, 8, 8)).astype("f4")
    values[2, :4] = DEFAULT["f4"]
    filled = sstfill.fill(field(values), "interpolate", score=False)
    assert float(filled.sst.max()) < 25 and (filled.sst_source[2, :4] == 1).all()
    assert "sstfill_taken" not in filled.sst.encoding


def test_scores_and_training_read_a_dataset_in_memory_as_fill_does():
    plain = ocean(shape=(8, 12, 14), step="1D", seed=1)[["sst"]]
    holes = plain.assign(sst=plain.sst.fillna(netCDF4.default_fillvals["f4"]))
    rmse, obs = [], []
    for ds in (plain, holes):
        rmse.append(sstfill.score(ds, ["climatology"]).to_dataset().rmse.values)
        obs.append(TrainingField.of(ds, None, None, None).obs)
    np.testing.assert_array_equal(*rmse)
    xr.testing.assert_equal(*obs)
