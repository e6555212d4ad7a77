# SPDX-License-Identifier: Apache-2.0
"""In inference few frames at a time are passed, in place: the result is that of all at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sstfill.nn.compact import SIDE, Compact
from sstfill.nn.layers import frames
from sstfill.nn.layers.blocks import Block
from sstfill.nn.layers.frames import by_frame, few
from sstfill.nn.sizes import SPACINGS

INPUTS = 3


@pytest.fixture(scope="module")
def network() -> Compact:
    torch.manual_seed(2)
    made = Compact(inputs=INPUTS, base=8, drawing=4).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def drawn(network: Compact, channels: Tensor, noise: Tensor) -> list[Tensor]:
    known = network.encode(channels)
    once = network.draw_from(known, noise)
    estimate = network.estimate_from(list(known), channels.shape)
    return [*estimate, once, network.draw_from(known, noise)]


@given(
    b=st.integers(1, 2),
    t=st.integers(1, 6),
    y=st.integers(1, 2 * SIDE + 1),
    x=st.integers(1, 2 * SIDE + 1),
    size=st.integers(1, 2**15),
)
@settings(max_examples=15, deadline=None)
def test_few_frames_at_a_time_give_what_all_at_once_give(network, b, t, y, x, size):
    seed = torch.Generator().manual_seed(t)
    channels = torch.randn(b, INPUTS, t, y, x, generator=seed)
    noise = torch.randn(b, len(SPACINGS), t, y, x, generator=seed)
    given_in = channels.clone()
    with torch.no_grad():
        whole = drawn(network, channels, noise)
    with pytest.MonkeyPatch.context() as patched, torch.inference_mode():
        patched.setattr(frames, "BYTES", size)
        parts = drawn(network, channels, noise)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=2e-5)
    # What the encoder knows is used twice, and the caller's channels are his.
    assert torch.equal(parts[2], parts[3]) and torch.equal(channels, given_in)


def test_with_a_gradient_nothing_is_overwritten():
    block, h = Block(4), torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    before = h.clone()
    block(h, 1).sum().backward()
    assert torch.equal(h, before) and block.space.weight.grad.any()


def test_frames_are_passed_few_at_a_time_in_inference_only(monkeypatch):
    monkeypatch.setattr(frames, "BYTES", 2 * 4 * 6 * 4)
    sequence, sizes = torch.ones(5, 4, 2, 3), []

    def double(some: Tensor) -> Tensor:
        sizes.append(len(some))
        return 2 * some

    with torch.inference_mode():
        assert torch.equal(by_frame(double, sequence), 2 * sequence)
    by_frame(double, sequence)
    assert sizes == [2, 2, 1, 5]
    assert [len(part) for part in few(sequence)] == [2, 2, 1]
