# SPDX-License-Identifier: Apache-2.0
"""Windows from slabs: every place as likely as any other, few reads, bounded memory, the same ones
for one seed.
"""

from __future__ import annotations

import threading
from contextlib import closing
from itertools import islice, pairwise
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from training_archives import Watched, archive

from sstfill.errors import InputError
from sstfill.training.data import chunk_buffer
from sstfill.training.data.chunk_buffer import SegmentPlan, interleave, shuffled_windows
from sstfill.training.data.windows import (
    LEAST_SEA,
    LEAST_SEEN,
    MemoryLimits,
    TrainingWindow,
    TrainingWindows,
)

quick = settings(max_examples=25, deadline=None)
CHUNKS = {"time": 5, "lat": 10, "lon": 10}


def of(
    ds: xr.Dataset, times: slice = slice(0, 30), shape: tuple[int, int, int] = (4, 8, 8), **how: Any
) -> TrainingWindows:
    truth = how.pop("truth", ds["truth"].chunk(CHUNKS) if "truth" in ds else None)
    obs = how.pop("obs", ds.sst.chunk(CHUNKS))
    return TrainingWindows(obs, ds.sea, times, shape, truth, **how)


def drawn(windows: TrainingWindows, count: int, seed: int = 0) -> list[TrainingWindow]:
    with closing(shuffled_windows(windows, np.random.default_rng(seed))) as stream:
        return list(islice(stream, count))


def places(windows: list[TrainingWindow], ds: xr.Dataset) -> list[tuple[int, ...]]:
    """Where windows begin in the archive."""
    return [
        tuple(int(np.flatnonzero(ds[d].values == w.obs[d].values[0])[0]) for d in ds.sst.dims)
        for w in windows
    ]


def within(place: tuple[int, ...], box: chunk_buffer.Box) -> bool:
    return all(s.start <= p < s.stop for s, p in zip(box, place, strict=True))


@st.composite
def readings(draw: st.DrawFn) -> SegmentPlan:
    chunks, spans, shape = [], [], []
    for _ in range(3):
        sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
        start, stop = sorted(
            draw(st.tuples(st.integers(0, sum(sizes) - 1), st.integers(1, sum(sizes))))
        )
        start = min(start, stop - 1)
        length = draw(st.integers(1, stop - start))
        chunks.append(tuple(sizes))
        spans.append((start, stop - length + 1))
        shape.append(length)
    return SegmentPlan(tuple(chunks), tuple(spans), tuple(shape), draw(st.integers(1, 4000)))  # type: ignore[arg-type]


class TestReading:
    @quick
    @given(readings())
    def test_each_place_is_in_one_box(self, reading: SegmentPlan) -> None:
        start, stop = np.array(reading.spans).T
        met = np.zeros(stop, int)
        for box in reading.boxes():
            met[box] += 1
        inside = met[tuple(slice(a, b) for a, b in reading.spans)]
        assert (inside == 1).all() and inside.size == np.prod(stop - start) == met.sum()

    @quick
    @given(readings())
    def test_slabs_are_no_larger_than_they_may_be(self, reading: SegmentPlan) -> None:
        for box in reading.boxes():
            size = np.prod([s.stop - s.start for s in box.around(reading.shape)])
            assert size <= max(reading.pixels, np.prod(reading.shape))

    @quick
    @given(readings())
    def test_boxes_end_where_chunks_do_if_chunks_are_not_too_large(
        self, reading: SegmentPlan
    ) -> None:
        for k, (chunks, (start, stop)) in enumerate(
            zip(reading.chunks, reading.spans, strict=True)
        ):
            edges = {start, stop, *np.cumsum(chunks).tolist()}
            if reading._extent()[k] >= min(max(chunks), stop - start):
                assert {
                    edge for box in reading.boxes() for edge in (box[k].start, box[k].stop)
                } <= edges

    def test_of_the_usual_chunks_a_slab_is_eight(self) -> None:
        reading = SegmentPlan(
            ((24,) * 9, (256, 256), (256, 256)),
            ((0, 177), (0, 449), (0, 449)),
            (24, 64, 64),
            8 * 2**20,
        )
        assert reading._extent() == [24, 256, 256] and reading.windows_per_segment() == 48

    def test_of_small_chunks_there_are_several_in_a_slab(self) -> None:
        reading = SegmentPlan(
            ((1,) * 99, (40,) * 9, (40,) * 9),
            ((0, 76), (0, 297), (0, 297)),
            (24, 64, 64),
            8 * 2**20,
        )
        extent = reading._extent()
        assert min(extent[1:]) > 40 and extent[0] > 1 and 30 < reading.windows_per_segment() <= 48


class TestShuffled:
    def test_a_window_is_a_piece_of_its_block_of_time(self) -> None:
        ds = archive((40, 30, 30))
        found = drawn(of(ds, slice(5, 35)), 60)
        dates = ds.time.values
        for window in found:
            assert window.obs.shape == (4, 8, 8) and isinstance(window.obs.data, np.ndarray)
            assert dates[5] <= window.obs.time.values[0] and window.obs.time.values[-1] <= dates[34]
            xr.testing.assert_identical(
                window.obs, ds.sst.sel({d: window.obs[d] for d in ds.sst.dims})
            )
            xr.testing.assert_identical(
                window.truth, ds.truth.sel({d: window.obs[d] for d in ds.sst.dims})
            )
            wet = window.sea.values
            assert (
                wet.mean() >= LEAST_SEA
                and np.isfinite(window.obs.values[:, wet]).mean() >= LEAST_SEEN
            )
        assert len(set(places(found, ds))) > 50

    def test_the_same_seed_draws_the_same_windows(self) -> None:
        ds = archive((40, 30, 30))
        first, again, other = (places(drawn(of(ds), 30, seed), ds) for seed in (3, 3, 4))
        assert first == again != other

    def test_places_are_as_likely_as_if_each_window_were_drawn_by_itself(self) -> None:
        """Those whose windows lie across chunks, at the edges, or near land too."""
        ds = archive((40, 30, 30)).drop_vars("truth")
        ds["sea"] = ds.sea & (ds.lat > ds.lat[9])
        wet = ds.sea.values[:, :].astype(int)
        counts = np.lib.stride_tricks.sliding_window_view(wet, (8, 8)).sum((2, 3))
        seen = ds.sst.notnull().values[:30] * wet
        enough = (
            np.lib.stride_tricks.sliding_window_view(seen, (4, 8, 8)).sum((3, 4, 5))
            >= LEAST_SEEN * 4 * counts
        )
        likely = np.argwhere(enough & (counts >= LEAST_SEA * 64))
        found = np.array(places(drawn(of(ds, limits=MemoryLimits(windows=12)), 600), ds))
        assert set(map(tuple, found.tolist())) <= set(map(tuple, likely.tolist()))
        for k in range(3):
            fractions = [
                np.cumsum(np.bincount(p[:, k], minlength=30) / len(p)) for p in (found, likely)
            ]
            assert np.abs(fractions[0] - fractions[1]).max() < 0.05

    def test_few_reads_and_bounded_memory(self) -> None:
        ds = archive((60, 60, 60))
        watched = Watched(ds, CHUNKS)
        lazy = {"obs": watched.lazy("sst"), "truth": watched.lazy("truth")}
        own = of(ds, slice(0, 60), **lazy, limits=MemoryLimits(segment=60_000))
        with dask.config.set(scheduler=watched):
            drawn(own, 200)
        assert watched.largest * 2 * 4 <= 60_000
        one_by_one = (
            2 * 200 * 1.3 * 1.7 * 1.7
        )  # blocks that a window meets, on the average, of obs and truth
        assert 0 < len(watched.read) < one_by_one / 3
        assert own.obs.chunks is not None

    def test_the_world_is_not_read_for_a_few(self) -> None:
        ds = archive((60, 60, 60)).drop_vars("truth")
        watched = Watched(ds, CHUNKS)
        drawn(of(ds, slice(0, 60), obs=watched.lazy("sst")), 10)
        assert 0 < len(set(watched.read)) < 12 * 36 / 2

    def test_each_slab_comes_up_before_any_comes_again(self) -> None:
        ds = archive((60, 37, 37), fraction=0.0).drop_vars("truth")
        own = of(ds, slice(0, 60), limits=MemoryLimits(windows=10))
        boxes = (reading := chunk_buffer._plan(own)).boxes()
        found = places(
            drawn(own, reading.windows_per_segment() * (len(boxes) + chunk_buffer.IN_USE)), ds
        )
        assert len(boxes) > 20
        assert all(any(within(place, box) for place in found) for box in boxes)

    def test_neighbours_in_the_stream_are_from_several_slabs(self) -> None:
        ds = archive((60, 60, 60), fraction=0.0).drop_vars("truth")
        own = of(ds, slice(0, 60))
        boxes = chunk_buffer._plan(own).boxes()
        found = places(drawn(own, 100), ds)
        of_box = [next(k for k, box in enumerate(boxes) if within(place, box)) for place in found]
        changes = sum(a != b for a, b in pairwise(of_box))
        assert changes > 50 and len(set(of_box)) >= chunk_buffer.IN_USE

    def test_land_is_passed_over_unread(self) -> None:
        small = MemoryLimits(segment=10_000)
        ds = archive((40, 30, 30)).drop_vars("truth")
        ds["sea"] = ds.sea & (ds.lon > ds.lon[20])
        watched = Watched(ds, CHUNKS)
        drawn(of(ds, obs=watched.lazy("sst"), limits=small), 100)
        assert min(x for *_, x in watched.read) >= 10
        watched.read.clear()
        with pytest.raises(InputError, match="no window of"):
            drawn(of(ds.assign(sea=ds.sea & False), obs=watched.lazy("sst"), limits=small), 1)
        assert not watched.read

    @pytest.mark.parametrize("tries", [200, 3])
    def test_nothing_but_clouds(self, tries: int) -> None:
        ds = archive((40, 30, 30)).drop_vars("truth")
        with pytest.raises(
            InputError, match=r"no window of \(4, 8, 8\) pixels with 10% sea, 2% of it observed"
        ):
            drawn(of(ds.assign(sst=ds.sst * np.nan), tries=tries), 1)

    def test_no_thread_is_left(self) -> None:
        drawn(of(archive((40, 30, 30))), 3)
        assert not [t for t in threading.enumerate() if t.name.startswith("sstfill-prefetch")]

    def test_a_window_holds_no_slab(self) -> None:
        for window in drawn(of(archive((40, 30, 30))), 3):
            assert window.truth is not None
            assert window.obs.values.base is None and window.truth.values.base is None


class TestMixed:
    @quick
    @given(st.lists(st.lists(st.integers(), max_size=6), max_size=12), st.integers(0, 99))
    def test_everything_once(self, groups: list[list[int]], seed: int) -> None:
        found = list(interleave(map(iter, groups), np.random.default_rng(seed)))
        assert sorted(found) == sorted(item for group in groups for item in group)

    def test_no_more_groups_are_open_than_may_be(self) -> None:
        asked = []
        stream = interleave(
            (asked.append(k) or iter([k] * 5) for k in range(9)), np.random.default_rng(0)
        )  # type: ignore[func-returns-value]
        for given_ in range(1, 46):
            next(stream)
            assert len(asked) <= chunk_buffer.IN_USE + given_ // 5


@quick
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.integers(0, 99))
def test_where_there_is_enough_sea(rows: int, height: int, width: int, seed: int) -> None:
    sea = np.random.default_rng(seed).random((max(rows, height), 11)) < 0.12
    counts = np.lib.stride_tricks.sliding_window_view(sea, (height, width)).sum((2, 3))
    found = chunk_buffer._enough_sea(sea, (height, width), band=7)
    np.testing.assert_array_equal(found, counts >= LEAST_SEA * height * width)


def test_boxes_of_few_places_do_not_keep_an_empty_archive_from_being_refused() -> None:
    reads = 0

    def nothing(block: np.ndarray) -> np.ndarray:
        nonlocal reads
        reads += 1
        assert reads < 2000, "the archive is read for ever"
        return block * np.float32(np.nan)

    # Chunks of 24 columns and of one in turns: with one window for each of the large boxes, the
    # small ones are passed over 23 times in 24.
    zeros = dask.array.zeros((8, 10, 150), np.float32, chunks=(8, 10, (24, 1) * 6))
    obs = xr.DataArray(zeros.map_blocks(nothing, meta=zeros._meta), dims=("time", "lat", "lon"))
    sea = xr.DataArray(np.ones((10, 150), bool), dims=("lat", "lon"))
    limits = MemoryLimits(load=0, segment=4 * 8 * 10 * 64, windows=1)
    windows = TrainingWindows(obs, sea, slice(0, 8), (4, 8, 8), limits=limits)
    with pytest.raises(InputError, match="no window of"):
        drawn(windows, 1)
