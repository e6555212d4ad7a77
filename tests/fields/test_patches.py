# SPDX-License-Identifier: Apache-2.0
"""Patches: every pixel covered once in sum, and the same answer whatever the chunks, threads or
processes.
"""

from __future__ import annotations

import itertools
import pickle
import tracemalloc

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fields import DIMS, series

from sstfill.errors import InputError, OptionError
from sstfill.fields.patches import PatchGrid, map_patches

GRID = PatchGrid(core=(2, 3, 4), overlap=(1, 2, 4), halo=(1, 2, 0))


@st.composite
def grids(draw):
    core = draw(st.tuples(*[st.integers(1, 6)] * 3))
    overlap = tuple(draw(st.integers(0, c)) for c in core)
    return PatchGrid(core=core, overlap=overlap, halo=draw(st.tuples(*[st.integers(0, 3)] * 3)))


shapes = st.tuples(*[st.integers(1, 9)] * 3)


@st.composite
def chunked(draw, shape):
    """Chunks of an array, uneven, some of them empty."""
    cuts = [sorted(draw(st.lists(st.integers(0, n), max_size=3))) for n in shape]
    return tuple(tuple(np.diff([0, *c, n]).tolist()) for c, n in zip(cuts, shape, strict=True))


def gappy(shape=(7, 8, 9), seed=0, fraction=0.4) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape).astype("f4")
    values[rng.random(shape) < fraction] = np.nan
    return xr.DataArray(values, dims=("time", "y", "x"), name="sst")


def identity(*arrays_and_patch):
    *arrays, patch = arrays_and_patch
    return tuple(array[(..., *patch.within)] for array in arrays)


def moody(obs, *others_and_patch):
    """Mean of all that is seen, plus the observations; nothing where these are low, nor in some
    patches at all.
    """
    *others, patch = others_and_patch
    mine = obs[(..., *patch.within)]
    mean = np.nanmean(obs) if np.isfinite(obs).any() else np.float32(3)
    told = np.where(
        mine < -0.5, np.nan, np.nan_to_num(mine) + mean + sum(other.sum() for other in others)
    )
    told = told * np.nan if sum(s.start for s in patch.inside) % 3 == 2 else told
    return told, mine


def no_compute(*_, **__):
    raise AssertionError("a lazy array was computed")


@given(grid=grids(), shape=shapes)
@settings(max_examples=25, deadline=None)
def test_weights_are_positive_and_add_up_to_one_exactly(grid, shape):
    total = np.zeros(shape)
    for patch in grid.patches(shape):
        weights = grid.weights(patch, shape)
        assert weights.shape == patch.shape == total[patch.inside].shape and (weights > 0).all()
        assert all(n <= c + o for n, c, o in zip(patch.shape, grid.core, grid.overlap, strict=True))
        total[patch.inside] += weights
    assert (total == 1).all()


def test_weights_stay_exact_over_overlaps_that_are_no_power_of_two():
    grid, shape = PatchGrid(core=(7, 30, 31), overlap=(5, 29, 30)), (15, 70, 65)
    total = np.zeros(shape)
    for patch in reversed(list(grid.patches(shape))):
        total[patch.inside] += grid.weights(patch, shape)
    assert (total == 1).all()


def test_weights_fall_over_the_overlap_and_are_one_in_the_middle_and_at_the_border():
    grid, shape = PatchGrid(core=(1, 1, 6), overlap=(0, 0, 4)), (1, 1, 18)
    first, middle, last = (grid.weights(p, shape).ravel() for p in grid.patches(shape))
    rise = [0.125, 0.375, 0.625, 0.875]
    assert first.tolist() == [1, 1, 1, 1, *rise[::-1]]
    assert middle.tolist() == [*rise, 1, 1, *rise[::-1]]
    assert last.tolist() == [*rise, 1, 1, 1, 1]


@given(grid=grids(), shape=shapes)
@settings(max_examples=25, deadline=None)
def test_patches_lie_where_the_definition_says(grid, shape):
    found = list(grid.patches(shape))
    per_axis = []
    for c, o, h, n in zip(grid.core, grid.overlap, grid.halo, shape, strict=True):
        starts = [(k * c - o // 2, (k + 1) * c + o - o // 2) for k in range(-(-n // c))]
        per_axis.append(
            [
                (slice(max(a, 0), min(b, n)), slice(max(max(a, 0) - h, 0), min(min(b, n) + h, n)))
                for a, b in starts
            ]
        )
    expected = [tuple(zip(*axes, strict=True)) for axes in itertools.product(*per_axis)]
    assert [tuple(p) for p in found] == expected


@given(data=st.data(), grid=grids(), shape=shapes)
@settings(max_examples=25, deadline=None)
def test_touching_finds_just_the_patches_that_touch(data, grid, shape):
    ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
    block = tuple(slice(*e) for e in ends)
    marked = np.zeros(shape, bool)
    marked[block] = True
    assert list(grid.touching(shape, block)) == [
        p for p in grid.patches(shape) if marked[p.inside].any()
    ]


@given(grid=grids(), shape=shapes, seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_identity_gives_the_field_back(grid, shape, seed):
    field = gappy(shape, seed)
    result = map_patches(identity, field, grid=grid, outputs=["mean"])["mean"]
    assert result.dtype == field.dtype
    np.testing.assert_array_equal(result, field)


@given(grid=grids(), shape=shapes)
@settings(max_examples=25, deadline=None)
def test_halo_is_cut_at_the_border_and_in_its_place(grid, shape):
    field = gappy(shape, fraction=0).astype("f8")
    expected = np.zeros(shape)
    for patch in grid.patches(shape):
        t, y, x = (
            range(max(0, s.start - h), min(n, s.stop + h))
            for s, h, n in zip(patch.inside, grid.halo, shape, strict=True)
        )
        expected[patch.inside] += grid.weights(patch, shape) * field.values[np.ix_(t, y, x)].sum()

    def box_sum(values, patch):
        np.testing.assert_array_equal(values, field.values[patch.seen])
        return (np.full(patch.shape, values.sum()),)

    result = map_patches(box_sum, field, grid=grid, outputs=["sum"])["sum"]
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@given(data=st.data(), grid=grids(), shape=shapes)
@settings(max_examples=25, deadline=None)
def test_any_chunks_give_the_same_bits(data, grid, shape):
    field, sea = gappy(shape), gappy(shape, 1).isel(time=0, drop=True)
    outputs = {"mean": np.float32, "copy": np.float64}
    kwargs = {"grid": grid, "outputs": outputs}
    eager = map_patches(moody, field, field * 2, sea.isnull(), **kwargs)
    chunks = data.draw(chunked(shape))
    lazy, other = (field * n for n in (1, 2))
    lazy = lazy.copy(data=dask.array.from_array(field.values, chunks=chunks))
    other = other.chunk(data.draw(st.sampled_from([{}, {"time": 2}, {"y": 3, "x": 1}])))
    found = map_patches(moody, lazy, other, sea.isnull(), **kwargs)
    assert found["mean"].chunks == found["copy"].chunks == chunks
    assert (
        [found[n].dtype for n in outputs]
        == [eager[n].dtype for n in outputs]
        == list(outputs.values())
    )
    xr.testing.assert_identical(found.compute(scheduler="sync"), eager)


@pytest.mark.parametrize(
    "chunks", [None, {"time": 2, "lat": 3}, {"variable": 1, "time": 3, "lon": 4}]
)
def test_a_leading_variable_dim_is_passed_whole(chunks):
    one = series(6, 7, 8)
    both = xr.concat([one, one + 5], "variable").assign_coords(variable=["sst", "chl"])
    three = xr.concat([one, one, one], "variable")
    seen = []

    def first_minus_second(values, more, plain, patch):
        seen.append((values.shape[0], more.shape[0], plain.ndim))
        return ((values - values[::-1])[(..., *patch.within)],)

    fields = [
        f if chunks is None else f.chunk({d: n for d, n in chunks.items() if d in f.dims})
        for f in (both, three)
    ]
    result = map_patches(first_minus_second, *fields, one, grid=GRID, outputs=["mean"])
    np.testing.assert_allclose(result["mean"], both - both.values[::-1], atol=1e-5)
    assert result["mean"].dims == ("variable", *DIMS) and set(seen) == {(2, 3, 3)}
    xr.testing.assert_identical(
        result.drop_vars("mean").compute(), both.to_dataset(name="v").drop_vars("v")
    )


def test_nan_is_left_out_of_the_blend():
    nan = np.nan
    grid = PatchGrid(core=(1, 1, 4), overlap=(0, 0, 4))
    answers = {
        0: [1, 1, 1, nan, nan, 1],  # pixels 0-5
        2: [2, nan, 2, nan, nan, 2, nan, 2],  # pixels 2-9
        6: [4, 4, nan, nan, 4, nan],  # pixels 6-11
    }
    expected = [1, 1, 0.875 + 0.125 * 2, nan, 2, 1, 4, 0.625 * 2 + 0.375 * 4, nan, 2, 4, nan]

    def told(values, patch):
        return (np.array(answers[patch.inside[2].start]).reshape(patch.shape),)

    field = xr.DataArray(np.zeros((1, 1, 12), "f4"), dims=("time", "y", "x"))
    for given_field in (field, field.chunk(x=5)):
        result = map_patches(told, given_field, grid=grid, outputs=["mean"])["mean"]
        np.testing.assert_array_equal(result.values.ravel(), expected)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing(threads):
    asked = []

    def noted(values, patch):
        asked.append(str(patch))
        return moody(values, patch)

    field = gappy((9, 10, 11))
    kwargs = {"grid": GRID, "outputs": ["mean", "copy"]}
    found = map_patches(noted, field, **kwargs, threads=threads)
    xr.testing.assert_identical(found, map_patches(moody, field, **kwargs))
    assert sorted(asked) == sorted(map(str, GRID.patches(field.shape)))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("order", [("time", "y", "x"), ("y", "x", "time")])
def test_neither_answers_nor_sums_pile_up(order, threads):
    sizes, core = (
        dict(zip(order, (256, 32, 16), strict=True)),
        dict(zip(order, (4, 8, 16), strict=True)),
    )
    dims = ("time", "y", "x")
    field = gappy([sizes[d] for d in dims])
    core = tuple(core[d] for d in dims)
    grid = PatchGrid(core=core, overlap=core)
    tracemalloc.start()
    map_patches(identity, field, grid=grid, outputs=["mean"], threads=threads)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        peak < 2.5 * field.nbytes
    )  # the result, and sums in double precision of a few rows of patches


def test_a_grid_larger_than_the_field_is_one_patch():
    field = gappy((3, 4, 5))
    grid = PatchGrid(core=(99, 99, 99), overlap=(99, 7, 0), halo=(50, 50, 50))
    (patch,) = grid.patches((3, 4, 5))
    assert patch.inside == patch.seen == patch.within == (slice(0, 3), slice(0, 4), slice(0, 5))
    for chunks in ({}, {"time": 1, "x": 2}):
        result = map_patches(identity, field.chunk(chunks), grid=grid, outputs=["mean"])["mean"]
        np.testing.assert_array_equal(result, field)


def test_the_function_owns_what_it_gets():
    field = gappy()
    before = field.copy(deep=True)

    def spoil(values, patch):
        assert values.flags.c_contiguous and values.flags.writeable
        values[:] = 7
        return (values[patch.within],)

    for grid in (GRID, PatchGrid(core=(99, 99, 99))):
        for given_field in (field, field.chunk(), field.chunk(time=2)):
            assert (map_patches(spoil, given_field, grid=grid, outputs=["mean"])["mean"] == 7).all()
    xr.testing.assert_identical(field, before)


def test_the_patch_tells_where_it_is():
    field = series(9, 7, 8)
    days = field["time"].dt.dayofyear.values

    def when(values, patch):
        return (np.broadcast_to(days[patch.inside[0]][:, None, None], patch.shape),)

    for given_field in (field, field.chunk(time=2, lat=3)):
        result = map_patches(when, given_field, grid=GRID, outputs=["day"])["day"]
        np.testing.assert_array_equal(result, np.broadcast_to(days[:, None, None], field.shape))
        assert result.dims == DIMS and set(result.coords) == set(field.coords)


def counted(field: xr.DataArray, chunks, loaded: list) -> xr.DataArray:
    """Field whose chunks tell which of them are read."""

    def read(block, block_info=None):
        loaded.append(tuple(block_info[0]["chunk-location"]))
        return block

    blocks = dask.array.from_array(field.values, chunks=chunks)
    return field.copy(data=blocks.map_blocks(read, dtype="f4", meta=np.empty((0, 0, 0), "f4")))


def test_nothing_is_computed_or_called_until_asked_for():
    loaded: list = []
    with dask.config.set(scheduler=no_compute):
        lazy = map_patches(
            no_compute, counted(gappy(), 3, loaded), grid=GRID, outputs=["mean", "error"]
        )
        lazy = map_patches(
            no_compute, gappy(), lazy["mean"], gappy()[0].chunk(), grid=GRID, outputs=["mean"]
        )
        one = map_patches(no_compute, gappy(), gappy()[0].chunk(y=3), grid=GRID, outputs=["mean"])
    assert not loaded and lazy["mean"].chunks == ((3, 3, 1), (3, 3, 2), (3, 3, 3))
    assert one["mean"].chunks == ((7,), (8,), (9,))


def test_a_chunk_alone_is_the_same_and_reads_only_what_its_patches_see():
    field = gappy((24, 24, 24))
    eager = map_patches(moody, field, grid=GRID, outputs=["mean", "copy"])
    loaded: list = []
    calls: list = []

    def noted(values, patch):
        calls.append(patch)
        return moody(values, patch)

    lazy = map_patches(noted, counted(field, 4, loaded), grid=GRID, outputs=["mean", "copy"])
    block = (slice(8, 12), slice(12, 16), slice(16, 20))
    found = dask.compute(lazy["mean"][block], lazy["copy"][block], scheduler="sync")
    for name, chunk in zip(("mean", "copy"), found, strict=True):
        np.testing.assert_array_equal(chunk, eager[name][block])
    touching = list(GRID.touching(field.shape, block))
    assert calls == touching  # once for both outputs, and no other
    needed = np.zeros(field.shape, bool)
    for patch in touching:
        needed[patch.seen] = True
    assert set(loaded) == {tuple((np.array(p) // 4).tolist()) for p in np.argwhere(needed)}
    assert len(loaded) == len(set(loaded)) < 6**3


def test_tasks_are_few_and_small():
    from distributed.protocol import serialize  # noqa: F401  (registers cloudpickle)
    from distributed.protocol.pickle import dumps

    weights = np.arange(200_000.0)

    def heavy(values, patch):
        return (values[patch.within] + weights[0].astype("f4"),)

    zeros = xr.DataArray(
        dask.array.zeros((40, 400, 400), chunks=(10, 100, 100), dtype="f4"), dims=DIMS
    )
    lazy = map_patches(
        heavy, zeros, grid=PatchGrid(core=(4, 16, 16), overlap=(2, 8, 8)), outputs=["mean"]
    )["mean"]
    graph = dict(lazy.__dask_graph__())
    sizes = sorted(len(dumps(task)) for task in graph.values())
    assert sizes[-1] > weights.nbytes > 20 * sizes[-2]  # the function, once
    assert len(graph) < 40 * 4**3
    assert len(pickle.dumps(GRID)) < 500


@pytest.mark.usefixtures("quick_workers")
def test_worker_processes_give_the_same():
    distributed = pytest.importorskip("distributed")
    field = gappy((8, 12, 12))

    def local(obs, sea, patch):  # not importable by a worker: goes there by value
        told = np.full(patch.shape, obs[np.isfinite(obs)].mean() + sea.sum())
        return np.where(obs[patch.within] < 0, np.nan, told), obs[patch.within]

    kwargs = {"grid": GRID, "outputs": ["mean", "copy"]}
    sea = gappy((1, 12, 12), 1)[0] > 0
    eager = map_patches(local, field, sea, **kwargs)
    lazy = map_patches(local, field.chunk(time=3, y=5, x=7), sea, **kwargs)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        found = lazy.compute()
    xr.testing.assert_identical(found, eager)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"core": (0, 4, 4)}, r"core=\(0, 4, 4\) must be three whole numbers, 1 or more"),
        ({"core": (4, 4)}, r"core=\(4, 4\)"),
        ({"core": 4}, "core=4 must be three"),
        ({"core": (4, 4, 4.5)}, "whole"),
        ({"core": (True, 4, 4)}, "whole"),
        (
            {"core": (4, 4, 4), "overlap": (0, 5, 0)},
            r"overlap=\(0, 5, 0\) exceeds core=\(4, 4, 4\)",
        ),
        ({"core": (4, 4, 4), "overlap": (0, -1, 0)}, r"overlap=.* 0 or more"),
        ({"core": (4, 4, 4), "halo": (0, 0, -1)}, r"halo=\(0, 0, -1\)"),
    ],
)
def test_grids_that_cannot_be(options, match):
    with pytest.raises(OptionError, match=match):
        PatchGrid(**options)


def test_a_grid_from_text_or_numpy_is_the_same_grid():
    assert PatchGrid(core=[2, 3, 4], overlap=np.array([1, 2, 4]), halo=[1, 2, 0]) == GRID and hash(
        GRID
    )


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ((), "give one xarray DataArray or more"),
        ((np.zeros((2, 3, 4)),), "ndarray"),
        ((gappy().transpose("y", "time", "x"),), "transpose it to"),
        ((gappy()[0],), "transpose it to"),
        ((gappy().expand_dims("member"),), "transpose it to"),
        ((gappy()[:0],), "none of them empty"),
        ((gappy(), gappy().transpose("time", "x", "y")), "'sst' has dims"),
        ((gappy(), gappy()[:, :, 0]), "without time"),
        ((gappy(), gappy()[:, :5]), "crop them"),
    ],
)
def test_fields_that_do_not_fit(fields, match):
    with pytest.raises(InputError, match=match):
        map_patches(identity, *fields, grid=GRID, outputs=["mean"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"outputs": "mean"}, "list of names"),
        ({"outputs": []}, "list of names"),
        ({"outputs": {"mean": int}}, "floating"),
        ({"outputs": ["time"]}, "name of a coordinate"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_options_that_make_no_sense(change, match):
    with pytest.raises(OptionError, match=match):
        map_patches(identity, gappy(), **({"grid": GRID, "outputs": ["mean"]} | change))


@pytest.mark.parametrize("chunks", [None, {"time": 3}])
@pytest.mark.parametrize(
    ("function", "match"),
    [
        (
            lambda a, patch: (a,),
            r"shape \(\d, 6, 6\) and dtype float32; return numbers of shape \(3, 4, 6\)",
        ),
        (lambda a, patch: (a[patch.within].astype(str),), "dtype <U"),
        (lambda a, patch: a[patch.within], "a ndarray; return a tuple of one array each for mean"),
        (lambda a, patch: (), "0 values"),
        (lambda a, patch: (a[patch.within],) * 2, "2 values"),
    ],
)
def test_functions_that_return_something_else(function, match, chunks):
    field = gappy() if chunks is None else gappy().chunk(chunks)
    with pytest.raises(OptionError, match=match):
        map_patches(function, field, grid=GRID, outputs=["mean"]).compute(scheduler="sync")
