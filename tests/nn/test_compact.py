# SPDX-License-Identifier: Apache-2.0
"""The compact network: it begins as the first guess, looks at one sequence at a time, and takes
frames of any size.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from sstfill.errors import InputError, OptionError
from sstfill.nn.compact import SIDE, Compact
from sstfill.nn.layers.blocks import HEAD, Block, Norm, TimeAttention

INPUTS = 3
REACH = 48
"""Pixels beyond which the network of three levels does not look: 6 + 8 + 16 + 4 + 4, and where the
folds lie.
"""


@pytest.fixture(scope="module")
def network() -> Compact:
    """A small one with weights that are not those of a new one."""
    torch.manual_seed(1)
    made = Compact(inputs=INPUTS, base=8).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def seen(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def asked(network: Compact, channels: Tensor) -> Tensor:
    """Correction and logarithm, one after the other: 2 b 1 t y x."""
    with torch.inference_mode():
        return torch.stack(network(channels))


def test_a_new_one_answers_with_the_first_guess_and_its_error():
    correction, log_ratio = Compact(inputs=INPUTS, base=4)(seen(2, INPUTS, 3, 9, 10))
    assert correction.shape == log_ratio.shape == (2, 1, 3, 9, 10)
    assert not correction.any() and not log_ratio.any()


def test_a_new_one_learns():
    made = Compact(inputs=INPUTS, base=4)
    for _ in range(2):
        loss = (made(seen(1, INPUTS, 4, 8, 8))[0] - 1).square().mean()
        made.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter -= 0.1 * parameter.grad
    idle = [name for name, parameter in made.named_parameters() if not parameter.grad.any()]
    assert idle == []


def test_sequences_of_a_batch_do_not_see_each_other(network):
    both = seen(2, INPUTS, 5, 11, 8)
    apart = torch.cat([asked(network, both[:1]), asked(network, both[1:])], 1)
    torch.testing.assert_close(asked(network, both), apart, rtol=1e-4, atol=1e-5)
    assert apart.std() > 0.05


@given(t=st.integers(1, 4), y=st.integers(1, 2 * SIDE + 1), x=st.integers(1, 2 * SIDE + 1))
@settings(max_examples=12, deadline=None)
def test_any_size_is_filled_up_to_whole_folds(network, t, y, x):
    channels = seen(1, INPUTS, t, y, x)
    larger = functional.pad(channels, (0, -x % SIDE, 0, -y % SIDE, 0, 0), mode="replicate")
    found = asked(network, channels)
    assert found.shape == (2, 1, 1, t, y, x)
    torch.testing.assert_close(found, asked(network, larger)[..., :y, :x], rtol=1e-4, atol=1e-5)


def test_what_lies_beyond_its_reach_does_not_matter(network):
    wide = seen(1, INPUTS, 2, 8, 2 * REACH)
    part = asked(network, wide[..., : REACH + 2 * SIDE])[..., : 2 * SIDE]
    torch.testing.assert_close(part, asked(network, wide)[..., : 2 * SIDE], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(
        part, asked(network, wide[..., : 3 * SIDE])[..., : 2 * SIDE], atol=1e-3
    )


def test_half_precision_is_close(network):
    channels = seen(1, INPUTS, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        half = asked(network, channels)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, asked(network, channels), rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    "options", [{"inputs": 0}, {"inputs": 1, "base": 0}, {"inputs": 1, "outputs": 1.5}]
)
def test_options_are_checked(options):
    with pytest.raises(OptionError, match="must be a whole number"):
        Compact(**options)


@pytest.mark.parametrize(
    ("shape", "message"), [((1, 2, 3, 8, 8), "2 channels"), ((INPUTS, 3, 8, 8), "of shape")]
)
def test_other_channels_are_refused(network, shape, message):
    with pytest.raises(InputError, match=message):
        network(torch.zeros(shape))


def test_a_block_looks_one_frame_back_and_one_ahead():
    block, frames = Block(4), seen(6, 4, 5, 5)  # (b t) c y x, one sequence of six
    other = frames.clone()
    other[0] += 1
    changed = (block(frames, 1) != block(other, 1)).flatten(1).any(1)
    assert changed.tolist() == [True, True, False, False, False, False]
    apart = (block(frames, 2) != block(other, 2)).flatten(1).any(1)  # two sequences of three
    assert apart.tolist() == [True, True, False, False, False, False]
    last = frames.clone()
    last[2] += 1
    assert (block(frames, 2) != block(last, 2)).flatten(1).any(1).tolist() == [
        False,
        True,
        True,
        False,
        False,
        False,
    ]


def test_attention_falls_off_with_the_distance_in_frames():
    """With queries and keys of nothing, what is left is the bias: weights exp(-cost * frames) of
    sum one.
    """
    attention, frames = TimeAttention(HEAD), seen(5, HEAD, 2, 3)
    with torch.no_grad():
        attention.project.weight.zero_()
        attention.project.bias.zero_()
        attention.project.weight[2 * HEAD :, :, 0, 0] = torch.eye(HEAD)
        attention.output.weight[:, :, 0, 0] = torch.eye(HEAD)
        attention.output.bias.zero_()
        attention.slope.fill_(0.3)
        found = attention(frames, 1) - frames
    away = (torch.arange(5)[:, None] - torch.arange(5)[None]).abs()
    weights = torch.softmax(-torch.tensor(0.3).exp() * away, 1)
    torch.testing.assert_close(
        found, torch.einsum("st,tcyx->scyx", weights, attention.before(frames)).detach()
    )


def test_heads_begin_with_different_memories():
    slope = TimeAttention(4 * HEAD).slope
    assert len(slope) == 4 and (slope.diff() > 0).all()


def test_norm_is_of_each_pixel():
    values = seen(2, 6, 3, 3)
    normal = Norm(6)(values)
    torch.testing.assert_close(normal.square().mean(1), torch.ones(2, 3, 3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(Norm(6)(7 * values), normal, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(Norm(6)(torch.zeros(1, 6, 2, 2))).all()
