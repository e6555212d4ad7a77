# SPDX-License-Identifier: Apache-2.0
"""The branch of the compact network that turns noise into draws."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sstfill.nn.layers.blocks import Block, TimeAttention
from sstfill.nn.sizes import SPACINGS

NOISE = len(SPACINGS)
"""Channels of noise."""


class Drawing(nn.Module):
    """Turn noise into a deviation from the estimate, in units of its stated error.

    The decoder of a U-Net: at 1/8, 1/4 and 1/2 of the resolution it receives what the encoder of
    `Compact` knows there, and noise. Its blocks are those of `Compact`, so that a deviation at a
    pixel depends on what is seen and drawn about it, in space and at all times.

    Parameters
    ----------
    known
        Channels of the encoder at 1/2, 1/4 and 1/8 of the resolution.
    widths
        Channels of this branch there.
    fold
        Pixels of an edge that make one position at the highest level.
    outputs
        Channels of the field.
    """

    def __init__(
        self, known: tuple[int, int, int], widths: tuple[int, int, int], *, fold: int, outputs: int
    ) -> None:
        super().__init__()
        top, middle, bottom = widths
        self.fold = fold
        self.known = nn.ModuleList([nn.Conv2d(n, w, 1) for n, w in zip(known, widths, strict=True)])
        self.noise = nn.ModuleList([nn.Conv2d(NOISE * fold**2, w, 1) for w in widths])
        self.bottom = nn.ModuleList([Block(bottom), TimeAttention(bottom), Block(bottom)])
        self.grow = nn.ModuleList([nn.Conv2d(bottom, 4 * middle, 1), nn.Conv2d(middle, 4 * top, 1)])
        self.up = nn.ModuleList([Block(middle), Block(top)])
        self.leave = nn.Conv2d(top, outputs * fold**2, 1)

    def forward(self, known: list[Tensor], noise: Tensor) -> Tensor:
        """Draw a deviation.

        Parameters
        ----------
        known
            Of the encoder, from the highest level down, (b t) c y x each.
        noise
            Standard normal, b k t y x, k the `SPACINGS`; height and width multiples of the
            network's `sstfill.nn.compact.SIDE`.

        Returns
        -------
        Tensor
            The deviation over the stated error, b c t y x.
        """
        b, _, t, _, _ = noise.shape
        frames = noise.transpose(1, 2).flatten(0, 1)  # b k t y x -> (b t) k y x
        h = self._at(2, known, frames)
        for part in self.bottom:
            h = part(h, b)
        for level, grow, block in zip((1, 0), self.grow, self.up, strict=True):
            h = self._at(level, known, frames) + functional.pixel_shuffle(grow(h), 2)
            h = block(h, b)
        drawn = functional.pixel_shuffle(self.leave(h).float(), self.fold)  # (b t) c y x
        return drawn.unflatten(0, (b, t)).transpose(1, 2)

    def _at(self, level: int, known: list[Tensor], frames: Tensor) -> Tensor:
        """Put together what is known and drawn at a level."""
        shrunk = frames
        if level:
            # averaged, not drawn anew: all levels see the same noise
            shrunk = functional.avg_pool2d(frames, 2**level)
        folded = functional.pixel_unshuffle(shrunk, self.fold)
        folded = folded.contiguous(memory_format=torch.channels_last)
        out: Tensor = self.known[level](known[level]) + self.noise[level](folded)
        return out
