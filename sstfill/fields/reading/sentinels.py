# SPDX-License-Identifier: Apache-2.0
"""Numbers that stand for missing values as they are stored: declared, or by a rule of the format.

Sources: NetCDF Users' Guide, Attribute Conventions and "Fill Values" (a variable without
``_FillValue`` holds the default fill value of its type wherever nothing was written; types of one
byte have none); Zarr core specification v3, "fill_value".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sstfill.config import only, without

PACKING = ("scale_factor", "add_offset")
FILLS = ("_FillValue", "missing_value")
RANGES = ("valid_min", "valid_max", "valid_range")
"""Attributes that declare a valid range."""
FLAGS = ("flag_values", "flag_masks", "flag_meanings")
TAKEN = "sstfill_taken"
"""Key of an encoding under which a variable that was read from a file keeps its `Taken`."""
DEFAULT_FILL = "default fill value"
ZARR_FILL = "Zarr fill_value"
NUMBER = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?nan|[+-]?inf(?:inity)?)(?:f|u?[bsl]l?)?",
    re.IGNORECASE,
)
"""A number as people type it, also with the suffix of its type in CDL, such as ``1e-2f``."""


@dataclass(frozen=True)
class Sentinel:
    """A stored number that stands for a missing value.

    Attributes
    ----------
    rule
        ``_FillValue``, ``missing_value``, or one of those that no attribute declares.
    number
        As stored; where ``_Unsigned`` is set, of the type that is meant.
    declared
        Whether an attribute of the variable declares it.
    """

    rule: str
    number: Any
    declared: bool = True


@dataclass(frozen=True)
class Taken:
    """What was taken as missing when a variable was decoded; it stays in the variable's encoding.

    Attributes
    ----------
    sentinels
        In the order in which they count.
    absent
        Number of values in chunks that the Zarr store does not hold.
    kept
        A number that other programs take as missing here, and that is kept.
    missing_value
        The attribute of the file, which decoding needs together with numbers nobody declared.
    complete
        Whether the rules for decoded values have been applied, too.
    """

    sentinels: tuple[Sentinel, ...] = ()
    absent: int = 0
    kept: Any = None
    missing_value: Any = None
    complete: bool = False


def numbers_in(value: object) -> list[float] | None:
    """Read an attribute as numbers, also where it is text; None if it is neither.

    >>> numbers_in("1e-2f"), numbers_in(" 0, 30 "), numbers_in("none")
    ([0.01], [0, 30], None)
    """
    values = np.ravel(np.asarray(value)).tolist()
    if not any(isinstance(v, str | bytes) for v in values):
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        return values if numeric else None
    texts = []
    for v in values:
        texts.append(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v))
    words = re.split(r"[,;\s]+", " ".join(texts).strip(" \t\n\0[](){}"))
    found: list[float] = []
    for word in words:
        # Fortran writes 1d-3 for 1e-3
        match = NUMBER.fullmatch(re.sub("(?i)(?<=[0-9.])d(?=[-+0-9])", "e", word))
        if match is None:
            return None
        whole = re.fullmatch(r"[+-]?\d+", match[1]) is not None
        found.append(int(match[1]) if whole else float(match[1]))
    return found


def numeric(attrs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Turn text into the numbers that it spells, where attributes have to hold numbers.

    Returns the attributes, and one sentence on each that was text.

    >>> numeric({"scale_factor": "0.01"})
    ({'scale_factor': 0.01}, ["scale_factor '0.01' is text; it is read as the number 0.01"])
    """
    found, notes = dict(attrs), []
    for key in (*PACKING, *FILLS, *RANGES):
        if key not in attrs or np.asarray(attrs[key]).dtype.kind not in "USO":
            continue
        numbers = numbers_in(attrs[key])
        if numbers:
            found[key] = numbers[0] if len(numbers) == 1 else np.array(numbers)
            shown = ", ".join(f"{n:g}" for n in numbers)
            notes.append(f"{key} {attrs[key]!r} is text; it is read as the number {shown}")
        elif key not in PACKING:  # which are refused when the file is opened
            del found[key]
            notes.append(
                f"{key} {attrs[key]!r} is not a number, and is left out of account; set it right, "
                "or remove it"
            )
    return found, notes


def viewed(stored: np.dtype[Any], attrs: Mapping[str, Any]) -> np.dtype[Any]:
    """Return the type that stored integers are meant to have, by ``_Unsigned``."""
    kind = {"true": "u", "false": "i"}.get(str(attrs.get("_Unsigned")), stored.kind)
    return np.dtype(f"{kind}{stored.itemsize}") if stored.kind in "iu" else stored


@functools.cache
def default_fill(stored: np.dtype[Any]) -> Any:
    """Return what NetCDF holds where a variable was never written; None for types of one byte.

    >>> default_fill(np.dtype("int16"))
    np.int16(-32767)
    """
    import netCDF4

    # by the type without its byte order
    number = netCDF4.default_fillvals.get(stored.str[1:])
    return None if number is None or stored.itemsize == 1 else stored.type(number)


def sentinels(
    stored: np.dtype[Any], attrs: Mapping[str, Any], zarr_fill: Any = None
) -> list[Sentinel]:
    """List the stored numbers that stand for missing values, each once.

    Parameters
    ----------
    stored
        Type of the stored numbers.
    attrs
        Attributes as in the file.
    zarr_fill
        What absent chunks of a Zarr array hold, where no attribute declares a fill value.
    """
    found = []
    for key in FILLS:
        for number in _as_stored(attrs.get(key, ()), stored, attrs):
            found.append(Sentinel(key, number))
    # a fill value that is also `zarr_fill` is the array's own
    declared = zarr_fill is None and any(sentinel.rule == "_FillValue" for sentinel in found)
    if stored.kind == "f":  # NaN is declared, too, and needs no sentinel
        declared = bool(numbers_in(attrs.get("_FillValue", ())))
    if not declared:
        # 0 is what a store holds that was made without a thought of missing values
        if _is_number(zarr_fill) and zarr_fill != 0:
            found.append(Sentinel(ZARR_FILL, stored.type(zarr_fill), declared=False))
        if found or stored.kind == "f" or set(PACKING) & set(attrs):
            number = default_fill(stored)
            if number is not None:
                number = np.asarray(number).view(viewed(stored, attrs))[()]
                found.append(Sentinel(DEFAULT_FILL, number, declared=False))
    return _each_once(found)


def _is_number(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "iuf" and not np.isnan(value)


def _each_once(found: Iterable[Sentinel]) -> list[Sentinel]:
    first: dict[Any, Sentinel] = {}
    for sentinel in found:
        first.setdefault(sentinel.number, sentinel)
    return list(first.values())


def _as_stored(declared: Any, stored: np.dtype[Any], attrs: Mapping[str, Any]) -> list[Any]:
    """Convert declared numbers to the type of the stored ones; those it cannot hold are left out.

    A number that an integer type cannot hold is in unpacked units.
    """
    meant = viewed(stored, attrs)
    found = []
    for number in numbers_in(declared) or []:
        if np.isnan(number):
            continue
        if meant.kind == "f":
            with np.errstate(over="ignore"):  # 1e40 is infinite in single precision
                found.append(meant.type(number))
            continue
        least, most = np.iinfo(meant).min, np.iinfo(meant).max
        # the number was typed as the stored type shows it: -1 is 255
        if meant.kind == "u" and number < 0 and _unsigned_by_attribute(stored, meant):
            number += 2 ** (8 * meant.itemsize)
        if meant.kind == "i" and number > most and _unsigned_by_attribute(stored, meant):
            number -= 2 ** (8 * meant.itemsize)
        if not (least <= number <= most and number == np.rint(number)):
            scale = numbers_in(attrs.get("scale_factor", 1.0)) or [0.0]
            offset = numbers_in(attrs.get("add_offset", 0.0)) or [0.0]
            if not scale[0]:
                continue
            number = np.rint((number - offset[0]) / scale[0])
        if least <= number <= most:
            found.append(meant.type(int(number)))
    return found


def _unsigned_by_attribute(stored: np.dtype[Any], meant: np.dtype[Any]) -> bool:
    return stored.kind != meant.kind


def declare(
    variable: xr.Variable, zarr_fill: Any = None, absent: int = 0, kept: Any = None
) -> tuple[xr.Variable, list[str]]:
    """Declare to a decoder all numbers of a stored variable that stand for missing values.

    Returns the variable, and one sentence on each attribute that was mended.
    """
    if variable.dtype.kind not in "iuf":
        return variable, []
    attrs, notes = numeric(variable.attrs)
    stored = variable.dtype
    found = sentinels(stored, attrs, zarr_fill)
    if variable.ndim < 2:  # a coordinate is whole
        found = [sentinel for sentinel in found if sentinel.declared]
    taken = Taken(tuple(found), absent, kept, attrs.get("missing_value"))
    given = set()
    for key in FILLS:
        numbers = numbers_in(attrs.get(key, ())) or []
        given |= {number for number in numbers if not np.isnan(number)}
    if len(found) != len(given) or any(s.number not in given for s in found):
        fills = [sentinel.number for sentinel in found if sentinel.rule == "_FillValue"]
        # _FillValue holds one number alone; missing_value may hold several
        others = [s.number for s in found if s.rule != "_FillValue"] + fills[1:]
        kept = without(attrs, FILLS)
        if fills:
            kept["_FillValue"] = np.asarray(fills[0]).view(stored)[()]
        elif stored.kind == "f" and "_FillValue" in attrs:  # NaN
            kept["_FillValue"] = attrs["_FillValue"]
        if others:
            kept["missing_value"] = np.array(others)
        attrs = kept
    ready = variable.copy(deep=False)
    ready.attrs = attrs
    ready.encoding = {**variable.encoding, TAKEN: taken}
    return ready, notes


def restore(ds: xr.Dataset) -> None:
    """Let the encoding of decoded variables hold what the file declares, and no more."""
    for variable in ds.variables.values():
        taken = variable.encoding.get(TAKEN)
        if taken is not None and "missing_value" in variable.encoding:
            variable.encoding["missing_value"] = taken.missing_value
            if taken.missing_value is None:
                # else a file written from this would declare what the source does not
                del variable.encoding["missing_value"]


def in_memory(da: xr.DataArray) -> list[Sentinel]:
    """List the numbers that stand for missing values in a decoded field, in its own units.

    Its attributes and encoding tell, which a decoder has left as they were in the file. Numbers
    that were decoded are NaN already.
    """
    notes = {**da.attrs, **da.encoding}
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    found = []
    for holder in (da.attrs, da.encoding):
        for key in FILLS:
            declared = holder.get(key, ())
            for number in numbers_in(declared) or []:
                # a decoder has put into the encoding what it applied
                known = holder is da.encoding and not isinstance(declared, str)
                if np.isnan(number) or (known and _comparable(number, stored)):
                    continue
                with np.errstate(over="ignore"):
                    found.append(Sentinel(key, da.dtype.type(number)))
    for sentinel in sentinels(stored, notes, da.encoding.get("fill_value")):
        if not sentinel.declared:
            number = decoded(sentinel.number, da)
            found.append(Sentinel(sentinel.rule, number, declared=False))
    return _each_once(found)


def _comparable(number: float, stored: np.dtype[Any]) -> bool:
    """Whether a decoder that compares stored values with a number finds it."""
    if stored.kind in "iu":
        return bool(np.iinfo(stored).min <= number <= np.iinfo(stored).max)
    with np.errstate(over="ignore"):
        return float(stored.type(number)) == number


def unwritten_number(da: xr.DataArray | xr.Variable) -> Any:
    """Return what an image that was never written holds, where single values say nothing.

    So it is with packed types of one byte that no fill value is declared for: their default fill
    value is a number like any other. None for all other fields.
    """
    notes = {**da.attrs, **da.encoding}
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    if stored.itemsize > 1 or stored.kind not in "iu" or "_FillValue" in notes:
        return None
    import netCDF4

    number = stored.type(netCDF4.default_fillvals[stored.str[1:]])
    return np.asarray(number).view(viewed(stored, notes))[()]


def decoded(number: Any, da: xr.DataArray) -> Any:
    """Decode one stored number by the packing of a field, as its values were decoded."""
    stored = np.dtype(da.encoding.get("dtype", da.dtype))
    attrs = only(da.encoding, (*PACKING, "_Unsigned"))
    one = xr.Variable("one", np.asarray([number]).view(stored), attrs)
    return da.dtype.type(xr.conventions.decode_cf_variable("one", one).values[0])
