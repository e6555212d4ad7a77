# SPDX-License-Identifier: Apache-2.0
"""One of the layouts in which the service holds the same values: days of the whole map, or long
series of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import xarray as xr

from sstfill.sources.copernicus.audit.tiling import Tiling
from sstfill.sources.copernicus.audit.verify import Box
from sstfill.sources.copernicus.reads import Reads


@dataclass(frozen=True)
class ServiceLayout:
    """What gives the values of a window, the account of its reads, how it is cut.

    `reads` and `tiling` are None where they are not known, as with a dataset that is no client's.
    """

    fetch: Callable[[Box], xr.Dataset]
    reads: Reads | None = None
    tiling: Tiling | None = None

    def came(self, values: xr.Dataset) -> list[str]:
        """Chunks of data that the last window was made of."""
        return [] if self.reads is None else _of(values, self.reads.came)

    def refused(self, values: xr.Dataset) -> list[str]:
        """Chunks of data that the service said it does not have for the last window."""
        return [] if self.reads is None else _of(values, self.reads.refused)

    def fitting(self, values: xr.Dataset, box: Box) -> Tiling | None:
        """How it is cut, where the chunks that were asked for are those that this foresees for the
        last window.
        """
        fits = self.tiling is not None and self.tiling.fits(
            [*self.came(values), *self.refused(values)], box
        )
        return self.tiling if fits else None

    def account(self, values: xr.Dataset, box: Box) -> tuple[Tiling, list[str]] | None:
        """Which chunks came for the last window, where it is known what they cover."""
        tiling = self.fitting(values, box)
        return None if tiling is None else (tiling, self.came(values))


def cut(v: xr.DataArray, extent: Box, box: Box) -> xr.DataArray:
    """The part of a window that an extent covers."""
    inner = {
        d: slice(max(0, s.start - box[d].start), max(0, s.stop - box[d].start))
        for d, s in extent.items()
        if d in box
    }
    return v.isel(inner)


def variable(key: str) -> str:
    """The variable that a chunk is of.

    >>> variable("sst/3.0.1")
    'sst'
    """
    return key.rpartition("/")[0]


def _of(values: xr.Dataset, keys: Iterable[str]) -> list[str]:
    """Keys of chunks of data, sorted: coordinates are read when a dataset is opened."""
    return sorted(k for k in keys if variable(k) in values.data_vars)
