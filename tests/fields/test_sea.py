# SPDX-License-Identifier: Apache-2.0
"""Sea masks: layouts, polarity, flags, matching by coordinates."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from small_fields import DIMS, series

from sstfill.errors import InputError
from sstfill.fields import grid
from sstfill.fields.sea import find_sea, sea_mask


def test_sea_is_what_was_observed_once():
    da = series()
    da[:, 0, 0] = np.nan
    da[1:, 1, 1] = np.nan
    sea = sea_mask(grid.standardise(da))
    assert (
        sea.dtype == bool
        and sea.dims == ("lat", "lon")
        and int((~sea).sum()) == 1
        and not sea[0, 0]
    )


@pytest.mark.parametrize("order", list(itertools.permutations(DIMS)))
def test_sea_mask_in_any_layout(order):
    field = grid.standardise(series())
    truth = np.arange(30).reshape(5, 6) % 3 > 0
    mask = xr.DataArray(
        truth, coords={"lat": field.lat, "lon": field.lon}, dims=("lat", "lon")
    ).astype("f4")
    mask = mask.where(mask > 0).expand_dims(time=[0, 1]).transpose(*order)
    np.testing.assert_array_equal(sea_mask(field, mask), truth)
    np.testing.assert_array_equal(sea_mask(field, mask.isel(time=0)), truth)


def test_sea_mask_is_matched_by_coordinates():
    field = grid.standardise(series(lat=np.linspace(35, 36, 5, dtype="f4")))
    lon = (np.arange(345.0, 370.0, 2.3) + 0.4 + 180) % 360 - 180
    wide = xr.DataArray(
        np.ones((9, lon.size)),
        {"latitude": np.linspace(37, 35, 9), "longitude": lon},
        ("latitude", "longitude"),
    )
    wide[8, :] = 0
    sea = sea_mask(field, wide)
    assert sea.shape == (5, 6) and not sea[0].any() and sea[1:].all()
    with pytest.raises(InputError, match=r"\(9, 11\).*does not cover.*\(5, 6\)"):
        sea_mask(field, wide.assign_coords(latitude=np.linspace(57, 55, 9)))
    with pytest.raises(InputError, match=r"\(4, 6\).*\(5, 6\)"):
        sea_mask(field, xr.DataArray(np.ones((4, 6)), dims=("y", "x")))
    with pytest.raises(InputError, match="holds 1 to 5"):
        sea_mask(field, xr.DataArray(np.array([[1, 2, 5]]), dims=("y", "x"), name="mask"))


def test_ostia_flags():
    field = grid.standardise(series(1, 1, 5))
    attrs = {"flag_meanings": "water land optional_lake_surface sea_ice optional_river_surface"}
    mask = xr.DataArray(
        [[[1.0, 2.0, 9.0, np.nan, 5.0]]], dims=("time", "lat", "lon"), attrs=attrs, name="mask"
    )
    for masks in (np.array([1, 2, 4, 8, 16], "i1"), "1b, 2b, 4b, 8b, 16b"):
        sea = sea_mask(field, mask.assign_attrs(flag_masks=masks))
        assert sea.values.tolist() == [[True, False, True, False, True]]


def test_find_sea_minds_the_polarity():
    land = xr.DataArray([[1.0, 0.0, 0.3]], dims=("y", "x"))
    sea = 1 - land
    assert find_sea(xr.Dataset({"lsm": land})).values.tolist() == [[False, True, True]]
    assert find_sea(xr.Dataset({"mask": sea})).values.tolist() == [[False, True, True]]
    assert find_sea(xr.Dataset({"m": land.assign_attrs(standard_name="land_binary_mask")}))[0, 1]
    assert not find_sea(xr.Dataset({"lsm": sea.assign_attrs(standard_name="sea_binary_mask")}))[
        0, 0
    ]
    flagged = (
        land.round()
        .astype("i1")
        .assign_attrs(flag_values=np.array([0, 1]), flag_meanings="land sea")
    )
    assert find_sea(xr.Dataset({"lsm": flagged})).values.tolist() == [[True, False, False]]
    assert find_sea(xr.Dataset({"mask": land.assign_attrs(flag_meanings="clear cloudy")})) is None
    assert find_sea(xr.Dataset({"sst": series()})) is None


@pytest.mark.parametrize("chunks", [None, {"time": 1}])
@pytest.mark.parametrize("name", ["mask", "Sea", "land"])
def test_a_vague_mask_that_varies_in_time_is_no_sea(name, chunks, caplog):
    cloud = series().isnull()
    cloud[1, 2, 3] = ~cloud[1, 2, 3]
    ds = xr.Dataset({name: cloud.astype("i1").transpose("lat", "time", "lon")})
    ds = ds.chunk(chunks) if chunks else ds
    with caplog.at_level(logging.INFO, logger="sstfill.fields.sea"):
        assert find_sea(ds) is None and f"{name} varies in time" in caplog.text
        found = find_sea(ds.assign(lsm=ds[name][:, 0] * 0))
    assert found is not None and bool(found.all()) and "sea taken from lsm" in caplog.text


def test_a_mask_repeated_in_time_or_named_for_the_sea_is_taken():
    still = xr.DataArray([[1.0, np.nan, 0.0]], dims=("lat", "lon")).expand_dims(time=4)
    assert find_sea(xr.Dataset({"mask": still}))[0].values.tolist() == [[True, False, False]]
    moving = still.copy()
    moving[2] = 1.0
    assert find_sea(xr.Dataset({"mask": moving})) is None
    assert find_sea(xr.Dataset({"sea_mask": moving}))[2].all()
    assert find_sea(xr.Dataset({"mask": moving.assign_attrs(standard_name="sea_binary_mask")}))[
        2
    ].all()
    flags = {"flag_values": np.array([0, 1]), "flag_meanings": "land sea"}
    assert find_sea(xr.Dataset({"mask": moving.assign_attrs(flags)}))[2].all()


@pytest.mark.parametrize(
    ("file", "name", "has_mask"),
    [
        (
            "real/SST_MED_SST_L3S_NRT_OBSERVATIONS_010_012_a_example.nc",
            "sea_surface_temperature",
            False,
        ),
        ("real/alboran_l3s_2022.nc", "sst", True),
        ("dineof/alboran_s42_input.nc", "sst", True),
    ],
)
def test_real_files(shared_data: Path, file, name, has_mask):
    with xr.open_dataset(shared_data / file, engine="netcdf4", decode_timedelta=False) as ds:
        found = find_sea(ds)
        assert has_mask == (found is not None)
        if found is not None:
            field = grid.standardise(ds[name])
            assert (sea_mask(field, found) & (field.notnull().any("time"))).sum() > 0.8 * sea_mask(
                field
            ).sum()
