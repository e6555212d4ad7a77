# SPDX-License-Identifier: Apache-2.0
"""The real client finds in the stand-in what was put there, and meets the faults as set."""

from __future__ import annotations

import math
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
    CONFIG,
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
from standin.client import impatient, point_at
from standin.store import repeated

copernicusmarine = pytest.importorskip(
    "copernicusmarine", reason="the Copernicus Marine client is not installed"
)

MODEL = "cmems_mod_glo_phy_anfc_0.083deg_PT1H-m"
LEVEL3 = "cmems_obs-sst_glo_phy_l3s_pmw_P1D-m"
PUBLISHED = Published(MODEL, a_model())
OBSERVED = Published(
    LEVEL3, a_level3(), version="202311", product="SST_GLO_SST_L3S_NRT_OBSERVATIONS_010_010"
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(PUBLISHED, OBSERVED) as standin:
        point_at(standin, monkeypatch, tmp_path)
        impatient(monkeypatch)  # also so that no thread goes on asking when the server is gone
        yield standin


def opened(dataset: str = MODEL, **request) -> xr.Dataset:
    return copernicusmarine.open_dataset(dataset_id=dataset, chunk_size_limit=0, **request)


def by_elevation(ds: xr.Dataset) -> xr.Dataset:
    return ds.isel(depth=slice(None, None, -1)) if "depth" in ds.dims else ds


def assert_same_bits(got: xr.Dataset, expected: xr.Dataset) -> None:
    got = by_elevation(got)
    assert list(got.data_vars) == list(expected.data_vars)
    for name, field in expected.data_vars.items():
        assert got[name].dtype == field.dtype
        assert got[name].values.tobytes() == field.values.tobytes(), name
    for name in ("time", "latitude", "longitude"):
        np.testing.assert_array_equal(got[name], expected[name])


@pytest.mark.parametrize("service", ["timeseries", "geoseries"])
def test_a_model_arrives_bit_identical(server, service):
    got = opened(service=service).load()
    assert_same_bits(got, PUBLISHED.expected())
    assert got.thetao.values[:, ::-1].tobytes() == PUBLISHED.data.thetao.values.tobytes()
    layout = {"timeseries": "geoChunked", "geoseries": "timeChunked"}[service]
    assert all(f"/{layout}.zarr/" in path for path in server.chunks())


def test_packed_observations_and_their_quality_arrive_bit_identical(server):
    got = opened(LEVEL3).load()
    assert_same_bits(got, OBSERVED.expected())
    np.testing.assert_allclose(
        got.sea_surface_temperature, OBSERVED.data.sea_surface_temperature, atol=1e-3
    )
    assert got.sea_surface_temperature.isel(time=3).isnull().all()
    assert got.quality_level.attrs["flag_meanings"].startswith("no_data")


def test_a_box_and_a_period_cost_only_their_chunks(server):
    box = {
        "minimum_longitude": -39.99,
        "maximum_longitude": -39.7,
        "minimum_latitude": 35.2,
        "maximum_latitude": 35.4,
    }
    days = {"start_datetime": "2024-01-01T02:00", "end_datetime": "2024-01-01T03:00"}
    got = opened(
        **box,
        **days,
        minimum_depth=0.5,
        maximum_depth=0.5,
        service="geoseries",
        coordinates_selection_method="strict-inside",
    ).load()
    expected = PUBLISHED.expected().sel(
        longitude=slice(-39.99, -39.7),
        latitude=slice(35.2, 35.4),
        time=slice("2024-01-01T02", "2024-01-01T03"),
    )
    assert (
        got.thetao.values.tobytes() == expected.thetao.isel(elevation=slice(1, 2)).values.tobytes()
    )
    assert [path.rsplit("/", 1)[1] for path in server.chunks()] == ["1.1.0.0"]


def test_either_way_over_the_dateline_gives_the_same(server):
    lon = (-180 + 10 * np.arange(36)).astype("f4")
    server.catalogue.publish(Published("globe_P1D-m", a_model(nx=36).assign_coords(longitude=lon)))
    wrapped = opened("globe_P1D-m", minimum_longitude=165, maximum_longitude=-165).load()
    beyond = opened("globe_P1D-m", minimum_longitude=165, maximum_longitude=195).load()
    assert wrapped.longitude.values.tolist() == [170, 180, 190]
    assert_same_bits(beyond, by_elevation(wrapped))


def test_a_store_of_any_size_fits_in_the_memory_of_a_chunk(server):
    layout = {"time": 12, "elevation": 2, "latitude": 6, "longitude": 8}
    data = repeated(a_model(), time=4, longitude=3)
    server.catalogue.publish(
        Published("large_PT1H-m", data, time_chunked=layout, geo_chunked=layout, periodic=True)
    )
    got = opened("large_PT1H-m").load()
    assert got.sizes == {"time": 48, "depth": 2, "latitude": 6, "longitude": 24}
    assert_same_bits(got, data.load())
    assert len(server.chunks()) == 12


def test_describe_lists_what_is_published(server):
    found = copernicusmarine.describe(dataset_id=MODEL, disable_progress_bar=True)
    (product,) = found.products
    assert (product.product_id, product.digital_object_identifier) == (
        PUBLISHED.product,
        PUBLISHED.doi,
    )
    assert [v.label for v in product.datasets[0].versions] == ["202406"]


def test_faults_that_pass_leave_no_trace(server):
    """Each is met at a chunk of its own."""
    faults = [Status(401), Status(429), Status(503), Slow(0.3), Truncated(), Dropped()]
    for number, fault in enumerate(faults):
        server.faults.add(fault, rf"thetao/{number}\.0\.")
    assert_same_bits(opened(service="geoseries").load(), PUBLISHED.expected())
    met = {path.rsplit("/", 1)[1]: fired for path, fired in server.faults.fired}
    assert met == {f"{number}.0.0.0": fault for number, fault in enumerate(faults)}
    for path, fired in server.faults.fired:
        assert server.chunks().count(path) == (1 if isinstance(fired, Slow) else 2)


def test_the_client_waits_and_asks_again_as_released(server, monkeypatch, tmp_path):
    monkeypatch.undo()
    point_at(server, monkeypatch, tmp_path)
    server.faults.add(Truncated(), CHUNK)
    assert_same_bits(opened().load(), PUBLISHED.expected())
    assert len(server.faults.fired) == 1


def test_refused_chunks_are_silently_missing(server):
    """The trap that sstfill.sources.copernicus.download must see."""
    server.faults.add(Status(403), r"thetao/0\.1\.1\.1$")
    server.faults.add(Status(404), r"thetao/0\.0\.1\.0$")
    got, expected = by_elevation(opened(service="timeseries").load()), PUBLISHED.expected()
    lost = np.isnan(got.thetao.values) & ~np.isnan(expected.thetao.values)
    assert lost[:, 1, 3:, 4:].all() and lost[:, 0, 3:, :4].all()
    assert lost.sum() == lost[:, 1, 3:, 4:].size + lost[:, 0, 3:, :4].size


def test_a_fault_that_stays_is_raised_in_the_end(server):
    from botocore.exceptions import ClientError

    server.faults.add(Status(503), CHUNK, times=math.inf)
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        opened().load()
    server.faults.clear()
    assert_same_bits(opened().load(), PUBLISHED.expected())


def test_a_body_cut_short_with_a_matching_header_is_not_taken_for_data(server):
    server.faults.add(Truncated(declared=True), CHUNK)
    with pytest.raises(RuntimeError, match="decompression"):
        opened().load()


def test_a_version_that_changes_in_the_middle_turns_to_nan_and_then_is_gone(server):
    newer = Published(MODEL, a_model(seed=1), version="202506")

    def replace() -> None:
        server.catalogue.publish(newer)
        server.catalogue.withdraw(PUBLISHED.item)

    server.faults.add(Do(replace), CHUNK, after=3)
    got, expected = by_elevation(opened(service="geoseries").load()), PUBLISHED.expected()
    arrived = ~np.isnan(got.thetao.values)
    assert 0 < arrived.sum() < (~np.isnan(expected.thetao.values)).sum()
    assert (got.thetao.values == expected.thetao.values)[arrived].all()
    with pytest.raises(copernicusmarine.DatasetVersionNotFound, match="202406"):
        opened(dataset_version="202406")
    assert_same_bits(opened(dataset_version="202506").load(), newer.expected())


def test_data_under_revision_are_refused_when_asked_to(server):
    server.catalogue.publish(Published(MODEL, a_model(), updating_from="2024-01-01T06:00:00Z"))
    with pytest.raises(copernicusmarine.DatasetUpdating):
        opened(raise_if_updating=True)
    assert opened(raise_if_updating=True, end_datetime="2024-01-01T05:00").sizes["time"] == 6


def test_a_wrong_password_is_told(server, monkeypatch, tmp_path):
    with pytest.raises(copernicusmarine.InvalidUsernameOrPassword):
        opened(username="ada", password="wrong")
    assert not any("metadata" in seen.path for seen in server.seen)


def test_without_credentials_the_client_returns_none(server, monkeypatch, tmp_path, capsys):
    """Another trap: nobody to ask for a password, so it prints Abort and says no more."""
    point_at(server, monkeypatch, tmp_path, user="", password="")
    assert opened() is None
    assert "Abort" in capsys.readouterr().out
    assert not server.seen


def test_an_unknown_dataset_and_a_box_elsewhere_are_told(server):
    with pytest.raises(copernicusmarine.DatasetNotFound, match="no_such"):
        opened("no_such_dataset")
    with pytest.raises(copernicusmarine.CoordinatesOutOfDatasetBounds, match="latitude"):
        opened(
            minimum_latitude=50, maximum_latitude=60, coordinates_selection_method="strict-inside"
        )
    with pytest.raises(copernicusmarine.VariableDoesNotExistInTheDataset, match="sst"):
        opened(variables=["sst"])


@pytest.mark.parametrize("fault", [Status(503), Dropped()], ids=lambda f: f"{f}")
def test_a_catalogue_that_is_down_is_an_error(server, fault):
    from requests.exceptions import RequestException

    server.faults.add(fault, CATALOGUE, times=math.inf)
    with pytest.raises(RequestException):
        opened()


def test_the_configuration_has_a_second_home(server):
    server.faults.add(Status(503), CONFIG)
    assert_same_bits(opened().load(), PUBLISHED.expected())
    assert [s.path for s in server.seen if "onfig" in s.path][-1] == "/clients-config-v1"


def test_a_login_that_is_down_is_an_error(server):
    server.faults.add(Status(503), LOGIN, times=math.inf)
    with pytest.raises(copernicusmarine.CouldNotConnectToAuthenticationSystem):
        opened()


def test_nothing_is_left_when_the_server_closes(tmp_path):
    before = set(threading.enumerate())
    with StandIn(PUBLISHED) as server:
        address = server.server_address
        server.faults.add(Slow(60), "/slow")
        with socket.create_connection(address) as asked, socket.create_connection(address):
            asked.sendall(b"GET /slow HTTP/1.1\r\nHost: any\r\n\r\n")
            time.sleep(0.1)
            started = time.monotonic()
            server.close()
            assert time.monotonic() - started < 2
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_a_test_cannot_leave_this_machine(server):
    with pytest.raises(PermissionError, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with socket.socket() as direct, pytest.raises(PermissionError, match=r"192\.0\.2\.1"):
        direct.connect(("192.0.2.1", 80))
    with pytest.raises(PermissionError, match=r"auth\.marine"):
        socket.getaddrinfo("auth.marine.copernicus.eu", 443)


SCRIPT = f"""
import copernicusmarine
ds = copernicusmarine.open_dataset(dataset_id={MODEL!r}, chunk_size_limit=0)
ds.thetao.values.tofile("thetao.bin")
"""


def test_over_tls_in_a_process_of_its_own_with_environment_variables_alone(tmp_path):
    pytest.importorskip("trustme", reason="no throw-away certificates without trustme")
    from standin.tls import authority, environment, identity

    ca = authority()
    with StandIn(PUBLISHED, tls=identity(ca)) as server:
        server.faults.add(Dropped(), CHUNK)
        server.faults.add(Status(503), CATALOGUE)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment(server, ca, tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert len(server.faults.fired) == 2
    got = np.fromfile(tmp_path / "thetao.bin", "f4").reshape(12, 2, 6, 8)
    assert got[:, ::-1].tobytes() == PUBLISHED.data.thetao.values.tobytes()
