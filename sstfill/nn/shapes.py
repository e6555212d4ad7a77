# SPDX-License-Identifier: Apache-2.0
"""Checks of the tensors that a network takes, with messages that name the value met."""

from __future__ import annotations

import torch
from torch import Tensor

from sstfill.errors import InputError

AXES = "b c t y x"


def check_sequence(values: Tensor, channels: int, *, frames: int = 1, side: int = 1) -> None:
    """Raise `InputError` unless `values` is a floating ``b c t y x`` of these channels and lengths.

    `frames` and `side` are the least lengths.

    >>> check_sequence(torch.zeros(1, 2, 24, 64, 64), 1)
    Traceback (most recent call last):
    ...
    sstfill.errors.InputError: values have 2 channels, the network 1; give c=1 in b c t y x, ...
    """
    if values.ndim != len(AXES.split()) or not values.is_floating_point():
        raise InputError(
            f"values are {values.dtype} of shape {tuple(values.shape)}; give floating {AXES}"
        )
    batch, found, length, *sides = values.shape
    if found != channels:
        raise InputError(
            f"values have {found} channels, the network {channels}; "
            f"give c={channels} in {AXES}, or build it with channels={found}"
        )
    if batch < 1:
        raise InputError("values hold no sequence (b=0); give at least one")
    if length < frames:
        raise InputError(f"values have {length} frames; give at least {frames}")
    if min(sides) < side:
        raise InputError(
            f"frames of {sides[0]}x{sides[1]} pixels are too small; give at least {side}x{side}"
        )


def check_observed(values: Tensor, observed: Tensor) -> None:
    """Raise `InputError` unless `observed` is boolean and of the shape of `values`.

    >>> check_observed(torch.zeros(2), torch.ones(2))
    Traceback (most recent call last):
    ...
    sstfill.errors.InputError: the mask is torch.float32 of shape (2,); give torch.bool ...
    """
    if observed.dtype != torch.bool or observed.shape != values.shape:
        raise InputError(
            f"the mask is {observed.dtype} of shape {tuple(observed.shape)}; "
            f"give torch.bool of shape {tuple(values.shape)}"
        )
