# SPDX-License-Identifier: Apache-2.0
"""How units read an archive: what they are given, how often a chunk is decoded, what is kept."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import small_archives as small
import xarray as xr
from zarr.storage import LocalStore

from sstfill import errors
from sstfill.archive import fill_archive, run, slabs, unit, workers
from sstfill.archive.source import ArchiveSource
from sstfill.fields.patches import Patch, PatchGrid, Shape

SHAPE, HALO = (50, 40, 30), (5, 3, 3)
AMPLE = 10**9


class Counted:
    """Values of which it is known how often each block was read, and by how many at once."""

    def __init__(self) -> None:
        self.read: Counter[tuple[int, ...]] = Counter()

    def array(self, chunks: tuple[int, ...]) -> xr.DataArray:
        def block(block_info: dict) -> np.ndarray:
            where = block_info[None]["array-location"]
            self.read[tuple(start for start, _ in where)] += 1
            sides = [np.arange(*span) for span in where]
            t, y, x = np.meshgrid(*sides, indexing="ij")
            return (t * 10_000 + y * 100 + x).astype("f4")

        lazy = da.map_blocks(
            block, chunks=da.core.normalize_chunks(chunks, SHAPE), meta=np.empty((0, 0, 0), "f4")
        )
        return xr.DataArray(lazy, dims=("time", "y", "x"), name="sst")


def in_order(grid: slabs.SlabGrid, halo: Shape = HALO) -> Iterator[Patch]:
    """The units of `small.CORE` in the order in which a run fills them."""
    found = list(enumerate(PatchGrid(core=small.CORE, halo=halo).patches(SHAPE)))

    def place(numbered: tuple[int, Patch]) -> tuple[int, int, int]:
        rows, columns = grid.region(numbered[1])
        return rows.start, columns.start, numbered[0]

    for _, patch in sorted(found, key=place):
        yield patch


CHUNKS = [(1, 40, 30), (3, 16, 16), (50, 7, 30), (23, 40, 11), (8, 5, 5)]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("memory", [0, 60_000, AMPLE])
def test_units_are_given_what_they_see_and_no_more_is_kept_than_told(chunks, memory):
    counted = Counted()
    obs = counted.array(chunks)
    whole = obs.values
    grid = slabs.SlabGrid.choose(obs.data, small.CORE, HALO, memory)
    kept = slabs.Slabs()
    for patch in in_order(grid):
        seen = kept.read(obs, "a", grid, patch, "synchronous")
        assert np.array_equal(seen, whole[patch.seen])
        held = sum(slab.nbytes for slab in kept._held.values())
        assert 0 < held <= grid.kept
    least = slabs.SlabGrid.choose(obs.data, small.CORE, HALO, 0).kept
    assert least <= grid.kept <= max(memory, least)


def test_regions_that_begin_alike_are_told_apart():
    """Where units see farther than a region is wide, the first regions all begin at the edge."""
    obs, halo = Counted().array((8, 8, 8)), (2, 20, 20)
    whole = obs.values
    grid = slabs.SlabGrid.choose(obs.data, small.CORE, halo, 0)
    kept, begin, regions = slabs.Slabs(), set(), set()
    for patch in in_order(grid, halo):
        assert np.array_equal(kept.read(obs, "a", grid, patch, "synchronous"), whole[patch.seen])
        rows, columns = grid.region(patch)
        begin.add((rows.start, columns.start))
        regions.add((rows.start, rows.stop, columns.start, columns.stop))
    assert len(begin) < len(regions)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_with_ample_memory_each_block_is_decoded_once(chunks):
    counted = Counted()
    obs = counted.array(chunks)
    grid = slabs.SlabGrid.choose(obs.data, small.CORE, HALO, AMPLE)
    kept = slabs.Slabs()
    for patch in in_order(grid):
        kept.read(obs, "a", grid, patch, "synchronous")
    assert len(counted.read) == math.prod(obs.data.numblocks)
    assert set(counted.read.values()) == {1}


def test_less_memory_decodes_more_often_and_far_less_than_each_unit_alone():
    alone, most = Counted(), []
    obs = alone.array((8, 8, 8))
    for patch in PatchGrid(core=small.CORE, halo=HALO).patches(SHAPE):
        obs[patch.seen].compute(scheduler="synchronous")
    for memory in (60_000, AMPLE):
        counted = Counted()
        obs = counted.array((8, 8, 8))
        grid = slabs.SlabGrid.choose(obs.data, small.CORE, HALO, memory)
        kept = slabs.Slabs()
        for patch in in_order(grid):
            kept.read(obs, "a", grid, patch, "synchronous")
        most.append(max(counted.read.values()))
    assert most == [4, 1]
    assert max(alone.read.values()) == 12


def test_a_block_of_many_images_is_read_in_parts_where_memory_is_short():
    year = da.zeros((730, 64, 64), chunks=(365, 64, 64), dtype="f4")
    core, halo = (16, 64, 64), (30, 0, 0)
    ample = slabs.SlabGrid.choose(year, core, halo, AMPLE)
    short = slabs.SlabGrid.choose(year, core, halo, 3_000_000)
    assert (ample.block, ample.images) == (365, 365)
    assert short.block == 365 and 16 <= short.images < 365
    assert short.kept <= 3_000_000


def test_another_run_reads_anew():
    obs = xr.DataArray(da.zeros(SHAPE, dtype="f4"), dims=("time", "y", "x"), name="sst")
    grid = slabs.SlabGrid.choose(obs.data, small.CORE, HALO, AMPLE)
    patch, kept = next(in_order(grid)), slabs.Slabs()
    kept.read(obs, "a", grid, patch, "synchronous")
    changed = obs + 1
    assert kept.read(changed, "a", grid, patch, "synchronous").max() == 0
    assert kept.read(changed, "b", grid, patch, "synchronous").min() == 1
    kept.clear()
    assert kept.read(obs, "b", grid, patch, "synchronous").max() == 0


def test_what_a_unit_is_given_is_its_own():
    counted = Counted()
    obs = counted.array((8, 16, 16))
    grid = slabs.SlabGrid.choose(obs.data, small.CORE, HALO, AMPLE)
    patch, kept = next(in_order(grid)), slabs.Slabs()
    first = kept.read(obs, "a", grid, patch, "synchronous")
    wanted = first.copy()
    first[:] = np.nan
    assert np.array_equal(kept.read(obs, "a", grid, patch, "synchronous"), wanted)


def test_threads_that_want_the_same_slab_decode_it_once():
    counted, together = Counted(), threading.Barrier(4)
    obs = counted.array((8, 40, 30))
    grid = slabs.SlabGrid.choose(obs.data, small.CORE, HALO, AMPLE)
    patch, kept = next(in_order(grid)), slabs.Slabs()

    def read(_: int) -> np.ndarray:
        together.wait()
        return kept.read(obs, "a", grid, patch, "synchronous")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, range(4)))
    assert set(counted.read.values()) == {1}
    assert all(np.array_equal(one, found[0]) for one in found)


@pytest.fixture
def decodings(monkeypatch) -> Counter[str]:
    """How often each stored chunk of ``sst`` is read by units."""
    found: Counter[str] = Counter()
    reading, read, get = [False], unit.Slabs.read, LocalStore.get

    def counted_read(*given):
        reading[0] = True
        values = read(*given)
        reading[0] = False
        return values

    async def counted_get(self, key, *given, **options):
        if reading[0] and key.startswith("sst/c/"):
            found[key] += 1
        return await get(self, key, *given, **options)

    monkeypatch.setattr(unit.Slabs, "read", counted_read)
    monkeypatch.setattr(LocalStore, "get", counted_get)
    return found


@pytest.mark.parametrize("chunks", [(1, 20, 14), (20, 5, 5), (6, 20, 7)])
def test_a_fill_decodes_each_stored_chunk_once(tmp_path, monkeypatch, decodings, chunks):
    small.small_units(monkeypatch)
    archive = small.put(small.ocean(), tmp_path / "in.zarr", chunks)
    fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    count = math.prod(-(-n // c) for n, c in zip((small.T, small.Y, small.X), chunks, strict=True))
    assert len(decodings) == count
    assert set(decodings.values()) == {1}
    small.sound(tmp_path / "out.zarr", archive)


def test_an_output_does_not_depend_on_what_is_kept(archive, wanted, tmp_path, monkeypatch):
    small.small_units(monkeypatch)
    monkeypatch.setattr(workers, "KEPT", 0)
    fill_archive(archive, tmp_path / "out.zarr", small.METHOD)
    assert small.difference(tmp_path / "out.zarr", wanted) == ""


def test_what_changed_while_it_was_kept_is_read_again(tmp_path, monkeypatch, decodings):
    small.small_units(monkeypatch)
    ocean = small.ocean()
    archive, out = small.put(ocean, tmp_path / "in.zarr"), tmp_path / "out.zarr"
    real, taken = run.take, []

    def take(task, staged):
        real(task, staged)
        taken.append(task.number)
        if len(taken) == 1:
            small.write(small.revised(ocean, 4), archive, 4)

    monkeypatch.setattr(run, "take", take)
    fill_archive(archive, out, small.METHOD)
    assert decodings["sst/c/4/0/0"] == 2
    small.sound(out, archive)
    observed = small.revised(ocean, 4).sst[4]
    assert float(abs(small.loaded(out).sst[4] - observed).max()) == 0


def test_blocks_of_few_images_are_decoded_several_at_once(tmp_path):
    source = ArchiveSource(path=str(tmp_path))
    images = xr.DataArray(da.zeros((40, 20, 30), chunks=(1, -1, -1), dtype="f4"))
    ds = images.rename(dim_0="time", dim_1="lat", dim_2="lon").to_dataset(name="sst")
    assert source.decoded(ds, ["sst"], 1) == 20 * 30 * 4
    assert source.decoded(ds, ["sst"], 8) == 8 * 20 * 30 * 4


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("memory", [3_000_000_000, 30_000_000_000])
def test_a_worker_that_keeps_all_it_may_is_far_from_its_limit(count, memory):
    """`LEAST` is a third more than was measured; Dask ends workers at 95 % of their limit."""
    kept = workers.check_memory(memory, count, "interpolate", 10**6)
    needed = 0.75 * (workers.LEAST["interpolate"] + workers.A_PIXEL * 10**6)
    assert kept > 0 and kept + needed < 0.8 * memory / count


def test_large_stored_chunks_need_more_memory(tmp_path):
    ds = small.ocean(days=8)
    path = small.put(ds, tmp_path / "in.zarr", (8, 10, 14))
    source = ArchiveSource(path=str(path))
    with source.open() as opened:
        assert source.decoded(opened, ["sst"], 1) == 8 * 10 * 14 * 4
        assert source.decoded(opened, ["sst"], 64) == 8 * 20 * 14 * 4
    enough = 920_000_000
    workers.check_memory(enough, 0, "interpolate", 10**5, decoded=30_000_000)
    with pytest.raises(errors.OptionError, match=r"1\.6 GB, as 0\.4 GB of stored chunks are"):
        workers.check_memory(enough, 0, "interpolate", 10**5, decoded=400_000_000)
