# SPDX-License-Identifier: Apache-2.0
"""Scaling of errors and members."""

import numpy as np
import pytest
import xarray as xr

from sstfill.fields.transform import FieldTransforms, Transform
from sstfill.validation.calibrated import calibrated


@pytest.fixture
def estimate() -> xr.Dataset:
    mean = xr.DataArray(np.full((2, 1, 1), 5.0, np.float32), dims=("time", "y", "x"))
    members = xr.concat([mean - 1, mean + 3], "member")
    error = xr.full_like(mean, 0.5)
    return xr.Dataset({"mean": mean, "error": error, "members": members})


def test_error_and_members_move_about_the_mean(estimate):
    found = calibrated(estimate, {"v": 2.0}, ["v"])
    xr.testing.assert_identical(found["mean"], estimate["mean"])
    assert (found["error"] == 1.0).all() and found["error"].dtype == np.float32
    np.testing.assert_array_equal(found["members"].values[:, 0].ravel(), [3.0, 11.0])
    assert found["members"].dims == estimate["members"].dims
    assert found["members"].dtype == np.float32


def test_a_variable_without_a_score_stays(estimate):
    xr.testing.assert_identical(calibrated(estimate, {}, ["v"]), estimate)


def test_each_variable_has_its_own_scale(estimate):
    both = xr.concat([estimate, estimate], xr.Variable("variable", ["a", "b"]))
    both["members"] = both["members"].transpose("member", "variable", ...)
    found = calibrated(both, {"a": 2.0, "b": 4.0}, ["a", "b"])
    assert found["error"].dims == both["error"].dims
    np.testing.assert_array_equal(found["error"].values[:, 0].ravel(), [1.0, 2.0])
    np.testing.assert_array_equal(found["members"].values[1, :, 0].ravel(), [11.0, 17.0])


def test_the_scale_counts_in_the_space_of_the_method():
    field = xr.DataArray(np.zeros((1, 1, 1), np.float32), dims=("time", "y", "x"))
    estimate = xr.Dataset({"mean": field, "error": field + np.float32(0.5)})
    transforms = FieldTransforms({"v": Transform("log", floor=1e-3)})
    found = transforms.invert(calibrated(estimate, {"v": 2.0}, ["v"]))
    assert float(found["lower"].squeeze()) == pytest.approx(0.1)
    assert float(found["upper"].squeeze()) == pytest.approx(10.0)
    assert float(found["error"].squeeze()) == pytest.approx(4.95)
