# SPDX-License-Identifier: Apache-2.0
"""How finely observations are recorded: no error is stated that is less than their rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.checks import check_number

UNIFORM = 1 / math.sqrt(12)
"""Standard deviation of a rounding error, which is uniform, over the step of the rounding."""
LEAST = float(np.finfo(np.float32).tiny)
"""Least error that is stated: the smallest number that single precision holds in full."""
LARGEST = 1.001e30
"""No field of larger values is filled."""
SINGLE = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Rounding:
    """The steps in which the values of a variable are recorded.

    A filled pixel is known no better than a value can be recorded, whatever a method states:
    its error is at least the standard deviation of the rounding.

    Attributes
    ----------
    step
        Of packed values (``scale_factor``), field units; 0 where they are not packed.
    relative
        Of floating-point values, as a fraction of their size.
    magnitude
        Size that every value has at least in this respect: the largest of the field, for 0 is
        rounded as the values are that it is estimated from. It is 0 for transformed variables,
        whose values differ by orders of magnitude.
    """

    step: float = 0.0
    relative: float = SINGLE
    magnitude: float = 0.0

    def __post_init__(self) -> None:
        check_number("step", self.step, 0, LARGEST)
        check_number("relative", self.relative, 0, 1, above=True)
        check_number("magnitude", self.magnitude, 0, LARGEST)

    @classmethod
    def of(cls, variable: xr.DataArray, magnitude: float) -> Rounding:
        """Find the steps of a variable by its dtype and its encoding.

        `magnitude` is NaN where nothing is observed.

        Examples
        --------
        >>> sst = xr.DataArray(np.float32([18.5, 21.0]))
        >>> Rounding.of(sst, 21.0).step
        0.0
        >>> sst.encoding = {"dtype": "int16", "scale_factor": 0.01}
        >>> Rounding.of(sst, 21.0).step
        0.01
        """
        step = packing_step(variable)
        # infinite where nothing is packed
        if step > LARGEST:
            step = 0.0
        relative = float(np.finfo(variable.dtype).eps)
        stored = np.dtype(variable.encoding.get("dtype", variable.dtype))
        if stored.kind == "f":
            # float64 in memory may come from float32 on disk
            relative = max(relative, float(np.finfo(stored).eps))
        return cls(step, relative, float(np.nan_to_num(magnitude)))

    def at_least(self, error: xr.DataArray, values: xr.DataArray) -> xr.DataArray:
        """Raise errors to the standard deviation of the rounding; single precision, lazy or not.

        Parameters
        ----------
        error
            One sigma, field units, NaN where there is none; any dims.
        values
            What the errors are of, the same dims.
        """
        raised = xr.apply_ufunc(
            self._raised,
            error,
            values,
            # both lie on one grid, so their positions need not be compared
            join="override",
            dask="parallelized",
            output_dtypes=[np.float32],
        )
        return raised.transpose(*error.dims)

    def _raised(self, error: NDArray, values: NDArray) -> NDArray[np.float32]:
        raised = np.empty(error.shape, np.float32)
        relative = np.float64(self.relative)
        common = max(self.step, self.relative * self.magnitude, LEAST / UNIFORM)
        for image in np.ndindex(error.shape[:-2]):  # image by image, which needs less memory
            step = np.maximum(relative * np.abs(values[image]), common)
            raised[image] = np.maximum(error[image], UNIFORM * step)
        return raised


SINGLE_PRECISION = Rounding()
"""Of values that are not packed."""


def packing_step(variable: xr.DataArray) -> float:
    """Return the step of a packed variable, field units; infinite where it is not packed."""
    encoding = variable.encoding
    if np.dtype(encoding.get("dtype", variable.dtype)).kind not in "iu":
        return np.inf
    step = abs(float(np.ravel(encoding.get("scale_factor", 1.0))[0]))
    return step if step > 0 else np.inf
