# SPDX-License-Identifier: Apache-2.0
"""Mask missing values that a decoder overlooks: mistyped ones, and those outside the valid range.

Rules: NetCDF Users' Guide, Attribute Conventions (a valid range is in packed units unless it is
floating).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from sstfill.fields.variables import find_fields

log = logging.getLogger(__name__)


def is_masked(da: xr.DataArray) -> bool:
    """Whether `mask_missing` has to look at the values of a field."""
    unbounded = (None, None)
    return bool(overlooked(da)) or {valid_range(da), undecided_range(da)} != {unbounded}


def mask_missing(ds: xr.Dataset) -> xr.Dataset:
    """Make overlooked missing values of the candidate fields NaN; encoding stays."""
    return ds.assign({n: _masked(ds[n]) for n in find_fields(ds)})


def _masked(da: xr.DataArray) -> xr.DataArray:
    da = settled(da)
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


VALID = ("valid_min", "valid_max", "valid_range")
"""Attributes that declare a valid range."""
Bounds = tuple[float | None, float | None]
"""Lowest and highest valid value; None stands for no bound."""


def valid_range(da: xr.DataArray | xr.Variable) -> Bounds:
    """Return the lowest and highest valid value in unpacked units, half a packing step wider.

    Whole numbers are in packed units where the variable is packed. Where it is not, nobody can tell
    by their type what they mean: they are no bounds here, see `undecided_range`.
    """
    bounds = _declared(da)
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    if stored.kind not in "iu":
        low, high = (None if whole else number for number, whole in bounds)
        return low, high
    scale, offset = scaling(da.encoding)
    found: list[float | None] = []
    for number, whole in bounds:
        if number is not None and whole:  # floats are in unpacked units already
            if da.encoding.get("_Unsigned") == "true" and number < 0:
                number += 2 ** (8 * stored.itemsize)
            number = number * scale + offset
        found.append(number)
    if scale < 0 and any(whole for _, whole in bounds):  # the highest number is the lowest value
        found.reverse()
    low, high = found
    margin = 0.5 * abs(scale)
    return None if low is None else low - margin, None if high is None else high + margin


def undecided_range(da: xr.DataArray | xr.Variable) -> Bounds:
    """Return bounds in whole numbers on floats that are not packed.

    They are left over from when the values were packed, or a true range that was typed so.
    """
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    if stored.kind in "iu":
        return None, None
    low, high = (number if whole else None for number, whole in _declared(da))
    return low, high


def settled(da: xr.DataArray) -> xr.DataArray:
    """Decide what whole-number bounds on unpacked floats mean, and log it with numbers.

    They bound the values if most values lie within, and those outside lie farther off than the ones
    within are apart, as junk does; then they become floats. Else they are in packed units, and are
    dropped. Types of one or two bytes, which nobody types by hand, are dropped unseen.
    """
    low, high = undecided_range(da)
    declared = {key: da.attrs[key] for key in VALID if key in da.attrs}
    if (low, high) == (None, None):
        return da
    kept = {key: value for key, value in da.attrs.items() if key not in VALID}
    if all(in_packed_units(value) for value in declared.values()):
        return da.copy(deep=False).drop_attrs(deep=False).assign_attrs(kept)
    bounds = (-np.inf if low is None else low, np.inf if high is None else high)
    seen = _either_side(da, bounds)
    outside = seen["below"] + seen["above"]
    span = seen["most"] - seen["least"]
    far_below = not seen["below"] or seen["least"] - seen["nearest_below"] > span
    far_above = not seen["above"] or seen["nearest_above"] - seen["most"] > span
    true = far_below and far_above and 2 * outside < seen["observed"]
    meant = "they are taken as in packed units, and not applied"
    if true:
        meant = "they are taken as in units of the values: those outside are missing"
        for key, value in declared.items():
            kept[key] = np.asarray(value, da.dtype)[()]
    if outside:
        log.warning(
            "%s of %r, in whole numbers on values that are not packed, leave out %d of %d values; "
            "%s. State them as floats if they are in units of the values, or remove them",
            ", ".join(f"{key} {np.asarray(value).tolist()}" for key, value in declared.items()),
            da.name,
            outside,
            seen["observed"],
            meant,
        )
    return da.copy(deep=False).drop_attrs(deep=False).assign_attrs(kept)


def _either_side(da: xr.DataArray, bounds: tuple[float, float]) -> dict[str, float]:
    """Count the values below and above two bounds, with the extremes next to them; one pass."""
    low, high = bounds
    blocks = da.variable if da.chunks else da.variable.chunk({da.dims[0]: "auto"})
    within = blocks.where((blocks >= low) & (blocks <= high))
    found = xr.Dataset(
        {
            "observed": blocks.notnull().sum(),
            "below": (blocks < low).sum(),
            "above": (blocks > high).sum(),
            "least": within.min(),
            "most": within.max(),
            "nearest_below": blocks.where(blocks < low).max(),
            "nearest_above": blocks.where(blocks > high).min(),
        }
    )
    return {str(name): value.item() for name, value in found.compute().data_vars.items()}


def in_packed_units(bound: object) -> bool:
    """Whether a valid range, by its small integer type, is in packed units."""
    kind = np.asarray(bound).dtype
    return kind.kind in "iu" and kind.itemsize <= 2


def _declared(da: xr.DataArray | xr.Variable) -> list[tuple[float | None, bool]]:
    """Return the declared bounds, lowest first, each with whether it is a whole number by type."""
    both = np.ravel(np.asarray(da.attrs.get("valid_range", ())))
    pair = both if both.size == 2 else (da.attrs.get("valid_min"), da.attrs.get("valid_max"))
    bounds: list[tuple[float | None, bool]] = []
    for bound in pair:
        numbers = _numbers(bound) if bound is not None else []
        if len(numbers) != 1 or not np.isfinite(numbers[0]):
            bounds.append((None, False))
        else:
            typed = float if isinstance(bound, str) and "." in bound else int
            kind = np.dtype(typed) if isinstance(bound, str) else np.asarray(bound).dtype
            bounds.append((numbers[0], kind.kind in "iu"))
    return bounds


def scaling(encoding: Mapping[str, Any]) -> tuple[float, float]:
    """Return the scale and the offset of a packing."""
    scale = np.ravel(encoding.get("scale_factor", 1))[0]
    offset = np.ravel(encoding.get("add_offset", 0))[0]
    return float(scale), float(offset)
