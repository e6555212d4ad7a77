# SPDX-License-Identifier: Apache-2.0
"""Hinge losses of the GAN, and pixel losses over withheld clouds.

Equations are of Yin, Pajot, de Bezenac and Gallinari (2019), "the paper". Data consistency has no
loss here: a generator of equation 6 copies what was observed (`sstfill.nn.masking`). The
adversarial loss of equation 4 is a sum over D_s and D_f with weights 1:1; the caller adds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sstfill.errors import InputError
from sstfill.nn.shapes import check_observed

LOG_SCALE = (-7.0, 7.0)
"""Range of a network's log scale: from 0.0009 to 1100 in the units of scaled data.

Below it one pixel that fits by chance would dominate a batch, as its gradient grows with the
inverse of the scale; above it a stated error means nothing. Outside it the scale has no gradient.
"""


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Compute a discriminator's loss, mean max(0, 1 - D(y)) + mean max(0, 1 + D(y_hat)).

    This is equation 4 as a hinge, that of Zhang et al. (2019), equation 4. The mean over frames of
    D_f is the 1/T sum of the paper.

    Parameters
    ----------
    real, fake
        Scores of observed and of generated sequences, of any shape.

    >>> discriminator_hinge(torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.0]))
    tensor(0.7500)
    """
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """Compute the generator's loss against one discriminator, -mean D(y_hat).

    Parameters
    ----------
    fake
        Scores of generated sequences, of any shape.

    >>> generator_hinge(torch.tensor([2.0, -1.0]))
    tensor(-0.5000)
    """
    return -fake.mean()


def masked_l1(estimate: Tensor, target: Tensor, withheld: Tensor) -> Tensor:
    """Compute the mean absolute error over withheld pixels.

    Parameters
    ----------
    estimate, target
        The network's estimate and the observation, same shape; not read where not withheld
        (NaN is allowed).
    withheld
        True at pixels that were observed and hidden from the network; boolean, same shape.

    Raises
    ------
    InputError
        If shapes differ, no pixel is withheld, or a withheld one has no finite target.

    >>> estimate, target = torch.tensor([1.0, 9.0]), torch.tensor([3.0, float("nan")])
    >>> masked_l1(estimate, target, torch.tensor([True, False]))
    tensor(2.)
    """
    return _mean(_misfit(estimate, target, withheld).abs(), withheld)


def laplace_nll(estimate: Tensor, log_scale: Tensor, target: Tensor, withheld: Tensor) -> Tensor:
    """Compute the mean negative log likelihood of Laplace errors, |d|/s + log 2s.

    The most likely estimate is the conditional median, so this is the density to train for a low
    MAE. One sigma is sqrt(2) s.

    Parameters
    ----------
    log_scale
        Natural logarithm of the scale s, clamped to `LOG_SCALE`; same shape as the estimate.
    estimate, target, withheld
        As for `masked_l1`, with its errors.

    >>> estimate, log_scale, target = torch.tensor([[1.0], [0.0], [3.0]])
    >>> laplace_nll(estimate, log_scale, target, torch.tensor([True]))
    tensor(2.6931)
    """
    misfit = _misfit(estimate, target, withheld)
    if log_scale.shape != withheld.shape:
        raise InputError(
            f"log scale {tuple(log_scale.shape)} and mask {tuple(withheld.shape)} differ in shape"
        )
    # 0 where nothing is withheld, so that no gradient comes from there
    log_scale = torch.where(withheld, log_scale, 0.0).clamp(*LOG_SCALE)
    return _mean(misfit.abs() * (-log_scale).exp() + log_scale + math.log(2), withheld)


def _misfit(estimate: Tensor, target: Tensor, withheld: Tensor) -> Tensor:
    """Subtract the target from the estimate where withheld; 0 without a gradient elsewhere."""
    check_observed(target, withheld)
    if estimate.shape != target.shape:
        raise InputError(
            f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} differ in shape"
        )
    if not bool(withheld.any()):
        raise InputError(
            "no pixel is withheld; hide some that were observed, or leave this sample out"
        )
    if not bool(target.isfinite().logical_or(~withheld).all()):
        raise InputError(
            "a withheld pixel has no finite target; withhold pixels that were observed"
        )
    return torch.where(withheld, estimate - target, 0.0)


def _mean(loss: Tensor, withheld: Tensor) -> Tensor:
    """Average over withheld pixels."""
    # a selection: a NaN times 0 would still be NaN
    return torch.where(withheld, loss, 0.0).sum() / withheld.sum()
