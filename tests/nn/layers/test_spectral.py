# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sstfill.nn.discriminator import FrameDiscriminator, SequenceDiscriminator
from sstfill.nn.generator import Generator
from sstfill.nn.layers.spectral import spectral
from sstfill.nn.recurrent import RecurrentGenerator

KINDS = [Generator, RecurrentGenerator, FrameDiscriminator, SequenceDiscriminator]


def norms(convolutions: list[Any]) -> list[float]:
    """Largest singular value of each weight, as a matrix of outputs by inputs and kernel."""
    return [torch.linalg.matrix_norm(c.weight.detach().flatten(1), 2).item() for c in convolutions]


@pytest.mark.parametrize("kind", KINDS)
def test_every_convolution_is_bound(kind: Any) -> None:
    # the least that discriminators take; generators take less
    side = 33 if "Discriminator" in kind.__name__ else 4
    network, values = kind(base=2), torch.rand(1, 1, 2, side, side)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    for convolution in convolutions:  # far from where normalisation began
        nn.init.normal_(convolution.parametrizations.weight.original, 0.1, 3.0)
    mask = () if "Discriminator" in kind.__name__ else (values > 0.5,)
    network.eval()
    assert max(norms(convolutions)) > 10
    network.train()
    with torch.no_grad():
        for _ in range(40):
            network(values, *mask)
    network.eval()
    assert len(convolutions) >= 8
    assert norms(convolutions) == pytest.approx(
        [1.0] * len(convolutions), abs=0.1
    )  # close singular values take long


def test_weights_begin_as_the_paper_says() -> None:
    convolution = spectral(nn.Conv3d(32, 32, 3))
    weight = convolution.parametrizations.weight.original.detach()
    assert float(weight.std()) == pytest.approx(0.02, rel=0.02)
    assert float(weight.mean()) == pytest.approx(0.0, abs=5e-4)
    assert not bool(convolution.bias.any())


def test_evaluation_leaves_the_weight_alone() -> None:
    convolution, x = spectral(nn.Conv2d(3, 4, 3)).eval(), torch.rand(1, 3, 5, 5)
    nn.init.normal_(convolution.parametrizations.weight.original)
    assert torch.equal(convolution(x), convolution(x))
    convolution.train()
    assert not torch.equal(convolution(x), convolution(x))
