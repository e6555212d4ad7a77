# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sstfill.errors import InputError, OptionError
from sstfill.nn.discriminator import GAIN, FrameDiscriminator, SequenceDiscriminator
from sstfill.nn.losses import discriminator_hinge, generator_hinge

both = pytest.mark.parametrize("kind", [FrameDiscriminator, SequenceDiscriminator])


@pytest.mark.parametrize(
    ("kind", "parameters"), [(FrameDiscriminator, 2_160_385), (SequenceDiscriminator, 6_478_657)]
)
def test_parameters_are_as_many_as_the_authors(kind: Any, parameters: int) -> None:
    with torch.device("meta"):
        network = kind()
    # the paper's: 2.2 and 6.5 million
    assert sum(p.numel() for p in network.parameters()) == parameters


@both
def test_layers_are_those_of_the_table(kind: Any) -> None:
    convolutions = [
        layer for layer in kind(channels=2, base=1).layers if not isinstance(layer, nn.LeakyReLU)
    ]
    assert [c.in_channels for c in convolutions] == [2, 1, 2, 4, 8, 8, 8, 8]
    assert [c.out_channels for c in convolutions] == [1, 2, 4, 8, 8, 8, 8, 1]
    assert [c.stride[-2:] for c in convolutions] == [(2, 2)] * 6 + [(1, 1)] * 2
    assert all(c.kernel_size[0] == 3 for c in convolutions)
    assert all(c.stride[0] == 1 for c in convolutions if isinstance(c, nn.Conv3d))


@pytest.mark.parametrize(("length", "sides"), [(2, (33, 40)), (3, (64, 64)), (5, (70, 33))])
def test_one_score_a_frame_and_one_a_sequence(length: int, sides: tuple[int, int]) -> None:
    values = torch.rand(2, 1, length, *sides)
    assert FrameDiscriminator(base=1)(values).shape == (2, length)
    assert SequenceDiscriminator(base=1)(values).shape == (2,)


def test_frames_are_scored_alone() -> None:
    d_f, values = FrameDiscriminator(base=1).eval(), torch.rand(2, 2, 3, 33, 33)[:, :1]
    alone = [[d_f(values[b : b + 1, :, t : t + 1]).item() for t in range(3)] for b in range(2)]
    torch.testing.assert_close(d_f(values), torch.tensor(alone))


def test_patches_are_averaged() -> None:
    d_f, values = FrameDiscriminator(base=1).eval(), torch.rand(1, 1, 1, 130, 70)
    patches = d_f.layers(values[:, :, 0])
    assert patches.shape == (1, 1, 3, 2)
    torch.testing.assert_close(d_f(values)[0, 0], patches.mean())


def test_sequences_are_scored_by_their_differences() -> None:
    d_s, values = SequenceDiscriminator(base=1).eval(), torch.rand(1, 1, 2, 33, 33)
    plain = SequenceDiscriminator(base=1, differences=False).eval()
    plain.load_state_dict(d_s.state_dict())
    torch.testing.assert_close(d_s(values + 0.25), d_s(values))
    torch.testing.assert_close(d_s(values), plain(values[:, :, 1:] - values[:, :, :1]))
    assert not torch.allclose(plain(values + 0.25), plain(values))


def test_a_difference_needs_two_frames() -> None:
    one = torch.zeros(1, 1, 1, 33, 33)
    with pytest.raises(InputError, match="values have 1 frames; give at least 2"):
        SequenceDiscriminator(base=1)(one)
    assert SequenceDiscriminator(base=1, differences=False)(one).shape == (1,)


@both
def test_shapes_and_options_are_checked(kind: Any) -> None:
    network = kind(base=1)
    with pytest.raises(InputError, match="32x64 pixels are too small; give at least 33x33"):
        network(torch.zeros(1, 1, 3, 32, 64))
    with pytest.raises(InputError, match="have 3 channels"):
        network(torch.zeros(1, 3, 3, 33, 33))
    with pytest.raises(InputError, match="give floating b c t y x"):
        network(torch.zeros(1, 3, 33, 33))
    with pytest.raises(OptionError, match="base=0"):
        kind(base=0)
    with pytest.raises(OptionError, match="channels=0"):
        kind(channels=0)


@both
def test_every_parameter_learns(kind: Any) -> None:
    network = kind(base=2)
    generator_hinge(network(torch.rand(1, 1, 3, 40, 40))).backward()
    assert [
        name for name, p in network.named_parameters() if not bool((p.grad.abs() > 1e-6).any())
    ] == []


@both
def test_the_fake_gets_a_gradient(kind: Any) -> None:
    fake = torch.rand(1, 1, 3, 40, 40, requires_grad=True)
    generator_hinge(kind(base=2)(fake)).backward()
    assert fake.grad is not None
    assert bool((fake.grad != 0).any())


@both
def test_it_learns_to_tell_two_kinds_apart(kind: Any) -> None:
    network = kind(base=8)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.0, 0.999))
    fake = torch.rand(1, 1, 3, 33, 33) - 0.5
    real = fake.clone()
    for t in range(3):  # a cloud that moves
        real[:, :, t, 5:20, 8 * t : 8 * t + 12] = 1
    losses = []
    for _ in range(40):
        loss = discriminator_hinge(network(real), network(fake))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if losses[-1] < 1:
            break
    assert losses[0] == pytest.approx(2, abs=0.01)  # where it cannot tell
    assert losses[-1] < 1


@both
@pytest.mark.parametrize("base", [4, 16])
def test_scores_of_a_new_discriminator_spread_over_the_margin_with_the_gain(
    kind: Any, base: int
) -> None:
    """Those of the paper do not: the hinge knows a margin of 1."""
    torch.manual_seed(0)
    coarse = torch.randn(12, 1, 3, 6, 6)
    values = nn.functional.interpolate(coarse, size=(3, 48, 48), mode="trilinear")
    spreads = []
    for gain in (1.0, GAIN):
        torch.manual_seed(1)
        discriminator = kind(base=base, gain=gain)
        with torch.no_grad():
            for _ in range(15):  # power iterations
                discriminator(values[:1])
            spreads.append(discriminator(values).std().item())
    without, with_gain = spreads
    assert without < 1e-3
    assert with_gain == pytest.approx(GAIN**8 * without, rel=1e-2)
    assert with_gain > 0.02
