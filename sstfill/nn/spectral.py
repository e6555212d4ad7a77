# SPDX-License-Identifier: Apache-2.0
"""How every convolution of the GAN begins, and how its largest singular value is held at one."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

STD = 0.02
"""Standard deviation of a weight before normalisation ("normal distribution with a gain of 0.02",
section 3.4).
"""

Convolution = TypeVar("Convolution", nn.Conv2d, nn.Conv3d)


def spectral(convolution: Convolution) -> Convolution:
    """Draw a convolution's weight from N(0, 0.02), zero its bias, and normalise it spectrally
    (Miyato et al. 2018).

    The norm is that of the weight as a matrix (output channels, input channels x kernel). Each
    forward pass in training mode takes one power iteration; in evaluation mode the weight is fixed.
    The scale of the weight drops out of what the network computes: with Adam, 0.02 sets how fast
    the direction of a weight turns.

    Parameters
    ----------
    convolution
        Changed in place, and returned. One on the device "meta", which holds no numbers, gets the
        same names and shapes only: torch emulates the norm of such a weight, which takes seconds a
        network.
    """
    if convolution.weight.is_meta:
        parametrize.register_parametrization(
            convolution, "weight", _Outline(convolution.weight), unsafe=True
        )
        return convolution
    nn.init.normal_(convolution.weight, 0.0, STD)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    spectral_norm(convolution)
    return convolution


class _Outline(nn.Module):
    """Names and shapes of the buffers of `spectral_norm`, and nothing of what it does."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows = weight.shape[0]
        self.register_buffer("_u", weight.new_empty(rows))
        self.register_buffer("_v", weight.new_empty(weight.numel() // rows))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight."""
        return weight
