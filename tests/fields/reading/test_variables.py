# SPDX-License-Identifier: Apache-2.0
"""Which variables are filled: those left alone, those that cannot be, and names of every kind."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import xarray as xr
from small_fields import series

import sstfill
from sstfill.describe import describe
from sstfill.errors import InputError
from sstfill.fields.reading.variables import missing_means_none, names_in, pick_fields
from sstfill.synthetic import ocean


@pytest.fixture(scope="module")
def cloudy() -> xr.Dataset:
    return ocean(shape=(6, 12, 14), seed=1)[["sst"]]


def fill(ds: xr.Dataset, **options: object) -> xr.Dataset:
    return sstfill.fill(ds, "interpolate", score=False, **options)


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("ice", {}),
        ("siconc", {}),
        ("sea_ice_fraction", {}),
        ("conc", {"standard_name": "sea_ice_area_fraction"}),
        ("F15", {"long_name": "NOAA/NSIDC sea ice concentration"}),
        ("SWE", {"standard_name": "lwe_thickness_of_surface_snow_amount"}),
        ("FRP", {"long_name": "fire radiative power", "units": "MW"}),
        ("rain_rate", {"units": "mm h-1"}),
        ("precip", {}),
    ],
)
def test_missing_may_mean_none(name, attrs):
    assert missing_means_none(name, xr.DataArray(0.0, attrs=attrs))


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("sst", {"long_name": "sea surface temperature, masked under sea ice"} | {"units": "K"}),
        ("analysed_st", {"long_name": "sea and ice surface temperature", "units": "kelvin"}),
        ("chlor_a", {"long_name": "chlorophyll"}),
        ("price", {}),
        ("NDVI", {}),
    ],
)
def test_missing_means_missing(name, attrs):
    assert not missing_means_none(name, xr.DataArray(0.0, attrs=attrs))


def test_sea_ice_is_filled_only_if_it_is_named(cloudy, caplog):
    ds = cloudy.assign(ice=(cloudy.sst * 0 + 0.5).drop_attrs())
    filled = fill(ds)
    assert "ice: left alone, because missing may mean none" in caplog.text
    xr.testing.assert_identical(filled.ice, ds.ice)
    named = fill(ds, variables=["sst", "ice"])
    assert "ice_source" in named and named.ice.notnull().sum() > ds.ice.notnull().sum()


def test_a_file_of_nothing_but_sea_ice_is_filled_with_a_warning(cloudy, caplog):
    only = cloudy.drop_attrs().rename(sst="ice")
    assert "ice_source" in fill(only)
    assert "ice: filled everywhere, though missing may mean none" in caplog.text


def test_info_tells_what_is_left_alone(cloudy):
    found = describe(cloudy.assign(ice=cloudy.sst.drop_attrs()))
    assert "only if it is named" in found.passed_over["ice"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("together", [False, True])
def test_a_side_variable_that_cannot_be_filled_stops_nothing(cloudy, caplog, value, together):
    ds = cloudy.assign(wind=cloudy.sst * 0 + value if value > 0 else cloudy.sst * np.nan)
    method = sstfill.Dineof(modes=1) if together else "interpolate"
    filled = sstfill.fill(ds, method, score=False, together=together)
    assert "wind is left as it is: 'wind'" in caplog.text
    assert "sst_source" in filled and "wind_source" not in filled
    xr.testing.assert_identical(filled.wind, ds.wind)
    with pytest.raises(InputError, match="'wind'"):
        fill(ds, variables=["sst", "wind"])


def test_if_no_variable_can_be_filled_the_first_is_named(cloudy):
    with pytest.raises(InputError, match="'sst': nothing observed"):
        fill(cloudy.assign(chl=cloudy.sst) * np.nan)


def test_numbers_as_names_come_back(cloudy, caplog):
    caplog.set_level(logging.WARNING)
    bands = xr.Dataset({1: cloudy.sst, 2: cloudy.sst * 2})
    filled = fill(bands)
    assert filled[1].notnull().sum() > cloudy.sst.notnull().sum()
    assert "1_source" in filled and "2_error" in filled and not caplog.text
    assert list(fill(bands, variables=[2])) == [1, 2, "2_source", "2_error"]
    assert "climatology" in str(sstfill.score(bands, ["climatology"], variable="2"))
    assert [f.name for f in describe(bands).fields] == ["1", "2"]


def test_a_number_and_its_text_are_no_two_names(cloudy):
    with pytest.raises(InputError, match="rename one"):
        fill(xr.Dataset({1: cloudy.sst, "1": cloudy.sst}))


def test_names_with_blanks_are_filled_twice(cloudy, tmp_path):
    ds = cloudy.rename(sst="sea surface temp")
    once = fill(ds)
    again = fill(once)
    xr.testing.assert_equal(once, again)
    sstfill.io.write(once, tmp_path / "out.nc")
    with sstfill.io.open(tmp_path / "out.nc") as back:
        assert pick_fields(back) == ["sea surface temp"]


def test_blanks_in_attributes_separate_names_that_are_not_known():
    ds = xr.Dataset({"sst": 1.0, "sea temp": 1.0, "sea temp error": 1.0})
    assert names_in("a sea temp error sst sea temp", ds) == [
        "a",
        "sea temp error",
        "sst",
        "sea temp",
    ]
    assert names_in("", ds) == []


def test_all_fields_are_listed_in_their_order():
    assert pick_fields(xr.Dataset({"b": series(), "a": series()})) == ["b", "a"]
