# SPDX-License-Identifier: Apache-2.0
"""Keys of chunks show what they cover, whether that was foreseen, and which places are land."""

from __future__ import annotations

import itertools

import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.sources.copernicus.audit.chunk_audit import LandChunks
from sstfill.sources.copernicus.audit.layout import ChunkGrid, FetchedWindow

LENGTHS = st.integers(1, 6)
PLACES = st.tuples(st.integers(0, 9), st.integers(1, 12))


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.tuples(LENGTHS, LENGTHS),
    offset=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    y=PLACES,
    x=PLACES,
)
def test_extents_cover_a_window_once_and_a_missing_key_is_noticed(lengths, offset, y, x):
    box = {"time": slice(4, 9), "y": slice(y[0], sum(y)), "x": slice(x[0], sum(x))}
    grid = ChunkGrid(
        {"sst": {"time": 3, "level": 1, "y": lengths[0], "x": lengths[1]}},
        dict(zip("yx", offset, strict=True)),
    )
    spans = [
        range((box[d].start + o) // n, (box[d].stop - 1 + o) // n + 1)
        for d, o, n in zip("yx", offset, lengths, strict=True)
    ]
    keys = [f"sst/{t}.7.{j}.{i}" for t in (1, 2) for j, i in itertools.product(*spans)]
    assert grid.fits(keys, box)
    count = np.zeros((y[1], x[1]), int)
    for place in {grid.place(k): k for k in keys}.values():
        part = grid.extent(place)
        count[
            tuple(
                slice(max(0, part[d].start - box[d].start), max(0, part[d].stop - box[d].start))
                for d in "yx"
            )
        ] += 1
    assert (count == 1).all()
    lost = [k for k in keys if grid.place(k) != grid.place(keys[0])]
    assert not lost or not grid.fits(lost, box)


def test_what_is_not_foreseen_fits_not():
    grid, box = (
        ChunkGrid({"sst": {"time": 2, "x": 4}}, {"x": 0}),
        {"time": slice(0, 2), "x": slice(0, 8)},
    )
    assert grid.fits(["sst/0.0", "sst/0.1"], box)
    for keys in (["sst/0.0", "sst/0.9"], ["sst/0.0.0", "sst/0.0.1"], ["other/0.0", "other/0.1"]):
        assert not grid.fits(keys, box)


GRID = ChunkGrid({"sst": {"time": 2, "x": 4}}, {"x": 0})


def window(refused: list[str], came: list[str], grid: ChunkGrid | None = GRID) -> FetchedWindow:
    """A window without a value."""
    values = xr.Dataset({"sst": (("time", "x"), np.full((20, 16), np.nan))})
    return FetchedWindow({"time": slice(0, 20), "x": slice(0, 16)}, values, came, refused, grid)


def test_a_place_where_a_chunk_came_is_no_land_even_afterwards():
    land = LandChunks()
    for key in ("sst/0.3", "sst/1.3"):
        land.note_empty(window([key], []), [window([], [])])
    assert land.holds(GRID, ["sst/2.3"]) and land.were_empty(GRID, ["sst/2.3"])
    assert not land.holds(GRID, ["sst/2.2"])
    land.note_data(GRID, ["sst/5.3"])
    assert not land.holds(GRID, ["sst/2.3"]) and not land.were_empty(GRID, ["sst/2.3"])


def test_days_without_values_in_a_chunk_that_came_elsewhere_are_no_land():
    land = LandChunks()
    for t in range(9):
        land.note_empty(window([f"sst/{t}.3"], []), [window([], [f"sst/{t}.3"])])
    assert not land.holds(GRID, ["sst/9.3"])
    land.note_empty(window(["sst/9.1"], []), [window([], [], None)])
    land.note_empty(window(["sst/8.1"], []), [])
    assert not land.holds(GRID, ["sst/9.1"])
