# SPDX-License-Identifier: Apache-2.0
"""Bring a field of odd magnitude to one that methods can compute with, and their estimates back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sstfill.errors import InputError

USUAL = (1e-12, 1e12)
"""Largest absolute values between these are left as they are: squares and their sums fit single
precision.
"""
EXTREME = (1e-30, 1e30)
"""Beyond these an error, which is kept in single precision, could vanish or become infinite."""
NARROW = 1e-5
"""A range that is a smaller share of the values drowns in single precision; then the middle is
taken off.
"""
IN_UNITS = ("mae", "rmse", "bias", "std")
"""Entries of a score that have the units of the field."""


@dataclass(frozen=True)
class Magnitude:
    """How a field is changed before methods see it: ``(values - shift) / factor``.

    The factor is a power of two, so that nothing is rounded. Usual fields have none (shift 0,
    factor 1) and reach the methods as they are.
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
        if not EXTREME[0] <= largest <= EXTREME[1]:
            raise _refused(name, least if abs(least) > abs(most) else most, EXTREME)
        width = most - least
        narrow = dtype.itemsize > 4 and EXTREME[0] < width < NARROW * largest
        shift = least + width / 2 if narrow else 0.0
        remaining = width / 2 if narrow else largest
        if USUAL[0] <= remaining <= USUAL[1]:
            return cls(shift)
        return cls(shift, 2.0 ** round(math.log2(remaining)))


class Tamed:
    """The magnitudes of one field, or of several along ``variable``.

    Attributes
    ----------
    usual
        True where nothing is to be done.
    """

    def __init__(self, magnitudes: dict[str, Magnitude], obs: xr.DataArray) -> None:
        self._by_name = magnitudes
        self._shift = _laid_out([m.shift for m in magnitudes.values()], obs)
        self._factor = _laid_out([m.factor for m in magnitudes.values()], obs)
        self.usual = all(m == Magnitude() for m in magnitudes.values())

    def apply(self, obs: xr.DataArray) -> xr.DataArray:
        """Change a field before methods see it."""
        if self.usual:
            return obs
        return ((obs - self._shift) / self._factor).transpose(*obs.dims).assign_attrs(obs.attrs)

    def invert(self, estimate: xr.Dataset, *, normalised: bool = False) -> xr.Dataset:
        """Bring what a method returned back to the units of the field; its attributes say what was
        done.

        Parameters
        ----------
        estimate
            ``mean``, ``error``, and what else a method returns.
        normalised
            Whether the method's singular values have no units.
        """
        if self.usual:
            return estimate
        found = estimate.assign(
            mean=_kept(estimate["mean"] * self._factor + self._shift, estimate["mean"])
        )
        if "error" in found:
            found["error"] = _kept(estimate["error"] * self._factor, estimate["error"])
        if "singular_value" in found and not normalised and isinstance(self._factor, float):
            found["singular_value"] = _kept(
                estimate["singular_value"] * self._factor, estimate["singular_value"]
            )
        told = {name: {"shift": m.shift, "factor": m.factor} for name, m in self._by_name.items()}
        return found.assign_attrs(
            estimate.attrs | {"fitted_to_values_less_shift_over_factor": told}
        )

    def score(self, name: str, summary: dict[str, Any]) -> dict[str, Any]:
        """Bring the entries of a score back to the units of the field."""
        factor = self._by_name[name].factor
        return {k: v * factor if k in IN_UNITS else v for k, v in summary.items()}


def check_usual(name: str, least: float, most: float) -> None:
    """Raise `InputError` for a field of odd magnitude, where it cannot be changed (an archive)."""
    largest = max(abs(least), abs(most))
    if largest > 0 and not USUAL[0] <= largest <= USUAL[1]:
        raise _refused(name, least if abs(least) > abs(most) else most, USUAL)


def _refused(name: str, value: float, limits: tuple[float, float]) -> InputError:
    if abs(value) > limits[1]:
        return InputError(
            f"{name!r} holds {value:g}, and values beyond {limits[1]:g} cannot be filled; make what is no "
            f"observation missing, ds.where(abs(ds[{name!r}]) < {limits[1]:g}), or change the units"
        )
    return InputError(
        f"{name!r} holds nothing larger than {abs(value):g}, and values below {limits[0]:g} cannot be "
        f"filled; change the units, or set ds[{name!r}] to 0 if it is rounding"
    )


def _laid_out(numbers: Sequence[float], obs: xr.DataArray) -> Any:
    if "variable" not in obs.dims:
        return numbers[0]
    return xr.DataArray(np.array(numbers, obs.dtype), dims="variable")


def _kept(changed: xr.DataArray, before: xr.DataArray) -> xr.DataArray:
    return changed.astype(before.dtype).transpose(*before.dims).assign_attrs(before.attrs)
