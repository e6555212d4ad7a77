# SPDX-License-Identifier: Apache-2.0
"""Choose the device that torch runs on."""

from __future__ import annotations

import os

from sstfill.errors import OptionError

DEVICES = ("auto", "cpu", "cuda")


def pick_device(device: str) -> str:
    """Choose the device of this process: "cpu", or "cuda" with its index under torchrun.

    Parameters
    ----------
    device
        "cpu", "cuda", or "auto": a GPU if there is one. Torch is not loaded for "cpu".

    Raises
    ------
    OptionError
        If a GPU is asked for and there is none, or no torch.

    >>> pick_device("cpu")
    'cpu'
    """
    if device == "cpu":
        return device
    try:
        import torch
    except ImportError:
        if device == "auto":
            return "cpu"
        raise OptionError(
            f"device={device!r} needs torch: pip install torch, or give device='cpu'"
        ) from None
    if torch.cuda.is_available():
        # torchrun starts one process for each GPU and numbers them
        if "LOCAL_RANK" in os.environ:
            return f"cuda:{os.environ['LOCAL_RANK']}"
        return "cuda"
    if device == "auto":
        return "cpu"
    raise OptionError(
        "device='cuda', but torch sees no GPU; "
        "give device='cpu' or 'auto', or install torch for CUDA"
    )
