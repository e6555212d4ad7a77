# SPDX-License-Identifier: Apache-2.0
"""How each variable of an imported archive is stored: packed as in its granules."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.config import without
from sstfill.fields.reading.sentinels import RANGES, default_fill
from sstfill.sources.granules.look import PACKING, Granule
from sstfill.sources.granules.survey import GranuleArchive

WIDER = {"i1": "i2", "u1": "i2", "i2": "i4", "u2": "i4", "i4": "i8", "u4": "i8"}
NUMBERS_OF_FLAGS = ("flag_masks", "flag_values", *RANGES)


@dataclass(frozen=True, kw_only=True)
class StoredVariable:
    """A variable of the store.

    Attributes
    ----------
    name, attrs
        Of the variable.
    dims, shape
        Beside time.
    dtype, fill
        Stored type and fill value; `fill` is None if nothing can be missing.
    unpacked
        Granules pack it differently, and it is stored as floats.
    unsigned
        Granules store it as signed integers and mean unsigned ones.
    masked
        Its pixels of low quality become missing.
    unwritten
        What NetCDF holds where nothing was written, if no fill value is declared; None else.
    """

    name: str
    dims: tuple[Hashable, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    attrs: dict[Any, Any]
    unpacked: bool = False
    unsigned: bool = False
    masked: bool = False
    unwritten: float | None = None

    def empty(self, steps: int) -> NDArray[Any]:
        """Return an array of `steps` steps without an observation."""
        if self.fill is None:
            return np.zeros((steps, *self.shape), self.dtype)
        return np.full((steps, *self.shape), self.fill, self.dtype)

    def read(
        self, granule: Granule, at: int, raw: xr.Dataset, keep: xr.DataArray | None
    ) -> NDArray[Any] | None:
        """Read image `at` of a granule as it is stored; None if the granule does not have it."""
        if self.unpacked:
            with io.open(granule.path, chunks={}) as decoded:
                return self._image(decoded, granule, at, keep)
        return self._image(raw, granule, at, keep)

    def _image(
        self, ds: xr.Dataset, granule: Granule, at: int, keep: xr.DataArray | None
    ) -> NDArray[Any] | None:
        if self.name not in ds.variables:
            return None
        image = ds[self.name]
        if granule.time_dim in image.dims:
            image = image.isel({granule.time_dim: at})
        values = image.variable
        if self.unsigned:
            # the same bits: NetCDF-3 has no unsigned types, so producers mark signed ones with
            # _Unsigned
            values = values.astype(f"u{values.dtype.itemsize}", casting="unsafe")
        values = values.astype(self.dtype)
        if self.unwritten is not None:
            values = values.where(values != self.dtype.type(self.unwritten))
        if self.masked and keep is not None:
            values = values.where(keep.variable, self.dtype.type(self.fill))
        return np.asarray(values.transpose(*self.dims).values)


def columns(
    archive: GranuleArchive, raw: xr.Dataset, *, gaps: bool, quality: bool
) -> list[StoredVariable]:
    """Return the variables of a store.

    Parameters
    ----------
    archive, raw
        The granules, and the first of them, packed.
    gaps
        Some steps have no granule.
    quality
        Pixels of low quality become missing in the fields.
    """
    return [_column(name, archive, raw, gaps=gaps, quality=quality) for name in archive.first.dims]


def _column(
    name: str, archive: GranuleArchive, raw: xr.Dataset, *, gaps: bool, quality: bool
) -> StoredVariable:
    attrs, dims = dict(raw[name].attrs), archive.first.dims[name]
    # NetCDF-3 files are big-endian
    dtype, fill = raw[name].dtype.newbyteorder("="), attrs.get("_FillValue")
    masked = quality and name in archive.first.fields
    unpacked = name in archive.repacked
    unsigned, unwritten = False, None
    if unpacked:
        stale = {*PACKING, "missing_value"}
        if dtype.kind in "iu":
            stale.update(RANGES)  # in packed units
        attrs = without(attrs, stale)
        # numbers of two bytes fit single precision exactly
        small = dtype == "f4" or (dtype.kind in "iu" and dtype.itemsize <= 2)
        dtype, fill = np.dtype("f8"), np.nan
        if small:
            dtype = np.dtype("f4")
    elif fill is None and dtype.kind == "f":
        # the store is no NetCDF file: what was never written is told there by NaN
        fill, unwritten = np.nan, float(default_fill(dtype))
    # packed without a fill value: NetCDF's own, which bytes lack, for each of their numbers may be
    # a value
    elif fill is None and "scale_factor" in attrs and dtype.itemsize > 1:
        fill = default_fill(dtype)
    elif fill is None and (gaps or masked or name in archive.lacking):
        # every number of a flag may have a meaning: the next wider type has one to spare
        unsigned = attrs.pop("_Unsigned", "") == "true"
        own = dtype
        if unsigned:
            own = np.dtype(f"u{dtype.itemsize}")
        dtype = np.dtype(WIDER.get(own.str[1:], "i8"))
        for key in NUMBERS_OF_FLAGS:
            numbers = np.asarray(attrs.get(key, ""))
            if numbers.dtype.kind in "iu":
                attrs[key] = numbers.astype(own).astype(dtype)
        fill = np.iinfo(dtype).min
    if fill is not None:
        attrs["_FillValue"] = fill = dtype.type(fill)
    shape = tuple(archive.first.sizes[d] for d in dims)
    return StoredVariable(
        name=name,
        dims=dims,
        shape=shape,
        dtype=dtype,
        fill=fill,
        attrs=attrs,
        unpacked=unpacked,
        unsigned=unsigned,
        masked=masked,
        unwritten=unwritten,
    )
