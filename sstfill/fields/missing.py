# SPDX-License-Identifier: Apache-2.0
"""Mask missing values that a decoder overlooks: mistyped ones, and those outside the valid range.

Rules: NetCDF Users' Guide, Attribute Conventions (a valid range is in packed units unless it is
floating).
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from sstfill.fields.account import STORED_NAN, Tally
from sstfill.fields.grid import axes
from sstfill.fields.sentinels import (
    RANGES,
    TAKEN,
    Sentinel,
    Taken,
    decoded,
    in_memory,
    numbers_in,
    unwritten_number,
)
from sstfill.fields.variables import find_fields


def is_masked(da: xr.DataArray) -> bool:
    """Whether `mask_missing` has to look at the values of a field."""
    if da.dtype.kind != "f" or da.encoding.get(TAKEN, Taken()).complete:
        return False
    found = overlooked(da), applicable_range(da), unwritten_number(da)
    return found != ([], (None, None), None)


def mask_missing(ds: xr.Dataset, names: Sequence[str] | None = None) -> xr.Dataset:
    """Make missing values that a decoder overlooked NaN; attrs and encoding stay.

    By default in all fields that could be filled. What is masked in values that are in memory
    already is counted, and logged where nobody declared it.
    """
    return ds.assign({n: _masked(ds[n]) for n in (find_fields(ds) if names is None else names)})


def _masked(da: xr.DataArray) -> xr.DataArray:
    if not is_masked(da):
        return da
    found, unwritten = overlooked(da), unwritten_number(da)
    time, *space = da.dims
    if unwritten is not None:
        unwritten = decoded(unwritten, da)
        time, *space = axes(da).dims
    low, high = applicable_range(da)
    if isinstance(da.variable._data, np.ndarray):
        tally = Tally(
            sentinels=found,
            bounds=(low, high),
            declared=declared_range(da),
            unwritten=unwritten,
            axis=da.dims.index(time),
            images=da.sizes[time],
        )
        tally.add(da.values, np.asarray)
        account = tally.account(str(da.name))
        account.warn()
        if account.counts.get(STORED_NAN, 0) == account.total:
            return da
    keep = [da != sentinel.number for sentinel in found]
    if unwritten is not None:
        keep.append((da != unwritten).any(space))
    if low is not None:
        keep.append(da >= low)
    if high is not None:
        keep.append(da <= high)
    masked = da.where(functools.reduce(operator.and_, keep)).transpose(*da.dims)
    return da.copy(deep=False, data=masked.data)


def complete(ds: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Note in the encoding of fields that the rules have been applied, so that they are not again.

    Only of what was read from a file: other encodings are the user's.
    """
    noted = {}
    for name in names:
        noted[name] = ds[name].copy(deep=False)
        taken = replace(ds[name].encoding.get(TAKEN, Taken()), complete=True)
        noted[name].encoding = {**ds[name].encoding, TAKEN: taken}
    return ds.assign(noted)


def overlooked(da: xr.DataArray) -> list[Sentinel]:
    """List the missing values, in the field's own units, that decoding with xarray leaves in it.

    Text for a number, a float64 ``1e20`` on float32 values, an unpacked ``-9999`` that the packed
    type cannot hold, and those that no attribute declares. None in what `sstfill.io.open` decoded.
    """
    return [] if TAKEN in da.encoding else in_memory(da)


def applicable_range(da: xr.DataArray) -> tuple[float | None, float | None]:
    """Return the valid range of a field that is as its file has it.

    Of one that was computed, the range may be in other units: its encoding is gone.
    """
    return valid_range(da) if "dtype" in da.encoding else (None, None)


def declared_range(da: xr.DataArray) -> tuple[str, tuple[float, float]]:
    """Return the valid range as it is declared, as text and as numbers."""
    declared = {key: numbers_in(da.attrs[key]) for key in RANGES if key in da.attrs}
    text = ", ".join(f"{key} {_shown(numbers)}" for key, numbers in declared.items() if numbers)
    both = declared.get("valid_range") or []
    low, high = both if len(both) == 2 else (-np.inf, np.inf)
    if len(both) != 2:
        low = (declared.get("valid_min") or [low])[0]
        high = (declared.get("valid_max") or [high])[0]
    return text, (low, high)


def _numbers(value: object) -> list[float]:
    with contextlib.suppress(ValueError, TypeError):
        return [float(v) for v in np.ravel(np.asarray(value)).tolist()]
    return []


def _shown(numbers: list[float]) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers)
    return f"[{shown}]" if len(numbers) > 1 else shown


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
