# SPDX-License-Identifier: Apache-2.0
"""What only the recurrent variant does; what all generators do is in test_generator.py."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sstfill.errors import OptionError
from sstfill.nn.recurrent import ConvGRU, RecurrentGenerator


@pytest.mark.parametrize("frame", [0, 2, 4])
def test_only_the_past_is_used(frame: int) -> None:
    network = RecurrentGenerator(base=1).eval()
    values = torch.rand(1, 1, 5, 6, 6)
    observed = torch.rand(1, 1, 5, 6, 6) < 0.5
    otherwise, hidden = values.clone(), observed.clone()
    otherwise[:, :, frame] += 0.3
    hidden[:, :, frame] = ~hidden[:, :, frame]
    with torch.no_grad():
        before, after = network.estimate(values, observed), network.estimate(otherwise, hidden)
    assert torch.equal(before[:, :, :frame], after[:, :, :frame])
    assert all(not torch.equal(before[:, :, t], after[:, :, t]) for t in range(frame, 5))


def test_a_longer_sequence_begins_alike() -> None:
    network = RecurrentGenerator(base=1).eval()
    values = torch.rand(1, 1, 5, 6, 6)
    observed = values > 0.5
    torch.testing.assert_close(
        network(values, observed)[:, :, :3], network(values[:, :, :3], observed[:, :, :3])
    )


def test_the_unit_is_the_formula() -> None:
    unit = ConvGRU(3).double().eval()
    torch.nn.init.normal_(unit.of_input.bias)
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    wz, wr, wn = unit.of_input.weight.split(3)
    bz, br, bn = unit.of_input.bias.split(3)
    uz, ur = unit.of_state.weight.split(3)
    un = unit.of_reset.weight

    def conv(
        a: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        return functional.conv2d(a, weight, bias, padding=1)

    h = torch.zeros(2, 3, 5, 6, dtype=torch.float64)
    for t in range(4):
        z = torch.sigmoid(conv(x[:, :, t], wz, bz) + conv(h, uz))
        r = torch.sigmoid(conv(x[:, :, t], wr, br) + conv(h, ur))
        n = torch.tanh(conv(x[:, :, t], wn, bn) + conv(r * h, un))
        h = (1 - z) * h + z * n
        torch.testing.assert_close(unit(x)[:, :, t], h)


def test_weights_are_normalised_once_a_sequence() -> None:
    unit = ConvGRU(2)
    torch.nn.init.normal_(unit.of_state.parametrizations.weight.original)
    begun = {name: b.clone() for name, b in unit.state_dict().items()}
    unit(torch.randn(1, 2, 1, 4, 4))
    after_one = {name: b.clone() for name, b in unit.state_dict().items()}
    unit.load_state_dict(begun)
    unit(torch.randn(1, 2, 6, 4, 4))
    assert not torch.equal(
        begun["of_state.parametrizations.weight.0._u"],
        after_one["of_state.parametrizations.weight.0._u"],
    )
    assert all(torch.equal(b, after_one[name]) for name, b in unit.state_dict().items())


def test_channels_are_checked() -> None:
    with pytest.raises(OptionError, match="channels=0"):
        ConvGRU(0)
