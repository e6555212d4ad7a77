# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sstfill.errors import OptionError
from sstfill.nn.layers.attention import FrameAttention


def awake(channels: int) -> FrameAttention:
    """Attention that already adds something."""
    attention = FrameAttention(channels).eval()
    torch.nn.init.constant_(attention.gamma, 0.7)
    return attention


def test_a_new_layer_is_the_identity() -> None:
    x = torch.randn(2, 16, 3, 4, 5)
    assert torch.equal(FrameAttention(16)(x), x)


@pytest.mark.parametrize("channels", [4, 16])
def test_it_is_the_formula_of_zhang_et_al(channels: int) -> None:
    attention = awake(channels).double()
    x = torch.randn(2, channels, 3, 4, 5, dtype=torch.float64)
    f, g, h = (
        part(x).flatten(3) for part in (attention.query, attention.key, attention.value)
    )  # b c' t n
    share = torch.einsum("bcti,bctj->btij", f, g).softmax(-1)
    o = torch.einsum("btij,bctj->bcti", share, h).unflatten(3, (4, 5))
    torch.testing.assert_close(attention(x), x + 0.7 * attention.output(o))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("channels", [4, 64])
@pytest.mark.filterwarnings("default")  # torch says why, where it declines
def test_the_flash_kernel_takes_it(channels: int, memory_format: torch.memory_format) -> None:
    x = torch.randn(2, channels, 3, 4, 5).to(memory_format=memory_format).requires_grad_()
    attention = awake(channels)
    anyhow = attention(x)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises unless flash will do
        attended = attention(x)
        attended.sum().backward()
    torch.testing.assert_close(attended, anyhow)


@pytest.mark.filterwarnings("default")
def test_flash_declines_strided_queries() -> None:
    q = torch.randn(2, 1, 8, 20).transpose(2, 3)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), pytest.raises(RuntimeError, match="kernel"):
        torch.nn.functional.scaled_dot_product_attention(q, q, q)


def test_frames_do_not_see_each_other() -> None:
    attention, x = awake(16), torch.randn(1, 16, 3, 4, 5)
    changed = x.clone()
    changed[:, :, 1] += 1
    same = (attention(x) == attention(changed)).all(dim=1).flatten(2).all(2)[0]
    assert same.tolist() == [True, False, True]


def test_channels_are_checked() -> None:
    with pytest.raises(OptionError, match="channels=0"):
        FrameAttention(0)
