# SPDX-License-Identifier: Apache-2.0
"""The 3-D residual block of which the generators are built."""

from __future__ import annotations

from torch import Tensor, nn, stack
from torch.nn import functional

from sstfill.nn.layers.spectral import spectral

SMALL = 20_480
"""Channels x frames x rows of a single clip up to which torch (2.x) passes oneDNN by on a CPU."""


class FrameConvolution(nn.Conv3d):
    """A convolution over frames and pixels, of stride 1, that is fast for a small clip, too.

    torch leaves a convolution of a single small clip on a CPU to a kernel several times slower than
    oneDNN's, which takes two clips of any size. Here such a clip goes in as two halves with the
    frames around them: the same sums, equal within rounding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Take b c t y x, return b c' t y x."""
        clips, channels, frames, rows, _ = input.shape
        small = clips == 1 and frames > 1 and channels * frames * rows <= SMALL
        if not (small and input.is_cpu):
            return super().forward(input)
        around = self.kernel_size[0] // 2
        down, across = self.kernel_size[1] // 2, self.kernel_size[2] // 2
        half = (frames + 1) // 2
        # zeros around the clip, and one frame more behind it where their number is odd
        padded = functional.pad(input[0], (0, 0, 0, 0, around, around + frames % 2))  # c t' y x
        # the two halves overlap by the frames that the kernel spans
        halves = stack([padded[:, : half + 2 * around], padded[:, half:]])
        found = functional.conv3d(halves, self.weight, self.bias, padding=(0, down, across))
        return found.transpose(0, 1).flatten(1, 2)[None, :, :frames]  # 2 c' t/2 y x -> 1 c' t y x


def conv(inputs: int, outputs: int, time_kernel: int, *, bias: bool = False) -> nn.Conv3d:
    """Build a spectrally normalised convolution of `time_kernel` frames and 3x3 pixels.

    A bias would be taken out again by the batch normalisation that follows nearly everywhere: off
    unless asked for.
    """
    kernel, padding = (time_kernel, 3, 3), (time_kernel // 2, 1, 1)
    return spectral(FrameConvolution(inputs, outputs, kernel, padding=padding, bias=bias))


class ResidualBlock(nn.Module):
    """Two convolutions, and a 1x1x1 convolution past them: the "3D ResNet block" of Table 5a.

    Normalisation and ReLU come before each convolution (He et al. 2016, "Identity mappings in deep
    residual networks", which the paper cites; hence its batch normalisation after the last block,
    row 9). The second convolution keeps the number of channels.

    Parameters
    ----------
    inputs, outputs
        Number of channels.
    time_kernel
        Frames that a convolution spans; 1 leaves frames alone.
    normalise_first
        Whether normalisation and ReLU come before the first convolution too: not where the input is
        the data, half of which a ReLU would discard.
    """

    def __init__(
        self, inputs: int, outputs: int, *, time_kernel: int = 3, normalise_first: bool = True
    ) -> None:
        super().__init__()
        first = (nn.BatchNorm3d(inputs), nn.ReLU()) if normalise_first else ()
        self.path = nn.Sequential(
            *first,
            conv(inputs, outputs, time_kernel),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            conv(outputs, outputs, time_kernel),
        )
        self.shortcut = spectral(nn.Conv3d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Take b c t y x, return b c' t y x."""
        added: Tensor = self.shortcut(x) + self.path(x)
        return added
