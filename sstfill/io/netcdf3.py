# SPDX-License-Identifier: Apache-2.0
"""How long a classic NetCDF file must be: the C library reads a truncated one as zeros without a word.

Format: NetCDF Classic Format Specification, Unidata (CDF-1, CDF-2 and CDF-5).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}  # bytes of each nc_type


class _Header:
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

    def attributes(self) -> None:
        for _ in self.elements():
            self.skip(self.count())
            kind = self.tag()
            self.skip(SIZE[kind] * self.count())

    def dimension(self) -> int:
        self.skip(self.count())
        return self.count()

    def variable(self, dims: list[int]) -> tuple[bool, int, int]:
        """Whether it has records, its bytes (a record's) and its offset."""
        self.skip(self.count())
        shape = [dims[self.count()] for _ in range(self.count())]
        self.attributes()
        size = SIZE[self.tag()]
        self.count()
        record = bool(shape) and shape[0] == 0
        return record, size * math.prod(shape[1:] if record else shape), self.offset()


def _padded(size: int) -> int:
    return -(-size // 4) * 4


def expected_size(path: Path) -> int:
    """Bytes that the header of a classic NetCDF file promises; `ValueError` if the header itself is cut."""
    try:
        with path.open("rb") as stream:
            return _promised(_Header(stream))
    except (struct.error, KeyError, IndexError) as error:
        raise ValueError("its header is cut short") from error


def _promised(header: _Header) -> int:
    records = header.count()
    dims = [header.dimension() for _ in header.elements()]
    header.attributes()
    variables = [header.variable(dims) for _ in header.elements()]
    ends = [offset + size for record, size, offset in variables if not record]
    sizes = [size for record, size, _ in variables if record]
    stride = sizes[0] if len(sizes) == 1 else sum(map(_padded, sizes))
    unknown = records == 2 ** (64 if header.version == 5 else 32) - 1  # written as a stream
    if records and not unknown:
        ends += [offset + (records - 1) * stride + size for record, size, offset in variables if record]
    return max(ends, default=0)
