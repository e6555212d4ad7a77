# SPDX-License-Identifier: Apache-2.0
"""Groups of NetCDF files and Zarr stores."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import pytest
import xarray as xr

import sstfill
from sstfill import io
from sstfill.cli import main
from sstfill.errors import OptionError, ReadError
from sstfill.synthetic import ocean


@pytest.fixture(scope="module")
def cloudy() -> xr.Dataset:
    return ocean(shape=(6, 12, 14), seed=1)[["sst"]]


@pytest.fixture(params=["in.nc", "in.zarr"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def put(ds: xr.Dataset, path: Path, group: str) -> None:
    if path.suffix == ".nc":
        ds.to_netcdf(path, group=group, mode="a" if path.exists() else "w")
    else:
        ds.to_zarr(path, group=group, mode="a", consolidated=False)


def test_the_one_group_that_holds_fields_is_read(cloudy, path):
    put(cloudy, path, "science/level3")
    with io.open(path) as found:
        xr.testing.assert_equal(found.sst, cloudy.sst)


def test_the_group_that_is_named_is_read(cloudy, path):
    put(cloudy, path, "day")
    put(cloudy + 1, path, "night")
    with pytest.raises(ReadError, match=r"several groups, day \(sst\), night \(sst\).*--group day"):
        io.open(path)
    with io.open(path, group="/night/", chunks={}) as found:
        xr.testing.assert_equal(found.sst, cloudy.sst + 1)
        assert found.chunks
    with pytest.raises(OptionError, match="no group 'nihgt'; choose from: day, night"):
        io.open(path, group="nihgt")


def test_a_group_whose_times_cannot_be_read_is_one_line_and_closed(cloudy, path, monkeypatch):
    put(cloudy, path, "day")
    opened = []

    def damaged(ds: xr.Dataset) -> xr.Dataset:
        ds.set_close(lambda: opened.append(ds))
        raise RuntimeError("NetCDF: HDF error")

    monkeypatch.setattr("sstfill.io.groups.located", damaged)
    with pytest.raises(ReadError, match=f"cannot read {path}: .*HDF error"):
        io.open(path, group="day")
    assert len(opened) == 1


def test_coordinates_of_the_groups_above_are_inherited(cloudy, path):
    put(cloudy.coords.to_dataset().assign(crs=0), path, "/")
    put(cloudy.drop_vars(list(cloudy.coords)), path, "science")
    with io.open(path) as found:
        xr.testing.assert_equal(found.sst, cloudy.sst)
        assert "crs" in found


def test_a_netcdf_group_inherits_dimensions(cloudy, tmp_path):
    """As products are written: dimensions and positions in the root, the field in a group."""
    with netCDF4.Dataset(tmp_path / "in.nc", "w") as file:
        for dim, size in cloudy.sizes.items():
            file.createDimension(dim, size)
            file.createVariable(dim, "f8", (dim,))[:] = range(size)
        inner = file.createGroup("science").createVariable("sst", "f4", tuple(cloudy.sizes))
        inner[:] = cloudy.sst.values
    with io.open(tmp_path / "in.nc") as found:
        assert set(found.coords) == {"time", "lat", "lon"}


def test_root_fields_win_and_groups_are_not_opened(cloudy, path):
    put(cloudy, path, "/")
    put(cloudy + 1, path, "other")
    with io.open(path) as found:
        xr.testing.assert_equal(found.sst, cloudy.sst)


def test_the_command_line_fills_a_group_and_an_archive_remembers_it(cloudy, path, capsys):
    put(cloudy, path, "day")
    put(cloudy + 1, path, "night")
    inside = sstfill.fill(cloudy + 1, "interpolate", score=False)
    line = ["fill", str(path), "--group", "night", "--method", "interpolate", "--no-score"]
    assert main([*line, "--out", str(path.with_name("out.nc"))]) == 0
    with io.open(path.with_name("out.nc")) as filled:
        xr.testing.assert_equal(filled.sst, inside.sst)
    out = str(path.with_name("out.zarr"))
    assert main([*line, "--out", out, "--memory", "2GB"]) == 0
    assert main(["verify", out]) == 0
    assert main([*line, "--out", out, "--update"]) == 0
    assert "nothing to do" in capsys.readouterr().out
