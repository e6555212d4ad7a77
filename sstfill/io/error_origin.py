# SPDX-License-Identifier: Apache-2.0
"""Turn what the storage libraries raise into one-line `ReadError`s, but not our own bugs.

`opening` stands around code that only opens: whatever it raises is the fault of what is opened.
`reading` stands around code that computes too: there the frames of the traceback tell whether a
storage library raised it while it read.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator

from sstfill.errors import ReadError, SstfillError
from sstfill.printable import printable

STORAGE = (
    "xarray.backends",
    "xarray.coding",
    "xarray.conventions",
    "zarr",
    "numcodecs",
    "netCDF4",
    "cftime",
    "h5py",
)
"""Modules that fetch and decode what is stored."""
LIBRARIES = {"xarray", "zarr", "numcodecs", "netCDF4", "cftime", "h5py", "numpy", "pandas"}
"""Packages in which the storage modules, or what they call, may fail on their behalf."""
READERS = {
    "_getitem",
    "__getitem__",
    "get_array",
    "get_duck_array",
    "getitem",
    "_oindex_get",
    "decode",
}
LONGEST = 300
"""Characters of a library's message that are passed on."""
DAMAGED = "it is damaged or cut short, fetch it again"


@contextlib.contextmanager
def opening(path: str | os.PathLike[str], remedy: str = DAMAGED) -> Iterator[None]:
    """Turn every failure into a `ReadError` that names `path`; no code of a caller may run inside.

    Warnings of the libraries are dropped: each either becomes an error later or has no use for the
    user.

    >>> with opening("sst.zarr"):
    ...     raise KeyError("chunks")
    Traceback (most recent call last):
    ...
    sstfill.errors.ReadError: cannot read sst.zarr: no 'chunks'; it is damaged or cut short, fetch
    it again
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SstfillError:
        raise
    except Exception as error:
        raise _read_error(path, error, remedy) from error


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], remedy: str = DAMAGED) -> Iterator[None]:
    """Turn failures of the storage libraries into one-line `ReadError`s while values are computed.

    >>> with reading("sst.nc"):
    ...     raise RuntimeError("NetCDF: HDF error")
    Traceback (most recent call last):
    ...
    sstfill.errors.ReadError: cannot read sst.nc: NetCDF: HDF error; it is damaged or cut short,
    fetch it again
    """
    try:
        with quiet():
            yield
    except SstfillError:
        raise
    except Exception as error:
        if not from_backend(error):
            raise
        raise _read_error(path, error, remedy) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop the warnings of the storage libraries, and no others."""
    with warnings.catch_warnings():
        for package in ("xarray", "zarr", "numcodecs", "netCDF4", "cftime", "h5py"):
            warnings.filterwarnings("ignore", module=rf"{package}(\.|$)")
        yield


def _read_error(path: str | os.PathLike[str], error: Exception, remedy: str) -> ReadError:
    name = os.fspath(path)
    if isinstance(error, PermissionError):
        return ReadError(f"cannot read {name}: permission denied; ask its owner, or chmod +r it")
    if isinstance(error, MemoryError):
        return ReadError(
            f"cannot read {name}: {one_line(error)}; there is not enough memory for it"
        )
    # xarray states in these words that it cannot decode times
    undated = "decode" in str(error) and isinstance(error, ValueError | OverflowError)
    if undated and not isinstance(error, UnicodeError):
        return ReadError(
            f"cannot read {name}: {one_line(error)}; mend its time units, or open it with "
            "xarray.open_dataset(decode_times=False) and set time"
        )
    return ReadError(f"cannot read {name}: {one_line(error)}; {remedy}")


def _frames(error: BaseException) -> list[tuple[str, str]]:
    """Return module and function of the innermost frames, up to the first that is not a library's.

    The innermost is first. Frames of sstfill, of its caller and of Dask end the list.
    """
    walked = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    below = []
    for frame in reversed(walked):
        name = frame.f_code.co_name
        # the frames of compiled modules have no globals; their functions carry the module's name
        module = str(frame.f_globals.get("__name__") or name)
        package = module.partition(".")[0]
        # from here outward, it is the code that asked the library
        if package not in LIBRARIES and package not in sys.stdlib_module_names:
            break
        below.append((module, name))
    return below


def from_backend(error: BaseException) -> bool:
    """Whether a storage library raised the error, or called what raised it.

    >>> from_backend(ValueError("ours"))
    False
    """
    return str(error).startswith("NetCDF: ") or any(_is_storage(m) for m, _ in _frames(error))


def while_reading(error: BaseException) -> bool:
    """Whether a storage failure arose from reading stored values, as against writing them."""
    if not from_backend(error):
        return False
    for module, name in _frames(error):
        if _is_storage(module) and name.rpartition(".")[2] in READERS:
            return True
    return False


def _is_storage(module: str) -> bool:
    # with the dot, or zarrlike would pass for zarr
    return f"{module}.".startswith(tuple(f"{known}." for known in STORAGE))


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty.

    >>> one_line(KeyError("chunks"))
    "no 'chunks'"
    """
    message = str(error).strip()
    if isinstance(error, KeyError) and len(error.args) == 1:
        # the text of a KeyError is the bare key
        message = f"no {error.args[0]!r}"
    elif isinstance(error, OSError) and error.strerror:
        message = error.strerror
    lines = message.splitlines() or [type(error).__name__]
    line = printable(lines[0])  # libraries quote names from the file as they are
    return line if len(line) <= LONGEST else line[:LONGEST] + "..."
