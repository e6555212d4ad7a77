# SPDX-License-Identifier: Apache-2.0
"""Bring one picture into the form of the store: cropped, gray or in colours, resized."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sstfill.checks import check_choice, check_number
from sstfill.errors import InputError, OptionError

Crop = Literal["none", "center"] | tuple[int, int, int, int]
Dtype = Literal["uint8", "float32"]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in ITU-R BT.601, as in JPEG."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How each picture is cropped, resized and stored.

    Parameters
    ----------
    size
        Height and width of the result in pixels; None keeps the picture's own.
    gray
        One channel (BT.601 luma) in place of red, green, blue.
    crop
        ``"none"``, ``"center"`` (the largest square in the middle), or ``(top, left, height,
        width)`` in pixels.
    dtype
        ``"uint8"``, or ``"float32"`` with the values as they came (pictures 0 to 255).

    >>> Framing(size=2, gray=True)(np.full((4, 6, 3), 7, np.uint8), "clip").tolist()
    [[[7, 7], [7, 7]]]
    """

    size: int | None = 64
    gray: bool = False
    crop: Crop = "none"
    dtype: Dtype = "uint8"

    def __post_init__(self) -> None:
        if self.size is not None:
            check_number("size", self.size, 1, whole=True)
        check_choice("dtype", self.dtype, ("uint8", "float32"))
        if isinstance(self.crop, str):
            if self.crop not in ("none", "center"):
                raise OptionError(
                    f"crop={self.crop!r}; choose from none, center, or top,left,height,width in "
                    "pixels"
                )
            return
        whole = all(type(n) is int for n in self.crop)
        if len(self.crop) != 4 or not whole or min(self.crop[2:]) < 1:
            raise OptionError(
                f"crop={self.crop!r}; give four whole numbers of pixels: top, left, height, width"
            )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of the result."""
        if self.gray:
            return ("gray",)
        return ("red", "green", "blue")

    def __call__(self, picture: NDArray[Any], label: str) -> NDArray[Any]:
        """Bring a picture ``(y, x, channel)`` to ``(channel, y, x)``; errors name it `label`."""
        if self.dtype == "uint8":
            _check_bytes(picture, label)
        cut = picture[self._window(picture.shape[:2], label)]
        planes: NDArray[Any] = np.moveaxis(self._colours(cut, label), -1, 0)
        height, width = planes.shape[1:]
        if self.size is not None and (height, width) != (self.size, self.size):
            # a weight of 0 times NaN is NaN: one missing pixel would spoil its row and column
            if not np.isfinite(planes).all():
                raise InputError(
                    f"{label} has missing values, which cannot be resized; keep its size: size=None"
                )
            # linear interpolation is separable: rows, then columns
            planes = _weights(height, self.size) @ planes @ _weights(width, self.size).T
        if self.dtype == "float32":
            return planes
        # clipped: an integer type would wrap around in silence
        return np.clip(np.rint(planes), 0, 255).astype(np.uint8)

    def _window(self, shape: tuple[int, ...], label: str) -> tuple[slice, slice]:
        if self.crop == "none":
            return slice(None), slice(None)
        if self.crop == "center":
            side = min(shape)
            top, left, height, width = (shape[0] - side) // 2, (shape[1] - side) // 2, side, side
        else:
            assert not isinstance(self.crop, str)
            top, left, height, width = self.crop
        if min(top, left) < 0 or top + height > shape[0] or left + width > shape[1]:
            raise InputError(
                f"{label} is {shape[0]}x{shape[1]}, which crop={self.crop} leaves; "
                "choose a smaller crop"
            )
        return slice(top, top + height), slice(left, left + width)

    def _colours(self, picture: NDArray[Any], label: str) -> NDArray[np.float32]:
        count = picture.shape[2]
        if count not in (1, 3):
            raise InputError(f"{label} has {count} channels; give 1 (gray) or 3 (red, green, blue)")
        values = picture.astype(np.float32)
        if self.gray and count == 3:
            return values @ LUMA[:, None]
        if not self.gray and count == 1:
            return np.repeat(values, 3, axis=2)
        return values


def _check_bytes(picture: NDArray[Any], label: str) -> None:
    """Refuse values that do not fit uint8 rather than scale them by a guess."""
    if picture.dtype == np.uint8:
        return
    if picture.dtype.kind not in "iu":
        raise InputError(
            f"{label} holds {picture.dtype} values, whose range is not known; "
            "choose dtype='float32'"
        )
    if picture.size and (picture.min() < 0 or picture.max() > 255):
        raise InputError(
            f"{label} holds {picture.min()} to {picture.max()}, beyond 0 to 255; "
            "choose dtype='float32'"
        )


@lru_cache(maxsize=64)
def _weights(given: int, wanted: int) -> NDArray[np.float32]:
    """Return the weights ``(wanted, given)`` of linear interpolation along one axis.

    If it shrinks the picture, they are widened so that no pixel is passed over.
    """
    scale = given / wanted
    centres = (np.arange(wanted) + 0.5) * scale
    # in pixels of the result where it shrinks, else in those of the picture
    away = np.abs(np.arange(given) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = np.clip(1 - away, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
