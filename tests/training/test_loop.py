# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import training_archives
import waves
from waves import Waves, compact, paper, small

from sstfill import progress
from sstfill.errors import InputError, OptionError
from sstfill.nn.generator import Generator
from sstfill.nn.recurrent import RecurrentGenerator
from sstfill.training import log
from sstfill.training.data.sample import Batches, Sample
from sstfill.training.distributed import process_group
from sstfill.training.ema import EMA, update_bn
from sstfill.training.forward import complete_twice
from sstfill.training.loop import LOG, fit
from sstfill.training.objectives.draw_score import EnsembleTerm
from sstfill.training.score import validate
from sstfill.training.trained_network import best_row

SIDE = 34


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_withheld_clouds_teach_the_compact_network() -> None:
    fitted = fit(compact(), Waves(samples=16), small(samples=16, epochs=6, ema=0.9))
    scores = [row["withheld_mae"] for row in fitted.history]
    assert scores[-1] < 0.5 * scores[0]
    assert fitted.best["withheld_mae"] == min(scores)
    assert fitted.history[-1]["withheld_nll"] < fitted.history[0]["withheld_nll"]
    assert not fitted.network.training
    assert fitted.stopped == "all 6 epochs done"
    assert fitted.steps == 6 * 8
    json.dumps(fitted.to_dict(), allow_nan=False)


@pytest.mark.parametrize("objective", ["draws", "draws+adversarial"])
def test_a_network_learns_to_draw_and_estimates_as_before(objective) -> None:
    size = SIDE if "adversarial" in objective else 16
    given = {"objective": objective, "samples": 16, "epochs": 6, "ema": 0.9, "size": size}
    network = compact(drawing=4)
    fitted = fit(network, Waves(size=size, samples=16), small(**given))
    scores = [row["withheld_draws"] for row in fitted.history]
    losses = [row["crps"] for row in fitted.history]
    assert losses[-1] < 0.5 * losses[0]
    assert fitted.best["withheld_draws"] == min(scores)
    changed = []
    for name, weight in network.state_dict().items():
        if not torch.equal(weight, fitted.network.state_dict()[name]):
            changed.append(name)
    assert changed and all(name.startswith("drawing.") for name in changed)


def test_draws_are_validated_by_the_score_that_trains_them() -> None:
    source, network = Waves(samples=4), compact(drawing=4)
    options = small(objective="draws", batch=1)
    with process_group("cpu", 0) as processes:
        torch.manual_seed(5)
        scores = validate(network, source, options, processes)
    torch.manual_seed(5)
    losses = []
    for batch in Batches(source.validation(), 1, needs_withheld=True):
        losses.append(EnsembleTerm()(complete_twice(network, batch), batch).item())
    assert scores["withheld_draws"] == pytest.approx(np.mean(losses), rel=1e-5)
    # another number than that of the pixels by themselves
    assert scores["withheld_draws"] != pytest.approx(scores["withheld_crps"], rel=0.1)


def test_the_best_epoch_of_draws_is_that_of_the_score_that_trains_them() -> None:
    first = {"withheld_mae": 0.1, "withheld_crps": 0.06, "withheld_draws": 0.5}
    second = {"withheld_mae": 0.1, "withheld_crps": 0.07, "withheld_draws": 0.4}
    assert best_row([first, second]) is second
    # what an earlier version began is chosen by what its rows have
    earlier = {"withheld_mae": 0.1, "withheld_crps": 0.065}
    assert best_row([earlier, first, second]) is first
    assert best_row([earlier, second]) is earlier
    assert best_row([second, first | {"withheld_draws": float("nan")}]) is second


def test_estimates_are_learned_beside_a_branch_that_draws() -> None:
    network = compact(drawing=4)
    fitted = fit(network, Waves(samples=4), small(samples=4, epochs=1))
    before, after = network.drawing.state_dict(), fitted.network.drawing.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert not torch.equal(network.enter.weight, fitted.network.enter.weight)


def test_withheld_clouds_teach_the_paper_s_network() -> None:
    fitted = fit(
        paper(),
        Waves(samples=16),
        small(network="paper", samples=16, epochs=6, ema=0.9, learning_rate=1e-3),
    )
    scores = [row["withheld_mae"] for row in fitted.history]
    assert scores[-1] < 0.7 * scores[0]
    assert fitted.best["withheld_nll"] is None


def test_the_network_given_is_left_as_it_was_and_random_numbers_too() -> None:
    network = compact()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    drawn = torch.get_rng_state()
    fit(network, Waves(samples=2), small(epochs=1))
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())
    assert torch.equal(drawn, torch.get_rng_state())


@pytest.mark.parametrize("objective", ["adversarial", "paired", "unpaired"])
@pytest.mark.parametrize("kind", [Generator, RecurrentGenerator])
def test_every_variant_of_the_paper_takes_a_step(kind: type, objective: str) -> None:
    torch.manual_seed(0)
    network = kind(base=1)
    options = small(network="paper", base=1, size=SIDE, epochs=1, objective=objective)
    fitted = fit(network, Waves(size=SIDE, samples=2, frames=2), options)
    assert np.isfinite(fitted.history[0]["discriminator"])
    assert np.isfinite(fitted.history[0]["withheld_mae"])
    assert any(
        not torch.equal(a, b)
        for a, b in zip(network.parameters(), fitted.network.parameters(), strict=True)
    )


def test_discriminators_that_have_won_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    options = small(
        network="static",
        base=1,
        size=SIDE,
        frames=1,
        samples=2,
        epochs=2,
        objective="adversarial",
        learning_rate=1e-9,  # it fills with the same noise all the time
        discriminator_rate=5e-3,
        discriminator_steps=30,
    )
    fitted = fit(Generator(base=1, time_kernel=1), Waves(size=SIDE, samples=2, frames=1), options)
    assert fitted.history[-1]["discriminator"] < 0.1
    told = [r.message for r in caplog.records if "discriminators tell filled" in r.message]
    assert len(told) == 1 and "discriminator_rate" in told[0]


def test_the_static_network_alone_against_the_discriminator_of_frames() -> None:
    options = small(
        network="static", base=1, size=SIDE, frames=1, epochs=1, objective="adversarial"
    )
    fitted = fit(Generator(base=1, time_kernel=1), Waves(size=SIDE, samples=2, frames=1), options)
    assert np.isfinite(fitted.history[0]["discriminator"])


def test_the_same_seed_gives_the_same_training() -> None:
    one, two = (waves.train(None, epochs=2) for _ in range(2))
    assert all(
        torch.equal(a, b)
        for a, b in zip(waves.weights(one).values(), waves.weights(two).values(), strict=True)
    )
    rows = [
        [{**row, "seconds": 0, "waiting": 0} for row in fitted.history] for fitted in (one, two)
    ]
    assert rows[0] == rows[1]


def test_mixed_precision_trains_and_keeps_what_was_observed() -> None:
    options = small(
        network="paper",
        base=1,
        size=SIDE,
        epochs=1,
        objective="withheld+adversarial",
        precision="bfloat16",
    )
    fitted = fit(paper(), Waves(size=SIDE, samples=2, frames=2), options)
    assert np.isfinite(fitted.history[0]["withheld_mae"])
    assert all(weight.dtype != torch.bfloat16 for weight in waves.weights(fitted).values())


def test_a_log_and_a_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "models" / "new"
    with progress.shown(), caplog.at_level(logging.INFO, "sstfill"):
        fitted = fit(compact(), Waves(samples=2), small(), out=out)
    rows = read(out / LOG)
    assert [float(row["withheld_mae"]) for row in rows] == [
        row["withheld_mae"] for row in fitted.history
    ]
    assert {
        "epoch",
        "steps",
        "withheld",
        "withheld_bias",
        "learning_rate",
        "seconds",
        "waiting",
        "skipped",
    } <= set(rows[0])
    assert "epoch 2/2, withheld MAE" in capsys.readouterr().err
    assert "epoch 1: withheld MAE" in caplog.text
    assert log.heading([], 3) == "epoch 1/3"


def test_how_long_the_device_waited_for_data(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(Waves):
        def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
            for sample in super().epoch(number, rng):
                time.sleep(0.5 * number)
                yield sample

    with caplog.at_level(logging.INFO, "sstfill"):
        fitted = fit(compact(), Slow(samples=2), small(epochs=2))
    ready, late = (row["waiting"] for row in fitted.history)
    assert 0 <= ready < late <= 1 and late > 0.5  # on a busy machine a step takes long, too
    assert f"waiting for data {100 * late:.0f} %" in caplog.text


# When it does not go well
# --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Spoilt(Waves):
    """Waves of which only the first `good` epochs hold what can be trained on."""

    good: int = 0
    spoil: str = "nan"

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        for sample in super().epoch(number, rng):
            if number < self.good:
                yield sample
            elif self.spoil == "nan":
                yield sample._replace(values=torch.full_like(sample.values, float("nan")))
            elif self.spoil == "land":
                nothing = torch.zeros_like(sample.sea)
                yield Sample(sample.values, nothing, nothing, nothing, nothing, *sample[5:])
            else:  # too large for float32
                yield sample._replace(values=sample.values * 3e38, error=sample.error * 3e38)


@pytest.mark.parametrize("spoil", ["nan", "land"])
def test_an_epoch_without_anything_of_use(spoil: str) -> None:
    with pytest.raises(InputError, match="epoch 2: none of 8 sequences is of use"):
        fit(compact(), Spoilt(good=1, spoil=spoil), small(epochs=3))


def test_nothing_withheld_in_validation() -> None:
    class Bare(Waves):
        def validation(self) -> Iterator[Sample]:
            return (s._replace(withheld=torch.zeros_like(s.withheld)) for s in super().validation())

    with pytest.raises(InputError, match="no sequence of the validation is of use"):
        fit(compact(), Bare(samples=1), small())


def test_a_training_without_finite_gradients_stops_and_keeps_the_best(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fitted = fit(compact(), Spoilt(samples=16, good=2, spoil="huge"), small(samples=16, epochs=9))
    assert "diverged: 5 batches in a row without a finite gradient in epoch 3" in fitted.stopped
    assert fitted.history[-1]["left_out"] == 5
    assert "training diverged" in caplog.text
    assert all(weight.isfinite().all() for weight in waves.weights(fitted).values())


def test_a_training_that_gets_ten_times_worse_stops_and_keeps_the_best(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Runaway(Waves):
        def validation(self) -> Iterator[Sample]:
            asked.append(1)
            return (
                s._replace(guess=s.guess + 10.0 * (len(asked) > 3)) for s in super().validation()
            )

    asked: list[int] = []  # once for the number of channels, then once an epoch
    fitted = fit(compact(), Runaway(), small(epochs=9))
    assert fitted.stopped.startswith("diverged: withheld MAE")
    assert len(fitted.history) == 3
    assert f"the weights of epoch {fitted.best['epoch']} are kept" in caplog.text


def test_a_hopeless_learning_rate_is_named() -> None:
    with pytest.raises(
        OptionError, match=r"learning_rate=1e\+30: training diverged in its first epoch"
    ):
        fit(
            compact(),
            Waves(),
            small(learning_rate=1e30, weight_decay=1.0, schedule="constant", ema=0.0),
        )


def test_no_better_epoch_for_long_enough_ends_it() -> None:
    options = small(
        learning_rate=1e-12, schedule="constant", weight_decay=0.0, epochs=9, patience=2
    )

    class Still(Waves):
        def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
            return super().epoch(number, np.random.default_rng(0))

    fitted = fit(compact(), Still(samples=1), options)
    assert len(fitted.history) < 9
    assert fitted.stopped == "no better for 2 epochs"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(OptionError, match="device='cuda', but torch sees no GPU"):
        fit(compact(), Waves(), small(device="cuda"))


def test_cudnn_is_on_while_training() -> None:
    before = torch.backends.cudnn.enabled
    with process_group("cpu", 0):
        assert torch.backends.cudnn.enabled is before is True


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_on_a_gpu(precision: str) -> None:
    options = small(
        network="paper",
        base=2,
        size=SIDE,
        device="cuda",
        precision=precision,
        objective="withheld+adversarial",
    )
    fitted = fit(Generator(base=2), Waves(size=SIDE, samples=4), options)
    assert fitted.device.startswith("cuda")
    assert next(fitted.network.parameters()).device.type == "cpu"
    assert np.isfinite(fitted.best["withheld_mae"])


# The average
# --------------------------------------------------------------------------------


def test_the_average_forgets_its_beginning_and_then_moves_slowly() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    average = EMA(network, 0.9)
    torch.nn.init.ones_(network.weight)
    average.update(network, 0)
    assert average.network.weight.item() == pytest.approx(0.9)
    average.update(network, 1000)
    assert average.network.weight.item() == pytest.approx(0.91)


def test_settled_statistics_are_those_of_the_batches() -> None:
    network = paper().eval()
    batches = list(Batches(Waves().epoch(0, np.random.default_rng(0)), 4, needs_withheld=True))
    norm = network.encoder[1].path[0]
    update_bn(network, batches)
    assert not network.training
    assert norm.num_batches_tracked == 2
    inner = torch.stack(
        [
            network.encoder[0](torch.where(b.observed, b.values, 1.0)).mean((0, 2, 3, 4))
            for b in batches
        ]
    )
    torch.testing.assert_close(norm.running_mean, inner.mean(0), rtol=0.05, atol=1e-3)
    assert norm.momentum == 0.1


# Several processes
# --------------------------------------------------------------------------------


BOTH = """
import os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
given = sys.argv[1:]
for program, port, folder in zip(given[::3], given[1::3], given[2::3]):
    os.environ["MASTER_PORT"], sys.argv[1:] = port, [folder, "1"]
    runpy.run_path(program, run_name="__main__")
    print(flush=True)
"""
"""Runs two programs, each a training of several processes, one after the other."""


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _two_processes(programs: dict[str, Path]) -> list[list[str]]:
    """Run programs, with the folders they write to, as two processes of one training each.

    Returns what each process wrote of each program. A process imports torch for all of them.
    """
    command = [sys.executable, "-c", BOTH]
    for program, folder in programs.items():
        command += [program, _free_port(), str(folder)]
    children = []
    for rank in range(2):
        # not forked from one that has imported torch: its threads would be missing there
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "RANK": str(rank)}
        child = subprocess.Popen(command, env=os.environ | shared, stdout=-1, stderr=-1, text=True)
        children.append(child)
    written = [child.communicate(timeout=200) for child in children]
    assert [child.returncode for child in children] == [0, 0], written
    return [out.splitlines() for out, _ in written]


@pytest.mark.slow
def test_two_processes_train_one_network_and_share_the_first_guesses(tmp_path: Path) -> None:
    model, guessed = tmp_path / "model", tmp_path / "guessed"
    written = _two_processes({waves.__file__: model, training_archives.__file__: guessed})
    weights, made = zip(*written, strict=True)
    assert weights[0] == weights[1] != ""
    rows = read(model / LOG)
    steps = [row["steps"] for row in rows]
    assert steps == ["1", "2", "3"]  # two sequences each, in batches of two
    assert all(np.isfinite(float(row["withheld_mae"])) for row in rows)
    # Each computes its part of the first guesses, and none computes those of the other.
    first, second = (set(out.split()) for out in made)
    assert len(first) == len(second) == (8 + 4) / 2
    assert not first & second
    clips = list((guessed / "clips").glob("*/*/*.npz"))
    assert len(clips) == 8 + 4  # validated, and clips
