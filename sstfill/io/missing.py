# SPDX-License-Identifier: Apache-2.0
"""Missing values that a decoder overlooks: mistyped ``missing_value``s, and values outside the
valid range.

Rules: NetCDF Users' Guide, Attribute Conventions (a valid range is in packed units unless it is
floating).
"""

from __future__ import annotations

import contextlib
import functools
import operator
from typing import Any

import numpy as np
import xarray as xr

from sstfill.fields import grid


def is_masked(da: xr.DataArray) -> bool:
    """Whether `mask_missing` has something to do, for which it looks at all values of a field that
    is not chunked.
    """
    return bool(overlooked(da)) or valid_range(da) != (None, None)


def mask_missing(ds: xr.Dataset) -> xr.Dataset:
    """Make overlooked missing values of the candidate fields NaN; attrs and encoding stay."""
    return ds.assign({n: _masked(ds[n]) for n in grid.candidates(ds)})


def _masked(da: xr.DataArray) -> xr.DataArray:
    low, high = valid_range(da)
    keep = [da != fill for fill in overlooked(da)]
    keep += [da >= low] if low is not None else []
    keep += [da <= high] if high is not None else []
    return (
        da.copy(deep=False, data=da.where(functools.reduce(operator.and_, keep)).data)
        if keep
        else da
    )


def overlooked(da: xr.DataArray) -> list[Any]:
    """Missing values, in the field's own type, that decoding with xarray leaves among its values.

    Text for a number, a float64 ``1e20`` on float32 values, or an unpacked ``-9999`` that the
    packed type cannot hold.
    """
    declared = [
        h[k] for h in (da.attrs, da.encoding) for k in ("missing_value", "_FillValue") if k in h
    ]
    fills = [(n, isinstance(value, str)) for value in declared for n in _numbers(value)]
    with np.errstate(over="ignore"):
        return list(
            dict.fromkeys(da.dtype.type(n) for n, text in fills if text or not _comparable(n, da))
        )


def _comparable(fill: float, da: xr.DataArray) -> bool:
    """Whether comparing the stored values with `fill` finds it: NaN, or a number that the stored
    type holds.
    """
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    if stored.kind in "iu":
        return bool(np.iinfo(stored).min <= fill <= np.iinfo(stored).max)
    return bool(np.isnan(fill) or float(stored.type(fill)) == fill)


def _numbers(value: object) -> list[float]:
    with contextlib.suppress(ValueError, TypeError):
        return [float(v) for v in np.ravel(np.asarray(value)).tolist()]
    return []


def valid_range(da: xr.DataArray | xr.Variable) -> tuple[float | None, float | None]:
    """Lowest and highest valid value in the field's unpacked units, half a packing step wider; None
    where unbounded.
    """
    both = np.ravel(da.attrs.get("valid_range", ()))
    low, high = both if both.size == 2 else (da.attrs.get("valid_min"), da.attrs.get("valid_max"))
    return _unpacked(da, low, -0.5), _unpacked(da, high, 0.5)


def in_packed_units(bound: object) -> bool:
    """Whether a valid range on unpacked values, by its small integer type, is left over from a
    packing.
    """
    kind = np.asarray(bound).dtype
    return kind.kind in "iu" and kind.itemsize <= 2


def _unpacked(da: xr.DataArray | xr.Variable, bound: object, steps: float) -> float | None:
    numbers = _numbers(bound) if bound is not None else []
    if len(numbers) != 1 or np.isnan(numbers[0]):
        return None
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    if stored.kind not in "iu":
        return None if in_packed_units(bound) else numbers[0]
    scale, offset = (
        float(np.ravel(da.encoding.get(k, d))[0])
        for k, d in (("scale_factor", 1), ("add_offset", 0))
    )
    margin = steps * abs(scale)
    if np.asarray(bound).dtype.kind == "f":
        return numbers[0] + margin
    whole = (
        2 ** (8 * stored.itemsize)
        if da.encoding.get("_Unsigned") == "true" and numbers[0] < 0
        else 0
    )
    # a negative scale turns the range round, which the caller's comparison cannot know: leave it
    # open
    return (numbers[0] + whole) * scale + offset + margin if scale > 0 else None
