# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from clips import encode

from sstfill import synthetic
from sstfill.cli import evaluating, main
from sstfill.evaluation.paper import datasets, plan, protocol, records, tables
from sstfill.evaluation.paper.sequences import Clip, SyntheticOcean
from sstfill.training import loop
from sstfill.training.paper import each_dataset
from sstfill.training.paper.each_dataset import NAME, cut, overcast, train_on_each
from sstfill.training.paper.variants import VariantTraining

SIZES = {"frames": 4, "clip_frames": 6, "size": 34}


def numbered(path: Path, images: int) -> Path:
    """A gap-free series; its values grow by 1 from one image to the next."""
    # one image of an ocean, which takes far less than a series to make
    image = synthetic.sst(shape=(1, 40, 44), seed=4)
    noise = (image - image.mean()).isel(time=0, drop=True)
    grown = 0.1 * noise / np.abs(noise).max() + xr.DataArray(np.arange(images), dims="time")
    dates = np.datetime64("2020-01-01", "ns") + np.arange(images) * np.timedelta64(1, "D")
    truth = grown.transpose("time", ...).assign_coords(time=dates).assign_attrs(image.attrs)
    truth.to_dataset(name="sst").to_netcdf(path)
    return path


def small(**changes: object) -> plan.ProtocolPlan:
    options = {"sequences": 2, "methods": ("interpolate",), "operators": ("raindrops",)}
    return plan.ProtocolPlan(**(SIZES | options | changes))  # type: ignore[arg-type]


def training(folder: Path) -> VariantTraining:
    return VariantTraining(steps=1, base=1, occluded_value=0.0, folder=str(folder))


def test_no_image_of_a_series_that_is_trained_on_is_scored(tmp_path: Path) -> None:
    source = datasets.find([numbered(tmp_path / "series.nc", 40)]).sources[1]
    halves = cut(source, small())
    last = float(halves.truth.max().round())
    drawn = [
        halves.scored.draw(4, 34, np.random.default_rng(seed)).sst.round() for seed in range(30)
    ]
    firsts = {float(sequence.min()) for sequence in drawn}
    # and one image between is left out
    assert last == 31 and min(firsts) == 34 and len(firsts) == 3
    assert "first 32 of 40 images (scored: those from the 35th on)" in halves.words
    # a series may have seasons, a clip has none
    assert halves.options["level"] == "sequence"


def test_no_frame_of_a_clip_that_is_trained_on_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    frames = np.empty((50, 48, 64, 3), np.uint8)
    frames[:] = 5 * np.arange(50)[:, np.newaxis, np.newaxis, np.newaxis]
    encode(path, frames)
    clip = Clip(name="clip", path=path, channels=("r", "g", "b"))
    halves = cut(clip, small())
    brightest = float(halves.truth.max())
    assert halves.truth.dims == ("time", "y", "x") and not halves.options
    for seed in range(20):
        drawn = halves.scored.draw(6, 34, np.random.default_rng(seed))
        assert set(drawn) == {"r", "g", "b"}
        assert float(drawn.r.min()) > brightest


def test_moving_shapes_to_train_on_are_not_those_that_are_scored() -> None:
    source = datasets.find(shapes=True).sources[1]
    halves = cut(source, small())
    assert halves.scored is source
    assert halves.truth.shape == (360, 122, 122)
    # as densely strewn as a clip of the size of a sequence
    clips = [source.draw(20, 34, np.random.default_rng(seed)).grey for seed in range(15)]
    covered = [float((np.abs(clip) > 0.45).mean()) for clip in clips]
    assert abs((np.abs(halves.truth[::20]) > 0.45).mean() - np.mean(covered)) < 0.1


def test_clouds_hide_the_middle_fraction_of_what_is_trained_on() -> None:
    truth = xr.DataArray(np.ones((50, 36, 36), "f4"), dims=("time", "y", "x"))
    clouds = plan.occlusion.SyntheticClouds(fraction=0.395)
    obs = overcast(truth, clouds, 0)
    assert float(obs.isnull().mean()) == pytest.approx(0.395, abs=0.01)
    assert not obs.isnull().all("time").any()


def test_each_data_set_has_its_own_network_which_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(each_dataset, "IMAGES", 40)
    monkeypatch.setattr(each_dataset, "ROOM", 6)
    found = datasets.find([numbered(tmp_path / "series.nc", 40)], shapes=True)
    wanted = small()
    outcome = train_on_each(training(tmp_path / "nets"), wanted, found)
    assert list(outcome.networks) == ["moving shapes", "series.nc"]
    assert [source.name for source in outcome.datasets.sources] == [
        "synthetic ocean",
        "moving shapes",
        "series.nc",
    ]
    assert len(list((tmp_path / "nets").glob("gan-paper-*"))) == 2
    kinds = [
        network[NAME].checkpoint.config["scaling"]["kind"] for network in outcome.networks.values()
    ]
    assert kinds == ["standardise", "sequence"]
    wanted = small(trained_on=outcome.words, training="1 step")
    results = protocol.run(wanted, outcome.datasets, outcome.networks).results
    rows = {(line["data"], line["method"]): line for line in records.records(results)}
    assert ("synthetic ocean", NAME) not in rows
    for data in outcome.networks:
        assert rows[data, NAME]["mae"] > 0 and not rows[data, NAME]["reason"]
    text = tables.to_markdown(results)
    assert text.count("| **gan-paper** | ") == 2
    assert "gan-paper was trained on the first 32 of 40 images" in text

    def untrained(*_: object) -> int:
        raise AssertionError("trained again")

    monkeypatch.setattr(loop, "learn", untrained)
    again = train_on_each(training(tmp_path / "nets"), wanted, found)
    repeated = protocol.run(wanted, again.datasets, again.networks).results
    assert repeated.drop_vars("seconds").identical(results.drop_vars("seconds"))


def test_a_series_too_short_to_cut_says_so_and_has_no_row(tmp_path: Path) -> None:
    found = datasets.find([numbered(tmp_path / "short.nc", 24)])
    wanted = small(frames=12)
    outcome = train_on_each(training(tmp_path / "nets"), wanted, found)
    assert not outcome.networks and outcome.datasets.sources == found.sources
    wanted = small(frames=12, trained_on=outcome.words)
    text = tables.to_markdown(protocol.run(wanted, outcome.datasets, outcome.networks).results)
    assert "no network: 24 images are too few to train and validate on sequences of 12" in text
    assert "gan-paper" not in text


def test_the_command_trains_on_each_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # the ocean's variants, of which there are eight, have their own test
    monkeypatch.setattr(evaluating, "trained", lambda *_, **__: ())
    series, out = numbered(tmp_path / "series.nc", 60), tmp_path / "out"
    words = ["--data", str(series), "--out", str(out), "--steps", "1", "--base", "1", "--quick"]
    words += ["--methods", "interpolate", "--operators", "remove-pixel", "--device", "cpu"]
    assert main(["bench", "paper", *words]) == 0
    told = "series.nc: gan-paper was trained on the first 45 of 60 images"
    assert told in capsys.readouterr().out
    assert told.removeprefix("series.nc: ") in (out / "paper.md").read_text()
    assert len(list((out / "networks").glob("gan-paper-*"))) == 1


def test_the_ocean_is_left_to_the_variants(tmp_path: Path) -> None:
    found = datasets.DatasetChoice(sources=[SyntheticOcean()])
    outcome = train_on_each(training(tmp_path), small(), found)
    assert not outcome.networks and not outcome.words and outcome.datasets == found
