# SPDX-License-Identifier: Apache-2.0
"""Updates of a store: new days show, recent days are fetched again, and no value is lost."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from fake_service import FakeService, a_cloudy, a_model, failing, losing

from sstfill.errors import OptionError, ReadError
from sstfill.io.untrusted import guard
from sstfill.sources import store
from sstfill.sources.copernicus import download as copernicus
from sstfill.sources.copernicus.audit.masks import ValueMasks, learn_stored
from sstfill.sources.copernicus.download import CopernicusRequest, Target, download
from sstfill.sources.copernicus.windows import DownloadWindows

ANY = CopernicusRequest(dataset_id="x", timeout=0.5, pause=0.001)
REQUEST = dataclasses.replace(ANY, variables=("thetao",))
NIGHTLY = dataclasses.replace(REQUEST, revisit="5d")
HALVES = Target(chunks={"time": 2, "latitude": 3, "longitude": 8}, window_bytes=2 * 3 * 8 * 4)
"""One chunk of the store at a time: half of the map at two times."""
TARGET = Target(chunks={"time": 2, "latitude": 3, "longitude": 8}, window_bytes=4 * 6 * 8 * 4)
"""Four times at once."""


def fetched(
    service: FakeService, out: Path, request: CopernicusRequest = REQUEST, **options
) -> None:
    download(request, out, target=options.pop("target", TARGET), opener=service, **options).close()


def raw(out: Path) -> xr.Dataset:
    with xr.open_zarr(out, consolidated=False) as ds:
        return ds.load()


def assert_same(out: Path, data: xr.Dataset) -> None:
    held = raw(out)
    for name, v in data.squeeze().data_vars.items():
        assert held[name].values.tobytes() == v.values.tobytes()
    np.testing.assert_array_equal(held.time, data.time)
    assert held.attrs["sstfill_state"] == "complete"


def revised(data: xr.Dataset, since: int) -> xr.Dataset:
    """The same, warmer from a day on."""
    new = data.copy(deep=True)
    new["thetao"][since:] += 1
    return new


def joined(old: xr.Dataset, new: xr.Dataset, at: int) -> xr.Dataset:
    return xr.concat(
        [old.isel(time=slice(0, at)), new.isel(time=slice(at, None))], "time", data_vars="minimal"
    )


def consolidate(out: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(out)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_new_days_show_in_a_consolidated_store(tmp_path, zarr_format):
    out, whole = tmp_path / "a.zarr", a_model(20)
    target = dataclasses.replace(TARGET, zarr_format=zarr_format)
    service = FakeService(whole.isel(time=slice(0, 11)))
    fetched(service, out, target=target)
    consolidate(out)
    service.data = whole
    fetched(service, out, target=target, update=True)
    with xr.open_zarr(out) as plain:
        assert plain.sizes["time"] == 20 and plain.attrs["sstfill_state"] == "complete"
        assert plain.thetao.values.tobytes() == whole.thetao.squeeze().values.tobytes()
    assert guard.is_consolidated(out)
    with xr.open_zarr(out, consolidated=True) as copied:
        assert copied.sizes["time"] == 20


def test_a_consolidated_store_says_that_it_is_incomplete_while_it_is(tmp_path):
    out, service = tmp_path / "a.zarr", FakeService(a_model(10))
    fetched(service, out, target=dataclasses.replace(TARGET, zarr_format=2))
    consolidate(out)
    service.data, service.hooks = a_model(20), [failing(float("inf"), OSError("down"))]
    with pytest.raises(ReadError):
        fetched(service, out, target=dataclasses.replace(TARGET, zarr_format=2), update=True)
    with xr.open_zarr(out) as plain:
        assert plain.attrs["sstfill_state"] == "incomplete"


def test_metadata_left_behind_by_an_earlier_update_are_mended(tmp_path):
    out, whole, target = (
        tmp_path / "a.zarr",
        a_model(20),
        dataclasses.replace(TARGET, zarr_format=2),
    )
    service = FakeService(whole.isel(time=slice(0, 11)))
    fetched(service, out, target=target)
    consolidate(out)
    stale = (out / ".zmetadata").read_bytes()
    service.data = whole
    fetched(service, out, target=target, update=True)
    (out / ".zmetadata").write_bytes(stale)
    fetched(service, out, target=target, update=True)
    with xr.open_zarr(out) as plain:
        assert plain.sizes["time"] == 20


def test_recent_days_are_fetched_again_and_the_rest_is_left_alone(tmp_path):
    out, old, new = tmp_path / "a.zarr", a_model(20), revised(a_model(24), 10)
    service = FakeService(old)
    fetched(service, out, NIGHTLY, update=True)
    service.data, service.reads = new, []
    fetched(service, out, NIGHTLY, update=True)
    assert_same(
        out, joined(old, new, 15)
    )  # days 10 to 14 are older than five days: they stay as they were
    assert min(r.start for _, r in service.reads) == 15
    assert "added 4 times of x, 5 fetched again" in raw(out).attrs["history"]


def test_days_that_are_as_they_were_are_not_written_again(tmp_path, monkeypatch):
    out, data = tmp_path / "a.zarr", a_model(20)
    service = FakeService(data)
    fetched(service, out, target=HALVES)
    changed = data.copy(deep=True)
    changed["thetao"][18, 0, 5, 5] += 1
    service.data = changed
    written, write = [], store.write
    monkeypatch.setattr(
        store, "write", lambda out, box, *rest: written.append(box) or write(out, box, *rest)
    )
    fetched(service, out, NIGHTLY, target=HALVES, update=True)
    assert written == [{"time": slice(18, 20), "latitude": slice(3, 6), "longitude": slice(0, 8)}]
    assert_same(out, changed)


def test_a_value_that_was_blanked_is_blank_and_flags_follow(tmp_path):
    out, data = tmp_path / "a.zarr", a_cloudy()
    request = dataclasses.replace(ANY, revisit="3d")
    service = FakeService(data)
    fetched(service, out, request)
    later = data.copy(deep=True)
    later["sst"][19, 0] = np.nan
    later["quality_level"][19, 0] = 1
    service.data = later
    fetched(service, out, request, update=True)
    assert_same(out, later)


@pytest.mark.parametrize(("error", "new"), [(OSError("down"), 24), (KeyboardInterrupt(), 20)])
def test_stopped_in_the_middle_readers_find_old_or_new_values_and_it_goes_on(tmp_path, error, new):
    out, old, later = tmp_path / "a.zarr", a_model(20), revised(a_model(new), 0)
    service = FakeService(old)
    fetched(service, out, target=HALVES)
    count = iter(range(1000))
    dead = failing(float("inf"), error)
    service.hooks = [
        lambda name, key, values: values if next(count) < 3 else dead(name, key, values)
    ]
    service.data = later
    with pytest.raises((ReadError, KeyboardInterrupt), match="run the same command again"):
        fetched(service, out, NIGHTLY, target=HALVES, update=True)
    held, before, after = (
        v[:20] for v in (raw(out).thetao.values, old.thetao.values[:, 0], later.thetao.values[:, 0])
    )
    as_before, as_after = (held == before) | np.isnan(before), (held == after) | np.isnan(before)
    assert as_before[:15].all() and (as_before | as_after).all() and not as_before.all()
    assert raw(out).attrs["sstfill_state"] == "incomplete"
    service.hooks = []
    fetched(service, out, NIGHTLY, target=HALVES, update=True)
    assert_same(out, joined(old, later, 15))


def test_a_day_that_is_lost_while_it_is_revisited_stays_as_it_was(tmp_path):
    out, data = tmp_path / "a.zarr", a_model(20)
    service = FakeService(data)
    fetched(service, out)
    service.hooks = [losing(float("inf"), step=17)]  # third of the five days
    with pytest.raises(ReadError, match="no value at all"):
        fetched(service, out, NIGHTLY, update=True)
    assert not np.isnan(raw(out).thetao.values[:, 1:]).any()
    service.hooks = []
    fetched(service, out, NIGHTLY, update=True)
    assert_same(out, data)


def test_a_store_that_is_younger_than_that_is_fetched_anew(tmp_path):
    out, old, new = tmp_path / "a.zarr", a_model(3), revised(a_model(4), 0)
    service = FakeService(old)
    fetched(service, out)
    service.data = new
    fetched(service, out, NIGHTLY, update=True)
    assert_same(out, new)


def test_days_put_in_between_are_told_and_new_ones_come(tmp_path, caplog):
    out, whole = tmp_path / "a.zarr", a_model(24)
    gappy = whole.isel(time=[*range(17), 18, 19])
    service = FakeService(gappy)
    fetched(service, out)
    service.data = whole
    with caplog.at_level(logging.WARNING):
        fetched(service, out, NIGHTLY, update=True)
    assert "has other times since 2023-01-16T00:00:00.000 than the store" in caplog.text
    assert_same(
        out, xr.concat([gappy, whole.isel(time=slice(20, None))], "time", data_vars="minimal")
    )


def test_an_end_that_is_reached_can_still_be_revisited(tmp_path):
    out, old, new = tmp_path / "a.zarr", a_model(20), revised(a_model(20), 0)
    request = dataclasses.replace(NIGHTLY, end_datetime="2023-01-10")
    service = FakeService(old)
    fetched(service, out, request)
    service.data = new
    fetched(service, out, request, update=True)
    assert_same(out, joined(old, new, 5).isel(time=slice(0, 10)))


@pytest.mark.parametrize("text", ["ten days", "-10d", "2023-01-01", ""])
def test_a_revisit_that_is_no_length_of_time_is_refused(text):
    with pytest.raises(OptionError, match="write 10d"):
        dataclasses.replace(REQUEST, revisit=text)


def test_ctrl_c_during_an_update_tells_what_to_do(tmp_path, monkeypatch, capsys):
    from sstfill.cli import main

    out, service = tmp_path / "a.zarr", FakeService(a_model(10))
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[source]\nkind = "copernicus"\ndataset_id = "x"\nvariables = ["thetao"]\n'
        "[target]\nchunks = { time = 2, latitude = 3, longitude = 8 }\nwindow_bytes = 192\n"
    )

    def by_service(*args, **options):
        return download(*args, opener=service, **options)

    monkeypatch.setattr(copernicus, "download", by_service)
    words = ["download", str(recipe), "--out", str(out), "--update"]
    assert main(words) == 0
    capsys.readouterr()
    service.data, service.hooks = a_model(20), [failing(1, KeyboardInterrupt())]
    assert main(words) == 130
    printed = capsys.readouterr().err
    assert (
        "is incomplete; run the same command again, it goes on where it was" in printed
        and "unchanged" not in printed
    )
    assert main(words) == 0
    assert_same(out, a_model(20))


def test_ctrl_c_before_anything_is_written_says_so(tmp_path):
    def stopped(request):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="as it was"):
        download(REQUEST, tmp_path / "a.zarr", target=TARGET, opener=stopped)
    assert not list(tmp_path.iterdir())


def test_after_a_resume_times_that_are_not_written_teach_nothing(tmp_path):
    """Of the one time that the store has, the mask of land is learnt, and not that all is land
    sometimes.
    """
    chunks = {"time": 1, "latitude": 6, "longitude": 8}
    target = Target(chunks=chunks, window_bytes=6 * 8 * 4)
    out, service = tmp_path / "a.zarr", FakeService(a_model())
    dead = failing(float("inf"), OSError("down"))
    service.hooks = [
        lambda name, key, values: values if key[0].start < 1 else dead(name, key, values)
    ]
    with pytest.raises(ReadError):
        fetched(service, out, target=target)

    def flooded(name, key, values):
        if key[0].start >= 3:
            values[..., 3:, :] = np.nan
        return values

    service.hooks = [flooded]
    with pytest.raises(ReadError, match="no value at 24 pixels"):
        fetched(service, out, target=target)


def test_six_stored_times_of_each_place_to_come_are_learnt(tmp_path):
    """The south is on the disk, and of the north all times before 20 or those before `begin`."""
    whole = a_model(40).squeeze("depth")
    whole.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    learnt: list[tuple[int, int]] = []

    class Noting(ValueMasks):
        def learn(self, window, box):
            learnt.append((box["latitude"].start, window.sizes["time"]))
            super().learn(window, box)

    for begin in (0, 4, 10):
        edges = {"time": tuple(range(begin, 41, 2)), "latitude": (0, 3, 6), "longitude": (0, 8)}
        boxes = DownloadWindows(edges).boxes()
        done = [i for i, b in enumerate(boxes) if b["latitude"].start == 0 or b["time"].stop <= 20]
        learnt.clear()
        masks = Noting()
        learn_stored(masks, tmp_path / "a.zarr", boxes, done, begin)
        assert learnt == [(3, 6)]
        north, south = boxes[-1], boxes[0]
        assert masks.missing(whole.isel(north), north, 6) == {"thetao": 0}
        assert not masks.missing(whole.isel(south), south)
