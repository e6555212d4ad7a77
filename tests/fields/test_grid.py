# SPDX-License-Identifier: Apache-2.0
"""Which variable, which axis, where the sea is: whatever layout a file has."""

from __future__ import annotations

from pathlib import Path

import cftime
import dask
import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fields import DIMS, series

from sstfill.errors import InputError, OptionError
from sstfill.fields import grid
from sstfill.fields.reading.dates import days_since_first
from sstfill.fields.reading.positions import cell_km
from sstfill.fields.reading.sea import sea_mask
from sstfill.fields.reading.variables import find_fields, pick_field, pick_fields


def curvilinear() -> xr.DataArray:
    j, i = np.mgrid[0:5, 0:6]
    da = series().drop_vars(["lat", "lon"]).rename(lat="nj", lon="ni")
    return da.assign_coords(
        nav_lat=(("nj", "ni"), 40 + 0.1 * j + 0.02 * i), nav_lon=(("nj", "ni"), 5 + 0.1 * i)
    )


def no_compute(*_, **__):
    raise AssertionError("a lazy array was computed")


@given(
    order=st.permutations(DIMS),
    names=st.sampled_from(
        [DIMS, ("t", "latitude", "longitude"), ("date", "y", "x"), ("a", "b", "c")]
    ),
    depth=st.booleans(),
    descending=st.booleans(),
    dtype=st.sampled_from(["f4", "f8", ">f4"]),
)
@settings(max_examples=25, deadline=None)
def test_standardise_and_restore_are_inverse(order, names, depth, descending, dtype):
    da = (
        series()
        .astype(dtype)
        .isel(lat=slice(None, None, -1 if descending else 1))
        .rename(dict(zip(DIMS, names, strict=True)))
    )
    da = da.transpose(*(dict(zip(DIMS, names, strict=True))[d] for d in order))
    da = da.expand_dims(depth=[0.5], axis=1) if depth else da
    da.encoding = {"scale_factor": 0.01}
    field = grid.standardise(da)
    assert field.dims == DIMS and field.dtype.isnative and field.dtype.itemsize == da.dtype.itemsize
    np.testing.assert_array_equal(field, da.squeeze().transpose(*names))
    back = grid.restore(field, da)
    xr.testing.assert_identical(back, da)
    assert back.dtype == da.dtype and back.encoding == da.encoding and back.dims == da.dims


def test_curvilinear_keeps_its_positions():
    da = curvilinear().transpose("ni", "time", "nj")
    field = grid.standardise(da)
    assert field.dims == ("time", "y", "x") and field["lat"].dims == ("y", "x")
    xr.testing.assert_identical(grid.restore(field, da), da)


def test_rotated_pole_keeps_true_latitude():
    da = (
        curvilinear()
        .rename(nj="rlat", ni="rlon")
        .assign_coords(rlat=np.arange(5.0), rlon=np.arange(6.0))
    )
    field = grid.standardise(da)
    assert (
        field.dims == ("time", "y", "x") and float(field["lat"].min()) == 40 and "y" in field.coords
    )


def test_plain_dims_without_coordinates():
    da = series().drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    field = grid.standardise(da.transpose("x", "y", "time"))
    assert field.dims == ("time", "y", "x") and "lat" not in field.coords
    assert cell_km(field) == (1.0, 1.0)


def test_positions_on_unindexed_dims_become_axes():
    da = series().drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    da = da.assign_coords(latitude=("y", np.arange(5.0)), longitude=("x", np.arange(6.0)))
    assert grid.standardise(da).dims == DIMS


def test_half_precision_becomes_single():
    assert grid.standardise(series().astype("f2")).dtype == np.float32


def test_dask_stays_lazy():
    da = series().chunk(time=1)
    with dask.config.set(scheduler=no_compute):
        field = grid.standardise(da.transpose("lon", "time", "lat"))
        back = grid.restore(field, da)
        sea = sea_mask(field)
        days_since_first(field), cell_km(field)
    assert all(dask.is_dask_collection(a) for a in (field, back, sea))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.isel(time=0, drop=True), "no time dimension"),
        (lambda d: d.expand_dims(depth=3), r"'depth' of size 3; choose one: .isel\(depth=0\)"),
        (lambda d: d.isel(lat=0, drop=True), "two spatial dimensions"),
        (lambda d: d.astype("i2"), "int16.*sstfill.io.open"),
        (lambda d: d.isel(time=[0, 1, 1, 2, 2]), "2020-01-02T00:00:00 twice.*drop_duplicates"),
        (lambda d: d.isel(time=slice(None, None, -1)), "sortby"),
        (lambda d: d.isel(time=[0, 2, 1]), "step 2.*sortby"),
        (lambda d: d.isel(time=[]), "no steps"),
        (lambda d: d.isel(lat=[]), "no cells"),
        (
            lambda d: d.assign_coords(
                time=pd.DatetimeIndex(["2020-01-01", "NaT", "2020-01-02", "2020-01-03"])
            ),
            "NaT",
        ),
        (lambda d: d.assign_coords(time=["a", "b", "c", "d"]), "to_datetime"),
    ],
)
def test_refusals_name_the_remedy(change, message):
    with pytest.raises(InputError, match=message):
        grid.standardise(change(series()))


def test_remedies_work():
    da = series().assign_coords(
        time=pd.DatetimeIndex(["2020-01-01", "NaT", "2020-01-02", "2020-01-03"])
    )
    assert grid.standardise(da.isel(time=da["time"].notnull().values)).sizes["time"] == 3
    assert (
        grid.standardise(series().isel(time=[0, 1, 1]).drop_duplicates("time")).sizes["time"] == 2
    )


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
def test_days_in_any_calendar(calendar):
    times = [cftime.datetime(2003, 2, d, calendar=calendar) for d in (1, 2, 5, 28)]
    assert days_since_first(grid.standardise(series(time=times))).tolist() == [0, 1, 4, 27]


def test_leap_days_follow_the_calendar():
    times = [cftime.datetime(2004, m, 1, calendar="noleap") for m in (2, 3, 4, 5)]
    assert days_since_first(grid.standardise(series(time=times))).tolist() == [0, 28, 59, 89]


@pytest.mark.parametrize(
    ("units", "step"),
    [
        (None, 1),
        ("days since 2000-01-01", 1),
        ("hours", 1 / 24),
        ("s", 1 / 86400),
        ("months", 30.436875),
    ],
)
def test_numeric_time(units, step):
    time = ("time", np.arange(4) * 2 + 7, {} if units is None else {"units": units})
    assert days_since_first(grid.standardise(series(time=time))) == pytest.approx(
        np.arange(4) * 2 * step
    )


def test_time_without_coordinate_counts_steps():
    assert days_since_first(grid.standardise(series().drop_vars("time"))).tolist() == [0, 1, 2, 3]


def test_cell_km_against_one_degree():
    field = grid.standardise(
        series(lat=np.arange(58.0, 63.0), lon=[358.0, 359.0, 0.0, 1.0, 2.0, 3.0])
    )
    dy, dx = cell_km(field)
    assert dy == pytest.approx(111.19, abs=0.02) and dx == pytest.approx(dy / 2, rel=1e-3)


def test_cell_km_of_curvilinear_projected_and_single_row():
    dy, dx = cell_km(grid.standardise(curvilinear()))
    assert 11 < dy < 11.3 and dx == pytest.approx(
        np.hypot(11.12 * np.cos(np.deg2rad(40.2)), 2.224), rel=0.02
    )
    metres = {
        "y": ("y", np.arange(5) * 50.0, {"units": "m"}),
        "x": ("x", np.arange(6) * 100.0, {"units": "m"}),
    }
    plain = series().drop_vars(["lat", "lon"]).rename(lat="y", lon="x").assign_coords(metres)
    assert cell_km(grid.standardise(plain)) == pytest.approx((0.05, 0.1))
    row = grid.standardise(series().isel(lat=[0]))
    assert row.sizes["lat"] == 1 and cell_km(row)[0] == cell_km(row)[1] > 0


def test_a_latitude_beyond_the_poles_is_refused():
    with pytest.raises(InputError, match="beyond 90"):
        cell_km(grid.standardise(series(lat=np.arange(5) * 1e5)))


def dataset() -> xr.Dataset:
    sst = series()
    flags = xr.zeros_like(sst).assign_attrs(flag_meanings="a b", flag_values=[0, 1])
    names = [
        "quality_level",
        "sses_bias",
        "analysis_error",
        "source_of_sst",
        "mask",
        "sst_dtime",
        "sst_source",
        "nobs",
    ]
    extra = {n: sst.rename(n) for n in [*names, "number_of_observations", "sst_standard_error"]}
    linked = sst.assign_attrs(ancillary_variables="weird_name")
    return xr.Dataset(
        {
            "sst": linked,
            "weird_name": sst,
            "cloud": flags,
            "count": sst.astype("i4"),
            "static": sst[0],
            **extra,
        }
    )


def test_candidates_leave_ancillary_variables_out():
    assert find_fields(dataset()) == ["sst"]
    assert pick_field(dataset()) == "sst"
    deep = xr.Dataset({"t": series().expand_dims(depth=1)})
    assert find_fields(deep) == ["t"]


def test_pick_says_what_there_is():
    two = xr.Dataset({"sst": series(), "chl": series()})
    assert pick_fields(two) == ["sst", "chl"] and pick_fields(two, "chl") == ["chl"]
    with pytest.raises(InputError, match="sst, chl; name one: variable='sst'"):
        pick_field(two)
    with pytest.raises(OptionError, match="did you mean 'sst'"):
        pick_fields(two, ["sts"])
    with pytest.raises(OptionError, match="names nothing"):
        pick_fields(two, [])
    with pytest.raises(InputError, match=r"thetao.*\.isel\(depth=0\)"):
        pick_fields(xr.Dataset({"thetao": series().expand_dims(depth=3)}))
    with pytest.raises(InputError, match="no variables"):
        pick_fields(xr.Dataset())


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("real/SST_MED_SST_L3S_NRT_OBSERVATIONS_010_012_a_example.nc", ["sea_surface_temperature"]),
        ("real/alboran_l3s_2022.nc", ["sst"]),
        ("truth/globcurrent_agulhas_2002.nc", ["u", "v", "speed"]),
        ("dineof/alboran_s42_input.nc", ["sst"]),
        ("clouds/lwp_bomex.nc", ["LWP"]),
    ],
)
def test_real_files(shared_data: Path, file, expected):
    with xr.open_dataset(shared_data / file, engine="netcdf4", decode_timedelta=False) as ds:
        assert find_fields(ds) == expected
        field = grid.standardise(ds[expected[0]])
        xr.testing.assert_identical(grid.restore(field, ds[expected[0]]), ds[expected[0]])
        assert field.dims == (("time", "y", "x") if "lwp" in file else DIMS)
        assert days_since_first(field)[0] == 0 and min(cell_km(field)) > 0


def test_a_grid_mapping_that_is_no_text_is_no_obstacle():
    assert grid.axes(series().assign_attrs(grid_mapping=np.int64(-1))).lat == "lat"
