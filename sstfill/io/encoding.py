# SPDX-License-Identifier: Apache-2.0
"""Prepare a dataset for the disk: keep its packing and fill values, drop stale encodings."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from sstfill.config import only, without
from sstfill.fields.ancillary import MEMBER
from sstfill.fields.reading.missing import valid_range
from sstfill.fields.reading.sentinels import RANGES
from sstfill.io.packing import COMPRESSION, Packing, as_given, ladder, packed

TIME_KEYS = ("units", "calendar", "dtype", "_FillValue")
LARGEST_CHUNK = 2**26  # bytes; larger Dask blocks are left to NetCDF's own chunking
MEMBER_CHUNK = 2**24  # bytes


def stored(ds: xr.Dataset, refusals: dict[str, list[str]], *, zarr: bool) -> xr.Dataset:
    """Return the variables of `ds` ready to be written.

    `refusals` are the reasons why narrower forms of a variable did not fit, see `packing.ladder`.
    """
    data, coords = {}, {}
    for name, variable in ds.variables.items():
        ready = _stored(name, variable, ds, refusals.get(str(name), []))
        if not zarr:
            ready.encoding |= _layout(ready, variable.encoding)
        # coordinates are small, and written whole
        elif name not in ds.coords:
            ready = _regular(ready)
            if _is_drawn(ready):
                ready.encoding["chunks"] = _of_one_member(ready)
        if name in ds.coords:
            coords[name] = ready
        else:
            data[name] = ready
    return xr.Dataset(data, {name: coords[name] for name in ds.coords}, ds.attrs)


def _stored(
    name: Hashable, variable: xr.Variable, ds: xr.Dataset, refusals: list[str]
) -> xr.Variable:
    variable = as_given(variable)
    old = variable.encoding
    if variable.dtype.kind == "f" and name not in ds.coords:
        form = ladder(str(name), variable)[len(refusals)]
        new = packed(variable.to_base_variable(), form, refusals)
    else:
        new = variable.copy(deep=False)
        new.encoding = _other(name, variable, ds)
        own = attrs_as_stored(variable)
        new.attrs = without(own, new.encoding)
    if str(old.get("grid_mapping", "")) in ds.variables and "grid_mapping" not in new.attrs:
        new.encoding["grid_mapping"] = old["grid_mapping"]
    return new


def attrs_as_stored(variable: xr.Variable) -> dict[str, Any]:
    """Return the attributes of a variable whose values are stored as they are in memory.

    A valid range of packed or signed numbers is that of the numbers that are stored, or left out.
    """
    declared = {key: value for key, value in variable.attrs.items() if key in RANGES}
    attrs = without(variable.attrs, RANGES)
    if variable.dtype.kind == "f" and declared:  # a coordinate
        low, high = valid_range(variable)
        values = variable.values
        below = low is not None and bool((values < low).any())
        above = high is not None and bool((values > high).any())
        if not (below or above):
            plain = Packing(variable="", dtype=variable.dtype, valid=(low, high))
            attrs |= plain.valid_attrs(pair="valid_range" in declared)
        return attrs
    # xarray has made unsigned numbers of them, and leaves the bounds signed
    unsigned = variable.dtype.kind == "u" and variable.encoding.get("_Unsigned") == "true"
    for key, value in declared.items():
        numbers = np.asarray(value)
        if unsigned and numbers.dtype.kind == "i":
            numbers = numbers.astype(variable.dtype)  # -6 is 65530
        attrs[key] = numbers[()] if unsigned else value
    return attrs


def _other(name: Hashable, variable: xr.Variable, ds: xr.Dataset) -> dict[str, Any]:
    """Return the encoding of coordinates, times, integers and text."""
    variable = as_given(variable)
    old = variable.encoding
    if variable.dtype.kind in "Mm" or _is_cftime(variable):
        return only(old, TIME_KEYS)
    if variable.dtype.kind == "f":  # CF allows no gaps in a coordinate variable
        own = old.get("_FillValue", variable.attrs.get("_FillValue"))
        # None, for else xarray would write NaN as the fill value of floats
        return {"_FillValue": own if old.get("dtype", variable.dtype) == variable.dtype else None}
    same = old.get("dtype") == variable.dtype and "_FillValue" not in variable.attrs
    if same and variable.dtype.kind in "iu" and "_FillValue" in old:
        return {"_FillValue": old["_FillValue"]}
    return {}


def _is_cftime(variable: xr.Variable) -> bool:
    if variable.dtype != object or variable.size == 0:
        return False
    # without importing cftime
    return hasattr(variable.values.flat[0], "calendar")


def _layout(variable: xr.Variable, old: dict[str, Any]) -> dict[str, Any]:
    """Return NetCDF-4 compression as the file had it, else light, and chunks that follow Dask's."""
    if variable.ndim < 2 or variable.dtype.kind not in "fiu":
        return {}
    own = only(old, COMPRESSION)
    layout: dict[str, Any] = own or {"zlib": True, "complevel": 2, "shuffle": True}
    if variable.chunks is not None:
        block = tuple(map(max, variable.chunks))
        if 0 < math.prod(block) * variable.dtype.itemsize <= LARGEST_CHUNK:
            # a chunk across two blocks would be compressed twice
            layout["chunksizes"] = block
    elif _is_drawn(variable):
        layout["chunksizes"] = _of_one_member(variable)
    return layout


def _is_drawn(variable: xr.Variable) -> bool:
    """Whether a variable in memory holds members, which are read one by one."""
    return variable.chunks is None and variable.dims[:1] == (MEMBER,) and variable.size > 0


def _of_one_member(variable: xr.Variable) -> tuple[int, ...]:
    """Return the shape of a chunk: of one member, whole images as far as `MEMBER_CHUNK` allows."""
    lengths = [1, *variable.shape[1:]]
    while math.prod(lengths) * variable.dtype.itemsize > MEMBER_CHUNK:
        longest = lengths.index(max(lengths))
        # rounded up
        lengths[longest] = -(-lengths[longest] // 2)
    return tuple(lengths)


def _regular(variable: xr.Variable) -> xr.Variable:
    """Rechunk to chunks of one size, the last smaller, which is all that Zarr knows."""
    if variable.chunks is None:
        return variable
    sizes = {}
    for dim, lengths in zip(variable.dims, variable.chunks, strict=True):
        if any(n != lengths[0] for n in lengths[:-1]) or lengths[-1] > lengths[0]:
            sizes[dim] = max(lengths)
    return variable.chunk(sizes) if sizes else variable
