# SPDX-License-Identifier: Apache-2.0
"""Spatial self-attention within each frame, without the matrix of all pairs of pixels in memory."""

from __future__ import annotations

from torch import Tensor, contiguous_format, nn, zeros
from torch.nn import functional

from sstfill.checks import check_number
from sstfill.nn.layers.spectral import spectral

REDUCTION = 8
"""Channels of the input for one of queries, keys and values (Zhang et al. 2019, section 3)."""


class FrameAttention(nn.Module):
    """Self-attention over the pixels of a frame, x + gamma * o, as in Zhang et al. (2019),
    equations 1-3.

    Queries f, keys g, values h and output v are 1x1 convolutions, spectrally normalised, without
    bias; the softmax is of f'g itself, not scaled by the number of channels. gamma is one number
    and starts at 0, so that a new layer is the identity and f, g, h, v learn from its second step
    on. Frames do not see each other. Memory grows with the number of pixels (flash and
    memory-efficient kernels), time with its square.

    Parameters
    ----------
    channels
        Of the input and the output. Queries, keys and values have one eighth, at least one: the
        same number for all three, without which the flash kernel declines.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_number("channels", channels, 1, whole=True)
        inner = max(1, channels // REDUCTION)
        self.query = spectral(nn.Conv3d(channels, inner, 1, bias=False))
        self.key = spectral(nn.Conv3d(channels, inner, 1, bias=False))
        self.value = spectral(nn.Conv3d(channels, inner, 1, bias=False))
        self.output = spectral(nn.Conv3d(inner, channels, 1, bias=False))
        self.gamma = nn.Parameter(zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Take b c t y x, return the same shape."""
        query = _to_positions(self.query(x))  # (b t) 1 (y x) c'
        key = _to_positions(self.key(x))
        value = _to_positions(self.value(x))
        # scale 1: the paper's softmax is of the products themselves, torch would divide by the root
        # of the channels
        attended = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        b, _, t, height, width = x.shape
        # undo `_to_positions`: (b t) 1 (y x) c -> b c t y x
        frames = attended.reshape(b, t, height, width, -1).permute(0, 4, 1, 2, 3)
        added: Tensor = x + self.gamma * self.output(frames)
        return added


def _to_positions(x: Tensor) -> Tensor:
    """Rearrange b c t y x -> (b t) 1 (y x) c: one head, the pixels of a frame as its tokens.

    A copy, because `contiguous` would keep the strides of a single channel, which the fused kernels
    refuse.
    """
    frames = x.permute(0, 2, 3, 4, 1).clone(memory_format=contiguous_format)  # b t y x c
    return frames.flatten(2, 3).flatten(0, 1).unsqueeze(1)
