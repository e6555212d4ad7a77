# SPDX-License-Identifier: Apache-2.0
"""Synthetic oceans to train on: each follows from its number, and those with next to nothing to see
are left out.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from training_archives import archive, guess_cheaply

from sstfill.errors import InputError, OptionError
from sstfill.evaluation.paper import published
from sstfill.fields import grid
from sstfill.methods.gan.network_inputs import CHANNELS
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.training import ocean_training
from sstfill.training.data import ocean_source, oceans
from sstfill.training.data.ocean_source import OceanSource, make_ocean
from sstfill.training.data.oceans import LEAST_SEEN, OceanExample, Oceans, draw
from sstfill.training.data.sample import Batches, Sample
from sstfill.training.forward import complete_twice
from sstfill.training.ocean_training import train_on_oceans
from sstfill.training.options import TrainOptions

FEW = Oceans(training=3, validation=2, first=10)


def small(number: int, paper: float = 0.4) -> OceanExample | None:
    """Stands for `draw`: a small ocean; number 11 has nothing to see."""
    ds = archive((4, 8 + number % 3, 9), seed=number)
    return None if number == 11 else OceanExample(ds.sst, ds.truth.values, ds.sea)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small oceans, guesses that cost nothing, threads for processes; the numbers of those that
    were made.
    """
    numbers: list[int] = []

    def counted(number: int, paper: float, folder: Path) -> None:
        numbers.append(number)
        make_ocean(number, paper, folder)

    guess_cheaply(monkeypatch)
    monkeypatch.setattr(ocean_source, "draw", small)
    monkeypatch.setattr(ocean_source, "make_ocean", counted)
    monkeypatch.setattr(
        ocean_source, "ProcessPoolExecutor", lambda cores, context: ThreadPoolExecutor(1)
    )
    return numbers


@cache
def first_ocean() -> OceanExample:
    found = draw(1)
    assert found is not None
    return found


def bits(samples: list[Sample]) -> list[bytes]:
    return [b"".join(part.numpy().tobytes() for part in sample) for sample in samples]


class TestDraw:
    @settings(max_examples=1, deadline=None)
    @given(st.integers(1, 9_999_999))
    @example(1)
    def test_any_number_draws_the_same_valid_ocean_each_time(self, number: int) -> None:
        first = first_ocean() if number == 1 else draw(number)
        again = draw(number)
        if first is None or again is None:
            assert first is again
            return
        assert np.array_equal(first.obs.values, again.obs.values, equal_nan=True)
        assert np.array_equal(first.seen, again.seen) and first.sea.equals(again.sea)
        seen, wet = np.isfinite(first.obs.values), first.sea.values
        assert first.obs.dtype == first.seen.dtype == np.float32 and wet.dtype == bool
        assert np.isfinite(first.seen).all() and np.ptp(first.seen) < 100
        assert np.array_equal(first.obs.values[seen], first.seen[seen])
        assert not seen[:, ~wet].any()
        assert LEAST_SEEN <= seen.sum() < wet.sum() * len(seen)
        images, rows, columns = grid.standardise(first.obs).shape
        assert 10 <= images < 64 and 32 <= rows <= 116 and 32 <= columns <= 120

    def test_other_numbers_draw_other_oceans(self) -> None:
        first, other = first_ocean(), draw(2)
        assert other is not None
        assert first.seen.shape != other.seen.shape or not np.array_equal(first.seen, other.seen)

    def test_the_fraction_of_the_paper_s(self) -> None:
        other, alike = draw(5, 0.0), draw(5, 0.999)
        assert other is not None and alike is not None
        assert other.obs.shape != (24, 64, 64) == alike.obs.shape

    def test_the_occluded_fractions_are_the_paper_s(self) -> None:
        np.testing.assert_allclose(oceans.PAPER_FRACTIONS, published.OCCLUDED, atol=0.006)

    def test_next_to_nothing_to_see(self) -> None:
        assert draw(1, least_seen=10**7) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"training": 0}, "training=0 must be a whole number, 1 or more"),
        ({"validation": 0}, "validation=0 must be"),
        ({"paper": 1.5}, "paper=1.5 is not a fraction"),
        ({"first": 40}, "first=40 must be a whole number, 41 or more"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Oceans(**options)


class TestOceanSource:
    def test_all_are_made_once(self, cheap: list[int], tmp_path: Path) -> None:
        source = OceanSource(FEW, tmp_path, 8)
        first = list(source.validation())
        assert sorted(cheap) == [1, 2, 10, 11, 12]
        assert len(first) == 2 and len(list(Batches(first, 1, needs_withheld=True))) == 2
        assert bits(list(source.validation())) == bits(first)
        assert bits(list(OceanSource(FEW, tmp_path, 8).validation())) == bits(first)
        assert len(cheap) == 5

    def test_each_process_makes_its_part(self, cheap: list[int], tmp_path: Path) -> None:
        source = OceanSource(FEW, tmp_path, 8)
        source.prepare(rank=1, processes=2)
        assert sorted(cheap) == [2, 11]
        source.prepare(rank=0, processes=2)
        assert sorted(cheap) == [1, 2, 10, 11, 12]

    def test_an_ocean_with_nothing_to_see_is_left_out(
        self, cheap: list[int], tmp_path: Path
    ) -> None:
        """Its file is empty, so that it is not made again."""
        source = OceanSource(FEW, tmp_path, 60)
        samples = list(source.epoch(0, np.random.default_rng(0)))
        assert 30 < len(samples) < 55
        assert len(list(Batches(samples, 1, needs_withheld=True))) == len(samples)
        assert sorted(cheap) == [10, 11, 12]
        with np.load(tmp_path / "11.npz") as file:
            assert not file.files
        assert len(source.traits()) == 3
        assert sorted(cheap) == [10, 11, 12]

    def test_training_and_validation_share_no_ocean(self, cheap: list[int], tmp_path: Path) -> None:
        source = OceanSource(FEW, tmp_path, 60)
        known = {
            tuple(np.sort(sample.values.numpy().ravel()).tolist()) for sample in source.validation()
        }
        for sample in source.epoch(0, np.random.default_rng(0)):
            values = sample.values.numpy().ravel()
            assert not {tuple(np.sort(sign * values).tolist()) for sign in (1, -1)} & known

    def test_the_same_seed_gives_the_same_sequences(self, cheap: list[int], tmp_path: Path) -> None:
        one, other = (OceanSource(FEW, tmp_path / name, 8) for name in "ab")
        epochs = [
            bits(list(source.epoch(0, np.random.default_rng(seed))))
            for source in (one, other)
            for seed in (0, 1)
        ]
        assert epochs[:2] == epochs[2:]
        assert epochs[0] != epochs[1]

    def test_all_that_the_satellite_would_have_seen_is_withheld(
        self, cheap: list[int], tmp_path: Path
    ) -> None:
        for sample in OceanSource(FEW, tmp_path, 8).validation():
            assert torch.equal(sample.observed | sample.withheld, sample.sea)


class TestTraining:
    def test_a_checkpoint_comes_of_it(
        self, cheap: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = TrainOptions(base=1, samples=2, epochs=1, device="cpu")
        model = train_on_oceans(options, FEW, tmp_path / "out", folder=tmp_path / "cache")
        config = model.checkpoint.config
        assert Checkpoint.load(tmp_path / "out") == model.checkpoint
        assert config["network"] == {
            "name": "compact",
            "options": {"base": 1, "inputs": len(CHANNELS)},
        }
        assert config["channels"] == list(CHANNELS)
        assert config["data"]["oceans"] == {
            "training": 3,
            "validation": 2,
            "paper": 0.4,
            "first": 10,
            "start": "new",
        }
        assert config["patch"] == [4, 9, 9] and len(config["traits"]) == 3
        assert config["trained"]["history"][0]["withheld_mae"] == config["scores"]["withheld_mae"]
        assert {file.name for file in (tmp_path / "cache").iterdir()} == {
            f"{n}.npz" for n in (1, 2, 10, 11, 12)
        }
        again = train_on_oceans(
            options, FEW, tmp_path / "out", folder=tmp_path / "cache", resume=True
        )
        assert again.checkpoint.weights.keys() == model.checkpoint.weights.keys()
        assert again.checkpoint.fingerprint == model.checkpoint.fingerprint
        assert len(cheap) == 5

    def test_a_checkpoint_is_taught_to_draw(self, cheap: list[int], tmp_path: Path) -> None:
        given: dict[str, Any] = {"base": 1, "samples": 2, "epochs": 1, "device": "cpu"}
        first = train_on_oceans(TrainOptions(**given), FEW, tmp_path / "first").checkpoint
        oceans = replace(FEW, start=str(tmp_path / "first"))
        options = TrainOptions(**given, objective="draws", drawing=2, learning_rate=1e-2)
        model = train_on_oceans(options, oceans, tmp_path / "draws")
        assert model.checkpoint.config["network"]["options"]["drawing"] == 2
        assert model.checkpoint.config["traits"] == first.config["traits"]
        assert "withheld_crps" in model.checkpoint.config["scores"]
        squares = []
        source = OceanSource(FEW, tmp_path / "draws" / "oceans", 1)
        network = model.checkpoint.network().requires_grad_(False)
        for batch in Batches(source.validation(), 1, needs_withheld=True):
            estimate, error, *draws = complete_twice(network, batch).drawn
            squares += [((draw - estimate) / error)[batch.withheld].square() for draw in draws]
        assert abs(float(torch.cat(squares).mean()) - 1) < 0.3
        for name, weight in first.weights.items():
            assert torch.equal(model.checkpoint.weights[name], weight), name
        with pytest.raises(OptionError, match="needs a network that estimates already"):
            train_on_oceans(options, FEW, tmp_path / "new")

    def test_mistakes_are_found_before_oceans_are_made(
        self, cheap: list[int], tmp_path: Path
    ) -> None:
        cases = {
            "network='paper', and on oceans network is 'compact'; give an archive": {
                "network": "paper"
            },
            "objective='adversarial', and on oceans": {"objective": "adversarial"},
            "batch=2, and on oceans batch is 1": {"batch": 2},
        }
        for words, given_ in cases.items():
            with pytest.raises(OptionError) as raised:
                train_on_oceans(TrainOptions(**given_), FEW, tmp_path)  # type: ignore[arg-type]
            assert words in str(raised.value) and "\n" not in str(raised.value)
        (tmp_path / "training.safetensors").write_bytes(b"")
        with pytest.raises(OptionError, match="holds a training already; give resume=True"):
            train_on_oceans(TrainOptions(), FEW, tmp_path)
        if not torch.cuda.is_available():
            with pytest.raises(OptionError, match="device='cuda', but torch sees no GPU"):
                train_on_oceans(TrainOptions(device="cuda"), FEW, tmp_path / "new")
        assert not cheap
        assert set(ocean_training.NEEDED) == {"network", "objective", "batch"}

    def test_oceans_with_nothing_to_see_alone(self, cheap: list[int], tmp_path: Path) -> None:
        alone = Oceans(training=1, validation=2, first=11)
        with pytest.raises(InputError, match="epoch 1: none of 0 sequences is of use"):
            train_on_oceans(
                TrainOptions(base=1, samples=2, epochs=1, device="cpu"), alone, tmp_path
            )
