# SPDX-License-Identifier: Apache-2.0
"""The chunks of one of the service's layouts: which came, which were refused, what they cover.

The service holds the same values twice, as maps of a few times and as long series of small tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import xarray as xr

from sstfill.sources.copernicus.reads import Reads

Box = Mapping[str, slice]  # indices by dimension


@dataclass(frozen=True)
class FetchedWindow:
    """The values of a window, the chunks that came for it and that were refused.

    With each chunk stands the part of the window that it covers, along the dimensions for which
    that is known.
    """

    box: Box
    values: xr.Dataset
    came: Mapping[str, Box]
    refused: Mapping[str, Box]

    def has_chunk_at(self, name: str, part: Box) -> bool:
        """Whether a chunk of a variable came that meets a part of the window."""
        for key, its in self.came.items():
            dims = its.keys() & part.keys()
            meets = [its[d].start < part[d].stop and part[d].start < its[d].stop for d in dims]
            if variable(key) == name and all(meets):
                return True
        return False


@dataclass(frozen=True)
class ServiceLayout:
    """What loads the values of a window, the record of its reads, and the sizes of its chunks.

    Attributes
    ----------
    load
        Gives the values of a window, time first.
    reads
        None where the client does not tell what it reads.
    lengths
        Of the chunks, by variable and dimension, in the order of the numbers of a key.
    offset
        Index in the source of the first value of the store, by dimension; time is not needed.

    >>> layout = ServiceLayout(lambda box: xr.Dataset(), None, {"sst": {"time": 2, "x": 4}})
    >>> layout.place("sst/7.1")
    'sst/*.1'
    """

    load: Callable[[Box], xr.Dataset]
    reads: Reads | None = None
    lengths: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    offset: Mapping[str, int] = field(default_factory=dict)

    def fetch(self, box: Box) -> FetchedWindow:
        """Load a window, with an account of its chunks."""
        values = self.load(box)
        assert self.reads is not None
        chunks = []
        for keys in (self.reads.came, self.reads.refused):
            # those of coordinates are left out: they are read when a dataset is opened
            of_data = sorted(key for key in keys if variable(key) in values.data_vars)
            chunks.append({key: self._part(key, box) for key in of_data})
        return FetchedWindow(box, values, *chunks)

    def serves(self, key: str) -> bool:
        """Whether the service has a chunk now."""
        assert self.reads is not None and self.reads.ask is not None
        return self.reads.ask(key)

    def place(self, key: str) -> str:
        """Return the key of a chunk without its number in time, where that is known."""
        numbers = self._numbers(key)
        if "time" not in numbers:
            return key
        return f"{variable(key)}/{'.'.join((numbers | {'time': '*'}).values())}"

    def _part(self, key: str, box: Box) -> Box:
        part = {}
        for dim, number in self._numbers(key).items():
            # times are added and revised, so where the store begins in the source is known in space
            # alone
            if dim != "time" and dim in box and dim in self.offset:
                length = self.lengths[variable(key)][dim]
                first = int(number) * length - self.offset[dim] - box[dim].start
                part[dim] = slice(max(0, first), max(0, first + length))
        return part

    def _numbers(self, key: str) -> dict[str, str]:
        dims = self.lengths.get(variable(key), {})
        # Zarr v2 writes sst/3.0.1, v3 sst/c/3/0/1
        numbers = key.partition("/")[2].removeprefix("c/").replace("/", ".").split(".")
        if len(dims) != len(numbers):
            return {}
        return dict(zip(dims, numbers, strict=True))


def variable(key: str) -> str:
    """Return the variable of a chunk, of Zarr v2 or v3.

    >>> variable("sst/3.0.1"), variable("sst/c/3/0/1")
    ('sst', 'sst')
    """
    return key.partition("/")[0]
