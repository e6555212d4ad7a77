# SPDX-License-Identifier: Apache-2.0
"""Mask missing values that a decoder overlooks: mistyped ones, and those outside the valid range.

Rules: NetCDF Users' Guide, Attribute Conventions (a valid range is in packed units unless it is
floating).
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from sstfill.fields.variables import find_fields


def is_masked(da: xr.DataArray) -> bool:
    """Whether `mask_missing` has to look at the values of a field."""
    return bool(overlooked(da)) or valid_range(da) != (None, None)


def mask_missing(ds: xr.Dataset) -> xr.Dataset:
    """Make overlooked missing values of the candidate fields NaN; attrs and encoding stay."""
    return ds.assign({n: _masked(ds[n]) for n in find_fields(ds)})


def _masked(da: xr.DataArray) -> xr.DataArray:
    low, high = valid_range(da)
    keep = [da != fill for fill in overlooked(da)]
    if low is not None:
        keep.append(da >= low)
    if high is not None:
        keep.append(da <= high)
    if not keep:
        return da
    masked = da.where(functools.reduce(operator.and_, keep))
    return da.copy(deep=False, data=masked.data)


def overlooked(da: xr.DataArray) -> list[Any]:
    """Return the missing values, in the field's own type, that decoding with xarray leaves in it.

    Text for a number, a float64 ``1e20`` on float32 values, or an unpacked ``-9999`` that the
    packed type cannot hold.
    """
    found = []
    for holder in (da.attrs, da.encoding):
        for key in ("missing_value", "_FillValue"):
            declared = holder.get(key, ())
            for number in _numbers(declared):
                if isinstance(declared, str) or not _comparable(number, da):
                    with np.errstate(over="ignore"):
                        found.append(da.dtype.type(number))
    return list(dict.fromkeys(found))


def _comparable(fill: float, da: xr.DataArray) -> bool:
    """Whether comparing stored values with `fill` finds it: NaN, or a number their type holds."""
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    if stored.kind in "iu":
        return bool(np.iinfo(stored).min <= fill <= np.iinfo(stored).max)
    return bool(np.isnan(fill) or float(stored.type(fill)) == fill)


def _numbers(value: object) -> list[float]:
    with contextlib.suppress(ValueError, TypeError):
        return [float(v) for v in np.ravel(np.asarray(value)).tolist()]
    return []


def valid_range(da: xr.DataArray | xr.Variable) -> tuple[float | None, float | None]:
    """Return the lowest and highest valid value in unpacked units, half a packing step wider.

    None stands for no bound.
    """
    both = np.ravel(da.attrs.get("valid_range", ()))
    low, high = both if both.size == 2 else (da.attrs.get("valid_min"), da.attrs.get("valid_max"))
    return _unpacked(da, low, -0.5), _unpacked(da, high, 0.5)


def in_packed_units(bound: object) -> bool:
    """Whether a valid range, by its small integer type, is in packed units."""
    kind = np.asarray(bound).dtype
    return kind.kind in "iu" and kind.itemsize <= 2


def _unpacked(da: xr.DataArray | xr.Variable, bound: object, steps: float) -> float | None:
    numbers = _numbers(bound) if bound is not None else []
    if len(numbers) != 1 or np.isnan(numbers[0]):
        return None
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    if stored.kind not in "iu":
        return None if in_packed_units(bound) else numbers[0]
    scale, offset = scaling(da.encoding)
    margin = steps * abs(scale)
    number = numbers[0]
    if np.asarray(bound).dtype.kind == "f":  # by the conventions, in unpacked units already
        return number + margin
    if scale <= 0:  # turns the range round, which the caller's comparison cannot know
        return None
    if da.encoding.get("_Unsigned") == "true" and number < 0:
        number += 2 ** (8 * stored.itemsize)
    return number * scale + offset + margin


def scaling(encoding: Mapping[str, Any]) -> tuple[float, float]:
    """Return the scale and the offset of a packing."""
    scale = np.ravel(encoding.get("scale_factor", 1))[0]
    offset = np.ravel(encoding.get("add_offset", 0))[0]
    return float(scale), float(offset)
