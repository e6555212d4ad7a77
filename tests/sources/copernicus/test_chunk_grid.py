# SPDX-License-Identifier: Apache-2.0
"""Keys show what chunks cover; which places are land; a burst of refusals loses no value."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sstfill.errors import ReadError
from sstfill.sources.copernicus.audit.chunk_audit import ChunkAudit, ServiceLayout, variable
from sstfill.sources.copernicus.audit.masks import Box
from sstfill.sources.copernicus.client import _offsets
from sstfill.sources.copernicus.coverage import Coverage, CoverageAxis
from sstfill.sources.copernicus.reads import Reads

LENGTHS = st.integers(1, 6)
PLACES = st.tuples(st.integers(0, 9), st.integers(1, 12))


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.tuples(LENGTHS, LENGTHS),
    offset=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    y=PLACES,
    x=PLACES,
    key=st.sampled_from(["sst/{}.7.{}.{}", "sst/c/{}/7/{}/{}"]),
)
def test_chunks_cover_a_window_once(lengths, offset, y, x, key):
    box = {"time": slice(4, 9), "y": slice(y[0], sum(y)), "x": slice(x[0], sum(x))}
    spans = []
    for d, o, n in zip("yx", offset, lengths, strict=True):
        spans.append(range((box[d].start + o) // n, (box[d].stop - 1 + o) // n + 1))
    reads = Reads(1.0)
    reads.came = {key.format(t, *tile) for t in (1, 2) for tile in itertools.product(*spans)}
    values = xr.Dataset({"sst": (("time", "y", "x"), np.zeros((5, y[1], x[1])))})
    layout = ServiceLayout(
        lambda box: values,
        reads,
        {"sst": {"time": 3, "level": 1, "y": lengths[0], "x": lengths[1]}},
        dict(zip("yx", offset, strict=True)),
    )
    window = layout.fetch(box)
    assert window.came.keys() == reads.came and not window.refused
    count = xr.zeros_like(values.sst)
    for part in {layout.place(k): part for k, part in window.came.items()}.values():
        count[dict(part)] += 1
    assert (count == 1).all()


def test_a_key_that_is_not_understood_covers_all_and_has_a_place_of_its_own():
    reads = Reads(1.0)
    reads.refused = {"sst/0.1", "sst/1", "time/0"}
    values = xr.Dataset({"sst": (("time", "x"), np.zeros((2, 8)))}, {"time": [0, 1]})
    layout = ServiceLayout(lambda box: values, reads, {"sst": {"time": 2, "x": 4}}, {"x": 0})
    window = layout.fetch({"time": slice(0, 2), "x": slice(0, 8)})
    assert dict(window.refused) == {"sst/0.1": {"x": slice(4, 8)}, "sst/1": {}}
    assert layout.place("sst/1") == "sst/1" and layout.place("other/1.1") == "other/1.1"


@pytest.mark.parametrize(
    ("values", "offset"),
    [([10.0, 20.0], {"x": 19}), ([170.0, 180.0, 190.0], {}), ([20.0, 10.0], {}), ([10, 30], {})],
    ids=["run", "dateline", "descending", "hole"],
)
@pytest.mark.parametrize("explicit", [True, False])
def test_only_a_run_of_the_source_has_an_offset(values, offset, explicit):
    source = np.arange(-180.0, 180.0, 10.0)
    axis = CoverageAxis(first=-180, last=170, step=10)
    if explicit:
        axis = CoverageAxis(first=-180, last=170, values=tuple(source))
    coverage = Coverage(dataset_id="x", version="1", axes={"x": axis})
    assert _offsets(xr.Dataset(coords={"x": np.array(values, "f4")}), coverage) == offset


class Chunks:
    """A layout of two tiles in x: chunks of the first hold ones and clouds, others nothing."""

    def __init__(self, there: set[str], lengths: dict[str, int]) -> None:
        self.there, self.asked, self.reads = there, 0, Reads(0.05)
        self.reads.ask = lambda key: key in self.there
        self.layout = ServiceLayout(self.load, self.reads, {"sst": lengths}, {"x": 0})

    def load(self, box: Box) -> xr.Dataset:
        self.asked += 1
        length = self.layout.lengths["sst"]["time"]
        keys = {f"sst/{box['time'].start // length}.{x}" for x in (0, 1)}
        self.reads.came, self.reads.refused = keys & self.there, keys - self.there
        values = np.full((2, 8), np.nan)
        values[:, :4] = 1.0
        values[0, box["time"].start // 2 % 4] = np.nan  # clouds: else the mask would tell
        time = np.arange(box["time"].start, box["time"].stop).astype("M8[D]").astype("M8[ns]")
        return xr.Dataset({"sst": (("time", "x"), values)}, {"time": time, "x": np.arange(8)})


def test_a_place_where_a_chunk_came_is_no_land_even_afterwards():
    maps = Chunks({f"sst/{t}.0" for t in range(20)} | {"sst/4.1"}, {"time": 2, "x": 4})
    series = Chunks({"sst/0.0"}, {"time": 1024, "x": 4})
    audit = ChunkAudit(maps.layout, lambda: [series.layout], pause=0)
    asked = []
    for t in range(7):
        audit.fetch({"time": slice(2 * t, 2 * t + 2), "x": slice(0, 8)})
        asked.append(series.asked)
    assert asked == [1, 2, 2, 2, 2, 3, 4]  # known after two, until a chunk came
    assert audit.empty == 6 and not audit.served_by_now()


def test_days_without_values_in_a_chunk_that_came_elsewhere_are_no_land():
    maps = Chunks({f"sst/{t}.0" for t in range(20)}, {"time": 2, "x": 4})
    series = Chunks({"sst/0.0", "sst/0.1"}, {"time": 1024, "x": 4})
    audit = ChunkAudit(maps.layout, lambda: [series.layout], pause=0)
    for t in range(4):
        audit.fetch({"time": slice(2 * t, 2 * t + 2), "x": slice(0, 8)})
        assert series.asked == t + 1


def test_a_chunk_that_came_is_asked_for_until_the_service_answers_well():
    """Only then does it count that others are refused: the other layout is not looked at."""
    maps = Chunks({f"sst/{t}.{x}" for t in range(20) for x in (0, 1)}, {"time": 2, "x": 4})
    series = Chunks(set(), {"time": 1024, "x": 4})
    audit = ChunkAudit(maps.layout, lambda: [series.layout], pause=0)
    audit.fetch({"time": slice(0, 2), "x": slice(0, 8)})
    there, left = maps.there, 5
    maps.there = {"sst/0.0"}

    def ask(key: str) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            maps.there = there
        return left <= 0 and key in there

    maps.reads.ask = ask
    assert audit.fetch({"time": slice(2, 4), "x": slice(0, 8)}) is not None
    assert series.asked == 0 and audit.empty == 0

    maps.there, maps.reads.ask = set(), lambda key: False
    with pytest.raises(ReadError, match=r"the service has lost sst/1\.0, which it had before"):
        audit.fetch({"time": slice(4, 6), "x": slice(0, 8)})
    assert series.asked == 0


def test_the_variable_of_a_key_of_either_zarr_format():
    assert [variable(k) for k in ("sst/3.0.1", "sst/c/3/0/1", "sst/3/0/1")] == ["sst"] * 3


class Bursts:
    """Two layouts of the same cloudy series, and a service that refuses some requests in a row."""

    def __init__(self, first: int, length: int) -> None:
        rng = np.random.default_rng(0)
        values = rng.random((12, 8))
        values[rng.random((12, 8)) < 0.4] = np.nan
        values[:, :2] = np.nan  # land, a tile of either layout
        values[4:6] = np.nan  # clouds, a map of the first
        time = np.arange(12).astype("M8[D]").astype("M8[ns]")
        self.truth = xr.Dataset({"sst": (("time", "x"), values)}, {"time": time, "x": np.arange(8)})
        self.count, self.first, self.length = 0, first, length
        self.maps = self.layout({"time": 2, "x": 4})
        self.series = self.layout({"time": 6, "x": 2})

    def layout(self, lengths: dict[str, int]) -> ServiceLayout:
        reads = Reads(5.0)

        def chunk(key: str) -> dict[str, slice]:
            t, x = map(int, key.partition("/")[2].split("."))
            step, tile = lengths.values()
            return {"time": slice(t * step, (t + 1) * step), "x": slice(x * tile, (x + 1) * tile)}

        def ask(key: str) -> bool:
            self.count += 1
            refused = self.first < self.count <= self.first + self.length
            return not refused and bool(self.truth.sst.isel(chunk(key)).notnull().any())

        def load(box: Box) -> xr.Dataset:
            values = xr.full_like(self.truth, np.nan)
            reads.clear()
            spans = []
            for dim, n in lengths.items():
                spans.append(range(box[dim].start // n, (box[dim].stop - 1) // n + 1))
            for numbers in itertools.product(*spans):
                key = "sst/" + ".".join(map(str, numbers))
                if ask(key):
                    reads.came.add(key)
                    values.sst[chunk(key)] = self.truth.sst.isel(chunk(key))
                else:
                    reads.refused.add(key)
            return values.isel(box)

        reads.ask = ask
        return ServiceLayout(load, reads, {"sst": lengths}, {"x": 0})


def _fetched(service: Bursts, swapped: bool) -> xr.Dataset:
    """Fetch all that a service has, as a download does, at once and again at the end."""
    layouts = [service.maps, service.series]
    if swapped:
        layouts.reverse()
    audit = ChunkAudit(layouts[0], lambda: layouts[1:], pause=0)
    boxes = [{"time": slice(t, t + 2), "x": slice(0, 8)} for t in range(0, 12, 2)]
    got = [audit.fetch(box) for box in boxes]
    for i in [i for i, values in enumerate(got) if values is None]:
        got[i] = audit.fetch(boxes[i], last=True)
    for box in audit.served_by_now():
        got[boxes.index(box)] = audit.fetch(box, last=True)
    return xr.concat(got, "time")


@settings(max_examples=25, deadline=None)
@example(first=12, length=20, swapped=False)  # into the other layout
@example(first=16, length=30, swapped=False)  # to the chunk that the service had
@example(first=0, length=12, swapped=False)
@given(first=st.integers(1, 120), length=st.integers(0, 60), swapped=st.booleans())
def test_a_burst_of_refusals_loses_no_value(first, length, swapped):
    service = Bursts(first, length)
    xr.testing.assert_identical(_fetched(service, swapped), service.truth)


def test_a_burst_from_the_first_chunk_on_that_leaves_nothing_to_tell_by_is_refused():
    with pytest.raises(ReadError, match="no chunk of data at all"):
        _fetched(Bursts(0, 24), swapped=False)
