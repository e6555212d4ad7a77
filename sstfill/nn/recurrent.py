# SPDX-License-Identifier: Apache-2.0
"""The recurrent variant of the generator: a frame is completed from itself and the past only."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sstfill.checks import check_number
from sstfill.nn.generator import OCCLUDED, SIDE, decoder, encoder
from sstfill.nn.layers.spectral import spectral
from sstfill.nn.masking import keep_observed, occlude
from sstfill.nn.shapes import check_sequence


class ConvGRU(nn.Module):
    """A gated recurrent unit of 3x3 convolutions (Siam et al. 2016), from first to last frame.

    z = sigmoid(Wz x + Uz h), r = sigmoid(Wr x + Ur h), n = tanh(Wn x + Un (r h)), h <- (1-z) h + z
    n; h begins at 0.

    Parameters
    ----------
    channels
        Of the input and of the hidden state.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_number("channels", channels, 1, whole=True)
        self.of_input = spectral(nn.Conv2d(channels, 3 * channels, 3, padding=1))
        self.of_state = spectral(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False))
        self.of_reset = spectral(nn.Conv2d(channels, channels, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Take b c t y x, return the hidden state after each frame, same shape, in (-1, 1)."""
        state = torch.zeros_like(x[:, :, 0])  # b c y x
        states = []
        with parametrize.cached():  # normalise the weights once, not once a frame
            for frame in x.unbind(2):  # b c y x
                state = self._step(frame, state)
                states.append(state)
        return torch.stack(states, 2)

    def _step(self, frame: Tensor, state: Tensor) -> Tensor:
        """Take a frame and the state before it, both b c y x, return the state after it."""
        update_in, reset_in, new_in = self.of_input(frame).chunk(3, 1)  # b c y x each
        update_state, reset_state = self.of_state(state).chunk(2, 1)
        update, reset = (update_in + update_state).sigmoid(), (reset_in + reset_state).sigmoid()
        new = (new_in + self.of_reset(reset * state)).tanh()
        # (1 - z) h + z n in one pass
        return torch.lerp(state, new, update)


class RecurrentGenerator(nn.Module):
    """Complete each frame from the past only: the recurrent variant (section 4.2, appendix C).

    `Generator` with a time kernel of 1, and a `ConvGRU` "after encoding the sequence into the space
    with maximum number of channels". Past only holds in evaluation mode; in training mode frames
    also share the statistics of batch normalisation.

    Parameters
    ----------
    channels, base, fill
        As for `Generator`.

    Raises
    ------
    OptionError
        If an option is out of its range.
    """

    def __init__(self, *, channels: int = 1, base: int = 32, fill: float = OCCLUDED) -> None:
        super().__init__()
        check_number("channels", channels, 1, whole=True)
        check_number("base", base, 1, whole=True)
        check_number("fill", fill, -math.inf)
        self.channels, self.fill = channels, fill
        self.encoder = encoder(channels, base, 1)
        self.memory = ConvGRU(16 * base)
        self.decoder = decoder(channels, base, 1)

    def estimate(self, values: Tensor, observed: Tensor) -> Tensor:
        """Compute phi(y) at every pixel; shapes and errors as in `Generator.forward`."""
        check_sequence(values, self.channels, side=SIDE)
        seen = occlude(values, observed, self.fill)  # b c t y x
        estimate: Tensor = self.decoder(self.memory(self.encoder(seen)))  # b c t y x
        return estimate

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """Complete a sequence; shapes and errors as in `Generator.forward`."""
        return keep_observed(values, observed, self.estimate(values, observed))
