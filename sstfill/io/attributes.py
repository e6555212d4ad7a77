# SPDX-License-Identifier: Apache-2.0
"""Find the attributes, names and types that a format cannot hold, before the work is done."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sstfill.errors import WriteError
from sstfill.io.error_origin import one_line

log = logging.getLogger(__name__)

CF = (
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "units",
    "calendar",
    "coordinates",
    "dtype",
)
"""Attributes that xarray's decoder and encoder use; they are left as they are."""
RESERVED = (
    "_NCProperties",
    "_Netcdf4Dimid",
    "_Netcdf4Coordinates",
    "_nc3_strict",
    "CLASS",
    "NAME",
    "DIMENSION_LIST",
    "REFERENCE_LIST",
)
"""Names that the NetCDF and HDF5 libraries keep for attributes of their own."""
FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
    OverflowError,
)
"""What the libraries raise for data that they cannot store."""


def storable(ds: xr.Dataset, *, zarr: bool) -> xr.Dataset:
    """Return `ds` with each attribute that the format cannot hold turned into text.

    An attribute whose name the format cannot hold is left out. Both are logged as warnings.
    """
    own = storable_attrs(ds.attrs, "the dataset", zarr=zarr)
    bare = ds.copy(deep=False)
    bare.attrs = own
    for name, variable in ds.variables.items():
        kept = storable_attrs(variable.attrs, repr(name), zarr=zarr)
        if kept is not variable.attrs:
            bare[name].attrs = kept
    return bare


def check_storable(ds: xr.Dataset, target: Path, *, zarr: bool) -> None:
    """Refuse before the work a dataset whose names or types the format cannot hold.

    One value of each variable is written as the whole would be, to a temporary folder or into
    memory.

    Raises
    ------
    WriteError
        With the variable, and the message of the library.
    """
    for name in [*ds.variables, *ds.dims]:
        _check_name(name, target, zarr)
    small = storable(_sample(ds), zarr=zarr)
    try:
        _rehearse(small, zarr)
    except OSError as error:
        # of the temporary folder, which may be full: nothing is known of the target
        log.info("not known before the work whether all can be stored: %s", error)
    except FAILURES as error:
        # the libraries seldom name the variable, so each is tried alone
        culprit = next((n for n in small.variables if _fails(small, n, zarr)), None)
        what = "the dataset" if culprit is None else f"variable {culprit!r}"
        raise WriteError(
            f"cannot write {target}: {what} cannot be stored: {one_line(error)}; leave it out, or "
            "change its name, type or attributes"
        ) from error


def _sample(ds: xr.Dataset) -> xr.Dataset:
    """Return one value of each variable; lazy ones are read only if they hold text or objects."""
    first = ds.isel(dict.fromkeys(ds.dims, slice(0, 1)))
    made = {}
    for name, variable in first.variables.items():
        if variable.dtype.kind == "O":  # what can be stored depends on the objects
            values = variable.values
        else:
            values = np.zeros(variable.shape, variable.dtype)
        made[name] = xr.Variable(variable.dims, values, variable.attrs)
    data = {name: v for name, v in made.items() if name not in ds.coords}
    return xr.Dataset(data, {name: made[name] for name in ds.coords}, ds.attrs)


def _fails(ds: xr.Dataset, name: Hashable, zarr: bool) -> bool:
    try:
        _rehearse(xr.Dataset({"only": ds.variables[name].to_base_variable()}), zarr)
    except (OSError, *FAILURES):
        return True
    return False


def _rehearse(ds: xr.Dataset, zarr: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if zarr:
            from zarr.storage import MemoryStore  # takes 0.3 s to import

            ds.to_zarr(MemoryStore(), mode="w-", zarr_format=3, consolidated=False)
            return
        with tempfile.TemporaryDirectory(prefix="sstfill-") as folder:
            ds.to_netcdf(Path(folder) / "a.nc", engine="netcdf4", format="NETCDF4")


def _check_name(name: Hashable, target: Path, zarr: bool) -> None:
    text = str(name)
    fits = isinstance(name, str) and _is_name(text) and (zarr or _begins_well(text))
    if not fits or (zarr and (text.startswith("__") or text in (".", "..", "zarr.json"))):
        raise WriteError(
            f"cannot write {target}: no variable or dimension can be called {name!r} there; "
            f"rename it: ds.rename({{{name!r}: 'other'}})"
        )


def _is_name(text: str) -> bool:
    return text == text.strip() != "" and "/" not in text and text.isprintable()


def _begins_well(text: str) -> bool:
    """Whether NetCDF takes the first character of a name."""
    return text[0].isalnum() or text[0] == "_" or not text[0].isascii()


def storable_attrs(attrs: Mapping[Any, Any], of: str, *, zarr: bool = True) -> dict[Any, Any]:
    """Return attributes as they can be stored; `attrs` itself if all can."""
    holds = _json_holds if zarr else _netcdf_holds
    kept: dict[Any, Any] = {}
    changed = False
    for key, value in attrs.items():
        named = isinstance(key, str) and _is_name(key) and key not in RESERVED
        if not named or not (zarr or _begins_well(key)):
            log.warning("attribute %r of %s cannot be stored by this name; it is left out", key, of)
            changed = True
        elif key in CF or holds(value):
            kept[key] = value
        else:
            log.warning(
                "attribute %s of %s, %s, cannot be stored as it is; it is stored as text",
                key,
                of,
                type(value).__name__,
            )
            kept[key] = _text(value)
            changed = True
    return kept if changed else attrs  # type: ignore[return-value]


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except (TypeError, ValueError):
        text = str(value)
    # a NUL ends a C string, and a lone surrogate, as of a file name, cannot be UTF-8
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _json_holds(value: Any) -> bool:
    """Whether Zarr can hold a value, as xarray passes it on."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return all(map(_json_holds, value))
    if isinstance(value, dict):
        return all(_is_text(k) and _json_holds(v) for k, v in value.items())
    return value is None or isinstance(value, bool | int | float) or _is_text(value)


def _netcdf_holds(value: Any) -> bool:
    """Whether NetCDF-4 can hold a value.

    It holds text, bytes, a number of at most 64 bits, or a list of one kind of these.
    """
    if _is_text(value):
        return True
    if isinstance(value, bytes):
        return b"\0" not in value
    if isinstance(value, list | tuple) and value and all(map(_is_text, value)):
        return True
    # NetCDF has no truth values; text that came so far cannot be stored as it is
    if isinstance(value, bool | np.bool_ | str) or value is None:
        return False
    try:
        numbers = np.asarray(value)
    except (ValueError, OverflowError, TypeError):
        return False
    if numbers.dtype.kind in "SU" and isinstance(value, np.ndarray):
        return numbers.ndim <= 1 and all(map(_is_text, numbers.ravel().tolist()))
    if numbers.ndim > 1 or numbers.dtype.kind not in "iuf":
        return False
    # NetCDF-4 has floats of 32 and 64 bits alone
    return numbers.dtype != np.float16 and numbers.dtype.itemsize <= 8
