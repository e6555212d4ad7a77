# SPDX-License-Identifier: Apache-2.0
"""What the metadata of a file or store declare of one array, and whether this machine can hold what
must be held.

Variables are read block by block, so that an archive may be larger than memory. Held whole are one
stored chunk and the coordinate of a dimension, and each of them is only as large as a stranger's
metadata say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sstfill.errors import ReadError

COPIES = 8
"""Times the size of a chunk that reading takes: several threads decode at once, each packed,
unpacked and masked.
"""
INDEXED = 8
"""Times the size of the coordinate of a dimension that its index and decoded dates take."""
CHUNK_RECORD = 500
"""Bytes that Dask keeps for each chunk, about."""
THINNEST = 10_000
"""Declared bytes for each stored one, beyond which a variable that memory cannot hold is taken for
a mistake.
"""
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
        Elements of one stored chunk; of a variable without chunks, nothing.
    indexed
        Whether it is the coordinate of its own dimension, which is loaded whole when the file is
        opened.
    stored
        Asks how many bytes of it are stored; None where the format has been checked already.
    attrs
        ``scale_factor`` and ``add_offset``, where there are such.
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
    """Bytes of memory that can be had now, of the machine or of the container that this process
    runs in.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            free = min(free, int(Path(limit).read_text("ascii")))
        except (OSError, ValueError):  # no container, or one without a limit
            continue
    return free


def check_memory(path: Path, what: str, needed: int) -> None:
    """Refuse what memory cannot hold, before any of it is allocated."""
    free = memory()
    if needed > free:
        raise ReadError(
            f"cannot read {path}: {what} needs {needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free; "
            "check its size, or use a machine with more memory"
        )


def check_declared(path: Path, arrays: Iterable[Declared]) -> None:
    """Refuse sizes that cannot be true or held, and a packing that means nothing."""
    for array in arrays:
        _check_sizes(path, array)
        _check_packing(path, array)


def _check_sizes(path: Path, array: Declared) -> None:
    size = "x".join(map(str, array.shape))
    if array.indexed:
        what = f"coordinate {array.name!r} of {size} values"
        check_memory(path, what, INDEXED * array.nbytes)
    if array.chunk:
        chunk = math.prod(array.chunk) * array.itemsize
        what = f"one chunk of {array.name!r} ({chunk / 1e9:,.1f} GB)"
        check_memory(path, what, COPIES * chunk)
        count = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunk, strict=True))
        what = f"{array.name!r} of {size} values in {count} chunks"
        check_memory(path, what, CHUNK_RECORD * count)
    if array.stored is not None and array.nbytes > memory():
        stored = array.stored()
        if array.nbytes > THINNEST * max(stored, 1):
            raise ReadError(
                f"cannot read {path}: {array.name!r} declares {size} values, {array.nbytes / 1e9:,.0f} GB, "
                f"and {stored / 1e6:,.1f} MB are stored; mend its shape"
            )


def _check_packing(path: Path, array: Declared) -> None:
    for key in PACKING:
        if key not in array.attrs:
            continue
        value = array.attrs[key]
        number = _number(value)
        if number is None or not math.isfinite(number) or (key == "scale_factor" and number == 0):
            met = repr(value) if number is None else f"{number:g}"
            raise ReadError(
                f"cannot read {path}: {key} of {array.name!r} is {met[:60]}, by which no value can be unpacked; "
                "set the attribute right, or remove it"
            )


def _number(value: Any) -> float | None:
    """One real number, or an array of one; None for anything else."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        return None
    return float(array.reshape(-1)[0])
