# SPDX-License-Identifier: Apache-2.0
"""Shift and factor of odd fields: exact, and none for usual ones; archives are refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.archive.plan import _check, _check_later
from sstfill.archive.source import look
from sstfill.errors import InputError
from sstfill.fields.magnitude import Magnitude, Rescaling

DIMS = ("time", "y", "x")


@settings(max_examples=50, deadline=None)
@given(largest=st.floats(1e-12, 1e12), sign=st.sampled_from([-1, 1]))
def test_usual_fields_are_left_alone(largest, sign):
    obs = xr.DataArray(np.array([[[0.0, sign * largest]]]), dims=DIMS, name="sst")
    rescaling = Rescaling(
        {"sst": Magnitude.of("sst", float(obs.min()), float(obs.max()), obs.dtype)}, obs
    )
    assert rescaling.usual and rescaling.apply(obs) is obs


@settings(max_examples=50, deadline=None)
@given(exponent=st.floats(-29, 29))
def test_there_and_back_is_exact(exponent):
    values = np.random.default_rng(0).normal(size=(2, 3, 4)) * 10.0**exponent
    obs = xr.DataArray(values.astype(np.float32), dims=DIMS, name="sst")
    rescaling = Rescaling(
        {"sst": Magnitude.of("sst", float(obs.min()), float(obs.max()), obs.dtype)}, obs
    )
    back = rescaling.invert(xr.Dataset({"mean": rescaling.apply(obs)}))["mean"]
    assert back.dtype == obs.dtype
    np.testing.assert_array_equal(back, obs)
    assert 1e-13 < float(abs(rescaling.apply(obs)).max()) < 1e13


@pytest.mark.parametrize("value", [1e30, 1e-30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_limits_themselves_are_filled_whatever_the_dtype(value, dtype):
    """In single precision 1e30 is a little more than 1e30."""
    most = float(dtype(value))
    assert Magnitude.of("sst", -most, most, np.dtype(dtype)).factor != 1


@pytest.mark.parametrize("value", [1e20, -1e200, 1e-20])
def test_an_archive_of_odd_magnitude_is_refused(value):
    found = look(xr.DataArray(np.full((4, 3, 3), value), dims=DIMS, name="sst").chunk(time=2))
    with pytest.raises(InputError, match=r"cannot be filled; .*units"):
        _check("sst", found)


def test_later_days_of_an_archive_may_be_calm_but_not_huge():
    calm, huge = (
        look(xr.DataArray(np.full((2, 3, 3), v), dims=DIMS).chunk()) for v in (1e-20, 1e20)
    )
    _check_later("sst", calm, "archive.zarr")
    with pytest.raises(InputError, match=r"1e\+20"):
        _check_later("sst", huge, "archive.zarr")
