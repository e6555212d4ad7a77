# SPDX-License-Identifier: Apache-2.0
"""Store floats as the integers or with the fill value that their file used, never wrapping and
never losing one.

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

from sstfill.io.missing import in_packed_units, valid_range

VALID = ("valid_min", "valid_max", "valid_range")


class DoesNotFit(Exception):  # noqa: N818  (a signal to the writer, never shown)
    """A value of the variable (first argument) that its packing cannot hold, and why (second)."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How one variable is stored: `stored = round((value - offset) / scale)`, gaps as `fill`."""

    variable: str
    dtype: np.dtype[Any]
    fill: Any = np.nan
    unpacking: dict[str, Any] = field(
        default_factory=dict
    )  # scale_factor, add_offset as the file had them
    valid: tuple[float | None, float | None] = (None, None)  # unpacked

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
        held, info = stored[~gap], np.iinfo(self.dtype)
        self._refuse(
            bool(((held < info.min) | (held > info.max)).any()), f"do not fit {self.dtype}"
        )
        self._refuse(bool((held == float(self.fill)).any()), f"land on its fill value {self.fill}")
        return np.where(gap, float(self.fill), stored).astype(self.dtype)

    def _refuse(self, trouble: bool, reason: str) -> None:
        if trouble:
            raise DoesNotFit(self.variable, reason)


def scaling(encoding: dict[str, Any]) -> tuple[float, float]:
    """Scale and offset of a packing."""
    return tuple(
        float(np.ravel(encoding.get(k, d))[0]) for k, d in (("scale_factor", 1), ("add_offset", 0))
    )  # type: ignore[return-value]


def ladder(name: str, variable: xr.Variable) -> list[Packing]:
    """Forms in which to store a float variable: its own; its own on 32 bits; floats with NaN, which
    hold anything.
    """
    encoding = variable.encoding
    plain = Packing(variable=name, dtype=variable.dtype.newbyteorder("="))
    own = np.dtype(encoding.get("dtype", plain.dtype))
    fill, valid = _fill(variable), valid_range(variable)
    if (
        own.kind not in "iu"
        or scaling(encoding)[0] in (0.0, np.inf)
        or not np.isfinite(scaling(encoding)).all()
    ):
        first = Packing(
            variable=name, dtype=plain.dtype, fill=np.nan if fill is None else fill, valid=valid
        )
        return [plain] if first.plain or own.kind in "iu" else [first, plain]
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
    """Fill value that the file used, as stored."""
    for key in ("_FillValue", "missing_value"):
        for holder in (variable.encoding, variable.attrs):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                return float(np.asarray(holder[key]).flat[0])
    return None


def _sentinel(fill: float | None, dtype: np.dtype[Any]) -> int:
    """Stored number for a gap: the file's own where the type holds it, else the far end of the
    type.
    """
    info = np.iinfo(dtype)
    if fill is not None and fill == np.rint(fill):
        number = int(fill) % 2**info.bits if dtype.kind == "u" else int(fill)
        if info.min <= number <= info.max:
            return number
    return int(info.min if dtype.kind == "i" else info.max)


def packed(variable: xr.Variable, packing: Packing, refusals: list[str]) -> xr.Variable:
    """Store a float variable so; Dask blocks are packed one by one when written."""
    attrs = {k: v for k, v in variable.attrs.items() if k not in ("_FillValue", "missing_value")}
    if refusals or packing.dtype.kind == "f":
        attrs = {
            k: v for k, v in attrs.items() if k not in VALID or not (refusals or in_packed_units(v))
        }
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
