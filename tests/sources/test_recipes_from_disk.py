# SPDX-License-Identifier: Apache-2.0
"""The recipes of clouds and clips, from plan to store, by the commands and from Python, with small
local copies.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from clips import encode
from fake_figshare import Figshare

import sstfill
from sstfill.cli import main
from sstfill.errors import InputError, ReadError
from sstfill.occlusion import lwp_series

SUPPORT = Path(__file__).parents[1] / "support"

CLOUDS, PRESETS = "recipes/clouds/pycles_unisst.toml", ("kth", "bair", "faceforensics")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    """What a command prints; with an error nothing but its one line."""
    capsys.readouterr()
    assert main([*words]) == status
    out, err = capsys.readouterr()
    if status:
        assert out == "" and err.startswith("sstfill: error: ") and err.count("\n") == 1, err
        return err
    assert err == ""
    return out


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def kept(capsys: pytest.CaptureFixture[str], *words: str, out: Path) -> None:
    """The same command once more leaves the store as it is, and says so."""
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.rglob("*")}
    with xr.open_zarr(out, chunks=None, consolidated=False) as ds:
        made = ds.attrs["date_created"]
    for path in (out / "zarr.json",):  # as if made before this second
        text = path.read_text().replace(made, "2026-01-01T00:00:00Z")
        path.write_text(text)
        before[path] = (path.stat().st_ino, path.stat().st_mtime_ns)
    assert (
        f"{out.name} has been complete since 2026-01-01T00:00:00Z; nothing was fetched or written"
        in said(capsys, *words)
    )
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.rglob("*")} == before


class TestClouds:
    @pytest.fixture
    def array(self, here: Path) -> np.ndarray:
        values = np.random.default_rng(0).gamma(2, 0.03, (150, 8, 9))
        np.save(here / "cloud_dataset.npy", values)
        return values

    @pytest.fixture
    def site(self, array: np.ndarray, here: Path, monkeypatch: pytest.MonkeyPatch) -> Figshare:
        pytest.importorskip("pooch", reason="pooch is not installed")
        site = Figshare((here / "cloud_dataset.npy").read_bytes())
        monkeypatch.setattr("requests.get", site.get)
        monkeypatch.setattr("time.sleep", lambda _: None)
        monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
        return site

    def test_by_its_doi(
        self, site: Figshare, array: np.ndarray, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        told = said(capsys, "plan", CLOUDS)
        for words in (
            "doi:10.6084/m9.figshare.9929798, 354 MB, kept in",
            "time 10,800, y 64, x 64",
            "176.9 MB",
            "windows    45",
            "login      not needed",
        ):
            assert words in told
        assert site.asked == [] and not (here / "cache").exists()
        told = said(capsys, "download", CLOUDS, "--out", "lwp.zarr")
        assert (
            "clouds/pycles_unisst: LWP (time 150, y 8, x 9)" in told
            and "written to lwp.zarr in" in told
        )
        np.testing.assert_allclose(lwp_series(here / "lwp.zarr"), 1000 * array, rtol=1e-6)
        asked = len(site.asked)
        kept(capsys, "download", CLOUDS, "--out", "lwp.zarr", out=here / "lwp.zarr")
        assert len(site.asked) == asked
        assert "150, y 8, x 9), frames 100 to 149" in said(capsys, "clouds", "lwp.zarr")

    def test_another_file_than_the_doi_has(
        self, site: Figshare, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        site.content = site.content[:-1] + b"!"
        told = said(capsys, "download", CLOUDS, "--out", "lwp.zarr", status=2)
        assert "hash" in told and "download cloud_dataset.npy from https://doi.org/10.6084" in told
        assert sorted(p.name for p in here.iterdir()) == ["cache", "cloud_dataset.npy"]
        assert [p for p in (here / "cache").rglob("*") if p.is_file()] == []

    def test_from_a_copy(
        self, array: np.ndarray, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As the recipe says: a copy of it, with the path of the file."""
        mine = here / "mine.toml"
        mine.write_text(
            said(capsys, "recipes", "clouds/pycles_unisst") + 'path = "cloud_dataset.npy"\n'
        )
        recipe = sstfill.load_recipe(mine)
        plan = recipe.plan()
        assert (
            plan.sizes == {"time": 150, "y": 8, "x": 9}
            and plan.nbytes == array.size * 4
            and plan.windows == 1
        )
        with recipe.run("lwp.zarr") as ds:
            np.testing.assert_allclose(ds["LWP"], 1000 * array, rtol=1e-6)
        kept(capsys, "download", "mine.toml", "--out", "lwp.zarr", out=here / "lwp.zarr")
        (here / "cloud_dataset.npy").unlink()
        assert "cloud_dataset.npy does not exist; give a copy, or leave path out" in said(
            capsys, "plan", "mine.toml"
        )
        with pytest.raises(
            ReadError,
            match=r"cloud_dataset.npy does not exist; give a copy, or leave path out to down",
        ):
            recipe.run("lwp.zarr")
        said(capsys, "download", "mine.toml", "--out", "lwp.zarr", "--update", status=2)


class TestClips:
    def test_kth(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (here / "kth").mkdir()
        for person in (1, 2, 10):
            encode(
                here / "kth" / f"person{person:02}_walking_d1_uncomp.avi",
                noise(75, 48, 64, 3, seed=person),
            )
        assert "note       3 videos, arrays or folders of pictures found" in said(
            capsys, "plan", "video/kth"
        )
        told = said(capsys, "download", "recipes/video/kth.toml", "--out", "kth.zarr")
        assert (
            "video/kth: video, first_frame, source, split (clip 6, channel 1, time 35, y 64, x 64)"
            in told
        )
        with xr.open_zarr("kth.zarr", chunks=None, consolidated=False) as ds:
            assert ds["first_frame"].values.tolist() == 3 * [0, 35]
            assert (ds["split"].values[::2] == ds["split"].values[1::2]).all()
            assert sorted(ds["split"].values[::2]) == [0, 1, 2]
        kept(capsys, "download", "video/kth", "--out", "kth.zarr", out=here / "kth.zarr")

    def test_bair(self, here: Path) -> None:
        for number in range(4):
            folder = here / "bair" / ("train", "test")[number // 3]
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"traj_{number}.npy", noise(30, 64, 64, 3, seed=number))
        recipe = sstfill.load_recipe("video/bair")
        assert "4 videos, arrays" in str(recipe.plan())
        with recipe.run("bair.zarr") as ds:
            assert dict(ds["video"].sizes) == {
                "clip": 4,
                "channel": 3,
                "time": 30,
                "y": 64,
                "x": 64,
            }
            assert ds["clip"].values.tolist() == [
                "test/traj_3.npy",
                *(f"train/traj_{n}.npy" for n in range(3)),
            ]
            np.testing.assert_array_equal(
                ds["video"][2], np.moveaxis(noise(30, 64, 64, 3, seed=1), -1, 0)
            )

    def test_faceforensics(
        self, shared_data: Path, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("av", reason="PyAV is not installed")
        (here / "faceforensics").mkdir()
        (here / "faceforensics" / "000.mp4").symlink_to(shared_data / "clips" / "bigbuckbunny.mp4")
        assert "1 videos, arrays" in said(capsys, "plan", "video/faceforensics")
        told = said(capsys, "download", "video/faceforensics", "--out", "faces.zarr")
        assert "(clip 1, channel 3, time 35, y 64, x 64)" in told

    def test_tfrecords_are_refused_with_what_to_do(
        self, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        records = here / "bair" / "softmotion30_44k" / "train"
        records.mkdir(parents=True)
        (records / "traj_0_to_255.tfrecords").write_bytes(b"\x00" * 64)
        for command in (("plan", "video/bair"), ("download", "video/bair", "--out", "bair.zarr")):
            told = said(capsys, *command, status=2 if command[0] == "download" else 0)
            assert (
                f"{here / 'bair'} holds no clips: TFRecords cannot be read: get bair_robot" in told
            )
            assert (
                "folder of .png or as .npy (time, y, x, channel), and put those into bair/" in told
            )
        (here / "mine.toml").write_text('[source]\nkind = "video"\npath = "bair"\n')
        assert "write each sequence of frames as a folder of pictures" in said(
            capsys, "download", "mine.toml", "--out", "bair.zarr", status=2
        )
        assert "bair: it holds only .tfrecords; give videos" in said(
            capsys, "import-video", "bair", "--out", "bair.zarr", status=2
        )
        assert not (here / "bair.zarr").exists()

    @pytest.mark.parametrize("name", PRESETS)
    def test_nothing_there_yet(
        self, name: str, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        remedy = f"{here / name} does not exist; "
        assert f"note       {remedy}" in said(capsys, "plan", f"video/{name}")
        assert f"{remedy}" in said(capsys, "download", f"video/{name}", "--out", "o.zarr", status=2)
        (here / name).mkdir()
        (here / name / "readme.txt").write_text("")
        with pytest.raises(
            InputError, match=rf"no clips in {name}: it holds only .txt.* into {name}/"
        ):
            sstfill.load_recipe(f"video/{name}").run("o.zarr")
        assert not (here / "o.zarr").exists()

    def test_sizes_as_they_are_and_all_sequences(self, here: Path) -> None:
        np.save(here / "a.npy", noise(10, 6, 8, 1))
        text = '[source]\nkind = "video"\npath = "a.npy"\nsize = "none"\nper_clip = "all"\n'
        text += "frames = 4\ngray = true\n"
        (here / "mine.toml").write_text(text + "crop = [1, 2, 4, 5]\n")
        with sstfill.load_recipe("mine.toml").run("o.zarr") as ds:
            assert ds["video"].shape == (2, 1, 4, 4, 5)


STRAY = """
import resource, sys, zarr, numpy as np
sys.path.insert(0, {folder!r})
from fake_service import FakeService, a_model
from sstfill.sources.copernicus.download import CopernicusRequest, Target, download
from sstfill.sources.atomic_store import whole_store

values = np.random.default_rng(0).normal(size=(100, 50, 50))

def whole():
    with whole_store("a.zarr", 3) as there:
        array = zarr.create_array(
            there, shape=values.shape, chunks=(1, 50, 50), dtype="f8", fill_value=0
        )
        array[:] = values

def downloaded():
    axes = dict(latitude=np.arange(50.0), longitude=np.arange(50.0), time=a_model(100).time)
    data = a_model(100).drop_vars("thetao").squeeze(drop=True).assign_coords(axes)
    data["sst"] = ("time", "latitude", "longitude"), values
    request, target = CopernicusRequest(dataset_id="x"), Target(chunks=dict(time=1))
    download(request, "b.zarr", target=target, opener=FakeService(data))

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for fill_the_disk in (whole, downloaded):
    try:
        fill_the_disk()
    except OSError as error:
        print("error:", error, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_full_disk_is_one_line(here: Path) -> None:
    """The other chunks that Zarr was about to write would log errors when the process ends."""
    script = STRAY.format(folder=str(SUPPORT))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=here, env={**os.environ}
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and len(lines) == 2, done.stderr
    assert all(re.match("error: .*File too large", line) for line in lines)
