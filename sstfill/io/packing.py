# SPDX-License-Identifier: Apache-2.0
"""Store floats packed as their file had them, without wrapping or losing a value.

`xarray` packs without a check: a value out of range wraps, and one that lands on ``_FillValue``
becomes a gap. Here each block is checked as it is packed, and `DoesNotFit` asks for the next wider
form.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from sstfill.fields.missing import in_packed_units, scaling, valid_range

VALID = ("valid_min", "valid_max", "valid_range")


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
    valid: tuple[float | None, float | None] = (None, None)

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
            self._refuse(bool((seen == self.fill).any()), f"equal its fill value {self.fill}")
            return np.where(gap, self.dtype.type(self.fill), values).astype(self.dtype)
        scale, offset = scaling(self.unpacking)
        stored = np.rint((values.astype(np.float64) - offset) / scale)
        numbers, info = stored[~gap], np.iinfo(self.dtype)
        outside = (numbers < info.min) | (numbers > info.max)
        self._refuse(bool(outside.any()), f"do not fit {self.dtype}")
        lost = numbers == float(self.fill)
        self._refuse(bool(lost.any()), f"land on its fill value {self.fill}")
        return np.where(gap, float(self.fill), stored).astype(self.dtype)

    def _refuse(self, trouble: bool, reason: str) -> None:
        if trouble:
            raise DoesNotFit(self.variable, reason)


def ladder(name: str, variable: xr.Variable) -> list[Packing]:
    """Return the forms in which to store a float variable, each wider than the last.

    Its own; its own on 32 bits; floats with NaN, which hold anything.
    """
    encoding = variable.encoding
    plain = Packing(variable=name, dtype=variable.dtype.newbyteorder("="))
    own = np.dtype(encoding.get("dtype", plain.dtype))
    fill, valid = _fill(variable), valid_range(variable)
    if own.kind not in "iu":
        gap = np.nan if fill is None else fill
        first = Packing(variable=name, dtype=plain.dtype, fill=gap, valid=valid)
        return [plain] if first.plain else [first, plain]
    scale, offset = scaling(encoding)
    if scale == 0 or not np.isfinite([scale, offset]).all():  # nothing can be packed by it
        return [plain]
    kind = "u" if encoding.get("_Unsigned") == "true" else own.kind
    own = np.dtype(f"{kind}{own.itemsize}")
    unpacking = {k: encoding[k] for k in ("scale_factor", "add_offset") if k in encoding}
    first = Packing(
        variable=name, dtype=own, fill=_sentinel(fill, own), unpacking=unpacking, valid=valid
    )
    wide = np.dtype("i4")
    wider = Packing(variable=name, dtype=wide, fill=_sentinel(None, wide), unpacking=unpacking)
    return [first, wider, plain] if own.itemsize < wide.itemsize else [first, plain]


def _fill(variable: xr.Variable) -> float | None:
    """Return the fill value that the file used, as stored."""
    for key in ("_FillValue", "missing_value"):
        for holder in (variable.encoding, variable.attrs):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                return float(np.asarray(holder[key]).flat[0])
    return None


def _sentinel(fill: float | None, dtype: np.dtype[Any]) -> int:
    """Return the stored number for a gap: the file's own if the type holds it, else its far end."""
    info = np.iinfo(dtype)
    if fill is not None and fill == np.rint(fill):
        number = int(fill) % 2**info.bits if dtype.kind == "u" else int(fill)
        if info.min <= number <= info.max:
            return number
    return int(info.min if dtype.kind == "i" else info.max)


def packed(variable: xr.Variable, packing: Packing, refusals: list[str]) -> xr.Variable:
    """Pack a float variable; Dask blocks are packed one by one when they are written."""
    attrs = {k: v for k, v in variable.attrs.items() if k not in ("_FillValue", "missing_value")}
    for key in VALID:
        stale = packing.dtype.kind == "f" and in_packed_units(attrs.get(key, 0.0))
        if refusals or stale:
            attrs.pop(key, None)
    if refusals:
        note = f"sstfill: stored as {packing.dtype}, because values {' and '.join(refusals)}"
        attrs["comment"] = "; ".join(filter(None, (str(attrs.get("comment", "")), note)))
    if packing.plain:
        return xr.Variable(
            variable.dims, variable._data, attrs, {"_FillValue": packing.dtype.type(np.nan)}
        )
    stored = xr.apply_ufunc(
        packing.pack, variable, dask="parallelized", output_dtypes=[packing.dtype]
    )
    stored.attrs = attrs | packing.unpacking | {"_FillValue": packing.dtype.type(packing.fill)}
    stored.encoding = {}
    return stored
