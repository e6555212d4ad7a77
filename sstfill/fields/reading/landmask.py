# SPDX-License-Identifier: Apache-2.0
"""Land and sea by an offline land mask of 1 km, the package ``global-land-mask``, if installed.

Its data are those of GLOBE: Hastings and Dunbar 1999, Global Land One-kilometer Base Elevation,
NOAA National Geophysical Data Center. Lakes and the Caspian Sea are land in them.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import ReadError

NAME = "the land mask of global-land-mask (1 km)"
FILE = "globe_combined_mask_compressed.npz"


@dataclass(frozen=True)
class LandMask:
    """A file of cells, True at sea, from the North Pole and the date line on.

    Attributes
    ----------
    path
        An archive of arrays with one of the name ``mask``.
    shape
        Number of its rows and columns, which share out the globe.
    """

    path: Path
    shape: tuple[int, int] = (21_600, 43_200)

    def is_sea(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the sea covers the centres of cells; see `is_sea`."""
        height, width = self.shape
        north = 90 - np.nan_to_num(lat)
        rows = np.clip(north * (height / 180), 0, height - 1).astype(np.int32)
        # the mask begins at 180 degrees west
        turned = (np.nan_to_num(lon) + 180) % 360
        columns = np.clip(turned * (width / 360), 0, width - 1).astype(np.int32)
        if lat.ndim == 1:
            found = _cells(self, rows.tobytes(), columns.tobytes(), (lat.size, lon.size), True)
            return found.copy()
        found = _cells(self, rows.tobytes(), columns.tobytes(), lat.shape, False)
        return np.asarray(found & np.isfinite(lat) & np.isfinite(lon))


@cache
def _installed() -> LandMask | None:
    found = find_spec("global_land_mask")
    for folder in (found and found.submodule_search_locations) or ():
        if (Path(folder) / FILE).is_file():
            return LandMask(Path(folder) / FILE)
    return None


def is_installed() -> bool:
    """Whether the land mask is there to be asked."""
    return _installed() is not None


def is_sea(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the sea covers the centres of cells, by the installed land mask; `(y, x)`.

    Parameters
    ----------
    lat, lon
        Degrees, longitudes of any turn: both 1-D, of rows and of columns, or both ``(y, x)``. A
        place that is NaN is no sea.

    Raises
    ------
    ReadError
        The file of the package is not as it should be.
    """
    mask = _installed()
    assert mask is not None
    return mask.is_sea(lat, lon)


@lru_cache(maxsize=1)
def _cells(
    land: LandMask, rows: bytes, columns: bytes, shape: tuple[int, ...], rectilinear: bool
) -> NDArray[np.bool_]:
    """Read the cells of a grid; kept, as one field is looked at more than once."""
    wanted, at = np.frombuffer(rows, np.int32), np.frombuffer(columns, np.int32)
    # from the north, for a compressed file can be read forward alone
    order = np.argsort(wanted, kind="stable")
    sea = np.empty(shape, bool)
    with _Mask(land) as mask:
        if rectilinear:
            for row in order:
                sea[row] = mask.row(int(wanted[row]))[at]
            return sea
        each, first = np.unique(wanted[order], return_index=True)
        flat = sea.reshape(-1)
        for row, cells in zip(each, np.split(order, first[1:]), strict=True):
            flat[cells] = mask.row(int(row))[at[cells]]
    return sea


class _Mask:
    """A mask, read row by row from the north as it is unpacked.

    The package itself unpacks all of it when it is imported, which takes 940 MB.
    """

    def __init__(self, land: LandMask) -> None:
        self._land = land

    def __enter__(self) -> _Mask:
        self._archive = zipfile.ZipFile(self._land.path)
        self._file = self._archive.open("mask.npy")
        try:
            version = np.lib.format.read_magic(self._file)
            if version != (1, 0):
                raise ValueError(f"version {version}")
            shape, by_column, dtype = np.lib.format.read_array_header_1_0(self._file)
            if (shape, by_column, dtype) != (self._land.shape, False, np.dtype(bool)):
                raise ValueError(f"{dtype} {shape}")
        except ValueError as error:
            self._archive.close()
            raise ReadError(
                f"cannot read the land mask {self._land.path} ({error}); install the one that "
                "sstfill was tested with: pip install 'sstfill[landmask]'"
            ) from error
        self._start = self._file.tell()
        self._row = -1
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._archive.close()

    def row(self, number: int) -> NDArray[np.bool_]:
        """Return a row, True at sea; rows are asked for in ascending order."""
        if number != self._row:
            width = self._land.shape[1]
            # one byte a cell; forward, this unpacks and drops what lies between
            self._file.seek(self._start + number * width)
            self._line = np.frombuffer(self._file.read(width), bool)
            self._row = number
        return self._line
