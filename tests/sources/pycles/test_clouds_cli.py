# SPDX-License-Identifier: Apache-2.0
"""``sstfill import-pycles`` and ``sstfill clouds``: what they print, draw and refuse."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from forked import forked

import sstfill
from sstfill.cli import importing
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.occlusion import lwp_series
from sstfill.occlusion.lwp import frame_label
from sstfill.plot import clouds

PNG = b"\x89PNG"
COMMANDS = {
    "import-pycles": (importing.add_import_pycles, importing.run_import_pycles),
    "clouds": (importing.add_clouds, importing.run_clouds),
}


def run(*words: str) -> str:
    """What a command prints; the two are tested apart from the rest of the grammar."""
    add, work = COMMANDS[words[0]]
    parser = argparse.ArgumentParser()
    add(parser)
    return "\n".join(work(parser.parse_args(words[1:])))


@pytest.fixture
def series(tmp_path: Path) -> Path:
    lwp = np.random.default_rng(1).gamma(2, 30, (150, 12, 16)).astype("f4")
    lwp[:100] = 0
    times = ("time", 60.0 * np.arange(150), {"units": "s"})
    ds = xr.Dataset({"LWP": (("time", "y", "x"), lwp, {"units": "g m-2"})}, {"time": times})
    sstfill.io.write(ds, tmp_path / "lwp.zarr")
    return tmp_path / "lwp.zarr"


def test_import(shared_data: Path, tmp_path: Path) -> None:
    sample, out = shared_data / "pycles_samples" / "dycoms_24x16x66_2ranks", tmp_path / "lwp.zarr"
    fields = tmp_path / "fields.zarr"
    told = run("import-pycles", str(sample), "--out", str(out))
    assert "LWP (time 2, y 16, x 24) from lwp of the visualisation files, 39 min to 40 min" in told
    assert f"written to {out} in " in told
    told = run(
        "import-pycles",
        str(sample),
        "--out",
        str(fields),
        "--layout",
        "fields",
        "--start",
        "2001-07-10",
    )
    assert (
        "(time 1, y 16, x 24) from ql times density, summed over the column, 2001-07-10 00:40:00"
        in told
    )
    assert lwp_series(fields).sizes["time"] == 1


def test_fractions_of_the_papers_thresholds(series: Path) -> None:
    lines = run("clouds", str(series)).splitlines()
    assert lines[0] == "LWP (time 150, y 12, x 16), frames 100 to 149"
    values = lwp_series(series).values[100:]
    found = [line.split() for line in lines[2:]]
    assert [float(words[0]) for words in found] == [55, 60, 65, 70, 75, 80]
    for words in found:
        assert float(words[1]) == pytest.approx(100 * (values > float(words[0])).mean(), abs=0.051)
    assert [words[3] for words in found] == ["79.9", "69.6", "55.9", "39.5", "24.5", "13.4"]


def test_fractions_of_our_run(shared_data: Path) -> None:
    told = run("clouds", str(shared_data / "clouds" / "lwp_dycoms.nc"), "--start-after", "120")
    assert [line.split()[1] for line in told.splitlines()[2:]] == [
        "20.5",
        "14.2",
        "9.5",
        "6.1",
        "3.7",
        "2.1",
    ]


def test_own_thresholds(series: Path) -> None:
    lines = run(
        "clouds", str(series), "--thresholds", "20,70", "--thresholds", "33.5", "--start-after", "0"
    ).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["20", "70", "33.5"]
    assert len(lines[2].split()) == 3 and lines[3].endswith("39.5 %")


@pytest.mark.parametrize("count", [1, 6])
def test_plot(count: int, series: Path, tmp_path: Path) -> None:
    pytest.importorskip("cartopy")
    thresholds = ",".join(str(55 + 5 * n) for n in range(count))
    out = run(
        "clouds", str(series), "--thresholds", thresholds, "--plot", str(tmp_path / "clouds.png")
    )
    assert f"drawn to {tmp_path / 'clouds.png'}" in out
    assert (tmp_path / "clouds.png").read_bytes()[:4] == PNG


def test_figure_shows_frames_after_spin_up_and_the_masks(series: Path) -> None:
    pytest.importorskip("matplotlib")
    lwp = lwp_series(series)
    figure = clouds.masks(lwp, [55, 70], [0.4, 0.3], start_after=100)
    boxes = [ax for ax in figure.axes if ax.get_images()]
    assert [ax.get_title() for ax in boxes[:4]] == ["100 min", "116 min", "133 min", "149 min"]
    np.testing.assert_array_equal(boxes[0].get_images()[0].get_array(), lwp[100])
    np.testing.assert_array_equal(boxes[9].get_images()[0].get_array(), lwp[116] > 70)
    assert boxes[8].get_ylabel() == "above 70\n30.0% of the series"


def test_names_of_frames() -> None:
    series = xr.DataArray(np.zeros((2, 1, 1)), dims=("time", "y", "x"))
    assert frame_label(series, 1) == "frame 1"
    dated = series.assign_coords(time=np.array(["2001-07-10", "2001-07-10T00:01"], "M8[ns]"))
    assert frame_label(dated, 1) == "2001-07-10 00:01:00"


def test_mistakes(series: Path, tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match=r"--thresholds 55,many: .*; give numbers with commas between"
    ):
        run("clouds", str(series), "--thresholds", "55,many")
    with pytest.raises(OptionError, match="threshold=-5"):
        run("clouds", str(series), "--thresholds=-5")
    with pytest.raises(InputError, match="150 frames, none after start_after=200"):
        run("clouds", str(series), "--start-after", "200")
    with pytest.raises(ReadError, match="no such file"):
        run("clouds", str(tmp_path / "nowhere.zarr"))
    with pytest.raises(OptionError, match=r"end its name with \.png"):
        run("clouds", str(series), "--plot", str(tmp_path / "picture.txt"))
    with pytest.raises(ReadError, match="no such folder"):
        run("import-pycles", str(tmp_path / "nowhere"), "--out", str(tmp_path / "o.zarr"))


def test_importing_loads_no_matplotlib(quick_workers: None) -> None:
    heavy = {"matplotlib", "cartopy", "torch", "pooch"}
    code = f"import sys, sstfill.cli.importing; assert not {heavy} & set(sys.modules)"
    assert forked(exec, code, {}) == 0
