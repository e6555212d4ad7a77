# SPDX-License-Identifier: Apache-2.0
"""Scaling comes from what was observed, streams, loses no digits and can be undone."""

from __future__ import annotations

import json

import dask
import dask.array
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sstfill import config
from sstfill.errors import InputError, OptionError
from sstfill.fields.scaling import KINDS, Scaling, SequenceScaling

every_kind = pytest.mark.parametrize("kind", KINDS)
capped = settings(max_examples=25, deadline=None)
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)
POSITIVE = st.floats(1e-3, 1e4)
GAPPY = hnp.arrays(float, SHAPES, elements=POSITIVE | st.just(float("nan"))).filter(
    lambda v: bool(np.isfinite(v).any())
)


def no_compute(dsk, keys, **kwargs):
    raise AssertionError("computed")


def field(chunks: dict[str, int] | None = None, dtype: str = "f4") -> xr.DataArray:
    values = np.random.default_rng(0).normal(290, 2, (6, 5, 4)).astype(dtype)
    values[np.random.default_rng(1).random(values.shape) < 0.4] = np.nan
    attrs = {"units": "kelvin", "long_name": "temperature"}
    made = xr.DataArray(
        values, dims=("time", "lat", "lon"), coords={"time": np.arange(6)}, name="sst", attrs=attrs
    )
    return made if chunks is None else made.chunk(chunks)


# --- fitting


@given(GAPPY, st.sampled_from(KINDS))
@capped
def test_mean_and_spread_are_those_of_the_observed(values, kind):
    seen = values[np.isfinite(values)]
    found = Scaling.fit(values, kind)
    assert found.mean == pytest.approx(seen.mean(), rel=1e-12, abs=1e-12)
    constant = np.ptp(seen) == 0
    assert found.std == pytest.approx(1.0 if constant else seen.std(), rel=1e-9)


@given(
    hnp.arrays(float, (4, 5), elements=POSITIVE),
    hnp.arrays(bool, (4, 5)),
    hnp.arrays(float, (4, 5)),
)
@capped
def test_what_is_masked_has_no_say(truth, observed, other):
    observed[0, 0] = True
    fits = [
        Scaling.fit(xr.DataArray(t).where(observed))
        for t in (truth, np.where(observed, truth, other))
    ]
    assert fits[0] == fits[1] == Scaling.fit(truth[observed])


@every_kind
@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 4, "lat": 2}, {}])
def test_chunks_change_nothing_but_rounding(kind, chunks):
    whole, streamed = Scaling.fit(field(), kind), Scaling.fit(field(chunks), kind)
    assert streamed.mean == pytest.approx(whole.mean, rel=1e-14) and streamed.std == pytest.approx(
        whole.std, rel=1e-12
    )


def test_blocks_are_read_once_and_one_by_one():
    read = []

    def block(block_info=None):
        read.append(block_info[None]["chunk-location"])
        return np.full((1, 3, 3), 1.0 + read[-1][0])

    lazy = dask.array.map_blocks(
        block, chunks=((1,) * 7, (3,), (3,)), dtype=float, meta=np.empty((0, 0, 0))
    )
    with dask.config.set(scheduler="synchronous"):
        found = Scaling.fit(xr.DataArray(lazy))
    assert sorted(read) == [(t, 0, 0) for t in range(7)]
    assert found.mean == pytest.approx(4) and found.std == pytest.approx(2)


@pytest.mark.parametrize("order", ["C", "F"])
def test_more_values_than_are_taken_at_once(order):
    values = np.asarray(np.random.default_rng(0).normal(290, 2, (3, 1100, 900)), "f4", order=order)
    found = Scaling.fit(values)
    assert found.mean == pytest.approx(values.mean(dtype=float), rel=1e-12)
    assert found.std == pytest.approx(values.std(dtype=float), rel=1e-9)


def test_a_large_mean_costs_no_digits():
    ripple = np.tile([-1.0, 1.0], 500_000)
    assert Scaling.fit((1e6 + ripple).astype("f4")) == Scaling("standardise", 1e6, 1.0)
    found = Scaling.fit(1e12 + ripple)
    assert found.mean == 1e12 and found.std == pytest.approx(1, rel=1e-12)


@every_kind
@pytest.mark.parametrize("value", [0.1, 290.0, 1e6])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_constant_field_has_spread_one(kind, value, dtype):
    found = Scaling.fit(np.full(1001, value, dtype), kind)
    assert found.std == 1
    assert np.abs(found.apply(np.full(3, value, dtype))).max() < 1e-6


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (np.full((2, 2), np.nan), "standardise", r"no value is observed \(all NaN\)"),
        (np.empty((0, 2)), "anomaly", "no value is observed"),
        (
            np.array([1.0, np.inf, -np.inf]),
            "standardise",
            "2 observed values are infinite; set them to NaN",
        ),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_what_has_no_scale(values, kind, message, lazy):
    obs = xr.DataArray(values)
    with pytest.raises(InputError, match=message) as raised:
        Scaling.fit(obs.chunk({"dim_0": 1}) if lazy and values.size else obs, kind)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("standardize", 0.0, 1.0), "kind='standardize'; choose from standardise, anomaly"),
        (("anomaly", float("nan"), 1.0), "mean=nan must be a finite number"),
        (("anomaly", 0.0, 0.0), "std=0.0 must be a finite number, above 0"),
        (("anomaly", 0.0, float("inf")), "std=inf must be a finite number"),
    ],
)
def test_what_is_no_scaling(arguments, message):
    with pytest.raises(OptionError, match=message):
        Scaling(*arguments)
    if arguments[0] not in KINDS:
        with pytest.raises(OptionError, match=message):
            Scaling.fit(np.ones(3), arguments[0])


# --- applying


def test_the_formulas():
    values = np.array([10.0, 1000.0])
    assert Scaling("standardise", 4.0, 2.0).apply(values).tolist() == [1.0, 166.0]
    assert Scaling("anomaly", 4.0, 2.0).apply(values).tolist() == [6.0, 996.0]


@given(GAPPY, st.sampled_from(KINDS), st.sampled_from(["f4", "f8"]))
@capped
def test_there_and_back(values, kind, dtype):
    values = values.astype(dtype)
    scaling = Scaling.fit(values, kind)
    scaled = scaling.apply(values)
    back = scaling.invert(scaled)
    assert scaled.dtype == back.dtype == values.dtype
    np.testing.assert_array_equal(np.isnan(scaled), np.isnan(values))
    relative = {"f8": 1e-12, "f4": 1e-5}[dtype]
    np.testing.assert_allclose(back, values, rtol=relative, atol=relative * abs(scaling.mean))


@given(hnp.arrays(float, st.integers(2, 30), elements=POSITIVE), st.sampled_from(KINDS))
@capped
def test_order_is_kept(values, kind):
    scaled = Scaling.fit(values, kind).apply(np.sort(values))
    assert bool((np.diff(scaled) >= 0).all())


@every_kind
def test_lazy_stays_lazy_and_attributes_are_kept(kind):
    eager = field()
    scaling = Scaling.fit(eager, kind)
    with dask.config.set(scheduler=no_compute):
        scaled = scaling.apply(field({"time": 2}))
        back = scaling.invert(scaled)
    assert scaled.chunks == field({"time": 2}).chunks and scaled.dtype == back.dtype == np.float32
    assert scaled.attrs == eager.attrs and scaled.name == "sst" and scaled.dims == eager.dims
    xr.testing.assert_identical(scaled.compute(), scaling.apply(eager))
    xr.testing.assert_allclose(back.compute(), eager)


@every_kind
def test_a_tensor_is_scaled_as_an_array_is(kind):
    values = field().values
    scaling = Scaling.fit(values, kind)
    scaled = scaling.apply(torch.from_numpy(values))
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(
        scaled.numpy(), scaling.apply(values), rtol=0, atol=1e-4
    )  # logarithms may differ in a bit
    np.testing.assert_allclose(scaling.invert(scaled).numpy(), values, rtol=1e-5)


def test_integers_become_floats():
    scaling = Scaling("standardise", 3.0, 1.0)
    for values in (np.arange(4, dtype="i2"), xr.DataArray(np.arange(4, dtype="i2")).chunk()):
        scaled = scaling.apply(values)
        assert scaled.dtype == float and scaled[3] == 0


@given(st.sampled_from(KINDS), st.floats(-1e9, 1e9), st.floats(1e-9, 1e9))
@capped
def test_json_there_and_back(kind, mean, std):
    scaling = Scaling(kind, mean, std)
    assert config.build(Scaling, json.loads(json.dumps(config.options(scaling)))) == scaling


# --- about the level of a sequence


@given(GAPPY, st.floats(-300, 300), st.integers(0, 2**32 - 1))
@capped
def test_a_sequence_is_scaled_whatever_its_level(values, level, seed):
    scaling = SequenceScaling(mean=12.0, std=2.0)
    # what is hidden has no say in the level
    seen = np.where(np.random.default_rng(seed).random(values.shape) < 0.5, values, np.nan)
    here, there = scaling.of_sequence(seen), scaling.of_sequence(seen + level)
    scaled = here.apply(values)
    if np.isfinite(seen).any():
        assert here.mean == pytest.approx(np.nanmean(seen))
        np.testing.assert_allclose(there.apply(values + level), scaled, rtol=1e-9, atol=1e-9)
    else:
        assert here == there == Scaling("standardise", 12.0, 2.0)
    np.testing.assert_allclose(here.invert(scaled), values, rtol=1e-9, atol=1e-9)


def test_seasons_do_not_widen_the_scaling_of_a_sequence():
    weeks = (
        np.random.default_rng(0).normal(0, 0.5, (50, 7, 10))
        + 10 * np.sin(np.arange(50))[:, np.newaxis, np.newaxis]
    )
    weeks[0, :3] = np.nan
    found = SequenceScaling.fit(weeks.reshape(350, 10), weeks)
    assert found.std == pytest.approx(0.5, rel=0.05)
    assert found.std < Scaling.fit(weeks).std / 10
    assert found.mean == Scaling.fit(weeks).mean
    told = json.loads(json.dumps(config.options(found)))
    assert config.build(SequenceScaling, told) == found
