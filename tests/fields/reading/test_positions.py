# SPDX-License-Identifier: Apache-2.0
"""Positions: named and spelled as people do, at rest or moving, with placeholders on land."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fields import series

import sstfill
from sstfill.describe import describe
from sstfill.errors import InputError
from sstfill.fields import grid
from sstfill.fields.reading.positions import at_rest, cell_km, cf_roles, declare, degrees

NY, NX = 14, 12


def curvilinear(lat: np.ndarray, lon: np.ndarray, steps: int = 6) -> xr.DataArray:
    """A series with gaps on positions ``(y, x)`` or ``(time, y, x)``."""
    dims = ("time", "nj", "ni")[3 - lat.ndim :]
    shape = (steps, *lat.shape[-2:])
    t, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    values = (15 + np.sin(x / 5 + t / 6) + np.cos(y / 6 - t / 9)).astype("f4")
    rng = np.random.default_rng(0)
    for image in values:
        row, column = rng.integers(NY - 4), rng.integers(NX - 4)
        image[row : row + 4, column : column + 4] = np.nan
    coords = {
        "time": pd.date_range("2020-01-01", periods=steps),
        "nav_lat": (dims, lat),
        "nav_lon": (dims, lon),
    }
    return xr.DataArray(values, coords, ("time", "nj", "ni"), name="sst")


def places(lat0: float = 40.0, lon0: float = -10.0, step: float = 0.25):
    return np.meshgrid(lat0 + step * np.arange(NY), lon0 + step * np.arange(NX), indexing="ij")


def plane(unit: str | None, step: float, **encoding) -> xr.DataArray:
    """A standardised field on y and x, `step` apart in some unit."""
    attrs = {} if unit is None else {"units": unit}
    y = xr.Variable("y", step * np.arange(5.0), attrs, encoding)
    x = xr.Variable("x", step * np.arange(6.0), attrs, encoding)
    return grid.standardise(
        xr.DataArray(np.ones((2, 5, 6)), {"time": [0, 1], "y": y, "x": x}, ("time", "y", "x"))
    )


@pytest.mark.parametrize(
    ("unit", "km"),
    [
        *((unit, 1.0) for unit in ("km", "KM", "kilometer", "kilometers", "Kilometres", "1000 m")),
        *((unit, 1e-3) for unit in ("m", "metre", "meters", "Metres")),
        ("cm", 1e-5),
        ("nautical_miles", 1.852),
    ],
)
def test_lengths_as_people_spell_them(unit, km):
    np.testing.assert_allclose(cell_km(plane(unit, 25.0)), 25 * km)


@pytest.mark.parametrize("unit", [None, "", "1", "pixels", "count"])
def test_an_axis_without_a_unit_counts_cells(unit):
    assert cell_km(plane(unit, 25.0)) == (1.0, 1.0)


@pytest.mark.parametrize("method", ["oi", "gan"])
def test_an_unknown_unit_is_refused_by_name_where_a_distance_is_needed(method):
    field = plane("furlongs", 5.0).rename("sst").where(lambda da: (da.x < 20) | (da.time < 1))
    with pytest.raises(InputError, match=r"'furlongs'.*\['y'\].attrs\['units'\] = 'km'"):
        sstfill.fill(field, method, score=False)
    assert sstfill.fill(field, "interpolate", score=False).sst.notnull().all()
    facts = describe(field).fields[0].facts
    assert "furlongs" in facts["grid"] and "without distances" in facts["grid"]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["degrees", "Degree", "deg", "°"]), st.floats(-70, 70), st.floats(0.01, 1.0))
def test_rotated_degrees_are_distances_on_the_sphere(unit, lat0, step):
    attrs = {"units": unit}
    rlat, rlon = lat0 + step * np.arange(7), step * np.arange(5)
    coords = {"rlat": ("rlat", rlat, attrs), "rlon": ("rlon", rlon, attrs)}
    rotated = xr.DataArray(np.ones((1, 7, 5)), coords, ("time", "rlat", "rlon"))
    usual = xr.DataArray(np.ones((1, 7, 5)), {"lat": rlat, "lon": rlon}, ("time", "lat", "lon"))
    found = cell_km(grid.standardise(rotated))
    np.testing.assert_allclose(found, cell_km(grid.standardise(usual)))


def test_the_angles_of_a_geostationary_satellite_need_its_height():
    field = plane("rad", 56e-6).rename("sst")
    with pytest.raises(InputError, match="perspective_point_height"):
        cell_km(field)
    ds = field.to_dataset().assign(goes=0)
    ds["goes"].attrs["perspective_point_height"] = 35786023.0
    ds["sst"].attrs["grid_mapping"] = "goes"
    np.testing.assert_allclose(cell_km(grid.standardise(declare(ds)["sst"])), 2.004, rtol=1e-3)
    micro = plane("microradian", 56.0, perspective_point_height=35786023.0)
    np.testing.assert_allclose(cell_km(micro), 2.004, rtol=1e-3)


def test_latitude_in_radians_and_in_km():
    usual = grid.standardise(series())
    turned = series(
        lat=("lat", np.deg2rad(usual.lat.values), {"units": "radians"}),
        lon=("lon", np.deg2rad(usual.lon.values), {"units": "rad"}),
    )
    np.testing.assert_allclose(cell_km(grid.standardise(turned)), cell_km(usual))
    projected = series(lat=("lat", np.arange(5.0), {"units": "km"}))
    with pytest.raises(InputError, match="lat is in km, not in degrees"):
        cell_km(grid.standardise(projected))


@pytest.mark.parametrize("units", [("degrees north", "degrees east"), ("deg N", "deg_E")])
def test_latitude_and_longitude_named_by_units_alone(units):
    lat, lon = places()
    da = curvilinear(lat, lon).rename(nav_lat="breite", nav_lon="laenge")
    da["breite"].attrs["units"], da["laenge"].attrs["units"] = units
    ds = declare(da.to_dataset().reset_coords(["breite", "laenge"]))
    assert "lat" in grid.standardise(ds["sst"]).coords


@pytest.mark.parametrize("chunks", [None, {"time": 2}])
def test_positions_at_rest_lose_their_time(chunks):
    lat, lon = places()
    usual = curvilinear(lat, lon)
    lat3, lon3 = (np.repeat(values[None], 6, axis=0).astype("f4") for values in (lat, lon))
    lat3[2, :3], lon3[2, :3] = np.nan, np.nan
    lat3[:, 0, 0] = lon3[:, 0, 0] = np.nan
    lat3[0, 5], lon3[0, 5] = -999, 1e20
    da = curvilinear(lat3, lon3)
    field = grid.standardise(da.chunk(chunks) if chunks else da)
    found, expected = degrees(field), degrees(grid.standardise(usual))
    for values, others in zip(found, expected, strict=True):
        assert np.isnan(values[0, 0])
        np.testing.assert_allclose(values.ravel()[1:], others.ravel()[1:], atol=1e-4)


@pytest.mark.parametrize("chunks", [None, {"time": 2}])
@pytest.mark.parametrize("declared", [True, False])
def test_positions_that_move_are_refused(chunks, declared):
    lat, lon = places()
    drift = 0.05 * np.arange(6)[:, None, None]
    da = curvilinear(np.repeat(lat[None], 6, axis=0), lon + drift)
    ds = da.to_dataset() if declared else da.to_dataset().reset_coords(["nav_lat", "nav_lon"])
    ds = ds.chunk(chunks) if chunks else ds
    with pytest.raises(InputError, match=r"latitude and longitude move in time, nav_lon by 0.05"):
        sstfill.fill(ds, "interpolate", score=False)
    assert "move in time" in describe(ds).fields[0].trouble


def test_many_positions_are_compared_at_some_steps():
    lat, lon = places()
    moving = lon + 0.5 * (np.arange(40)[:, None, None] == 39)
    da = curvilinear(np.repeat(lat[None], 40, axis=0), moving, 40).chunk(time=1)
    with pytest.raises(InputError, match="between steps 0 and 39"):
        at_rest(da["nav_lon"].chunk(time=1), "time", whole=0)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0.0, -1.0, -999.0, 1e20, 9.969209968386869e36, np.nan]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, NY - 6),
    st.integers(0, NX - 6),
)
def test_placeholders_are_no_positions(number, height, width, row, column):
    lat, lon = places()
    land = np.zeros(lat.shape, bool)
    land[row : row + height, column : column + width] = True
    da = curvilinear(np.where(land, number, lat), np.where(land, number, lon))
    field = grid.standardise(da)
    found = degrees(field)
    assert np.isnan(found[0][land]).all() and np.isnan(found[1][land]).all()
    np.testing.assert_array_equal(found[0][~land], lat[~land])
    np.testing.assert_allclose(
        cell_km(field), cell_km(grid.standardise(curvilinear(lat, lon))), rtol=0.05
    )


@settings(max_examples=40, deadline=None)
@given(st.floats(-85, 85), st.floats(-180, 179), st.sampled_from([0.01, 0.25, 1.0]))
def test_no_cell_of_a_true_grid_is_taken_for_a_placeholder(lat0, lon0, step):
    lat, lon = places(min(lat0, 89 - NY * step), lon0, step)
    turn = np.deg2rad(30)
    middle = lat.mean()
    tilted = middle + (lat - middle) * np.cos(turn) + 0.3 * (lon - lon.mean()) * np.sin(turn)
    for rows in (lat, np.clip(tilted, -90, 90)):
        found = degrees(grid.standardise(curvilinear(rows, lon)))
        assert np.isfinite(found).all()
    # through the place where latitude and longitude are both 0
    lat, lon = places(-5 * step, -5 * step, step)
    assert np.isfinite(degrees(grid.standardise(curvilinear(lat, lon)))).all()


def test_metres_that_pass_for_latitudes_are_refused():
    y, x = np.meshgrid(1e5 + 1e3 * np.arange(NY), 1e3 * np.arange(NX), indexing="ij")
    with pytest.raises(InputError, match="beyond 90 degrees; rename"):
        cell_km(grid.standardise(curvilinear(y, x)))


@pytest.mark.parametrize("method", ["interpolate", "oi"])
def test_placeholders_change_no_fill(method):
    lat, lon = places()
    true = curvilinear(lat, lon)
    true[:, :3, :4] = np.nan
    placed = true.copy()
    placed["nav_lat"] = placed["nav_lat"].where(true.notnull().any("time"), 0)
    placed["nav_lon"] = placed["nav_lon"].where(true.notnull().any("time"), 0)
    expected = sstfill.fill(true, method, score=False)
    found = sstfill.fill(placed, method, score=False)
    np.testing.assert_allclose(found.sst, expected.sst, atol=0.02)
    np.testing.assert_array_equal(found.sst_source, expected.sst_source)
    assert (found.nav_lat.values[:3, :4] == 0).all()  # what the file holds stays


def test_roles_are_those_of_the_attributes_as_they_are_now():
    """They are kept by description: what changes in place, or is done to an answer, is heeded."""
    da = series()
    assert cf_roles(da)["latitude"] == ["lat"]
    cf_roles(da)["latitude"].append("lon")
    assert cf_roles(da)["latitude"] == ["lat"]
    da.lat.attrs["units"] = "km"
    assert "latitude" not in cf_roles(da)
    da.lat.attrs["standard_name"] = "latitude"
    assert cf_roles(da)["latitude"] == ["lat"]
    assert cf_roles(da.drop_vars("lat")).keys() == cf_roles(da).keys() - {"latitude"}
