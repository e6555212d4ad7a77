# SPDX-License-Identifier: Apache-2.0
"""A small daily ocean in Zarr, archives that grow from it, and what two stores have in common."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sstfill.archive import job, verify
from sstfill.archive.source import ArchiveSource
from sstfill.methods.common import sampling
from sstfill.methods.interpolation import fitted as interpolate
from sstfill.validation.withholding import runs

T, Y, X = 20, 20, 14
CORE = (8, 16, 16)
UNITS = 3 * 2
METHOD = interpolate.Interpolate(space=True)


def small_units(monkeypatch: Any) -> None:
    """Make work units, what interpolation sees around them, and the choice of withheld clouds
    small.
    """
    monkeypatch.setattr(sampling, "CORE", CORE)
    monkeypatch.setattr(sampling, "TRIAL", (8, 16, 16))
    monkeypatch.setattr(sampling, "TRIALS", 1)
    # as in all tests; a process of its own that calls this would choose among six
    monkeypatch.setattr(runs, "CANDIDATES", 2)
    for name, value in {"STEPS": 3, "DAYS": 3.0, "SPACE": 3}.items():
        monkeypatch.setattr(interpolate, name, value)


def ocean(days: int = T, ny: int = Y, nx: int = X, seed: int = 1, dtype: str = "f4") -> xr.Dataset:
    """A smooth series under clouds, with an island; values are whole hundredths, so that they can
    be packed.
    """
    rng = np.random.default_rng(seed)
    t, y, x = np.ogrid[:days, :ny, :nx]
    sst = 18 + 3 * np.sin(2 * np.pi * (t / 12 + y / ny)) + np.cos(2 * np.pi * x / nx + t / 5)
    clouds = (
        rng.random((days, -(-ny // 4), -(-nx // 4))).repeat(4, 1).repeat(4, 2)[:, :ny, :nx] < 0.5
    )
    land = (y >= 12) & (y < 16) & (x >= 3) & (x < 9)
    values = np.where(
        clouds | land, np.nan, np.round(sst + rng.normal(0, 0.1, sst.shape), 2)
    ).astype(dtype)
    coords = {
        "time": np.datetime64("2021-03-01") + np.arange(days).astype("timedelta64[D]"),
        "lat": ("lat", np.linspace(41, 40, ny), {"units": "degrees_north"}),
        "lon": ("lon", np.linspace(5, 6, nx), {"units": "degrees_east"}),
    }
    field = xr.DataArray(
        values, coords, ("time", "lat", "lon"), name="sst", attrs={"units": "degC"}
    )
    return field.to_dataset()


def put(
    ds: xr.Dataset,
    path: Path,
    chunks: tuple[int, ...] | None = None,
    *,
    zarr_format: int = 3,
    encoding: dict[str, Any] | None = None,
) -> Path:
    """Write an archive: a day a chunk by default; a NetCDF file where the name says so."""
    shutil.rmtree(path, ignore_errors=True)
    if path.suffix == ".nc":
        ds.to_netcdf(path, encoding=encoding)
        return path
    first = next(iter(ds.data_vars.values()))
    own = {
        str(n): {"chunks": chunks or (1, *first.shape[1:])} | (encoding or {}).get(str(n), {})
        for n in ds.data_vars
    }
    ds.drop_encoding().to_zarr(path, encoding=own, zarr_format=zarr_format, consolidated=False)
    return path


def write(ds: xr.Dataset, path: Path, day: int) -> None:
    """Write one image of an archive again, in place."""
    box = ds.isel(time=slice(day, day + 1)).drop_vars(["lat", "lon"])
    box.to_zarr(path, region={"time": slice(day, day + 1)}, consolidated=False)


def append(ds: xr.Dataset, path: Path) -> None:
    """Append images to an archive."""
    ds.to_zarr(path, append_dim="time", consolidated=False)


def revised(ds: xr.Dataset, day: int, by: float = 0.5) -> xr.Dataset:
    """The same with one image changed."""
    changed = ds.copy(deep=True)
    changed["sst"][day] += by
    return changed


def moved(
    home: Path, folder: Path, source: str = "in.zarr", filled: str = "out.zarr"
) -> tuple[Path, Path]:
    """Copy the archive, its output and the job of a first fill, as if it had been done there."""
    for part in (source, filled, f"{filled}.job"):
        shutil.copytree(home / part, folder / part)
    archive = folder / source
    stats = ArchiveSource(path=str(archive)).stats()
    for path in (folder / f"{filled}.job/days").iterdir():
        dataclasses.replace(job.Days.load(path), stats=stats).save(path)
    return archive, folder / filled


def loaded(path: Path) -> xr.Dataset:
    with xr.open_zarr(path) as held:
        return held.load()


def difference(one: Path, other: Path, *, revision: bool = True) -> str:
    """What differs between two filled stores, but for the time of making; nothing where they are
    the same.
    """
    a, b = loaded(one), loaded(other)
    if set(a.variables) != set(b.variables):
        return f"variables {set(a.variables) ^ set(b.variables)}"
    for name in a.variables:
        if name == "sstfill_revision" and not revision:
            continue
        x, y = a[name], b[name]
        same = x.dtype == y.dtype and x.dims == y.dims and x.shape == y.shape and x.attrs == y.attrs
        if not same or x.values.tobytes() != y.values.tobytes():
            return f"{name} differs"
    return ""


def sound(out: Path, source: Path) -> None:
    """Assert that a store is whole, its observed values are those of the archive, and nothing is
    left behind.
    """
    found = verify(out, source)
    assert found.wrong == ()
    left = {p.name for p in job.FillJob(out).folder.iterdir()}
    assert left == {"job.json", "model", "days"}, left
    assert not [
        p.name for p in out.parent.iterdir() if p.name.startswith(".") or p.name.endswith(".tmp")
    ]
