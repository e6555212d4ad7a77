# SPDX-License-Identifier: Apache-2.0
"""The compact network: a space-time U-Net that corrects a first guess."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sstfill.checks import check_number
from sstfill.nn.shapes import check_sequence

FOLD = 2
"""Pixels of an edge folded into channels by the first layer: all layers work at half resolution."""
LEVELS = 3
"""Resolutions of the U-Net, each half of the one above."""
SIDE = FOLD * 2 ** (LEVELS - 1)
"""Frames are padded to a multiple of this."""
WIDTHS = (1, 2, 3)
"""Channels of each level, in units of the base."""
HEAD = 16
"""Channels of an attention head."""
EPSILON = 1e-6
"""Keeps the reciprocal root finite where all channels are 0."""


class Compact(nn.Module):
    """Estimate the error of a first guess and its uncertainty, in units of its stated error.

    A U-Net of three levels, at 1/2, 1/4 and 1/8 of the resolution. Its blocks are factorised as in
    Tran et al. (2018, "R(2+1)D"): 3x3 pixels of each frame, then three frames of each pixel; at the
    lowest level each position also attends to itself at all other times, the less the further they
    are (the linear bias of Press et al. 2022). What a block adds is normalised by the root mean
    square over channels (Zhang & Sennrich 2019), pixel by pixel, so that the estimate depends
    neither on the batch nor on the extent of the patch. A new network returns the first guess and
    its own error.

    Parameters
    ----------
    inputs
        Channels of its input.
    outputs
        Channels of the field.
    base
        Channels at the highest level; 48 makes about a million parameters.

    Raises
    ------
    OptionError
        If an option is out of its range.
    """

    def __init__(self, *, inputs: int, outputs: int = 1, base: int = 48) -> None:
        super().__init__()
        check_number("inputs", inputs, 1, whole=True)
        check_number("outputs", outputs, 1, whole=True)
        check_number("base", base, 1, whole=True)
        self.channels = inputs
        top, middle, bottom = WIDTHS[0] * base, WIDTHS[1] * base, WIDTHS[2] * base
        self.enter = nn.Conv2d(inputs * FOLD**2, top, 3, padding=1)
        self.down = nn.ModuleList([_stage(top, 2), _stage(middle, 2)])
        self.shrink = nn.ModuleList([nn.Conv2d(top, middle, 2, 2), nn.Conv2d(middle, bottom, 2, 2)])
        self.bottom = nn.Sequential(Block(bottom), TimeAttention(bottom), Block(bottom))
        self.grow = nn.ModuleList([nn.Conv2d(bottom, 4 * middle, 1), nn.Conv2d(middle, 4 * top, 1)])
        self.up = nn.ModuleList([_stage(middle, 1), _stage(top, 2)])
        self.leave = nn.Conv2d(top, 2 * outputs * FOLD**2, 1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, channels: Tensor) -> tuple[Tensor, Tensor]:
        """Correct a first guess.

        Parameters
        ----------
        channels
            Floating b c t y x, c the inputs (see `sstfill.methods.gan.network_inputs`).

        Returns
        -------
        tuple of Tensor
            The correction in units of the first guess's error, and the logarithm of the new error
            in the same units; both b c t y x, c the channels of the field.

        Raises
        ------
        InputError
            If the shape or the dtype is wrong.
        """
        check_sequence(channels, self.channels)
        b, _, t, y, x = channels.shape
        frames = channels.transpose(1, 2).flatten(0, 1)  # b c t y x -> (b t) c y x
        padded = functional.pad(frames, (0, -x % SIDE, 0, -y % SIDE), mode="replicate")
        folded = functional.pixel_unshuffle(padded, FOLD)  # (b t) 4c y/2 x/2
        h = self.enter(folded.contiguous(memory_format=torch.channels_last))
        kept = []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            h = _through(stage, h, b)
            kept.append(h)
            h = shrink(h)
        h = _through(self.bottom, h, b)
        for grow, stage in zip(self.grow, self.up, strict=True):
            h = _through(stage, kept.pop() + functional.pixel_shuffle(grow(h), 2), b)
        found = functional.pixel_shuffle(self.leave(h).float(), FOLD)[..., :y, :x]  # (b t) 2c y x
        sequences = found.unflatten(0, (b, t)).transpose(1, 2)  # b 2c t y x
        correction, log_ratio = sequences.chunk(2, 1)  # b c t y x each
        return correction, log_ratio


class Block(nn.Module):
    """Two residual steps: 3x3 pixels of each frame, then three frames of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before, self.between = Norm(channels), Norm(channels)
        self.space = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.ModuleList(
            [nn.Conv2d(channels, channels, 1, bias=shift == 0) for shift in (0, -1, 1)]
        )

    def forward(self, h: Tensor, b: int) -> Tensor:
        """Take and return (b t) c y x."""
        h = h + self.space(functional.silu(self.before(h)))
        inner = functional.silu(self.between(h))
        now = self.time[0](inner)
        before = self.time[1](inner)
        after = self.time[2](inner)
        t = h.shape[0] // b
        if t > 1:
            now = now.unflatten(0, (b, t))  # b t c y x
            earlier, later = before.unflatten(0, (b, t))[:, :-1], after.unflatten(0, (b, t))[:, 1:]
            now = now + functional.pad(earlier, _FIRST) + functional.pad(later, _LAST)
            now = now.flatten(0, 1)
        out: Tensor = h + now
        return out


# One frame of zeros at the start, or at the end: torch counts axes from the last, so that of
# b t c y x the fourth pair is for t.
_FIRST, _LAST = (0, 0, 0, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 0, 0, 1)


class TimeAttention(nn.Module):
    """Each position attends to itself at all times; a bias falls with distance, for each head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        self.before = Norm(channels)
        self.project = nn.Conv2d(channels, 3 * self.heads * HEAD, 1)
        self.output = nn.Conv2d(self.heads * HEAD, channels, 1)
        # linspace itself would load sympy for half a second where weights have no memory ("meta")
        slope = torch.linspace(-3.0, 0.5, self.heads, device="cpu")
        # logarithm of the cost of a distance of one frame
        self.slope = nn.Parameter(slope.to(self.project.weight.device))

    def forward(self, h: Tensor, b: int) -> Tensor:
        """Take and return (b t) c y x."""
        n, _, y, x = h.shape
        t = n // b
        packed = self.project(self.before(h)).reshape(b, t, 3, self.heads, HEAD, y * x)
        query, key, value = packed.permute(2, 0, 5, 3, 1, 4).flatten(1, 2)  # (b yx) head t c each
        frames = torch.arange(t, device=h.device)
        away = (frames[:, None] - frames[None]).abs()
        bias = (-self.slope.exp()[:, None, None] * away).to(query.dtype)  # head t t
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        positions = attended.unflatten(0, (b, y * x))  # b yx head t c
        back = positions.permute(0, 3, 2, 4, 1).reshape(n, self.heads * HEAD, y, x)
        out: Tensor = h + self.output(back)
        return out


class Norm(nn.Module):
    """Divide by the root mean square over the channels of each pixel, then scale each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, h: Tensor) -> Tensor:
        """Take and return (b t) c y x."""
        size = h.float().square().mean(1, keepdim=True).add(EPSILON).rsqrt().to(h.dtype)
        return h * size * self.scale[:, None, None].to(h.dtype)


def _stage(channels: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList([Block(channels) for _ in range(blocks)])


def _through(stage: nn.Module, h: Tensor, b: int) -> Tensor:
    for part in stage.children():
        h = part(h, b)
    return h
