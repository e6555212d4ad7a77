# SPDX-License-Identifier: Apache-2.0
"""The archive that is read: opened in blocks, digested by image, and watched for changed files."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.archive.slabs import blocks_at_once
from sstfill.config import without
from sstfill.fields import gaps, grid
from sstfill.fields.reading.dates import TIME
from sstfill.fields.reading.variables import find_fields
from sstfill.io.untrusted import guard
from sstfill.methods.base import Points
from sstfill.methods.common.sampling import CORE

Stats = dict[str, list[int]]
BLOCK_BYTES = 32_000_000


@dataclass(frozen=True, kw_only=True)
class ArchiveSource:
    """An archive, and the options it is opened with.

    Parameters
    ----------
    path
        Zarr store or NetCDF file.
    quality_level, l2p_flags, group, allow_links
        As in `sstfill.io.open`.
    block_bytes
        About how many bytes of a variable are read at once.
    """

    path: str
    quality_level: int | None = None
    l2p_flags: tuple[str, ...] = ()
    group: str | None = None
    allow_links: bool = False
    block_bytes: float = BLOCK_BYTES

    def open(self) -> xr.Dataset:
        """Open the archive in blocks of about `block_bytes`, whole stored chunks."""
        how: dict[str, Any] = {
            "quality_level": self.quality_level,
            "l2p_flags": list(self.l2p_flags) or None,
            "group": self.group,
            "allow_links": self.allow_links,
        }
        with io.reading(self.path):
            stored = io.open(self.path, chunks={}, **how)
            # The stored chunks are known only once it is open; then it is opened in blocks of them.
            chunks = _blocks(stored, self.block_bytes)
            if not chunks:
                return stored
            stored.close()
            return io.open(self.path, chunks=chunks, **how)

    def decoded(self, ds: xr.Dataset, names: Sequence[str], threads: int) -> int:
        """Return how many bytes of a variable so many threads decode at once, at most.

        More than `block_bytes` only where stored chunks are large: each is decoded whole.
        """
        most = 0
        for name in names:
            data = self.field(ds, name).data
            along_time = min(data.numblocks[0], blocks_at_once(data.chunksize[0], CORE[0]))
            at_once = min(threads, along_time * math.prod(data.numblocks[1:]))
            most = max(most, at_once * math.prod(data.chunksize) * data.dtype.itemsize)
        return most

    @property
    def root(self) -> Path:
        """The file that holds the values, or the folder of the group in a store."""
        path = Path(self.path)
        return path / (self.group or "") if path.is_dir() else path

    def field(self, ds: xr.Dataset, name: str) -> xr.DataArray:
        """Return a variable as ``(time, y, x)``, Dask-backed."""
        return grid.standardise(ds[name])

    def stats(self) -> Stats:
        """Return size and times of each file with values, and a digest of how each array is coded.

        A file whose numbers differ from those of an earlier call has changed.
        """
        root = self.root
        if root.is_file():
            return {"": _stat(root)}
        stats = {}
        for path in sorted(root.rglob("*")):
            # metadata change with each day that is added; `_codings` has what of them matters to
            # values
            if path.is_file() and not path.name.startswith((".z", "zarr.json")):
                stats[path.relative_to(root).as_posix()] = _stat(path)
        return stats | _codings(root)


@lru_cache(maxsize=4)
def opened(source: ArchiveSource, name: str, run_id: str) -> xr.DataArray:
    """Open a variable once for each run in a process; a next run has another `run_id`."""
    return source.field(source.open(), name)


def _stat(path: Path) -> list[int]:
    found = path.stat()
    # st_ctime_ns too: a copy may set the time of a file's content, but not this one.
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _codings(root: Path) -> Stats:
    """Digest by array what its values are decoded by: scale, fill value, codecs; not its shape."""
    found = {}
    for name, array in guard.open_group(root, mode="r", use_consolidated=False).arrays():
        metadata = array.metadata.to_dict()
        coding = without(metadata, ("shape", "consolidated_metadata"))
        digest = hashlib.sha256(json.dumps(coding, sort_keys=True, default=str).encode()).digest()
        found[f"{name}/.coding"] = [int.from_bytes(digest[:8], "big")]
    return found


def _blocks(ds: xr.Dataset, block_bytes: float) -> dict[str, int]:
    """Return the lengths of blocks of about so many bytes: whole stored chunks, several in time."""
    fields = find_fields(ds)
    if not fields:
        return {}
    da = max((ds[name] for name in fields), key=lambda da: da.nbytes)
    time, *sides = map(str, grid.axes(da).dims)
    preferred = {str(d): n for d, n in da.encoding.get("preferred_chunks", {}).items()}
    # Without stored chunks, as in NetCDF 3: one whole image.
    blocks = {time: min(preferred.get(time, 1), da.sizes[time])}
    for side in sides:
        blocks[side] = min(preferred.get(side, da.sizes[side]), da.sizes[side])
    wanted = block_bytes / (float(np.prod(list(blocks.values()))) * da.dtype.itemsize)
    if blocks[time] < da.sizes[time]:
        # A pass reads all blocks of the same images at once, so they share the bytes.
        wanted /= float(np.prod([da.sizes[side] / blocks[side] for side in sides]))
    blocks[time] = min(da.sizes[time], blocks[time] * max(1, round(wanted)))
    return blocks


class ArchivePass(NamedTuple):
    """What a pass over some images finds.

    Attributes
    ----------
    digest, image_count
        Of each image: a digest of its observations, and their number; ``(time,)``.
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
    """Count and digest the observations of a Dask-backed field ``(time, y, x)``, slab by slab.

    Without `digest` all digests are 0, which saves most of the time.
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
    # Not pure: dask would hash every block to name its task.
    examine, infinite = dask.delayed(_examined, pure=False), 0
    least, most = np.inf, -np.inf
    spans = [list(_spans(lengths)) for lengths in field.data.chunks]
    for i, times in enumerate(spans[0]):
        boxes, inside, tasks = [], [], []
        for j, rows in enumerate(spans[1]):
            for k, columns in enumerate(spans[2]):
                at = _within(points, rows, columns)
                block = field.data.blocks[i, j, k]
                origin = (rows.start, columns.start)
                tasks.append(
                    # a width of 0 asks for no digest
                    examine(block, origin, nx * digest, points.rows[at], points.columns[at])
                )
                boxes.append((rows, columns))
                inside.append(at)
        # all blocks of the same images, and no more, are in memory at once
        for box, at, part in zip(boxes, inside, dask.compute(*tasks), strict=True):
            # digests of the parts of an image add up, modulo 2**64, in whatever order they come
            found.digest[times] += part.digest
            found.image_count[times] += part.image_count
            found.pixel_count[box] += part.pixel_count
            found.sample[times, at] = part.sample
            infinite += part.infinite
            least, most = min(least, part.least), max(most, part.most)
    return found._replace(infinite=infinite, least=least, most=most)


def _within(points: Points, rows: slice, columns: slice) -> NDArray[np.int64]:
    in_rows = (points.rows >= rows.start) & (points.rows < rows.stop)
    in_columns = (points.columns >= columns.start) & (points.columns < columns.stop)
    return np.flatnonzero(in_rows & in_columns)


def _examined(
    block: NDArray, origin: tuple[int, int], width: int, rows: NDArray, columns: NDArray
) -> ArchivePass:
    there = np.isfinite(block)
    digest = np.zeros(len(block), np.uint64)
    if width:
        digest = gaps.image_digests(block, origin, width)
    # Values beyond single precision are refused once all blocks are read.
    with np.errstate(over="ignore"):
        sample = block[:, rows - origin[0], columns - origin[1]].astype(np.float32)
    least = float(block.min(where=there, initial=np.inf))
    most = float(block.max(where=there, initial=-np.inf))
    return ArchivePass(
        digest, there.sum((1, 2)), there.sum(0), sample, int(np.isinf(block).sum()), least, most
    )


def _spans(chunks: tuple[int, ...]) -> Iterator[slice]:
    start = 0
    for length in chunks:
        yield slice(start, start + length)
        start += length


def touched(path: Path, before: Stats, after: Stats, times: int) -> NDArray[np.int64]:
    """Return the images whose files changed, came or went.

    Where a file's name does not tell which images it holds, those are all images.
    """
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if not changed:
        return np.empty(0, np.int64)
    if not path.is_dir():
        return np.arange(times)
    root = guard.open_group(path, mode="r", use_consolidated=False)
    by_array: dict[str, list[str]] = {}
    for file in changed:
        array_name, _, chunk = file.partition("/")
        by_array.setdefault(array_name, []).append(chunk)
    hit = np.zeros(times, bool)
    for name, array in root.arrays():
        if array.ndim < 2:
            continue  # a coordinate; coordinates are compared by their values
        at = _time_axis(array)
        for chunk in by_array.get(name, []):
            numbers = list(map(int, re.findall(r"\d+", chunk)))
            if at is None or len(numbers) != array.ndim:
                hit[:] = True
                continue
            # a file holds a shard where there are shards
            length = (array.shards or array.chunks)[at]
            hit[numbers[at] * length : (numbers[at] + 1) * length] = True
    return np.flatnonzero(hit)


def _time_axis(array: Any) -> int | None:
    if array.metadata.zarr_format == 3:
        names = array.metadata.dimension_names
    else:
        names = array.attrs.get("_ARRAY_DIMENSIONS")
    for axis, name in enumerate(names or ()):
        if str(name).lower() in TIME:
            return axis
    return None
