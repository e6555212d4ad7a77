# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sstfill.errors import InputError, OptionError
from sstfill.nn.generator import Generator
from sstfill.nn.layers.attention import FrameAttention
from sstfill.nn.recurrent import RecurrentGenerator

Gappy = Callable[..., tuple[Tensor, Tensor]]
KINDS = [Generator, lambda **options: Generator(time_kernel=1, **options), RecurrentGenerator]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["paper", "static", "recurrent"])


def frames_changed(network: nn.Module, values: Tensor, observed: Tensor, frame: int) -> list[bool]:
    """Which frames of the estimate change when one frame is observed otherwise."""
    other = values.clone()
    other[:, :, frame] *= -1
    with torch.no_grad():
        before, after = network.estimate(values, observed), network.estimate(other, observed)
    return [bool((before[:, :, t] != after[:, :, t]).any()) for t in range(values.shape[2])]


@pytest.mark.parametrize(
    ("kind", "parameters"),
    list(zip(KINDS, [14_796_514, 5_063_266, 19_220_578], strict=True)),
    ids=["paper", "static", "recurrent"],
)
def test_parameters_are_as_many_as_the_authors(kind: Any, parameters: int) -> None:
    with torch.device("meta"):
        network = kind()
    # the paper's: 14.8 million
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_widths_are_those_of_the_table() -> None:
    network = Generator(base=2, channels=3)
    widths = [
        block.shortcut.out_channels
        for block in (*network.encoder, *network.decoder)
        if hasattr(block, "path")
    ]
    assert widths == [2, 32, 16, 8, 4, 2]
    assert isinstance(network.decoder[3], FrameAttention)


@every_kind
def test_observed_pixels_come_back_and_gaps_are_filled(kind: Any, gappy: Gappy) -> None:
    values, observed = gappy(2, 1, 3, 8, 9)
    values = values * 3  # outside (-1, 1) too
    completed = kind(base=2)(values, observed)
    assert torch.equal(completed[observed], values[observed])
    assert bool(completed[~observed].abs().lt(1).all())  # False for NaN


@every_kind
@pytest.mark.parametrize("shape", [(1, 1, 1, 2, 2), (1, 2, 2, 3, 7), (2, 1, 5, 6, 4)], ids=str)
def test_any_length_and_size(kind: Any, shape: tuple[int, ...], gappy: Gappy) -> None:
    assert kind(base=1, channels=shape[1])(*gappy(*shape)).shape == shape


@every_kind
def test_what_is_in_the_gaps_is_not_looked_at(kind: Any, gappy: Gappy) -> None:
    values, observed = gappy(1, 1, 3, 6, 6)
    network = kind(base=1, fill=0.5).eval()
    expected = network(values, observed)
    assert torch.equal(network(values.nan_to_num(7.0), observed), expected)
    assert torch.equal(
        network.estimate(values.nan_to_num(0.5), torch.ones_like(observed))[~observed],
        expected[~observed],
    )


@every_kind
def test_every_parameter_learns(kind: Any, gappy: Gappy) -> None:
    values, observed = gappy(2, 1, 3, 8, 8)
    network = kind(base=4)
    for layer in network.modules():
        if isinstance(layer, FrameAttention):  # at gamma = 0 its convolutions wait for their turn
            nn.init.constant_(layer.gamma, 0.5)
    network(values, observed)[~observed].square().sum().backward()
    idle = [
        name
        for name, p in network.named_parameters()
        if p.grad is None or not bool((p.grad.abs() > 1e-7).any())
    ]
    assert idle == []
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters())


@every_kind
def test_a_seed_settles_everything(kind: Any, gappy: Gappy) -> None:
    values, observed = gappy(1, 1, 3, 6, 6)
    first, second, third = [
        (torch.manual_seed(seed), kind(base=1)(values, observed))[1] for seed in (3, 3, 4)
    ]
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@every_kind
def test_weights_come_back_from_a_state_dict(kind: Any, gappy: Gappy) -> None:
    values, observed = gappy(1, 1, 3, 6, 6)
    trained, fresh = kind(base=1), kind(base=1)
    trained(values, observed)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(trained.eval()(values, observed), fresh.eval()(values, observed))


def test_the_paper_s_generator_sees_past_and_future(gappy: Gappy) -> None:
    assert frames_changed(Generator(base=1).eval(), *gappy(1, 1, 5, 6, 6), frame=2) == [True] * 5


def test_static_frames_are_independent(gappy: Gappy) -> None:
    changed = frames_changed(
        Generator(base=1, time_kernel=1).eval(), *gappy(1, 1, 5, 6, 6), frame=2
    )
    assert changed == [False, False, True, False, False]


def test_sequences_of_a_batch_are_independent(gappy: Gappy) -> None:
    values, observed = gappy(2, 1, 3, 6, 6)
    network = Generator(base=1).eval()
    torch.testing.assert_close(network(values, observed)[:1], network(values[:1], observed[:1]))


@every_kind
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 2, 3, 6, 6), "have 2 channels, the network 1"),
        ((1, 1, 3, 1, 6), "1x6 pixels are too small"),
        ((1, 1, 0, 6, 6), "0 frames"),
        ((0, 1, 3, 6, 6), "no sequence"),
        ((3, 6, 6), r"shape \(3, 6, 6\)"),
    ],
)
def test_shapes_are_checked(kind: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(base=1)(torch.zeros(shape), torch.ones(shape, dtype=torch.bool))


def test_masks_and_dtypes_are_checked() -> None:
    values, network = torch.zeros(1, 1, 3, 6, 6), Generator(base=1)
    with pytest.raises(InputError, match=r"mask is torch\.float32"):
        network(values, torch.ones_like(values))
    with pytest.raises(InputError, match=r"give torch\.bool of shape \(1, 1, 3, 6, 6\)"):
        network(values, torch.ones(1, 1, 1, 6, 6, dtype=torch.bool))
    with pytest.raises(InputError, match=r"torch\.int64"):
        network(values.long(), values == 0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Generator, {"base": 0}, "base=0"),
        (Generator, {"base": 2.5}, "base=2.5"),
        (Generator, {"channels": True}, "channels=True"),
        (Generator, {"time_kernel": 2}, "time_kernel=2 must be an odd number"),
        (Generator, {"fill": float("nan")}, "fill=nan"),
        (RecurrentGenerator, {"base": -1}, "base=-1"),
        (RecurrentGenerator, {"fill": float("inf")}, "fill=inf"),
    ],
)
def test_options_are_checked(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        kind(**options)


def test_a_few_steps_of_training_lower_the_loss(gappy: Gappy) -> None:
    values, observed = gappy(2, 1, 3, 8, 8)
    network = Generator(base=2)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = (network.estimate(values, observed)[observed] - values[observed]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
