# SPDX-License-Identifier: Apache-2.0
"""Windows cover everything once, whole chunks of the store each, and end on the source's chunks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.sources.copernicus.windows import DownloadWindows, cut


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 20)),
    target=st.tuples(st.integers(1, 25), st.integers(1, 9)),
    source=st.tuples(st.integers(1, 40), st.integers(1, 9)),
    offset=st.integers(0, 50),
    fraction=st.floats(0, 1),
    pixels=st.integers(1, 2000),
)
def test_every_value_is_in_one_window_and_every_chunk_too(
    size, target, source, offset, fraction, pixels
):
    sizes, chunks = (dict(zip(("time", "x"), v, strict=True)) for v in (size, target))
    at = int(fraction * (sizes["time"] - 1))
    windows = cut(
        sizes,
        chunks,
        dict(zip(("time", "x"), source, strict=True)),
        offset={"time": offset},
        begin={"time": at},
        pixels=pixels,
    )
    count = np.zeros((sizes["time"], sizes["x"]), int)
    for box in windows.boxes():
        count[box["time"], box["x"]] += 1
    assert (count[at:] == 1).all() and (count[:at] == 0).all()
    assert len(windows) == len(windows.boxes())
    for d, edges in windows.edges.items():
        assert all(e % chunks[d] == 0 for e in edges[1:-1])
    largest = max(np.prod([s.stop - s.start for s in box.values()]) for box in windows.boxes())
    assert largest <= max(pixels, np.prod([min(chunks[d], sizes[d]) for d in sizes]))


def test_windows_end_on_chunks_of_the_source_where_they_fit():
    aligned = cut({"time": 100}, {"time": 5}, {"time": 20}, offset={"time": 10}, pixels=45)
    # 10 + 30 = 2 * 20; 40 is the most of 45 that holds whole chunks
    assert aligned.edges["time"] == (0, 30, 70, 100)
    assert cut({"time": 12}, {"time": 4}, {"time": 5}, pixels=8).edges["time"] == (
        0,
        8,
        12,
    )  # none fits


def test_long_chunks_of_the_source_are_fetched_once():
    windows = cut(
        {"time": 9000, "y": 64, "x": 64},
        {"time": 24, "y": 32, "x": 32},
        {"time": 9000, "y": 8, "x": 8},
        pixels=10_000_000,
    )
    assert windows.edges["time"] == (0, 9000) and len(windows) == 4


def test_time_runs_fastest():
    boxes = DownloadWindows({"time": (0, 1, 2), "x": (0, 3, 5)}).boxes()
    assert [(b["x"].start, b["time"].start) for b in boxes] == [(0, 0), (0, 1), (3, 0), (3, 1)]
    assert list(boxes[0]) == ["time", "x"]
