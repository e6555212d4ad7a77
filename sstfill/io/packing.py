# SPDX-License-Identifier: Apache-2.0
"""Store floats packed as their file had them, without wrapping or losing a value.

`xarray` packs without a check: a value out of range wraps, and one that lands on ``_FillValue``
becomes a gap. Here each block is checked as it is packed, and `DoesNotFit` asks for the next wider
form. What is declared beside the values (fill value, valid range) is in the type and the units of
what is stored, because netCDF4-python and others compare stored numbers with it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from sstfill.config import only, without
from sstfill.fields.reading.missing import Bounds, scaling, valid_range
from sstfill.fields.reading.sentinels import FILLS, RANGES

log = logging.getLogger(__name__)

REWRITTEN = (*FILLS, *RANGES, "_Unsigned")
"""Attributes that belong to one way of storing a variable; they are made anew for another."""

PACKS = ("dtype", "scale_factor", "add_offset", "_FillValue")
"""Keys of an encoding that decide whether it holds a value."""
COMPRESSION = ("zlib", "complevel", "shuffle", "fletcher32")
"""Keys of the compression of NetCDF-4."""
GIVEN = "sstfill_given"
"""Key of an encoding: the attributes and encoding that `holdable` replaced; xarray ignores it."""


class DoesNotFit(Exception):  # noqa: N818  (a signal to the writer, never shown)
    """A variable (first argument) has a value that its packing cannot hold, and why (second)."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How one variable is stored: `stored = round((value - offset) / scale)`, gaps as `fill`.

    `unpacking` holds ``scale_factor`` and ``add_offset`` as the file had them, and `valid` the
    valid range in unpacked units.
    """

    variable: str
    dtype: np.dtype[Any]
    fill: Any = np.nan
    unpacking: dict[str, Any] = field(default_factory=dict)
    valid: Bounds = (None, None)

    @property
    def plain(self) -> bool:
        """Whether values are stored as they are, gaps as NaN."""
        return self.dtype.kind == "f" and np.isnan(self.fill) and self.valid == (None, None)

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Pack a block of floats; `DoesNotFit` where one would come back as something else."""
        gap = np.isnan(values)
        seen = values[~gap]
        low, high = self.valid
        self._refuse(low is not None and bool((seen < low).any()), "lie below its valid range")
        self._refuse(high is not None and bool((seen > high).any()), "lie above its valid range")
        if self.dtype.kind == "f":
            stored = values.astype(self.dtype)
            lost = bool((stored[~gap] == self.dtype.type(self.fill)).any())
            # such a value would come back as a gap
            self._refuse(lost, f"equal its fill value {self.fill}")
            return np.where(gap, self.dtype.type(self.fill), stored)
        scale, offset = scaling(self.unpacking)
        # in double precision: in single, numbers of 32 bits would be off by up to a hundred
        stored = np.rint((values.astype(np.float64) - offset) / scale)
        numbers, info = stored[~gap], np.iinfo(self.dtype)
        outside = (numbers < info.min) | (numbers > info.max)
        self._refuse(bool(outside.any()), f"do not fit {self.dtype}")
        self._refuse(
            bool((numbers == float(self.fill)).any()), f"land on its fill value {self.fill}"
        )
        return np.where(gap, float(self.fill), stored).astype(self.dtype)

    def _refuse(self, trouble: bool, reason: str) -> None:
        if trouble:
            raise DoesNotFit(self.variable, reason)

    def valid_attrs(self, *, pair: bool) -> dict[str, Any]:
        """Return the valid range as attributes, as `valid_range` if it is a `pair`.

        Both bounds are in the type and the units of what is stored.
        """
        low, high = self._stored(self.valid[0], 0.5), self._stored(self.valid[1], -0.5)
        if self.dtype.kind != "f" and scaling(self.unpacking)[0] < 0:
            low, high = high, low
        if pair and low is not None and high is not None:
            return {"valid_range": np.array([low, high], self.dtype)}
        single = {"valid_min": low, "valid_max": high}
        return {key: bound for key, bound in single.items() if bound is not None}

    def _stored(self, bound: float | None, half_step: float) -> Any:
        if bound is None:
            return None
        if self.dtype.kind == "f":
            return self.dtype.type(bound)
        scale, offset = scaling(self.unpacking)
        # `valid_range` widened it by half a step; that is taken back
        number = np.rint((bound + half_step * abs(scale) - offset) / scale)
        info = np.iinfo(self.dtype)
        return self.dtype.type(int(min(max(number, info.min), info.max)))


def ladder(name: str, variable: xr.Variable) -> list[Packing]:
    """Return the forms in which to store a float variable, each wider than the last.

    Its own; the same without a valid range; on 32 bits; floats with NaN, which hold anything.
    """
    encoding = variable.encoding
    plain = Packing(variable=name, dtype=variable.dtype.newbyteorder("="))
    own = np.dtype(encoding.get("dtype", plain.dtype))
    fill, valid = _fill(variable), valid_range(variable)
    if own.kind not in "iu":
        # 1e300 is infinite in single precision
        held = fill is not None and abs(fill) <= np.finfo(plain.dtype).max
        forms = [replace(plain, fill=fill if held else np.nan, valid=valid)]
    else:
        scale, offset = scaling(encoding)
        if scale == 0 or not np.isfinite([scale, offset]).all():  # nothing can be packed by it
            return [plain]
        # xarray stores the other kind of the same size where _Unsigned says so
        kind = {"true": "u", "false": "i"}.get(str(encoding.get("_Unsigned")), own.kind)
        own = np.dtype(f"{kind}{own.itemsize}")
        unpacking = {}
        for key in ("scale_factor", "add_offset"):
            if key in encoding:
                written = encoding[key]  # a number, or text that was read as one
                unpacking[key] = float(written) if isinstance(written, str) else written
        packing = replace(plain, dtype=own, fill=_sentinel(fill, own), unpacking=unpacking)
        forms = [replace(packing, valid=valid)]
        if valid != (None, None):
            forms.append(packing)
        wide = np.dtype("i4")
        if own.itemsize < wide.itemsize:
            forms.append(replace(packing, dtype=wide, fill=_sentinel(None, wide)))
    return forms if forms[-1].plain else [*forms, plain]


def _fill(variable: xr.Variable) -> float | None:
    """Return the fill value that the file used, as stored."""
    for key in FILLS:
        for holder in (variable.encoding, variable.attrs):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                return float(np.asarray(holder[key]).flat[0])
    return None


def _sentinel(fill: float | None, dtype: np.dtype[Any]) -> int:
    """Return the stored number for a gap: the file's own if the type holds it, else its far end."""
    info = np.iinfo(dtype)
    if fill is not None and fill == np.rint(fill):
        # -1 as an unsigned byte is 255
        number = int(fill) % 2**info.bits if dtype.kind == "u" else int(fill)
        if info.min <= number <= info.max:
            return number
    return int(info.min if dtype.kind == "i" else info.max)


def packed(variable: xr.Variable, packing: Packing, refusals: list[str]) -> xr.Variable:
    """Pack a float variable; Dask blocks are packed one by one when they are written."""
    attrs = _attrs(variable, packing, " and ".join(f"values {reason}" for reason in refusals))
    if packing.dtype.kind == "f" and np.isnan(packing.fill) and packing.valid == (None, None):
        return xr.Variable(
            variable.dims, variable._data, attrs, {"_FillValue": packing.dtype.type(np.nan)}
        )
    if variable.ndim > 3 and variable.chunks is None:
        # Packing takes several times the memory of what is packed: not of all members at once.
        stored = xr.Variable(variable.dims, np.empty(variable.shape, packing.dtype))
        for target, block in zip(stored.values, variable.values, strict=True):
            target[:] = packing.pack(block)
    else:
        stored = xr.apply_ufunc(
            packing.pack, variable, dask="parallelized", output_dtypes=[packing.dtype]
        )
    stored.attrs = attrs | packing.unpacking | {"_FillValue": packing.dtype.type(packing.fill)}
    stored.encoding = {}
    return stored


def _attrs(variable: xr.Variable, packing: Packing, why: str) -> dict[str, Any]:
    """Return the attributes of a variable as it is stored; `why` it is not in its own form."""
    attrs = without(variable.attrs, REWRITTEN)
    attrs |= packing.valid_attrs(pair="valid_range" in variable.attrs)
    if why:
        note = f"sstfill: stored as {packing.dtype}, because {why}"
        if valid_range(variable) != packing.valid:
            note = f"sstfill: stored as {packing.dtype} without a valid range, because {why}"
        earlier = str(attrs.get("comment", ""))
        if note not in earlier:
            attrs["comment"] = "; ".join(filter(None, (earlier, note)))
    return attrs


def packed_like(da: xr.DataArray) -> dict[str, Any]:
    """Return the encoding by which values of the same quantity are packed and compressed alike."""
    encoding = as_given(da.variable).encoding
    return only(encoding, (*PACKS, "_Unsigned", "missing_value", *COMPRESSION))


def holdable(da: xr.DataArray) -> xr.DataArray:
    """Return a filled field with an encoding and attributes by which xarray writes every value.

    An encoding that would lose values is replaced by the next wider form, with a logged warning and
    a note in ``comment``. Values of Dask are not computed for that: a packing that might not hold
    them is replaced by one of 32 bits that does; `sstfill.io.write`, which checks each block, keeps
    the packing that was given.
    """
    given = as_given(da.variable)
    forms = ladder(str(da.name), given)
    held = da.copy(deep=False)
    if da.chunks is None:
        made = _in_memory(given, forms)
    elif forms[0] == forms[-1]:
        made = _by_xarray(given, forms[0], "")
    else:
        why = "its values are computed only as they are written"
        made = _by_xarray(given, _any_value(forms), why)
        header = xr.Variable((), 0.0, given.attrs, given.encoding)
        # so that `write`, which does check each block, can use the packing of the file
        made.encoding[GIVEN] = header, _packs(made)
    if da.chunks is not None:  # xarray refuses stored chunks that are not those of Dask
        made.encoding = without(made.encoding, ("chunks", "shards"))
    held.attrs, held.encoding = made.attrs, made.encoding
    return held


def as_given(variable: xr.Variable) -> xr.Variable:
    """Undo what `holdable` made of the packing of a lazy field, unless another was set since."""
    header, made = variable.encoding.get(GIVEN, (None, ""))
    if header is None or _packs(variable) != made:
        return variable
    given = variable.copy(deep=False)
    given.encoding = dict(header.encoding)
    for key in ("comment", *REWRITTEN):
        given.attrs.pop(key, None)
        if key in header.attrs:
            given.attrs[key] = header.attrs[key]
    return given


def _packs(variable: xr.Variable) -> str:
    """Return in text what decides whether an encoding holds a value."""
    return repr([variable.encoding.get(key) for key in PACKS])


def _in_memory(given: xr.Variable, forms: list[Packing]) -> xr.Variable:
    """Return the attributes and encoding of the first form that holds all values."""
    reasons: list[str] = []
    for form in forms:
        made = _by_xarray(given, form, " and ".join(f"values {reason}" for reason in reasons))
        if form.plain or (reason := _trouble(given, form, made)) is None:
            break
        reasons.append(reason)
    if reasons:
        log.warning(
            "values of %s %s; its encoding is %s now",
            forms[0].variable,
            " and ".join(reasons),
            form.dtype,
        )
    return made


def _any_value(forms: list[Packing]) -> Packing:
    """Return the narrowest form that holds whatever is near the values of the first."""
    own = forms[0]
    if own.dtype.kind == "f":
        return forms[-1]
    wide = own.dtype if own.dtype.itemsize > 4 else np.dtype("i4")
    return replace(own, dtype=wide, fill=_sentinel(None, wide), valid=(None, None))


def _by_xarray(variable: xr.Variable, form: Packing, why: str) -> xr.Variable:
    """Return a variable without values, with the attributes and encoding of a form for xarray."""
    attrs = _attrs(variable, form, why)
    encoding = dict(variable.encoding)
    own = np.dtype(encoding.get("dtype", variable.dtype))
    fill = form.dtype.type(form.fill)
    signed = own.kind == "i" and form.dtype.kind == "u" and own.itemsize == form.dtype.itemsize
    if signed and "_FillValue" in encoding:  # xarray reads the number as unsigned
        fill = fill.astype(own)
        for key in RANGES:
            if key in attrs:
                attrs[key] = attrs[key].astype(own)
    else:
        encoding.pop("_Unsigned", None)
        if form.dtype.kind != "f":
            encoding["dtype"] = form.dtype
        elif own not in (np.dtype("f4"), np.dtype("f8")):
            encoding.pop("dtype", None)
    if form.dtype.kind == "f":
        for key in ("scale_factor", "add_offset"):
            encoding.pop(key, None)
    # a second missing value could be hit, and xarray writes one only
    declared = [encoding.pop("missing_value", None), encoding.get("_FillValue")]
    if declared != [None, None] or not form.plain:
        encoding["_FillValue"] = fill
    encoding |= form.unpacking
    return xr.Variable((), 0.0, without(attrs, encoding), encoding)


def _trouble(variable: xr.Variable, form: Packing, made: xr.Variable) -> str | None:
    """Return how values in memory do not survive a form, as xarray writes and reads it."""
    for image in _images(variable.values):
        try:
            form.pack(image)
        except DoesNotFit as misfit:
            return str(misfit.args[1])
        one = xr.Variable(("x",), image.ravel(), {}, made.encoding)
        with np.errstate(all="ignore"):
            back = xr.conventions.decode_cf_variable("v", xr.conventions.encode_cf_variable(one))
        step = abs(scaling(form.unpacking)[0]) if form.dtype.kind != "f" else 0.0
        # the relative part is for the rounding of single precision
        off = np.abs(back.values - one.values) > step + 1e-6 * np.abs(one.values)
        if off.any() or (np.isnan(back.values) != np.isnan(one.values)).any():
            return f"do not come back from {form.dtype}"
    return None


def _images(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images of a field, which need less memory one by one."""
    return iter(values) if values.ndim > 2 else iter([values])
