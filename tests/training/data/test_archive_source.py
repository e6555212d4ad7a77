# SPDX-License-Identifier: Apache-2.0
"""Sequences from an archive: nothing under the hidden mask is seen, and the same seed gives the
same ones.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import xarray as xr
from training_archives import archive, guess_cheaply

from sstfill.errors import InputError
from sstfill.fields.scaling import Scaling, SequenceScaling
from sstfill.nn.registry import build
from sstfill.occlusion import ObservedClouds, RemovePixel
from sstfill.occlusion.base import Mask, Shape
from sstfill.training.data.archive_source import ArchivePart, FirstGuessSource, PaperSource
from sstfill.training.data.sample import Batches, Sample
from sstfill.training.data.windows import USUAL_LIMITS, MemoryLimits, TrainingWindows
from sstfill.training.forward import complete

WILD = 1e3
CLOUDS = RemovePixel(fraction=0.3)


def parts(
    ds: xr.Dataset,
    clouds: Any = CLOUDS,
    shape: tuple[int, int, int] = (3, 8, 8),
    limits: MemoryLimits = USUAL_LIMITS,
) -> tuple[ArchivePart, ArchivePart]:
    """For training the first 10 images, for validation the last 6."""
    truth = ds.get("truth")
    return tuple(
        ArchivePart(TrainingWindows(ds.sst, ds.sea, t, shape, truth, limits), clouds)
        for t in (slice(0, 10), slice(12, 18))
    )  # type: ignore[return-value]


def paper(ds: xr.Dataset, clouds: Any = CLOUDS, **given: Any) -> PaperSource:
    scaling = Scaling.fit(ds.sst[:10])
    usual: dict[str, Any] = {
        "samples": 5,
        "validated": 2,
        "needs_withheld": True,
        "adversarial": False,
        "seed": 0,
        "scaling": scaling,
    }
    limits = given.pop("limits", USUAL_LIMITS)
    return PaperSource(*parts(ds, clouds, limits=limits), **(usual | given))


def guessed(ds: xr.Dataset, folder: Path, clouds: Any = CLOUDS, **given: Any) -> FirstGuessSource:
    usual: dict[str, Any] = {
        "samples": 6,
        "clips": 2,
        "validated": 1,
        "adversarial": False,
        "folder": folder,
        "seed": 0,
    }
    limits = given.pop("limits", USUAL_LIMITS)
    return FirstGuessSource(*parts(ds, clouds, limits=limits), **(usual | given))


def epoch(source: PaperSource | FirstGuessSource, seed: int = 0, number: int = 0) -> list[Sample]:
    return list(source.epoch(number, np.random.default_rng(seed)))


def same(some: list[Sample], others: list[Sample]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, b)
        for one, other in zip(some, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def valid(samples: list[Sample]) -> bool:
    """Whether training can use every one of them (which checks shapes and masks too)."""
    batches = Batches(samples, 1, needs_withheld=True)
    return len(list(batches)) == len(samples) > 0


def unseen(ds: xr.Dataset, name: str, hidden: xr.DataArray, value: float) -> xr.Dataset:
    return ds.assign({name: ds[name].where(~hidden, value)})


@pytest.fixture
def cloudy() -> xr.Dataset:
    return archive().drop_vars("truth")


class TestPaperSource:
    def test_what_a_sequence_holds(self, cloudy: xr.Dataset) -> None:
        source = paper(cloudy)
        samples = epoch(source) + list(source.validation())
        assert len(samples) == 5 + 2
        assert valid(samples)
        for sample in samples:
            known = sample.observed | sample.withheld
            assert sample.values.shape == (1, 3, 8, 8) and sample.channels.shape == (0, 3, 8, 8)
            assert not (known & ~sample.sea).any()
            assert not sample.values[~known].any()
            assert sample.values[known].abs().max() < 1.5 and sample.values[known].any()
            assert not sample.guess.any() and not sample.error.any()
            assert 0.1 < float(sample.withheld.sum() / known.sum()) < 0.5

    def test_each_sequence_about_what_the_network_sees_of_it(self, cloudy: xr.Dataset) -> None:
        scaling = SequenceScaling(mean=15.0, std=0.8)
        rising = cloudy.assign(sst=cloudy.sst + xr.DataArray(100 * np.arange(18), dims="time"))
        source = paper(rising, scaling=scaling)
        for sample in epoch(source) + list(source.validation()):
            assert float(sample.values[sample.observed].mean()) == pytest.approx(0, abs=1e-4)
            # three images, a hundred units apart: those withheld lie as far from the mean
            assert 10 < float(sample.values[sample.withheld].abs().max()) < 100

    def test_sequences_are_turned_with_their_masks_in_training_alone(
        self, cloudy: xr.Dataset
    ) -> None:
        as_they_are, source = paper(cloudy, samples=20), paper(cloudy, samples=20, augment=True)
        assert same(list(source.validation()), list(as_they_are.validation()))
        places = set()
        for plain, sample in zip(epoch(as_they_are), epoch(source), strict=True):
            assert valid([sample])
            corner = []
            for turns in range(4):
                for mirror in (False, True):
                    back = torch.rot90(plain.values, turns, (-2, -1))
                    masks = torch.rot90(plain.observed, turns, (-2, -1))
                    if mirror:
                        back, masks = back.transpose(-2, -1), masks.transpose(-2, -1)
                    if torch.equal(back, sample.values):
                        assert torch.equal(masks, sample.observed)
                        corner.append((turns, mirror))
            assert len(corner) == 1
            places.update(corner)
        assert len(places) > 5

    def test_single_images(self, cloudy: xr.Dataset) -> None:
        scaling = Scaling.fit(cloudy.sst)
        source = PaperSource(
            *parts(cloudy, shape=(1, 8, 8)),
            scaling,
            samples=5,
            validated=2,
            needs_withheld=True,
            adversarial=True,
            seed=0,
        )
        assert valid(epoch(source))
        assert {sample.values.shape for sample in epoch(source)} == {(1, 1, 8, 8)}

    def test_the_same_seed_gives_the_same_sequences(self, cloudy: xr.Dataset) -> None:
        first, other = paper(cloudy), paper(cloudy, seed=1)
        assert same(epoch(first), epoch(paper(cloudy)))
        assert not same(epoch(first), epoch(first, seed=1))
        assert same(list(first.validation()), list(first.validation()))
        assert same(list(first.validation()), list(paper(cloudy).validation()))
        assert not same(list(first.validation()), list(other.validation()))

    def test_a_lazy_archive_gives_the_same_sequences(self, cloudy: xr.Dataset) -> None:
        lazy = cloudy.chunk(time=4, lat=7, lon=9).assign(sea=cloudy.sea)
        assert same(epoch(paper(cloudy)), epoch(paper(lazy)))

    def test_only_training_block_or_validation_block(self, cloudy: xr.Dataset) -> None:
        """Each block has values of its own: they tell where a sequence is from."""
        dated = cloudy.assign(sst=cloudy.sst * 0 + xr.DataArray(np.arange(18), dims="time"))
        source = paper(dated, scaling=Scaling("anomaly", 0.0, 1.0))
        for samples, allowed in ((epoch(source), range(10)), (source.validation(), range(12, 18))):
            for sample in samples:
                assert set(sample.values[sample.observed | sample.withheld].tolist()) <= set(
                    allowed
                )

    @pytest.mark.parametrize("level", ["archive", "sequence"])
    def test_what_is_hidden_does_not_change_what_is_seen(
        self, cloudy: xr.Dataset, level: str
    ) -> None:
        """Validation: neither the network's input, nor what it completes, knows of the values under
        the mask.
        """
        network = build("paper", {"base": 1}).eval()
        given = {}
        if level == "sequence":
            given = {"scaling": SequenceScaling(mean=15.0, std=0.8)}
        for k, sample in enumerate(paper(cloudy, **given).validation()):
            hidden = _placed(
                sample.withheld,
                paper(cloudy).validation_part,
                cloudy,
                np.random.default_rng([0, 1, k]),
            )
            wild = unseen(cloudy, "sst", hidden, WILD)
            source = paper(wild, **given)
            assert source.scaling == paper(cloudy, **given).scaling
            found = list(source.validation())[k]
            assert _sees(found, sample)
            assert found.withheld.any() and (found.values[found.withheld] > 10).all()
            with torch.no_grad():
                before, after = (complete(network, _batch(s)).values[0] for s in (sample, found))
            assert torch.equal(before, after)
            if k == 2:
                break

    def test_adversarial_training_hides_nothing_but_validation_does(
        self, cloudy: xr.Dataset
    ) -> None:
        source = paper(cloudy, needs_withheld=False)
        for sample in epoch(source):
            assert not sample.withheld.any() and sample.observed.any()
        assert all(sample.withheld.any() for sample in source.validation())

    def test_masks_for_discriminators_are_drawn_where_there_are_any(
        self, cloudy: xr.Dataset
    ) -> None:
        for judged in (False, True):
            samples = epoch(paper(cloudy, adversarial=judged))
            assert all(bool(sample.second_mask.all()) is not judged for sample in samples)


class TestLarge:
    """What is lazy is too large to be loaded: windows, and the archive's own clouds, come from
    slabs.
    """

    tiny = MemoryLimits(load=0, segment=8_000)

    @pytest.fixture
    def lazy(self, cloudy: xr.Dataset) -> xr.Dataset:
        return cloudy.chunk(time=4, lat=7, lon=9).assign(sea=cloudy.sea)

    def own(self, ds: xr.Dataset) -> ObservedClouds:
        return ObservedClouds(ds.sst.notnull(), ds.sea)

    def test_the_same_seed_gives_the_same_sequences(self, lazy: xr.Dataset) -> None:
        source = paper(lazy, self.own(lazy), samples=20, limits=self.tiny)
        first = epoch(source)
        assert valid(first) and same(
            first, epoch(paper(lazy, self.own(lazy), samples=20, limits=self.tiny))
        )
        assert not same(first, epoch(source, seed=1))
        assert same(list(source.validation()), list(source.validation()))

    def test_more_sequences_begin_with_the_same(self, lazy: xr.Dataset) -> None:
        """So that a restart finds what it was in the middle of."""
        some, more = (paper(lazy, self.own(lazy), samples=n, limits=self.tiny) for n in (5, 40))
        assert same(epoch(some), epoch(more)[:5])

    def test_with_the_truth(self) -> None:
        ds = archive()
        lazy = ds.chunk(time=4, lat=7, lon=9).assign(sea=ds.sea)
        for sample in epoch(paper(lazy, samples=10, limits=self.tiny)):
            assert torch.equal(sample.observed | sample.withheld, sample.sea)

    def test_only_the_training_block(self, cloudy: xr.Dataset) -> None:
        dated = cloudy.assign(sst=cloudy.sst * 0 + xr.DataArray(np.arange(18), dims="time")).chunk(
            time=4
        )
        source = paper(
            dated.assign(sea=cloudy.sea),
            scaling=Scaling("anomaly", 0.0, 1.0),
            samples=40,
            limits=self.tiny,
        )
        met = {int(v) for sample in epoch(source) for v in sample.values[sample.observed].unique()}
        assert met == set(range(10))

    def test_clouds_of_guessed_sequences(
        self, cloudy: xr.Dataset, lazy: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guess_cheaply(monkeypatch)
        one, other = (
            guessed(lazy, tmp_path / name, self.own(lazy), adversarial=True, limits=self.tiny)
            for name in "ab"
        )
        assert valid(epoch(one)) and same(epoch(one), epoch(other))
        assert same(list(one.validation()), list(other.validation()))
        assert not all(bool(sample.second_mask.all()) for sample in epoch(one))

    def test_no_thread_is_left(self, lazy: xr.Dataset) -> None:
        source = paper(lazy, self.own(lazy), limits=self.tiny)
        stream = source.epoch(0, np.random.default_rng(0))
        next(stream)
        stream.close()
        assert not [
            thread for thread in threading.enumerate() if thread.name.startswith("sstfill-prefetch")
        ]


class TestTruth:
    def test_all_at_sea_that_is_not_observed_is_withheld(self) -> None:
        source = paper(archive(), adversarial=True)
        for sample in epoch(source) + list(source.validation()):
            assert torch.equal(sample.observed | sample.withheld, sample.sea)
            assert sample.observed.any() and sample.withheld.any() and sample.second_mask.all()

    def test_the_truth_is_not_seen(self) -> None:
        """Nor where it is observed: a network is fed what the satellite saw, noise and all."""
        ds = archive()
        wild = ds.assign(truth=ds.truth.where(ds.sst.notnull(), WILD).where(ds.sst.isnull(), -WILD))
        for sample, found in zip(epoch(paper(ds)), epoch(paper(wild)), strict=True):
            assert _sees(found, sample)
            assert found.withheld.any() and (found.values[found.withheld] > 10).all()

    def test_a_series_without_gaps_is_hidden_by_the_operator(self) -> None:
        ds = archive()
        for sample in epoch(paper(ds.assign(sst=ds.truth))):
            fraction = float(sample.withheld.sum() / sample.sea.sum())
            assert 0.2 < fraction < 0.4
            assert torch.equal(sample.observed | sample.withheld, sample.sea)


class TestFirstGuessSource:
    def test_what_is_hidden_does_not_change_what_is_seen(
        self, cloudy: xr.Dataset, tmp_path: Path
    ) -> None:
        """With the true first guesses: channels, guess, its error and the scaling by it are
        bit-identical.
        """
        source = guessed(cloudy, tmp_path / "a", clips=0)
        (sample,) = source.validation()
        hidden = _placed(
            sample.withheld, source.validation_part, cloudy, np.random.default_rng([0, 2, False, 0])
        )
        (found,) = guessed(
            unseen(cloudy, "sst", hidden, WILD), tmp_path / "b", clips=0
        ).validation()
        assert _sees(found, sample)
        assert found.withheld.any() and (found.values[found.withheld] > 10).all()
        assert sample.channels.any() and sample.guess.any() and sample.error.any()

    def test_worked_out_once(
        self, cloudy: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = guess_cheaply(monkeypatch)
        source = guessed(cloudy, tmp_path)
        first = list(source.validation())
        assert len(asked.seeds) == 1 + 2
        assert same(first, list(source.validation()))
        assert same(epoch(source), epoch(source)) and not same(epoch(source), epoch(source, seed=1))
        assert valid(first + epoch(source))
        again = guessed(cloudy, tmp_path)
        assert same(first, list(again.validation())) and same(epoch(source), epoch(again))
        assert len(asked.seeds) == 1 + 2
        (tmp_path / "training" / "1.npz").unlink()
        assert same(epoch(source), epoch(again))
        assert len(asked.seeds) == 1 + 3

    def test_a_new_folder_gives_the_same_sequences(
        self, cloudy: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guess_cheaply(monkeypatch)
        one, other = (guessed(cloudy, tmp_path / name) for name in "ab")
        assert same(epoch(one), epoch(other)) and same(
            list(one.validation()), list(other.validation())
        )
        different = guessed(cloudy, tmp_path / "c", seed=1)
        assert not same(list(one.validation()), list(different.validation()))

    def test_an_epoch_turns_sequences_about(
        self, cloudy: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guess_cheaply(monkeypatch)
        samples = epoch(guessed(cloudy, tmp_path, clips=1, samples=20))
        assert len({sample.values.numpy().tobytes() for sample in samples}) > 8
        counts = {(int(sample.observed.sum()), int(sample.withheld.sum())) for sample in samples}
        assert len(counts) == 1

    def test_masks_for_discriminators(
        self, cloudy: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guess_cheaply(monkeypatch)
        assert all(sample.second_mask.all() for sample in epoch(guessed(cloudy, tmp_path)))
        samples = epoch(guessed(cloudy, tmp_path, adversarial=True))
        assert not any(sample.second_mask.all() for sample in samples)
        assert len({sample.second_mask.numpy().tobytes() for sample in samples}) == len(samples)

    def test_traits_are_those_of_the_training(
        self, cloudy: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guess_cheaply(monkeypatch)
        source = guessed(cloudy, tmp_path, clips=3)
        list(source.validation())
        first, second, third = source.traits()
        assert first == [-1.0, -1.0] and second == [-0.5, -0.5]
        assert third[0] < third[1]

    def test_clouds_that_hide_nothing(self, cloudy: xr.Dataset, tmp_path: Path) -> None:
        class Clear:
            name: ClassVar[str] = "clear"

            def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
                return np.ones(shape, bool)

        with pytest.raises(
            InputError, match="hide nothing of what is observed; name an operator as clouds="
        ):
            list(guessed(cloudy, tmp_path, Clear()).validation())

    def test_with_the_truth(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        guess_cheaply(monkeypatch)
        source = guessed(archive(), tmp_path, adversarial=True)
        assert valid(list(source.validation()))
        for sample in epoch(source):
            assert torch.equal(sample.observed | sample.withheld, sample.sea)
            assert sample.second_mask.all()


def test_the_archive_s_own_clouds(cloudy: xr.Dataset) -> None:
    own = ObservedClouds(cloudy.sst.notnull(), cloudy.sea)
    assert valid(epoch(paper(cloudy, own)))
    assert same(epoch(paper(cloudy, own)), epoch(paper(cloudy, replace(own))))


def _batch(sample: Sample) -> Sample:
    return Sample(*(part[None] for part in sample))


def _sees(one: Sample, other: Sample) -> bool:
    """Whether a network sees the same of two sequences, bit by bit."""
    masks = all(torch.equal(a, b) for a, b in zip(one[1:5], other[1:5], strict=True))
    inputs = all(torch.equal(a, b) for a, b in zip(one[5:], other[5:], strict=True))
    return masks and inputs and torch.equal(one.values[one.observed], other.values[other.observed])


def _placed(
    hidden: torch.Tensor, part: ArchivePart, ds: xr.Dataset, rng: np.random.Generator
) -> xr.DataArray:
    """The mask of a sequence where the archive has it: its window is the first thing drawn."""
    window = part.windows.draw(rng)
    here = window.obs.copy(data=hidden[0].numpy())
    return here.reindex_like(ds.sst, fill_value=False)
