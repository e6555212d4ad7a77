# SPDX-License-Identifier: Apache-2.0
"""Check what metadata declare of an array against the memory of this machine.

Variables are read block by block, so that an archive may be larger than memory. One stored chunk
and the coordinate of a dimension are held whole, and their sizes are whatever a stranger's metadata
say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sstfill.errors import ReadError
from sstfill.fields.reading.sentinels import numbers_in

COPIES = 8
"""Times the size of a chunk that reading takes.

Several threads decode at once, and each holds a chunk packed, unpacked and masked.
"""
INDEXED = 8
"""Times the size of the coordinate of a dimension that its index and decoded dates take."""
CHUNK_RECORD = 500
"""Bytes that Dask keeps for each chunk, about."""
THINNEST = 10_000
"""Declared bytes for each stored byte, beyond which an array larger than memory is an error."""
PACKING = ("scale_factor", "add_offset")


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One array as its metadata describe it.

    Parameters
    ----------
    name
        As users know it.
    shape
        Elements along each dimension.
    itemsize
        Bytes of one element.
    chunk
        Shape of a stored chunk; empty for an array without chunks.
    indexed
        Whether it is the coordinate of its own dimension, which is loaded whole when the file is
        opened.
    stored
        Returns how many bytes of it are stored; None where the format has been checked already.
    attrs
        ``scale_factor`` and ``add_offset``, where it has them.
    """

    name: str
    shape: tuple[int, ...]
    itemsize: int
    chunk: tuple[int, ...] = ()
    indexed: bool = False
    stored: Callable[[], int] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes that it would take in memory."""
        return math.prod(self.shape) * self.itemsize


def memory() -> int:
    """Return the bytes of memory that are free, on the machine or in this process's container."""
    import psutil

    free = int(psutil.virtual_memory().available)
    # cgroups, version 2 and version 1
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            free = min(free, int(Path(limit).read_text("ascii")))
        except (OSError, ValueError):  # not in a container, or in one without a limit ("max")
            continue
    return free


def check_memory(path: Path, what: str, needed: int, free: int | None = None) -> None:
    """Refuse what memory cannot hold, before any of it is allocated.

    `free` are the bytes that are free where they are known already, as for many arrays at once.
    """
    if free is None:
        free = memory()
    if needed > free:
        raise ReadError(
            f"cannot read {path}: {what} needs {needed / 1e9:,.1f} GB of memory, "
            f"{free / 1e9:,.1f} GB are free; check its size, or use a machine with more memory"
        )


def check_declared(path: Path, arrays: Iterable[Declared]) -> None:
    """Refuse sizes that cannot be true or held, and a packing that means nothing."""
    free = memory()  # asked once: for each array it would take longer than the checks
    for array in arrays:
        _check_sizes(path, array, free)
        _check_packing(path, array)


def _check_sizes(path: Path, array: Declared, free: int) -> None:
    size = "x".join(map(str, array.shape))
    if array.indexed:
        what = f"coordinate {array.name!r} of {size} values"
        check_memory(path, what, INDEXED * array.nbytes, free)
    if array.chunk:
        chunk = math.prod(array.chunk) * array.itemsize
        what = f"one chunk of {array.name!r} ({chunk / 1e9:,.1f} GB)"
        check_memory(path, what, COPIES * chunk, free)
        # tiny chunks of a huge array: Dask's graph alone would fill the memory
        count = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunk, strict=True))
        what = f"{array.name!r} of {size} values in {count} chunks"
        check_memory(path, what, CHUNK_RECORD * count, free)
    # asking for the stored size walks through all files of the array: only if it may matter
    if array.stored is not None and array.nbytes > free:
        stored = array.stored()
        if array.nbytes > THINNEST * max(stored, 1):
            raise ReadError(
                f"cannot read {path}: {array.name!r} declares {size} values, "
                f"{array.nbytes / 1e9:,.0f} GB, and {stored / 1e6:,.1f} MB are stored; "
                "mend its shape"
            )


def _check_packing(path: Path, array: Declared) -> None:
    for key in PACKING:
        if key not in array.attrs:
            continue
        value = array.attrs[key]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        numbers = numbers_in(value)  # also of text
        if numbers is None or len(numbers) != 1:
            shown = repr(value)[:60]
        else:
            number = float(numbers[0])
            if math.isfinite(number) and (number != 0 or key != "scale_factor"):
                continue
            shown = f"{number:g}"
        raise ReadError(
            f"cannot read {path}: {key} of {array.name!r} is {shown}, by which no value can be "
            "unpacked; set the attribute right, or remove it"
        )
