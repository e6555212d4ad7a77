# SPDX-License-Identifier: Apache-2.0
"""Pass the frames of a sequence through a layer few at a time, where no gradient is wanted.

What a layer makes of a whole sequence takes hundreds of megabytes: the system maps them anew for
each layer, which took as long as the arithmetic. What it makes of few frames stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BYTES = 2**20
"""Size of the frames that are passed at once, about; up to eight times as many cost the same."""


def sparing(h: Tensor) -> bool:
    """Whether layers pass few frames of `h` at a time, and may overwrite it.

    A GPU keeps its memory, and is slowed by many small kernels.
    """
    return torch.is_inference_mode_enabled() and h.device.type == "cpu"


def few(h: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """Split frames n c y x into views of few frames each, or of few rows (axis 2) of all frames."""
    one = h.numel() // h.shape[axis] * h.element_size()
    return h.split(max(1, BYTES // one), axis)


def by_frame(function: Callable[..., Tensor], frames: Tensor, *others: Tensor) -> Tensor:
    """Apply a function of single frames, n c y x each, to all frames or to few at a time.

    Parameters
    ----------
    function
        Called with some frames of each argument; what it returns of a frame does not depend on the
        others.
    frames, others
        Sequences of as many frames; `frames` has the largest.
    """
    if not sparing(frames):
        return function(frames, *others)
    parts = few(frames)
    size = len(parts[0])
    made = function(*(sequence[:size] for sequence in (frames, *others)))
    shape = (len(frames), *made.shape[1:])
    out = torch.empty(shape, dtype=made.dtype, memory_format=torch.channels_last)
    out[:size] = made
    for start in range(size, len(frames), size):
        here = slice(start, start + size)
        out[here] = function(*(sequence[here] for sequence in (frames, *others)))
    return out
