# SPDX-License-Identifier: Apache-2.0
"""Seeded torch, and small sequences with gaps for the networks' tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Sequence = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Let every test of a network begin from the same random numbers."""
    torch.manual_seed(0)


@pytest.fixture
def gappy() -> Sequence:
    """Make a pair (values, observed), half observed, NaN in the gaps."""

    def make(*shape: int) -> tuple[Tensor, Tensor]:
        observed = torch.rand(shape) < 0.5
        return torch.where(observed, torch.rand(shape) * 1.6 - 0.8, float("nan")), observed

    return make
