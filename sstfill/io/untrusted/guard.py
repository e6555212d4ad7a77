# SPDX-License-Identifier: Apache-2.0
"""Open datasets, stores and videos, each checked before a library allocates or decodes.

A stranger's file may name codecs that run code, link to other files of this machine, declare sizes
that no memory holds, or be a pipe that never ends. Its metadata tell, and it is refused in one line
before anything is read.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import stat
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from sstfill.errors import InputError, ReadError
from sstfill.fields.reading import dates
from sstfill.fields.reading.sentinels import restore
from sstfill.io.backends import BACKENDS
from sstfill.io.error_origin import DAMAGED, opening, reading
from sstfill.io.output.place import kind_of
from sstfill.io.untrusted import hdf5, netcdf3, zarr_metadata
from sstfill.io.untrusted.declared import check_declared, check_memory, memory
from sstfill.io.untrusted.zarr_metadata import MARKS

if TYPE_CHECKING:
    import zarr

__all__ = ["MARKS", "check_memory", "engine_of", "memory"]

HDF5 = b"\x89HDF\r\n\x1a\n"
NOT_DATA = {
    b"\x1f\x8b": "it is gzip-compressed; gunzip it first",
    b"PK\x03\x04": "it is a zip archive; unzip it first",
    b"GRIB": "it is GRIB; convert it to NetCDF first",
    b"\x0e\x03\x13\x01": "it is HDF4; convert it to NetCDF first",
    b"<": "it is a web page or XML, often a failed download; fetch it again",
}

Mode = Literal["r", "r+", "a"]
StrPath = str | os.PathLike[str]
Chunks = int | str | Mapping[str, int | str] | None


def engine_of(path: StrPath, *, allow_links: bool = False, remedy: str = DAMAGED) -> str:
    """Check what the metadata of a file or store declare, and name the xarray engine for it.

    The format is found by content, not by name.

    Raises
    ------
    ReadError
        Missing, not a regular file, of another format, cut short; a codec, link, size or type that
        is refused.
    """
    location = Path(path)
    with opening(location, remedy):
        if _is_folder(location):
            if not is_store(location):
                raise ReadError(
                    f"cannot read {location}: a folder, but no Zarr store; give the store or a "
                    "NetCDF file in it"
                )
            found = zarr_metadata.read_all(location, allow_links=allow_links)
            check_declared(location, found.declared())
            zarr_metadata.check_blosc(found)
            return "zarr"
        if _is_hdf5(location):
            check_declared(location, hdf5.declared_arrays(location, allow_links=allow_links))
        else:
            _check_classic(location)
        return "netcdf4"


def open_dataset(
    path: StrPath,
    *,
    chunks: Chunks = None,
    allow_links: bool = False,
    group: str = "",
    declared: bool = False,
    **options: Any,
) -> xr.Dataset:
    """Open what a user named, as `xarray.open_dataset` does with the same options.

    All of the file is checked, also where one `group` of it is opened. With `declared`, what stands
    for missing values is declared before it is decoded, see `sstfill.io.backends`.
    """
    engine = engine_of(path, allow_links=allow_links)
    with opening(path):
        # absolute: xarray takes a leading ~ for a home folder, and a scheme for an address
        location = os.path.abspath(path)  # noqa: PTH100
        if engine == "zarr":
            options["consolidated"] = not group and is_consolidated(Path(path))
        if group:
            options["group"] = group
        backend = BACKENDS[engine] if declared else engine
        try:
            ds = xr.open_dataset(location, engine=backend, chunks=chunks, **options)
            restore(ds)
            return ds
        except Exception as error:
            # the frames of a failed decoding hold the open file for as long as the error lives
            traceback.clear_frames(error.__traceback__)
            if "decode_times" not in str(error):
                raise
        # One time that xarray cannot decode, such as months since a date, does not stop the file.
        undecoded = xr.open_dataset(
            location, engine=backend, chunks=chunks, decode_times=False, **options
        )
        restore(undecoded)
        return dates.decode(undecoded)


def open_zarr(path: StrPath, **options: Any) -> xr.Dataset:
    """Open a store that sstfill made, as `xarray.open_zarr` does with the same options."""
    check_own(path)
    with opening(path):
        return xr.open_zarr(os.path.abspath(path), **options)  # noqa: PTH100


def open_group(path: StrPath, mode: Mode = "r", **options: Any) -> zarr.Group:
    """Open the group of a store that sstfill made, as `zarr.open_group` does with the same options.

    If it is opened to be written, failures of the system stay `OSError`s, which writers turn into
    `WriteError`s.
    """
    import zarr

    if Path(path).is_dir():
        check_own(path)
    with opening(path) if mode == "r" else contextlib.nullcontext():
        return zarr.open_group(str(path), mode=mode, **options)


def open_array(path: StrPath, mode: Mode = "r", **options: Any) -> zarr.Array:
    """Open an array of a store that sstfill made, as `zarr.open_array` does, see `open_group`."""
    import zarr

    check_own(path)
    with opening(path) if mode == "r" else contextlib.nullcontext():
        return zarr.open_array(str(path), mode=mode, **options)


def check_own(path: StrPath) -> None:
    """Check the codecs of a store that sstfill made; somebody may have changed it since.

    Its chunks are not listed, because this is called for every block that is written.
    """
    location = Path(path)
    with opening(location):
        if not _is_folder(location):
            raise ReadError(
                f"cannot read {location}: it is a file, not a Zarr store; check the name"
            )
        for _ in zarr_metadata.read_own(location).declared():
            pass  # describing an array checks its codecs


@contextlib.contextmanager
def open_netcdf(path: StrPath, remedy: str = DAMAGED) -> Iterator[Any]:
    """Open a NetCDF file with its groups; failures of the body's reading are `ReadError`s.

    Yields
    ------
    netCDF4.Dataset
    """
    import netCDF4

    if engine_of(path, remedy=remedy) != "netcdf4":
        raise ReadError(f"cannot read {path}: it is a Zarr store; give a NetCDF file")
    with reading(path, remedy), netCDF4.Dataset(os.path.abspath(path)) as dataset:  # noqa: PTH100
        yield dataset


@contextlib.contextmanager
def open_video(path: StrPath) -> Iterator[Any]:
    """Open a clip or picture with PyAV; a playlist that names other files is refused.

    Raises
    ------
    InputError
        PyAV is not installed.
    ReadError
        It is damaged or not a video.
    """
    try:
        av = importlib.import_module("av")
    except ImportError as error:
        raise InputError(
            "videos and pictures need PyAV; install it: pip install 'sstfill[video]'"
        ) from error
    location = Path(path)
    with opening(location):
        check_regular(location)
        stream = location.open("rb")
    try:
        with stream, av.open(stream, options={"protocol_whitelist": "none"}) as container:
            yield container
    except IndexError as error:  # no stream of that number
        raise ReadError(
            f"cannot decode {location}: it holds no video; replace or remove it"
        ) from error
    except av.error.FFmpegError as error:
        raise ReadError(
            f"cannot decode {location}: {error.strerror or error}; it is damaged or not a video, "
            "replace or remove it"
        ) from error


def is_consolidated(path: Path) -> bool:
    """Whether a store has a copy of all its metadata in one file, which may be out of date."""
    if (path / ".zmetadata").is_file():
        return True
    root = path / "zarr.json"
    if not root.is_file():
        return False
    return zarr_metadata.read_document(path, root).get("consolidated_metadata") is not None


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store, by the files that mark one."""
    return any((path / mark).is_file() for mark in MARKS)


def _is_folder(path: Path, missing: str = "check the name") -> bool:
    """Whether a path is a folder; `ReadError` if it is neither that nor a regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        remote = "://" in os.fspath(path) or ":/" in os.fspath(path)
        remedy = "download it first" if remote else f"no such file; {missing}"
        raise ReadError(f"cannot read {path}: {remedy}") from error
    except PermissionError:
        raise  # `opening` has the remedy
    except OSError as error:  # a loop of links, or a name too long
        raise ReadError(f"cannot read {path}: {error.strerror}; check the path") from error
    except ValueError as error:  # a NUL in it
        raise ReadError(f"cannot read {path}: {error}; check the path") from error
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        return stat.S_ISDIR(mode)
    raise ReadError(
        f"cannot read {path}: it is {kind_of(mode)}, not a file; write it to a file first"
    )


def check_regular(path: Path, missing: str = "check the name") -> None:
    """Refuse what is not a regular file; `missing` says what to do if it does not exist."""
    if _is_folder(path, missing):
        raise ReadError(f"cannot read {path}: it is a folder; give a file in it")


def _is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5; False for classic NetCDF, and `ReadError` for anything else."""
    size = path.stat().st_size
    if size == 0:
        raise ReadError(f"cannot read {path}: it is empty, often a failed download; fetch it again")
    with path.open("rb") as stream:
        head = stream.read(8)
        if head[:3] == b"CDF" and head[3:4] in (b"\x01", b"\x02", b"\x05"):
            return False
        # HDF5 may begin after a block of the user's, of 512 bytes or a multiple by a power of two
        offsets = [0]
        offsets += [2**k for k in range(9, 22)]
        for offset in offsets:
            stream.seek(offset)
            if offset < size and stream.read(8) == HDF5:
                return True
    for magic, hint in NOT_DATA.items():
        if head.startswith(magic):
            raise ReadError(f"cannot read {path}: neither NetCDF nor Zarr; {hint}")
    raise ReadError(
        f"cannot read {path}: neither NetCDF nor Zarr; it begins with {head!r}; check the name"
    )


def _check_classic(path: Path) -> None:
    size = path.stat().st_size
    try:
        header = netcdf3.header(path)
    except ValueError as error:
        raise ReadError(f"cannot read {path}: {error}; fetch it again") from error
    if size < header.nbytes:
        raise ReadError(
            f"cannot read {path}: cut short, {size} of {header.nbytes} bytes; fetch it again"
        )
    check_declared(path, header.arrays)
