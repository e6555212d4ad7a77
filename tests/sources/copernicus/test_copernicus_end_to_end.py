# SPDX-License-Identifier: Apache-2.0
"""Downloads through the real client are bit-identical after any fault, or refused and resumed."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from standin import (
    CATALOGUE,
    CHUNK,
    LOGIN,
    Do,
    Dropped,
    Published,
    Slow,
    StandIn,
    Status,
    Truncated,
    a_level3,
    a_model,
)
from standin.client import PROXIES, end_openings, openings, point_at

from sstfill.errors import OptionError, ReadError
from sstfill.sources.copernicus import deadline
from sstfill.sources.copernicus.download import CopernicusRequest, Target, download

client_store = pytest.importorskip(
    "copernicusmarine.core_functions.custom_s3_store_zarr_v3",
    reason="the Copernicus Marine client is not installed",
)

HOURLY = "cmems_mod_glo_phy_anfc_0.083deg_PT1H-m"
DAILY = "cmems_obs-sst_glo_phy_l3s_pmw_P1D-m"
# more chunks than in the other layout
TILES = {"time": 1024, "elevation": 1, "latitude": 3, "longitude": 2}
MODEL = Published(HOURLY, a_model(), geo_chunked=TILES)
OBSERVED = Published(
    DAILY, a_level3(), version="202311", product="SST_GLO_SST_L3S_NRT_OBSERVATIONS_010_010"
)
# seconds; as many attempts, sooner
ANY = CopernicusRequest(dataset_id=HOURLY, timeout=20, pause=0.02)
SURFACE = dataclasses.replace(ANY, variables=("thetao",), minimum_depth=0.5, maximum_depth=0.5)
WINDOW = 2 * 6 * 8 * 4
"""One chunk of the store at a time."""
SMALL = Target(chunks={"time": 2, "latitude": 6, "longitude": 8}, window_bytes=WINDOW)
ALWAYS = math.inf


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(MODEL, OBSERVED) as standin:
        point_at(standin, monkeypatch, tmp_path)
        yield standin
    end_openings()
    # nothing of ours was left in the client
    assert client_store.CustomS3StoreZarrV3.__module__.startswith("copernicusmarine.")


@pytest.fixture
def one_attempt(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is over after the first failure."""
    monkeypatch.setattr(deadline.Deadline, "over", True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "natl.zarr"


def truth(published: Published = MODEL) -> xr.DataArray:
    return published.expected().thetao.isel(elevation=1)


def assert_whole(out: Path, expected: xr.DataArray) -> None:
    with xr.open_zarr(out, chunks=None, consolidated=False) as got:
        held = got[expected.name].load()
        assert held.dims == expected.dims
        assert held.dtype == expected.dtype
        assert held.values.tobytes() == expected.values.tobytes()
        np.testing.assert_array_equal(held.time, expected.time)
        assert got.attrs["sstfill_state"] == "complete"
    assert not out.with_name(out.name + ".ledger").exists()


def without_names(patch: pytest.MonkeyPatch) -> None:
    """Ask the service past the proxy, on a machine that cannot look its name up."""
    from copernicusmarine.core_functions import sessions

    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    for name in PROXIES:
        patch.delenv(name)
    patch.setattr(sessions, "PROXIES", {})
    patch.setattr(socket, "getaddrinfo", no_name)


def assert_resumable(out: Path) -> None:
    with xr.open_zarr(out, chunks=None, consolidated=False) as got:
        assert got.attrs["sstfill_state"] == "incomplete"
    assert out.with_name(out.name + ".ledger").exists()


def test_undisturbed_and_a_second_time_for_nothing(server, out):
    download(SURFACE, out, target=SMALL)
    assert_whole(out, truth())
    assert len(server.chunks()) == 6
    server.seen.clear()
    download(SURFACE, out, target=SMALL)
    assert not server.seen


STATUSES = [Status(401), Status(403), Status(404), Status(429), Status(503)]
BODIES = [Slow(0.3), Truncated(), Dropped(), Truncated(declared=True)]


@pytest.mark.parametrize("faults", [STATUSES, BODIES], ids=["statuses", "bodies"])
def test_faults_that_pass_leave_no_trace(server, out, faults):
    """Each is met at a chunk of its own."""
    for number, fault in enumerate(faults, start=1):
        server.faults.add(fault, rf"timeChunked\.zarr/thetao/{number}\.")
    download(SURFACE, out, target=SMALL)
    assert_whole(out, truth())
    assert [fired for _, fired in server.faults.fired] == faults


@pytest.mark.parametrize(
    ("where", "faults", "between"),
    [(LOGIN, [Status(503), Dropped()], 0), (CATALOGUE, [Status(503), Truncated(), Slow(0.3)], 1)],
    ids=["login", "catalogue"],
)
def test_faults_on_the_way_to_the_data_pass_too(server, out, where, faults, between):
    """So many requests go well between them."""
    for number, fault in enumerate(faults):
        server.faults.add(fault, where, after=between * number)
    download(SURFACE, out, target=SMALL)
    assert_whole(out, truth())
    assert [fired for _, fired in server.faults.fired] == faults


def test_faults_that_stay_are_told_and_the_rest_comes_later(server, one_attempt, out):
    """One after another, so that each run but the first resumes the one before."""
    come = 2
    for fault in (Status(403), Status(401), Status(503), Truncated(), Dropped()):
        server.faults.add(fault, CHUNK, after=come, times=ALWAYS)
        with pytest.raises(ReadError) as caught:
            download(SURFACE, out, target=SMALL)
        assert "\n" not in str(caught.value)
        assert server.faults.fired[-1][1] == fault
        assert_resumable(out)
        server.faults.clear()
        come = 0
    server.seen.clear()
    download(SURFACE, out, target=SMALL)
    assert_whole(out, truth())
    assert len(server.chunks()) == 4  # those that had come are not fetched again


def test_a_layout_that_has_lost_chunks_is_replaced_by_the_other(server, out):
    for number, code in {2: 403, 4: 404}.items():
        server.faults.add(Status(code), rf"timeChunked\.zarr/thetao/{number}\.", times=ALWAYS)
    download(SURFACE, out, target=SMALL)
    assert_whole(out, truth())


def test_a_lost_chunk_is_never_taken_for_land(server, out):
    server.faults.add(Status(404), r"timeChunked\.zarr/thetao/2\.", times=ALWAYS)
    server.faults.add(Status(404), r"geoChunked\.zarr/thetao/0\.1\.1\.1", times=ALWAYS)
    with pytest.raises(ReadError, match="lost"):
        download(SURFACE, out, target=SMALL)
    assert_resumable(out)


@pytest.mark.parametrize(
    "how", [{}, {"service": "arco-time-series", "absent": "accept"}], ids=["checked", "accepted"]
)
def test_land_that_has_no_chunks_is_no_loss(server, out, how):
    """In the layout of long series the corner of land does not exist; that is how it should be."""
    coast = Published("coast_PT1H-m", a_model())  # large tiles: the layout with fewer chunks
    server.catalogue.publish(coast)
    download(dataclasses.replace(SURFACE, dataset_id="coast_PT1H-m", **how), out, target=SMALL)
    assert_whole(out, truth(coast))
    assert any("/geoChunked.zarr/" in path and status == 404 for _, path, status in server.seen)


def test_a_day_without_observations_is_no_loss_either(server, out):
    request = dataclasses.replace(ANY, dataset_id=DAILY)
    download(request, out, target=SMALL)
    expected = OBSERVED.expected()
    assert_whole(out, expected.sea_surface_temperature)
    with xr.open_zarr(out, chunks=None, consolidated=False) as got:
        assert got.quality_level.encoding["dtype"] == np.int8
        np.testing.assert_array_equal(got.quality_level, expected.quality_level)
        assert got.sea_surface_temperature.attrs["units"] == "kelvin"
        assert (
            got.quality_level.attrs["flag_meanings"]
            == OBSERVED.data.quality_level.attrs["flag_meanings"]
        )


@pytest.mark.parametrize(("code", "times"), [(404, 3), (403, 5), (404, 12)])
def test_a_burst_of_refusals_is_not_taken_for_clouds(server, out, code, times):
    """One variable with gaps has nothing to tell a lost chunk by, and the burst reaches into the
    other layout.
    """
    request = dataclasses.replace(
        ANY, dataset_id=DAILY, variables=("sea_surface_temperature",), service="arco-geo-series"
    )
    server.faults.add(Status(code), CHUNK, times=times, after=1)
    download(request, out, target=SMALL)
    assert_whole(out, OBSERVED.expected().sea_surface_temperature)
    assert len(server.faults.fired) == times


def test_a_burst_of_refusals_of_a_model_passes_too(server, out):
    server.faults.add(Status(403), CHUNK, times=15, after=1)
    download(SURFACE, out, target=SMALL)
    assert_whole(out, truth())


def test_a_chunk_of_clouds_that_no_layout_has_for_a_while_is_asked_for_at_the_end(server, out):
    request = dataclasses.replace(
        ANY, dataset_id=DAILY, variables=("sea_surface_temperature",), service="arco-geo-series"
    )
    lost = (
        r"timeChunked\.zarr/sea_surface_temperature/2\.|geoChunked\.zarr/sea_surface_temperature/"
    )
    server.faults.add(Status(404), lost, times=ALWAYS)
    server.faults.add(
        Do(server.faults.clear), r"timeChunked\.zarr/sea_surface_temperature/4\.", times=1
    )
    download(request, out, target=SMALL)
    assert_whole(out, OBSERVED.expected().sea_surface_temperature)
    with xr.open_zarr(out, chunks=None, consolidated=False) as got:
        assert got.attrs["sstfill_empty_chunks"] == 0


def test_a_window_without_observations_is_no_loss_beside_a_variable_without_gaps(server, out):
    """A chunk of the cloudy one does not exist, and only the other is known to have a value
    everywhere.
    """
    both = a_level3(steps=12)
    both["sea_surface_temperature"][4:6] = np.nan
    full = np.random.default_rng(0).normal(290, 1, both.sea_surface_temperature.shape).astype("f4")
    both["analysed_sst"] = (both.sea_surface_temperature.dims, full, {"units": "kelvin"})
    mixed = Published("mixed_P1D-m", both, geo_chunked={"time": 2, "latitude": 3, "longitude": 4})
    server.catalogue.publish(mixed)
    names = ("sea_surface_temperature", "analysed_sst")
    download(
        dataclasses.replace(
            ANY, dataset_id=mixed.dataset, variables=names, service="arco-geo-series"
        ),
        out,
        target=SMALL,
    )
    for name in names:
        assert_whole(out, mixed.expected()[name])


def test_a_service_that_breaks_down_while_it_is_asked_again_is_told(server, one_attempt, out):
    server.faults.add(
        Status(404),
        r"timeChunked\.zarr/thetao/2\.|geoChunked\.zarr/thetao/0\.1\.1\.1",
        times=ALWAYS,
    )
    server.faults.add(Status(503), r"timeChunked\.zarr/thetao/[01]\.", after=2, times=ALWAYS)
    with pytest.raises(
        ReadError, match=r"does not answer whether it has thetao/.*; check the network"
    ):
        download(SURFACE, out, target=SMALL)
    assert_resumable(out)


def test_a_version_withdrawn_in_the_middle_is_refused_and_never_mixed(server, out):
    newer = Published(HOURLY, a_model(seed=1), version="202506")

    def replace() -> None:
        server.catalogue.publish(newer)
        server.catalogue.withdraw(MODEL.item)

    server.faults.add(Do(replace), CHUNK, after=3)
    with pytest.raises(
        ReadError, match=r"this version of the dataset is gone.*sstfill plan"
    ) as caught:
        download(dataclasses.replace(SURFACE, timeout=3), out, target=SMALL)
    assert "accept" not in str(caught.value)
    assert_resumable(out)
    with pytest.raises(OptionError, match=r"202406.*202506.*another store"):
        download(SURFACE, out, target=SMALL)
    with xr.open_zarr(out, chunks=None, consolidated=False) as got:
        assert got.attrs["dataset_version"] == "202406"
        held = got.thetao.values
    stored = ~np.isnan(held)
    assert stored.any()
    assert (held[stored] == truth().values[stored]).all()


def test_a_version_that_is_added_in_the_middle_changes_nothing(server, one_attempt, out):
    newer = Published(HOURLY, a_model(seed=1), version="202506")
    server.faults.add(Do(lambda: server.catalogue.publish(newer)), CHUNK, after=1)
    server.faults.add(Status(503), CHUNK, after=3, times=ALWAYS)
    with pytest.raises(ReadError):
        download(SURFACE, out, target=SMALL)
    server.faults.clear()
    download(SURFACE, out, target=SMALL)
    assert_whole(out, truth())


def test_new_days_are_appended_and_only_they_are_fetched(server, out):
    download(SURFACE, out, target=SMALL)
    # the first twelve have other values: those of the store must stay as they were
    longer = Published(HOURLY, a_model(steps=16))
    server.catalogue.publish(longer)
    server.seen.clear()
    download(SURFACE, out, target=SMALL, update=True)
    assert_whole(out, xr.concat([truth(), truth(longer).isel(time=slice(12, None))], "time"))
    assert len(server.chunks()) == 2


def test_a_box_over_the_dateline_is_one_box(server, out):
    lon = (-180 + 10 * np.arange(36)).astype("f4")
    globe = Published("globe_P1D-m", a_model(steps=4, nx=36).assign_coords(longitude=lon))
    server.catalogue.publish(globe)
    request = dataclasses.replace(
        SURFACE, dataset_id="globe_P1D-m", minimum_longitude=165, maximum_longitude=-165
    )
    download(request, out, target=Target(chunks={"time": 4}, window_bytes=WINDOW))
    expected = truth(globe).isel(longitude=[35, 0, 1])
    assert_whole(out, expected)
    with xr.open_zarr(out, chunks=None, consolidated=False) as got:
        assert got.longitude.values.tolist() == [170, 180, 190]


# centres of cells: none lies on the dateline, nor does the axis reach it
CENTRES = (-175 + 10 * np.arange(36)).astype("f4")
CELLS = Published("cells_P1D-m", a_model(steps=4, nx=36).assign_coords(longitude=CENTRES))


@pytest.mark.parametrize(
    ("low", "high", "columns", "held"),
    [
        (165, -165, [34, 35, 0, 1], [165, 175, 185, 195]),
        (180, -170, [0], [-175]),
        (172, 180, [35], [175]),
        (178, 188, [0], [185]),
        (-180, 180, [*range(36)], CENTRES.tolist()),
    ],
)
def test_a_box_up_to_or_over_the_dateline_of_a_grid_of_cells(server, out, low, high, columns, held):
    server.catalogue.publish(CELLS)
    request = dataclasses.replace(
        SURFACE, dataset_id="cells_P1D-m", minimum_longitude=low, maximum_longitude=high
    )
    download(request, out, target=Target(chunks={"time": 4}, window_bytes=WINDOW))
    assert_whole(
        out, truth(CELLS).isel(longitude=columns).assign_coords(longitude=np.array(held, "f4"))
    )
    with xr.open_zarr(out, chunks=None, consolidated=False) as got:
        assert got.longitude.values.tolist() == held


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maximum_latitude": 60}, "latitude"),
        ({"end_datetime": "2031-02-01"}, "times from"),
        ({"minimum_depth": 900, "maximum_depth": 900}, "depth"),
        ({"minimum_longitude": 176, "maximum_longitude": -176}, "longitude"),
    ],
)
def test_around_the_globe_what_lies_beyond_is_refused_all_the_same(server, out, changes, message):
    server.catalogue.publish(CELLS)
    asked = {"minimum_longitude": 165, "maximum_longitude": -165} | changes
    with pytest.raises(OptionError, match=message):
        download(dataclasses.replace(SURFACE, dataset_id="cells_P1D-m", **asked), out, target=SMALL)
    assert not list(out.parent.glob("natl.zarr*"))


def test_a_wrong_password_is_told_once_and_leaves_nothing(server, out, monkeypatch, tmp_path):
    point_at(server, monkeypatch, tmp_path, user="ada", password="my-secret-mistake")
    with pytest.raises(ReadError, match="password") as caught:
        download(SURFACE, out, target=SMALL)
    assert "my-secret-mistake" not in str(caught.value)
    assert sum("token" in seen.path for seen in server.seen) == 1
    assert not list(tmp_path.glob("natl.zarr*"))


def test_the_password_is_nowhere_on_the_disk_or_in_the_log(
    server, one_attempt, out, tmp_path, caplog, capfd
):
    caplog.set_level("DEBUG", logger="sstfill")
    server.faults.add(Status(503), CHUNK, after=3, times=ALWAYS)
    with pytest.raises(ReadError):
        download(SURFACE, out, target=SMALL)
    shown = "".join(capfd.readouterr()) + caplog.text
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "right-password" not in shown
    assert b"right-password" not in written


def test_no_login_is_told_before_the_network_is_asked(server, out, monkeypatch, tmp_path):
    point_at(server, monkeypatch, tmp_path, user="", password="")
    with pytest.raises(ReadError, match="copernicusmarine login"):
        download(SURFACE, out, target=SMALL)
    assert not server.seen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_id": HOURLY.replace("anfc", "anf")}, f"did you mean '{HOURLY}'"),
        ({"variables": ("theta",)}, "did you mean 'thetao'"),
        ({"dataset_version": "202001"}, "202001.*202406"),
        ({"minimum_latitude": 60, "maximum_latitude": 70}, "latitude"),
        ({"minimum_longitude": 10, "maximum_longitude": 20}, "longitude"),
        ({"start_datetime": "2031-01-01", "end_datetime": "2031-02-01"}, "time"),
        ({"minimum_depth": None, "maximum_depth": None}, "levels"),
    ],
    ids=["dataset", "variable", "version", "latitude", "longitude", "period", "levels"],
)
def test_what_is_not_there_is_told_in_one_line_and_leaves_nothing(
    server, out, tmp_path, changes, message
):
    with pytest.raises(OptionError, match=message) as caught:
        download(dataclasses.replace(SURFACE, **changes), out, target=SMALL)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("natl.zarr*"))


def test_data_under_revision_are_refused(server, out):
    server.catalogue.publish(dataclasses.replace(MODEL, updating_from="2024-01-01T06:00:00Z"))
    with pytest.raises(ReadError, match="updat"):
        download(SURFACE, out, target=SMALL)


@pytest.mark.parametrize(
    ("down", "reason"),
    [
        ("catalogue", "503 Server Error: Service Unavailable"),
        ("login", "503 Server Error: Service Unavailable"),
        ("network", "Connection refused"),
        ("names", r"Failed to resolve .* Name or service not known"),
        ("silence", "no answer at all"),
    ],
)
def test_a_service_that_is_down_is_told_in_the_time_allowed_with_the_reason(
    server, out, monkeypatch, down, reason
):
    if down == "network":
        server.close()
    elif down == "names":
        without_names(monkeypatch)
    elif down == "silence":
        server.faults.add(Do(lambda: server.closing.wait(20)), CATALOGUE, times=ALWAYS)
    else:
        server.faults.add(Status(503), {"catalogue": CATALOGUE, "login": LOGIN}[down], times=ALWAYS)
    started = time.monotonic()
    with pytest.raises(
        ReadError, match=rf"did not answer for 1 s \(.*{reason}.*\); check the network"
    ) as caught:
        download(dataclasses.replace(SURFACE, timeout=1), out, target=SMALL)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 4
    assert not list(out.parent.glob("natl.zarr*"))


def test_an_opening_that_was_given_up_spoils_no_later_one(server, out):
    """It still waits in a thread of its own, and ends while the next dataset is being opened."""
    gate = threading.Event()
    # the first is asked for by describe
    server.faults.add(Do(lambda: gate.wait(20)), "/idMapping", after=1)
    with pytest.raises(ReadError, match="did not answer"):
        download(dataclasses.replace(SURFACE, timeout=2), out, target=SMALL)

    def let_go() -> None:
        gate.set()
        while len(openings()) > 1 and not server.closing.wait(0.02):
            pass

    server.faults.add(Do(let_go), "/idMapping", after=1)
    download(SURFACE, out, target=SMALL)
    assert_whole(out, truth())
    elsewhere = Published("elsewhere_P1D-m", a_model(nx=12, seed=2))
    server.catalogue.publish(elsewhere)
    request = dataclasses.replace(SURFACE, dataset_id=elsewhere.dataset, timeout=3)
    download(request, out.with_name("elsewhere.zarr"), target=SMALL)
    assert_whole(out.with_name("elsewhere.zarr"), truth(elsewhere))


SCRIPT = f"""
from sstfill.sources.copernicus.download import CopernicusRequest, Target, download
download({SURFACE!r}, "natl.zarr", target={SMALL!r})
"""


def test_killed_over_tls_in_a_process_of_its_own_and_resumed(server, out, tmp_path):
    """The process has nothing but environment variables, and is killed while it waits for the
    fourth chunk.
    """
    pytest.importorskip("trustme", reason="no throw-away certificates without trustme")
    from standin.tls import authority, environment, identity

    ca = authority()
    with StandIn(MODEL, tls=identity(ca)) as secure:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=environment(secure, ca, tmp_path),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        )
        with process:
            secure.faults.add(Do(lambda: os.kill(process.pid, signal.SIGKILL)), CHUNK, after=3)
            _, printed = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, printed.decode()
    assert_resumable(out)
    download(SURFACE, out, target=SMALL)
    assert_whole(out, truth())
    assert len(server.chunks()) == 3
