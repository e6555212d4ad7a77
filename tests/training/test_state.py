# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import waves
from safetensors import safe_open
from safetensors.torch import save_file
from waves import Waves, compact, small

from sstfill.errors import OptionError, ReadError, WriteError
from sstfill.nn.compact import Compact
from sstfill.training import state
from sstfill.training.data.sample import Sample
from sstfill.training.loop import LOG, fit
from sstfill.training.trained_network import TrainedNetwork


def assert_same(one: TrainedNetwork, two: TrainedNetwork) -> None:
    assert all(
        torch.equal(a, b)
        for a, b in zip(waves.weights(one).values(), waves.weights(two).values(), strict=True)
    )
    assert len(one.history) == len(two.history)
    for a, b in zip(one.history, two.history, strict=True):
        assert {**a, "seconds": 0, "waiting": 0} == {**b, "seconds": 0, "waiting": 0}


@pytest.fixture(scope="module")
def straight() -> TrainedNetwork:
    return waves.train(None)


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "epochs"
    waves.train(folder, epochs=2)
    return folder


@pytest.fixture
def begun(two_epochs: Path, tmp_path: Path) -> Path:
    """The folder of a training of two epochs, to go on with."""
    return Path(shutil.copytree(two_epochs, tmp_path / "begun"))


def test_a_killed_training_goes_on_bit_by_bit(tmp_path: Path, straight: TrainedNetwork) -> None:
    """Killed in the middle of the second epoch, after its first batch was saved."""
    command = [sys.executable, waves.__file__, str(tmp_path), str(torch.get_num_threads()), "kill"]
    killed = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert killed.returncode == -9, killed.stderr
    assert len((tmp_path / LOG).read_text().splitlines()) == 2
    (tmp_path / ".training.0123.tmp.safetensors").write_bytes(b"half")
    assert_same(waves.train(tmp_path, resume=True), straight)
    assert len((tmp_path / LOG).read_text().splitlines()) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOG, state.FILE]


def test_an_interrupted_training_goes_on_bit_by_bit(
    tmp_path: Path, straight: TrainedNetwork
) -> None:
    """Interrupted when the second batch of the second epoch was to be made."""

    class Interrupted(Waves):
        def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
            for k, sample in enumerate(super().epoch(number, rng)):
                if (number, k) == (1, 3):
                    raise KeyboardInterrupt
                yield sample

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(waves, "Waves", lambda **given: Interrupted(size=34, samples=4))
        waves.train(tmp_path)
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("sstfill-prefetch")
    ]
    header = _header(tmp_path)
    assert (header["state"]["batches"], header["state"]["steps"]) == (1, 3)
    assert 0 < header["state"]["waiting"] < header["state"]["seconds"]
    assert_same(waves.train(tmp_path, resume=True), straight)


def test_a_state_of_an_earlier_version(begun: Path, straight: TrainedNetwork) -> None:
    """Which knows nothing of waiting for data, nor of options that came later."""
    with safe_open(begun / state.FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = _header(begun)
    del header["state"]["waiting"]
    del header["options"]["drawing"]
    for row in header["state"]["history"]:
        del row["waiting"]
    save_file(tensors, begun / state.FILE, {state.HEADER: json.dumps(header)})
    resumed = waves.train(begun, resume=True)
    assert_same(resumed, straight)
    assert ["waiting" in row for row in resumed.history] == [False, False, True]
    assert len((begun / LOG).read_text().splitlines()) == 4


def test_a_state_with_the_names_of_before(begun: Path, straight: TrainedNetwork) -> None:
    """sstfill 0.1.0 called discriminators judges, and their optimiser the opponent."""
    with safe_open(begun / state.FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = _header(begun)
    saved = header["state"]
    saved["opponent"] = saved.pop("discriminator_optimizer")
    saved["adversary"] = {
        name.replace("discriminators.", "judges."): weight
        for name, weight in saved["adversary"].items()
    }
    save_file(tensors, begun / state.FILE, {state.HEADER: json.dumps(header)})
    assert_same(waves.train(begun, resume=True), straight)


def _header(folder: Path) -> dict[str, Any]:
    with safe_open(folder / state.FILE, "pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()[state.HEADER])
    return header


def test_a_finished_training_can_be_made_longer(begun: Path, straight: TrainedNetwork) -> None:
    assert_same(waves.train(begun, resume=True), straight)
    assert_same(waves.train(begun, resume=True), straight)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    fit(compact(), Waves(samples=2), small(epochs=1), out=folder)
    return folder


def test_nothing_is_pickled(done: Path) -> None:
    content = (done / state.FILE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    told = json.loads(header["__metadata__"][state.HEADER])
    assert told["options"]["epochs"] == 1
    assert told["state"]["history"][0]["epoch"] == 1


def test_other_options_are_refused(done: Path) -> None:
    with pytest.raises(
        OptionError, match=r"saved with ema=0.999 \(now 0.9\); resume with the same"
    ):
        fit(compact(), Waves(samples=2), small(epochs=1, ema=0.9), out=done, resume=True)
    with pytest.raises(OptionError, match="saved with epochs=1"):  # the cosine follows from them
        fit(compact(), Waves(samples=2), small(epochs=2), out=done, resume=True)
    patient = fit(compact(), Waves(samples=2), small(epochs=1, patience=9), out=done, resume=True)
    assert patient.stopped == "all 1 epochs done"


def test_another_network_is_refused(done: Path) -> None:
    with pytest.raises(OptionError, match="of another network"):
        fit(Compact(inputs=2, base=4), Waves(samples=2), small(epochs=1), out=done, resume=True)


def test_a_folder_in_use_is_not_overwritten(done: Path) -> None:
    before = (done / state.FILE).read_bytes()
    with pytest.raises(OptionError, match="holds a training already"):
        fit(compact(), Waves(samples=2), small(epochs=1), out=done)
    assert (done / state.FILE).read_bytes() == before


def test_resume_without_a_folder_or_a_state(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="resume=True needs out"):
        fit(compact(), Waves(samples=2), small(epochs=1), resume=True)
    assert (
        len(
            fit(
                compact(), Waves(samples=2), small(epochs=1), out=tmp_path / "new", resume=True
            ).history
        )
        == 1
    )


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other format", "text"])
def test_a_damaged_or_foreign_state(tmp_path: Path, done: Path, damage: str) -> None:
    path, content = tmp_path / state.FILE, (done / state.FILE).read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        save_file({"a": torch.zeros(1)}, path)
    elif damage == "text":
        path.write_text("hello")
    else:
        save_file(
            {},
            path,
            {state.HEADER: json.dumps({"format": 99, "sstfill_version": "9.0", "options": {}})},
        )
    with pytest.raises(
        ReadError,
        match="resume with sstfill 9.0" if damage == "other format" else "remove it to train",
    ):
        fit(compact(), Waves(samples=2), small(epochs=1), out=tmp_path, resume=True)


def test_a_disk_that_fills_up_leaves_the_last_state(tmp_path: Path) -> None:
    class Filling(Waves):
        def epoch(self, number: int, rng: object) -> Iterator[object]:
            if number == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
            return super().epoch(number, rng)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(WriteError, match="cannot write"):
            fit(compact(), Filling(samples=2), small(epochs=3), out=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOG, state.FILE]
    resumed = fit(compact(), Waves(samples=2), small(epochs=3), out=tmp_path, resume=True)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]


def test_no_space_for_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sstfill.training.log.csv.DictWriter", full)
    with pytest.raises(WriteError, match="No space left"):
        fit(compact(), Waves(samples=2), small(epochs=1), out=tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        fit(compact(), Waves(samples=2), small(epochs=1), out=tmp_path / "file" / "model")


def test_a_tree_comes_back_as_it_was() -> None:
    tensors: dict[str, torch.Tensor] = {}
    tree = {
        "a": [1, 2.5, None],
        "b": {0: {"step": torch.tensor(3.0)}, 1: {}},
        "c": torch.arange(3),
        "d": "text",
    }
    packed = json.loads(json.dumps(state._pack(tree, "state", tensors)))
    back = state._unpack(packed, tensors)
    assert back["a"] == tree["a"]
    assert back["d"] == "text"
    assert list(back["b"]) == [0, 1]
    assert back["b"][0]["step"] == 3
    assert torch.equal(back["c"], torch.arange(3))
