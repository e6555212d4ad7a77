# SPDX-License-Identifier: Apache-2.0
"""Read the header of a classic NetCDF file: what it declares, and how long the file must be.

The C library reads a truncated file as zeros, silently.

Format: NetCDF Classic Format Specification, Unidata (CDF-1, CDF-2 and CDF-5).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sstfill.io.untrusted.declared import PACKING, Declared

SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
"""Bytes of each nc_type."""
FORMAT = {1: "b", 3: "h", 4: "i", 5: "f", 6: "d", 7: "B", 8: "H", 9: "I", 10: "q", 11: "Q"}
"""Code of each nc_type in `struct`; `CHAR` holds text."""
CHAR = 2
LONGEST_NAME = 4096
MOST_DIMS = 1024
"""Dimensions of a variable, as the C library has it."""


class _Cursor:
    """Cursor over the big-endian header; counts take 8 bytes in CDF-5 and offsets from CDF-2 on."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.version = stream.read(4)[3]

    def tag(self) -> int:
        return int(struct.unpack(">I", self.stream.read(4))[0])

    def long(self) -> int:
        return int(struct.unpack(">Q", self.stream.read(8))[0])

    def count(self) -> int:
        return self.long() if self.version == 5 else self.tag()

    def offset(self) -> int:
        return self.tag() if self.version == 1 else self.long()

    def skip(self, size: int) -> None:
        self.stream.seek(_padded(size), 1)

    def elements(self) -> range:
        self.tag()  # kind of list, or absent
        return range(self.count())

    def name(self) -> str:
        size = self.count()
        text = self.stream.read(_padded(size)) if size <= LONGEST_NAME else b""
        if len(text) < size:
            raise struct.error("the name is cut short or too long")
        return text[:size].decode("utf-8", errors="replace")

    def attributes(self) -> dict[str, Any]:
        """Read the attributes that unpack values, and pass over the others."""
        found: dict[str, Any] = {}
        for _ in self.elements():
            name, kind, count = self.name(), self.tag(), self.count()
            if name in PACKING and count == 1 and kind in FORMAT:
                stored = self.stream.read(_padded(SIZE[kind]))[: SIZE[kind]]
                (found[name],) = struct.unpack(">" + FORMAT[kind], stored)
            elif name in PACKING and kind == CHAR and count <= LONGEST_NAME:
                text = self.stream.read(_padded(count))[:count]
                found[name] = text.decode("utf-8", errors="replace")
            else:
                self.skip(SIZE[kind] * count)
                if name in PACKING:  # not one number: `check_declared` refuses this
                    found[name] = f"{count} values of nc_type {kind}"
        return found

    def dimension(self) -> tuple[str, int]:
        return self.name(), self.count()

    def variable(self, dims: list[tuple[str, int]]) -> _Variable:
        name = self.name()
        count = self.count()
        if count > MOST_DIMS:  # a damaged count would be read for hours
            raise struct.error("no variable has so many dimensions")
        own = [dims[self.count()] for _ in range(count)]
        attrs = self.attributes()
        size = SIZE[self.tag()]
        self.count()  # its bytes, which are wrong in older files of more than 4 GB
        return _Variable(name, [d for d, _ in own], [n for _, n in own], size, attrs, self.offset())


class _Variable(NamedTuple):
    """A variable in the header; a first dimension of 0 grows with the records."""

    name: str
    dims: list[str]
    shape: list[int]
    itemsize: int
    attrs: dict[str, Any]
    offset: int

    @property
    def is_record(self) -> bool:
        return bool(self.shape) and self.shape[0] == 0

    @property
    def nbytes(self) -> int:
        """Bytes of the variable, or of one of its records."""
        return self.itemsize * math.prod(self.shape[1:] if self.is_record else self.shape)


def _padded(size: int) -> int:
    return -(-size // 4) * 4


class Header(NamedTuple):
    """What a header declares: the bytes that the file must have, and its variables."""

    nbytes: int
    arrays: list[Declared]


def header(path: Path) -> Header:
    """Read the header of a classic NetCDF file; `ValueError` if it is cut short or damaged."""
    try:
        with path.open("rb") as stream:
            return _read(_Cursor(stream), path)
    except (struct.error, KeyError, IndexError, OverflowError, OSError) as error:
        raise ValueError("its header is cut short or damaged") from error


def _read(cursor: _Cursor, path: Path) -> Header:
    records = cursor.count()
    dims = [cursor.dimension() for _ in cursor.elements()]
    cursor.attributes()
    variables = [cursor.variable(dims) for _ in cursor.elements()]
    ends = [v.offset + v.nbytes for v in variables if not v.is_record]
    growing = [v for v in variables if v.is_record]
    # by the specification, the records of a single variable are not padded to four bytes
    stride = sum(_padded(v.nbytes) for v in growing)
    if len(growing) == 1:
        stride = growing[0].nbytes
    streaming = 2**64 - 1 if cursor.version == 5 else 2**32 - 1
    if records == streaming:  # the number of records was not known: as many as fit
        begin = min((v.offset for v in growing), default=0)
        records = max(0, path.stat().st_size - begin) // stride if stride else 0
    elif records:
        ends += [v.offset + (records - 1) * stride + v.nbytes for v in growing]
    arrays = [_declared(v, records, path) for v in variables]
    return Header(max(ends, default=0), arrays)


def _declared(variable: _Variable, records: int, path: Path) -> Declared:
    shape = list(variable.shape)
    if variable.is_record:
        shape[0] = records
    return Declared(
        name=variable.name,
        shape=tuple(shape),
        itemsize=variable.itemsize,
        indexed=variable.dims == [variable.name],
        stored=lambda: path.stat().st_blocks * 512,  # a file with holes is longer than this
        attrs=variable.attrs,
    )
