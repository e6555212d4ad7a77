# SPDX-License-Identifier: Apache-2.0
"""Scaling of errors and members."""

import numpy as np
import pytest
import xarray as xr

from sstfill.fields.error_distribution import ErrorDistribution
from sstfill.fields.transform import FieldTransforms, Transform
from sstfill.validation.calibrated import calibrated
from sstfill.validation.calibration import StratifiedScale

single = StratifiedScale.single
TWICE = single(2.0)
OBS = xr.DataArray(np.full((2, 1, 1), np.nan), dims=("time", "y", "x"))


@pytest.fixture
def estimate() -> xr.Dataset:
    mean = xr.DataArray(np.full((2, 1, 1), 5.0, np.float32), dims=("time", "y", "x"))
    members = xr.concat([mean - 1, mean + 3], "member")
    error = xr.full_like(mean, 0.5)
    return xr.Dataset({"mean": mean, "error": error, "members": members})


def test_error_and_members_move_about_the_mean(estimate):
    found = calibrated(estimate, {"v": TWICE}, ["v"], OBS)
    xr.testing.assert_identical(found["mean"], estimate["mean"])
    assert (found["error"] == 1.0).all() and found["error"].dtype == np.float32
    np.testing.assert_array_equal(found["members"].values[:, 0].ravel(), [3.0, 11.0])
    assert found["members"].dims == estimate["members"].dims
    assert found["members"].dtype == np.float32


def test_a_variable_without_a_score_stays(estimate):
    xr.testing.assert_identical(calibrated(estimate, {}, ["v"], OBS), estimate)


def test_each_variable_has_its_own_scale(estimate):
    both = xr.concat([estimate, estimate], xr.Variable("variable", ["a", "b"]))
    both["members"] = both["members"].transpose("member", "variable", ...)
    found = calibrated(both, {"a": TWICE, "b": single(4.0)}, ["a", "b"], both["mean"])
    assert found["error"].dims == both["error"].dims
    np.testing.assert_array_equal(found["error"].values[:, 0].ravel(), [1.0, 2.0])
    np.testing.assert_array_equal(found["members"].values[1, :, 0].ravel(), [11.0, 17.0])


def test_the_scale_counts_in_the_space_of_the_method():
    field = xr.DataArray(np.zeros((1, 1, 1), np.float32), dims=("time", "y", "x"))
    estimate = xr.Dataset({"mean": field, "error": field + np.float32(0.5)})
    transforms = FieldTransforms({"v": Transform("log", floor=1e-3)})
    found = transforms.invert(calibrated(estimate, {"v": TWICE}, ["v"], OBS))
    assert float(found["lower"].squeeze()) == pytest.approx(0.1)
    assert float(found["upper"].squeeze()) == pytest.approx(10.0)
    assert float(found["error"].squeeze()) == pytest.approx(4.95)


def row(values: list[float]) -> xr.DataArray:
    """One image of one row."""
    return xr.DataArray(np.array([[values]], np.float32), dims=("time", "y", "x"), name="v")


BY_DISTANCE = StratifiedScale(np.array([1.0, 4.0]), np.ones(1), np.log([[1.0], [3.0]]))


def test_errors_and_members_are_scaled_by_distance_to_data():
    obs = row([7.0, *[np.nan] * 6])
    mean = xr.zeros_like(obs)
    members = xr.concat([mean - 1, mean + 1], "member")
    estimate = xr.Dataset({"mean": mean, "error": mean + 0.5, "members": members})
    found = calibrated(estimate, {"v": BY_DISTANCE}, ["v"], obs)
    # Between the centres the logarithm of the factor is linear in that of the distance.
    factor = [1.0, 1.0, np.sqrt(3.0), 3 ** (np.log(3) / np.log(4)), 3.0, 3.0, 3.0]
    np.testing.assert_allclose(found["error"].values.ravel(), 0.5 * np.array(factor), rtol=1e-6)
    np.testing.assert_allclose(found["members"].values[1].ravel(), factor, rtol=1e-6)
    lazy = calibrated(estimate.chunk(x=2), {"v": BY_DISTANCE}, ["v"], obs.chunk(x=3))
    assert lazy["error"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), found)


def drawn(seed: int, members: int = 8, shape: tuple[int, int, int] = (6, 12, 14)) -> xr.Dataset:
    """Members that are Gaussian about a mean, with an error that differs from pixel to pixel."""
    rng = np.random.default_rng(seed)
    mean = xr.DataArray(rng.normal(size=shape).astype(np.float32), dims=("time", "y", "x"))
    error = xr.DataArray(rng.uniform(0.1, 2, shape).astype(np.float32), dims=mean.dims)
    normal = rng.normal(size=(members, *shape)).astype(np.float32)
    members = xr.DataArray(normal, dims=("member", *mean.dims)) * error + mean
    return xr.Dataset({"mean": mean, "error": error, "members": members})


@pytest.mark.parametrize("degrees", [3.0, 8.0])
def test_members_lie_in_the_intervals_of_the_stated_distribution(degrees):
    """Pixel by pixel, and so do their means over a patch: all of them are large at once."""
    estimate = drawn(0, members=5000, shape=(1, 2, 3))
    distribution = ErrorDistribution(degrees)
    found = calibrated(estimate, {"v": single(3.0, distribution)}, ["v"], estimate["mean"])
    apart = (found["members"] - found["mean"]) / found["error"]
    for level in (0.5, 0.8, 0.95):
        width = distribution.half_width(level)
        assert float((abs(apart) <= width).mean()) == pytest.approx(level, abs=0.015)
        over_patch = apart.mean(("y", "x")) * np.sqrt(6)
        assert float((abs(over_patch) <= width).mean()) == pytest.approx(level, abs=0.03)


def test_members_of_a_gaussian_error_are_scaled_only():
    estimate = drawn(1)
    found = calibrated(estimate, {"v": TWICE}, ["v"], OBS)
    apart = (estimate["members"] - estimate["mean"]) * np.float32(2)
    xr.testing.assert_equal(found["members"], apart + estimate["mean"])


@pytest.mark.parametrize("chunks", [{"time": 2}, {"x": 5, "member": 3}])
def test_members_with_tails_do_not_depend_on_chunks(chunks):
    estimate, scales = drawn(2), {"v": single(0.7, ErrorDistribution(4.0))}
    eager = calibrated(estimate, scales, ["v"], estimate["mean"])
    lazy = calibrated(estimate.chunk(chunks), scales, ["v"], estimate["mean"])
    assert lazy["members"].chunks is not None and lazy["members"].dtype == np.float32
    xr.testing.assert_allclose(lazy.compute(), eager, rtol=1e-6)


def test_each_variable_has_tails_of_its_own():
    first, second = drawn(3), drawn(4)
    both = xr.concat([first, second], xr.Variable("variable", ["a", "b"]))
    both["members"] = both["members"].transpose("member", "variable", ...)
    scales = {"a": single(2.0, ErrorDistribution(3.0)), "b": TWICE}
    found = calibrated(both, scales, ["a", "b"], both["mean"])
    assert found["members"].dims == both["members"].dims
    for name, estimate in {"a": first, "b": second}.items():
        alone = calibrated(estimate, {"v": scales[name]}, ["v"], estimate["mean"])
        xr.testing.assert_allclose(found.sel(variable=name, drop=True), alone)


def test_a_member_of_a_pixel_without_error_stays():
    estimate = drawn(5)
    estimate["error"][:, 0] = 0
    estimate["members"][:, :, 0] = estimate["mean"][:, 0]
    estimate["error"][:, 1] = np.nan
    scales = {"v": single(2.0, ErrorDistribution(3.0))}
    found = calibrated(estimate, scales, ["v"], estimate["mean"])
    np.testing.assert_array_equal(
        found["members"][:, :, 0], np.broadcast_to(estimate["mean"][:, 0], (8, 6, 14))
    )
    assert found["members"].notnull().all()


def test_each_variable_has_distances_of_its_own():
    obs = xr.concat([row([7.0, np.nan, np.nan]), row([np.nan, np.nan, 7.0])], "variable")
    obs = obs.assign_coords(variable=["a", "b"])
    estimate = xr.Dataset({"mean": xr.zeros_like(obs), "error": xr.ones_like(obs)})
    found = calibrated(estimate, {"a": BY_DISTANCE, "b": BY_DISTANCE}, ["a", "b"], obs)
    assert found["error"].dims == obs.dims
    np.testing.assert_allclose(found["error"].values[0].ravel(), [1.0, 1.0, np.sqrt(3)], rtol=1e-6)
    np.testing.assert_allclose(found["error"].values[1].ravel(), [np.sqrt(3), 1.0, 1.0], rtol=1e-6)
