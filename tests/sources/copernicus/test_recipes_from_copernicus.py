# SPDX-License-Identifier: Apache-2.0
"""The recipes for Copernicus Marine by the commands, with the real client: each preset, and each
mistake of a user.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from standin import CATALOGUE, CHUNK, LOGIN, Published, StandIn, Status, a_level3, a_model
from standin.client import end_openings, point_at

import sstfill
from sstfill.cli import main
from sstfill.sources.copernicus import deadline
from sstfill.sources.copernicus.request import CopernicusRequest

pytest.importorskip("copernicusmarine", reason="the Copernicus Marine client is not installed")

TODAY = datetime.now(UTC).date()
MODEL = {"thetao": "sea_water_potential_temperature"}
LEVEL3 = {
    "sea_surface_temperature": "sea_surface_temperature",
    "adjusted_sea_surface_temperature": "",
    "quality_level": "",
    "sses_bias": "",
    "sses_standard_deviation": "",
}
LEVEL4 = {"analysed_sst": "", "analysis_error": "", "mask": "", "sea_ice_fraction": ""}


class Described(Published):
    """In the catalogue alone: its values are never asked for."""

    @property
    def stores(self) -> dict[str, dict[str, bytes]]:
        return {layout: {} for layout in self.layouts}


@dataclass(frozen=True)
class Served:
    """A dataset as the facts and the service's catalogue have it: product, grid (first node, step,
    nodes), times.
    """

    product: str
    variables: dict[str, str]
    latitude: tuple[float, float, int]
    longitude: tuple[float, float, int]
    first: str
    last: str
    freq: str = "D"

    def published(self, dataset: str) -> Published:
        times = pd.date_range(self.first, self.last, freq=self.freq, unit="s")
        levels = np.array([-1.541375, -0.494025], "f4") if self.variables is MODEL else None
        coords = {
            "time": xr.Variable(
                "time", times, encoding={"units": "seconds since 1970-01-01", "dtype": "int64"}
            )
        }
        if levels is not None:
            coords["elevation"] = xr.Variable("elevation", levels, {"units": "m", "positive": "up"})
        for name in ("latitude", "longitude"):
            low, step, count = getattr(self, name)
            coords[name] = xr.Variable(name, (low + step * np.arange(count)).astype("f4"))
        shape, chunk = (
            tuple(v.size for v in coords.values()),
            {d: min(v.size, 64) for d, v in coords.items()},
        )
        fields = {
            name: (
                tuple(coords),
                dask.array.zeros(shape, "f4", chunks=-1),
                {"standard_name": known},
            )
            for name, known in self.variables.items()
        }
        return Described(
            dataset,
            xr.Dataset(fields, coords),
            product=self.product,
            time_chunked=chunk,
            geo_chunked=chunk,
        )


GLOBE12 = {"latitude": (-80.0, 1 / 12, 2041), "longitude": (-180.0, 1 / 12, 4320)}
RECENT = {"first": str(TODAY - timedelta(days=120)), "last": str(TODAY - timedelta(days=1))}
SERVED = {
    "cmems_mod_glo_phy_anfc_0.083deg_PT1H-m": Served(
        "GLOBAL_ANALYSISFORECAST_PHY_001_024",
        MODEL,
        **GLOBE12,
        first="2022-06-01",
        last="2024-12-31",
        freq="h",
    ),
    "cmems_mod_glo_phy_my_0.083deg_P1D-m": Served(
        "GLOBAL_MULTIYEAR_PHY_001_030", MODEL, **GLOBE12, first="1993-01-01", last="2021-06-30"
    ),
    "IFREMER-GLOB-SST-L3-NRT-OBS_FULL_TIME_SERIE": Served(
        "SST_GLO_SST_L3S_NRT_OBSERVATIONS_010_010",
        LEVEL3,
        (-89.95, 0.1, 1800),
        (-179.95, 0.1, 3600),
        **RECENT,
    ),
    "cmems_obs-sst_atl_phy_my_l3s_P1D-m": Served(
        "SST_ATL_PHY_L3S_MY_010_038",
        LEVEL3,
        (9.01, 0.02, 2650),
        (-20.99, 0.02, 1700),
        "1982-01-01",
        "2023-12-31",
    ),
    "SST_MED_SST_L3S_NRT_OBSERVATIONS_010_012_a": Served(
        "SST_MED_SST_L3S_NRT_OBSERVATIONS_010_012",
        LEVEL3,
        (30.25, 0.0625, 253),
        (-18.125, 0.0625, 871),
        **RECENT,
    ),
    "METOFFICE-GLO-SST-L4-REP-OBS-SST": Served(
        "SST_GLO_SST_L4_REP_OBSERVATIONS_010_011",
        LEVEL4,
        (-89.975, 0.05, 3600),
        (-179.975, 0.05, 7200),
        "1981-10-01",
        "2022-05-31",
    ),
}
"""Ids, products, variables and steps of facts/copernicus.md; extents and periods as the service
stated them in 2024.
"""

SHAPES = {
    "natl_hourly": (8760, 64, 64),
    "satl_hourly": (1440, 64, 64),
    "natl_daily": (365, 64, 64),
    "satl_daily": (60, 64, 64),
    "global_l3s": (30, 1800, 3600),
    "atlantic_l3s": (365, 800, 500),
    "mediterranean_l3s": (90, 153, 249),
    "nightly_l3s": (30, 57, 89),
    "ostia_l4": (730, 240, 240),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A regional model of two levels and 20 days."""
    with StandIn(Published(DATASET, regional())) as standin:
        (here / "home").mkdir()
        point_at(standin, monkeypatch, here / "home")
        yield standin
    end_openings()


DATASET = "cmems_mod_glo_phy_my_0.083deg_P1D-m"
PERIOD = "start_datetime = 2024-01-01\nend_datetime = 2024-01-12"
RECIPE = f"""
[source]
kind = "copernicus"
dataset_id = "{DATASET}"
variables = ["thetao"]
minimum_longitude = -40.0
maximum_longitude = -39.5
minimum_latitude = 35.0
maximum_latitude = 35.4
minimum_depth = 0.5
maximum_depth = 0.5
{PERIOD}
timeout = 10
pause = 0.02
service = "arco-geo-series"
[target]
chunks = {{ time = 2, latitude = 6, longitude = 8 }}
window_bytes = 384
"""


def regional() -> xr.Dataset:
    return a_model(steps=20, freq="D")


def run_command(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    """What a command prints; with an error nothing but its one line."""
    capsys.readouterr()
    assert main([*words]) == status
    out, err = capsys.readouterr()
    assert "right-password" not in out + err
    if status:
        assert out == "" and err.startswith("sstfill: error: ") and err.count("\n") == 1, err
        return err
    assert err == ""
    return out


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_preset_is_served_as_it_says(name, here, monkeypatch, capsys):
    source = sstfill.load_recipe(f"copernicus/{name}").source
    assert isinstance(source, CopernicusRequest)
    served = SERVED[source.dataset_id]
    assert source.variables and set(source.variables) <= set(served.variables)
    assert source.dataset_version is None  # the newest when a store is begun, which keeps it
    assert served.product in Path(
        f"{sstfill.io.presets.folder()}/copernicus/{name}.toml"
    ).read_text() or (served.product in source.dataset_id)
    with StandIn(served.published(source.dataset_id)) as standin:
        point_at(standin, monkeypatch, here)
        printed = run_command(capsys, "plan", f"recipes/copernicus/{name}.toml")
        assert standin.chunks() == [] and not any("token" in seen.path for seen in standin.seen)
    rows = dict(line.split(maxsplit=1) for line in printed.splitlines())
    times, rows_, columns = SHAPES[name]
    assert rows["shape"] == f"time {times:,}, latitude {rows_:,}, longitude {columns:,}"
    size = 4 * math.prod(SHAPES[name]) * len(source.variables) / 1e6
    assert (
        rows["size"] == f"{size:,.1f} MB uncompressed"
        and int(rows["windows"].replace(",", "")) >= 1
    )
    assert rows["source"].startswith(f"{source.dataset_id}, version 202406") and rows[
        "target"
    ].startswith("Zarr v3, ch")
    assert rows["login"] == "found in the environment" and "note" not in rows


def test_every_copernicus_preset_is_in_the_list():
    assert {f"copernicus/{n}" for n in SHAPES} == {
        n for n in sstfill.io.presets.presets() if n[:3] == "cop"
    }


def test_a_preset_from_plan_to_store(here, monkeypatch, capsys):
    """The paper's test box and dates: by the command, from Python, and by the command again for
    nothing.
    """
    served = Served(
        "GLOBAL_MULTIYEAR_PHY_001_030",
        MODEL,
        (-21.0, 1 / 12, 96),
        (-21.0, 1 / 12, 96),
        "2018-12-01",
        "2019-03-31",
    )
    published = served.published(DATASET)
    values = np.random.default_rng(0).normal(25, 1, published.data["thetao"].shape).astype("f4")
    data = published.data.assign(thetao=published.data["thetao"].copy(data=values))
    with StandIn(Published(DATASET, data, time_chunked=published.time_chunked)) as standin:
        point_at(standin, monkeypatch, here)
        printed = run_command(
            capsys, "download", "recipes/copernicus/satl_daily.toml", "--out", "satl.zarr"
        )
        sizes = "(time 60, latitude 64, longitude 64)"
        assert f"copernicus/satl_daily: thetao {sizes}\nwritten to satl.zarr in" in printed
        standin.seen.clear()
        with sstfill.load_recipe("copernicus/satl_daily").run("satl.zarr") as ds:
            box = data.isel(elevation=1).sel(
                time=ds.time, latitude=ds.latitude, longitude=ds.longitude
            )
            np.testing.assert_array_equal(ds["thetao"], box["thetao"])
            assert (float(ds.latitude[0]), float(ds.longitude[-1])) == pytest.approx(
                (-20, -14.75), abs=1e-5
            )
            assert str(ds.time.values[-1])[:10] == "2019-03-01"
        old = datetime.now(UTC) + timedelta(seconds=2)
        monkeypatch.setattr(
            "sstfill.cli.downloading.datetime", type("Later", (), {"now": lambda zone: old})
        )
        printed = run_command(capsys, "download", "copernicus/satl_daily", "--out", "satl.zarr")
        assert (
            "satl.zarr has been complete since" in printed
            and "nothing was fetched or written" in printed
        )
        assert standin.seen == []


def test_nightly(here, monkeypatch, capsys):
    """30 days on the first night, what is new on the next."""
    source = sstfill.load_recipe("copernicus/nightly_l3s").source
    nodes = {"latitude": 34.75 + 0.0625 * np.arange(64), "longitude": -6 + 0.0625 * np.arange(104)}
    axes = {name: values.astype("f4") for name, values in nodes.items()}

    def until(day: int) -> Published:
        start = str(TODAY - timedelta(days=40))
        data = a_level3(steps=41 - day, ny=64, nx=104, start=start).assign_coords(axes)
        return Published(
            source.dataset_id,
            data,
            version="202311",
            product="SST_MED_SST_L3S_NRT_OBSERVATIONS_010_012",
            geo_chunked={"time": 64, "latitude": 32, "longitude": 52},
        )

    words = ("download", "copernicus/nightly_l3s", "--out", "med.zarr", "--update")
    with StandIn(until(day=2)) as standin:
        point_at(standin, monkeypatch, here)
        assert "(time 29, latitude 57, longitude 89)" in run_command(capsys, *words)
        standin.catalogue.publish(until(day=1))
        assert "(time 30, latitude 57, longitude 89)" in run_command(capsys, *words)
    with xr.open_zarr("med.zarr", chunks=None, consolidated=False) as ds:
        expected = (
            until(day=1).expected().sel(time=ds.time, latitude=ds.latitude, longitude=ds.longitude)
        )
        np.testing.assert_array_equal(
            ds["sea_surface_temperature"][-1], expected["sea_surface_temperature"][-1]
        )
        assert (
            ds["sea_surface_temperature"].attrs["units"] == "kelvin"
            and "flag_meanings" in ds["quality_level"].attrs
        )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "phy_my",
            "phy_mi",
            "no dataset 'cmems_mod_glo_phy_mi_0.083deg_P1D-m'; did you mean 'cmems_mod_glo_phy_my",
        ),
        ('"thetao"', '"theta"', "'theta'; did you mean 'thetao'"),
        (
            "dataset_id",
            'dataset_version = "202001"\ndataset_id',
            "version 202001 of .* is not served, but 202406",
        ),
        ("= 35.4", "= 60", "latitude .*35.*; ask for what lies within"),
        ("= -39.5", "= 10", "longitude .*-40.*; ask for what lies within"),
        ("depth = 0.5", "depth = 900", "depth .*0.49.*; ask for what lies within"),
        ("minimum_depth = 0.5\nmaximum_depth = 0.5\n", "", "covers 2 levels of depth; give one"),
        ("2024-01-12", "2031-01-12", "2024-01-20.*; ask for what lies within"),
        ("2024-01-12", "2023-12-12", "comes after end_datetime='2023-12-12'; swap them"),
        (
            PERIOD,
            "start_datetime = 2024-01-01T06:00:00\nend_datetime = 2024-01-01T18:00:00",
            "time",
        ),
        (
            "minimum_latitude = 35.0\nmaximum_latitude = 35.4",
            "minimum_latitude = 35.01\nmaximum_latitude = 35.02",
            "latitude.*widen the box",
        ),
    ],
    ids=[
        "dataset",
        "variable",
        "version",
        "latitude",
        "longitude",
        "depth",
        "levels",
        "late",
        "swap",
        "none",
        "box",
    ],
)
def test_what_is_not_there(old, new, words, server, here, capsys):
    assert old in RECIPE
    (here / "mine.toml").write_text(RECIPE.replace(old, new))
    for command in (("plan", "mine.toml"), ("download", "mine.toml", "--out", "x.zarr")):
        printed = run_command(capsys, *command, status=2)
        assert re.search(words, printed), printed
    assert not list(here.glob("*x.zarr*")) and server.chunks() == []


def test_logins(server, here, monkeypatch, capsys):
    (here / "mine.toml").write_text(RECIPE)
    point_at(server, monkeypatch, here / "home", user="ada", password="my-mistake")
    printed = run_command(capsys, "download", "mine.toml", "--out", "x.zarr", status=2)
    assert (
        "refused the user name or the password; correct them" in printed
        and "my-mistake" not in printed
    )
    point_at(server, monkeypatch, here / "home", user="", password="")
    server.seen.clear()
    assert "no Copernicus Marine login" in run_command(
        capsys, "download", "mine.toml", "--out", "x.zarr", status=2
    )
    assert server.seen == []
    assert "login      not found; run: copernicusmarine login" in run_command(
        capsys, "plan", "mine.toml"
    )
    assert not list(here.glob("*x.zarr*"))


@pytest.mark.parametrize("what", [CATALOGUE, LOGIN, None], ids=["catalogue", "login", "network"])
def test_down(what, server, here, capsys):
    """Told within the time that the command allows, not the client's nine minutes."""
    (here / "mine.toml").write_text(RECIPE)
    if what is None:
        server.close()
    else:
        server.faults.add(Status(503), what, times=math.inf)
    started = time.monotonic()
    printed = run_command(
        capsys, "download", "mine.toml", "--out", "x.zarr", "--timeout", "1", status=2
    )
    assert "did not answer for 1 s" in printed and "check the network" in printed
    assert not list(here.glob("*x.zarr*"))
    if what != LOGIN:
        printed = run_command(
            capsys, "plan", "recipes/copernicus/natl_daily.toml", "--timeout", "1"
        )
        assert "note       shape not known: Copernicus Marine did not answer for 1 s" in printed
        assert (
            "note       the recipe expects latitude 64, longitude 64" in printed
            and "login      found in" in printed
        )
    assert time.monotonic() - started < 15


def test_broken_off_refused_for_another_and_resumed(server, here, monkeypatch, capsys):
    (here / "mine.toml").write_text(RECIPE)
    (here / "other.toml").write_text(RECIPE.replace("-39.5", "-39.6"))
    server.faults.add(Status(503), CHUNK, after=2, times=math.inf)
    with monkeypatch.context() as hasty:
        hasty.setattr(deadline.Deadline, "over", True)
        printed = run_command(capsys, "download", "mine.toml", "--out", "x.zarr", status=2)
    assert "check the network and run the same command again, it goes on where it was" in printed
    for words in (
        ("info", "x.zarr"),
        ("import-video", "mine.toml", "--out", "x.zarr"),
        ("download", "other.toml", "--out", "x.zarr"),
        ("download", "clouds/pycles_unisst", "--out", "x.zarr"),
    ):
        run_command(capsys, *words, status=2)
    server.faults.clear()
    server.seen.clear()
    assert "thetao (time 12, latitude 5, longitude 7)" in run_command(
        capsys, "download", "mine.toml", "--out", "x.zarr"
    )
    assert 0 < len(server.chunks()) < 6  # those that had come are not fetched again
    with xr.open_zarr("x.zarr", chunks=None, consolidated=False) as ds:
        expected = regional()["thetao"].isel(
            time=slice(12), elevation=1, latitude=slice(5), longitude=slice(7)
        )
        np.testing.assert_array_equal(ds["thetao"], expected)
    assert "maximum_longitude: -39.5 there, -39.6 here" in run_command(
        capsys, "download", "other.toml", "--out", "x.zarr", status=2
    )
    assert "--update" in run_command(capsys, "download", _later(here), "--out", "x.zarr", status=2)
    assert "(time 14," in run_command(
        capsys, "download", _later(here), "--out", "x.zarr", "--update"
    )


def _later(here: Path) -> str:
    (here / "later.toml").write_text(RECIPE.replace("2024-01-12", "2024-01-14"))
    return "later.toml"


def test_no_room(server, here, monkeypatch, capsys):
    (here / "mine.toml").write_text(RECIPE)
    nearly = shutil.disk_usage(here)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: nearly)
    printed = run_command(capsys, "download", "mine.toml", "--out", "x.zarr", status=2)
    assert "cannot write x.zarr: it may take" in printed and "make room there" in printed
    assert not list(here.glob("*x.zarr*"))


def test_targets_that_cannot_be(server, here, capsys):
    (here / "mine.toml").write_text(RECIPE)
    (here / "file.zarr").write_text("mine")
    (here / "photos.zarr").mkdir()
    (here / "photos.zarr" / "photo.raw").write_text("precious")
    for out, words in (
        ("x.nc", "end its name with .zarr"),
        ("no/x.zarr", "create it: mkdir -p"),
        ("file.zarr", "remove it or choose another name"),
        ("photos.zarr", "choose another name"),
    ):
        assert words in run_command(capsys, "download", "mine.toml", "--out", out, status=2)
    assert (here / "file.zarr").read_text() == "mine" and [
        p.name for p in (here / "photos.zarr").iterdir()
    ] == ["photo.raw"]
    assert server.chunks() == []
