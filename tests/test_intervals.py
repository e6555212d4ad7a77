# SPDX-License-Identifier: Apache-2.0
"""Limits of filled values, by the error and the distribution that a fill states."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import InputError, OptionError
from sstfill.fields.error_distribution import ErrorDistribution
from sstfill.fields.transform import FieldTransforms, Transform
from sstfill.intervals import interval

LOG, PERCENT = Transform("log", floor=1e-3), Transform("logit", floor=0.5, upper=100.0)
HEAVY = ErrorDistribution(5.0)


def filled(transform: Transform | None = None, error: float = 0.5) -> xr.Dataset:
    """Two pixels, as a fill states them: one filled, one observed."""
    field = xr.DataArray(np.full((1, 1, 2), 0.25, "f4"), dims=("time", "y", "x"), name="v")
    sigma = xr.DataArray(np.array([[[error, np.nan]]], "f4"), dims=field.dims)
    record = {"name": "oi"}
    estimate = xr.Dataset({"mean": field, "error": sigma})
    if transform is not None:
        record["transform"] = transform.to_dict()
        estimate = FieldTransforms({"v": transform}).invert(estimate, {"v": HEAVY})
    ds = estimate.rename({"mean": "v", "error": "v_error"})
    ds = ds.rename({n: f"v_{n}" for n in ("lower", "upper") if n in ds})
    ds["v"].attrs = {"sstfill_method": json.dumps(record), "units": "K", "long_name": "warmth"}
    ds["v_error"].attrs = HEAVY.attrs()
    return ds


def test_limits_follow_the_stated_distribution():
    ds = filled()
    found = interval(ds, 0.9)
    away = HEAVY.half_width(0.9) * 0.5
    np.testing.assert_allclose(found.v_upper.values.ravel(), [0.25 + away, np.nan], rtol=1e-6)
    np.testing.assert_allclose(found.v_lower.values.ravel(), [0.25 - away, np.nan], rtol=1e-6)
    assert found.v_lower.attrs == {"long_name": "lower 90 % limit of filled warmth", "units": "K"}
    assert found.v_lower.dtype == np.float32 and float(found.probability) == 0.9
    ds["v_error"].attrs = {}
    former = interval(ds, 0.9)
    np.testing.assert_allclose(former.v_upper.values[..., 0], 0.25 + 1.6448536 * 0.5, rtol=1e-6)


def test_the_accessor_and_lazy_data():
    ds = filled()
    lazy = ds.chunk(x=1).gapfill.interval(0.5)
    assert lazy.v_lower.chunks
    xr.testing.assert_allclose(lazy.compute(), interval(ds, 0.5))


@given(
    transform=st.sampled_from([LOG, PERCENT]),
    probability=st.floats(0.05, 0.99),
    error=st.floats(1e-3, 3),
)
@settings(max_examples=30, deadline=None)
def test_limits_of_transformed_values_are_symmetric_there(transform, probability, error):
    found = interval(filled(transform, error), probability)
    reach = HEAVY.half_width(probability) * error
    for limit, sign in ((found.v_lower, -1), (found.v_upper, 1)):
        expected = transform.invert(0.25 + sign * reach)
        assert limit[..., 0].item() == pytest.approx(expected, rel=2e-3)
        assert np.isnan(limit[..., 1]).all()
    low, high = found.v_lower[..., 0], found.v_upper[..., 0]
    assert 0 <= low.item() <= high.item() <= transform.highest


def test_the_stored_limits_are_the_68_percent_interval():
    ds = filled(LOG)
    found = interval(ds, 0.682689492)
    xr.testing.assert_allclose(found.v_lower.drop_vars("probability"), ds.v_lower, rtol=1e-4)
    xr.testing.assert_allclose(found.v_upper.drop_vars("probability"), ds.v_upper, rtol=1e-4)


def test_limits_at_a_bound_stay_finite():
    ds = filled(Transform("logit", floor=1e-3, upper=1.0), error=30.0)
    assert ds.v_upper[..., 0].item() == 1.0
    found = interval(ds, 0.95).isel(x=0)
    assert 0 <= found.v_lower.item() < found.v_upper.item() <= 1


@pytest.mark.parametrize("probability", [0, 1, 80, -0.5, np.nan, "0.8", None])
def test_what_is_no_probability(probability):
    with pytest.raises(OptionError, match=r"write 80 % as 0\.8"):
        interval(filled(), probability)


def test_data_without_a_stated_error():
    ds = filled()
    with pytest.raises(InputError, match="nothing in these data was filled"):
        interval(ds.drop_attrs())
    with pytest.raises(InputError, match="no error is stated of v"):
        interval(ds.drop_vars("v_error"))
    with pytest.raises(OptionError, match="no filled variable 'w'"):
        interval(ds, variables="w")
    with pytest.raises(InputError, match="v_lower are missing"):
        interval(filled(LOG).drop_vars("v_lower"))
    strange = ds.assign(v=ds.v.assign_attrs(sstfill_method='{"transform": {"root": 2}}'))
    with pytest.raises(InputError, match="does not know"):
        interval(strange)
