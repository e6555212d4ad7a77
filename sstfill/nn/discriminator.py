# SPDX-License-Identifier: Apache-2.0
"""Two PatchGAN discriminators, of single frames and of whole sequences."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from sstfill.checks import check_number
from sstfill.nn.layers.spectral import Convolution, spectral
from sstfill.nn.shapes import check_sequence

WIDTHS = (1, 2, 4, 8, 8, 8)
"""Channels after each layer of stride 2, in units of the base (Table 5b, rows 1-6)."""
SIDE = 2 ** (len(WIDTHS) - 1) + 1
"""Least edge of a frame, 33: a smaller one is one pixel wide before the last layer of stride 2."""
SLOPE = 0.2
"""Of the leaky rectifiers below 0."""
GAIN = 2.2
"""Norm of a weight with which scores of new discriminators spread over the margin of the hinge.

A weight of norm 1, as in the paper, passes on about a third of the spread of what it is given:
after eight of them scores of new discriminators differ by 0.0001, whatever their width, and the
hinge knows a margin of 1. Until they have learnt to differ, which takes hundreds of steps, a
generator follows gradients that say nothing, at the full rate of Adam.
"""


class FrameDiscriminator(nn.Module):
    """D_f: score each frame by itself, with 2-D convolutions (Table 5b).

    It has 2.2 million parameters with the defaults.

    Six convolutions of stride 2 and one of stride 1, then one to a single channel, the score of a
    patch. (Row 8 of the table gives this last one 8 ``base`` channels, which would make 2.7
    million.) Kernels 3x3, padded by 1, with bias; leaky ReLU of slope 0.2 between; spectral
    normalisation, no batch normalisation. The score is a logit-like number for the hinge loss.

    Parameters
    ----------
    channels
        Of the data.
    base
        Channels after the first layer.
    gain
        Norm of each weight: 1 in the paper, see `GAIN`.

    Raises
    ------
    OptionError
        If an option is out of its range.
    """

    def __init__(self, *, channels: int = 1, base: int = 32, gain: float = 1.0) -> None:
        super().__init__()
        check_number("channels", channels, 1, whole=True)
        check_number("base", base, 1, whole=True)
        check_number("gain", gain, 0, above=True)
        self.channels = channels
        self.layers = _patch_gan(nn.Conv2d, channels, base, 2, gain)

    def forward(self, values: Tensor) -> Tensor:
        """Score frames.

        Parameters
        ----------
        values
            Floating b c t y x, occluded pixels set to a constant; frames of at least 33x33.

        Returns
        -------
        Tensor
            b t, the mean over the patches of each frame.

        Raises
        ------
        InputError
            If a shape or the dtype is wrong, or frames are too small.
        """
        check_sequence(values, self.channels, side=SIDE)
        frames = values.transpose(1, 2).flatten(0, 1)  # b c t y x -> (b t) c y x
        patches: Tensor = self.layers(frames)  # (b t) 1 y' x'
        return patches.mean((1, 2, 3)).unflatten(0, (values.shape[0], values.shape[2]))  # b t


class SequenceDiscriminator(nn.Module):
    """D_s: score a whole sequence, with 3-D convolutions.

    It has 6.5 million parameters with the defaults.

    The layers of `FrameDiscriminator` with kernels 3x3x3; the stride in time is always 1, so that a
    sequence of any length will do.

    Parameters
    ----------
    channels, base, gain
        As for `FrameDiscriminator`.
    differences
        Score the differences between successive frames, as the paper does for clouds and other
        occlusions that move; otherwise the frames (its Remove-Pixel).

    Raises
    ------
    OptionError
        If an option is out of its range.
    """

    def __init__(
        self, *, channels: int = 1, base: int = 32, gain: float = 1.0, differences: bool = True
    ) -> None:
        super().__init__()
        check_number("channels", channels, 1, whole=True)
        check_number("base", base, 1, whole=True)
        check_number("gain", gain, 0, above=True)
        self.channels, self.differences = channels, differences
        self.layers = _patch_gan(nn.Conv3d, channels, base, (1, 2, 2), gain)

    def forward(self, values: Tensor) -> Tensor:
        """Score sequences.

        Parameters
        ----------
        values
            Floating b c t y x, occluded pixels set to a constant; frames of at least 33x33, two or
            more of them where their differences are scored.

        Returns
        -------
        Tensor
            b, the mean over the patches of each sequence.

        Raises
        ------
        InputError
            If a shape or the dtype is wrong, frames are too small or too few.
        """
        check_sequence(values, self.channels, frames=2 if self.differences else 1, side=SIDE)
        features = values.diff(dim=2) if self.differences else values  # b c t-1 y x or b c t y x
        patches: Tensor = self.layers(features)  # b 1 t y' x'
        return patches.mean((1, 2, 3, 4))  # b


def _patch_gan(
    kind: Callable[..., Convolution],
    channels: int,
    base: int,
    stride: int | tuple[int, int, int],
    gain: float,
) -> nn.Sequential:
    """Build Table 5b of 2-D or 3-D convolutions: from `channels` to the score of a patch."""
    layers: list[nn.Module] = []
    before = channels
    steps: list[tuple[int, int | tuple[int, int, int]]] = [(width, stride) for width in WIDTHS]
    for width, step in [*steps, (WIDTHS[-1], 1)]:
        layers += [spectral(kind(before, width * base, 3, step, 1), gain), nn.LeakyReLU(SLOPE)]
        before = width * base
    return nn.Sequential(*layers, spectral(kind(before, 1, 3, 1, 1), gain))
