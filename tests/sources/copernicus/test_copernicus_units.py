# SPDX-License-Identifier: Apache-2.0
"""A download is whole or reports that it is not: killed, refused, short of space, updated."""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
import shutil
import signal
import time
from collections import namedtuple
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from fake_service import FakeService, a_cloudy, a_model, failing, losing, slow

from sstfill.errors import InputError, OptionError, ReadError, WriteError
from sstfill.io.ledger import ledger_path
from sstfill.sources.copernicus.deadline import limited
from sstfill.sources.copernicus.download import CopernicusRequest, Target, download

ANY = CopernicusRequest(dataset_id="x", timeout=0.8, pause=0.001)
REQUEST = replace(ANY, variables=("thetao",))
MAPS = 4 * 6 * 8 * 4
"""Bytes of four times of the whole map."""
TARGET = Target(chunks={"time": 2, "latitude": 3, "longitude": 8}, window_bytes=MAPS)


def fetched(
    service: FakeService, out: Path, request: CopernicusRequest = REQUEST, **options
) -> xr.Dataset:
    with download(
        request, out, target=options.pop("target", TARGET), opener=service, **options
    ) as ds:
        return ds.load()


def raw(out: Path) -> xr.Dataset:
    with xr.open_zarr(out, consolidated=False) as ds:
        return ds.load()


def assert_same(out: Path, data: xr.Dataset) -> None:
    held = raw(out)
    for name, v in data.squeeze().data_vars.items():
        assert held[name].dtype == v.dtype and held[name].values.tobytes() == v.values.tobytes()
    for name in ("time", "latitude", "longitude"):
        np.testing.assert_array_equal(held[name], data[name])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_values_arrive_bit_identical_with_where_they_come_from(tmp_path, zarr_format):
    out, service = tmp_path / "a.zarr", FakeService(a_model())
    fetched(service, out, target=replace(TARGET, zarr_format=zarr_format))
    assert_same(out, service.data)
    assert (out / "zarr.json").exists() == (zarr_format == 3)
    held = raw(out)
    assert (
        held.depth == 0.494
        and held.thetao.attrs["units"] == "degrees_C"
        and held.thetao.dims[0] == "time"
    )
    assert held.attrs["sstfill_state"] == "complete" and held.attrs["title"] == "a model"
    assert (
        held.attrs["dataset_version"] == "202406"
        and held.attrs["references"] == "https://doi.org/10.1/x"
    )
    assert json.loads(held.attrs["sstfill_request"])["request"]["variables"] == ["thetao"]
    assert held.thetao.encoding["chunks"] == (2, 3, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_each_window_is_fetched_once_and_a_second_run_fetches_nothing(tmp_path):
    out, service = tmp_path / "a.zarr", FakeService(a_model())
    fetched(service, out)
    assert [(r.start, r.stop) for _, r in service.reads] == [(i, i + 4) for i in range(0, 20, 4)]
    fetched(service, out)
    assert len(service.opened) == 1 and len(service.reads) == 5


def test_quality_stays_an_integer_with_its_flags(tmp_path):
    out, service = tmp_path / "a.zarr", FakeService(a_cloudy())
    fetched(service, out, ANY)
    assert_same(out, service.data)
    level = raw(out).quality_level
    assert level.encoding["dtype"] == np.int8 and level.attrs["flag_values"] == list(range(6))


@pytest.mark.parametrize(
    "error", [OSError("reset"), RuntimeError("error during blosc decompression"), TimeoutError()]
)
def test_a_failure_that_passes_leaves_no_trace(tmp_path, error):
    service = FakeService(a_model(), hooks=[failing(2, error)])
    fetched(service, tmp_path / "a.zarr")
    assert_same(tmp_path / "a.zarr", service.data)


def test_a_failure_that_stays_ends_in_time_and_can_be_resumed(tmp_path):
    out, service = tmp_path / "a.zarr", FakeService(a_model())
    dead = failing(float("inf"), OSError("network unreachable https://host/key?x-cop-user=ada"))
    service.hooks = [
        lambda name, key, values: values if key[0].start < 8 else dead(name, key, values)
    ]
    started = time.monotonic()
    with pytest.raises(
        ReadError, match=r"network unreachable https://host/key\).*run the same command again"
    ):
        fetched(service, out)
    assert time.monotonic() - started < 3
    assert raw(out).attrs["sstfill_state"] == "incomplete" and ledger_path(out).exists()
    service.hooks, service.reads = [], []
    fetched(service, out)
    assert [r.start for _, r in service.reads] == [8, 12, 16]
    assert_same(out, service.data)


def test_a_mistake_of_ours_is_not_tried_again(tmp_path):
    service = FakeService(a_model(), hooks=[failing(1, TypeError("ours"))])
    with pytest.raises(TypeError, match="ours"):
        fetched(service, tmp_path / "a.zarr")
    assert len(service.reads) == 1


def test_values_lost_once_are_fetched_again(tmp_path):
    service = FakeService(a_model(), hooks=[losing(1)])
    fetched(service, tmp_path / "a.zarr")
    assert_same(tmp_path / "a.zarr", service.data)
    assert len(service.reads) == 6


@pytest.mark.parametrize("step", [5, 12])
def test_values_lost_twice_are_an_error_and_not_nan(tmp_path, step):
    out, service = tmp_path / "a.zarr", FakeService(a_model(), hooks=[losing(2, step=step)])
    with pytest.raises(ReadError, match="thetao has no value at all at 1 of 4 times"):
        fetched(service, out)
    fetched(service, out)
    assert_same(out, service.data)


def test_a_moving_land_mask_is_noticed_even_after_a_resume(tmp_path):
    out, service = tmp_path / "a.zarr", FakeService(a_model())

    def flooded(name, key, values):
        if key[0].start >= 4:
            values[..., 3:, :] = np.nan
        return values

    service.hooks = [flooded]
    for _ in range(2):
        with pytest.raises(ReadError, match="no value at 24 pixels that had one at all times"):
            fetched(service, out)
    service.hooks = []
    fetched(service, out)
    assert_same(out, service.data)


def test_what_is_empty_at_the_source_can_be_accepted(tmp_path):
    data = a_cloudy()
    data["sst"][5] = np.nan
    service = FakeService(data)
    with pytest.raises(ReadError, match="absent='accept'"):
        fetched(service, tmp_path / "a.zarr", ANY)
    fetched(service, tmp_path / "a.zarr", replace(ANY, absent="accept"))
    assert_same(tmp_path / "a.zarr", data)


def test_new_days_are_appended(tmp_path):
    out, whole = tmp_path / "a.zarr", a_model(20)
    service = FakeService(whole.isel(time=slice(0, 11)))
    fetched(service, out, update=True)
    service.data = whole
    fetched(service, out)
    assert raw(out).sizes["time"] == 11
    service.reads = []
    fetched(service, out, update=True)
    assert_same(out, whole)
    assert service.reads[0][1].start == 11 and service.opened[-1].dataset_version == "202406"
    assert raw(out).attrs["history"].count("times of x") == 2
    service.reads = []
    fetched(service, out, update=True)
    assert not service.reads


def test_an_interrupted_update_goes_on_and_takes_what_came_since(tmp_path):
    out, whole = tmp_path / "a.zarr", a_model(24)
    service = FakeService(whole.isel(time=slice(0, 9)))
    fetched(service, out)
    service.data = whole.isel(time=slice(0, 20))
    dead = failing(float("inf"), OSError("down"))
    service.hooks = [
        lambda name, key, values: values if key[0].start < 14 else dead(name, key, values)
    ]
    with pytest.raises(ReadError):
        fetched(service, out, update=True)
    assert raw(out).attrs["sstfill_state"] == "incomplete"
    service.hooks, service.data = [], whole
    fetched(service, out, update=True)
    assert_same(out, whole)


def test_a_later_end_is_refused_without_update(tmp_path):
    out, service = tmp_path / "a.zarr", FakeService(a_model())
    first = replace(REQUEST, end_datetime="2023-01-05")
    fetched(service, out, first)
    later = replace(REQUEST, end_datetime="2023-01-12")
    with pytest.raises(
        WriteError, match="up to 2023-01-05, not 2023-01-12; add the new ones with update=True"
    ):
        fetched(service, out, later)
    fetched(service, out, later, update=True)
    assert_same(out, service.data.isel(time=slice(0, 12)))
    fetched(service, out, first, update=True)
    assert raw(out).sizes["time"] == 12


OTHERS = [
    ({"variables": ("so",)}, r"variables: \['thetao'\] there, \['so'\] here"),
    ({"minimum_latitude": 2.0}, "minimum_latitude: None there, 2.0 here"),
    ({"start_datetime": "2023-01-02"}, "start_datetime"),
    ({"dataset_version": "202501"}, "holds version 202406, not 202501"),
    ({"dataset_id": "y"}, "dataset_id: 'x' there"),
]


@pytest.mark.parametrize("complete", [True, False])
def test_a_store_of_another_request_is_refused_and_left_alone(tmp_path, complete):
    out, service = tmp_path / "a.zarr", FakeService(a_model())
    if complete:
        fetched(service, out)
    else:
        service.hooks = [failing(float("inf"), OSError("down"))]
        with pytest.raises(ReadError):
            fetched(service, out, replace(REQUEST, timeout=0.05))
        service.hooks = []
    for change, message in OTHERS:
        with pytest.raises(WriteError, match=message):
            fetched(service, out, replace(REQUEST, **change))
    fetched(service, out)
    assert_same(out, service.data)


def test_the_same_time_written_another_way_is_the_same_request(tmp_path):
    out, service = tmp_path / "a.zarr", FakeService(a_model())
    fetched(service, out, replace(REQUEST, start_datetime="2023-01-02", end_datetime="2023-01-05"))
    for first, last in (
        ("2023-01-02T00:00:00", "2023-01-05T00:00"),
        ("2023-01-02T02:00+02:00", "2023-01-05 00:00Z"),
    ):
        fetched(service, out, replace(REQUEST, start_datetime=first, end_datetime=last))
    assert len(service.opened) == 1
    with pytest.raises(WriteError, match="start_datetime"):
        fetched(
            service, out, replace(REQUEST, start_datetime="2023-01-02T01:00", end_datetime=last)
        )


def test_valid_ranges_of_packed_numbers_are_left_behind(tmp_path):
    service = FakeService(a_model())
    service.data["thetao"].attrs |= {"valid_min": np.int16(-300), "valid_max": np.int16(4500)}
    with fetched(service, tmp_path / "own.zarr") as ds:
        assert ds["thetao"].attrs["valid_max"] == 4500  # of floats that were floats
    service.data["thetao"].encoding = {
        "dtype": np.dtype("i2"),
        "scale_factor": 0.01,
        "add_offset": 20.0,
    }
    with fetched(service, tmp_path / "a.zarr") as ds:
        assert (
            not {"valid_min", "valid_max"} & set(ds["thetao"].attrs)
            and ds["thetao"].attrs["units"] == "degrees_C"
        )
    assert "valid_min" in service.data["thetao"].attrs
    assert_same(tmp_path / "a.zarr", service.data)


@pytest.mark.parametrize("hooked", [True, False])
def test_without_a_hook_in_the_client_there_is_no_account_of_reads(monkeypatch, hooked, caplog):
    from contextlib import contextmanager
    from types import SimpleNamespace

    from sstfill.sources.copernicus import client
    from sstfill.sources.copernicus.coverage import Coverage
    from sstfill.sources.copernicus.reads import reads_of

    @contextmanager
    def noted(reads):
        reads.ask = (lambda key: True) if hooked else None
        yield

    monkeypatch.setattr(client, "noted", noted)
    monkeypatch.setattr(
        client, "need_login", lambda: SimpleNamespace(user="u", password="p", where="here")
    )
    monkeypatch.setattr(
        client, "_client", lambda: SimpleNamespace(open_dataset=lambda **options: a_model())
    )
    coverage = Coverage(dataset_id="x", version="202406", versions=("202406",))
    monkeypatch.setattr(client, "describe_client_dataset", lambda request: coverage)
    assert (reads_of(client.open_client_dataset(REQUEST)) is not None) == hooked
    assert ("does not tell which chunks were lost" in caplog.text) != hooked


def test_other_chunks_are_another_request(tmp_path):
    service = FakeService(a_model())
    fetched(service, tmp_path / "a.zarr")
    with pytest.raises(WriteError, match=r"\[target\] chunks"):
        fetched(service, tmp_path / "a.zarr", target=Target(chunks={"time": 5}))


def test_a_foreign_store_a_folder_and_a_wrong_name_are_refused(tmp_path):
    service = FakeService(a_model())
    a_model().to_zarr(tmp_path / "foreign.zarr", zarr_format=3, consolidated=False)
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "thesis.txt").write_text("mine")
    for name, message in (
        ("foreign.zarr", "something else"),
        ("folder.zarr", "something else"),
        ("no/a.zarr", "mkdir -p"),
    ):
        with pytest.raises(WriteError, match=message):
            fetched(service, tmp_path / name)
    with pytest.raises(OptionError, match=r"end its name with \.zarr"):
        fetched(service, tmp_path / "a.nc")
    assert not service.opened and not list(tmp_path.glob("*.ledger"))


def test_without_its_ledger_an_incomplete_store_is_refused(tmp_path):
    out, service = (
        tmp_path / "a.zarr",
        FakeService(a_model(), hooks=[failing(float("inf"), OSError("down"))]),
    )
    with pytest.raises(ReadError):
        fetched(service, out)
    ledger_path(out).unlink()
    with pytest.raises(WriteError, match=r"its ledger .* is gone; remove it"):
        fetched(service, out)


def test_a_grid_that_changed_is_refused(tmp_path):
    out, service = (
        tmp_path / "a.zarr",
        FakeService(a_model(), hooks=[failing(float("inf"), OSError("down"))]),
    )
    with pytest.raises(ReadError):
        fetched(service, out)
    service.hooks, service.data = [], a_model().assign_coords(longitude=np.arange(8.0) + 1)
    with pytest.raises(InputError, match="longitude of the dataset is no longer that of the store"):
        fetched(service, out)


def test_no_room_is_told_before_and_in_the_middle(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    service = FakeService(a_model())
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 1000))
        with pytest.raises(WriteError, match="it may take 0 MB, 0 MB are free"):
            fetched(service, tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sstfill.sources.store.write", full)
        with pytest.raises(WriteError, match=r"No space left on device.*goes on where it was"):
            fetched(service, tmp_path / "a.zarr")
    fetched(service, tmp_path / "a.zarr")
    assert_same(tmp_path / "a.zarr", service.data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum_latitude": 2.2, "maximum_latitude": 2.8}, "latitude"),
        (
            {"start_datetime": "2023-01-03T06:00", "end_datetime": "2023-01-03T18:00"},
            "no time in .* nearest is 2023-01-03",
        ),
    ],
)
def test_nothing_in_the_box_or_the_period(tmp_path, change, message):
    service = FakeService(a_model())

    def nearest(
        request: CopernicusRequest,
    ) -> xr.Dataset:  # as the client does where nothing lies inside
        return service(replace(REQUEST, end_datetime="2023-01-03", start_datetime="2023-01-03"))

    with pytest.raises(OptionError, match=message):
        download(replace(REQUEST, **change), tmp_path / "a.zarr", opener=nearest)
    assert not list(tmp_path.iterdir())


def test_several_levels_and_an_unexpected_size_are_refused(tmp_path):
    deep = xr.concat([a_model(), a_model().assign_coords(depth=[2.0])], "depth")
    with pytest.raises(OptionError, match="2 levels of depth; give one"):
        fetched(FakeService(deep), tmp_path / "a.zarr")
    with pytest.raises(OptionError, match="holds 6 values of latitude, not 64"):
        fetched(
            FakeService(a_model()),
            tmp_path / "a.zarr",
            target=replace(TARGET, expect={"latitude": 64}),
        )


def test_a_damaged_time_axis_is_refused(tmp_path):
    data = a_model().isel(time=[0, 1, 1, 3])
    service = FakeService(data)
    with pytest.raises(ReadError, match="time axis that came is damaged"):
        fetched(service, tmp_path / "a.zarr")


def test_a_gap_in_the_time_axis_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        fetched(FakeService(a_model().drop_isel(time=[7])), tmp_path / "a.zarr")
    assert "leaves out times at 1 places, first after 2023-01-07" in caplog.text


def test_a_login_never_shows(monkeypatch, tmp_path):
    from sstfill.sources.copernicus.credentials import find_login, need_login

    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"COPERNICUSMARINE_SERVICE_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COPERNICUSMARINE_CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ReadError, match="run: copernicusmarine login"):
        need_login()
    (tmp_path / ".netrc").write_text(
        "machine auth.marine.copernicus.eu login ada password secret\n"
    )
    login = find_login()
    assert (
        login is not None
        and (login.user, login.password) == ("ada", "secret")
        and login.where.endswith(".netrc")
    )
    assert "secret" not in f"{login} {login!r}" and "ada" not in f"{login} {login!r}"
    (tmp_path / ".copernicusmarine").mkdir()
    (tmp_path / ".copernicusmarine" / ".copernicusmarine-credentials").write_text("no base64!")
    with pytest.raises(ReadError, match="holds no login that can be read"):
        find_login()


def test_a_call_that_hangs_is_left_to_itself():
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        limited(lambda: time.sleep(5), 0.1)
    assert time.monotonic() - started < 1


def slow_download(out: Path, ready: Event) -> None:
    """A download of twenty windows, each of which takes a tenth of a second."""

    def told(name, key, values):
        ready.set()
        return values

    service = FakeService(a_model(40), hooks=[slow(0.1), told])
    fetched(service, out, target=replace(TARGET, window_bytes=MAPS // 2))


def test_killed_at_random_moments_the_result_is_the_same(tmp_path, quick_workers):
    out, rng = tmp_path / "a.zarr", random.Random(0)
    context = multiprocessing.get_context("forkserver")
    for _ in range(2):
        ready = context.Event()
        process = context.Process(target=slow_download, args=(out, ready))
        process.start()
        assert ready.wait(60)
        time.sleep(rng.uniform(0.0, 0.4))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    service = FakeService(a_model(40))
    fetched(service, out, target=replace(TARGET, window_bytes=MAPS // 2))
    assert 0 < len(service.reads) < 20
    assert_same(out, a_model(40))
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"] and not list(out.rglob("*.partial"))


def test_two_downloads_into_one_store(tmp_path):
    out, service = tmp_path / "a.zarr", FakeService(a_model(), hooks=[slow(0)])

    def meddling(name, key, values):
        with pytest.raises(WriteError, match="another download is writing"):
            fetched(FakeService(a_model()), out)
        return values

    service.hooks = [meddling]
    fetched(service, out)
    assert_same(out, service.data)
