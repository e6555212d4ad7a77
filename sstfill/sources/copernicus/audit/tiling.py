# SPDX-License-Identifier: Apache-2.0
"""Where in a store the chunks of a layout of the service lie, told from their keys."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import xarray as xr

from sstfill.sources.copernicus.audit.verify import Box


@dataclass(frozen=True)
class Tiling:
    """How a layout cuts each variable.

    Attributes
    ----------
    lengths
        Of the chunks, by variable and dimension, in the order of the numbers of a key.
    offset
        Index in the source of the first value of the store, by dimension; time is of no concern.

    >>> tiling = Tiling({"sst": {"time": 2, "x": 4}}, {"x": 2})
    >>> tiling.place("sst/7.1"), tiling.extent("sst/7.1")
    ('sst/*.1', {'x': slice(2, 6, None)})
    """

    lengths: Mapping[str, Mapping[str, int]]
    offset: Mapping[str, int]

    @classmethod
    def of(cls, ds: xr.Dataset) -> Tiling | None:
        """That of a dataset as the client's seam opens it; None where it is not known."""
        offset = ds.encoding.get("sstfill_offset", {})
        lengths = {
            str(n): dict(v.encoding.get("preferred_chunks", {})) for n, v in ds.data_vars.items()
        }
        known = all(
            d == "time" or (d in offset and d in lengths[str(n)])
            for n, v in ds.data_vars.items()
            for d in v.dims
        )
        return cls(lengths, dict(offset)) if known else None

    def place(self, key: str) -> str:
        """The key of a chunk but for its number in time."""
        name, _, numbers = key.rpartition("/")
        named = zip(self.lengths[name], numbers.split("."), strict=True)
        return f"{name}/{'.'.join('*' if d == 'time' else n for d, n in named)}"

    def extent(self, key: str) -> dict[str, slice]:
        """Indices of the store that a chunk covers, time and dimensions of one value left out."""
        name, _, numbers = key.rpartition("/")
        numbered = {d: int(n) for d, n in zip(self.lengths[name], numbers.split("."), strict=True)}
        return {
            d: slice(
                n * self.lengths[name][d] - self.offset[d],
                (n + 1) * self.lengths[name][d] - self.offset[d],
            )
            for d, n in numbered.items()
            if d != "time" and d in self.offset
        }

    def fits(self, keys: Iterable[str], box: Box) -> bool:
        """Whether the keys read for a window are those that this tiling foresees: no dateline was
        crossed, say.
        """
        given = list(keys)
        if not all(k.rpartition("/")[0] in self.lengths for k in given):
            return False
        for name in {k.rpartition("/")[0] for k in given}:
            mine = [k for k in given if k.rpartition("/")[0] == name]
            if any(len(k.rpartition("/")[2].split(".")) != len(self.lengths[name]) for k in mine):
                return False
            if any(not overlap(self.extent(k), box) for k in mine):
                return False
            dims = [d for d in self.lengths[name] if d in box and d != "time"]
            if len({self.place(k) for k in mine}) != math.prod(
                self._count(name, d, box[d]) for d in dims
            ):
                return False
        return True

    def _count(self, name: str, dim: str, span: slice) -> int:
        length, offset = self.lengths[name][dim], self.offset[dim]
        return (span.stop - 1 + offset) // length - (span.start + offset) // length + 1


def overlap(one: Mapping[str, slice], other: Mapping[str, slice]) -> bool:
    """Whether two boxes meet in every dimension that both name."""
    return all(
        one[d].start < other[d].stop and other[d].start < one[d].stop for d in one if d in other
    )
