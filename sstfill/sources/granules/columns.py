# SPDX-License-Identifier: Apache-2.0
"""How each variable of an archive is stored: packed as in its granules, with a number for what is
missing.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.io.packing import VALID
from sstfill.sources.granules.look import PACKING, Granule
from sstfill.sources.granules.survey import GranuleArchive

WIDER = {"i1": "i2", "u1": "i2", "i2": "i4", "u2": "i4", "i4": "i8", "u4": "i8"}
NUMBERS_OF_FLAGS = ("flag_masks", "flag_values", *VALID)


@dataclass(frozen=True, kw_only=True)
class StoredVariable:
    """A variable of the store: dims and shape beside time, stored type, and the number of what is
    missing.

    `fill` is None where nothing can be missing. `unpacked`: granules pack it differently, and it is
    stored as floats. `unsigned`: stored in granules as signed, meant as unsigned integers.
    `masked`: its low quality becomes missing.
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

    def empty(self, steps: int) -> NDArray[Any]:
        """Steps in which nothing was seen."""
        return np.full((steps, *self.shape), 0 if self.fill is None else self.fill, self.dtype)

    def read(
        self, granule: Granule, at: int, raw: xr.Dataset, keep: xr.DataArray | None
    ) -> NDArray[Any] | None:
        """Image `at` of a granule as it is stored; None where the granule does not have it."""
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
        image = image.isel({granule.time_dim: at}) if granule.time_dim in image.dims else image
        values = image.variable
        if self.unsigned:
            values = values.astype(f"u{values.dtype.itemsize}", casting="unsafe")
        values = values.astype(self.dtype)
        if self.masked and keep is not None:
            values = values.where(keep.variable, self.dtype.type(self.fill))
        return np.asarray(values.transpose(*self.dims).values)


def columns(
    archive: GranuleArchive, raw: xr.Dataset, *, gaps: bool, quality: bool
) -> list[StoredVariable]:
    """Columns of a store; `gaps`: some steps are missing; `quality`: low quality becomes missing in
    the fields.
    """
    return [_column(name, archive, raw, gaps=gaps, quality=quality) for name in archive.first.dims]


def _column(
    name: str, archive: GranuleArchive, raw: xr.Dataset, *, gaps: bool, quality: bool
) -> StoredVariable:
    attrs, dims = dict(raw[name].attrs), archive.first.dims[name]
    masked = quality and name in archive.first.fields
    dtype, fill, unsigned = raw[name].dtype.newbyteorder("="), attrs.get("_FillValue"), False
    unpacked = name in archive.repacked
    if unpacked:
        small = dtype.kind in "iu" and dtype.itemsize <= 2
        packed = dtype.kind in "iu"
        attrs = {k: v for k, v in attrs.items() if k not in PACKING and not (packed and k in VALID)}
        attrs.pop("missing_value", None)
        dtype, fill = np.dtype("f4" if small or dtype == "f4" else "f8"), np.nan
    elif fill is None and dtype.kind == "f":
        fill = np.nan
    elif fill is None and (gaps or masked or name in archive.lacking):
        unsigned = attrs.pop("_Unsigned", "") == "true"
        own = np.dtype(f"u{dtype.itemsize}") if unsigned else dtype
        dtype = np.dtype(WIDER.get(own.str[1:], "i8"))
        attrs |= {
            k: np.asarray(attrs[k]).astype(own).astype(dtype)
            for k in NUMBERS_OF_FLAGS
            if _whole(attrs.get(k))
        }
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
    )


def _whole(value: Any) -> bool:
    return value is not None and np.asarray(value).dtype.kind in "iu"
