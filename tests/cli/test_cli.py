# SPDX-License-Identifier: Apache-2.0
"""The command line: results, reports, and one clean line for every mistake."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import sstfill
from sstfill import io
from sstfill.cli import main, source
from sstfill.cli.options import flag
from sstfill.cli.parser import parse
from sstfill.nn import registry
from sstfill.progress import track
from sstfill.report.summary import summary
from sstfill.synthetic import ocean
from sstfill.training.data.oceans import Oceans
from sstfill.training.recipe import ArchiveOptions

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def seen() -> xr.Dataset:
    return ocean(shape=(12, 16, 18), step="1D", seed=1).drop_vars("truth")


@pytest.fixture
def folder(seen: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that holds the series as ``in.nc``."""
    sstfill.io.write(seen, tmp_path / "in.nc")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must succeed; its output."""
    status = main(line.split())
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def fails(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with one line; the line."""
    status = main(line.split())
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.startswith("sstfill: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("sstfill: error: ").rstrip("\n")


def opened(path: Path | str) -> xr.Dataset:
    with sstfill.io.open(path) as ds:
        return ds.load()


class TestFill:
    def test_result_is_that_of_the_accessor(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = run(
            "fill in.nc --out out.nc --method dineof --modes 3 --alpha 0.1 --outliers --seed 4",
            capsys,
        )
        expected = opened("in.nc").gapfill.dineof(modes=3, alpha=0.1, outliers=True, seed=4)
        written = opened("out.nc")
        xr.testing.assert_equal(written, expected)
        assert written.sst.attrs["sstfill_method"] == expected.sst.attrs["sstfill_method"]
        assert written.sst.attrs["sstfill_score"] == expected.sst.attrs["sstfill_score"]
        score = json.loads(expected.sst.attrs["sstfill_score"])
        for words in (
            "sst (time 12, lat 16, lon 18)",
            "dineof, modes 3",
            "alpha 0.1",
            f"MAE {score['mae']:.3g}",
            f"RMSE {score['rmse']:.3g}",
            "95% interval",
            "written to out.nc in",
        ):
            assert words in out
        sea = written.sst_source != 4
        fraction = float((written.sst_source == 1).sum() / sea.sum())
        assert f"{100 * fraction:.1f} % of the sea was missing" in out

    def test_method_chosen_on_withheld_clouds(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few = ["climatology", "interpolate"]
        monkeypatch.setattr("sstfill.methods.auto.method.affordable", lambda _: few)
        out = run("fill in.nc --out out.nc", capsys)
        said = json.loads(opened("out.nc").sst.attrs["sstfill_method"])["diagnostics"]
        assert f"method  auto, which chose {' + '.join(said['chosen'])}" in out
        assert f"why     {said['why']}" in out and "tried   RMSE " in out
        xr.testing.assert_equal(opened("out.nc"), opened("in.nc").gapfill.fill())

    def test_auto_with_options(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = (
            "fill in.nc --out out.nc --method auto --methods climatology,interpolate "
            "--no-blend --budget none"
        )
        out = run(f"{line} --seed 3", capsys)
        auto = sstfill.Auto(methods=("climatology", "interpolate"), blend=False, seed=3)
        xr.testing.assert_equal(opened("out.nc"), opened("in.nc").gapfill.fill(auto, seed=3))
        assert "method  auto, which chose interpolate" in out
        assert "methods='nonsense'" not in out
        told = fails("fill in.nc --out o.nc --method auto --methods dineof,nonsense", capsys)
        assert told.startswith("methods=('dineof', 'nonsense'): no method to try 'nonsense'")

    @pytest.mark.parametrize("suffix", [".nc", ".zarr"])
    def test_zarr_in(
        self, suffix: str, folder: Path, seen: xr.Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sstfill.io.write(seen, "in.zarr")
        run(f"fill in.zarr --out out{suffix} --method interpolate --no-score", capsys)
        xr.testing.assert_equal(opened(f"out{suffix}"), seen.gapfill.interpolate(score=False))

    def test_large_series_is_read_in_blocks(self, folder: Path, seen: xr.Dataset) -> None:
        seen.to_netcdf("in.nc", encoding={"sst": {"chunksizes": (1, 16, 18)}})
        args = parse(["fill", "in.nc", "--out", "out.nc"])
        with source.series(args, large=0, block_bytes=5 * 16 * 18 * 4) as ds:
            assert ds.sst.chunksizes["time"] == (5, 5, 2)
        with source.series(args) as ds:
            assert not ds.chunks

    def test_series_goes_through_in_blocks(
        self,
        folder: Path,
        seen: xr.Dataset,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        seen.to_netcdf("in.nc", encoding={"sst": {"chunksizes": (12, 16, 18)}})
        chunks: list[object] = []
        door = sstfill.fill
        monkeypatch.setattr(
            "sstfill.cli.filling.fill",
            lambda ds, *a, **k: chunks.append(ds.sst.chunksizes) or door(ds, *a, **k),
        )
        line = "fill in.nc --out out.nc --method interpolate --no-score --time-chunk 5"
        out = run(line, capsys)
        assert chunks[0]["time"] == (5, 5, 2)  # type: ignore[index]
        assert "pixels filled" in out
        xr.testing.assert_allclose(
            opened("out.nc"), opened("in.nc").gapfill.interpolate(score=False), rtol=1e-6
        )

    def test_sea_from_a_file(
        self, folder: Path, seen: xr.Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bare = seen.drop_vars("sea")
        sea = seen.sea.where(seen.lat < seen.lat.mean(), 0).astype("int8").drop_attrs()
        sstfill.io.write(bare, "bare.nc")
        sstfill.io.write(xr.Dataset({"damp": sea, "other": sea}), "masks.nc")
        sstfill.io.write(xr.Dataset({"lsm": 1 - sea}), "lsm.nc")
        for where in ("masks.nc:damp", "lsm.nc", "lsm.nc:lsm"):
            run(f"fill bare.nc --out out.nc --method climatology --no-score --sea {where}", capsys)
            xr.testing.assert_equal(
                opened("out.nc"), bare.gapfill.climatology(score=False, sea=sea)
            )
        assert "no variable 'dry'" in fails("fill bare.nc --out o.nc --sea masks.nc:dry", capsys)
        assert "--sea masks.nc:NAME" in fails("fill bare.nc --out o.nc --sea masks.nc", capsys)
        assert "cannot read nowhere.nc" in fails("fill bare.nc --out o.nc --sea nowhere.nc", capsys)

    def test_several_variables(
        self, folder: Path, seen: xr.Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        two = seen.assign(
            chl=seen.sst.copy(data=seen.sst.values[:, ::-1]).drop_attrs(), third=seen.sst
        )
        sstfill.io.write(two.drop_vars("sea"), "two.nc")
        line = "fill two.nc --out out.nc --method dineof --modes 2 --no-score --together"
        out = run(f"{line} --variable sst,chl", capsys)
        again = run(f"{line} --variable sst --variable chl", capsys)
        assert out.splitlines()[:-1] == again.splitlines()[:-1]
        assert "sst (time" in out
        assert "chl (time" in out
        assert "third_source" not in opened("out.nc")

    def test_quality_level(
        self, folder: Path, seen: xr.Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        quality = xr.full_like(seen.sst, 5, dtype="int8").drop_attrs()
        quality[:, 3:6] = 2
        sstfill.io.write(seen.assign(quality_level=quality), "q.nc")
        run("fill q.nc --out out.nc --method interpolate --no-score --quality-level 4", capsys)
        assert not (opened("out.nc").sst_source[:, 3:6] == 0).any()
        assert "quality_level was asked for" in fails(
            "fill in.nc --out o.nc --quality-level 4", capsys
        )

    @pytest.mark.parametrize("suffix", ["nc", "zarr"])
    def test_members(self, folder: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
        command = f"fill in.nc --out out.{suffix} --method bayes_eof --modes 3 --members 3"
        out = run(command, capsys)
        assert "3 plausible fields in sst_members" in out
        written = opened(f"out.{suffix}")
        expected = opened("in.nc").gapfill.bayes_eof(modes=3, members=3)
        xr.testing.assert_equal(written, expected)
        out = run(f"plot out.{suffix} --members 2 --out m.png", capsys)
        assert out == "drawn to m.png\n" and Path("m.png").read_bytes().startswith(PNG)
        told = run(f"info out.{suffix}", capsys)
        assert "sst_members: goes with another variable" in told
        line = fails(f"fill in.nc --out no.{suffix} --method dineof --members 3", capsys)
        assert line.startswith("members=3: dineof cannot draw members; methods that can: ")
        assert "bayes_eof" in line and not Path(f"no.{suffix}").exists()

    def test_members_of_an_archive(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command = "fill in.nc --out out.zarr --method bayes_eof --memory 8GB"
        run(f"{command} --members 2", capsys)
        assert opened("out.zarr").sizes["member"] == 2
        assert "nothing to do" in run(f"{command} --update", capsys)
        line = fails(f"{command} --update --members 4", capsys)
        assert "was filled with 2 members, not 4" in line
        assert "every chunk is there" in run("verify out.zarr", capsys)

    def test_plot(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("cartopy")
        out = run("fill in.nc --out out.nc --method climatology --no-score --plot map.png", capsys)
        assert "drawn to map.png" in out
        assert (folder / "map.png").read_bytes()[:4] == PNG
        run("plot out.nc --out again.png --time 2", capsys)
        run("plot out.nc --out dated.png --time 2018-01-03", capsys)
        assert (folder / "again.png").read_bytes() == (folder / "dated.png").read_bytes()
        assert "no time step 99" in fails("plot out.nc --out o.png --time 99", capsys)
        assert "'_source'" in fails("plot in.nc --out o.png", capsys)

    def test_plot_of_all_dates_is_a_film(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("cartopy")
        run("fill in.nc --out out.nc --method climatology --no-score", capsys)
        assert "drawn to film.gif" in run("plot out.nc --out film.gif", capsys)
        assert (folder / "film.gif").read_bytes()[:6] == b"GIF89a"
        assert "--time is for a picture" in fails("plot out.nc --out f.gif --time 2", capsys)
        assert "with .gif or .mp4 for a film" in fails("plot out.nc --out f.txt", capsys)
        assert "as '.gif'" in fails("fill in.nc --out o.nc --plot map.gif", capsys)

    def test_plot_follows_links_where_asked_to(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("cartopy")
        run("fill in.nc --out out.zarr --method climatology --no-score", capsys)
        (folder / "out.zarr" / "sst").rename(folder / "moved")
        (folder / "out.zarr" / "sst").symlink_to(folder / "moved")
        assert "or --allow-links" in fails("plot out.zarr --out o.png", capsys)
        run("plot out.zarr --out o.png --allow-links", capsys)
        assert (folder / "o.png").read_bytes()[:4] == PNG

    def test_quiet(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for line in ("--quiet fill in.nc", "fill --quiet in.nc"):
            assert run(f"{line} --out out.nc --method climatology --no-score", capsys) == ""
        assert (folder / "out.nc").exists()

    def test_progress_is_shown_on_request(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        door = sstfill.fill
        monkeypatch.setattr(
            "sstfill.cli.filling.fill",
            lambda *a, **k: list(track([1], "at work")) and door(*a, **k),
        )
        line = "fill in.nc --out out.nc --method climatology --no-score"
        assert main(line.split()) == 0
        assert capsys.readouterr().err == ""
        assert main([*line.split(), "--progress"]) == 0
        assert "at work" in capsys.readouterr().err

    def test_warnings_are_lines_on_stderr(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ds = opened("in.nc").isel(time=slice(0, 2))
        sstfill.io.write(
            ds.assign(sst=ds.sst.where(ds.lat > ds.lat.mean())), "clear.nc"
        )  # no clouds to borrow
        ds = opened("clear.nc")
        whole = ds.sst.fillna(ds.sst.mean())
        ds["sst"] = whole.where((ds.sea == 1) & (ds.time == ds.time[0]))
        sstfill.io.write(ds, "clear.nc")
        assert main(["fill", "clear.nc", "--out", "out.nc", "--method", "interpolate"]) == 0
        out, err = capsys.readouterr()
        assert err.startswith("sstfill: warning: no withheld-cloud score: ")
        assert "score" not in out


TINY = "--frames 2 --size 12 --samples 2 --epochs 1 --device cpu"


class TestTrain:
    def test_an_archive_then_fill(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = run(f"train in.nc --out model --clips 2 --validated 1 {TINY}", capsys)
        config = json.loads((folder / "model" / "config.json").read_text())
        assert out.startswith("Checkpoint(compact, ")
        for words in (
            "all 1 epochs done; best epoch 1",
            f"withheld MAE {config['scores']['withheld_mae']:.4g} (scaled",
            "written to model in",
        ):
            assert words in out
        assert (
            config["trained"]["options"]["frames"] == 2
            and len(list(folder.rglob("clips/*/training/*.npz"))) == 2
        )
        run("fill in.nc --out out.nc --method gan --model model --no-adapt --no-score", capsys)
        said = json.loads(opened("out.nc").sst.attrs["sstfill_method"])
        assert said["diagnostics"]["model"] == config["weights_sha256"][:12]
        assert not (opened("out.nc").sst_source == 2).any()

    def test_resume(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = f"train in.nc --out model --network paper --base 1 {TINY}"
        run(line, capsys)
        assert "model holds a training already; give resume=True" in fails(line, capsys)
        out = run(f"{line} --resume", capsys)
        assert "all 1 epochs done" in out
        assert "was saved with base=1 (now 2)" in fails(f"{line} --resume --base 2", capsys)

    def test_a_recipe_and_options_that_go_before_it(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "own.toml").write_text(
            '[archive]\nclouds = "raindrops"\n[train]\nnetwork = "static"\nbase = 4\nobjective = '
            '"withheld"\n'
        )
        run(
            f"train in.nc --out model --recipe own.toml --base 1 --clouds remove-pixel {TINY}",
            capsys,
        )
        config = json.loads((folder / "model" / "config.json").read_text())
        assert config["network"] == {"name": "static", "options": {"base": 1, "fill": 1.0}}
        assert config["occlusion"] == "remove-pixel"
        assert config["trained"]["options"]["learning_rate"] is None

    def test_synthetic_oceans(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[object] = []

        def trained(*args: object, **how: object) -> sstfill.Gan:
            asked.append((args, how))
            return sstfill.Gan(
                model=sstfill.Checkpoint(
                    {
                        "network": {"name": "static", "options": {"base": 1}},
                        "trained": {"stopped": "done", "best_epoch": 2},
                        "scores": {"withheld_mae": 0.5, "withheld_bias": 0.1},
                    },
                    registry.build("static", {"base": 1}).state_dict(),
                )
            )

        monkeypatch.setattr("sstfill.cli.training.train_on_oceans", trained)
        (folder / "own.toml").write_text("[oceans]\ntraining = 7\n")
        assert "done; best epoch 2" in run(
            "train --out model --recipe own.toml --epochs 3 --resume", capsys
        )
        assert asked == [
            ((sstfill.TrainOptions(epochs=3), Oceans(training=7), "model"), {"resume": True})
        ]

    def test_sea_and_quality_reach_the_training(
        self,
        folder: Path,
        seen: xr.Dataset,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        quality = xr.full_like(seen.sst, 5, dtype="int8").drop_attrs()
        quality[:, 3:6] = 2
        wet = seen.sea.where(seen.lat < seen.lat.mean(), 0).astype("int8").drop_attrs()
        sstfill.io.write(seen.drop_vars("sea").assign(quality_level=quality), "q.nc")
        sstfill.io.write(xr.Dataset({"wet": wet}), "wet.nc")
        monkeypatch.setattr("sstfill.cli.training.train", _stop)
        with pytest.raises(StoppedError) as stopped:
            run(
                "train q.nc --out model --sea wet.nc --quality-level 4 --truth none --variable sst",
                capsys,
            )
        (ds, options), how = stopped.value.args
        assert not ds.sst[:, 3:6].notnull().any()
        assert options == sstfill.TrainOptions()
        assert how.pop("sea").equals(wet)
        assert how == {
            "out": "model",
            "resume": False,
            "variable": "sst",
            "clouds": "own",
            "truth": None,
            "start": "shipped",
            "clips": 40,
            "validated": 8,
            "transform": "auto",
        }

    def test_help_lists_every_option(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as left:
            main(["train", "--help"])
        assert left.value.code == 0
        shown = " ".join(capsys.readouterr().out.split())
        for field in (
            *dataclasses.fields(sstfill.TrainOptions),
            *dataclasses.fields(ArchiveOptions),
        ):
            assert f" {flag(field.name)}" in shown
        for words in (
            "--network compact|paper|static|recurrent",
            "--device auto|cpu|cuda",
            "--transform auto|log|logit|none",
            "--schedule constant|cosine|decay",
            "Images of a sequence (default: 24)",
            "no D_s",
            "--resume",
            "(default: shipped)",
            "not where the recipe trains on synthetic oceans",
        ):
            assert words in shown
        with pytest.raises(SystemExit):
            main(["--help"])
        assert "train a network on an archive" in " ".join(capsys.readouterr().out.split())

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                "",
                "nothing to train on; give an archive (NetCDF, Zarr), or a recipe with an [oceans] "
                "table",
            ),
            (
                "in.nc --epoch 3",
                "no option of train '--epoch'; did you mean '--epochs'? Choose from",
            ),
            ("in.nc --recipe no.toml", "no recipe can be read from no.toml"),
            ("in.nc --recipe both.toml", "both.toml has both [archive] and [oceans]; keep one"),
            (
                "in.nc --recipe wrong.toml",
                "no option of TrainOptions 'epoch'; did you mean 'epochs'? Choose from net",
            ),
            (
                "in.nc --recipe oceans.toml",
                "oceans.toml trains on synthetic oceans; leave out in.nc, or [oceans]",
            ),
            (
                "--recipe oceans.toml --clips 3",
                "--clips is for an archive, and oceans.toml trains on synthetic oceans",
            ),
            (
                "--recipe oceans.toml --network paper",
                "network='paper', and on oceans network is 'compact'",
            ),
            (
                "in.nc --network big",
                "network='big': input should be 'compact', 'paper', 'static' or 'recurrent'",
            ),
            ("in.nc --epochs many", "epochs='many'"),
            ("in.nc --size 40", "size=40, and images have 16x18 pixels; give size=16"),
            (
                "in.nc --frames 11",
                "12 images are too few to train and validate on sequences of 11; give frames=3 or",
            ),
            ("in.nc --clouds rain", "no measurement operator 'rain'; did you mean 'raindrops'?"),
            ("in.nc --variable chl", "no variable 'chl'"),
            ("in.nc --objective paired --size 33", "objective='paired' needs the truth"),
            ("in.nc --start nowhere", "nowhere"),
            ("nowhere.nc", "cannot read nowhere.nc: no such file"),
        ],
    )
    def test_mistakes(
        self, options: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "both.toml").write_text("[archive]\n[oceans]\n")
        (folder / "wrong.toml").write_text("[train]\nepoch = 3\n")
        (folder / "oceans.toml").write_text("[oceans]\n")
        assert words in fails(f"train --out model {options}", capsys)
        assert not (folder / "model" / "config.json").exists()


class StoppedError(BaseException):
    """Tells what a call was given; no `Exception`, which the command would turn into a line."""


def _stop(*args: object, **how: object) -> None:
    raise StoppedError(args, how)


class TestMistakes:
    """Each one is a line on stderr, exit status 2, and leaves an earlier output as it was."""

    @pytest.fixture(autouse=True)
    def earlier(self, folder: Path) -> None:
        io.write(xr.Dataset({"an_earlier_output": ("x", [1.0])}), folder / "old.nc")

    @pytest.fixture(autouse=True)
    def untouched(self, earlier: None, folder: Path):
        before, old = (folder / "in.nc").read_bytes(), (folder / "old.nc").read_bytes()
        yield
        assert (folder / "old.nc").read_bytes() == old
        assert (folder / "in.nc").read_bytes() == before
        assert not list(folder.glob(".*"))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ("--method dinof", "no method 'dinof'; did you mean 'dineof'?"),
            (
                "--method dineof --mode 3",
                "no option of dineof '--mode'; did you mean '--modes'? Choose from",
            ),
            ("--method interpolate --modes 3", "no option of interpolate '--modes'"),
            ("--method interpolate --modes=3", "Choose from"),
            (
                "--modes 3",
                "--modes is an option of bayes_eof, dineof; name the method too: --method "
                "bayes_eof",
            ),
            ("--no-space", "--no-space is an option of interpolate; name the method too"),
            ("--method dineof --modes many", "modes='many'"),
            ("--method dineof --modes 0", "modes=0 must be a whole number, 1 or more"),
            ("--method dineof --alpha -1", "alpha=-1.0 must be a finite number, 0 or more"),
            ("--method dineof --solver quick", "solver='quick'"),
            ("--method interpolate --limit never", "limit='never'"),
            ("--variable chl", "no variable 'chl'"),
            ("--time-chunk 0", "--time-chunk 0 is less than 1"),
            ("--method interpolate --together more.nc", "'more.nc' is one argument too many"),
            ("--plot map.xyz", "cannot write a picture as '.xyz'"),
            ("--plot no/map.png", "does not exist"),
        ],
    )
    def test_options(self, options: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert words in fails(f"fill in.nc --out old.nc {options}", capsys)

    def test_unknown_option_lists_the_valid_ones(self, capsys: pytest.CaptureFixture[str]) -> None:
        line = fails("fill in.nc --out old.nc --method interpolate --modes 3", capsys)
        assert {"--limit", "--space", "--out", "--seed"} <= set(line.replace(",", "").split())
        assert "--error-length" not in line

    def test_option_values_before_the_input_are_not_taken_for_it(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "'--foo'" in fails("fill --foo 5 in.nc --out old.nc", capsys)

    def test_missing_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "cannot read nowhere.nc: no such file" in fails(
            "fill nowhere.nc --out old.nc", capsys
        )

    def test_truncated_file(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        whole = (folder / "in.nc").read_bytes()
        (folder / "cut.nc").write_bytes(whole[: len(whole) // 2])
        for command in ("fill cut.nc --out old.nc", "info cut.nc", "score cut.nc"):
            assert "cannot read cut.nc" in fails(command, capsys)

    def test_damage_inside_a_store(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        sstfill.io.write(opened("in.nc"), "in.zarr")
        chunk = next(
            p for p in sorted((folder / "in.zarr" / "sst" / "c").rglob("*")) if p.is_file()
        )
        chunk.write_bytes(b"no chunk")
        assert "cannot read in.zarr" in fails(
            "fill in.zarr --out old.nc --method climatology", capsys
        )
        assert "cannot read in.zarr" in fails("fill in.zarr --out old.nc --time-chunk 4", capsys)

    def test_output_is_the_input(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "it is the input itself" in fails("fill in.nc --out ./in.nc", capsys)
        (folder / "link.nc").symlink_to("in.nc")
        assert "it is the input itself" in fails("fill in.nc --out link.nc", capsys)

    def test_output_without_format_or_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "cannot tell a format from 'out.tif'" in fails("fill in.nc --out out.tif", capsys)
        assert "does not exist; create it: mkdir -p" in fails("fill in.nc --out no/out.nc", capsys)
        assert "cannot tell a format" in fails("dineof-modes in.nc --out out.txt", capsys)
        assert "does not exist" in fails("score in.nc --json no/x.json", capsys)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda ds: ds.fillna({"sst": 1.0}), "no gaps at sea"),
            (lambda ds: ds.assign(sea=ds.sea * 0), "the sea mask is land everywhere"),
            (lambda ds: ds.assign(sst=ds.sst * np.nan), "nothing observed at sea"),
            (lambda ds: ds.isel(time=0, drop=True), "no time dimension"),
        ],
    )
    def test_unfillable(
        self, change, words: str, seen: xr.Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sstfill.io.write(change(seen), "bad.nc")
        assert words in fails("fill bad.nc --out old.nc", capsys)
        assert words in run("info bad.nc", capsys)  # told, not raised

    def test_two_candidates_for_score(
        self, seen: xr.Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sstfill.io.write(seen.assign(chl=seen.sst), "two.nc")
        assert "holds 2 fields, sst, chl; name one" in fails("score two.nc", capsys)

    def test_score(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "no method 'dinof'" in fails("score in.nc --methods interpolate,dinof", capsys)
        assert "no method to score" in fails("score in.nc --methods ,", capsys)
        assert "not between 0 and 1" in fails(
            "score in.nc --methods climatology --fraction 2", capsys
        )
        assert "no option of score '--method'" in fails("score in.nc --method dineof", capsys)

    def test_picture_without_its_libraries(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(source, "find_spec", lambda name: None)
        line = fails("fill in.nc --out old.nc --plot map.png", capsys)
        assert (
            line
            == "a picture needs matplotlib and cartopy; install them: pip install 'sstfill[plot]'"
        )

    def test_failure_while_writing(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
        line = fails("fill in.nc --out old.nc --method climatology --no-score", capsys)
        assert "No space left on device" in line

    def test_interrupt(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("sstfill.cli.filling.fill", interrupted)
        assert main(["fill", "in.nc", "--out", "old.nc"]) == 130
        err = capsys.readouterr().err
        assert err == "sstfill: interrupted; an earlier output is unchanged\n"

    def test_what_was_not_foreseen_is_one_line(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("a bug\nof two lines")

        monkeypatch.setattr("sstfill.cli.filling.fill", broken)
        assert main(["fill", "in.nc", "--out", "old.nc"]) == 70
        line = (
            "sstfill: unexpected ZeroDivisionError: a bug\\nof two lines; please report it; "
            "--debug shows where\n"
        )
        assert capsys.readouterr().err == line
        assert main(["fill", "in.nc", "--out", "old.nc", "--debug"]) == 70
        err = capsys.readouterr().err
        assert "Traceback" in err and "in broken" in err and err.endswith(line)

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (
                MemoryError("Unable to allocate 7.28 TiB"),
                "not enough memory (Unable to allocate 7.28 TiB); fill into",
            ),
            (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        ],
    )
    def test_too_large_and_too_deep(
        self,
        error: Exception,
        words: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def beyond(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("sstfill.cli.filling.fill", beyond)
        assert words in fails("fill in.nc --out old.nc", capsys)

    def test_names_and_attributes_with_line_breaks_stay_on_their_line(
        self, seen: xr.Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """They could pretend to be lines of the command's own."""
        forged = "sst\nready to fill"
        units = seen.sst.assign_attrs(units="degC\n\x1b[31mforged", long_name="a\nb")
        odd = seen.drop_vars("sst").assign({forged: units})
        sstfill.io.write(odd, "odd.zarr")
        described = run("info odd.zarr", capsys)
        filled = summary(sstfill.fill(odd, "interpolate"))
        for text in (described, filled):
            assert "sst\\nready to fill" in text and "\nready" not in text
            assert "forged" in text and "\nforged" not in text and "\x1b" not in text

    def test_an_interrupt_states_what_this_command_wrote(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An earlier command in the same process has put an output in place."""

        def interrupted(words: object) -> None:
            raise KeyboardInterrupt

        run("fill in.nc --out first.nc --method interpolate --no-score", capsys)
        monkeypatch.setattr("sstfill.cli.process.running.parse", interrupted)
        assert main(["info", "in.nc"]) == 130
        assert "an earlier output is unchanged" in capsys.readouterr().err

    def test_debug_shows_the_traceback(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["fill", "nowhere.nc", "--out", "old.nc", "--debug"]) == 2
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("sstfill: error: cannot read nowhere.nc")

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("", "the following arguments are required: COMMAND; see sstfill --help"),
            ("fil in.nc", "no command 'fil'; did you mean 'fill'? Choose from"),
            ("fill in.nc", "the following arguments are required: --out; see sstfill fill --help"),
            (
                "fill in.nc --out o.nc --seed x",
                "argument --seed: invalid int value: 'x'; see sstfill fill --help",
            ),
            (
                f"fill in.nc --out o.nc --seed {'9' * 5000}",
                "is not a whole number below 2**63; see sstfill fill",
            ),
            (f"fill in.nc --out o.nc --method dineof --modes {'9' * 5000}", "modes='999"),
            (
                "plan name --timeout nan",
                "argument --timeout: 'nan' is not a number; see sstfill plan --help",
            ),
            ("plot old.nc", "the following arguments are required: --out; see sstfill plot --help"),
            ("bench other", "invalid choice: 'other'"),
        ],
    )
    def test_grammar(self, line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
        told = fails(line, capsys)
        assert words in told and len(told) < 400


class TestScore:
    def test_table_json_and_picture(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("matplotlib")
        line = (
            "score in.nc --methods climatology,interpolate --fraction 0.15 --repeats 2 --seed 3 "
            "--json s.json --plot s.png"
        )
        out = run(line, capsys)
        card = sstfill.Scorecard.from_json((folder / "s.json").read_text())
        expected = opened("in.nc").gapfill.score(
            ["climatology", "interpolate"], fraction=0.15, repeats=2, seed=3
        )
        np.testing.assert_array_equal(card.data.rmse, expected.data.rmse)
        assert out.startswith("sst (degree_Celsius): ")
        assert f"{float(card.data.rmse.min()):.3f}" in out
        assert (folder / "s.png").read_bytes()[:4] == PNG

    def test_members(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = "score in.nc --methods climatology,oi --members 3 --no-calibrate --json s.json"
        assert "CRPS of draws" in run(line, capsys)
        data = sstfill.Scorecard.from_json((folder / "s.json").read_text()).data
        assert data["crps_members"].notnull().values.tolist() == [False, True]
        assert "members=1" in fails("score in.nc --methods oi --members 1", capsys)

    def test_markdown(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("score in.nc --methods climatology --markdown", capsys).startswith(
            "| method | RMSE |"
        )


class TestLooking:
    def test_methods(self, capsys: pytest.CaptureFixture[str]) -> None:
        lines = run("methods", capsys).splitlines()
        assert [line.split()[0] for line in lines] == sorted(sstfill.METHODS)
        assert "no method 'magic'" in fails("methods magic", capsys)

    @pytest.mark.parametrize("name", sorted(sstfill.METHODS))
    def test_help_lists_the_options_of_a_method(
        self, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        listed = run(f"methods {name}", capsys)
        with pytest.raises(SystemExit) as left:
            main(["fill", "--method", name, "--help"])
        assert left.value.code == 0
        shown = capsys.readouterr().out
        for field in dataclasses.fields(sstfill.METHODS[name]):
            assert flag(field.name) in shown
            assert field.name == "seed" or f"  {flag(field.name)}" in listed
        assert f"options of {name}" in shown

    def test_help_tells_the_docstring_and_the_default(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        listed = " ".join(run("methods dineof", capsys).split())
        assert (
            "--cross-validation clouds|random Withhold clouds of other dates (3 % of the "
            "observations)" in listed
        )
        assert "--normalise, --no-normalise" in listed
        assert "(default: 0.001)" in listed

    def test_info(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        described = sstfill.describe.describe(
            opened("in.nc"), missing=sstfill.io.missing_values("in.nc")
        )
        assert run("info in.nc", capsys) == f"{described}\n"
        assert "\n  missing  1,591 by stored NaN\n" in str(described)

    def test_info_on_real_data(self, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = run(f"info {shared_data / 'real' / 'alboran_l3s_2022.nc'}", capsys)
        for words in (
            "2022-06-01 to 2022-08-31, 92 images, one each 1 d",
            "from variable 'mask'",
            "31.2 % of the sea",
            "lat 34.812 to 37.25",
            "ready to fill",
            "source_of_sst: uint8 values",
        ):
            assert words in out
        producer = shared_data / "real" / "SST_MED_SST_L3S_NRT_OBSERVATIONS_010_012_a_example.nc"
        assert "sea_surface_temperature: float32 (time 92, lat 40, lon 41), kelvin" in run(
            f"info {producer}", capsys
        )


def test_dineof_modes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run("dineof-modes in.nc --out modes.nc --modes 3 --seed 2", capsys)
    xr.testing.assert_equal(
        opened("modes.nc"), opened("in.nc").gapfill.dineof_modes(modes=3, seed=2)
    )
    assert "sst_explained_variance: 3 modes, of the variance" in out
    assert "'--outliers'" in fails("dineof-modes in.nc --out o.nc --outliers", capsys)


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cartopy")
    out = run(f"demo --out {tmp_path} --size 8 12 14", capsys)
    assert {p.name for p in tmp_path.iterdir()} == {"filled.nc", "filled.png"}
    assert set(sstfill.METHODS) - {"auto", "gan", "patchmatch"} <= set(out.split())
    filled = opened(tmp_path / "filled.nc")
    gap = filled.sst_source == 1
    rmse = float(np.sqrt(((filled.sst - filled.truth) ** 2).where(gap).mean()))
    assert f"truth   RMSE {rmse:.3f}" in out
    assert rmse < float(filled.truth.std())
    assert "does not exist" in fails(f"demo --out {tmp_path}/no", capsys)


@pytest.mark.parametrize(
    "layout", [{"time": 1, "lat": 16, "lon": 18}, {"time": 12, "lat": 4, "lon": 6}, {}]
)
def test_blocks_are_whole_stored_chunks(
    layout: dict[str, int], seen: xr.Dataset, tmp_path: Path
) -> None:
    encoding = {"sst": {"chunksizes": tuple(layout.values())} if layout else {"contiguous": True}}
    seen.to_netcdf(tmp_path / "in.nc", encoding=encoding)
    whole = layout.get("time") == 12
    with sstfill.io.open(tmp_path / "in.nc", chunks={}) as stored:
        for images, nbytes in ((5, 5 * 16 * 18 * 4), (1, 1)):
            found = source.blocks(stored, block_bytes=nbytes)
            assert found == ({} if whole else {"time": images})


class TestProcess:
    """What only a process of its own can show."""

    def test_module_and_exit_status(self, folder: Path) -> None:
        line = [sys.executable, "-m", "sstfill", "fil", "in.nc"]
        done = subprocess.run(line, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("sstfill: error: no command 'fil'; did you mean 'fill'?")
        assert done.stderr.count("\n") == 1

    def test_reader_that_goes_away(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        line = [sys.executable, "-m", "sstfill", "methods", "dineof"]
        done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")

    def test_the_command_is_installed(self) -> None:
        command = Path(sys.executable).with_name("sstfill")
        if not command.exists():
            pytest.skip(f"sstfill is not installed beside {sys.executable}")
        done = subprocess.run([command, "--help"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "from-dineof" in done.stdout


def test_several_files_are_filled_as_one_series(folder, seen, capsys):
    for day in range(seen.sizes["time"]):
        io.write(seen.isel(time=[day]), folder / f"day{day:02}.nc")
    days = " ".join(sorted(str(path) for path in folder.glob("day*.nc")))
    rest = "--method interpolate --no-score --variable sst"
    run(f"fill {days} --out several.nc {rest}", capsys)
    run(f"fill in.nc --out one.nc {rest}", capsys)
    with io.open("several.nc") as several, io.open("one.nc") as one:
        xr.testing.assert_allclose(several.sst, one.sst)
    assert f"{seen.sizes['time']} images" in run(f"info {days}", capsys)


def test_an_archive_is_one_store(folder, capsys):
    said = fails("fill in.nc in.nc --out out.zarr --update", capsys)
    assert "2 inputs" in said and "sstfill import-granules" in said
    assert "--group" in fails("fill in.nc in.nc --out out.nc --group a", capsys)
