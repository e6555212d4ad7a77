# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import ReadError, WriteError
from sstfill.methods.common import fitted_store
from sstfill.methods.common.fitted_store import Map, saved_method


def test_a_state_comes_back_with_every_bit(tmp_path):
    state = {"numbers": [0.1, 1 / 3, 1e-300, float(np.float32(0.1))], "text": "a", "none": None}
    fitted_store.write_state(tmp_path, "own", {"options": state})
    assert fitted_store.read_state(tmp_path) == {"method": "own", "options": state}
    assert saved_method(tmp_path) == "own"


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_folder_without_a_state_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "fitted.json").write_text(content)
    with pytest.raises(ReadError, match=r"fitted\.json.*fill the archive anew"):
        fitted_store.read_state(tmp_path)


def test_a_state_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        fitted_store.write_state(tmp_path, "dineof", {"noise": float("nan")})
    assert not (tmp_path / "fitted.json").exists()


@settings(max_examples=15, deadline=None)
@given(
    y=st.integers(1, 9),
    x=st.integers(1, 9),
    k=st.integers(1, 3),
    chunk=st.integers(1, 5),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_tiles_written_are_parts_read(tmp_path_factory, y, x, k, chunk, seed, dtype):
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(seed)
    field = rng.normal(size=(k, y, x)).astype(dtype)
    fitted_store.create_maps(folder, {"patterns": Map((k,), dtype)}, y, x, chunk)
    cut = int(rng.integers(0, y))
    for rows in (slice(0, cut), slice(cut, y)):
        fitted_store.write_tile(folder, "patterns", (rows, slice(0, x)), field[:, rows])
    a, b = sorted(rng.integers(0, x + 1, 2))
    part = fitted_store.read_part(folder, "patterns", slice(0, y), slice(int(a), int(b)))
    assert part.dtype == np.dtype(dtype) and np.array_equal(part, field[:, :, a:b])


def test_what_was_never_written_is_the_fill_value(tmp_path):
    fitted_store.create_maps(tmp_path, {"noise": Map(), "count": Map((), np.int32, 0)}, 3, 4)
    everywhere = (slice(0, 3), slice(0, 4))
    assert np.isnan(fitted_store.read_part(tmp_path, "noise", *everywhere)).all()
    assert not fitted_store.read_part(tmp_path, "count", *everywhere).any()


def test_maps_are_a_zarr_store_that_xarray_reads(tmp_path):
    fitted_store.create_maps(tmp_path, {"patterns": Map((2,)), "noise": Map()}, 300, 20)
    with xr.open_zarr(tmp_path / "maps.zarr", chunks=None, consolidated=False) as found:
        assert found["patterns"].dims[1:] == found["noise"].dims == ("y", "x")
        assert found["patterns"].encoding["chunks"] == (2, 256, 20)


def test_arrays_beside_the_maps(tmp_path):
    for values in (
        np.arange(6.0).reshape(2, 3),
        np.array([True, False]),
        np.empty((0, 3), np.float32),
    ):
        fitted_store.write_array(tmp_path, "some", values)
        found = fitted_store.read_array(tmp_path, "some")
        assert found.dtype == values.dtype and np.array_equal(found, values)


def test_a_missing_map_is_told(tmp_path):
    with pytest.raises(ReadError, match=r"cannot read map 'noise'.*fill the archive anew"):
        fitted_store.read_part(tmp_path, "noise", slice(0, 1), slice(0, 1))


def test_a_copy_holds_all(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    fitted_store.create_maps(first, {"noise": Map()}, 2, 2)
    fitted_store.write_tile(first, "noise", (slice(0, 1), slice(0, 2)), np.ones((1, 2)))
    fitted_store.write_state(first, "own", {"options": {"noise": 0.5}})
    fitted_store.copy(first, second)
    assert fitted_store.read_state(second) == fitted_store.read_state(first)
    assert np.array_equal(
        *(fitted_store.read_part(f, "noise", slice(0, 2), slice(0, 2)) for f in (first, second)),
        equal_nan=True,
    )


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    file = tmp_path / "file"
    file.write_text(json.dumps({}))
    with pytest.raises(WriteError, match="cannot write"):
        fitted_store.create_maps(file, {"noise": Map()}, 2, 2)
    with pytest.raises(WriteError, match="cannot write"):
        fitted_store.write_state(Path(file), "dineof", {})
