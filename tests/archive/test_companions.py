# SPDX-License-Identifier: Apache-2.0
"""A filled archive keeps what lies beside its variables; an update writes what changed of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_archives as small
import xarray as xr

from sstfill.archive import companions, fill_archive, swap


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small.small_units(monkeypatch)
    monkeypatch.setattr(companions, "SMALL", 1000)
    monkeypatch.setattr(companions, "CHUNK", 4 * small.Y * small.X)  # four images of bytes


DAYS = 8


def surrounded(days: int = DAYS) -> xr.Dataset:
    """An ocean with a projection, areas, bounds, names, a time of each row, flags and errors."""
    ds = small.ocean(days=days)
    numbers = np.arange(ds.sst.size).reshape(ds.sst.shape)
    ds["quality_flag"] = (ds.sst.dims, (numbers % 6).astype("i1"), {"flag_values": [0, 5]})
    ds["sst_std"] = ds.sst * 0 + 0.5
    ds["sst_std"].attrs = {"valid_min": np.int8(-1), "units": "K"}
    ends = np.stack([ds.time.values, ds.time.values + np.timedelta64(1, "D")], 1)
    ds["time_bnds"] = (("time", "nv"), ends)
    ds["orbit"] = ("time", np.arange(days))
    ds["polar"] = ((), np.int32(0), {"grid_mapping_name": "polar_stereographic"})
    ds["area"] = (("lat", "lon"), np.ones((small.Y, small.X)), {"valid_min": np.int16(5)})
    ds["row_name"] = ("lat", [f"r{i}" for i in range(small.Y)])
    ds["band"] = ("band", [3.0, 4.0])
    ds["sst"].attrs |= {"grid_mapping": "polar", "cell_measures": "area: area"}
    ds["sst"].attrs |= {"valid_range": np.array([-200, 4500], "i2"), "comment": "skin"}
    return ds.assign_attrs(title="all of it")


BESIDE = ("quality_flag", "sst_std", "time_bnds", "orbit", "polar", "area", "row_name", "band")


def check(out: Path, given: xr.Dataset) -> None:
    with xr.open_zarr(out) as made:
        for name in BESIDE:
            xr.testing.assert_equal(made[name].load(), given[name])
            assert not {"valid_min", "valid_range"} & set(made[name].attrs)
        assert made.sst.attrs["grid_mapping"] == "polar" and "valid_range" not in made.sst.attrs
        assert {"valid_range", "comment"}.isdisjoint(made.sst_error.attrs)
        assert made.attrs["title"] == "all of it"


@pytest.mark.parametrize("how", ["exchanged", "moved"])
@pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification")
def test_companions_are_kept_and_updated(tmp_path, monkeypatch, how):
    if how == "moved":

        def refuse(*_: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr(swap, "exchange", refuse)
    archive, out = small.put(surrounded(), tmp_path / "in.zarr"), tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD)
    check(out, surrounded())
    small.sound(out, archive)
    chunks = sorted((out / "quality_flag" / "c").glob("*/0/0"))
    before = {path: path.stat().st_ino for path in chunks}
    longer = surrounded(days=DAYS + 2)
    moving = [name for name in longer.variables if "time" in longer[name].dims]
    last = longer[moving].isel(time=slice(DAYS, None))
    small.append(last.drop_vars(["lat", "lon"]), archive)
    fill_archive(archive, out, update=True)
    check(out, longer)
    kept = [path for path, number in before.items() if path.stat().st_ino == number]
    assert len(chunks) == DAYS // 4 and kept == chunks


@pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification")
def test_a_companion_that_alone_changed_or_went_is_followed(tmp_path):
    ds = surrounded()
    archive, out = small.put(ds, tmp_path / "in.zarr"), tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD)
    ds["quality_flag"][3] += 1
    one = ds[["quality_flag"]].isel(time=slice(3, 4)).drop_vars(["lat", "lon"])
    one.to_zarr(archive, region={"time": slice(3, 4)}, consolidated=False)
    fill_archive(archive, out, update=True)
    check(out, ds)
    ds["area"][0] = 7
    small.put(ds.drop_vars("orbit"), archive)
    fill_archive(archive, out, update=True)
    with xr.open_zarr(out) as made:
        assert "orbit" not in made and float(made.area[0, 0]) == 7
    assert not (out / "orbit").exists()
    small.sound(out, archive)
