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

import sstfill
from sstfill.archive import fill_archive
from sstfill.describe import describe
from sstfill.errors import InputError, OptionError
from sstfill.fields import grid
from sstfill.fields.reading.sea import find_sea, is_of_the_sea, locate_sea, sea_mask
from sstfill.methods import METHODS


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


@pytest.mark.parametrize("kind", ["values", "masks", "words"])
def test_where_a_flag_is_missing_nobody_knows_of_sea(kind):
    """It is NaN, and not the 0 that stands for the sea here."""
    meanings = {"flag_meanings": "sea land lake"}
    attrs = {
        "values": meanings | {"flag_values": np.array([0, 1, 2], "i1")},
        "masks": meanings
        | {"flag_values": np.array([0, 1, 2], "i1"), "flag_masks": np.array([3, 3, 3], "i1")},
        "words": {"long_name": "0=sea, 1=land, 2=lake"},
    }
    mask = xr.DataArray([[0.0, 1.0, np.nan, 2.0]], dims=("lat", "lon"), attrs=attrs[kind])
    field = xr.DataArray(np.ones((1, 1, 4)), dims=("time", "lat", "lon"))
    assert sea_mask(field, mask).values.tolist() == [[True, False, False, False]]
    assert sea_mask(field, mask, lakes=True).values.tolist() == [[True, False, False, True]]


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
    with caplog.at_level(logging.INFO, logger="sstfill.fields.reading.sea"):
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


MUR = (
    "1=open-sea, 2=land, 5=open-lake, 9=open-sea with ice in the grid, "
    "13=open-lake with ice in the grid"
)
MUR_CF = "open_sea land open_lake open_sea_with_ice_in_the_grid open_lake_with_ice_in_the_grid"
BITS = np.array([1, 2, 4, 8, 16], "i1")


@pytest.mark.parametrize(
    ("name", "values", "attrs", "sea"),
    [
        ("mask_rho", [1.0, 0.0], {"flag_values": [0.0, 1.0], "flag_meanings": "land water"}, "10"),
        ("mask_rho", [1.0, 0.0], {}, "10"),
        ("tmask", [1, 0], {}, "10"),
        ("tmaskutil", [1, 0], {}, "10"),
        ("wet", [1.0, 0.0], {"long_name": "0 if land, 1 if ocean at tracer points"}, "10"),
        ("lsm", [0.2, 0.7], {"units": "(0 - 1)", "long_name": "Land-sea mask"}, "10"),
        ("landsea", [0, 1], {}, "10"),
        ("sftlf", [20.0, 80.0], {"units": "%"}, "10"),
        ("sftof", [80.0, 20.0], {"units": "%", "standard_name": "sea_area_fraction"}, "10"),
        ("f", [0.2, 0.8], {"standard_name": "land_area_fraction", "units": "1"}, "10"),
        ("f", [80.0, 20.0], {"standard_name": "sea_area_fraction", "units": "percent"}, "10"),
        ("mask", [100.0, 0.0], {"units": "%", "long_name": "per cent of water"}, "10"),
        ("mask", [100.0, 0.0], {"long_name": "percentage of ocean in the cell"}, "10"),
        ("mask", [20, 90], {"long_name": "per cent of land"}, "10"),
        ("mask", [0, 1], {"long_name": "land mask"}, "10"),
        ("mask", [0, 1], {"long_name": "mask (0=sea, 1=land)"}, "10"),
        ("mask", [3, 1], {"comment": "land: 1; sea: 3"}, "10"),
        ("mask", [1, 3], {"comment": "b0: open sea; b1: land; b2: lake surface"}, "10"),
        ("mask", [1, 0], {"flag_values": [0, 1], "flag_meanings": "land not_land"}, "10"),
        ("surface", [7, 3], {"flag_values": [3, 7], "flag_meanings": "land sea"}, "10"),
        ("mask", [1, 2, 5, 9, 13], {"flag_masks": BITS, "flag_meanings": MUR}, "10111"),
        ("mask", [1, 2, 5, 9, 13], {"flag_masks": BITS, "flag_meanings": MUR_CF}, "10111"),
        (
            "mask",
            [1, 2, 5, 9, 13],
            {"flag_values": [1, 2, 5, 9, 13], "flag_masks": BITS, "flag_meanings": MUR_CF},
            "10111",
        ),
    ],
)
def test_masks_of_models_and_products(name, values, attrs, sea):
    da = xr.DataArray([values], dims=("y", "x"), attrs=attrs)
    found = find_sea(xr.Dataset({name: da}))
    assert found is not None
    assert "".join(str(int(at)) for at in found.values[0]) == sea


@pytest.mark.parametrize("meanings", [MUR, MUR_CF])
@pytest.mark.parametrize(("lakes", "sea"), [(True, "10111"), (False, "10010"), (None, "10111")])
def test_lakes_are_as_the_user_wants(meanings, lakes, sea):
    attrs = {"flag_masks": "1b, 2b, 4b, 8b, 16b", "flag_meanings": meanings}
    da = xr.DataArray([[1, 2, 5, 9, 13]], dims=("y", "x"), attrs=attrs)
    found = find_sea(xr.Dataset({"mask": da}), lakes=lakes)
    assert "".join(str(int(at)) for at in found.values[0]) == sea


@pytest.mark.parametrize(
    ("name", "values", "attrs"),
    [
        ("mask", [0, 1, 4], {"long_name": "number of the basin"}),
        ("land_sea_mask", [0, 1, 7], {}),
        ("mask", [0, 1, 1], {"long_name": "quality mask"}),
        ("mask", [0, 1, 1], {"long_name": "cloud mask"}),
        ("mask", [0, 0, 0], {}),
        ("mask", [1, 5, 9], {"comment": "bits as in the guide"}),
        ("mask_u", [0, 1, 1], {}),
        ("umask", [0, 1, 1], {}),
        ("mask", ["a", "b", "c"], {}),
    ],
)
def test_a_mask_that_is_none_is_passed_over(name, values, attrs):
    da = series()
    row = xr.DataArray(np.resize(values, 6), dims="lon", attrs=attrs)
    mask = row.expand_dims(lat=da.lat).transpose("lat", "lon").drop_vars("lat")
    assert find_sea(xr.Dataset({name: mask})) is None
    da[0, 1, 1] = np.nan
    filled = sstfill.fill(da.to_dataset().assign({name: mask}), "interpolate", score=False)
    assert (filled.sst_source != 4).all()


def test_a_mask_that_is_none_is_refused_as_sea():
    basins = xr.DataArray(np.resize([0, 1, 4], (5, 6)), dims=("lat", "lon"), name="mask")
    with pytest.raises(InputError, match="holds 0 to 4; give 1 at sea"):
        sstfill.fill(series().where(lambda da: da < 16), "interpolate", sea=basins)


def test_masks_of_depths_and_of_other_grids():
    field = grid.standardise(series(2, 1, 3))
    tmask = xr.DataArray([[[1, 0, 1]], [[0, 0, 1]]], dims=("nav_lev", "lat", "lon"))
    umask = xr.DataArray(np.ones((4, 9)), dims=("y", "x"))
    ds = xr.Dataset({"tmask": tmask, "sea_mask": umask})
    found = locate_sea(field, ds, np.ones((1, 3), bool))
    assert found.mask.values.tolist() == [[True, False, True]]
    assert found.origin == "from variable 'tmask'"


@pytest.mark.parametrize("name", ["landsea", "lsmask"])
@pytest.mark.parametrize("at_sea", [0, 1])
def test_a_polarity_that_products_disagree_on_is_told_by_the_observations(name, at_sea):
    field = grid.standardise(series(2, 1, 4))
    observed = np.array([[True, True, True, False]])
    mask = xr.DataArray([[at_sea, at_sea, at_sea, 1 - at_sea]], dims=("lat", "lon"))
    found = locate_sea(field, xr.Dataset({name: mask}), observed)
    assert found.mask.values.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize(
    ("name", "attrs", "sea"),
    [
        ("sst", {}, True),
        ("v", {"standard_name": "sea_surface_temperature"}, True),
        ("CHL", {"long_name": "Chlorophyll-a concentration"}, True),
        ("t", {"standard_name": "mass_concentration_of_chlorophyll_a_in_sea_water"}, True),
        ("sst", {"standard_name": "surface_temperature"}, False),
        ("lst", {"long_name": "Land surface temperature"}, False),
        ("ndvi", {"standard_name": "normalized_difference_vegetation_index"}, False),
        ("siconc", {"standard_name": "sea_ice_area_fraction"}, False),
        ("wind", {"long_name": "wind speed above the sea water"}, False),
        ("field", {}, False),
    ],
)
def test_fields_of_the_sea(name, attrs, sea):
    assert is_of_the_sea(xr.DataArray(0.0, name=name, attrs=attrs)) is sea


@pytest.fixture
def half_sea(monkeypatch):
    """A land mask by which the rows of `series` from the third on are sea, of which the last
    column lies apart."""

    def is_sea(lat, lon):
        lat, lon = np.broadcast_arrays(lat[:, None] if lat.ndim == 1 else lat, lon)
        return (lat > 35.4) & (abs(lon - 359.2) > 1)

    monkeypatch.setattr("sstfill.fields.reading.landmask.is_installed", lambda: True)
    monkeypatch.setattr("sstfill.fields.reading.landmask.is_sea", is_sea)


def seen() -> xr.DataArray:
    """A series whose sea is half of the grid; two pixels of it and the last column are never
    observed, and a lake is."""
    da = series()
    da[:, :2] = np.nan
    da[:, :, 4:] = np.nan
    da[:, 3, 1:3] = np.nan
    da[:, 0, 5] = 10
    return da


def test_a_land_mask_tells_sea_never_observed(half_sea):
    filled = sstfill.fill(seen(), "interpolate", score=False)
    source = filled.sst_source
    assert (source[:, 3, 1:3] == 1).all() and (source[:, :2, :4] == 4).all()
    assert (source[:, 2:, 5] == 4).all()  # a sea of which nothing is ever observed
    assert (source[:, 0, 5] == 0).all()  # a lake that is observed
    assert "2 pixels never observed" in filled.sst.attrs["sstfill_sea"]
    dry = sstfill.fill(seen(), "interpolate", score=False, lakes=False)
    assert dry.sst_source[0, 3, 1] == 1
    assert dry.sst_source[0, 0, 5] == 0  # observed values stay


def test_an_archive_has_the_sea_of_the_same_field_in_memory(half_sea, tmp_path):
    da = seen()
    da[1, 4, 0] = np.nan
    sstfill.io.write(da.to_dataset(), tmp_path / "in.zarr")
    for lakes in (None, False):
        out = tmp_path / f"{lakes}.zarr"
        fill_archive(tmp_path / "in.zarr", out, "interpolate", lakes=lakes)
        expected = sstfill.fill(da, "interpolate", score=False, lakes=lakes)
        with sstfill.io.open(out) as filled:
            np.testing.assert_array_equal(filled.sst_source, expected.sst_source)
    with pytest.raises(OptionError, match=r"filled with lakes False, not True; --refit"):
        fill_archive(tmp_path / "in.zarr", out, update=True, lakes=True)


def test_lakes_apart_from_the_sea_are_land_if_wanted(half_sea):
    da = seen()
    da[1, 0, 5] = np.nan
    assert sstfill.fill(da, "interpolate", score=False).sst_source[1, 0, 5] == 1
    dry = sstfill.fill(da, "interpolate", score=False, lakes=False)
    assert dry.sst_source[1, 0, 5] == 4


def test_fields_of_the_land_keep_todays_rule(half_sea):
    da = seen().rename("lst")
    da[0, 4, 0] = np.nan
    filled = sstfill.fill(da, "interpolate", score=False)
    assert (filled.lst_source[:, 3, 1:3] == 4).all()
    assert "19 never observed are taken as land" in filled.lst.attrs["sstfill_sea"]


def test_a_single_image_is_filled(half_sea):
    image = seen()[:1]
    filled = sstfill.fill(image, "interpolate", score=False)
    assert (filled.sst_source[0, 3, 1:3] == 1).all()


def test_a_field_of_another_region_than_its_grid_is_not_spread(half_sea):
    da = seen()
    da[:, 2:, 1:] = np.nan
    da[:, 2:4] = np.nan
    da[:, 0, 5] = np.nan
    da[1, 4, 0] = np.nan
    filled = sstfill.fill(da, "interpolate", score=False)
    assert int((filled.sst_source[0] != 4).sum()) == 1
    assert "less than a tenth of the sea" in filled.sst.attrs["sstfill_sea"]


def test_without_the_land_mask_pixels_never_observed_are_counted():
    da = seen()
    da[0, 4, 0] = np.nan
    filled = sstfill.fill(da, "interpolate", score=False)
    assert (filled.sst_source[:, 3, 1:3] == 4).all()
    note = "the 19 never observed are taken as land (install sstfill[landmask], or give sea="
    assert note in filled.sst.attrs["sstfill_sea"]
    assert note in describe(da).fields[0].facts["sea"]


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"auto", "gan"}))
def test_every_method_takes_sea_that_is_never_observed(method):
    rng = np.random.default_rng(1)
    da = series(10, 12, 12, lat=np.linspace(35, 36, 12), lon=np.linspace(350, 352, 12))
    da = da.where(rng.random(da.shape) > 0.2)
    da[:, 4:6, 4:6] = np.nan
    sea = xr.DataArray(np.ones((12, 12), bool), dims=("lat", "lon"))
    sea[:2, :2] = False
    da = da.where(sea)
    source = sstfill.fill(da, method, sea=sea, score=False).sst_source
    assert source[:, 4:6, 4:6].isin([1, 2]).all() and (source[:, :2, :2] == 4).all()
