# SPDX-License-Identifier: Apache-2.0
"""The archive that is read: how it is opened, block by block, and which of its files hold which
days.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.fields import gaps, grid
from sstfill.io.untrusted import guard
from sstfill.methods.base import Points

BLOCK = 32e6
"""Bytes of a variable that are read at once, about."""
Stats = dict[str, list[int]]


@dataclass(frozen=True, kw_only=True)
class ArchiveSource:
    """What is read of an archive.

    Parameters
    ----------
    path
        Zarr store or NetCDF file.
    quality_level, l2p_flags, allow_links
        As in `sstfill.io.open`.
    """

    path: str
    quality_level: int | None = None
    l2p_flags: tuple[str, ...] = ()
    allow_links: bool = False

    def open(self) -> xr.Dataset:
        """Open the archive in blocks of about `BLOCK` bytes, whole stored chunks."""
        how: dict[str, Any] = {
            "quality_level": self.quality_level,
            "l2p_flags": list(self.l2p_flags) or None,
            "allow_links": self.allow_links,
        }
        with io.reading(self.path):
            stored = io.open(self.path, chunks={}, **how)
            chunks = _blocks(stored)
            if not chunks:
                return stored
            stored.close()
            return io.open(self.path, chunks=chunks, **how)

    def field(self, ds: xr.Dataset, name: str) -> xr.DataArray:
        """Return a variable as ``(time, y, x)``, Dask-backed."""
        return grid.standardise(ds[name])

    def stats(self) -> Stats:
        """What tells that a file with values has changed, by its path in the archive; and how each
        array is coded.
        """
        root = Path(self.path)
        if root.is_file():
            return {"": _stat(root)}
        files = (
            p for p in root.rglob("*") if not p.name.startswith((".z", "zarr.json")) and p.is_file()
        )
        return {p.relative_to(root).as_posix(): _stat(p) for p in sorted(files)} | _codings(root)


@lru_cache(maxsize=4)
def opened(source: ArchiveSource, name: str, night: str) -> xr.DataArray:
    """Open a variable once in a process for each `night`, any word that tells one run from the
    next.
    """
    return source.field(source.open(), name)


def _stat(path: Path) -> list[int]:
    found = (
        path.stat()
    )  # nobody sets the time of a file's own change, as the time of its content may be
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _codings(root: Path) -> Stats:
    """By array, a word of what its values are decoded by: scale, fill value, codecs, but not its
    shape.
    """
    found = {}
    for name, array in guard.open_group(root, mode="r", use_consolidated=False).arrays():
        told = array.metadata.to_dict()
        told = {k: v for k, v in told.items() if k not in ("shape", "consolidated_metadata")}
        word = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).digest()
        found[f"{name}/.coding"] = [int.from_bytes(word[:8], "big")]
    return found


def _blocks(ds: xr.Dataset) -> dict[str, int]:
    """Lengths of blocks: whole stored chunks, several along time if they are small, fewer rows if
    they are not.
    """
    fields = grid.candidates(ds)
    if not fields:
        return {}
    da = max((ds[name] for name in fields), key=lambda da: da.nbytes)
    dims = [str(d) for d in grid.axes(da).dims]
    known = {str(d): n for d, n in da.encoding.get("preferred_chunks", {}).items()}
    stored = {d: min(known.get(d, 1 if d == dims[0] else da.sizes[d]), da.sizes[d]) for d in dims}
    size = float(np.prod([stored[d] for d in dims])) * da.dtype.itemsize
    across = float(np.prod([da.sizes[d] / stored[d] for d in dims[1:]]))
    many = max(1, round(BLOCK / size / (across if stored[dims[0]] < da.sizes[dims[0]] else 1)))
    return {
        dims[0]: min(da.sizes[dims[0]], stored[dims[0]] * many),
        **{d: stored[d] for d in dims[1:]},
    }


class ArchivePass(NamedTuple):
    """What a pass over some images tells.

    Attributes
    ----------
    digest, image_count
        Of each image: a word that changes with its observations, and their number; ``(time,)``.
    pixel_count
        Observations of each pixel, ``(y, x)``.
    sample
        Values at the points that were asked for, ``(time, point)``.
    infinite
        Number of infinite values.
    least, most
        Extremes of the finite values; infinite where there are none.
    """

    digest: NDArray[np.uint64]
    image_count: NDArray[np.int64]
    pixel_count: NDArray[np.int64]
    sample: NDArray[np.float32]
    infinite: int
    least: float = np.inf
    most: float = -np.inf


NOWHERE = Points(np.empty(0, np.int64), np.empty(0, np.int64))


def look(field: xr.DataArray, points: Points = NOWHERE, *, digest: bool = True) -> ArchivePass:
    """Count and digest the observations of a Dask-backed field ``(time, y, x)``, a slab of blocks
    at a time.

    Without `digest` the words are 0, which saves most of the time.
    """
    import dask

    n, ny, nx = field.shape
    found = ArchivePass(
        np.zeros(n, np.uint64),
        np.zeros(n, np.int64),
        np.zeros((ny, nx), np.int64),
        np.full((n, len(points.rows)), np.nan, np.float32),
        0,
    )
    examine, infinite = dask.delayed(_examined, pure=False), 0
    least, most = np.inf, -np.inf
    sides = [list(_spans(c)) for c in field.data.chunks]
    for i, times in enumerate(sides[0]):
        row = [(j, k) for j in range(len(sides[1])) for k in range(len(sides[2]))]
        boxes = [(sides[1][j], sides[2][k]) for j, k in row]
        held = [_within(points, *box) for box in boxes]
        asked = [
            examine(
                field.data.blocks[i, j, k],
                (box[0].start, box[1].start),
                nx * digest,
                points.rows[at],
                points.columns[at],
            )
            for (j, k), box, at in zip(row, boxes, held, strict=True)
        ]
        for box, at, part in zip(boxes, held, dask.compute(*asked), strict=True):
            found.digest[times] += part.digest
            found.image_count[times] += part.image_count
            found.pixel_count[box] += part.pixel_count
            found.sample[times, at] = part.sample
            infinite += part.infinite
            least, most = min(least, part.least), max(most, part.most)
    return found._replace(infinite=infinite, least=least, most=most)


def _within(points: Points, rows: slice, columns: slice) -> NDArray[np.int64]:
    inside = (points.rows >= rows.start) & (points.rows < rows.stop)
    return np.flatnonzero(
        inside & (points.columns >= columns.start) & (points.columns < columns.stop)
    )


def _examined(
    block: NDArray, origin: tuple[int, int], width: int, rows: NDArray, columns: NDArray
) -> ArchivePass:
    there = np.isfinite(block)
    words = gaps.image_digests(block, origin, width) if width else np.zeros(len(block), np.uint64)
    with np.errstate(
        over="ignore"
    ):  # values beyond single precision are refused when all was looked at
        sample = block[:, rows - origin[0], columns - origin[1]].astype(np.float32)
    least = float(block.min(where=there, initial=np.inf))
    most = float(block.max(where=there, initial=-np.inf))
    return ArchivePass(
        words, there.sum((1, 2)), there.sum(0), sample, int(np.isinf(block).sum()), least, most
    )


def _spans(chunks: tuple[int, ...]) -> Iterator[slice]:
    start = 0
    for length in chunks:
        yield slice(start, start + length)
        start += length


def touched(path: str, before: Stats, after: Stats, times: int) -> NDArray[np.int64]:
    """Images that files hold which changed, came or went: where a file's name does not tell which,
    all of them.
    """
    files = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if not files:
        return np.empty(0, np.int64)
    if not Path(path).is_dir():
        return np.arange(times)
    root = guard.open_group(path, mode="r", use_consolidated=False)
    by_array: dict[str, list[str]] = {}
    for file in files:
        by_array.setdefault(file.partition("/")[0], []).append(file.partition("/")[2])
    hit = np.zeros(times, bool)
    for name, array in root.arrays():
        at = _time_axis(array)
        if array.ndim < 2:
            continue  # a coordinate, which is compared by its values
        for file in by_array.get(name, []):
            numbers = [int(n) for n in re.findall(r"\d+", file)]
            if at is None or len(numbers) != array.ndim:
                hit[:] = True
                continue
            length = (array.shards or array.chunks)[at]
            hit[numbers[at] * length : (numbers[at] + 1) * length] = True
    return np.flatnonzero(hit)


def _time_axis(array: Any) -> int | None:
    names = (
        array.metadata.dimension_names
        if array.metadata.zarr_format == 3
        else array.attrs.get("_ARRAY_DIMENSIONS")
    )
    found = [i for i, n in enumerate(names or ()) if str(n).lower() in grid.TIME]
    return found[0] if found else None
