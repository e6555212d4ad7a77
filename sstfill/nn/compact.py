# SPDX-License-Identifier: Apache-2.0
"""The compact network: a space-time U-Net that corrects a first guess."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sstfill.checks import check_number
from sstfill.nn.drawing import Drawing
from sstfill.nn.layers.blocks import Block, TimeAttention
from sstfill.nn.layers.frames import by_frame
from sstfill.nn.shapes import check_sequence
from sstfill.nn.sizes import FOLD, SIDE

WIDTHS = (1, 2, 3)
"""Channels of each level, in units of the base."""


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
    drawing
        Channels at the highest level of the branch that draws (`sstfill.nn.drawing.Drawing`); 0:
        the network draws nothing.

    Raises
    ------
    OptionError
        If an option is out of its range.
    """

    def __init__(self, *, inputs: int, outputs: int = 1, base: int = 48, drawing: int = 0) -> None:
        super().__init__()
        check_number("inputs", inputs, 1, whole=True)
        check_number("outputs", outputs, 1, whole=True)
        check_number("base", base, 1, whole=True)
        check_number("drawing", drawing, 0, whole=True)
        self.channels = inputs
        top, middle, bottom = WIDTHS[0] * base, WIDTHS[1] * base, WIDTHS[2] * base
        self.enter = nn.Conv2d(inputs * FOLD**2, top, 3, padding=1)
        self.down = nn.ModuleList([_stage(top, 2), _stage(middle, 2)])
        self.shrink = nn.ModuleList([nn.Conv2d(top, middle, 2, 2), nn.Conv2d(middle, bottom, 2, 2)])
        self.bottom = nn.Sequential(Block(bottom), TimeAttention(bottom), Block(bottom))
        self.grow = nn.ModuleList([nn.Conv2d(bottom, 4 * middle, 1), nn.Conv2d(middle, 4 * top, 1)])
        self.up = nn.ModuleList([_stage(middle, 1), _stage(top, 2)])
        self.leave = nn.Conv2d(top, 2 * outputs * FOLD**2, 1)
        # a new network corrects nothing: training starts from the first guess
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)
        self.drawing: Drawing | None = None
        if drawing:
            ours = (WIDTHS[0] * drawing, WIDTHS[1] * drawing, WIDTHS[2] * drawing)
            self.drawing = Drawing((top, middle, bottom), ours, fold=FOLD, outputs=outputs)

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
        return self.estimate_from(self.encode(channels), channels.shape)

    def encode(self, channels: Tensor) -> list[Tensor]:
        """Return what the network makes of its input at each level, (b t) c y x, highest first."""
        return self.encode_entered(self.enter_frames(channels), len(channels))

    def enter_frames(self, channels: Tensor) -> Tensor:
        """Return what `encode` begins with, (b t) c y x: channels are not needed beside it."""
        check_sequence(channels, self.channels)
        frames = channels.transpose(1, 2).flatten(0, 1)  # b c t y x -> (b t) c y x
        return by_frame(self._enter, frames)

    def encode_entered(self, h: Tensor, b: int) -> list[Tensor]:
        """Return what `encode` does, from what `enter_frames` made of `b` sequences."""
        known = []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            h = _through(stage, h, b)
            known.append(h)
            h = shrink(h)
        known.append(_through(self.bottom, h, b))
        return known

    def estimate_from(self, known: list[Tensor], shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Return what `forward` does, from what `encode` made of channels b c t y x of this shape.

        `known` is emptied, so that the memory of each level is free once it has been used.
        """
        b, _, t, y, x = shape
        h = known.pop()
        for grow, stage in zip(self.grow, self.up, strict=True):
            h = by_frame(partial(_refined, grow), known.pop(), h)
            h = _through(stage, h, b)
        found = by_frame(self._leave, h)[..., :y, :x]  # (b t) 2c y x
        sequences = found.unflatten(0, (b, t)).transpose(1, 2)  # b 2c t y x
        correction, log_ratio = sequences.chunk(2, 1)  # b c t y x each
        return correction, log_ratio

    def _enter(self, frames: Tensor) -> Tensor:
        y, x = frames.shape[-2:]
        # replicated: zeros would look like a coast or a front at the edge
        padded = functional.pad(frames, (0, -x % SIDE, 0, -y % SIDE), mode="replicate")
        folded = functional.pixel_unshuffle(padded, FOLD)  # n 4c y/2 x/2
        # channels last: oneDNN and cuDNN convolve it without a copy for each layer
        out: Tensor = self.enter(folded.contiguous(memory_format=torch.channels_last))
        return out

    def _leave(self, h: Tensor) -> Tensor:
        # in single precision from here on: bfloat16 has three digits
        return functional.pixel_shuffle(self.leave(h).float(), FOLD)  # n 2c y x

    def draw_from(self, known: list[Tensor], noise: Tensor) -> Tensor:
        """Draw a deviation from the estimate, in units of its error.

        Parameters
        ----------
        known
            What `encode` returned.
        noise
            b k t y x, see `sstfill.nn.drawing`.

        Returns
        -------
        Tensor
            b c t y x, c the channels of the field.
        """
        assert self.drawing is not None
        y, x = noise.shape[-2:]
        padding = (0, -x % SIDE, 0, -y % SIDE, 0, 0)
        padded = functional.pad(noise, padding, mode="replicate")
        drawn: Tensor = self.drawing(known, padded)
        return drawn[..., :y, :x]


def _stage(channels: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList([Block(channels) for _ in range(blocks)])


def _refined(grow: nn.Module, kept: Tensor, coarse: Tensor) -> Tensor:
    """Add frames of the level below, at twice their resolution, to those of this level."""
    return kept + functional.pixel_shuffle(grow(coarse), 2)


def _through(stage: nn.Module, h: Tensor, b: int) -> Tensor:
    for part in stage.children():
        h = part(h, b)
    return h
