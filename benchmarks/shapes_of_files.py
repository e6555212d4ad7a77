# SPDX-License-Identifier: Apache-2.0
"""What ``sstfill info`` says of ten shapes of file that people have; the page docs/howto/info.md.

    python benchmarks/shapes_of_files.py            print the page
    python benchmarks/shapes_of_files.py --write    write it

All files are made here, from one synthetic ocean (seed 1), in the shape of a product or model.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr
import zarr

from sstfill.cli import main
from sstfill.synthetic import ocean

PAGE = Path(__file__).parents[1] / "docs/howto/info.md"
OCEAN = ocean(shape=(12, 24, 30), step="1D", seed=1)[["sst", "sea"]]
SST = OCEAN["sst"]
HEAD = """# What `info` says of ten shapes of file

`sstfill info FILE` tells how a file is read before anything is filled: which variables, dates and
positions, what counts as missing and by which rule, what counts as sea, and what would be refused.
This page is made by `python benchmarks/shapes_of_files.py --write`; the files have the shape of
real ones and hold a synthetic ocean (seed 1).
"""


def ghrsst(folder: Path) -> list[Path]:
    """A level-3 GHRSST series: packed in 16 bits, with quality levels and sea ice beside it."""
    quality = xr.where(SST.notnull(), 5, 0).astype("i1")
    quality.attrs = {
        "flag_meanings": "no_data bad worst low acceptable best",
        "valid_max": np.int8(5),
    }
    quality.attrs["flag_values"] = np.arange(6, dtype="i1")
    ice = (SST * np.nan).assign_attrs(long_name="sea ice area fraction", units="1")
    kelvin = (SST + 273.15).assign_attrs(SST.attrs | {"units": "kelvin"})
    ds = xr.Dataset(
        {"sea_surface_temperature": kelvin, "quality_level": quality, "sea_ice_fraction": ice}
    )
    packing = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -32768}
    ds.to_netcdf(folder / "ghrsst.nc", encoding={"sea_surface_temperature": packing})
    return [folder / "ghrsst.nc"]


def no_fill_value(folder: Path) -> list[Path]:
    """A NetCDF file without `_FillValue`, of which one image was never written."""
    path = folder / "unwritten.nc"
    with netCDF4.Dataset(path, "w") as file:
        for dim, size in SST.sizes.items():
            file.createDimension(dim, size)
        place = {"time": "days since 2018-01-01", "lat": "degrees_north", "lon": "degrees_east"}
        for name, units in place.items():
            axis = file.createVariable(name, "f8", (name,))
            axis.units = units
            axis[:] = np.arange(12) if name == "time" else SST[name].values
        field = file.createVariable("sst", "f4", tuple(SST.sizes))
        for day in range(12):
            if day != 5:
                field[day] = SST[day].fillna(netCDF4.default_fillvals["f4"]).values
    return [path]


def zarr_fill_value(folder: Path) -> list[Path]:
    """A Zarr v3 store whose array has a fill value and no attribute for it; a chunk is absent."""
    path = folder / "store.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    dims = ["time", "lat", "lon"]
    field = group.create_array(
        "sst",
        shape=SST.shape,
        dtype="f4",
        chunks=(1, 24, 30),
        fill_value=-9999,
        dimension_names=dims,
    )
    for day in range(12):
        if day != 4:
            field[day] = SST[day].fillna(-9999).values
    for name, values in (("time", np.arange(12)), ("lat", SST.lat), ("lon", SST.lon)):
        values = np.asarray(values)
        axis = group.create_array(
            name, shape=values.shape, dtype=values.dtype, dimension_names=[name]
        )
        axis[:] = values
    group["time"].attrs["units"] = "days since 2018-01-01"
    return [path]


def chlorophyll(folder: Path) -> list[Path]:
    """Chlorophyll, a concentration."""
    attrs = {"units": "mg m-3", "long_name": "Chlorophyll Concentration, OCI Algorithm"}
    attrs["standard_name"] = "mass_concentration_of_chlorophyll_in_sea_water"
    value = np.exp((SST - SST.mean()) / 2).assign_attrs(attrs)
    xr.Dataset({"chlor_a": value}).to_netcdf(folder / "chlorophyll.nc")
    return [folder / "chlorophyll.nc"]


def roms(folder: Path) -> list[Path]:
    """A ROMS model: `ocean_time`, positions in two dimensions, `mask_rho`."""
    lon, lat = np.meshgrid(SST.lon, SST.lat)
    dims = ("ocean_time", "eta_rho", "xi_rho")
    ds = xr.Dataset(
        {"temp_sur": (dims, SST.values), "mask_rho": (dims[1:], OCEAN.sea.values.astype("f8"))},
        {"ocean_time": SST.time.values, "lat_rho": (dims[1:], lat), "lon_rho": (dims[1:], lon)},
    )
    ds["temp_sur"].attrs = {"units": "Celsius", "coordinates": "lon_rho lat_rho ocean_time"}
    ds["lat_rho"].attrs, ds["lon_rho"].attrs = {"units": "degree_north"}, {"units": "degree_east"}
    ds["temp_sur"].encoding["coordinates"] = ds["temp_sur"].attrs.pop("coordinates")
    ds.to_netcdf(folder / "roms.nc")
    return [folder / "roms.nc"]


def nemo(folder: Path) -> list[Path]:
    """A NEMO model: positions are 0 where there is only land."""
    lon, lat = np.meshgrid(SST.lon, SST.lat)
    lat[:4, :5] = lon[:4, :5] = 0
    values = SST.values.copy()
    values[:, :4, :5] = np.nan
    ds = xr.Dataset(
        {"tos": (("time_counter", "y", "x"), values, {"units": "degC"})},
        {
            "time_counter": SST.time.values,
            "nav_lat": (("y", "x"), lat, {"standard_name": "latitude", "units": "degrees_north"}),
            "nav_lon": (("y", "x"), lon, {"standard_name": "longitude", "units": "degrees_east"}),
        },
    )
    ds.to_netcdf(folder / "nemo.nc")
    return [folder / "nemo.nc"]


def numbers_for_dates(folder: Path) -> list[Path]:
    """Times that spell dates, such as 20180101."""
    numbers = [int(str(day)[:10].replace("-", "")) for day in SST.time.values]
    xr.Dataset({"sst": SST.assign_coords(time=numbers)}).to_netcdf(folder / "numbers.nc")
    return [folder / "numbers.nc"]


def wrf(folder: Path) -> list[Path]:
    """A WRF model: dates as text in `Times`, positions that repeat in time."""
    lon, lat = np.meshgrid(SST.lon, SST.lat)
    dims = ("Time", "south_north", "west_east")
    times = np.array([str(day)[:19].replace("T", "_") for day in SST.time.values], "S19")
    ds = xr.Dataset(
        {
            "Times": (("Time",), times),
            "SST": (dims, (SST + 273.15).values, {"units": "K"}),
            "XLAT": (dims, np.repeat(lat[np.newaxis], 12, 0), {"units": "degree_north"}),
            "XLONG": (dims, np.repeat(lon[np.newaxis], 12, 0), {"units": "degree_east"}),
        }
    )
    ds.to_netcdf(folder / "wrf.nc", encoding={"Times": {"char_dim_name": "DateStrLen"}})
    return [folder / "wrf.nc"]


def groups(folder: Path) -> list[Path]:
    """A NetCDF file whose variables lie in a group."""
    xr.Dataset({"sst": SST}).to_netcdf(folder / "groups.nc", group="geophysical_data")
    return [folder / "groups.nc"]


def one_file_a_day(folder: Path) -> list[Path]:
    """A folder of daily files, given on one command line."""
    paths = [folder / f"day{day:02}.nc" for day in range(12)]
    for day, path in enumerate(paths):
        xr.Dataset({"sst": SST.isel(time=[day])}).to_netcdf(path)
    return paths


SHAPES: tuple[Callable[[Path], list[Path]], ...] = (
    *(ghrsst, no_fill_value, zarr_fill_value, chlorophyll, roms),
    *(nemo, wrf, numbers_for_dates, groups, one_file_a_day),
)


def page() -> str:
    """Make each file, and return what ``sstfill info`` says of it."""
    parts = [HEAD]
    for make in SHAPES:
        with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
            paths = [path.relative_to(name) for path in make(Path(name))]
            shown = str(paths[0]) if len(paths) == 1 else f"{paths[0].name[:3]}*{paths[0].suffix}"
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                main(["info", *map(os.fspath, paths)])
        title = (make.__doc__ or "").rstrip(".")
        parts.append(f"## {title}\n\n```console\n$ sstfill info {shown}\n{said.getvalue()}```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page())
