# SPDX-License-Identifier: Apache-2.0
"""Tell a failure of the storage libraries from one of ours or the caller's, by where it was raised."""

from __future__ import annotations

import sys
import traceback

BACKENDS = ("xarray.backends", "xarray.coding", "xarray.conventions", "zarr", "numcodecs", "netCDF4")
READERS = {"_getitem", "__getitem__", "get_array", "get_duck_array", "getitem", "_oindex_get", "decode"}


def _frames(error: BaseException) -> list[tuple[str, str]]:
    walked = traceback.walk_tb(error.__traceback__)
    return [(str(f.f_globals.get("__name__", "")), f.f_code.co_name) for f, _ in walked]


def from_backend(error: BaseException) -> bool:
    """Whether a storage library raised the failure (innermost frame but for the standard library), or NetCDF says so.

    >>> from_backend(ValueError("ours"))
    False
    """
    frames = _frames(error)
    own = [module for module, _ in frames if module.partition(".")[0] not in sys.stdlib_module_names]
    inner = bool(own) and _is_backend(own[-1])  # json, asyncio and the like fail on behalf of their caller
    low_level = isinstance(error, OSError) and any(_is_backend(module) for module, _ in frames)
    return inner or low_level or str(error).startswith("NetCDF: ")


def while_reading(error: BaseException) -> bool:
    """Whether a storage failure arose from reading stored values, as against writing them."""
    return from_backend(error) and any(_is_backend(m) and name in READERS for m, name in _frames(error))


def _is_backend(module: str) -> bool:
    return any(module == b or module.startswith(b + ".") for b in BACKENDS)


def one_line(error: BaseException) -> str:
    """First line of a message, or the type where it is empty."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
