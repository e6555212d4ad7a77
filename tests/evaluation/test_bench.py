# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from clips import encode

from sstfill import io, synthetic
from sstfill.cli import main
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.evaluation.paper import datasets, plan, protocol, published, records, sequences, tables
from sstfill.io.untrusted import guard
from sstfill.methods import METHODS
from sstfill.plot import benchmarks

FILES = {
    "paper.md",
    "paper.json",
    "paper.csv",
    "paper_by_fraction.png",
    "paper_sample_1.png",
    "paper_sample_2.png",
}
PNG = b"\x89PNG"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A method that dies."""

    name: ClassVar[str] = "broken"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1

    device: str = "cpu"

    def reconstruct(self, obs, sea):
        raise RuntimeError("out of\nmemory")


@dataclass(frozen=True, kw_only=True)
class Lazy:
    """A method that fills nothing."""

    name: ClassVar[str] = "lazy"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 2

    def reconstruct(self, obs, sea):
        return xr.Dataset({"mean": obs})


def liquid_water(frames: int = 130, scale: float = 1.0, units: str = "g m-2") -> xr.Dataset:
    """A drifting deck whose liquid water is above 0 nearly everywhere."""
    rng = np.random.default_rng(0)
    deck = rng.gamma(4.0, 12.0, (24, 24))
    values = np.stack([np.roll(deck, t // 4, 1) for t in range(frames)]) * scale
    return xr.Dataset({"LWP": (("time", "y", "x"), values.astype("f4"), {"units": units})})


def scene() -> xr.Dataset:
    yes = np.random.default_rng(1).random((150, 160)) < 0.4
    attrs = {"flag_values": "0,1,2,3", "flag_meanings": "clear cloudy no_data land"}
    return xr.Dataset({"cloud": (("lat", "lon"), yes.astype("u1"), attrs)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("data")
    (top / "deep" / "er").mkdir(parents=True)
    liquid_water().to_netcdf(top / "deep" / "clouds.nc")
    (0.01 * liquid_water(60)).assign_attrs(x=1).to_netcdf(top / "short.nc")
    scene().to_netcdf(top / "deep" / "er" / "slstr.nc")
    truth = synthetic.sst(shape=(30, 40, 42), step="1D", seed=4).to_dataset(name="sst")
    io.write(truth, top / "truth.zarr")
    gappy = truth.where(np.random.default_rng(2).random(truth.sst.shape) < 0.7)
    gappy.to_netcdf(top / "gappy.nc")
    truth.isel(time=slice(10)).to_netcdf(top / "brief.nc")
    (top / "notes.txt").write_text("nothing")
    (top / "damaged.nc").write_bytes((top / "gappy.nc").read_bytes()[:2000])
    return top


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "new"
    words = ["bench", "paper", "--data", str(folder), "--out", str(out), "--quick"]
    words += ["--sequences", "1", "--methods", "interpolate,climatology"]
    assert main(words) == 0
    return out


def small(**changes) -> plan.ProtocolPlan:
    return replace(plan.quick(plan.ProtocolPlan(methods=("interpolate",), sequences=1)), **changes)


def test_every_file_is_told_how_it_is_used_or_why_not(folder):
    found = datasets.find([folder])
    notes = {note.path: note for note in found.notes}
    used = {path for path, note in notes.items() if note.used}
    assert used == {"deep/clouds.nc", "deep/er/slstr.nc", "truth.zarr"}
    assert "124 are needed" in notes["short.nc"].how
    assert "missing; a truth has no gaps" in notes["gappy.nc"].how
    assert "10 images" in notes["brief.nc"].how
    assert "cannot read" in notes["damaged.nc"].how
    assert notes["1 other files"].how.startswith("neither")
    assert [s.name for s in found.sources] == ["synthetic ocean", "truth.zarr"]


def test_shapes_move_by_fractions_of_a_pixel_and_stay_in_the_frame():
    found = datasets.find(shapes=True, unsteady=True)
    assert [s.name for s in found.sources] == ["unsteady synthetic ocean", "moving shapes"]
    clip = found.sources[1].draw(35, 64, np.random.default_rng(2)).grey.values
    assert clip.shape == (35, 64, 64) and clip.dtype == np.float32
    assert -1 <= clip.min() < -0.5 and 0.5 < clip.max() <= 1
    shapes = np.abs(clip) > 0.45  # the background reaches 0.3
    assert (shapes.sum((1, 2)) > 20).all()
    changed = np.abs(np.diff(clip, axis=0)).max((1, 2))
    assert (changed > 0.1).all()
    assert 0 < np.abs(np.diff(clip.mean((1, 2)))).max() < 0.05


def test_thresholds_give_the_papers_fractions_whatever_the_units(tmp_path):
    liquid_water(scale=1e-3, units="kg m-2").to_netcdf(tmp_path / "any.nc")
    np.save(tmp_path / "published.npy", liquid_water(scale=1e-3).LWP.values)
    found = datasets.find([tmp_path])
    assert [c.name for c in found.clouds] == ["any.nc", "published.npy"]
    for clouds in found.clouds:
        hidden = {
            fraction: 1 - clouds.at(fraction).draw((24, 24, 24), np.random.default_rng(0)).mean()
            for fraction in published.OCCLUDED
        }
        assert all(abs(fraction - met) < 0.01 for fraction, met in hidden.items()), hidden


def test_clouds_too_thin_are_left_out_with_the_reason(tmp_path):
    thin = liquid_water()
    thin["LWP"] = thin.LWP.where(thin.LWP > 60, 0.0).assign_attrs(units="g m-2")
    thin.to_netcdf(tmp_path / "thin.nc")
    found = datasets.find([tmp_path])
    assert not found.clouds
    assert "smaller fraction" in found.notes[0].how


def test_a_pickled_array_is_not_loaded(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    found = datasets.find([tmp_path])
    assert not found.clouds and "cannot read" in found.notes[0].how


def test_a_window_over_a_scene_moves_and_hides_a_fraction():
    found = datasets.DatasetChoice()
    datasets._scene(scene().cloud, "s", found)
    masks = sequences.SceneWindows(scenes=tuple(found.scenes))
    observed = masks.draw((12, 32, 32), np.random.default_rng(3))
    assert observed.shape == (12, 32, 32)
    assert 0.3 < 1 - observed.mean() < 0.5
    assert (observed[0] != observed[-1]).any()


def test_land_and_swath_edge_are_no_clouds():
    found = datasets.DatasetChoice()
    datasets._scene(scene().cloud.where(False, 2), "edge", found)
    with pytest.raises(InputError, match="no window of 32x32"):
        sequences.SceneWindows(scenes=tuple(found.scenes)).draw(
            (4, 32, 32), np.random.default_rng(0)
        )


def test_a_series_with_some_stray_gaps_takes_them_for_land(tmp_path):
    truth = synthetic.sst(shape=(24, 40, 40), step="1D").to_dataset(name="sst")
    truth["sst"][3, 5, 6] = np.nan
    truth.to_netcdf(tmp_path / "stray.nc")
    source = datasets.find([tmp_path]).sources[1]
    drawn = source.draw(24, 64, np.random.default_rng(0))
    assert drawn.sst.shape == (24, 40, 40) and drawn.sst.dtype == np.float32
    assert int(drawn.sst.isnull().sum()) == 24
    assert source.units == "°C"


def test_all_files_are_written_and_complete(run):
    assert {p.name for p in run.iterdir()} == FILES
    assert all(p.read_bytes().startswith(PNG) for p in run.glob("*.png"))
    whole = json.loads((run / "paper.json").read_text())
    with (run / "paper.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(whole["results"])
    operators = {line["operator"] for line in whole["results"]}
    assert operators == set(plan.OPERATORS)
    assert {line["data"] for line in whole["results"]} == {"synthetic ocean", "truth.zarr"}
    assert all(
        line["reason"] == "" and line["mae"] > 0 and line["n"] > 0 for line in whole["results"]
    )
    assert {line["method"] for line in whole["results"] if line["variant"] == "static"} == {
        "interpolate"
    }
    assert whole["run"]["seed"] == 0 and set(whole["run"]["fingerprints"]) == {
        "synthetic ocean",
        "truth.zarr",
    }
    assert whole["run"]["versions"]["sstfill"]


def test_the_papers_numbers_stand_beside_ours_and_are_marked(run):
    text = (run / "paper.md").read_text()
    for number in (
        ".0739 ± 0.0324",
        ".1214 ± 0.0248",
        ".1273 ± 0.0443",
        ".0547 ± 0.0105",
        ".1036 ± 0.0047",
    ):
        assert number in text
    for title in ("## Table 1", "## Table 2a", "## Table 2b", "## Table 3", "## Table 4"):
        assert title in text
    assert "A quick run" in text
    assert "measured on other data" in text and "FID and FVD need" in text
    paper_lines = [line for line in text.splitlines() if line.startswith("| paper: ")]
    assert paper_lines and all("other data" in line for line in paper_lines)


def test_the_published_means_are_those_of_the_paper():
    rows = [row for row in published.rows("2a") if row.lwp]
    overall = published.rows("2a")[-1]
    for key in ("mae", "mae_std", "fid", "fvd", "occluded"):
        mean = np.mean([getattr(row, key) for row in rows])
        assert mean == pytest.approx(getattr(overall, key), rel=2e-3), key
    assert len(published.rows("1")) == 27


def test_a_series_on_a_curvilinear_grid_is_shown_north_up(tmp_path):
    truth = synthetic.sst(shape=(24, 40, 40), step="1D").rename(lat="y", lon="x")
    lat, lon = np.meshgrid(np.linspace(30, 40, 40), np.linspace(0, 10, 40), indexing="ij")
    truth = truth.drop_vars(["y", "x"]).assign_coords(lat=(("y", "x"), lat), lon=(("y", "x"), lon))
    truth.to_dataset(name="sst").to_netcdf(tmp_path / "curved.nc")
    found = datasets.find([tmp_path])
    found.sources = found.sources[1:]
    assert found.sources[0].name == "curved.nc"
    ran = protocol.run(small(operators=("cloud",), fractions=(published.MIDDLE,)), found)
    assert (ran.results["reason"] == "").all() and len(ran.samples) == 1


def test_equal_seeds_give_equal_numbers():
    few = {"operators": ("cloud", "raindrops"), "fractions": (published.OCCLUDED[-1],)}
    first, again, other = (
        protocol.run(small(seed=s, **few), datasets.find()).results for s in (0, 0, 1)
    )
    xr.testing.assert_identical(first.drop_vars("seconds"), again.drop_vars("seconds"))
    assert (first["mae"] != other["mae"]).all()


def test_a_truth_is_drawn_once_and_the_next_data_set_has_its_own(folder, monkeypatch):
    """It is the same under every operator."""
    drawn = []
    draw = protocol._truth

    def counted(source, plan, k):
        drawn.append((source.name, k))
        return draw(source, plan, k)

    monkeypatch.setattr(protocol, "_truth", counted)
    few = small(sequences=2, operators=("raindrops", "remove-pixel"))
    results = protocol.run(few, datasets.find([folder])).results
    assert drawn == [(name, k) for name in ("synthetic ocean", "truth.zarr") for k in (0, 1)]
    spread = {name: rows.truth_std.values for name, rows in results.groupby("data")}
    assert all((rows == rows[0]).all() and len(rows) == 2 for rows in spread.values())
    assert (spread["synthetic ocean"] != spread["truth.zarr"]).all()


def test_clouds_of_a_smaller_fraction_lie_within_those_of_a_larger(folder):
    chosen = small(operators=("cloud",))
    todo = list(plan.cases(chosen, datasets.find([folder])))[:3]
    truth = protocol._truth(todo[0].source, chosen, 0)
    masks = [protocol._draw(case, truth, chosen, 0).observed for case in todo]
    assert [case.fraction for case in todo] == [0.799, 0.395, 0.134]
    assert (masks[0] <= masks[1]).all() and (masks[1] <= masks[2]).all()


def test_scores_are_of_the_occluded_pixels_and_pooled():
    results = protocol.run(small(sequences=2, operators=("remove-pixel",)), datasets.find()).results
    row = results.isel(row=0)
    assert float(row.pooled_mae) == pytest.approx(float((row.mae * row.n).sum() / row.n.sum()))
    assert float(row.pooled_rmse) ** 2 == pytest.approx(
        float((row.rmse**2 * row.n).sum() / row.n.sum())
    )
    assert row.n.values / (12 * 32 * 32) == pytest.approx(row.occluded.values)


def test_a_failing_method_is_recorded_and_stops_nothing(monkeypatch):
    monkeypatch.setitem(METHODS, "broken", Broken)
    few = {"operators": ("cloud",), "fractions": (published.MIDDLE,)}
    outcome = protocol.run(small(methods=("broken", "interpolate"), **few), datasets.find())
    rows = {(r["method"], r["variant"]): r for r in records.records(outcome.results)}
    assert rows["broken", "sequence"]["reason"] == "RuntimeError: out of memory"
    assert rows["broken", "sequence"]["n"] == 0 and np.isnan(rows["broken", "sequence"]["mae"])
    assert rows["interpolate", "sequence"]["mae"] > 0
    text = tables.to_markdown(outcome.results)
    assert "## What failed" in text and "out of memory" in text and "| failed |" in text
    assert '"mae": null' in records.to_json(outcome.results)
    assert list(outcome.samples[0].picture.values) == ["truth", "occluded", "interpolate"]


def test_what_is_left_unfilled_counts_as_the_mean_of_what_was_seen(monkeypatch):
    monkeypatch.setitem(METHODS, "lazy", Lazy)
    chosen = small(methods=("lazy",), operators=("raindrops",))
    case = next(plan.cases(chosen, datasets.find()))
    drawn = protocol._draw(case, protocol._truth(case.source, chosen, 0), chosen, 0)
    row = records.records(protocol.run(chosen, datasets.find()).results)[0]
    hidden = drawn.truth.sst.values[drawn.hidden]
    assert row["filled_fraction"] == 0
    assert row["mae"] == pytest.approx(
        np.abs(hidden - float(drawn.seen.sst.mean())).mean(), rel=1e-5
    )


def test_the_device_is_passed_to_methods_that_have_one(monkeypatch):
    monkeypatch.setitem(METHODS, "broken", Broken)
    chosen = plan.ProtocolPlan(methods=("broken", "interpolate"), device="auto").chosen
    assert chosen["broken"].device == "auto"
    assert plan.uses_device(chosen) == ["broken"]


def test_cuda_without_a_gpu_is_refused(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="sees no GPU"):
        plan.ProtocolPlan(device="cuda")


def test_cuda_without_torch_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OptionError, match="needs torch: pip install"):
        plan.ProtocolPlan(device="cuda")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--methods", "interpolat"], "did you mean 'interpolate'"),
        (["--operators", "rain"], "no operator 'rain'"),
        (["--sequences", "0"], "sequences=0"),
        (["--data", "/nowhere"], "no such folder"),
        (["--operators", "cloud-scenes"], "leave nothing to run"),
    ],
)
def test_mistakes_end_in_one_line(words, told, tmp_path, capsys):
    assert main(["bench", "paper", "--out", str(tmp_path / "out"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_a_read_error():
    with pytest.raises(ReadError, match="no such folder"):
        datasets.find(["/nowhere"])


def test_other_files_in_the_output_folder_stay(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    words = ["--quick", "--sequences", "1", "--methods", "interpolate", "--operators", "raindrops"]
    assert main(["bench", "paper", "--out", str(tmp_path), *words]) == 0
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_clip_is_filled_in_grey_and_in_colour(tmp_path):
    path = tmp_path / "clip.mp4"
    frames = np.full((40, 48, 64, 3), (30, 90, 200), np.uint8)
    for t, picture in enumerate(frames):
        picture[10:30, t : t + 20] = (220, 40, 10)
    encode(path, frames)
    found = datasets.find([path])
    assert [s.name for s in found.sources[1:]] == ["clip.mp4 (grey)", "clip.mp4 (RGB)"]
    only = replace(found, sources=found.sources[1:])
    outcome = protocol.run(
        small(methods=("interpolate", "climatology"), operators=("raindrops",)), only
    )
    assert not any(r["reason"] for r in records.records(outcome.results))
    assert outcome.samples[1].sizes["channel"] == 3
    assert float(np.nanmax(np.abs(outcome.samples[1].sel(picture="truth")))) <= 1
    text = tables.to_markdown(outcome.results)
    assert "KTH (other data)" in text and "BAIR (other data)" in text
    assert benchmarks.strip(outcome.samples[1]).axes


def test_without_pyav_a_clip_is_told_not_used(tmp_path, monkeypatch):
    (tmp_path / "clip.avi").write_bytes(b"RIFF\0\0\0\0AVI LIST" + bytes(64))

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(guard.importlib, "import_module", absent)
    sequences.decoded.cache_clear()
    found = datasets.find([tmp_path])
    assert len(found.sources) == 1 and "sstfill[video]" in found.notes[0].how


def test_figures_refuse_what_they_cannot_draw():
    results = protocol.run(small(operators=("raindrops",)), datasets.find()).results
    with pytest.raises(InputError, match="operator 'cloud'"):
        benchmarks.by_fraction(results)
    with pytest.raises(InputError, match="1 or 3 channels"):
        benchmarks.strip(xr.DataArray(np.zeros((2, 2)), dims=("y", "x")))


def test_real_data_are_all_put_to_use(shared_data):
    found = datasets.find([shared_data / "clouds", shared_data / "truth"])
    assert [c.name for c in found.clouds] == ["lwp_dycoms.nc"]
    assert [round(t) for t in found.clouds[0].thresholds.values()] == [20, 27, 35, 43, 52, 61]
    assert len(found.scenes) == 3 and len(found.sources) == 4
