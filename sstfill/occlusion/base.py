# SPDX-License-Identifier: Apache-2.0
"""The protocol of measurement operators, and their pure half: occlude a sequence, and back."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sstfill.checks import check_fraction
from sstfill.errors import OptionError

Shape = tuple[int, int, int]
Mask = NDArray[np.bool_]


class Occlusion(Protocol):
    """A random measurement process; hashable, and its fields are its parameters."""

    name: ClassVar[str]
    fill_value: ClassVar[float]

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask of `shape` (time, y, x), True where observed."""
        ...


def apply(values: Any, observed: Any, fill: float) -> Any:
    """Occlude a sequence: ``x*m + c*(1-m)``, equation 1 of the paper.

    It is computed as a selection, so that observed values stay bit-identical and a NaN under the
    mask does not survive.

    Parameters
    ----------
    values
        Floating array, ``(..., time, y, x)``: NumPy, or of a kind with a ``where`` method (xarray;
        torch, where it is differentiable). Not modified.
    observed
        True where `values` are observed, of a shape that broadcasts against theirs; a tensor where
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

    An observed value that equals `fill` (with NaN: one that is NaN) is taken for occluded. Values
    scaled into (-1, 1) never equal the paper's c = 1; with c = 0 a zero of either sign does.

    Parameters
    ----------
    values
        The result of `apply`, of any shape and kind: NumPy, xarray (lazy stays lazy) or torch.
    fill
        The constant c that occluded pixels were set to; NaN where gaps are NaN.

    Returns
    -------
    bool, of the kind and shape of `values`: True where observed, each channel on its own.

    >>> recover(np.array([1.5, 0.0]), 0.0), recover(np.array([np.nan, 1.0]), np.nan)
    (array([ True, False]), array([False,  True]))
    """
    # A Python float is compared in the precision of the values, a NumPy one is not.
    constant = float(fill)
    if np.isnan(constant):
        return values == values  # NaN alone differs from itself
    return values != constant


def checked(shape: Shape) -> Shape:
    """Return a shape (time, y, x); `OptionError` unless it is three whole numbers above 0."""
    if len(shape) != 3 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in shape):
        raise OptionError(
            f"shape={shape!r}; give whole numbers of frames, rows and columns, each 1 or more"
        )
    return shape


def check_span(option: str, least: float, most: float, *, zero: bool = False) -> None:
    """Raise `OptionError` unless ``min_<option>`` and ``max_<option>`` are fractions in order."""
    check_fraction(f"min_{option}", least, zero=zero)
    check_fraction(f"max_{option}", most, zero=zero)
    check_order(option, least, most)


def check_order(option: str, least: float, most: float) -> None:
    """Raise `OptionError` where ``min_<option>`` is above ``max_<option>``."""
    if least > most:
        raise OptionError(f"min_{option}={least!r} is above max_{option}={most!r}; swap them")


def flipped(augment: bool, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the steps, 1 or -1, by which rows and columns are read; without `augment` both are 1."""
    if not augment:
        return 1, 1
    down, right = rng.choice([-1, 1], 2)
    return int(down), int(right)
