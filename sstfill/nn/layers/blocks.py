# SPDX-License-Identifier: Apache-2.0
"""Blocks of the compact network: of space and time apart, and attention in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sstfill.nn.layers.frames import few, sparing

HEAD = 16
"""Channels of an attention head."""
EPSILON = 1e-6
"""Keeps the reciprocal root finite where all channels are 0."""


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
        """Take and return (b t) c y x; in inference on a CPU, `h` itself is overwritten."""
        if sparing(h):
            return self._overwrite(h, b)
        h = h + self.space(functional.silu(self.before(h)))
        inner = functional.silu(self.between(h))
        # three 1x1 convolutions shifted in time: the same as one over three frames, without a fifth
        # axis
        now, before, after = [shifted(inner).permute(0, 2, 3, 1) for shifted in self.time]
        if h.shape[0] > b:
            # as they lie in memory: of channels before pixels `pad` makes another layout
            earlier = before.unflatten(0, (b, -1))[:, :-1]  # b t y x c
            later = after.unflatten(0, (b, -1))[:, 1:]
            now = now + functional.pad(earlier, _FIRST).flatten(0, 1)
            now = now + functional.pad(later, _LAST).flatten(0, 1)
        out: Tensor = h + now.permute(0, 3, 1, 2)
        return out

    def _overwrite(self, h: Tensor, b: int) -> Tensor:
        """Do what `forward` does in `h` itself, few frames at a time."""
        h = h.contiguous(memory_format=torch.channels_last)
        of_time = dict(self.time.named_parameters())
        bias = of_time["0.bias"]
        now = of_time["0.weight"][:, :, 0, 0].T.to(h.dtype)
        before = of_time["1.weight"][:, :, 0, 0].T.to(h.dtype)
        after = of_time["2.weight"][:, :, 0, 0].T.to(h.dtype)
        for sequence in h.unflatten(0, (b, -1)):
            parts = few(sequence)
            for part in parts:
                part += self.space(functional.silu(self.before(part), inplace=True))
            following = self._between(parts[0])
            for k, part in enumerate(parts):
                inner = following
                _pixels(part).add_(bias).addmm_(_pixels(inner), now)
                _pixels(part[1:]).addmm_(_pixels(inner[:-1]), before)
                _pixels(part[:-1]).addmm_(_pixels(inner[1:]), after)
                if k + 1 < len(parts):
                    # Before the last frame here is added to the first one there.
                    following = self._between(parts[k + 1])
                    _pixels(part[-1:]).addmm_(_pixels(following[:1]), after)
                    _pixels(parts[k + 1][:1]).addmm_(_pixels(inner[-1:]), before)
        return h

    def _between(self, h: Tensor) -> Tensor:
        return functional.silu(self.between(h), inplace=True)


def _pixels(frames: Tensor) -> Tensor:
    """View frames n c y x, channels last in memory, as (n y x) c; never a copy."""
    return frames.permute(0, 2, 3, 1).view(-1, frames.shape[1])


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
        if sparing(h):
            # no position sees another
            return torch.cat([self._attended(rows, b) for rows in few(h, 2)], 2)
        return self._attended(h, b)

    def _attended(self, h: Tensor, b: int) -> Tensor:
        n, _, y, x = h.shape
        t = n // b
        packed = self.project(self.before(h)).reshape(b, t, 3, self.heads, HEAD, y * x)
        query, key, value = packed.permute(2, 0, 5, 3, 1, 4).flatten(1, 2)  # (b yx) head t c each
        frames = torch.arange(t, device=h.device)
        away = (frames[:, None] - frames[None]).abs()
        # the exponential keeps the cost of distance above 0 whatever the optimiser does
        bias = (-self.slope.exp()[:, None, None] * away).to(query.dtype)  # head t t
        if sparing(h):
            # The CPU's kernel that does without the matrix of all pairs wants all four axes.
            bias = bias[None]
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
        # squares in single precision, also where the rest is in bfloat16
        size = h.float().square().mean(1, keepdim=True).add(EPSILON).rsqrt().to(h.dtype)
        return h * size * self.scale[:, None, None].to(h.dtype)
