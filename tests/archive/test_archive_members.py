# SPDX-License-Identifier: Apache-2.0
"""Members in an archive: drawn unit by unit as in one piece, kept by updates, and verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import drawing
import numpy as np
import pytest
import small_archives as small
import xarray as xr
import zarr

from sstfill import METHODS, errors
from sstfill import io as sio
from sstfill.archive import fill_archive, verify
from sstfill.archive.model import Model, _fingerprint
from sstfill.archive.workers import check_memory

METHOD = drawing.Drawing(seed=3)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small.small_units(monkeypatch)
    monkeypatch.setitem(METHODS._classes, "drawing", drawing.Drawing)


@pytest.fixture(scope="module")
def _filled(_written, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("members")
    archive = Path(shutil.copytree(_written, home / "in.zarr"))
    with pytest.MonkeyPatch.context() as patched:
        small.small_units(patched)
        patched.setitem(METHODS._classes, "drawing", drawing.Drawing)
        fill_archive(archive, home / "out.zarr", METHOD, members=3)
    return home


@pytest.fixture
def filled(_filled, tmp_path) -> tuple[Path, Path]:
    return small.moved(_filled, tmp_path)


@pytest.fixture
def archive(filled) -> Path:
    """The archive of `out`, or of a test that has none."""
    return filled[0]


@pytest.fixture
def out(filled) -> Path:
    """What the archive was filled to with three members."""
    return filled[1]


def model_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.job") / "model" / "sst"


def test_the_store_holds_members_that_equal_the_observations(archive, out):
    small.sound(out, archive)
    found = small.loaded(out)
    members = found.sst_members
    assert members.dims == ("member", "time", "lat", "lon")
    assert members.dtype == found.sst.dtype
    assert found.member.values.tolist() == [0, 1, 2]
    assert found.member.attrs["standard_name"] == "realization"
    assert members.attrs["units"] == "degC"
    assert "sst_members" in found.sst.attrs["ancillary_variables"].split()
    filled = found.sst_source == 1
    same = (members == found.sst) | (members.isnull() & found.sst.isnull())
    assert same.where(~filled, True).all()
    assert filled.any()
    assert not (members.isel(member=0) == members.isel(member=1)).where(filled, False).any()
    # as the error says, which is scaled by what withheld clouds showed; roughly, for the pixels of
    # an area so small have large errors together
    deviation = float(np.sqrt(np.square(members - found.sst).where(filled).mean()))
    assert deviation == pytest.approx(float(found.sst_error.mean()), rel=0.4)


def test_one_file_holds_all_members_of_a_unit_and_each_is_read_alone(out):
    array = zarr.open_group(out, mode="r")["sst_members"]
    assert array.chunks == (1, *small.CORE)
    assert array.shards == (3, *small.CORE)
    files = [path for path in (out / "sst_members" / "c").rglob("*") if path.is_file()]
    assert len(files) == small.UNITS
    with sio.open(out, chunks={}) as lazy:
        assert lazy.sst_members.chunksizes["member"] == (1, 1, 1)


def test_a_member_is_the_same_however_many_there_are(archive, out, tmp_path):
    fill_archive(archive, tmp_path / "more.zarr", METHOD, members=5)
    few, many = small.loaded(out), small.loaded(tmp_path / "more.zarr")
    np.testing.assert_array_equal(few.sst_members, many.sst_members.isel(member=slice(3)))
    xr.testing.assert_equal(few.drop_dims("member"), many.drop_dims("member"))


def test_without_members_the_rest_of_the_store_is_the_same(archive, out, tmp_path):
    fill_archive(archive, tmp_path / "none.zarr", METHOD)
    none, some = small.loaded(tmp_path / "none.zarr"), small.loaded(out)
    assert "member" not in none.variables
    xr.testing.assert_equal(none, some.drop_dims("member"))


@pytest.mark.parametrize("positions", [True, False])
def test_units_and_updates_draw_what_one_piece_draws(positions, tmp_path, monkeypatch):
    from sstfill.methods.common import sampling

    ocean, out = small.ocean(small.T + 3), tmp_path / "out.zarr"
    if not positions:
        ocean = ocean.rename(lat="y", lon="x").drop_vars(["y", "x"])
    archive = small.put(ocean.isel(time=slice(small.T)), tmp_path / "in.zarr")
    fill_archive(archive, out, METHOD, members=3)
    # Tails, without which there were no factor that might differ.
    assert not Model.load(model_of(out)).scale.distribution.is_gaussian
    small.append(ocean.isel(time=slice(small.T, None)), archive)
    done = fill_archive(archive, out, update=True)
    assert done.new == 3
    small.sound(out, archive)
    small.put(ocean, tmp_path / "whole.zarr")
    monkeypatch.setattr(sampling, "CORE", (64, 64, 64))
    fill_archive(tmp_path / "whole.zarr", tmp_path / "one.zarr", like=out, members=3)
    # a distance in km is that at the middle latitude of a unit, and so is the scale of the error
    np.testing.assert_allclose(
        small.loaded(out).sst_members, small.loaded(tmp_path / "one.zarr").sst_members, atol=0.01
    )


@pytest.mark.parametrize("members", [0, 4])
def test_an_update_by_another_number_is_refused(archive, out, members):
    small.append(small.ocean(small.T + 1).isel(time=slice(small.T, None)), archive)
    with pytest.raises(errors.OptionError, match=f"with 3 members, not {members}.*--refit"):
        fill_archive(archive, out, update=True, members=members)
    fill_archive(archive, out, update=True, members=3)
    fill_archive(archive, out, METHOD, refit=True, members=members)
    small.sound(out, archive)
    assert small.loaded(out).sizes.get("member", 0) == members


def test_members_of_former_tails_are_not_mixed_with_those_of_today(archive, out, tmp_path):
    """Before, each pixel had tails of its own, and nothing was noted of their seed."""
    was = small.loaded(out)
    score = model_of(out) / "score.json"
    noted = json.loads(score.read_text())
    assert noted.pop("tails_seed") == METHOD.seed
    score.write_text(json.dumps(noted))
    (model_of(out) / "fingerprint").write_text(_fingerprint(model_of(out)))
    small.append(small.ocean(small.T + 1).isel(time=slice(small.T, None)), archive)
    with pytest.raises(errors.OptionError, match=r"members=3: .*'sst'.*earlier version.*--refit"):
        fill_archive(archive, out, update=True)
    with pytest.raises(errors.OptionError, match="earlier version"):
        fill_archive(archive, tmp_path / "like.zarr", like=out, members=3)
    xr.testing.assert_identical(small.loaded(out), was)
    fill_archive(archive, tmp_path / "plain.zarr", like=out)
    fill_archive(archive, out, METHOD, refit=True, members=3)
    small.sound(out, archive)


def test_a_method_that_cannot_draw_is_refused_before_the_work(archive, out, tmp_path):
    with pytest.raises(errors.OptionError, match=r"interpolate cannot draw.*drawing"):
        fill_archive(archive, tmp_path / "no.zarr", "interpolate", members=2)
    assert not (tmp_path / "no.zarr.job" / "next").exists()
    fill_archive(archive, tmp_path / "plain.zarr", small.METHOD)
    with pytest.raises(errors.OptionError, match="cannot draw"):
        fill_archive(archive, tmp_path / "like.zarr", like=tmp_path / "plain.zarr", members=2)
    assert not (tmp_path / "like.zarr.job" / "next").exists()


def test_an_ensemble_of_the_user_is_refused(tmp_path):
    beside = xr.DataArray(np.zeros((2, small.Y)), dims=("member", "lat"))
    archive = small.put(small.ocean(), tmp_path / "in.zarr")
    beside.to_dataset(name="other").to_zarr(archive, mode="a", consolidated=False)
    with pytest.raises(errors.InputError, match="'member' of their own; rename it"):
        fill_archive(archive, tmp_path / "out.zarr", METHOD, members=2)


@pytest.mark.parametrize("fault", ["observed", "missing", "chunk"])
def test_verify_sees_what_is_wrong_with_members(archive, out, fault):
    found = small.loaded(out)
    array = zarr.open_group(out, mode="r+")["sst_members"]
    if fault == "chunk":
        next(p for p in (out / "sst_members" / "c").rglob("*") if p.is_file()).unlink()
        expected = "no chunk of sst_members"
    elif fault == "observed":
        at = np.argwhere(found.sst_source.values == 0)[0]
        array[1, *at] += 1
        expected = "a member that differs from the field where nothing was filled"
    else:
        at = np.argwhere(found.sst_source.values == 1)[0]
        array[1, *at] = np.nan
        expected = "a member without a value where the field is filled"
    (wrong,) = verify(out, archive).wrong
    assert expected in wrong


def test_members_of_logarithms_are_positive_and_about_the_median(tmp_path):
    ocean = small.ocean()
    field = (10 ** (ocean.sst / 10 - 2)).assign_attrs(units="mg m-3")
    archive = small.put(field.to_dataset(name="sst"), tmp_path / "in.zarr")
    fill_archive(archive, tmp_path / "out.zarr", METHOD, members=40, transform="log")
    small.sound(tmp_path / "out.zarr", archive)
    found = small.loaded(tmp_path / "out.zarr")
    filled = found.sst_source == 1
    assert (found.sst_members > 0).where(filled, True).all()
    below = (found.sst_members < found.sst_lower).where(filled).mean()
    assert float(below) == pytest.approx(0.16, abs=0.03)


def test_members_need_memory(monkeypatch):
    monkeypatch.setattr("sstfill.methods.common.sampling.CORE", (16, 256, 256))
    with pytest.raises(errors.OptionError, match="needs about"):
        check_memory(2 * 10**9, 0, "oi", 10**6, members=10**4)
    check_memory(2 * 10**9, 0, "oi", 10**6)


def test_a_run_that_was_cut_short_goes_on_with_its_members(archive, out, tmp_path, monkeypatch):
    from sstfill.archive import run

    other, real, count = tmp_path / "cut.zarr", run.take, [0]

    def take(task, staged):
        count[0] += 1
        if count[0] == 4:
            raise KeyboardInterrupt
        real(task, staged)

    monkeypatch.setattr(run, "take", take)
    with pytest.raises(KeyboardInterrupt):
        fill_archive(archive, other, METHOD, members=3)
    monkeypatch.setattr(run, "take", real)
    with pytest.raises(errors.OptionError, match="was begun with"):
        fill_archive(archive, other, METHOD, members=2)
    done = fill_archive(archive, other, METHOD, members=3)
    assert done.made == small.UNITS
    assert small.difference(out, other) == "" or "history" in small.difference(out, other)
    shutil.rmtree(other)
