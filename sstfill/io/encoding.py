# SPDX-License-Identifier: Apache-2.0
"""The dataset as it goes to disk: own packing and fill values kept, everything stale in its
encodings dropped.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import xarray as xr

from sstfill.io.packing import ladder, packed

COMPRESSION = ("zlib", "complevel", "shuffle", "fletcher32")
TIME_KEYS = ("units", "calendar", "dtype", "_FillValue")
LARGEST_CHUNK = 2**26  # bytes; larger Dask blocks are left to NetCDF's own chunking


def stored(ds: xr.Dataset, refusals: dict[str, list[str]], *, zarr: bool) -> xr.Dataset:
    """Variables of `ds` ready to be written; `refusals` are the reasons why earlier forms of each
    did not fit.
    """
    variables = {n: _stored(n, v, ds, refusals.get(str(n), [])) for n, v in ds.variables.items()}
    for name, variable in variables.items():
        variable.encoding |= {} if zarr else _layout(variable, ds.variables[name].encoding)
    data = {n: _regular(v) if zarr else v for n, v in variables.items() if n not in ds.coords}
    return xr.Dataset(data, {n: variables[n] for n in ds.coords}, ds.attrs)


def _stored(
    name: Hashable, variable: xr.Variable, ds: xr.Dataset, refusals: list[str]
) -> xr.Variable:
    old = variable.encoding
    if variable.dtype.kind == "f" and name not in ds.coords:
        new = packed(
            variable.to_base_variable(), ladder(str(name), variable)[len(refusals)], refusals
        )
    else:
        new = variable.copy(deep=False)
        new.encoding = _other(name, variable, ds)
        new.attrs = {k: v for k, v in variable.attrs.items() if k not in new.encoding}
    if str(old.get("grid_mapping", "")) in ds.variables and "grid_mapping" not in new.attrs:
        new.encoding["grid_mapping"] = old["grid_mapping"]
    return new


def _other(name: Hashable, variable: xr.Variable, ds: xr.Dataset) -> dict[str, Any]:
    """Encoding of coordinates, times, integers and text."""
    old = variable.encoding
    if variable.dtype.kind in "Mm" or _is_cftime(variable):
        return {k: old[k] for k in TIME_KEYS if k in old}
    if variable.dtype.kind == "f":  # CF allows no gaps in a coordinate variable
        own = old.get("_FillValue", variable.attrs.get("_FillValue"))
        return {"_FillValue": own if old.get("dtype", variable.dtype) == variable.dtype else None}
    same = old.get("dtype") == variable.dtype and "_FillValue" not in variable.attrs
    return (
        {"_FillValue": old["_FillValue"]}
        if same and variable.dtype.kind in "iu" and "_FillValue" in old
        else {}
    )


def _is_cftime(variable: xr.Variable) -> bool:
    return (
        variable.dtype == object
        and variable.size > 0
        and hasattr(variable.values.flat[0], "calendar")
    )


def _layout(variable: xr.Variable, old: dict[str, Any]) -> dict[str, Any]:
    """NetCDF-4 compression as the file had it, else light, and chunks that follow Dask's."""
    if variable.ndim < 2 or variable.dtype.kind not in "fiu":
        return {}
    own = {k: old[k] for k in COMPRESSION if k in old}
    layout: dict[str, Any] = own or {"zlib": True, "complevel": 2, "shuffle": True}
    if variable.chunks is not None:
        block = [max(sizes) for sizes in variable.chunks]
        fits = 0 < math.prod(block) * variable.dtype.itemsize <= LARGEST_CHUNK
        layout |= {"chunksizes": tuple(block)} if fits else {}
    return layout


def _regular(variable: xr.Variable) -> xr.Variable:
    """Chunks of one size, the last smaller, which is all that Zarr knows."""
    if variable.chunks is None:
        return variable
    sizes = {
        d: max(c)
        for d, c in zip(variable.dims, variable.chunks, strict=True)
        if set(c[:-1]) - {c[0]} or c[-1] > c[0]
    }
    return variable.chunk(sizes) if sizes else variable
