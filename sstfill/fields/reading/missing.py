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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from sstfill.config import only, without
from sstfill.fields.grid import axes
from sstfill.fields.reading.account import STORED_NAN, Tally
from sstfill.fields.reading.sentinels import (
    RANGES,
    TAKEN,
    Sentinel,
    Taken,
    decoded,
    in_memory,
    numbers_in,
    unwritten_number,
)
from sstfill.fields.reading.variables import find_fields

log = logging.getLogger(__name__)


def is_masked(da: xr.DataArray) -> bool:
    """Whether `mask_missing` has to look at the values of a field."""
    if da.dtype.kind != "f" or da.encoding.get(TAKEN, Taken()).complete:
        return False
    if overlooked(da) or unwritten_number(da) is not None:
        return True
    return {applicable_range(da), undecided_range(da)} != {(None, None)}


def mask_missing(ds: xr.Dataset, names: Sequence[str] | None = None) -> xr.Dataset:
    """Make missing values that a decoder overlooked NaN; encoding stays.

    By default in all fields that could be filled. What is masked in values that are in memory
    already is counted, and logged where nobody declared it.
    """
    if names is None:
        names = find_fields(ds)
    # without their coordinates: the levels of a MultiIndex cannot be assigned again
    return ds.assign({name: _masked(ds[name]).variable for name in names})


def _masked(da: xr.DataArray) -> xr.DataArray:
    if not is_masked(da):
        return da
    decided = undecided_range(da) != (None, None)  # then by the values, not by the encoding
    da = settled(da)
    found, unwritten = overlooked(da), unwritten_number(da)
    time, *space = da.dims
    if unwritten is not None:
        unwritten = decoded(unwritten, da)
        time, *space = axes(da).dims
    low, high = valid_range(da) if decided else applicable_range(da)
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
    if not keep:
        return da
    # one `where` of all rules: each would be another copy of the field
    masked = da.where(functools.reduce(operator.and_, keep)).transpose(*da.dims)
    # `where` drops the encoding, by which the field is packed again
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
        floats = [None if whole else number for number, whole in bounds]
        return floats[0], floats[1]
    scale, offset = scaling(da.encoding)
    found: list[float | None] = []
    for number, whole in bounds:
        if number is not None and whole:  # floats are in unpacked units already
            if da.encoding.get("_Unsigned") == "true" and number < 0:
                # bounds of signed type on numbers that are meant unsigned
                number += 2 ** (8 * stored.itemsize)
            number = number * scale + offset
        found.append(number)
    if scale < 0 and any(whole for _, whole in bounds):  # the highest number is the lowest value
        found.reverse()
    low, high = found
    # a bound may itself be rounded to a step of the packing
    margin = 0.5 * abs(scale)
    return None if low is None else low - margin, None if high is None else high + margin


def undecided_range(da: xr.DataArray | xr.Variable) -> Bounds:
    """Return bounds in whole numbers on floats that are not packed.

    They are left over from when the values were packed, or a true range that was typed so.
    """
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    if stored.kind in "iu":
        return None, None
    whole_numbers = [number if whole else None for number, whole in _declared(da)]
    return whole_numbers[0], whole_numbers[1]


def settled(da: xr.DataArray) -> xr.DataArray:
    """Decide what whole-number bounds on unpacked floats mean, and log it with numbers.

    They bound the values if most values lie within, and those outside lie farther off than the ones
    within are apart, as junk does; then they become floats. Else they are in packed units, and are
    dropped. Types of one or two bytes, which nobody types by hand, are dropped unseen.
    """
    low, high = undecided_range(da)
    declared = only(da.attrs, RANGES)
    if (low, high) == (None, None):
        return da
    kept = without(da.attrs, RANGES)
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
            # as floats, by which CF says that they are in the units of the values
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
    # in blocks also in memory: seven masks of the whole field would take several times its size
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
    counted = found.compute()
    return {str(name): value.item() for name, value in counted.data_vars.items()}


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
