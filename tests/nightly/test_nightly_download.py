# SPDX-License-Identifier: Apache-2.0
"""Nights that download: through the real client from a stand-in; days come late, logins fail,
clocks go back.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from small_archives import moved
from standin import CATALOGUE, CHUNK, Published, StandIn, Status, a_level3
from standin.client import point_at

from sstfill.archive import verify
from sstfill.errors import ReadError
from sstfill.nightly import Night, load_nightly, run_night
from sstfill.report.pictures import Picture
from sstfill.sources.copernicus import deadline, job, request
from sstfill.sources.recipe import Recipe

pytest.importorskip("copernicusmarine", reason="the Copernicus Marine client is not installed")

DAILY = "cmems_obs-sst_glo_phy_l3s_pmw_P1D-m"
SST = "sea_surface_temperature"
NIGHTLY = f"""
[nightly]
archive = "med.zarr"
filled = "med_filled.zarr"
report = "report"
[download]
recipe = "med.toml"
[fill]
method = "climatology"
variables = ["{SST}"]
quality_level = 3
"""
DOWNLOAD = f"""
[source]
kind = "copernicus"
dataset_id = "{DAILY}"
variables = ["{SST}", "quality_level"]
start_datetime = "2024-01-01"
end_datetime = "-1d"
revisit = "5d"
timeout = 20
pause = 0.02
[target]
chunks = {{ time = 4, latitude = 8, longitude = 8 }}
"""
ALL = a_level3(steps=30)


def published(days: int, revised: int | None = None) -> Published:
    """The first days; one of them half a degree warmer than before."""
    ds = ALL.isel(time=slice(0, days)).copy(deep=True)
    if revised is not None:
        ds[SST][revised] += 0.5
    return Published(
        DAILY, ds, version="202311", product="SST_GLO_SST_L3S_NRT_OBSERVATIONS_010_010"
    )


class Clock:
    """What the download and the night take for now."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, clock = datetime(2024, 1, 21, 5, tzinfo=UTC), self

        class Faked(datetime):
            @classmethod
            def now(cls, tz=None) -> datetime:  # type: ignore[override]
                return clock.now

        for module in (job, request):
            monkeypatch.setattr(module, "datetime", Faked)

    def night(self, folder: Path) -> Night:
        return run_night(load_nightly(folder / "nightly.toml"), now=self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@contextlib.contextmanager
def serving(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[StandIn]:
    """Lay out the recipes of nights, and serve 20 days to them."""
    (folder / "nightly.toml").write_text(NIGHTLY)
    (folder / "med.toml").write_text(DOWNLOAD)
    for name in ("map_of_newest", "score_chart"):
        patch.setattr(f"sstfill.nightly.report.{name}", lambda *_: Picture())
    with StandIn(published(20)) as standin:
        point_at(standin, patch, folder)
        yield standin


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    with serving(monkeypatch, tmp_path) as standin:
        yield standin


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Night]:
    """A folder where a night has filled 20 days, to be copied, and what that night returned."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch, serving(patch, folder):
        return folder, Clock(patch).night(folder)


@pytest.fixture
def begun(server: StandIn, first_night: tuple[Path, Night], tmp_path: Path) -> StandIn:
    """The service, and a folder where a first night has been."""
    folder, _ = first_night
    moved(folder, tmp_path, "med.zarr", "med_filled.zarr")
    shutil.copytree(folder / "report", tmp_path / "report")
    return server


def times(folder: Path, name: str) -> list[str]:
    with xr.open_zarr(folder / name, consolidated=False, chunks=None) as ds:
        return [str(day)[:10] for day in ds.time.values]


def assert_sound(folder: Path, days: int) -> None:
    """The output holds so many days, and what was observed on them as the archive has it."""
    assert len(times(folder, "med_filled.zarr")) == days
    found = verify(folder / "med_filled.zarr", folder / "med.zarr")
    assert found.compared and not found.wrong


@pytest.mark.slow
def test_nights_from_the_service_to_the_report(begun, first_night, clock, tmp_path):
    server, first = begun, first_night[1]
    assert (first.status, first.newest, first.outcome.new) == ("fine", "2024-01-20", 20)
    clock.now += timedelta(days=2)
    server.catalogue.publish(published(22, revised=18))
    second = clock.night(tmp_path)
    assert second.status == "fine", second
    assert (second.outcome.new, second.outcome.revised) == (2, 1)
    again = clock.night(tmp_path)
    assert (again.exit, again.outcome.made) == (0, 0)
    assert_sound(tmp_path, 22)
    lines = [
        json.loads(text)
        for text in (tmp_path / "report" / "history.jsonl").read_text().splitlines()
    ]
    assert [one["newest"] for one in lines] == ["2024-01-20", "2024-01-22"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Copernicus Marine Service, dataset " + DAILY in page and "right-password" not in page
    assert "right-password" not in (tmp_path / "report" / "nightly.log").read_text()


@pytest.mark.slow
def test_the_service_is_down_and_comes_back(begun, clock, tmp_path):
    server = begun
    recipe = (tmp_path / "med.toml").read_text()
    (tmp_path / "med.toml").write_text(recipe.replace("timeout = 20", "timeout = 1"))
    server.catalogue.publish(published(21))
    server.faults.add(Status(503), CATALOGUE, times=math.inf)
    clock.now += timedelta(days=1)
    night = clock.night(tmp_path)
    assert (night.exit, night.outcome.made) == (1, 0)
    assert (
        "the download did not end well, and what was there already was filled: "
        in night.attention[0]
    )
    assert "did not answer" in night.refused
    server.faults.clear()
    (tmp_path / "med.toml").write_text(recipe)
    assert (night := clock.night(tmp_path)).exit == 0 and night.outcome.new == 1
    assert_sound(tmp_path, 21)


@pytest.mark.slow
def test_a_download_cut_in_the_middle_fills_nothing_and_goes_on(
    begun, clock, tmp_path, monkeypatch
):
    server = begun
    server.catalogue.publish(published(26))
    clock.now += timedelta(days=6)
    with monkeypatch.context() as patch:
        patch.setattr(deadline.Deadline, "over", True)
        server.faults.add(Status(503), CHUNK, after=2, times=math.inf)
        night = clock.night(tmp_path)
    assert (
        night.exit == 2
        and "unfinished download" in night.failure
        and "before that the download" in night.failure
    )
    assert len(times(tmp_path, "med_filled.zarr")) == 20
    server.faults.clear()
    assert (night := clock.night(tmp_path)).exit == 0 and night.outcome.new == 6
    assert_sound(tmp_path, 26)


@pytest.mark.slow
@pytest.mark.parametrize("revisit", ["", 'revisit = "5d"'])
def test_a_clock_that_goes_back_takes_nothing_away(begun, clock, tmp_path, revisit):
    (tmp_path / "med.toml").write_text(DOWNLOAD.replace('revisit = "5d"', revisit))
    before = times(tmp_path, "med.zarr")
    clock.now -= timedelta(days=12)
    night = clock.night(tmp_path)
    assert (night.exit, night.outcome.made, night.refused) == (1, 0, "")
    assert [text[-17:] for text in night.attention] == ["look at the clock"]
    assert times(tmp_path, "med.zarr") == before
    assert_sound(tmp_path, 20)


def test_without_an_archive_a_refused_download_is_a_failure(monkeypatch, tmp_path):
    (tmp_path / "nightly.toml").write_text(NIGHTLY)
    (tmp_path / "med.toml").write_text(DOWNLOAD)

    def refused(self: Recipe, out: Path, update: bool) -> xr.Dataset:
        raise ReadError("no login; copernicusmarine login")

    monkeypatch.setattr(Recipe, "run", refused)
    night = run_night(load_nightly(tmp_path / "nightly.toml"))
    assert (night.exit, night.failure) == (
        2,
        "failed at the download: no login; copernicusmarine login",
    )
    assert "there is no output yet" in (tmp_path / "report" / "index.html").read_text().lower()
    assert np.isin(
        ["index.html", "latest.json", "history.jsonl"],
        [p.name for p in (tmp_path / "report").iterdir()],
    ).all()
