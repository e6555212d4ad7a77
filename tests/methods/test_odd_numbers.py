# SPDX-License-Identifier: Apache-2.0
"""Odd numbers: a fill is finite and within reach of the observations, or one line says why not;
never a warning.
"""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.fill import fill
from sstfill.methods import METHODS

SHAPE = (8, 12, 12)
QUICK = ("climatology", "interpolate", "dineof", "bayes_eof")
SLOW = ("patchmatch",)
"""Left out are those that would take half a minute here; they see the same fields through the same
door.
"""
FLOATS = (np.float32, np.float64)


def usual(seed: int = 0) -> np.ndarray:
    """A field that drifts, of mean 0."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(np.arange(SHAPE[1]), np.arange(SHAPE[2])) * 0.1
    values = np.cumsum(rng.normal(size=SHAPE), 0) + slope
    return values - values.mean()


def clouded(values: np.ndarray, dtype: type = np.float32) -> xr.DataArray:
    """A block and single pixels are missing in each image."""
    rng = np.random.default_rng(1)
    values = values.astype(dtype)
    for image in values:
        row, column = rng.integers(0, 9, 2)
        image[row : row + 5, column : column + 5] = np.nan
    values[rng.random(SHAPE) < 0.1] = np.nan
    coords = {
        "time": np.arange("2003-01-01", "2003-01-09", dtype="M8[D]").astype("M8[ns]"),
        "lat": 35 + 0.1 * np.arange(SHAPE[1]),
        "lon": 0.1 * np.arange(SHAPE[2]),
    }
    return xr.DataArray(values, coords, ("time", "lat", "lon"), name="sst")


def check(obs: xr.DataArray, method: str, score: bool = False) -> xr.Dataset | None:
    """Fill, and hold the result to the promise; None where the field is refused by one line."""
    sea = xr.ones_like(obs[0], dtype=bool)
    try:
        found = fill(obs, method, sea=sea, score=score)
    except InputError as error:
        assert "\n" not in str(error) and "'sst'" in str(error)
        return None
    seen, made = obs.notnull().values, found.sst_source.values == gaps.SOURCE_FLAGS["filled"]
    assert made.any()
    assert found.sst.values[seen].tobytes() == obs.values[seen].tobytes()
    values, error = found.sst.values[made].astype(np.float64), found.sst_error.values[made]
    assert np.isfinite(values).all() and np.isfinite(error).all() and (error >= 0).all()
    low, high = float(obs.min()), float(obs.max())
    room = (high - low) + 1e-6 * max(abs(low), abs(high))
    assert low - room <= values.min() and values.max() <= high + room
    return found


odd_fields = st.one_of(
    st.floats(-310, 305).map(lambda e: usual() * 10.0**e),
    st.floats(-1e300, 1e300).map(lambda value: np.full(SHAPE, value)),
    st.tuples(st.floats(-1e30, 1e30), st.floats(-30, 30)).map(
        lambda of: of[0] + usual() * 10.0 ** of[1]
    ),
    st.floats(-1e300, 1e300).map(lambda m: np.where(np.indices(SHAPE).sum(0) % 2 == 0, m, -m)),
    st.floats(-1e300, 1e300).map(lambda m: np.where(usual() > 0, m, 0)),
    st.floats(-1e300, 1e300).map(
        lambda m: np.where(np.arange(144 * 8).reshape(SHAPE) == 500, m, usual())
    ),
    st.just(np.round(usual())),
)


@settings(max_examples=25, deadline=None)
@given(
    values=odd_fields,
    dtype=st.sampled_from(FLOATS),
    method=st.sampled_from(QUICK),
    score=st.booleans(),
)
def test_any_odd_field_is_filled_or_refused(values, dtype, method, score):
    with np.errstate(over="ignore"):
        values = values.astype(dtype)
    if np.isfinite(values).all():
        check(clouded(values, dtype), method, score)


@pytest.mark.parametrize("method", [*QUICK, *SLOW])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exponent", [-20, 20])
def test_far_from_one_the_fill_is_that_of_the_usual_field(method, dtype, exponent):
    if method in SLOW and (dtype is np.float64 or exponent < 0):
        pytest.skip("one of them will do: the door is the same")
    factor = 2.0 ** round(exponent * np.log2(10))
    score = method in ("climatology", "interpolate")
    odd, plain = (check(clouded(usual() * size, dtype), method, score) for size in (factor, 1.0))
    assert odd is not None
    assert float(np.abs(odd.sst / factor - plain.sst).max()) < 0.05 * float(plain.sst.std())
    if score:
        one, other = (json.loads(ds.sst.attrs["sstfill_score"]) for ds in (odd, plain))
        assert one["rmse"] / factor == pytest.approx(other["rmse"], rel=0.05)
        told = json.loads(odd.sst.attrs["sstfill_method"])["diagnostics"]
        assert told["fitted_to_values_less_shift_over_factor"]["sst"]["factor"] != 1


@pytest.mark.parametrize("method", QUICK)
def test_little_noise_on_a_large_offset_is_not_lost_in_double_precision(method):
    found = check(clouded(1e6 + 1e-3 * usual(), np.float64), method)
    plain = check(clouded(usual(), np.float64), method)
    assert float(np.abs((found.sst - 1e6) / 1e-3 - plain.sst).max()) < 0.05 * float(plain.sst.std())


@pytest.mark.parametrize("value", [1e31, -1e200, 1e-31, 5e-324])
def test_what_single_precision_cannot_hold_is_refused(value):
    with pytest.raises(InputError, match=r"cannot be filled; .*units"):
        fill(clouded(np.full(SHAPE, value), np.float64), "climatology")


def test_a_stray_that_drowns_all_others_is_refused_with_its_place():
    values = usual()
    values[3, 4, 5] = 1e9
    obs = clouded(values)
    obs[3, 4, 5] = 1e9
    with pytest.raises(
        InputError,
        match=r"'sst' holds 1e\+09 at lat 35\.4, lon 0\.5, .* set values that are not observations",
    ):
        fill(obs, "climatology")


def test_a_stray_is_told_of_once_and_usual_fields_are_not(caplog):
    obs = clouded(15 + usual())
    with caplog.at_level(logging.WARNING, "sstfill.fields.strays"):
        fill(obs, "climatology", score=False)
        assert not caplog.records
        obs[3, 4, 5] = 999.0
        fill(obs, "climatology", score=False)
    (line,) = (record.message for record in caplog.records)
    assert line.startswith("sst: 1 pixels hold observations more than 20 spreads outside the field")
    assert "such as 999 at lat 35.4, lon 0.5" in line and "set them to NaN" in line


def test_several_variables_together_of_very_different_size():
    one, other = clouded(usual()), clouded(usual(2) * 1e-20).rename("small")
    found = fill(xr.Dataset({"sst": one, "small": other}), "bayes_eof", together=True)
    for name, size in (("sst", 1), ("small", 1e-20)):
        assert found[name].notnull().all()
        assert 0.5 < float(found[name].std()) / float(usual().std()) / size < 1.5


def test_lazy_data_are_scaled_alike():
    obs = clouded(usual() * 1e20)
    eager, lazy = (fill(da, "bayes_eof", score=False) for da in (obs, obs.chunk(time=3)))
    assert lazy.sst.chunks
    np.testing.assert_allclose(lazy.sst, eager.sst, rtol=1e-5, atol=1e14)


@pytest.mark.parametrize("method", QUICK)
def test_half_precision_in_memory_stays_in_its_range(method):
    obs = clouded(usual() * 65000 / np.abs(usual()).max(), np.float16)
    found = check(obs, method)
    assert found.sst.dtype == np.float16


@pytest.mark.parametrize("dtype", [np.int16, bool, np.complex64, np.longdouble, object, "U3"])
def test_other_types_are_refused_by_one_line(dtype):
    obs = xr.DataArray(np.ones(SHAPE).astype(dtype), dims=("time", "lat", "lon"), name="sst")
    with pytest.raises(InputError, match=r"'?sst'? .*(float|floating)") as refused:
        fill(obs, "climatology")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("gan", "auto", *SLOW)])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_observations_an_image(method, number):
    obs = clouded(usual())
    for image in obs.values:
        at = np.flatnonzero(np.isfinite(image))[number * 7 :: 7]
        kept = image.ravel()[at[:number]].copy()
        image[...] = np.nan
        image.ravel()[at[:number]] = kept
    check(obs, method)
