# SPDX-License-Identifier: Apache-2.0
"""From a cloudy archive to a method that fills: every network and objective, no leak, no whole
archive in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from training_archives import Guessing, Watched, archive, guess_cheaply

import sstfill
from sstfill.errors import InputError, OptionError, ReadError, SstfillError, WriteError
from sstfill.fields.scaling import Scaling, SequenceScaling
from sstfill.methods.gan.method import SHIPPED, Gan
from sstfill.methods.gan.paper import scaling_of
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.occlusion import ObservedClouds, Raindrops
from sstfill.training import loop
from sstfill.training.data import cache
from sstfill.training.data.archive_source import PaperSource
from sstfill.training.data.training_field import TrainingField
from sstfill.training.data.windows import MemoryLimits, split_in_time
from sstfill.training.options import TrainOptions
from sstfill.training.train import FEW, _fit_to_archive, _source, save_checkpoint
from sstfill.training.train import train as usual_train

SIDE = 33
"""Of the least frame that discriminators judge."""

TINY = MemoryLimits(load=0, segment=8_000)
"""What is lazy is too large, and segments are tiny."""

train = partial(usual_train, validated=2)


@pytest.fixture
def cloudy() -> xr.Dataset:
    return archive().drop_vars("truth")


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Gan, Path]:
    """What a training of the cloudy archive gives, and its folder."""
    out = tmp_path_factory.mktemp("usual") / "out"
    return train(archive().drop_vars("truth"), small(base=2), out=out), out


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> Guessing:
    return guess_cheaply(monkeypatch)


def _interrupted(after: int) -> Callable[..., None]:
    """Stands for `loop.step`: so many steps, and then an interruption."""
    taken, step = [0], loop.step

    def steps(*given: Any) -> None:
        if taken[0] == after:
            raise KeyboardInterrupt
        taken[0] += 1
        step(*given)

    return steps


def small(**given: Any) -> TrainOptions:
    """Options of a training that takes a moment."""
    usual: dict[str, Any] = {
        "network": "paper",
        "base": 1,
        "discriminator_base": 1,
        "frames": 2,
        "size": 8,
        "samples": 2,
        "epochs": 1,
        "device": "cpu",
        "schedule": "constant",
    }
    return TrainOptions(**(usual | given))


def compact(**given: Any) -> TrainOptions:
    return small(network="compact", **given)


def source_of(
    ds: xr.Dataset, options: TrainOptions, clouds: Any = "own", truth: str | None = None
) -> Any:
    return _source(TrainingField.of(ds, None, None, truth), options, clouds, 2, 2, Path("nowhere"))


def told(raised: pytest.ExceptionInfo[Any]) -> str:
    """The message of one of our errors, which must be one line."""
    assert isinstance(raised.value, SstfillError) and "\n" not in str(raised.value)
    return str(raised.value)


class TestNetworks:
    @pytest.mark.parametrize(
        ("network", "objective", "truth"),
        [
            ("paper", "withheld+adversarial", None),
            ("paper", "paired", "truth"),
            ("static", "adversarial", None),
            ("recurrent", "unpaired", "truth"),
        ],
    )
    def test_the_paper_s_and_its_variants_train_and_fill(
        self, network: str, objective: str, truth: str | None
    ) -> None:
        ds = archive((9, SIDE + 2, SIDE), seed=1)
        options = small(network=network, objective=objective, size=SIDE)
        model = train(ds if truth else ds.drop_vars("truth"), options, truth=truth)
        config = model.checkpoint.config
        assert isinstance(model, Gan)
        assert config["network"] == {"name": network, "options": {"base": 1, "fill": 1.0}}
        assert (config["objective"], config["patch"], config["variable"]) == (
            objective,
            [2, SIDE, SIDE],
            "sst",
        )
        assert (config["units"], config["step_days"], config["channels"]) == ("degC", 1.0, None)
        assert config["trained"]["steps"] == 2 and np.isfinite(config["scores"]["withheld_mae"])
        training = ds.sst[:6]
        assert config["scaling"]["mean"] == pytest.approx(float(training.mean()), rel=1e-5)
        filled = ds[["sst", "sea"]].gapfill.gan(
            Gan(model=model.checkpoint, adapt=False), score=False
        )
        assert int(filled.sst.where(ds.sea).isnull().sum()) == int((~ds.sea).sum()) * 9
        xr.testing.assert_equal(filled.sst.where(ds.sst.notnull()), ds.sst)

    def test_the_compact_one_from_nothing(self, cloudy: xr.Dataset, cheap: Guessing) -> None:
        model = train(cloudy, compact(), start="new", clips=2)
        config = model.checkpoint.config
        assert config["network"]["options"] == {"base": 1, "inputs": 13}
        assert len(cheap.seeds) == 2 + 2
        assert "scaling" not in config and "units" not in config
        assert len(config["traits"]) == 3 and config["occlusion"] == "own"
        assert config["data"]["shape"] == [18, 20, 22]

    def test_it_is_known_by_its_archive(self, cloudy: xr.Dataset, usual: tuple[Gan, Path]) -> None:
        config = usual[0].checkpoint.config
        filled = sstfill.fill(cloudy, "climatology", score=False)
        assert config["data"]["fingerprint"] == filled.sst.attrs["sstfill_fingerprint"]

    def test_the_shipped_one_is_trained_further(self, cloudy: xr.Dataset, cheap: Guessing) -> None:
        """At next to no learning rate its weights hardly move."""
        shipped = Checkpoint.load(SHIPPED)
        model = train(cloudy, compact(learning_rate=1e-9, weight_decay=0.0), clips=2)
        assert model.checkpoint.config["network"] == shipped.config["network"]
        assert (
            model.checkpoint.config["trained"]["options"]["base"]
            == shipped.config["network"]["options"]["base"]
        )
        for name, weight in model.checkpoint.weights.items():
            assert torch.allclose(weight, shipped.weights[name], atol=1e-6)
        before, now = (
            np.array(config["traits"]) for config in (shipped.config, model.checkpoint.config)
        )
        assert (
            (now[:, 0] <= before[:, 0]).all()
            and (now[:, 1] >= before[:, 1]).all()
            and (now != before).any()
        )
        assert model.checkpoint.fingerprint != shipped.fingerprint

    @pytest.mark.parametrize("kind", [Path, str, Checkpoint.load, lambda path: Gan(model=path)])
    def test_another_one_is_trained_further(
        self, kind: Any, cloudy: xr.Dataset, usual: tuple[Gan, Path]
    ) -> None:
        """Its size counts, not that of the options."""
        first, folder = usual
        model = train(cloudy, small(learning_rate=1e-9), start=kind(folder))
        assert model.checkpoint.config["network"]["options"] == {"base": 2, "fill": 1.0}
        for one, other in zip(_weights(model), _weights(first), strict=True):
            assert torch.allclose(one, other, atol=1e-6)

    def test_the_device_is_passed_on(self, usual: tuple[Gan, Path]) -> None:
        assert usual[0].device == "cpu"


class TestSeeds:
    @pytest.mark.parametrize("kind", [small, compact])
    def test_the_same_seed_gives_the_same_weights(
        self, kind: Any, cloudy: xr.Dataset, cheap: Guessing
    ) -> None:
        prints = [
            train(cloudy, kind(seed=seed), start="new", clips=2).checkpoint.fingerprint
            for seed in (0, 0, 1)
        ]
        assert prints[0] == prints[1] != prints[2]

    def test_random_numbers_of_others_and_the_archive_are_left_alone(
        self, cloudy: xr.Dataset
    ) -> None:
        drawn, before = torch.get_rng_state(), cloudy.copy(deep=True)
        train(cloudy, small())
        assert torch.equal(drawn, torch.get_rng_state())
        xr.testing.assert_identical(cloudy, before)


class TestNoLeak:
    @pytest.mark.parametrize("images", [12, 30, 120])
    def test_training_and_validation_share_no_date(self, images: int) -> None:
        ds = archive((images, 8, 8)).drop_vars("truth")
        source = source_of(ds, small())
        trained, validation_part = (
            part.windows.times for part in (source.training_part, source.validation_part)
        )
        assert trained.stop < validation_part.start and validation_part.stop == images
        masks = [
            set(part.clouds.observed.time.values.tolist())
            for part in (source.training_part, source.validation_part)
        ]
        assert masks[0] and masks[1] and not masks[0] & masks[1]
        assert (min(masks[1]) - max(masks[0])) / 86400e9 > 2
        dates = set(ds.time[validation_part].values.tolist())
        assert (
            not masks[0] & dates
        )  # nor are the dates of the validation among the masks of the training

    def test_clouds_of_another_archive_are_parted_too(self, cloudy: xr.Dataset) -> None:
        other = archive((40, 9, 9), seed=3)
        source = source_of(cloudy, small(), ObservedClouds(other.sst.notnull(), stride=2))
        mask_dates = [
            set(part.clouds.observed.time.values.tolist())
            for part in (source.training_part, source.validation_part)
        ]
        assert not mask_dates[0] & mask_dates[1]
        assert [part.clouds.stride for part in (source.training_part, source.validation_part)] == [
            2,
            2,
        ]

    def test_a_short_archive_takes_any_of_its_masks(self) -> None:
        source = source_of(archive((FEW - 1, 8, 8)).drop_vars("truth"), small())
        assert source.training_part.clouds is source.validation_part.clouds

    def test_scaling_is_of_the_training_block_at_sea(self, cloudy: xr.Dataset) -> None:
        """Validation, land (where a producer may leave anything) and the truth do not enter."""
        past = split_in_time(18, 2).training
        wild = cloudy.assign(
            sst=cloudy.sst.where(cloudy.time < cloudy.time[past.stop], 1e4).where(cloudy.sea, -1e4)
        )
        assert Scaling.fit(wild.sst).std > 1e3
        assert source_of(cloudy, small()).scaling == source_of(wild, small()).scaling
        ds = archive()
        guessed = source_of(ds.assign(truth=ds.truth * 0 + 1e4), small(), truth="truth")
        assert guessed.scaling == source_of(cloudy, small()).scaling

    def test_what_an_earlier_fill_put_in_is_not_trained_on(self, cloudy: xr.Dataset) -> None:
        filled = cloudy.gapfill.climatology(score=False)
        assert int(filled.sst.notnull().sum()) > int(cloudy.sst.notnull().sum())
        found, expected = (
            TrainingField.of(filled, None, None, None),
            TrainingField.of(cloudy, None, None, None),
        )
        assert found.fingerprint == expected.fingerprint
        xr.testing.assert_equal(found.obs, expected.obs)


class TestLarge:
    @pytest.mark.parametrize("network", ["paper", "compact"])
    def test_an_archive_is_never_computed_whole(self, network: str, cheap: Guessing) -> None:
        ds = archive((60, 40, 40)).drop_vars("truth")
        watched = Watched(ds, {"time": 6, "lat": 20, "lon": 20})
        lazy = ds.assign(sst=watched.lazy("sst"))
        with dask.config.set(scheduler=watched):
            model = train(lazy, small(network=network), start="new", clips=2, limits=TINY)
        # the survey keeps of each pixel its count, least and greatest value, of each image
        # its count
        assert 0 < watched.largest <= 3 * 40 * 40 + 2 * 60 < ds.sst.size / 15
        assert lazy.sst.chunks is not None
        again = train(lazy, small(network=network), start="new", clips=2, limits=TINY)
        assert model.checkpoint.fingerprint == again.checkpoint.fingerprint

    @pytest.mark.parametrize("network", ["paper", "compact"])
    def test_a_small_one_is_as_if_it_were_in_memory(self, network: str, cheap: Guessing) -> None:
        ds = archive((60, 40, 40)).drop_vars("truth")
        lazy = ds.chunk(time=6, lat=20, lon=20).assign(sea=ds.sea)
        model, whole = (
            train(one, small(network=network), start="new", clips=2) for one in (lazy, ds)
        )
        for name, weight in model.checkpoint.weights.items():
            assert torch.allclose(weight, whole.checkpoint.weights[name], atol=1e-5)
        assert model.checkpoint.config["data"] == whole.checkpoint.config["data"]
        assert lazy.sst.chunks is not None

    def test_resumed_it_ends_where_it_would_have(self, tmp_path: Path, cheap: Guessing) -> None:
        """Interrupted in the middle of an epoch, and of its segments."""
        ds = archive((60, 40, 40)).drop_vars("truth")
        lazy = ds.chunk(time=6, lat=20, lon=20).assign(sea=ds.sea)
        how: dict[str, Any] = {"samples": 6, "epochs": 2, "save_minutes": 0.0}
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(loop, "step", _interrupted(after=8))
            with pytest.raises(KeyboardInterrupt):
                train(lazy, small(**how), out=tmp_path, limits=TINY)
        assert not [
            thread for thread in threading.enumerate() if thread.name.startswith("sstfill-prefetch")
        ]
        resumed = train(lazy, small(**how), out=tmp_path, resume=True, limits=TINY)
        straight = train(lazy, small(**how), limits=TINY)
        assert resumed.checkpoint.fingerprint == straight.checkpoint.fingerprint

    def test_a_sequence_reads_its_window_and_its_clouds(self) -> None:
        ds = archive((60, 40, 40)).drop_vars("truth")
        watched = Watched(ds, {"time": 6, "lat": 20, "lon": 20})
        source = source_of(ds.assign(sst=watched.lazy("sst")), small(samples=1), Raindrops())
        watched.read.clear()
        list(source.epoch(0, np.random.default_rng(0)))
        assert 1 <= len(watched.read) <= 8 < 40

    def test_a_store_on_disk(self, tmp_path: Path) -> None:
        ds = archive((12, 12, 12)).drop_vars("truth")
        ds.to_zarr(
            tmp_path / "archive.zarr", encoding={"sst": {"chunks": (3, 12, 12)}}, consolidated=False
        )
        with xr.open_zarr(tmp_path / "archive.zarr", consolidated=False) as stored:
            model = stored.gapfill.train(
                network="paper", base=1, frames=2, size=8, samples=2, epochs=1, device="cpu"
            )
        assert model.checkpoint.config["trained"]["steps"] == 2


class TestLevel:
    """Of a field with seasons, sequences are seen about their own levels."""

    def test_seasons_stay_out_of_the_scaling(self, cloudy: xr.Dataset) -> None:
        season = xr.DataArray(100.0 * (np.arange(18) // 6), dims="time")
        ds = cloudy.assign(sst=(cloudy.sst + season).assign_attrs(cloudy.sst.attrs))
        model = train(ds, small(level="sequence"))
        scaling = scaling_of(model.checkpoint.config)
        assert isinstance(scaling, SequenceScaling)
        trained_on = ds.sst[split_in_time(18, 2).training]
        assert scaling.mean == pytest.approx(float(trained_on.mean()), rel=1e-6)
        assert scaling.std < 30 < Scaling.fit(trained_on).std
        assert model.checkpoint.config["spread"] == pytest.approx(float(cloudy.sst.std()), rel=0.2)
        filled = ds.gapfill.fill(replace(model, adapt=False), variables="sst", score=False)
        deviation = (filled.sst - season - cloudy.sst.mean()).where(filled.sst_source == 1)
        # of sequences that two seasons share, half is far from their level
        assert float(np.abs(deviation[:3]).max()) < 3.5 * scaling.std


class TestTransform:
    """A network learns, and fills, in the space that `fill` would choose for the field."""

    def test_concentrations_are_trained_and_filled_as_logarithms(self, cloudy: xr.Dataset) -> None:
        chl = (10 ** (cloudy.sst - cloudy.sst.mean())).astype("f4").drop_attrs(deep=False)
        ds = cloudy.assign(sst=chl.assign_attrs(units="mg m-3"))
        model = train(ds, small(), variable="sst")
        config = model.checkpoint.config
        assert config["transform"] == model.trained_transform == "log"
        logarithms = np.log10(chl.values[np.isfinite(chl.values)])
        assert config["spread"] == pytest.approx(logarithms.std(), rel=0.05)
        alone = replace(model, adapt=False)
        filled = ds.gapfill.fill(alone, variables="sst", score=False)
        made = (filled.sst_source == 1).values
        assert made.any() and (filled.sst.values[made] > 0).all()
        with pytest.raises(OptionError, match="trained with transform='log'"):
            ds.gapfill.fill(model, variables="sst", transform="none")

    def test_other_fields_are_trained_as_they_are(self, usual: tuple[Gan, Path]) -> None:
        assert usual[0].checkpoint.config["transform"] == "none"

    def test_early_checkpoints_name_the_logarithm_in_their_scaling(
        self, usual: tuple[Gan, Path]
    ) -> None:
        now = usual[0].checkpoint
        config = {k: v for k, v in now.config.items() if k != "transform"}
        config["scaling"] = config["scaling"] | {"kind": "log"}
        early = Gan(model=Checkpoint(config, now.weights))
        assert early.trained_transform == "log"
        assert scaling_of(early.checkpoint.config).kind == "standardise"


class TestSizes:
    def test_default_sizes_are_cut_to_the_archive(self, cloudy: xr.Dataset) -> None:
        source = source_of_sized(cloudy, TrainOptions(network="paper"))
        assert source.training_part.windows.shape == (5, 20, 20)

    def test_several_fields_need_a_name(self, cloudy: xr.Dataset) -> None:
        two = cloudy.assign(chl=cloudy.sst + 1)
        with pytest.raises(InputError) as raised:
            train(two, small())
        assert "holds 2 fields, sst, chl; name one: variable='sst'" in told(raised)
        assert train(two, small(), variable="chl").checkpoint.config["variable"] == "chl"

    def test_an_array(self, cloudy: xr.Dataset) -> None:
        model = cloudy.sst.rename(None).gapfill.train(
            network="paper",
            base=1,
            frames=2,
            size=8,
            samples=1,
            epochs=1,
            device="cpu",
            sea=cloudy.sea,
        )
        assert model.checkpoint.config["variable"] == "field"


class TestFolder:
    def test_checkpoint_log_and_state(self, cloudy: xr.Dataset, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()  # a folder that is there already will do
        model = train(cloudy, small(), out=tmp_path / "out")
        names = {file.name for file in (tmp_path / "out").iterdir()}
        assert names == {"config.json", "weights.safetensors", "log.csv", "training.safetensors"}
        assert Checkpoint.load(tmp_path / "out") == model.checkpoint

    @pytest.mark.parametrize("kind", [small, compact])
    def test_resumed_it_ends_where_it_would_have(
        self, kind: Any, cloudy: xr.Dataset, cheap: Guessing, tmp_path: Path
    ) -> None:
        how: dict[str, Any] = {"start": "new", "clips": 2}
        train(cloudy, kind(epochs=1), out=tmp_path / "out", **how)
        asked = len(cheap.seeds)
        resumed = train(cloudy, kind(epochs=2), out=tmp_path / "out", resume=True, **how)
        assert len(cheap.seeds) == asked  # first guesses are kept
        straight = train(cloudy, kind(epochs=2), **how)
        assert resumed.checkpoint.fingerprint == straight.checkpoint.fingerprint
        assert len(resumed.checkpoint.config["trained"]["history"]) == 2
        assert Checkpoint.load(tmp_path / "out") == resumed.checkpoint

    def test_mistakes_are_found_before_first_guesses_are_made(
        self, cloudy: xr.Dataset, cheap: Guessing, tmp_path: Path
    ) -> None:
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "training.safetensors").write_bytes(b"")
        with pytest.raises(
            OptionError, match="holds a training already; give resume=True to go on with it"
        ):
            train(cloudy, compact(), out=tmp_path / "old")
        with pytest.raises(OptionError, match="resume=True needs out"):
            train(cloudy, compact(), resume=True)
        (tmp_path / "file").write_text("mine")
        with pytest.raises(WriteError) as raised:
            train(cloudy, compact(), out=tmp_path / "file")
        assert "cannot write" in told(raised)
        if not torch.cuda.is_available():
            with pytest.raises(
                OptionError,
                match="device='cuda', but torch sees no GPU; give device='cpu' or 'auto'",
            ):
                train(cloudy, compact(device="cuda"))
        assert not cheap.seeds

    def test_first_guesses_of_another_training_are_not_taken(
        self, cloudy: xr.Dataset, cheap: Guessing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A training that was killed in its first epoch leaves them behind; the next may be of
        another archive.
        """
        with monkeypatch.context() as patched:
            patched.setattr(loop, "learn", _killed)
            with pytest.raises(KeyboardInterrupt):
                train(cloudy, compact(), clips=2, out=tmp_path)
        assert len(list(tmp_path.rglob("*.npz"))) == 2 + 2
        before = len(cheap.seeds)
        for change in (
            {"ds": archive(seed=5).drop_vars("truth")},
            {"frames": 3},
            {"seed": 1},
            {"clouds": "raindrops"},
        ):
            how = {"ds": cloudy, "frames": 2, "seed": 0, "clouds": "own"} | change
            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                patched.setattr(loop, "learn", _killed)
                train(
                    how["ds"],
                    compact(frames=how["frames"], seed=how["seed"]),
                    clips=2,
                    clouds=how["clouds"],
                    out=tmp_path,
                )
            assert len(cheap.seeds) == before + 4
            before += 4
        train(cloudy, compact(), clips=3, out=tmp_path)
        assert len(cheap.seeds) == before + 1  # the same training again, with one sequence more

    def test_a_full_disk_leaves_the_last_state(
        self, cloudy: xr.Dataset, cheap: Guessing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(cache.np, "savez", full)
        with pytest.raises(WriteError) as raised:
            train(cloudy, compact(), out=tmp_path / "out")
        assert "No space left on device" in told(raised)
        assert not list(tmp_path.rglob("*.npz"))

    def test_of_several_processes_the_first_writes(
        self, usual: tuple[Gan, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoint = usual[0].checkpoint
        monkeypatch.setenv("RANK", "1")
        save_checkpoint(checkpoint, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        monkeypatch.setenv("RANK", "0")
        save_checkpoint(checkpoint, tmp_path / "out")
        assert Checkpoint.load(tmp_path / "out") == checkpoint


def _one(ds: xr.Dataset, value: float) -> xr.Dataset:
    sst = ds.sst.copy()
    sst[3, 5, 5] = value
    return ds.assign(sst=sst)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "options", "words"),
        [
            (
                lambda ds: ds.isel(time=slice(0, 6)),
                {"frames": 5},
                "6 images are too few to train and validate on "
                "sequences of 5; give frames=1 or less, or a longer archive",
            ),
            (lambda ds: ds.isel(time=slice(0, 2)), {"frames": 1}, "2 images are too few"),
            (lambda ds: ds, {"size": 21}, "size=21, and images have 20x22 pixels; give size=20"),
            (
                lambda ds: ds.assign(sea=ds.sea & False),
                {},
                "'sst': nothing observed at sea, 0 of 440 pixels",
            ),
            (lambda ds: ds.assign(sst=ds.sst * np.nan), {}, "'sst': nothing observed at sea"),
            (
                lambda ds: ds.drop_vars("sea").assign(sst=ds.sst * np.nan),
                {},
                "'sst': nothing observed at sea",
            ),
            (lambda ds: _one(ds, np.inf), {}, "'sst' holds 1 infinite values; make them missing"),
            (lambda ds: ds.isel(time=0), {}, "no time dimension"),
            (
                lambda ds: ds.assign(sst=ds.sst.fillna(9.0)),
                {},
                "has a cloud at sea; give a cloudy archive",
            ),
            (
                lambda ds: ds.sst.values,
                {},
                "cannot train on a ndarray; give an xarray Dataset or DataArray",
            ),
        ],
    )
    def test_archive(
        self, change: Any, options: dict[str, Any], words: str, cloudy: xr.Dataset
    ) -> None:
        with pytest.raises(InputError) as raised:
            train(change(cloudy), small(**options))
        assert words in told(raised)

    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ({"variable": "chl"}, "no variable 'chl'; Choose from sst"),
            (
                {"clouds": "raindrop"},
                "no measurement operator 'raindrop'; did you mean 'raindrops'?",
            ),
            (
                {"clouds": "cloud"},
                "clouds='cloud' needs lwp; give the operator, sstfill.occlusion.Cloud(lwp=...), or",
            ),
            ({"clouds": "observed-clouds"}, "clouds='observed-clouds' needs observed"),
            (
                {"clouds": Raindrops},
                "clouds is a type, which draws no masks; give 'own', the name of",
            ),
            ({"clouds": xr.DataArray([True])}, "clouds is a DataArray, which draws no masks"),
            ({"clips": 0}, "clips=0 must be a whole number, 1 or more"),
            ({"validated": 0}, "validated=0 must be a whole number, 1 or more"),
            ({"truth": "sss"}, "no variable 'sss'"),
            ({"start": 3}, "model is a int"),
        ],
    )
    def test_options(self, how: dict[str, Any], words: str, cloudy: xr.Dataset) -> None:
        with pytest.raises(OptionError) as raised:
            train(cloudy, small(), **how)
        assert words in told(raised)

    def test_checkpoints_to_start_from(self, cloudy: xr.Dataset, tmp_path: Path) -> None:
        with pytest.raises(SstfillError) as raised:
            train(cloudy, small(), start=tmp_path / "nowhere")
        assert "nowhere" in told(raised)
        with pytest.raises(OptionError) as raised:
            train(cloudy, small(), start=SHIPPED)
        assert "start is a compact network, network='paper'; give the same, or start='new'" in told(
            raised
        )
        shipped = Checkpoint.load(SHIPPED)
        other = Checkpoint(shipped.config | {"channels": ["observed", "wind"]}, shipped.weights)
        with pytest.raises(OptionError) as raised:
            train(cloudy, compact(), start=other)
        assert "other first guesses" in told(raised)
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "config.json").write_text("{}")
        with pytest.raises(ReadError) as raised:
            train(cloudy, small(), start=tmp_path / "foreign")
        told(raised)

    @pytest.mark.parametrize("objective", ["paired", "unpaired"])
    def test_supervised_without_truth(self, objective: str, cloudy: xr.Dataset) -> None:
        with pytest.raises(OptionError) as raised:
            train(cloudy, small(objective=objective, size=SIDE))
        assert (
            f"objective={objective!r} needs the truth; give truth=, or objective='withheld'"
            in told(raised)
        )

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                lambda da: da[:-1],
                "the truth, (17, 20, 22), is not on the dates and the grid of the field, (18, 20",
            ),
            (
                lambda da: da.assign_coords(time=da.time + np.timedelta64(1, "D")),
                "is not on the dates and the grid",
            ),
            (lambda da: da.assign_coords(lat=da.lat + 1), "is not on the dates and the grid"),
            (
                lambda da: da.assign_attrs(units="kelvin"),
                "the truth is in kelvin, the field in degC; convert one",
            ),
            (lambda da: da * np.nan, "'truth': nothing observed at sea"),
            (lambda da: da.where(da < 15, np.inf), "'truth' holds"),
            (lambda da: da.isel(time=0), "no time dimension"),
            (lambda da: da.fillna(0).astype(int), "holds int64 values"),
        ],
    )
    def test_wrong_truth(self, change: Any, words: str) -> None:
        ds = archive()
        with pytest.raises(InputError) as raised:
            train(ds.drop_vars("truth"), small(), truth=change(ds.truth))
        assert words in told(raised)

    def test_truth_on_its_dims_in_another_order(self) -> None:
        ds = archive()
        found = TrainingField.of(
            ds.drop_vars("truth"), None, None, ds.truth.transpose("lon", "time", "lat")
        )
        assert found.truth is not None
        np.testing.assert_array_equal(found.truth.values, ds.truth.values)
        assert (
            found.fingerprint
            != TrainingField.of(ds.drop_vars("truth"), None, None, None).fingerprint
        )


def source_of_sized(ds: xr.Dataset, options: TrainOptions) -> PaperSource:
    found = TrainingField.of(ds, None, None, None)
    source = _source(found, _fit_to_archive(options, found), "own", 2, 2, Path("nowhere"))
    assert isinstance(source, PaperSource)
    return source


def _weights(model: Gan) -> list[torch.Tensor]:
    return list(model.checkpoint.network().parameters())


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
