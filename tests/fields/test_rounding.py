# SPDX-License-Identifier: Apache-2.0
"""The least error that is stated: that of the rounding of the observations."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import OptionError
from sstfill.fields.rounding import SINGLE_PRECISION, Rounding

DIMS = ("time", "y", "x")


def field(values: np.ndarray, dtype: type = np.float32) -> xr.DataArray:
    return xr.DataArray(np.asarray(values, dtype), dims=DIMS, name="sst")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(value=st.floats(-1e30, 1e30), dtype=st.sampled_from([np.float32, np.float64]))
def test_an_error_of_zero_becomes_that_of_the_rounding(value, dtype):
    values = field(np.full((1, 1, 1), value), dtype)
    error = float(Rounding.of(values, abs(value)).at_least(xr.zeros_like(values), values)[0, 0, 0])
    step = float(np.spacing(dtype(abs(value))))
    assert error >= np.finfo(np.float32).tiny
    assert error >= 0.99 * step / np.sqrt(12)
    assert error <= max(2.01 * step / np.sqrt(12), np.finfo(np.float32).tiny)


def test_larger_errors_and_missing_ones_stay_as_they_are():
    rng = np.random.default_rng(0)
    error, values = field(rng.uniform(0.1, 1, (3, 4, 5))), field(rng.normal(size=(3, 4, 5)))
    error[0, 1, 2] = np.nan
    found = Rounding(step=0.01).at_least(error, values)
    assert found.dims == DIMS and found.dtype == np.float32
    np.testing.assert_array_equal(found, error)


def test_lazy_is_the_same_and_stays_lazy():
    values = field(np.arange(60.0).reshape(3, 4, 5))
    error = xr.zeros_like(values)
    lazy = Rounding().at_least(error.chunk(time=2), values.chunk(time=2))
    assert lazy.chunks
    np.testing.assert_array_equal(lazy, Rounding().at_least(error, values))


@pytest.mark.parametrize(
    ("encoding", "step", "relative"),
    [
        ({}, 0.0, np.finfo(np.float64).eps),
        ({"dtype": "float32"}, 0.0, np.finfo(np.float32).eps),
        ({"dtype": "int16", "scale_factor": 0.01}, 0.01, np.finfo(np.float64).eps),
        ({"dtype": "int16", "scale_factor": np.array([-0.01])}, 0.01, np.finfo(np.float64).eps),
        ({"dtype": "uint8"}, 1.0, np.finfo(np.float64).eps),
        ({"dtype": "int16", "scale_factor": 1e300}, 0.0, np.finfo(np.float64).eps),
    ],
    ids=str,
)
def test_steps_by_encoding(encoding, step, relative):
    values = field(np.ones((1, 1, 1)), np.float64)
    values.encoding = encoding
    assert Rounding.of(values, np.nan) == Rounding(step, relative, 0.0)


def test_a_tampered_model_is_refused():
    with pytest.raises(OptionError, match="step=-1"):
        Rounding(step=-1.0)
    assert Rounding() == SINGLE_PRECISION
