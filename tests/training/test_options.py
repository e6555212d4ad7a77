# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import pytest

from sstfill import config
from sstfill.errors import OptionError
from sstfill.nn import discriminator
from sstfill.nn.discriminator import SIDE
from sstfill.nn.generator import OCCLUDED
from sstfill.training.options import (
    DISCRIMINATED_SIDE,
    GAIN,
    OCCLUDED_VALUE,
    PAPER,
    PIXELWISE,
    TrainOptions,
)


@pytest.mark.parametrize("objective", ["adversarial", "paired", "unpaired"])
def test_the_paper_s_objectives_train_as_the_paper_does(objective: str) -> None:
    options = TrainOptions(objective=objective)
    assert options.recipe == options.discriminator_recipe == PAPER
    assert (PAPER.learning_rate, PAPER.beta1, PAPER.beta2, PAPER.weight_decay) == (
        1e-4,
        0.0,
        0.999,
        0.0,
    )
    assert options.discriminator_steps == 2


def test_withheld_pixels_lead_where_there_are_any() -> None:
    options = TrainOptions(objective="withheld+adversarial")
    assert options.recipe == PIXELWISE
    assert options.discriminator_recipe == PAPER


def test_a_given_option_replaces_the_objective_s_own() -> None:
    options = TrainOptions(objective="adversarial", learning_rate=3e-4, schedule="constant")
    assert options.recipe == dataclasses.replace(PAPER, learning_rate=3e-4, schedule="constant")
    assert options.discriminator_recipe == options.recipe


def test_schedules() -> None:
    assert PAPER.rate(49, 0.5) == 1e-4
    assert PAPER.rate(50, 0.5) == pytest.approx(0.99e-4)
    assert PAPER.rate(30_000, 1.0) == pytest.approx(1e-4 * 0.99**600)
    rates = [PIXELWISE.rate(0, progress) for progress in (0.0, 0.025, 0.05, 0.525, 1.0)]
    assert rates == pytest.approx([0, 0.5e-3, 1e-3, 0.5e-3, 0])
    assert dataclasses.replace(PAPER, schedule="constant").rate(1000, 0.9) == 1e-4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objective": "adverserial"}, "adverserial"),
        ({"network": "unet"}, "choose from compact, paper"),
        ({"device": "gpu"}, "choose from auto, cpu, cuda"),
        ({"precision": "float16"}, "choose from float32, bfloat16"),
        ({"schedule": "step"}, "choose from constant, cosine, decay"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch": 1.5}, "batch=1.5"),
        ({"seed": -1}, "seed=-1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"decay": 1.5}, "decay=1.5"),
        ({"occluded_value": 1.5}, "occluded_value=1.5"),
        ({"level": "season", "network": "paper"}, "choose from archive, sequence"),
        ({"level": "sequence"}, "level='sequence' is for the paper's networks"),
        ({"ema": 1.0}, "ema=1.0"),
        ({"clip": -1.0}, "clip=-1.0"),
        ({"objective": "adversarial", "size": 32}, "give size=33 or more"),
        ({"objective": "paired", "frames": 1}, "give frames=2 or more"),
    ],
)
def test_what_cannot_be_trained_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TrainOptions(**given)


def test_small_frames_and_single_ones_will_do_where_no_discriminator_looks() -> None:
    assert TrainOptions(size=16, frames=1).size == 16
    assert not TrainOptions(objective="adversarial", network="static", frames=1).sequences
    assert DISCRIMINATED_SIDE == SIDE and OCCLUDED_VALUE == OCCLUDED


def test_options_come_from_text_and_go_back() -> None:
    options = config.build(
        TrainOptions, {"epochs": "3", "objective": "adversarial", "beta1": "0.5"}
    )
    assert options == TrainOptions(epochs=3, objective="adversarial", beta1=0.5)
    assert config.build(TrainOptions, config.options(options)) == options


def test_what_departs_from_the_paper_is_for_the_objective_that_needs_it_and_can_be_put_back() -> (
    None
):
    alone = TrainOptions(objective="adversarial", network="paper")
    assert (alone.gain, alone.masks_told) == (GAIN, True) and GAIN == discriminator.GAIN
    for objective in ("withheld+adversarial", "unpaired", "draws+adversarial"):
        other = TrainOptions(objective=objective)
        assert (other.gain, other.masks_told) == (1.0, False)
    papers = dataclasses.replace(alone, discriminator_gain=1.0, discriminator_masks=False)
    assert (papers.gain, papers.masks_told) == (1.0, False)
    slower = dataclasses.replace(alone, discriminator_rate=5e-5)
    assert (slower.recipe.learning_rate, slower.discriminator_recipe.learning_rate) == (1e-4, 5e-5)
    for name in ("discriminator_gain", "discriminator_rate"):
        with pytest.raises(OptionError, match=f"{name}=0"):
            dataclasses.replace(alone, **{name: 0.0})
