# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sstfill.nn.layers import resnet
from sstfill.nn.layers.resnet import FrameConvolution


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 7),
    time_kernel=st.sampled_from([1, 3, 5]),
    clips=st.integers(1, 2),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_small_clip_in_halves_gives_the_same_numbers_and_gradients(
    frames: int, time_kernel: int, clips: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    padding = (time_kernel // 2, 1, 1)
    convolution = FrameConvolution(2, 3, (time_kernel, 3, 3), padding=padding, bias=bias)
    values = torch.randn(clips, 2, frames, 5, 4, requires_grad=True)
    found, whole = convolution(values), nn.Conv3d.forward(convolution, values)
    assert torch.allclose(found, whole, atol=1e-5)
    along = torch.randn(whole.shape)
    weights = [values, *convolution.parameters()]
    for own, other in zip(
        torch.autograd.grad(found, weights, along),
        torch.autograd.grad(whole, weights, along),
        strict=True,
    ):
        assert torch.allclose(own, other, atol=1e-4)


@pytest.mark.parametrize(("rows", "pieces"), [(4, 2), (5, 1)])
def test_a_larger_clip_stays_whole(rows: int, pieces: int) -> None:
    convolution = FrameConvolution(2, 3, 3, padding=1)
    shapes = []
    with (
        patch.object(resnet, "SMALL", 2 * 6 * 4),
        torch.profiler.profile(record_shapes=True) as profile,
    ):
        convolution(torch.zeros(1, 2, 6, rows, 4))
    for event in profile.events():
        if event.name == "aten::conv3d":
            shapes.append(event.input_shapes[0][0])
    assert shapes == [pieces]
