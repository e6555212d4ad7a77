# SPDX-License-Identifier: Apache-2.0
"""The one door through which files and stores are opened: each is looked at before a library
allocates or decodes.

What a stranger gave may name codecs that run code, link to other files of this machine, declare
sizes that no memory holds, or be a pipe that never ends. All that is told from metadata, and
refused in one line, before anything is read.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import os
import stat
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError, ReadError
from sstfill.io.error_origin import DAMAGED, opening, reading
from sstfill.io.untrusted import hdf5, netcdf3, zarr_metadata
from sstfill.io.untrusted.declared import check_declared, check_memory, memory
from sstfill.io.untrusted.zarr_metadata import MARKS

if TYPE_CHECKING:
    import zarr

__all__ = ["MARKS", "check_memory", "engine_of", "memory"]

HDF5 = b"\x89HDF\r\n\x1a\n"
NUMPY = b"\x93NUMPY"
MATLAB_BYTES = {
    "int8": 1,
    "uint8": 1,
    "logical": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "single": 4,
}
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
    """Name of the xarray engine for a path, by content, after all that its metadata declare has
    been checked.

    Raises
    ------
    ReadError
        Missing, no regular file, of another format, cut short; a codec, link, size or type that is
        refused.
    """
    location = Path(path)
    with opening(location, remedy):
        if _is_folder(location):
            _check_zarr(location, allow_links)
            return "zarr"
        if _is_hdf5(location):
            check_declared(location, hdf5.look(location, allow_links=allow_links))
        else:
            _check_classic(location)
        return "netcdf4"


def open_dataset(
    path: StrPath, *, chunks: Chunks = None, allow_links: bool = False, **options: Any
) -> xr.Dataset:
    """Open what a user named, as `xarray.open_dataset` does with the same options."""
    engine = engine_of(path, allow_links=allow_links)
    with opening(path):
        # absolute, because xarray takes a leading ~ for somebody's home, and a scheme for an
        # address
        location = os.path.abspath(path)  # noqa: PTH100
        if engine == "zarr":
            options["consolidated"] = is_consolidated(Path(path))
        try:
            return xr.open_dataset(location, engine=engine, chunks=chunks, **options)
        except Exception as error:
            # The frames of a failed decoding hold the open file for as long as the error lives.
            traceback.clear_frames(error.__traceback__)
            raise


def open_zarr(path: StrPath, **options: Any) -> xr.Dataset:
    """Open a store that sstfill made, as `xarray.open_zarr` does with the same options."""
    check_own(path)
    with opening(path):
        return xr.open_zarr(os.path.abspath(path), **options)  # noqa: PTH100


def open_group(path: StrPath, mode: Mode = "r", **options: Any) -> zarr.Group:
    """Open the group of a store that sstfill made, as `zarr.open_group` does with the same options.

    Where it is opened to be written, failures of the system stay `OSError`s, which writers turn
    into theirs.
    """
    import zarr

    if Path(path).is_dir():
        check_own(path)
    with opening(path) if mode == "r" else contextlib.nullcontext():
        return zarr.open_group(str(path), mode=mode, **options)


def open_array(path: StrPath, mode: Mode = "r", **options: Any) -> zarr.Array:
    """Open an array in a store that sstfill made, as `zarr.open_array` does with the same options."""
    import zarr

    check_own(path)
    with opening(path) if mode == "r" else contextlib.nullcontext():
        return zarr.open_array(str(path), mode=mode, **options)


def check_own(path: StrPath) -> None:
    """Check the codecs and sizes of a store that sstfill made; somebody may have changed it since.

    Its chunks are not listed, as this is done for every block that is written.
    """
    location = Path(path)
    with opening(location):
        if not _is_folder(location):
            raise ReadError(
                f"cannot read {location}: it is a file, not a Zarr store; check the name"
            )
        found = zarr_metadata.glance(location)
        for _ in found.declared():
            pass  # the codecs are checked as each array is described


@contextlib.contextmanager
def open_netcdf(path: StrPath, remedy: str = DAMAGED) -> Iterator[Any]:
    """Open a NetCDF file with all its groups, as a `netCDF4.Dataset`; failures while it is read are
    `ReadError`s.
    """
    import netCDF4

    if engine_of(path, remedy=remedy) != "netcdf4":
        raise ReadError(f"cannot read {path}: it is a Zarr store; give a NetCDF file")
    with reading(path, remedy), netCDF4.Dataset(os.path.abspath(path)) as held:  # noqa: PTH100
        yield held


def map_array(path: StrPath, remedy: str = "save it again as a plain array") -> NDArray[Any]:
    """Map a ``.npy`` file into memory; objects are refused."""
    location = Path(path)
    with _plain(location, remedy):
        _check_regular(location)
        if location.stat().st_size == 0:
            raise ReadError(f"cannot read {location}: it is empty; fetch it again")
        mapped: NDArray[Any] = np.load(location, mmap_mode="r", allow_pickle=False)
        return mapped


@contextlib.contextmanager
def _plain(path: Path, remedy: str) -> Iterator[None]:
    """Around the reading of arrays: NumPy refuses pickled objects in words about its own options."""
    with opening(path, remedy):
        try:
            yield
        except ValueError as error:
            if "Python objects" in str(error) or "allow_pickle" in str(error):
                raise ReadError(f"cannot read {path}: it holds Python objects; {remedy}") from error
            raise


@contextlib.contextmanager
def open_arrays(
    path: StrPath, remedy: str = "save it again as plain arrays"
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Open a ``.npz`` file; its arrays are read one by one as they are asked for.

    Raises
    ------
    ReadError
        No zip archive; arrays of objects; arrays larger than memory, or other than their headers
        say.
    """
    location = Path(path)
    with opening(location, remedy):
        _check_regular(location, missing=remedy)
        stream = location.open("rb")
    with stream:
        with opening(location, remedy):
            _check_members(location, stream)
            archive = np.load(stream, allow_pickle=False)
        yield _Arrays(location, archive, remedy)


class _Arrays(Mapping[str, NDArray[Any]]):
    """Arrays of a ``.npz`` file, whose failures are `ReadError`s."""

    def __init__(self, path: Path, archive: Any, remedy: str) -> None:
        self._path, self._archive, self._remedy = path, archive, remedy

    def __getitem__(self, key: str) -> NDArray[Any]:
        if key not in self._archive.files:
            raise KeyError(key)
        with _plain(self._path, self._remedy):
            held: NDArray[Any] = self._archive[key]
            return held

    def __iter__(self) -> Iterator[str]:
        return iter(self._archive.files)

    def __len__(self) -> int:
        return len(self._archive.files)


def _check_members(path: Path, stream: BinaryIO) -> None:
    """Compare what a zip archive of arrays declares with what there is, and with memory."""
    needed = 0
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            needed += member.file_size  # no more than this is ever unpacked
            with archive.open(member) as held:
                promised = _promised(held)
            if promised is not None and promised > member.file_size:
                raise ReadError(
                    f"cannot read {path}: {member.filename} declares {promised / 1e6:,.1f} MB and holds "
                    f"{member.file_size / 1e6:,.1f} MB; it is damaged, replace it"
                )
    check_memory(path, "unpacking it", needed)
    stream.seek(0)


def _promised(stream: Any) -> int | None:
    """Bytes of the array that a ``.npy`` header declares; None of what is no array."""
    if stream.read(len(NUMPY)) != NUMPY:
        return None
    version = tuple(stream.read(2))
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(io.BytesIO(stream.read(2**16)))
    return math.prod(shape) * dtype.itemsize


def matlab_arrays(path: StrPath, axes: int) -> dict[str, NDArray[Any]]:
    """Read the arrays of a MATLAB file that have so many axes or more."""
    from scipy.io import loadmat, whosmat

    location = Path(path)
    with opening(location, "it is damaged or no MATLAB file, replace it"):
        _check_regular(location)
        try:
            found = [
                (name, shape, kind) for name, shape, kind in whosmat(location) if len(shape) >= axes
            ]
        except NotImplementedError as error:
            raise ReadError(
                f"cannot read {location}: it is a MATLAB 7.3 (HDF5) file; save it in MATLAB with "
                "save(file, '-v7'), or as .npy"
            ) from error
        needed = sum(math.prod(shape) * MATLAB_BYTES.get(kind, 8) for _, shape, kind in found)
        check_memory(location, "loading it", needed)
        names = [name for name, _, _ in found]
        held = loadmat(location, variable_names=names) if names else {}
        return {name: held[name] for name in names}


@contextlib.contextmanager
def open_video(path: StrPath) -> Iterator[Any]:
    """Open a clip or picture with PyAV; a playlist that names other files is refused.

    Raises
    ------
    InputError
        PyAV is not installed.
    ReadError
        Damaged, or no video.
    """
    try:
        av = importlib.import_module("av")
    except ImportError as error:
        raise InputError(
            "videos and pictures need PyAV; install it: pip install 'sstfill[video]'"
        ) from error
    location = Path(path)
    with opening(location):
        _check_regular(location)
        stream = location.open("rb")
    try:
        with stream, av.open(stream, options={"protocol_whitelist": "none"}) as container:
            yield container
    except (av.error.FFmpegError, IndexError) as error:
        reason = (
            "it holds no video" if isinstance(error, IndexError) else error.strerror or str(error)
        )
        raise ReadError(
            f"cannot decode {location}: {reason}; it is damaged or no video, replace or remove it"
        ) from error


def is_consolidated(path: Path) -> bool:
    """Whether a store has a copy of all its metadata in one file, which shows it as it was when
    that was written.
    """
    if (path / ".zmetadata").is_file():
        return True
    root = path / "zarr.json"
    if not root.is_file():
        return False
    return zarr_metadata.read(path, root).get("consolidated_metadata") is not None


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store, by the files that mark one."""
    return any((path / mark).is_file() for mark in MARKS)


def _is_folder(path: Path, missing: str = "check the name") -> bool:
    """Whether a path is a folder; `ReadError` for what is neither a folder nor a regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        remote = "://" in os.fspath(path) or ":/" in os.fspath(path)
        remedy = "download it first" if remote else f"no such file; {missing}"
        raise ReadError(f"cannot read {path}: {remedy}") from error
    except PermissionError:
        raise
    except (OSError, ValueError) as error:  # a loop of links, a name too long, a NUL in it
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ReadError(f"cannot read {path}: {reason}; check the path") from error
    if stat.S_ISDIR(mode):
        return True
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise ReadError(f"cannot read {path}: it is {kind}, not a file; write it to a file first")
    return False


def _check_regular(path: Path, missing: str = "check the name") -> None:
    if _is_folder(path, missing):
        raise ReadError(f"cannot read {path}: it is a folder; give a file in it")


def _check_zarr(path: Path, allow_links: bool) -> None:
    if not is_store(path):
        raise ReadError(
            f"cannot read {path}: a folder, but no Zarr store; give the store or a NetCDF file in it"
        )
    found = zarr_metadata.look(path, allow_links=allow_links)
    check_declared(path, found.declared())


def _is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5; `ReadError` says what it is if it is neither that nor classic NetCDF."""
    size = path.stat().st_size
    if size == 0:
        raise ReadError(f"cannot read {path}: it is empty, often a failed download; fetch it again")
    with path.open("rb") as stream:
        head = stream.read(8)
        if head[:3] == b"CDF" and head[3:4] in (b"\x01", b"\x02", b"\x05"):
            return False
        for offset in (
            0,
            *(2**k for k in range(9, 22)),
        ):  # it may begin after a block of the user's
            stream.seek(offset)
            if offset < size and stream.read(8) == HDF5:
                return True
    hints = [hint for mark, hint in NOT_DATA.items() if head.startswith(mark)]
    hint = hints[0] if hints else f"it begins with {head!r}; check the name"
    raise ReadError(f"cannot read {path}: neither NetCDF nor Zarr; {hint}")


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
