# SPDX-License-Identifier: Apache-2.0
"""Occlude a sequence, and put its observed pixels back.

Equation 6 is how Yin, Pajot, de Bezenac and Gallinari (2019), "the paper", handle the likelihood
(equation 5): a generator that copies what was
observed reproduces it exactly, so data consistency needs no term in the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sstfill.nn.shapes import check_observed


def occlude(values: Tensor, observed: Tensor, fill: float) -> Tensor:
    """Set what is not observed to a constant: x*m + c*(1-m), equation 1 of the paper.

    A selection, so that a NaN in a gap neither survives nor spoils a gradient.

    Parameters
    ----------
    values
        Any shape; gaps may hold anything.
    observed
        True where `values` are seen, same shape, boolean.
    fill
        The constant c.

    >>> occlude(torch.tensor([0.5, float("nan")]), torch.tensor([True, False]), 1.0)
    tensor([0.5000, 1.0000])
    """
    check_observed(values, observed)
    return torch.where(observed, values, fill)


def keep_observed(values: Tensor, observed: Tensor, estimate: Tensor) -> Tensor:
    """Compose a completed sequence: m*y + (1-m)*phi(y), equation 6 of the paper.

    Observed values stay bit-identical; `estimate` receives a gradient in the gaps only.

    Parameters
    ----------
    values, observed
        The observations, as in `occlude`.
    estimate
        The network's estimate phi(y), same shape.

    >>> values, observed = torch.tensor([0.5, float("nan")]), torch.tensor([True, False])
    >>> keep_observed(values, observed, torch.tensor([9.0, 8.0]))
    tensor([0.5000, 8.0000])
    """
    check_observed(values, observed)
    return torch.where(observed, values, estimate)
