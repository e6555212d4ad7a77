# SPDX-License-Identifier: Apache-2.0
"""What a measurement operator is, and its pure half: occlude a sequence, and read the mask off an
occluded one.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sstfill.checks import check_share
from sstfill.errors import OptionError

Shape = tuple[int, int, int]
Mask = NDArray[np.bool_]


class Occlusion(Protocol):
    """A random measurement process: hashable, its fields are its parameters."""

    name: ClassVar[str]
    fill_value: ClassVar[float]

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` (True = seen) of `shape` (time, y, x)."""
        ...


def apply(values: Any, observed: Any, fill: float) -> Any:
    """Occlude a sequence: x*m + c*(1-m), equation 1 of the paper.

    Written as a selection, so that observed values stay bit-identical and a NaN under the mask does
    not survive.

    Parameters
    ----------
    values
        Floating array, ``(..., time, y, x)``: NumPy, or of a kind with a ``where`` method (xarray;
        torch, where it is differentiable). Not modified.
    observed
        True where `values` are seen, of a shape that broadcasts against theirs; a tensor where
        `values` is one.
    fill
        The constant c that occluded pixels are set to.

    >>> apply(np.array([[1.5, 2.5]]), np.array([True, False]), 0.0)
    array([[1.5, 0. ]])
    """
    if hasattr(values, "where"):
        return values.where(observed, fill)
    return np.where(observed, values, fill)


def recover(values: Any, fill: float) -> Any:
    """Read the mask `observed` off an occluded sequence: the inverse of `apply`.

    One case is ambiguous: an observed value that equals `fill` itself (with NaN: one that is NaN)
    passes for occluded. Values scaled into (-1, 1) have none such with the paper's c = 1; with c =
    0 a zero is one, of either sign.

    Parameters
    ----------
    values
        What `apply` returned, of any shape and kind: NumPy, xarray (lazy stays lazy) or torch.
    fill
        The constant c that occluded pixels were set to; NaN where gaps are NaN.

    Returns
    -------
    bool, of the kind and shape of `values`, channels apart: True where seen.

    >>> recover(np.array([1.5, 0.0]), 0.0), recover(np.array([np.nan, 1.0]), np.nan)
    (array([ True, False]), array([False,  True]))
    """
    constant = float(
        fill
    )  # a Python float is compared in the precision of the values, a NumPy one is not
    return (
        values == values if np.isnan(constant) else values != constant
    )  # NaN alone differs from itself


def checked(shape: Shape) -> Shape:
    """Return a shape (time, y, x); `OptionError` unless it is three whole numbers, each 1 or more."""
    if len(shape) != 3 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in shape):
        raise OptionError(
            f"shape={shape!r}; give whole numbers of frames, rows and columns, each 1 or more"
        )
    return shape


def check_span(option: str, least: float, most: float, *, zero: bool = False) -> None:
    """Raise `OptionError` unless ``min_<option>`` and ``max_<option>`` are shares in order."""
    check_share(f"min_{option}", least, zero=zero)
    check_share(f"max_{option}", most, zero=zero)
    check_order(option, least, most)


def check_order(option: str, least: float, most: float) -> None:
    """Raise `OptionError` where ``min_<option>`` is above ``max_<option>``."""
    if least > most:
        raise OptionError(f"min_{option}={least!r} is above max_{option}={most!r}; swap them")


def flipped(augment: bool, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the steps, 1 or -1, in which rows and columns are taken; (1, 1) without `augment`, and
    nothing is drawn.
    """
    down, right = rng.choice([-1, 1], 2) if augment else (1, 1)
    return int(down), int(right)
