# SPDX-License-Identifier: Apache-2.0
"""Updates: which days are new, revised or influenced, what is refused; each night equals a fill
from scratch.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_archives as small

from sstfill import errors
from sstfill.archive import fill_archive, job, plan
from sstfill.methods import Interpolate
from sstfill.methods.common import sampling


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small.small_units(monkeypatch)


@pytest.fixture
def filled(tmp_path: Path, first_fill) -> tuple[Path, Path]:
    """An archive of all days but the last two, and its output."""
    return first_fill(18, tmp_path)


def updated(archive: Path, out: Path):
    """Update, and compare with a fill from scratch by the same model."""
    done = fill_archive(archive, out, update=True)
    small.sound(out, archive)
    scratch = out.with_name("scratch.zarr")
    for old in (scratch, job.FillJob(scratch).folder):
        shutil.rmtree(old, ignore_errors=True)
    fill_archive(archive, scratch, like=out)
    assert small.difference(out, scratch, revision=False) == ""
    return done


def test_a_new_day_fills_it_and_what_it_influences(filled):
    archive, out = filled
    small.append(small.ocean().isel(time=slice(18, 19)), archive)
    done = updated(archive, out)
    assert (done.new, done.revised, done.made) == (
        1,
        0,
        4,
    )  # the last unit, and the one before that reaches into it
    assert done.influenced == 10
    assert small.loaded(out).sstfill_revision.values.tolist() == [1] * 8 + [2] * 10 + [1]


def test_a_day_on_which_nothing_was_observed_is_new_all_the_same(filled):
    archive, out = filled
    ocean = small.ocean().isel(time=slice(18, 19))
    small.append(ocean.where(False), archive)
    assert updated(archive, out).new == 1
    small.write(small.ocean(), archive, 18)  # it comes late
    assert updated(archive, out).revised == 1


def test_nothing_new_does_nothing(filled):
    archive, out = filled
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    done = fill_archive(archive, out, update=True)
    assert (done.made, done.new, done.revised, done.influenced) == (0, 0, 0, 0)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    small.sound(out, archive)


def test_a_revised_day_whose_file_has_the_same_size_and_an_older_date(filled, monkeypatch):
    archive, out = filled
    chunk = archive / "sst/c/5/0/0"
    old = chunk.stat()
    values = small.revised(small.ocean(), 5)
    small.write(values, archive, 5)
    chunk.write_bytes(chunk.read_bytes().ljust(old.st_size, b"\0"))
    os.utime(chunk, ns=(old.st_mtime_ns, old.st_mtime_ns))  # a clock that went back
    done = updated(archive, out)
    assert (done.new, done.revised) == (0, 1)
    assert 0 < done.made < small.UNITS


def test_files_that_were_only_touched_are_read_again_and_not_filled_again(filled, monkeypatch):
    archive, out = filled
    os.utime(archive / "sst/c/5/0/0")
    seen = []
    real = plan.look
    monkeypatch.setattr(
        plan, "look", lambda obs, points: (seen.append(obs.time.values), real(obs, points))[1]
    )
    done = fill_archive(archive, out, update=True)
    assert (done.made, len(seen)) == (0, 1)
    assert small.ocean().time.values[5] in seen[0]
    done = fill_archive(archive, out, update=True)
    assert len(seen) == 1  # what was seen is kept
    small.sound(out, archive)


def test_another_scale_of_packed_values_is_noticed_though_no_chunk_changed(tmp_path):
    packed = {"sst": {"dtype": "i2", "scale_factor": 0.01, "_FillValue": np.int16(-32768)}}
    archive = small.put(small.ocean(), tmp_path / "in.zarr", encoding=packed)
    out = tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD)
    meta = archive / "sst/zarr.json"
    meta.write_text(meta.read_text().replace('"scale_factor": 0.01', '"scale_factor": 0.02'))
    assert updated(archive, out).revised == small.T


def test_a_late_day_in_the_middle_and_one_before_all_others(tmp_path):
    ocean = small.ocean()
    archive, out = (
        small.put(ocean.isel(time=[1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]), tmp_path / "in.zarr"),
        tmp_path / "out.zarr",
    )
    fill_archive(archive, out, small.METHOD)
    small.put(ocean.isel(time=slice(1, 13)), archive)
    done = updated(archive, out)
    assert (done.new, done.revised) == (1, 0)
    assert small.loaded(out).sstfill_revision.values.tolist()[8:] == [1, 2, 2, 2]
    small.put(ocean.isel(time=slice(0, 13)), archive)
    done = updated(archive, out)
    assert (done.new, done.revised, done.made) == (1, 0, done.units)


def test_a_vanished_chunk_is_a_revised_day_and_said(filled, caplog):
    archive, out = filled
    (archive / "sst/c/7/0/0").unlink()
    with caplog.at_level(logging.WARNING):
        done = updated(archive, out)
    assert done.revised == 1
    assert "1 images" in caplog.text
    assert "hold none now" in caplog.text


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_an_input_that_is_written_anew_each_night(tmp_path, suffix):
    archive, out = tmp_path / f"in{suffix}", tmp_path / "out.zarr"
    ocean = small.ocean()
    small.put(ocean.isel(time=slice(0, 12)), archive)
    fill_archive(archive, out, small.METHOD)
    small.put(
        small.revised(ocean, 2).isel(time=slice(0, 13)),
        archive,
        (13, 7, 7) if suffix == ".zarr" else None,
    )
    done = updated(archive, out)
    assert (done.new, done.revised) == (1, 1)


def test_days_that_are_gone_are_refused(filled):
    archive, out = filled
    before = small.loaded(out)
    for days in (range(1, 18), range(17), range(1, 19), [*range(5), *range(6, 19)]):
        small.put(small.ocean().isel(time=list(days)), archive)
        with pytest.raises(errors.InputError, match=r"1 of the 18 images .* are gone.*--refit"):
            fill_archive(archive, out, update=True)
    assert small.loaded(out).identical(before)
    small.put(small.ocean().isel(time=slice(0, 18)), archive)
    assert fill_archive(archive, out, update=True).made == 0
    small.put(small.ocean().isel(time=slice(1, 19)), archive)
    fill_archive(archive, out, small.METHOD, refit=True)
    small.sound(out, archive)


@pytest.mark.parametrize("change", ["lat", "middle of lat", "size"])
def test_another_grid_is_refused(filled, change):
    archive, out = filled
    ocean = small.ocean().isel(time=slice(0, 18))
    if change == "lat":
        ocean = ocean.assign_coords(lat=ocean.lat + 1)
    elif change == "size":
        ocean = ocean.isel(lat=slice(1, None))
    else:
        lat = ocean.lat.values.copy()
        lat[5] += 0.01
        ocean = ocean.assign_coords(lat=("lat", lat, ocean.lat.attrs))
    small.put(ocean, archive)
    with pytest.raises(errors.OptionError, match=r"was filled with grid .*--refit"):
        fill_archive(archive, out, update=True)


def test_what_was_asked_otherwise_is_refused(filled, monkeypatch):
    archive, out = filled
    with pytest.raises(errors.OptionError, match=r"is filled already; --update .*--refit"):
        fill_archive(archive, out, small.METHOD)
    for method in ("climatology", Interpolate(limit=3)):
        with pytest.raises(
            errors.OptionError, match=r"was filled by interpolate .*--refit fills all again"
        ):
            fill_archive(archive, out, method, update=True)
    fill_archive(archive, out, small.METHOD, update=True)
    with pytest.raises(errors.OptionError, match=r"variable"):
        fill_archive(archive, out, update=True, variables="chl")
    monkeypatch.setattr("sstfill.archive.settings.__version__", "99.0")
    with pytest.raises(errors.OptionError, match=r"filled by sstfill .*, this is 99.0.*--refit"):
        fill_archive(archive, out, update=True)
    document = job.FillJob(out).folder / "job.json"
    later = json.loads(document.read_text()) | {"format": 2}
    document.write_text(json.dumps(later))
    with pytest.raises(errors.ReadError, match="in another format"):
        fill_archive(archive, out, update=True)


def test_a_lent_model_is_refused_where_there_is_one(filled):
    archive, out = filled
    with pytest.raises(errors.OptionError, match="a fitted method of its own; leave out --like"):
        fill_archive(archive, out, update=True, like=out)


def test_other_units_are_refused(filled, monkeypatch):
    archive, out = filled
    monkeypatch.setattr(sampling, "CORE", (4, 16, 16))
    with pytest.raises(errors.OptionError, match="core"):
        fill_archive(archive, out, update=True)


def test_refit_fits_the_method_again_and_swaps_the_whole(filled, tmp_path):
    archive, out = filled
    fill_archive(archive, out, "climatology", refit=True)
    small.sound(out, archive)
    held = small.loaded(out)
    assert '"climatology"' in held.sst.attrs["sstfill_method"]
    assert (held.sstfill_revision == 1).all()
    fill_archive(archive, tmp_path / "other.zarr", "climatology")
    assert small.difference(out, tmp_path / "other.zarr") == ""


def test_an_update_of_nothing_is_a_first_fill(tmp_path):
    archive = small.put(small.ocean(), tmp_path / "in.zarr")
    assert (
        fill_archive(archive, tmp_path / "out.zarr", small.METHOD, update=True).made == small.UNITS
    )
    small.sound(tmp_path / "out.zarr", archive)


def test_a_model_is_lent_only_to_the_same_grid_and_variable(filled, tmp_path):
    archive, out = filled
    with pytest.raises(errors.OptionError, match="leave out the method"):
        fill_archive(archive, tmp_path / "b.zarr", small.METHOD, like=out)
    with pytest.raises(errors.OptionError, match="no fitted method to lend"):
        fill_archive(archive, tmp_path / "b.zarr", like=archive)
    other = small.put(small.ocean(nx=16), tmp_path / "other.zarr")
    with pytest.raises(errors.InputError, match="lends a method for the grid"):
        fill_archive(other, tmp_path / "b.zarr", like=out)
    assert not (tmp_path / "b.zarr.job").exists()


def test_numbers_of_units_stay_as_an_archive_grows():
    all_days = lambda n: np.ones(n, bool)  # noqa: E731
    few = dict(plan.units((6, 20, 40), (4, 16, 16), (3, 3, 3), all_days(6)))
    many = dict(plan.units((9, 20, 40), (4, 16, 16), (3, 3, 3), all_days(9)))
    assert set(few) < set(many)
    assert [many[n].inside for n in range(6)] == [few[n].inside for n in range(6)]


def test_units_that_see_a_changed_day():
    changed = np.zeros(20, bool)
    changed[9] = True
    hit = {
        patch.inside[0].start
        for _, patch in plan.units((20, 8, 8), (4, 16, 16), (2, 0, 0), changed)
    }
    assert hit == {8, 4}  # 4-7 see up to 9


def test_times_tell_archives_apart():
    ocean = small.ocean().sst
    later = ocean.assign_coords(time=ocean.time + np.timedelta64(1, "D"))
    assert (plan.microseconds(later) - plan.microseconds(ocean) == 86_400_000_000).all()
    hours = ocean.assign_coords(
        time=("time", np.arange(small.T), {"units": "hours since 2000-01-01"})
    )
    assert plan.microseconds(hours)[1] == 3_600_000_000
