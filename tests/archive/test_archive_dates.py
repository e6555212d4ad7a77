# SPDX-License-Identifier: Apache-2.0
"""Archives whose dates are coded, apart, or of another calendar are filled as those with dates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_archives as small
import xarray as xr

from sstfill.archive.run import fill_archive
from sstfill.archive.verify import verify
from sstfill.methods import Climatology
from sstfill.nightly.recent import date


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small.small_units(monkeypatch)


def _coded(ds: xr.Dataset) -> xr.Dataset:
    days = pd.DatetimeIndex(ds.time.values)
    return ds.assign_coords(time=days.strftime("%Y%m%d").astype(int))


def _apart(ds: xr.Dataset) -> xr.Dataset:
    days = pd.DatetimeIndex(ds.time.values)
    parts = {name: ("time", getattr(days, name)) for name in ("year", "month", "day")}
    return ds.drop_vars("time").assign(parts)


def _texts(ds: xr.Dataset) -> xr.Dataset:
    days = pd.DatetimeIndex(ds.time.values)
    return ds.drop_vars("time").assign(
        Times=("time", days.strftime("%Y-%m-%d_%H:%M:%S").to_numpy().astype("U19"))
    )


def _sparse() -> xr.Dataset:
    """A series whose days are not equally far apart, so that the dates matter."""
    ds = small.ocean()
    days = np.cumsum(1 + np.arange(small.T) % 4)
    return ds.assign_coords(time=np.datetime64("2021-03-01") + days.astype("m8[D]"))


def _filled_in_two_nights(ocean: xr.Dataset, folder: Path) -> np.ndarray:
    archive, out = folder / "in.zarr", folder / "out.zarr"
    small.put(ocean.isel(time=slice(15)), archive, zarr_format=2)
    fill_archive(archive, out, small.METHOD)
    small.put(ocean, archive, zarr_format=2)
    assert fill_archive(archive, out, update=True).new == 5
    assert not verify(out, archive).wrong
    with xr.open_zarr(out) as ds:
        assert date(ds["sst"], 0) == "2021-03-02"
        return ds["sst"].values


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patched:
        small.small_units(patched)
        return _filled_in_two_nights(_sparse(), tmp_path_factory.mktemp("real"))


@pytest.mark.parametrize("spell", [_coded, _apart, _texts], ids=lambda f: f.__name__)
def test_coded_dates_fill_an_archive_as_real_ones_do(tmp_path, expected, spell):
    np.testing.assert_array_equal(_filled_in_two_nights(spell(_sparse()), tmp_path), expected)


def test_a_climatology_of_an_archive_does_not_drift_in_360_days(tmp_path):
    times = xr.date_range(
        "1990-01-15", periods=20 * 12, freq="30D", calendar="360_day", use_cftime=True
    )
    month = np.array([time.month for time in times.values])
    truth = 5 * np.sin(2 * np.pi * month / 12)[:, None, None] + np.zeros((len(times), 5, 6))
    seen = np.where(np.random.default_rng(0).random(truth.shape) < 0.3, np.nan, truth)
    ds = xr.Dataset({"sst": (("time", "lat", "lon"), seen.astype("f4"))})
    ds = ds.assign_coords(time=times, lat=np.arange(5.0), lon=np.arange(6.0))
    archive = small.put(ds, tmp_path / "in.zarr", (60, 5, 6))
    fill_archive(archive, tmp_path / "out.zarr", Climatology())
    with xr.open_zarr(tmp_path / "out.zarr") as out:
        assert float(abs(out["sst"] - truth).max()) < 0.3
