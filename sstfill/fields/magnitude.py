# SPDX-License-Identifier: Apache-2.0
"""Rescale a field of unusual magnitude for the methods, and bring their estimates back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError

USUAL = (1e-12, 1e12)
"""A field whose largest absolute value lies between these is not rescaled.

Squares of such values and their sums fit single precision.
"""
EXTREME = (1e-30, 1e30)
"""Beyond these an error in single precision could vanish or become infinite."""
ROUNDED = 1e-6
"""Fraction by which a value may lie beyond a limit: 1e30 in single precision is a little more."""
NARROW = 1e-5
"""If the range is a smaller fraction of the values, the middle is subtracted first.

Otherwise it would be lost to rounding in single precision.
"""
IN_UNITS = ("mae", "rmse", "bias", "std")
"""Entries of a score that have the units of the field."""


@dataclass(frozen=True)
class Magnitude:
    """The rescaling of a field, ``(values - shift) / factor``.

    The factor is a power of two, so that nothing is rounded. Fields of usual magnitude have shift 0
    and factor 1, and are passed to the methods unchanged.
    """

    shift: float = 0.0
    factor: float = 1.0

    @classmethod
    def of(cls, name: str, least: float, most: float, dtype: np.dtype) -> Magnitude:
        """Choose shift and factor for a field by its least and most value.

        Raises
        ------
        InputError
            If the values are too large or too small for errors in single precision.

        Examples
        --------
        >>> Magnitude.of("sst", 271.0, 305.0, np.dtype("f4"))
        Magnitude(shift=0.0, factor=1.0)
        >>> Magnitude.of("power", 0.0, 2.0e20, np.dtype("f4")).factor == 2.0**67
        True
        """
        largest = max(abs(least), abs(most))
        if not largest > 0:  # nothing but zeros, or nothing observed (NaN)
            return cls()
        if not _is_within(largest, EXTREME):
            raise _refusal(name, least, most, EXTREME)
        width = most - least
        shift, remaining = 0.0, largest
        # single precision has lost the range already; nothing is gained by a shift
        if dtype.itemsize > 4 and EXTREME[0] < width < NARROW * largest:
            shift, remaining = least + width / 2, width / 2
        if USUAL[0] <= remaining <= USUAL[1]:
            return cls(shift)
        return cls(shift, 2.0 ** round(math.log2(remaining)))


class Rescaling:
    """The rescaling of one field, or of several along ``variable``.

    Attributes
    ----------
    usual
        True where no field needs one.
    """

    def __init__(self, magnitudes: dict[str, Magnitude], obs: xr.DataArray) -> None:
        self._by_name = magnitudes
        self._shift = _along_variable([m.shift for m in magnitudes.values()], obs)
        self._factor = _along_variable([m.factor for m in magnitudes.values()], obs)
        self.usual = all(m == Magnitude() for m in magnitudes.values())

    def apply(self, obs: xr.DataArray) -> xr.DataArray:
        """Rescale a field for a method."""
        if self.usual:
            return obs
        return ((obs - self._shift) / self._factor).transpose(*obs.dims).assign_attrs(obs.attrs)

    def invert(self, estimate: xr.Dataset, *, normalised: bool = False) -> xr.Dataset:
        """Bring an estimate back to the units of the field; its attributes record the rescaling.

        Parameters
        ----------
        estimate
            ``mean``, ``error``, ``members`` and the other fields that a method returns.
        normalised
            Whether the method's singular values have no units.
        """
        if self.usual:
            return estimate
        scaled = ["mean", "error", "members"]
        if not normalised and isinstance(self._factor, float):
            scaled.append("singular_value")
        restored = estimate.copy()
        for name in scaled:
            if name in estimate:
                before = estimate[name]
                after = before * self._factor
                if name in ("mean", "members"):
                    after = after + self._shift
                # a factor of each variable broadcasts `variable` to the front
                after = after.astype(before.dtype).transpose(*before.dims)
                restored[name] = after.assign_attrs(before.attrs)
        used = {name: {"shift": m.shift, "factor": m.factor} for name, m in self._by_name.items()}
        return restored.assign_attrs(fitted_to_values_less_shift_over_factor=used)

    def score(self, name: str, summary: dict[str, Any]) -> dict[str, Any]:
        """Bring the entries of a score back to the units of the field."""
        factor = self._by_name[name].factor
        return {k: v * factor if k in IN_UNITS else v for k, v in summary.items()}

    def values(self, name: str, rescaled: NDArray) -> NDArray:
        """Bring values of one field back to its units."""
        magnitude = self._by_name[name]
        return rescaled * magnitude.factor + magnitude.shift


def check_usual(name: str, least: float, most: float) -> None:
    """Raise `InputError` for a field of odd magnitude, where it cannot be changed (an archive)."""
    largest = max(abs(least), abs(most))
    if largest > 0 and not _is_within(largest, USUAL):
        raise _refusal(name, least, most, USUAL)


def _is_within(largest: float, limits: tuple[float, float]) -> bool:
    return limits[0] * (1 - ROUNDED) <= largest <= limits[1] * (1 + ROUNDED)


def _refusal(name: str, least: float, most: float, limits: tuple[float, float]) -> InputError:
    value = least if abs(least) > abs(most) else most
    if abs(value) > limits[1]:
        return InputError(
            f"{name!r} holds {value:g}, and values beyond {limits[1]:g} cannot be filled; set "
            "values that are not observations to NaN, "
            f"ds.where(abs(ds[{name!r}]) < {limits[1]:g}), or change the units"
        )
    return InputError(
        f"{name!r} holds nothing larger than {abs(value):g}, and values below {limits[0]:g} cannot "
        f"be filled; change the units, or set ds[{name!r}] to 0 if it is rounding"
    )


def _along_variable(numbers: Sequence[float], obs: xr.DataArray) -> Any:
    if "variable" not in obs.dims:
        return numbers[0]
    return xr.DataArray(np.array(numbers, obs.dtype), dims="variable")
