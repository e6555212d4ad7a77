# SPDX-License-Identifier: Apache-2.0
"""Initialisation and spectral normalisation of the convolutions of the GAN."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

STD = 0.02
"""Standard deviation of a weight before normalisation (section 3.4: "a gain of 0.02")."""

Convolution = TypeVar("Convolution", nn.Conv2d, nn.Conv3d)


def spectral(convolution: Convolution, gain: float = 1.0) -> Convolution:
    """Draw a convolution's weight, zero its bias, and normalise it (Miyato et al. 2018).

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
    gain
        The norm that the weight is given.
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
    if gain != 1:
        parametrize.register_parametrization(convolution, "weight", _Gain(gain))
    return convolution


class _Gain(nn.Module):
    """Multiply a weight by a constant."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight times the gain."""
        return self.gain * weight


class _Outline(nn.Module):
    """A stand-in for `spectral_norm` with the names and shapes of its buffers only."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows = weight.shape[0]
        self.register_buffer("_u", weight.new_empty(rows))
        self.register_buffer("_v", weight.new_empty(weight.numel() // rows))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight."""
        return weight
