# SPDX-License-Identifier: Apache-2.0
"""The offline land mask: read row by row, at any longitude and at the poles."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from sstfill.errors import ReadError
from sstfill.fields.reading import landmask

needs_land_mask = pytest.mark.skipif(
    find_spec("global_land_mask") is None, reason="the extra landmask is not installed"
)
PLACES = {
    "Mediterranean": (38.0, 5.0, True),
    "Black Sea": (43.0, 34.0, True),
    "Pacific at the date line": (0.0, 180.0, True),
    "North Pole": (90.0, 0.0, True),
    "South Pole": (-90.0, 0.0, False),
    "Madrid": (40.4, -3.7, False),
    "Lake Victoria": (-1.0, 33.0, False),
    "Lake Michigan": (44.0, -87.0, False),
    "Caspian Sea": (42.0, 51.0, False),
}


@pytest.fixture
def small(tmp_path):
    """A land mask of 4 x 8 cells, and those cells."""
    cells = np.random.default_rng(0).random((4, 8)) > 0.5
    np.savez_compressed(tmp_path / "mask.npz", mask=cells)
    return landmask.LandMask(tmp_path / "mask.npz", (4, 8)), cells


def test_rows_and_columns_in_any_order(small):
    mask, cells = small
    lat = np.array([-60.0, 80.0, 10.0, 80.0, -90.0, 90.0])
    lon = np.array([-170.0, 190.0, 10.0, 350.0, 180.0])
    rows, columns = [3, 0, 1, 0, 3, 0], [0, 0, 4, 3, 0]
    expected = cells[np.ix_(rows, columns)]
    np.testing.assert_array_equal(mask.is_sea(lat, lon), expected)
    lat2, lon2 = np.meshgrid(lat, lon, indexing="ij")
    lat2[1, 2] = np.nan
    found = mask.is_sea(lat2, lon2)
    assert not found[1, 2]
    expected[1, 2] = False
    np.testing.assert_array_equal(found, expected)


def test_another_file_is_refused(small):
    other = replace(small[0], shape=(4, 9))
    with pytest.raises(ReadError, match=r"cannot read the land mask .*sstfill\[landmask\]"):
        other.is_sea(np.array([0.0]), np.array([0.0]))


@needs_land_mask
def test_places():
    lat, lon, sea = (np.array(column) for column in zip(*PLACES.values(), strict=True))
    found = landmask.is_sea(lat[None].astype(float), lon[None].astype(float))
    assert dict(zip(PLACES, found[0].tolist(), strict=True)) == dict(
        zip(PLACES, sea.astype(bool).tolist(), strict=True)
    )


@needs_land_mask
def test_longitudes_of_any_turn():
    lat = np.linspace(-60, 60, 7)
    lon = np.linspace(-180, 179, 40)
    np.testing.assert_array_equal(
        landmask.is_sea(lat, lon), landmask.is_sea(lat, np.where(lon < 0, lon + 360, lon))
    )


@needs_land_mask
def test_memory_stays_small():
    code = (
        "import resource, numpy as np\n"
        "from sstfill.fields import landmask\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "landmask.is_sea(np.linspace(-80, 80, 500), np.linspace(-180, 179, 500))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 60_000  # kB; the whole mask has 940 MB
