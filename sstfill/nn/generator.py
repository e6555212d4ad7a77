# SPDX-License-Identifier: Apache-2.0
"""The paper's generator: a 3-D residual network with attention within each frame."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sstfill.checks import check_number
from sstfill.errors import OptionError
from sstfill.nn.layers.attention import FrameAttention
from sstfill.nn.layers.resnet import ResidualBlock, conv
from sstfill.nn.masking import keep_observed, occlude
from sstfill.nn.shapes import check_sequence

OCCLUDED = 1.0
"""What the paper's authors set occluded pixels to (the c of eq. 1)."""
SIDE = 2
"""Least height and width of a frame: batch normalisation needs more than one value."""


class Generator(nn.Module):
    """Complete a sequence: x_hat = m*y + (1-m)*phi(y), equation 6, with phi of Table 5a.

    Channels 1-32-512-256-128-64, attention, 64-32-1, tanh: 14.8 million parameters with the
    defaults. Where the table leaves a choice or contradicts itself, the one is taken that meets
    this count of the authors' program:

    - row 3 of the table, a second block of 16 ``base`` channels, is left out: it alone has 14.2
      million parameters;
    - row 9 normalises ``base`` channels (what row 8 gives), not 2 ``base``;
    - the second convolution of a block keeps its outputs, a 1x1x1 convolution leads past every
      block.

    Our choices, as neither says: no normalisation before the first block (`resnet.ResidualBlock`),
    biases only in the last convolution, attention of Zhang et al. (2019) without pooling. The mask
    is not an input: the network sees `fill` in the gaps.

    phi lies in (-1, 1): scale the data so (observed values may exceed it, they are copied). In
    training mode batch normalisation takes its statistics over all frames of the batch, in
    evaluation mode it uses those it has gathered. A frame is completed from thirteen on either side
    (two convolutions in each of six blocks, and the last).

    Parameters
    ----------
    channels
        Of the data.
    base
        The paper's C_base, to which all widths are proportional.
    time_kernel
        Frames that a convolution spans, odd; 1 is the paper's static variant, which completes each
        frame alone.
    fill
        What the network sees in the gaps.

    Raises
    ------
    OptionError
        If an option is out of its range.
    """

    def __init__(
        self, *, channels: int = 1, base: int = 32, time_kernel: int = 3, fill: float = OCCLUDED
    ) -> None:
        super().__init__()
        check_number("channels", channels, 1, whole=True)
        check_number("base", base, 1, whole=True)
        check_number("time_kernel", time_kernel, 1, whole=True)
        if time_kernel % 2 == 0:  # an even one would shift the frames
            raise OptionError(f"time_kernel={time_kernel} must be an odd number")
        check_number("fill", fill, -math.inf)
        self.channels, self.fill = channels, fill
        self.encoder = encoder(channels, base, time_kernel)
        self.decoder = decoder(channels, base, time_kernel)

    def estimate(self, values: Tensor, observed: Tensor) -> Tensor:
        """Compute phi(y) at every pixel, also observed ones; shapes and errors as in `forward`."""
        check_sequence(values, self.channels, side=SIDE)
        seen = occlude(values, observed, self.fill)  # b c t y x
        estimate: Tensor = self.decoder(self.encoder(seen))  # b c t y x
        return estimate

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """Complete a sequence.

        Parameters
        ----------
        values
            Floating b c t y x; whatever is in the gaps, NaN too, is not looked at.
        observed
            Boolean b c t y x, True where `values` are seen.

        Returns
        -------
        Tensor
            b c t y x; `values`, bit-identical, where observed.

        Raises
        ------
        InputError
            If a shape or a dtype is wrong, or a frame smaller than 2x2.
        """
        return keep_observed(values, observed, self.estimate(values, observed))


def encoder(channels: int, base: int, time_kernel: int) -> nn.Sequential:
    """Build the layers up to the most channels: b c t y x -> b (16 base) t y x."""
    return nn.Sequential(
        ResidualBlock(channels, base, time_kernel=time_kernel, normalise_first=False),
        ResidualBlock(base, 16 * base, time_kernel=time_kernel),
    )


def decoder(channels: int, base: int, time_kernel: int) -> nn.Sequential:
    """Build the layers back to the data: b (16 base) t y x -> b c t y x, in (-1, 1)."""
    return nn.Sequential(
        ResidualBlock(16 * base, 8 * base, time_kernel=time_kernel),
        ResidualBlock(8 * base, 4 * base, time_kernel=time_kernel),
        ResidualBlock(4 * base, 2 * base, time_kernel=time_kernel),
        FrameAttention(2 * base),
        ResidualBlock(2 * base, base, time_kernel=time_kernel),
        nn.BatchNorm3d(base),
        nn.ReLU(),
        conv(base, channels, time_kernel, bias=True),
        nn.Tanh(),
    )
