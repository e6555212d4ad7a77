# SPDX-License-Identifier: Apache-2.0
"""Chunks of land, which the service leaves out, cost little, and lost ones are still found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from standin import Published, StandIn, Status, a_level3, a_model
from standin.client import end_openings, point_at

from sstfill.errors import ReadError
from sstfill.sources.copernicus.download import CopernicusRequest, Target, download

pytest.importorskip("copernicusmarine", reason="the Copernicus Marine client is not installed")

TILES = {"time": 2, "elevation": 1, "latitude": 3, "longitude": 4}
LONG = TILES | {"time": 1024}
MODEL = Published("model_PT1H-m", a_model(steps=12), time_chunked=TILES, geo_chunked=LONG)
CLOUDY = Published(
    "cloudy_P1D-m", a_level3(steps=12), version="202311", time_chunked=TILES, geo_chunked=LONG
)
ALWAYS = math.inf


def asked(published: Published, **changes) -> CopernicusRequest:
    request = CopernicusRequest(
        dataset_id=published.dataset, service="arco-geo-series", timeout=20, pause=0.001, **changes
    )
    deep = {"minimum_depth": 0.5, "maximum_depth": 0.5} if published is MODEL else {}
    return dataclasses.replace(request, **deep)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(MODEL, CLOUDY) as standin:
        point_at(standin, monkeypatch, tmp_path)
        yield standin
    end_openings()


def windows_of(pixels: int) -> Target:
    """Windows of two times."""
    chunks = {"time": 2, "latitude": 6, "longitude": 8}
    return Target(chunks=chunks, window_bytes=2 * 6 * 8 * pixels)


def assert_whole(out: Path, published: Published) -> None:
    expected = published.expected()
    with xr.open_zarr(out, chunks=None, consolidated=False) as got:
        for name, held in got.data_vars.items():
            wanted = (
                expected[name].isel(elevation=1)
                if "elevation" in expected[name].dims
                else expected[name]
            )
            np.testing.assert_array_equal(held.values, wanted.values)
        assert got.attrs["sstfill_state"] == "complete"


def elsewhere(server: StandIn) -> int:
    """How many chunks of the other layout were asked for."""
    return sum("/geoChunked.zarr/" in path for path in server.chunks())


@pytest.mark.parametrize(
    ("published", "pixels", "most"), [(MODEL, 4, 6), (CLOUDY, 9, 12)], ids=["model", "cloudy"]
)
def test_land_is_looked_for_a_few_times_only(server, tmp_path, published, pixels, most):
    download(asked(published), tmp_path / "a.zarr", target=windows_of(pixels))
    assert_whole(tmp_path / "a.zarr", published)
    # in the first of 6 windows, each with a corner of land
    assert 0 < elsewhere(server) <= most


def test_a_place_of_nothing_but_land_is_known_too(server, tmp_path):
    """Its windows hold no value at all: there is no mask to go by."""
    chunks = {"time": 2, "latitude": 3, "longitude": 4}
    target = Target(chunks=chunks, window_bytes=2 * 3 * 4 * 4)
    download(asked(MODEL), tmp_path / "a.zarr", target=target)
    assert_whole(tmp_path / "a.zarr", MODEL)
    assert 0 < elsewhere(server) <= 4


@pytest.mark.parametrize(
    ("published", "pixels"), [(MODEL, 4), (CLOUDY, 9)], ids=["model", "cloudy"]
)
def test_once_land_is_known_a_lost_chunk_is_still_found(server, tmp_path, published, pixels):
    chunk = r"thetao/4\.1\.1\.1" if published is MODEL else r"sea_surface_temperature/4\.1\.1"
    server.faults.add(Status(404), rf"timeChunked\.zarr/{chunk}", times=ALWAYS)
    download(asked(published), tmp_path / "a.zarr", target=windows_of(pixels))
    assert_whole(tmp_path / "a.zarr", published)
    assert server.faults.fired


def test_once_land_is_known_a_chunk_lost_everywhere_is_refused(server, tmp_path):
    server.faults.add(Status(404), r"timeChunked\.zarr/thetao/4\.1\.1\.1", times=ALWAYS)
    server.faults.add(Status(404), r"geoChunked\.zarr/thetao/0\.1\.1\.1", times=ALWAYS)
    with pytest.raises(ReadError, match="lost"):
        download(asked(MODEL), tmp_path / "a.zarr", target=windows_of(4))


def test_to_refuse_all_that_is_absent_is_to_refuse_land(server, tmp_path):
    with pytest.raises(ReadError, match="lost"):
        download(asked(MODEL, absent="refuse"), tmp_path / "a.zarr", target=windows_of(4))


def test_what_the_store_has_had_is_not_taken_for_empty(server, tmp_path):
    """Both layouts have lost a chunk of cloudy days that an update fetches again: the values of the
    store are kept.
    """
    request, target = asked(CLOUDY, revisit="4d"), windows_of(9)
    download(request, tmp_path / "a.zarr", target=target)
    server.faults.add(
        Status(404), r"timeChunked\.zarr/sea_surface_temperature/5\.1\.1", times=ALWAYS
    )
    server.faults.add(
        Status(404), r"geoChunked\.zarr/sea_surface_temperature/0\.1\.1", times=ALWAYS
    )
    with pytest.raises(ReadError, match="the store has values there"):
        download(request, tmp_path / "a.zarr", target=target, update=True)
    server.faults.clear()
    download(request, tmp_path / "a.zarr", target=target, update=True)
    assert_whole(tmp_path / "a.zarr", CLOUDY)


def test_an_update_that_revisits_fetches_those_days_and_no_others(server, tmp_path):
    request, target = asked(CLOUDY, revisit="4d"), windows_of(9)
    download(request, tmp_path / "a.zarr", target=target)
    server.catalogue.publish(dataclasses.replace(CLOUDY, data=a_level3(steps=16, seed=5)))
    server.seen.clear()
    download(request, tmp_path / "a.zarr", target=target, update=True)
    with xr.open_zarr(tmp_path / "a.zarr", chunks=None, consolidated=False) as got:
        held = got.sea_surface_temperature.values
    old, new = (
        p.expected().sea_surface_temperature.values
        for p in (CLOUDY, dataclasses.replace(CLOUDY, data=a_level3(steps=16, seed=5)))
    )
    np.testing.assert_array_equal(held, np.concatenate([old[:8], new[8:]]))
    numbers = {
        int(path.split("/")[-1].split(".")[0])
        for path in server.chunks()
        if "/timeChunked.zarr/" in path
    }
    assert numbers == {4, 5, 6, 7}
