# SPDX-License-Identifier: Apache-2.0
"""Read files of plain arrays (``.npy``, ``.npz``, ``.mat``), our own and strangers'.

The size that a header declares is compared with the bytes that are there before memory is taken,
and pickled objects are never loaded.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import ReadError
from sstfill.io.error_origin import opening
from sstfill.io.untrusted.declared import check_memory
from sstfill.io.untrusted.documents import open_regular, squeezed, unreadable
from sstfill.io.untrusted.guard import check_regular

StrPath = str | os.PathLike[str]
MAGIC = b"\x93NUMPY"
HEADER_BYTES = 2**16
"""Bytes of the header of a ``.npy`` file that are looked at; NumPy itself stops at 10,000."""
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
"""Bytes of an element by MATLAB class; every other class has 8."""
DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    SyntaxError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
)
"""What `zipfile` and `numpy.lib.format` raise for a damaged file."""


class ArrayHeader(NamedTuple):
    """What the header of a ``.npy`` file declares, and the bytes that the header itself takes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes]) -> ArrayHeader | None:
    """Read the header of a ``.npy`` file; None if it is another kind of file."""
    start = io.BytesIO(stream.read(HEADER_BYTES))
    if not start.getvalue().startswith(MAGIC):
        return None
    version = np.lib.format.read_magic(start)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(start)
    else:  # version 3 has the layout of version 2, in UTF-8
        shape, _, dtype = np.lib.format.read_array_header_2_0(start)
    return ArrayHeader(shape, dtype, start.tell())


def read_arrays(path: StrPath, dtypes: Mapping[str, str], *, remedy: str) -> dict[str, NDArray]:
    """Read the arrays of a ``.npz`` file that sstfill saved: uncompressed, without pickles.

    Parameters
    ----------
    path
        The file.
    dtypes
        The arrays that it must hold, and the kinds of their dtypes (`numpy.dtype.kind`).
    remedy
        What the user does about a damaged file.

    Raises
    ------
    ReadError
        The file is damaged or lacks an array, or an array declares a size that is not the size of
        what is stored.
    """
    try:
        with open_regular(path, remedy=remedy) as file, zipfile.ZipFile(file) as archive:
            members = _own_members(archive, os.fstat(file.fileno()).st_size)
            for name in dtypes:
                if name not in members:
                    raise unreadable(path, f"it lacks the array {name!r}", remedy)
            found = {name: _own_array(archive, member) for name, member in members.items()}
    except ReadError:
        raise
    except DAMAGED as error:
        raise unreadable(path, squeezed(error), remedy) from error
    for name, kinds in dtypes.items():
        if found[name].dtype.kind not in kinds:
            raise unreadable(path, f"the array {name!r} has dtype {found[name].dtype}", remedy)
    return found


def _own_members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members by the name of their array; together they fit into a file of `size`."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
        raise ValueError("it holds a compressed array, which sstfill never writes")
    # several members may point at the same bytes, each of them within the file
    if sum(info.file_size for info in members.values()) > size:
        raise ValueError("its arrays claim more bytes than the file has")
    return members


def _own_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        header = read_header(stream)
    if header is None:
        raise ValueError(f"{member.filename!r} is not an array")
    if header.dtype.hasobject:
        raise ValueError(f"array {member.filename!r} holds pickled objects, which are never loaded")
    if header.size + header.nbytes != member.file_size:
        raise ValueError(
            f"array {member.filename!r} declares shape {header.shape}, which is not what it holds"
        )
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def map_array(path: StrPath, remedy: str = "save it again as a plain array") -> NDArray[Any]:
    """Map a ``.npy`` file into memory; objects are refused."""
    location = Path(path)
    with _without_objects(location, remedy):
        check_regular(location)
        if location.stat().st_size == 0:
            raise ReadError(f"cannot read {location}: it is empty; fetch it again")
        mapped: NDArray[Any] = np.load(location, mmap_mode="r", allow_pickle=False)
        return mapped


@contextlib.contextmanager
def open_arrays(
    path: StrPath, remedy: str = "save it again as plain arrays"
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Open a ``.npz`` file of anybody's; its arrays are read one by one as they are asked for.

    Raises
    ------
    ReadError
        Not a zip archive; arrays of objects; arrays larger than memory, or other than their headers
        declare.
    """
    location = Path(path)
    with opening(location, remedy):
        check_regular(location, missing=remedy)
        stream = location.open("rb")
    with stream:
        with opening(location, remedy):
            _check_members(location, stream)
            archive = np.load(stream, allow_pickle=False)
        yield _Arrays(location, archive, remedy)


def _check_members(path: Path, stream: BinaryIO) -> None:
    """Compare what a zip archive of arrays declares with what it holds, and with memory."""
    needed = 0
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            needed += member.file_size  # zipfile unpacks no more than this, bomb or not
            with archive.open(member) as stored:
                header = read_header(stored)
            if header is not None and header.nbytes > member.file_size:
                raise ReadError(
                    f"cannot read {path}: {member.filename} declares {header.nbytes / 1e6:,.1f} MB "
                    f"and holds {member.file_size / 1e6:,.1f} MB; it is damaged, replace it"
                )
    check_memory(path, "unpacking it", needed)
    stream.seek(0)


class _Arrays(Mapping[str, NDArray[Any]]):
    """Arrays of a ``.npz`` file, whose failures are `ReadError`s."""

    def __init__(self, path: Path, archive: Any, remedy: str) -> None:
        self._path, self._archive, self._remedy = path, archive, remedy

    def __getitem__(self, key: str) -> NDArray[Any]:
        if key not in self._archive.files:
            raise KeyError(key)
        with _without_objects(self._path, self._remedy):
            array: NDArray[Any] = self._archive[key]
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._archive.files)

    def __len__(self) -> int:
        return len(self._archive.files)


@contextlib.contextmanager
def _without_objects(path: Path, remedy: str) -> Iterator[None]:
    """Turn NumPy's refusal of pickled objects, which names its own options, into a `ReadError`."""
    with opening(path, remedy):
        try:
            yield
        except ValueError as error:
            if "Python objects" in str(error) or "allow_pickle" in str(error):
                raise ReadError(f"cannot read {path}: it holds Python objects; {remedy}") from error
            raise


def matlab_arrays(path: StrPath, axes: int) -> dict[str, NDArray[Any]]:
    """Read the arrays of a MATLAB file that have `axes` axes or more."""
    from scipy.io import loadmat, whosmat

    location = Path(path)
    with opening(location, "it is damaged or not a MATLAB file, replace it"):
        check_regular(location)
        try:
            listed = whosmat(location)
        except NotImplementedError as error:
            raise ReadError(
                f"cannot read {location}: it is a MATLAB 7.3 (HDF5) file; save it in MATLAB with "
                "save(file, '-v7'), or as .npy"
            ) from error
        found = [(name, shape, kind) for name, shape, kind in listed if len(shape) >= axes]
        needed = sum(math.prod(shape) * MATLAB_BYTES.get(kind, 8) for _, shape, kind in found)
        check_memory(location, "loading it", needed)
        if not found:
            return {}  # without names loadmat would load everything
        names = [name for name, _, _ in found]
        loaded = loadmat(location, variable_names=names)
        return {name: loaded[name] for name in names}
