# SPDX-License-Identifier: Apache-2.0
"""Blends: weights find a known optimum, change smoothly, and hold pixel by pixel, lazy or not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sstfill.validation.blend import RIDGE, Blend, BlendWeights, blend_values, convex_weights
from sstfill.validation.calibration import StratifiedScale
from sstfill.validation.distances import distance_to_data

FINITE = st.floats(-10, 10)


def sample(
    near: tuple[float, ...],
    far: tuple[float, ...],
    n: int = 40_000,
    images: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, ...]:
    """Independent errors of some deviations near data and others far from it; arguments of
    `BlendWeights.fit`.
    """
    rng = np.random.default_rng(seed)
    distance = np.where(np.arange(n) % 2, 100.0, 1.0)
    size = np.where(distance[:, np.newaxis] > 10, far, near)
    error = size * rng.normal(size=(n, len(near)))
    return error, np.ones(n), rng.integers(images, size=n), distance, np.ones(n)


def inverse_variance(*deviations: float) -> np.ndarray:
    w = 1 / np.square(deviations)
    return w / w.sum()


def test_weights_of_independent_errors_go_with_the_inverse_variance_of_each_stratum():
    weights = BlendWeights.fit(*sample((1.0, 2.0), (2.0, 1.0)))
    found = weights.at(np.array([1.0, 100.0]), np.ones(2))
    np.testing.assert_allclose(found, [inverse_variance(1, 2), inverse_variance(2, 1)], atol=0.02)


def test_few_images_say_little_of_a_stratum():
    few = BlendWeights.fit(*sample((1.0, 2.0), (2.0, 1.0), images=2)).at(
        np.array([1.0]), np.ones(1)
    )[0, 0]
    assert 0.5 < few < 0.6 < inverse_variance(1, 2)[0]


def test_a_blend_is_no_worse_than_its_best_part_and_as_good_as_theory():
    error, *rest = sample((1.0, 2.0, 1.5), (2.0, 1.0, 1.5))
    weights = BlendWeights.fit(error, *rest).at(rest[2], rest[3])
    expected = np.sqrt(1 / (1 + 1 / 4 + 1 / 2.25))
    assert np.sqrt(np.mean((weights * error).sum(1) ** 2)) == pytest.approx(expected, rel=0.02)


def test_a_method_that_adds_nothing_is_left_out():
    weights = BlendWeights.fit(*sample((1.0, 1.0, 9.0), (1.0, 1.0, 9.0)))
    assert weights.used.tolist() == [0, 1] and (weights.table[..., 2] == 0).all()
    np.testing.assert_allclose(weights.table.sum(-1), 1)


@given(root=st.integers(1, 6).flatmap(lambda k: arrays(np.float64, (k, k + 2), elements=FINITE)))
@settings(max_examples=25, deadline=None)
def test_weights_are_convex_and_no_others_are_better(root):
    moments = root @ root.T / 10
    w = convex_weights(moments)
    assert (w >= 0).all() and w.sum() == pytest.approx(1)
    damped = moments + RIDGE * np.trace(moments) / len(w) * np.eye(len(w))
    others = np.vstack([np.eye(len(w)), np.random.default_rng(0).dirichlet(np.ones(len(w)), 50)])
    rivals = np.einsum("ni,ij,nj->n", others, damped, others)
    assert w @ damped @ w <= rivals.min() * (1 + 1e-6) + 1e-12


@given(factor=st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=3, deadline=None)
def test_units_do_not_matter(factor):
    error, *rest = sample((1.0, 2.0), (2.0, 1.0), n=500)
    np.testing.assert_allclose(
        BlendWeights.fit(factor * error, *rest).table,
        BlendWeights.fit(error, *rest).table,
        rtol=1e-6,
        atol=1e-9,
    )


def test_errors_of_nothing_share_the_weight():
    error, *rest = sample((0.0, 0.0), (0.0, 0.0), n=20)
    np.testing.assert_allclose(BlendWeights.fit(error, *rest).table, 0.5)


@given(seed=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_weights_have_no_seams(seed):
    """A little farther from data the weights are a little different: by their slope in the
    logarithm at most.
    """
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.ones(3), (3, 2))
    weights = BlendWeights(np.array([2.0, 9.0, 40.0]), np.array([1.0, 5.0]), table)
    distance, lag = np.geomspace(0.5, 100, 2000), rng.uniform(0, 9)
    found = weights.at(distance, np.full(2000, lag))
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(-1), 1)
    assert np.abs(np.diff(found, axis=0)).max() < 1.01 * np.log(distance[1] / distance[0]) / np.log(
        40 / 9
    )
    np.testing.assert_allclose(
        weights.at(np.array([2.0, 9.0]), np.array([5.0, 1.0])), [table[0, 1], table[1, 0]]
    )


@pytest.mark.parametrize(
    "values", [np.zeros(6), np.full(6, np.inf), np.full(6, np.nan), np.full(6, 3.0)]
)
def test_where_distances_tell_nothing_there_is_one_stratum(values):
    error = np.random.default_rng(0).normal(size=(6, 2))
    weights = BlendWeights.fit(error, np.ones(6), np.arange(6), values, values)
    assert weights.table.shape == (1, 1, 2)
    assert np.isfinite(weights.at(np.array([0.0, 5.0, np.inf]), np.array([np.inf, 0.0, 1.0]))).all()


def test_infinite_distances_are_the_farthest_and_none_at_all_the_nearest():
    weights = BlendWeights.fit(*sample((1.0, 2.0), (2.0, 1.0)))
    ends = weights.at(np.array([0.0, np.inf]), np.ones(2))
    np.testing.assert_array_equal(ends, weights.table[:, 0])


# --- the mixture


def test_mixture_by_hand():
    found = blend_values(np.array([0.75, 0.25]), np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    assert found.mean == pytest.approx(1.5, rel=1e-6)
    assert found.sigma**2 == pytest.approx(
        0.75 * 4 + 0.25 * 16 + 0.75 * 0.25 + 0.25 * 2.25, rel=1e-6
    )


def test_who_is_silent_leaves_its_weight_to_the_others():
    nan = np.nan
    mean = np.array([[1.0, nan, 3.0], [nan, nan, 3.0], [nan, nan, nan], [1.0, 2.0, nan]])
    sigma = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, nan], [1.0, 1.0, 1.0], [nan, 1.0, 1.0]])
    found = blend_values(np.broadcast_to([0.4, 0.6, 0.0], (4, 3)), mean, sigma)
    np.testing.assert_allclose(
        found.mean, [1.0, 3.0, nan, 1.6], rtol=1e-6
    )  # the second: one without weight, alone
    np.testing.assert_array_equal(np.isnan(found.sigma), [False, True, True, False])
    assert found.sigma[3] ** 2 == pytest.approx(1 + 0.4 * 0.6**2 + 0.6 * 0.4**2, rel=1e-6)


@given(mean=arrays(np.float64, (5, 3), elements=FINITE | st.just(np.nan)), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_a_blend_lies_among_its_parts(mean, seed):
    w = np.random.default_rng(seed).dirichlet(np.ones(3), 5)
    found = blend_values(w, mean, np.ones((5, 3)))
    known = np.isfinite(mean).any(1)
    assert (np.isfinite(found.mean) == known).all()
    assert (found.mean[known] >= np.nanmin(mean[known], 1, initial=np.inf) - 1e-6).all()
    assert (found.mean[known] <= np.nanmax(mean[known], 1, initial=-np.inf) + 1e-6).all()
    assert (found.sigma[known] >= 1 - 1e-9).all()


# --- fields


def gappy() -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 5, 7)).astype("f4")
    values[rng.random(values.shape) < 0.6] = np.nan
    return xr.DataArray(values, dims=("time", "y", "x"))


def estimate(obs: xr.DataArray, value: float, error: float | None = None) -> xr.Dataset:
    found = xr.Dataset({"mean": xr.full_like(obs, value)})
    return found if error is None else found.assign(error=xr.full_like(obs, error))


WEIGHTS = BlendWeights(np.array([1.0, 4.0]), np.ones(1), np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))


@pytest.mark.parametrize("chunks", [None, {"time": 4, "x": 3}])
def test_the_weights_of_each_pixel_go_with_its_distance(chunks):
    obs = gappy() if chunks is None else gappy().chunk(chunks)
    parts = {"a": estimate(obs, 10.0, 1.0), "b": estimate(obs, 20.0)}
    found = Blend(("a", "b"), WEIGHTS, np.array([[2.0, 1.0]])).apply(parts, obs)
    assert found["mean"].chunks == obs.chunks == found["error"].chunks
    expected = WEIGHTS.at(distance_to_data(gappy())[0].values, np.zeros(obs.shape)) @ [10.0, 20.0]
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-5)
    near = (distance_to_data(gappy())[0] <= 1).values
    np.testing.assert_allclose(
        found["error"].values[near], 2.0, rtol=1e-3
    )  # the scale of the first


def test_one_estimate_is_taken_as_it_is_but_for_its_scale():
    obs = gappy()
    blend = Blend(("a",), BlendWeights.single(0, 1), np.array([[3.0]]))
    found = blend.apply({"a": estimate(obs, 5.0, 0.5)}, obs)
    assert (found["mean"] == 5).all() and (found["error"] == 1.5).all()
    assert list(blend.apply({"a": estimate(obs, 5.0)}, obs)) == ["mean"]


@pytest.mark.parametrize("chunks", [None, {"time": 4, "x": 3}])
def test_errors_are_scaled_by_how_far_a_pixel_is_from_data(chunks):
    obs = gappy() if chunks is None else gappy().chunk(chunks)
    scale = StratifiedScale(
        np.array([1.0, 4.0]), np.array([1.0, 2.0]), np.log([[1.0, 2.0], [3.0, 6.0]])
    )
    blend = Blend(("a",), BlendWeights.single(0, 1), np.ones((1, 1)), scale)
    found = blend.apply({"a": estimate(obs, 5.0, 0.5)}, obs)
    assert found["error"].chunks == obs.chunks and (found["mean"] == 5).all()
    distance, lag = (a.values for a in distance_to_data(gappy()))
    np.testing.assert_allclose(found["error"], 0.5 * scale.at(distance, lag), rtol=1e-5)
    assert found["error"].values.min() == 0.5 and found["error"].values.max() > 1
    assert list(blend.apply({"a": estimate(obs, 5.0)}, obs)) == ["mean"]


def test_a_blend_survives_as_plain_values():
    scale = StratifiedScale(np.array([1.0, 4.0]), np.ones(1), np.log([[1.0], [3.0]]))
    blend = Blend(("a", "b"), WEIGHTS, np.array([[2.0, 1.0]]), scale, "because")
    again = Blend.from_dict(json.loads(json.dumps(blend.to_dict())))
    parts = {"a": estimate(gappy(), 10.0, 1.0), "b": estimate(gappy(), 20.0, 2.0)}
    xr.testing.assert_identical(blend.apply(parts, gappy()), again.apply(parts, gappy()))
    assert (again.names, again.why) == (blend.names, blend.why)
    plain = Blend.from_dict(Blend(("a", "b"), WEIGHTS, np.array([[2.0, 1.0]])).to_dict())
    assert plain.strata is None
