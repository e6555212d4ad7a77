# SPDX-License-Identifier: Apache-2.0
"""What is read of an archive: which files hold which days, and that looking does not depend on how
it is stored.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import small_archives as small

from sstfill.archive import source
from sstfill.fields import gaps
from sstfill.methods.base import Points


def _source(path: Path) -> source.ArchiveSource:
    return source.ArchiveSource(path=str(path))


@pytest.mark.parametrize("chunks", [(1, 20, 14), (6, 7, 14), (20, 20, 5)])
@pytest.mark.parametrize("form", [2, 3])
def test_looking_does_not_depend_on_chunks(tmp_path, chunks, form):
    ocean = small.ocean()
    read = _source(small.put(ocean, tmp_path / "in.zarr", chunks, zarr_format=form))
    points = Points(np.array([0, 3, 19]), np.array([13, 2, 5]))
    with read.open() as ds:
        found = source.look(read.field(ds, "sst"), points)
    obs = ocean.sst.values
    assert np.array_equal(found.image_count, np.isfinite(obs).sum((1, 2)))
    assert np.array_equal(found.pixel_count, np.isfinite(obs).sum(0))
    assert np.array_equal(found.sample, obs[:, points.rows, points.columns], equal_nan=True)
    assert np.array_equal(found.digest, gaps.image_digests(obs, (0, 0), small.X))
    assert found.infinite == 0


CASES = [(2, (3, 20, 14), None), (3, (3, 20, 14), None), (3, (1, 10, 7), (3, 20, 14))]


@pytest.mark.parametrize(("form", "chunks", "shards"), CASES)
def test_files_tell_days(tmp_path, form, chunks, shards):
    ocean = small.ocean()
    encoding = {"sst": {"shards": shards}} if shards else None
    path = small.put(ocean, tmp_path / "in.zarr", chunks, zarr_format=form, encoding=encoding)
    before = _source(path).stats()
    changed = small.revised(ocean, 7)
    small.put(changed, tmp_path / "other.zarr", chunks, zarr_format=form, encoding=encoding)
    name = "sst/2.0.0" if form == 2 else "sst/c/2/0/0"
    (path / name).write_bytes((tmp_path / "other.zarr" / name).read_bytes())
    assert source.touched(path, before, _source(path).stats(), small.T).tolist() == [6, 7, 8]
    assert source.touched(path, before, before, small.T).size == 0


def test_a_file_whose_name_tells_no_day_touches_all(tmp_path):
    path = small.put(small.ocean(), tmp_path / "in.zarr")
    before = _source(path).stats()
    (path / "sst/note").write_text("?")
    assert source.touched(path, before, _source(path).stats(), small.T).tolist() == list(
        range(small.T)
    )


def test_metadata_of_the_store_and_coordinates_touch_nothing(tmp_path):
    path = small.put(small.ocean(), tmp_path / "in.zarr")
    before = _source(path).stats()
    small.append(small.ocean(21).isel(time=[20]), path)
    assert source.touched(path, before, _source(path).stats(), 21).tolist() == [20]


def test_a_netcdf_file_touches_all(tmp_path):
    path = small.put(small.ocean(), tmp_path / "in.nc")
    before = _source(path).stats()
    small.put(small.ocean(), path)
    assert source.touched(path, before, _source(path).stats(), small.T).size == small.T


@pytest.mark.parametrize("chunks", [(1, 20, 14), (20, 4, 4), (5, 20, 7)])
def test_blocks_are_whole_chunks_of_bounded_size(tmp_path, chunks):
    archive = small.put(small.ocean(), tmp_path / "in.zarr", chunks)
    read = dataclasses.replace(_source(archive), block_bytes=4e3)
    with read.open() as ds:
        field = read.field(ds, "sst")
        stored = ds.sst.encoding["chunks"]
        for sizes, length in zip(field.data.chunks, stored, strict=True):
            assert all(s % length == 0 for s in sizes[:-1])
        slab = max(field.data.chunks[0]) * (
            small.Y * small.X * 4 if chunks[0] < small.T else chunks[1] * chunks[2] * 4
        )
        assert slab <= max(2 * read.block_bytes, np.prod(stored) * 4 * 28)
