# SPDX-License-Identifier: Apache-2.0
"""Scale what a method states of its error, as withheld pixels showed it must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr


def calibrated(
    estimate: xr.Dataset, sigma_scale: Mapping[str, float], variables: Sequence[str]
) -> xr.Dataset:
    """Scale the error of an estimate, and the distance of its members from the mean.

    The estimate must be in the space that the method saw, where the scale was found.

    Parameters
    ----------
    estimate
        ``mean`` and, where the method knows them, ``error`` and ``members``.
    sigma_scale
        Factor of the error by variable; 1 where it is not given.
    variables
        Names along ``variable``, or the one name of a field.
    """
    factors = [np.float32(sigma_scale.get(name, 1.0)) for name in variables]
    factor: Any = factors[0]
    if "variable" in estimate["mean"].dims:
        factor = xr.DataArray(factors, dims="variable")
    scaled = {}
    if "error" in estimate:
        error = estimate["error"]
        scaled["error"] = (error.astype(np.float32) * factor).transpose(*error.dims)
    if "members" in estimate:
        members, mean = estimate["members"], estimate["mean"]
        apart = (members - mean) * factor
        scaled["members"] = (mean + apart).astype(members.dtype).transpose(*members.dims)
    return estimate.assign(scaled)
