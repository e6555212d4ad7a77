# SPDX-License-Identifier: Apache-2.0
"""Positions on the sphere and the plane, with their orientation."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sstfill.fields.reading.positions import EARTH_RADIUS
from sstfill.methods.oi.geometry import cell_steps, positions

DIMS = ("time", "y", "x")
DEGREE = np.deg2rad(1) * EARTH_RADIUS


def sphere(lat, lon) -> xr.DataArray:
    return xr.DataArray(
        np.zeros((1, len(lat), len(lon))), {"lat": lat, "lon": lon}, ("time", "lat", "lon")
    )


def test_distances_are_those_of_the_great_circle() -> None:
    at = positions(sphere([44.0, 45.0], [179.5, 180.5, -178.5]))
    assert np.linalg.norm(at.xyz[1, 0] - at.xyz[0, 0]) == pytest.approx(DEGREE, rel=1e-4)
    assert np.linalg.norm(at.xyz[1, 1] - at.xyz[1, 2]) == pytest.approx(
        DEGREE * np.cos(np.pi / 4), rel=1e-4
    )
    for unit, other in ((at.northward, at.eastward), (at.eastward, at.xyz / EARTH_RADIUS)):
        np.testing.assert_allclose((unit * unit).sum(-1), 1)
        np.testing.assert_allclose((unit * other).sum(-1), 0, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_cell_steps_carry_the_orientation(sign) -> None:
    (yn, ye), (xn, xe) = cell_steps(positions(sphere(sign * np.arange(3.0), [5.0, 6.0, 7.0])))
    assert (yn, xe) == (pytest.approx(sign * DEGREE, rel=1e-3), pytest.approx(DEGREE, rel=1e-3))
    assert max(abs(ye), abs(xn)) < 1e-3 * DEGREE


def test_curvilinear_grid_with_y_eastward_and_holes() -> None:
    lon, lat = np.meshgrid(np.arange(4.0), np.arange(3.0), indexing="ij")
    lat[1, 1] = lon[1, 1] = np.nan
    field = xr.DataArray(
        np.zeros((1, 4, 3)), {"lat": (DIMS[1:], lat), "lon": (DIMS[1:], lon)}, DIMS
    )
    (yn, ye), (xn, xe) = cell_steps(positions(field))
    assert (ye, xn) == (pytest.approx(DEGREE, rel=1e-3), pytest.approx(DEGREE, rel=1e-3))
    assert max(abs(yn), abs(xe)) < 1e-3 * DEGREE
    assert np.isnan(positions(field).xyz[1, 1]).all()


def test_plane_takes_units_and_descending_y() -> None:
    y, x = ("y", [9000.0, 6000.0, 3000.0], {"units": "m"}), ("x", [1.0, 3.0], {"units": "km"})
    at = positions(xr.DataArray(np.zeros((1, 3, 2)), {"y": y, "x": x}, DIMS))
    assert at.north[:, 0].tolist() == [9.0, 6.0, 3.0] and cell_steps(at) == (
        (-3.0, 0.0),
        (0.0, 2.0),
    )
    bare = positions(xr.DataArray(np.zeros((1, 3, 2)), dims=DIMS))
    assert cell_steps(bare) == ((1.0, 0.0), (0.0, 1.0))


def test_an_axis_of_one_pixel_is_as_long_as_the_other() -> None:
    assert cell_steps(positions(sphere([0.0], [0.0]))) == ((1.0, 0.0), (0.0, 1.0))
    (yn, _), (_, xe) = cell_steps(positions(sphere([0.0], [0.0, 1.0])))
    assert abs(yn) == pytest.approx(xe)
    (yn, _), (_, xe) = cell_steps(positions(sphere([1.0, 0.0], [0.0])))
    assert yn == pytest.approx(-DEGREE, rel=1e-3) and abs(xe) == pytest.approx(DEGREE, rel=1e-3)
