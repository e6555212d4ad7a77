# SPDX-License-Identifier: Apache-2.0
"""The chunks of one of the service's layouts: what they cover, which came, which were refused.

The service holds the same values twice, as maps of a few times and as long series of small tiles.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import xarray as xr

from sstfill.sources.copernicus.reads import Reads

Box = Mapping[str, slice]  # indices of the store, by dimension


@dataclass(frozen=True)
class ChunkGrid:
    """How a layout cuts each variable, from which follows what the key of a chunk covers.

    Attributes
    ----------
    lengths
        Of the chunks, by variable and dimension, in the order of the numbers of a key.
    offset
        Index in the source of the first value of the store, by dimension; time is not needed.

    >>> grid = ChunkGrid({"sst": {"time": 2, "x": 4}}, {"x": 2})
    >>> grid.place("sst/7.1"), grid.extent("sst/7.1")
    ('sst/*.1', {'x': slice(2, 6, None)})
    """

    lengths: Mapping[str, Mapping[str, int]]
    offset: Mapping[str, int]

    @classmethod
    def of(cls, ds: xr.Dataset) -> ChunkGrid | None:
        """Return that of a dataset of the client, None where a length or an offset is missing."""
        offset = dict(ds.encoding.get("sstfill_offset", {}))
        lengths = {}
        for name, v in ds.data_vars.items():
            lengths[str(name)] = dict(v.encoding.get("preferred_chunks", {}))
            for dim in v.dims:
                if dim != "time" and (dim not in offset or dim not in lengths[str(name)]):
                    return None
        return cls(lengths, offset)

    def place(self, key: str) -> str:
        """Return the key of a chunk without its number in time."""
        numbers = self._numbers(key) | {"time": "*"}
        return f"{variable(key)}/{'.'.join(numbers[d] for d in self.lengths[variable(key)])}"

    def extent(self, key: str) -> dict[str, slice]:
        """Return the indices of the store that a chunk covers, at any time."""
        extent = {}
        for dim, number in self._numbers(key).items():
            if dim != "time" and dim in self.offset:
                length = self.lengths[variable(key)][dim]
                first = int(number) * length - self.offset[dim]
                extent[dim] = slice(first, first + length)
        return extent

    def fits(self, keys: Iterable[str], box: Box) -> bool:
        """Whether the keys read for a window are those that this grid foresees.

        They are not where the window crosses the dateline, for one.
        """
        read = defaultdict(set)
        for key in keys:
            name, _, numbers = key.rpartition("/")
            if len(numbers.split(".")) != len(self.lengths.get(name, ())):
                return False
            numbered = self._numbers(key)
            read[name].add(tuple(int(numbered[d]) for d in self._dims(name, box)))
        return all(numbers == self._foreseen(name, box) for name, numbers in read.items())

    def _foreseen(self, name: str, box: Box) -> set[tuple[int, ...]]:
        spans = []
        for dim in self._dims(name, box):
            length, offset = self.lengths[name][dim], self.offset[dim]
            first, last = box[dim].start + offset, box[dim].stop - 1 + offset
            spans.append(range(first // length, last // length + 1))
        return set(itertools.product(*spans))

    def _dims(self, name: str, box: Box) -> list[str]:
        return [d for d in self.lengths[name] if d != "time" and d in box]

    def _numbers(self, key: str) -> dict[str, str]:
        name, _, numbers = key.rpartition("/")
        return dict(zip(self.lengths[name], numbers.split("."), strict=True))


@dataclass(frozen=True)
class FetchedWindow:
    """The values of a window, with the keys of the chunks that came for it and that were refused.

    `grid` is None where it is not known what the chunks cover.
    """

    box: Box
    values: xr.Dataset
    came: list[str]
    refused: list[str]
    grid: ChunkGrid | None

    def part(self, v: xr.DataArray, key: str) -> xr.DataArray:
        """Return the part of a variable that a chunk covers, all of it where that is not known."""
        if self.grid is None:
            return v
        inner = {}
        for dim, span in self.grid.extent(key).items():
            if dim in self.box:
                first = self.box[dim].start
                inner[dim] = slice(max(0, span.start - first), max(0, span.stop - first))
        return v.isel(inner)

    def has_chunk_at(self, name: str, extent: Box) -> bool:
        """Whether a chunk of a variable came that meets an extent; True where that is not known."""
        if self.grid is None:
            return True
        mine = [self.grid.extent(key) for key in self.came if variable(key) == name]
        return any(overlap(its, extent) for its in mine)


@dataclass(frozen=True)
class ServiceLayout:
    """What loads the values of a window, the record of its reads, and its grid of chunks.

    `reads` and `grid` are None where they are not known: the dataset is not the client's.
    """

    load: Callable[[Box], xr.Dataset]
    reads: Reads | None = None
    grid: ChunkGrid | None = None

    def fetch(self, box: Box) -> FetchedWindow:
        """Load a window, with an account of its chunks."""
        values = self.load(box)
        if self.reads is None:
            return FetchedWindow(box, values, [], [], None)
        # chunks of coordinates are left out: those are read when a dataset is opened
        came = sorted(k for k in self.reads.came if variable(k) in values.data_vars)
        refused = sorted(k for k in self.reads.refused if variable(k) in values.data_vars)
        fits = self.grid is not None and self.grid.fits([*came, *refused], box)
        return FetchedWindow(box, values, came, refused, self.grid if fits else None)


def variable(key: str) -> str:
    """Return the variable of a chunk.

    >>> variable("sst/3.0.1")
    'sst'
    """
    return key.rpartition("/")[0]


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes meet in every dimension that both name."""
    shared = one.keys() & other.keys()
    return all(one[d].start < other[d].stop and other[d].start < one[d].stop for d in shared)
