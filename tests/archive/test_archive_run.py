# SPDX-License-Identifier: Apache-2.0
"""Filling an archive unit by unit: what comes out, whatever goes in; and that a run which was cut
short goes on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import small_archives as small
import xarray as xr

import sstfill
from sstfill import errors
from sstfill.archive import fill_archive, run


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small.small_units(monkeypatch)


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


def stop_after(monkeypatch, units: int) -> None:
    """Kill the run when it has filled so many units."""
    real, count = run.take, [0]

    def take(task, staged):
        if count[0] == units:
            raise Killed
        count[0] += 1
        real(task, staged)

    monkeypatch.setattr(run, "take", take)


def test_a_first_run_fills_all(archive, tmp_path):
    done = fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    assert (done.units, done.made, done.new, done.revised, done.influenced) == (
        small.UNITS,
        small.UNITS,
        small.T,
        0,
        0,
    )
    small.sound(tmp_path / "out.zarr", archive)
    out = small.loaded(tmp_path / "out.zarr")
    given = small.ocean().sst
    sea = given.notnull().any("time")
    assert out.sst.notnull().where(sea, True).all()
    assert not out.sst.notnull().where(~sea, False).any()
    assert out.sst_source.values[0, 13, 5] == 4
    assert (out.sstfill_revision == 1).all()
    assert float(abs(out.sst - given).max()) == 0
    assert out.attrs["history"].count("unit by unit") == 1


def test_it_agrees_with_filling_in_one_piece_where_the_window_shows_all(
    archive, tmp_path, monkeypatch
):
    from sstfill.methods.common import sampling

    monkeypatch.setattr(sampling, "CORE", (64, 64, 64))
    fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    whole = sstfill.fill(small.ocean(), small.METHOD, score=False)
    np.testing.assert_allclose(small.loaded(tmp_path / "out.zarr").sst, whole.sst, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "kind", "magnitude"),
    [
        ("interpolate", "nothing but 0", 1.0),
        ("interpolate", "constant", 1e12),
        ("interpolate", "a trend", 1e-12),
        ("interpolate", "waves", 1e12),
        ("climatology", "two values", 1e-12),
        ("climatology", "constant", 1.0),
    ],
)
def test_no_error_is_zero_whatever_the_field(tmp_path, method, kind, magnitude):
    ds = small.ocean(8)
    waves = (ds.sst - 18) / 4
    fields = {
        "constant": xr.ones_like(waves),
        "nothing but 0": xr.zeros_like(waves),
        "two values": (waves > 0).astype("f4"),
        "a trend": xr.ones_like(waves) * np.arange(1, 9)[:, np.newaxis, np.newaxis] / 8,
        "waves": waves / abs(waves).max(),
    }
    ds["sst"] = (fields[kind].where(ds.sst.notnull()) * magnitude).astype("f4")
    fill_archive(small.put(ds, tmp_path / "in.zarr"), tmp_path / "out.zarr", method)
    out = small.loaded(tmp_path / "out.zarr")
    error = out.sst_error.values[out.sst_source.values == 1]
    assert error.size > 100 and np.isfinite(error).all() and (error > 0).all()


def test_no_error_is_less_than_the_rounding_of_packed_values(tmp_path):
    ds = small.ocean(8)
    ds["sst"] = ds.sst.where(ds.sst.isnull(), 20.0)
    packed = {"sst": {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -32768}}
    path = small.put(ds, tmp_path / "in.zarr", encoding=packed)
    fill_archive(path, tmp_path / "out.zarr", "interpolate")
    error = small.loaded(tmp_path / "out.zarr").sst_error
    np.testing.assert_allclose(error.min(), 0.5 / np.sqrt(12), rtol=1e-6)


@pytest.mark.parametrize("units", [0, 4])
def test_a_run_that_was_cut_short_goes_on(archive, wanted, tmp_path, monkeypatch, units):
    out = tmp_path / "out.zarr"
    with monkeypatch.context() as m, pytest.raises(Killed):
        stop_after(m, units)
        fill_archive(archive, out, small.METHOD)
    assert not out.exists()
    asked: list[int] = []
    real = run.take
    monkeypatch.setattr(
        run, "take", lambda task, staged: (asked.append(task.number), real(task, staged))
    )
    done = fill_archive(archive, out, small.METHOD)
    assert len(asked) == small.UNITS - units
    assert done.made == small.UNITS
    assert small.difference(out, wanted) == ""
    small.sound(out, archive)


def test_a_model_that_is_fitted_is_not_fitted_again(archive, tmp_path, monkeypatch):
    with monkeypatch.context() as m, pytest.raises(Killed):
        stop_after(m, 3)
        fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    monkeypatch.setattr(run.Model, "make", lambda *_: pytest.fail("fitted again"))
    fill_archive(archive, tmp_path / "out.zarr", small.METHOD)


def test_a_line_of_the_ledger_that_was_cut_and_a_chunk_that_went_are_made_again(
    archive, wanted, tmp_path, monkeypatch
):
    out = tmp_path / "out.zarr"
    with monkeypatch.context() as m, pytest.raises(Killed):
        stop_after(m, 5)
        fill_archive(archive, out, small.METHOD)
    ledger = tmp_path / "out.zarr.job" / "next" / "ledger"
    ledger.write_bytes(ledger.read_bytes()[:-1])  # the line of unit 4
    chunks = sorted((tmp_path / "out.zarr.job/next/staged.zarr/sst_error/c").rglob("*"))
    next(c for c in chunks if c.is_file()).unlink()
    asked: list[int] = []
    real = run.take
    monkeypatch.setattr(
        run, "take", lambda task, staged: (asked.append(task.number), real(task, staged))
    )
    fill_archive(archive, out, small.METHOD)
    assert asked == [0, *range(4, small.UNITS)]
    assert small.difference(out, wanted) == ""


def test_a_day_that_is_revised_between_the_kill_and_the_next_run_and_one_that_is_revised_back(
    first_fill, tmp_path, monkeypatch
):
    ocean = small.ocean()
    archive, out = first_fill(small.T, tmp_path)
    small.write(small.revised(ocean, 9), archive, 9)
    with monkeypatch.context() as m, pytest.raises(Killed):
        stop_after(m, 2)
        fill_archive(archive, out, update=True)
    small.write(ocean, archive, 9)  # as it was
    small.write(small.revised(ocean, 19), archive, 19)
    done = fill_archive(archive, out, update=True)
    assert (done.new, done.revised) == (0, 1)
    small.sound(out, archive)
    fill_archive(archive, tmp_path / "scratch.zarr", like=out)
    assert small.difference(out, tmp_path / "scratch.zarr", revision=False) == ""


def test_a_run_that_was_cut_short_is_not_mistaken_for_another(archive, tmp_path, monkeypatch):
    with monkeypatch.context() as m, pytest.raises(Killed):
        stop_after(m, 3)
        fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    with pytest.raises(
        errors.OptionError, match=r"begun with interpolate .* remove .*next to give that up"
    ):
        fill_archive(archive, tmp_path / "out.zarr", "climatology")
    shutil.rmtree(tmp_path / "out.zarr.job/next")
    fill_archive(archive, tmp_path / "out.zarr", "climatology")
    small.sound(tmp_path / "out.zarr", archive)


def test_a_method_that_is_lent_is_there_from_the_first_moment(
    archive, wanted, tmp_path, monkeypatch
):
    with monkeypatch.context() as m, pytest.raises(Killed):
        stop_after(m, 0)
        fill_archive(archive, tmp_path / "b.zarr", like=wanted)
    fill_archive(archive, tmp_path / "b.zarr", like=wanted)
    assert small.difference(wanted, tmp_path / "b.zarr") == ""


CHUNKS = [(small.T, 7, 5), (3, 10, 9)]


@pytest.mark.parametrize("form", [*CHUNKS, "v2", "sharded", "netcdf"], ids=str)
def test_how_the_input_is_stored_does_not_matter(wanted, tmp_path, form):
    ocean = small.ocean()
    other = tmp_path / ("in.nc" if form == "netcdf" else "in.zarr")
    if form == "v2":
        small.put(ocean, other, (2, 12, 10), zarr_format=2)
    elif form == "sharded":
        small.put(ocean, other, (1, 10, 7), encoding={"sst": {"shards": (4, 20, 14)}})
    elif form == "netcdf":
        small.put(ocean, other)
    else:
        small.put(ocean, other, form)
    fill_archive(other, tmp_path / "out.zarr", small.METHOD)
    assert small.difference(tmp_path / "out.zarr", wanted) == ""


DAYS = 10
"""Days of archives that are two units long."""


def _packed_from_the_south(tmp_path: Path) -> Path:
    packed = {
        "sst": {
            "dtype": "i2",
            "scale_factor": 0.01,
            "add_offset": 20.0,
            "_FillValue": np.int16(-32768),
        }
    }
    ascending = small.ocean(DAYS).isel(lat=slice(None, None, -1))
    return small.put(ascending, tmp_path / "in.zarr", encoding=packed)


def _double_and_moved(tmp_path: Path) -> Path:
    ocean = small.ocean(DAYS, dtype="f8") + np.pi * 1e-9
    moved = ocean.transpose("lon", "lat", "time")
    return small.put(moved, tmp_path / "in.zarr", (small.X, small.Y, 4))


def _described_in_another_calendar(tmp_path: Path) -> Path:
    ocean = small.ocean(DAYS)
    days = xr.date_range("2021-02-20", periods=DAYS, calendar="360_day", use_cftime=True)
    months = ("time", ocean.time.dt.month.data)
    ocean = ocean.assign_coords(
        time=days, month=months, run=7, reference=np.datetime64("2021-01-01")
    )
    return small.put(ocean.assign_attrs(title="an ocean", history="made up"), tmp_path / "in.zarr")


def _curvilinear_with_blind_days(tmp_path: Path) -> Path:
    ocean = small.ocean(DAYS).rename(lat="y", lon="x")
    ocean["sst"][7:9] = np.nan
    lat, lon = xr.broadcast(ocean.y, ocean.x)
    return small.put(
        ocean.drop_vars(["y", "x"]).assign_coords(lat=lat, lon=lon), tmp_path / "in.zarr"
    )


def _hourly_with_a_tile_of_land(tmp_path: Path) -> Path:
    ocean = small.ocean(DAYS)
    ocean["sst"][:, 16:] = np.nan
    hours = np.datetime64("2021-03-01T00", "ns") + 3 * np.arange(DAYS).astype("timedelta64[h]")
    return small.put(ocean.assign_coords(time=hours), tmp_path / "in.zarr")


def _numbered(tmp_path: Path) -> Path:
    days = ("time", np.arange(DAYS) * 1.5, {"long_name": "days of the run"})
    return small.put(small.ocean(DAYS).assign_coords(time=days), tmp_path / "in.zarr")


def _deep_and_untimed(tmp_path: Path) -> Path:
    ocean = small.ocean(DAYS).drop_vars("time").expand_dims(depth=[0.5])
    ocean = ocean.transpose("time", "depth", "lat", "lon")
    return small.put(ocean, tmp_path / "in.zarr", (1, 1, small.Y, small.X))


def _short(tmp_path: Path) -> Path:
    return small.put(small.ocean(3), tmp_path / "in.zarr")


KINDS = [
    _packed_from_the_south,
    _double_and_moved,
    _described_in_another_calendar,
    _curvilinear_with_blind_days,
    _hourly_with_a_tile_of_land,
    _numbered,
    _deep_and_untimed,
    _short,
]


@pytest.mark.parametrize("make", KINDS, ids=lambda f: f.__name__)
def test_observed_values_and_coordinates_are_kept_whatever_they_are(tmp_path, make):
    archive, out = make(tmp_path), tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD)
    small.sound(out, archive)
    with sstfill.io.open(archive) as given, sstfill.io.open(out) as made:
        obs = sstfill.fields.grid.standardise(given.sst).load()
        filled = sstfill.fields.grid.standardise(made.sst).load()
        assert filled.dtype == given.sst.dtype
        there = obs.notnull().values
        assert filled.values[there].tobytes() == obs.values[there].tobytes()
        sea = there.any(0)
        assert np.isfinite(filled.values[:, sea]).all()
        assert not np.isfinite(filled.values[:, ~sea]).any()
        for name, coord in given.sst.coords.items():
            assert name in made.coords
            kept = coord.isel(depth=0) if "depth" in coord.dims else coord
            np.testing.assert_array_equal(
                made[name].values, kept.transpose(*made[name].dims).values
            )
        assert {k: v for k, v in given.sst.attrs.items()}.items() <= made.sst.attrs.items()
        assert made.attrs.get("title") == given.attrs.get("title")
        assert str(given.attrs.get("history", "")) in made.attrs["history"]


def test_two_variables_are_filled_each_by_itself(tmp_path):
    ocean = small.ocean(DAYS)
    ocean["chl"] = (small.ocean(DAYS, seed=2).sst / 10).astype("f8")
    archive, out = small.put(ocean, tmp_path / "in.zarr"), tmp_path / "out.zarr"
    done = fill_archive(archive, out, small.METHOD)
    assert (done.units, done.made) == (2 * 4, 2 * 4)
    small.sound(out, archive)
    fill_archive(archive, tmp_path / "one.zarr", small.METHOD, variables="chl")
    both, one = small.loaded(out), small.loaded(tmp_path / "one.zarr")
    assert both.chl.values.tobytes() == one.chl.values.tobytes()
    with pytest.raises(errors.OptionError, match="variables"):
        fill_archive(archive, out, update=True, variables="chl")
    ocean["chl"][1] += 0.1
    small.write(ocean, archive, 1)
    done = fill_archive(archive, out, update=True)
    assert 0 < done.made < 4
    small.sound(out, archive)
    fill_archive(archive, tmp_path / "scratch.zarr", like=out)
    assert small.difference(out, tmp_path / "scratch.zarr", revision=False) == ""


def test_quality_levels_are_heeded_and_remembered(tmp_path):
    ocean = small.ocean(DAYS)
    level = xr.full_like(ocean.sst, 5, dtype="i1").assign_attrs(flag_values=[0, 1, 2, 3, 4, 5])
    level[:, 3:9, 2:8] = 2
    ocean["quality_level"] = level.drop_attrs()
    archive, out = small.put(ocean, tmp_path / "in.zarr"), tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD, quality_level=4)
    small.sound(out, archive)
    assert (small.loaded(out).sst_source[:, 3:9, 2:8] != 0).all()
    with pytest.raises(errors.OptionError, match=r"quality_level 4, not None; --refit"):
        fill_archive(archive, out, update=True)
    ocean["quality_level"][7, 3:9, 2:8] = 5
    small.write(ocean, archive, 7)  # the same values, better judged
    done = fill_archive(archive, out, update=True, quality_level=4)
    assert done.revised == 1
    small.sound(out, archive)


def test_a_sea_mask_is_kept(archive, tmp_path):
    sea = small.ocean().sst.notnull().any("time")
    sea[:4] = False
    out = tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD, sea=sea)
    small.sound(out, archive)
    held = small.loaded(out)
    assert not (held.sst_source[:, :4] == 1).any()
    assert (held.sst_source[:, :4] == 0).any()
    fill_archive(archive, out, update=True, sea=sea)
    with pytest.raises(errors.OptionError, match="another sea mask"):
        fill_archive(archive, out, update=True, sea=~sea)


@pytest.mark.parametrize("trouble", ["infinite", "blind", "twice"])
def test_archives_that_cannot_be_filled_are_refused_and_nothing_is_left(tmp_path, trouble):
    ocean = small.ocean(5)
    if trouble == "infinite":
        ocean["sst"][3, 2, 2] = np.inf
    elif trouble == "blind":
        ocean["sst"][:] = np.nan
    else:
        ocean = ocean.isel(time=[0, 1, 1, 2])
    archive = small.put(ocean, tmp_path / "in.zarr")
    with pytest.raises(errors.InputError):
        fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    assert not (tmp_path / "out.zarr").exists()
    fill_archive(small.put(small.ocean(5), archive), tmp_path / "out.zarr", small.METHOD)
    small.sound(tmp_path / "out.zarr", archive)


def test_what_was_filled_is_not_filled_again(archive, tmp_path):
    fill_archive(archive, tmp_path / "out.zarr", "climatology")
    with pytest.raises(errors.InputError, match="was filled by sstfill; give it as it was"):
        fill_archive(tmp_path / "out.zarr", tmp_path / "twice.zarr", "climatology")
    assert not (tmp_path / "twice.zarr").exists() and not (tmp_path / "twice.zarr.job").exists()
