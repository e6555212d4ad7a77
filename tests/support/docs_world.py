# SPDX-License-Identifier: Apache-2.0
"""The files and names that commands and snippets of the pages speak of, as small as they can be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
import xarray as xr

import sstfill
from sstfill.synthetic import ocean

SHAPE = (6, 8, 9)
FIRST = "2017-03-07"  # the pages draw 2017-03-11
INFO = ("ghrsst", "unwritten", "chlorophyll", "roms", "nemo", "wrf", "numbers", "groups")
"""Files of docs/howto/info.md, which stand for kinds that tests/fields/reading has."""
INIT = """\
! what docs/howto/from-dineof.md translates
data = ['in.nc#sst']
mask = ['in.nc#sea']
time = 'in.nc#time'
alpha = 0.01
numit = 3
nev = 5
neini = 1
ncv = 10
tol = 1.0e-8
nitemax = 300
toliter = 1.0e-3
rec = 1
eof = 1
norm = 0
Output = 'Output/'
results = ['filled.nc#sst']
seed = 243435
"""


def series() -> xr.Dataset:
    """A cloudy ocean of SST with its sea mask."""
    ds = ocean(shape=SHAPE, step="1D", seed=1).drop_vars("truth")
    return ds.assign_coords(time=pd.date_range(FIRST, periods=SHAPE[0]))


def chlorophyll() -> xr.Dataset:
    """Chlorophyll under the same clouds."""
    ds = series()[["sst"]].rename(sst="chl")
    attrs = {"standard_name": "mass_concentration_of_chlorophyll_in_sea_water", "units": "mg m-3"}
    anomaly = (ds["chl"] - ds["chl"].mean()).drop_attrs()
    ds["chl"] = np.exp(0.3 * anomaly).assign_attrs(attrs)
    return ds


def lay_out(folder: Path) -> None:
    """Write the files that the pages name."""
    ds = series()
    sstfill.io.write(ds, folder / "input.nc")
    sstfill.io.write(ds, folder / "archive.zarr")
    sstfill.io.write(chlorophyll(), folder / "chl.nc")
    sstfill.io.write(ds, folder / "store.zarr")
    for name in (*INFO, "in"):
        shutil.copy(folder / "input.nc", folder / f"{name}.nc")
    for number in range(3):
        sstfill.io.write(ds.isel(time=[number]), folder / f"day{number}.nc")
    (folder / "l3s" / "2017").mkdir(parents=True)
    quality = xr.full_like(ds["sst"], 5, "int8").assign_attrs(long_name="quality level")
    graded = ds[["sst"]].assign(quality_level=quality)
    for number in range(SHAPE[0]):
        sstfill.io.write(graded.isel(time=[number]), folder / f"l3s/2017/{number:02d}.nc")
    (folder / "clips").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        clip = rng.integers(0, 255, (35, 70, 66, 3), dtype=np.uint8)
        np.save(folder / f"clips/{number}.npy", clip)
    (folder / "dineof.init").write_text(INIT)
    lwp = rng.gamma(2, 30, (120, 12, 16)).astype("f4")
    lwp[:100] = 0
    times = ("time", 60.0 * np.arange(len(lwp)), {"units": "s"})
    water = xr.Dataset({"LWP": (("time", "y", "x"), lwp, {"units": "g m-2"})}, {"time": times})
    sstfill.io.write(water, folder / "lwp.zarr")
    shutil.copytree(Path(sstfill.__file__).parent / "models" / "compact", folder / "models/med")


def _filled() -> xr.Dataset:
    return sstfill.fill(_both(), "climatology", variables=["sst", "chl"])


def _both() -> xr.Dataset:
    return series().merge(chlorophyll())


def _video() -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("time", "y", "x")
    channels = {}
    gaps = rng.random((6, 10, 10)) < 0.2
    for name in ("red", "green", "blue"):
        channels[name] = (dims, np.where(gaps, np.nan, rng.random((6, 10, 10))))
    return xr.Dataset(channels, {"time": np.arange(6)})


NAMES: dict[str, Callable[[], Any]] = {
    "ClassVar": lambda: ClassVar,
    "Protocol": lambda: Protocol,
    "ds": series,
    "filled": _filled,
    "json": lambda: json,
    "limit": lambda: 0.5,
    "model": lambda: "models/med",
    "np": lambda: np,
    "sstfill": lambda: sstfill,
    "table": lambda: series().gapfill.score(methods=["climatology", "interpolate"]),
    "truth": lambda: series()["sst"],
    "video": _video,
    "xr": lambda: xr,
}
"""What a snippet may take for granted, where its page has not made it before."""
OF_PAGES: dict[str, dict[str, Callable[[], Any]]] = {"concentrations.md": {"ds": _both}}
"""What stands for something else on one page."""
MADE = {"import.md": ("archive.zarr",)}
"""What the commands of a page make, so that it must not be there before."""
