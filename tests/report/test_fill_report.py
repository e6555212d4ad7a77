# SPDX-License-Identifier: Apache-2.0
"""The report of a fill: it stands alone, tells what the attributes tell, and replaces only ours."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tags import Tags

import sstfill
from sstfill.cli import main
from sstfill.errors import InputError, OptionError, WriteError
from sstfill.report.pictures import Picture
from sstfill.report.summary import summary
from sstfill.report.write import write_report
from sstfill.synthetic import ocean
from sstfill.version import versions

AUTO = sstfill.Auto(methods=("climatology", "interpolate"))
FORGED = '<script>alert("sst")</script>'


@pytest.fixture(scope="module")
def seen() -> xr.Dataset:
    return ocean(shape=(12, 16, 18), step="1D", seed=1).drop_vars("truth")


@pytest.fixture(scope="module")
def filled(seen: xr.Dataset) -> xr.Dataset:
    found = sstfill.fill(seen, AUTO).assign_attrs(title=FORGED)
    found.sst.attrs["long_name"] = "<b>sst</b> $x"
    return found


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures, which take most of the time of a small report."""
    for name in ("plot.panels", "plot.maps", "sources_in_time", "methods_tried", "calibration"):
        monkeypatch.setattr(f"sstfill.report.write.{name}", lambda *_, **__: None)
    monkeypatch.setattr(Picture, "of", lambda *_: Picture("data:image/png;base64,AAAA"))


def test_a_part_without_sea_is_described(filled: xr.Dataset) -> None:
    on_land = (filled["sst_source"] == 4).all("time").values
    rows, columns = np.nonzero(on_land)
    part = filled.isel(lat=rows[:1], lon=columns[:1])
    assert "0.0 % of the sea was missing, 0 pixels filled" in summary(part)


def test_the_page_stands_alone_and_escapes_what_files_hold(
    filled: xr.Dataset, tmp_path: Path
) -> None:
    path = filled.gapfill.report(tmp_path / "report.html")
    page = path.read_text("utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.open and {"img", "table"} <= tags.names
    assert "script" not in tags.names and "link" not in tags.names and "b" in tags.names
    pictures = ["data:image/png;base64,"] * 5  # maps, layers, sources, methods, calibration
    assert [link[:22] for link in tags.links] == pictures
    assert not re.search(r"url\(|@import|https?://", page)
    assert "&lt;script&gt;" in page and "&lt;b&gt;sst" in page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert len(page) < 1_000_000


@pytest.mark.usefixtures("undrawn")
def test_the_page_tells_what_the_attributes_tell(filled: xr.Dataset, tmp_path: Path) -> None:
    write_report(filled, tmp_path / "report.html", command="sstfill fill <in.nc>")
    page = unescape((tmp_path / "report.html").read_text("utf-8"))
    method = json.loads(filled.sst.attrs["sstfill_method"])["diagnostics"]
    score = json.loads(filled.sst.attrs["sstfill_score"])
    gaps = int((filled.sst_source == 1).sum())
    words = [method["why"], f"<b>{gaps:,}</b> pixels filled", "sstfill fill <in.nc>"]
    words += [f"{score['rmse']:.3g} °C", f"{score['n']:,} observed pixels were hidden"]
    words += [f"<td>{found:.1%}</td>" for found in score["coverage"].values()]
    words += [f"{level}%</td>" for level in (50, 80, 90, 95)]
    words += [f"multiplied by {score['sigma_scale']:.3g}", "12 images, 2018-01-01 to 2018-01-12"]
    words += [f"{name} {number}" for name, number in versions().items()]
    for text in words:
        assert text in page, text


@pytest.mark.usefixtures("undrawn")
def test_without_a_score_the_page_says_so(seen: xr.Dataset, tmp_path: Path) -> None:
    plain = sstfill.fill(seen, "interpolate", score=False)
    page = write_report(plain, tmp_path / "report.html").read_text("utf-8")
    assert "No score:" in page and "They were not tested" in page


def test_a_picture_that_cannot_be_drawn_is_told(
    filled: xr.Dataset, undrawn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sstfill.report.write.plot.panels", lambda *_, **__: 1 / 0)
    page = write_report(filled, tmp_path / "report.html").read_text("utf-8")
    assert "no maps: division by zero" in page and page.count("<img") == 4


@pytest.mark.usefixtures("undrawn")
def test_only_a_page_of_ours_is_replaced(
    filled: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    write_report(filled, path)
    first = path.read_text("utf-8")
    write_report(filled, path, command="again")
    assert path.read_text("utf-8") != first
    path.write_text("<html>my notes</html>")
    with pytest.raises(WriteError, match="was not made by sstfill"):
        write_report(filled, path)
    assert path.read_text() == "<html>my notes</html>"
    # Whole or not at all.
    monkeypatch.setattr("sstfill.report.write.versions", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(filled, tmp_path / "other.html")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_what_cannot_be_reported_is_refused(filled: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"cannot write a report as 'r.pdf'"):
        write_report(filled, tmp_path / "r.pdf")
    with pytest.raises(InputError, match="pass the dataset that fill"):
        write_report(filled.drop_vars("sst_source"), tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("out", ["out.nc", "out.zarr --workers 0 --memory 1GB"])
def test_command_writes_a_report(
    out: str,
    seen: xr.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    sstfill.io.write(seen, "in.nc")
    line = f"fill in.nc --out {out} --method climatology --report page.html"
    assert main(line.split()) == 0
    assert "report written to page.html" in capsys.readouterr().out
    page = unescape(Path("page.html").read_text("utf-8"))
    assert f"sstfill {line}" in page and "method</th><td>climatology" in page
    assert "Missing values of the input" in page


def test_command_refuses_before_the_work(
    seen: xr.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    sstfill.io.write(seen, "in.nc")
    Path("notes.html").write_text("mine")
    monkeypatch.setattr("sstfill.cli.filling.fill", lambda *_, **__: pytest.fail("filled"))
    for page, reason in (("notes.html", "was not made by sstfill"), ("p.txt", "end its name with")):
        assert main(["fill", "in.nc", "--out", "out.nc", "--report", page]) == 2
        assert reason in capsys.readouterr().err
    assert Path("notes.html").read_text() == "mine"


@pytest.mark.usefixtures("undrawn")
def test_counts_of_a_chunked_series_are_those_in_memory(filled: xr.Dataset, tmp_path: Path) -> None:
    one = write_report(filled, tmp_path / "one.html").read_text("utf-8")
    chunked = filled.chunk(time=5)
    assert write_report(chunked, tmp_path / "two.html").read_text("utf-8") == one
    withheld = xr.zeros_like(filled.sst_source, bool)
    withheld[0, 5:8, 5:8] = True
    hidden = sstfill.fill(filled, "interpolate", variables="sst", withheld=withheld, score=False)
    n = int(np.sum(hidden.sst_source == 3))
    page = write_report(hidden, tmp_path / "three.html").read_text("utf-8")
    assert n == 0 or f"<b>{n}</b> withheld" in page
