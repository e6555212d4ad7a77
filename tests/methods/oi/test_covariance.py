# SPDX-License-Identifier: Apache-2.0
"""Covariances: kernels and slopes as accurate as they must be, reach, and the order in which
observations tell.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from sstfill.methods.oi.covariance import (
    FARTHEST,
    LISTED,
    SHAPES,
    SPARSE,
    Component,
    Covariance,
    farthest_steps,
    ranked_offsets,
    search_radius,
)
from sstfill.methods.oi.likelihood import slopes
from sstfill.methods.oi.solver_kernels import correlation

KM = ((10.0, 0.0), (0.0, 10.0))
DAILY = tuple(float(t) for t in range(-3, 4))


def one(length_scale: float = 50.0, time_scale: float = 3.0) -> Covariance:
    return Covariance(
        components=(Component("exponential", 2.0, (length_scale, 2 * length_scale), time_scale),),
        noise=0.1,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_correlate_as_the_shapes_do(shape) -> None:
    r, lag = np.random.default_rng(0).uniform(0, 20, (2, 2000))
    part = Component(shape, 1.0, (1.0, 1.0), 1.0)
    ((_, by_north, _, by_day),), (number,), _ = Covariance(components=(part,), noise=0.0).arrays()
    found = [correlation(number, *at) for at in zip(r * by_north**0.5, lag * by_day, strict=True)]
    np.testing.assert_allclose(found, SHAPES[shape](r) * SHAPES[shape](lag), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_slopes_are_derivatives_by_the_logarithm_of_the_scale(shape) -> None:
    for far, late in np.random.default_rng(0).uniform(0.01, 6, (50, 2)):
        in_space, in_time = slopes(shape, far, late)
        less, more = np.exp([-1e-5, 1e-5])
        by_space = correlation(shape, far * less, late) - correlation(shape, far * more, late)
        by_time = correlation(shape, far, late * less) - correlation(shape, far, late * more)
        assert in_space * far**2 == pytest.approx(by_space / 2e-5, abs=1e-6)
        assert in_time == pytest.approx(by_time / 2e-5, abs=1e-6)


def test_value_at_the_origin_is_the_variance() -> None:
    both = Covariance(
        components=(*one().components, Component("gauss", 0.5, (9.0, 9.0), 1.0)), noise=1.0
    )
    assert both(0.0, 0.0, 0.0) == both.variance == 2.5
    assert both(50.0, 0.0, 0.0) == pytest.approx(both(0.0, 100.0, 0.0), abs=1e-6)


def test_reach_grows_with_scales_and_flow_up_to_a_limit() -> None:
    assert search_radius(one(10.0, 1.0), (10.0, 20.0), 0.5) == (12, 12, 6)
    assert search_radius(one(10.0, 1.0), (10.0, 20.0), 0.5, flow=(30.0, 40.0)) == (12, 22, 11)
    assert search_radius(one(1e6, 1e6), (1.0, 1.0), 1.0) == FARTHEST


def test_order_is_that_of_falling_covariance() -> None:
    steps = ranked_offsets(one(), KM, DAILY, (0.0, 0.0), (3, 6, 6)).near
    t, y, x = steps.T
    told = one()(10.0 * y, 10.0 * x, 1.0 * t)
    assert (np.diff(told) < 1e-6).all() and steps[0].tolist() == [0, 0, 0]
    assert len({tuple(s) for s in steps}) == len(steps) == 7 * 13 * 13


def test_order_for_a_tile_is_that_of_its_nearest_pixel() -> None:
    steps = ranked_offsets(one(), KM, DAILY, (0.0, 0.0), (3, 6, 6), side=4).near
    t, y, x = steps.T
    north, east = np.maximum(np.maximum(-y, y - 3), 0), np.maximum(np.maximum(-x, x - 3), 0)
    told = one()(10.0 * north, 10.0 * east, 1.0 * t)
    assert (np.diff(told) < 1e-6).all()
    assert len({tuple(s) for s in steps}) == len(steps) == 7 * 16 * 16


def test_order_follows_the_flow_and_the_orientation_of_the_grid() -> None:
    brief = one(length_scale=8.0, time_scale=30.0)
    for cell in (KM, ((-10.0, 0.0), (0.0, 10.0)), ((0.0, 10.0), (10.0, 0.0))):
        steps = ranked_offsets(brief, cell, DAILY, (10.0, 20.0), (3, 6, 6)).near
        tomorrow = next(s for s in steps.tolist() if s[0] == 1)
        moved = np.array(cell).T @ tomorrow[1:]
        assert moved.tolist() == [10.0, 20.0]  # what is here today is there tomorrow


def test_the_sparse_list_reaches_farther_and_knows_its_place() -> None:
    near, sparse = ranked_offsets(one(900.0), KM, (0.0,), (0.0, 0.0), (0, 250, 250))
    assert len(near) == LISTED and len(sparse) <= SPARSE
    assert np.abs(near).max() < 200 < np.abs(sparse[:, 1:3]).max() <= 250
    listed = sparse[:, 3] < LISTED
    np.testing.assert_array_equal(near[sparse[listed, 3]], sparse[listed, :3])
    assert not {tuple(s) for s in sparse[~listed, :3]} & {tuple(s) for s in near}
    # all that is next to the target, and ever less of what is far from it
    far = np.abs(sparse[:, 1:3]).max(axis=1)
    assert np.count_nonzero(far < 8) == 15 * 15
    assert 150 < np.count_nonzero((far >= 64) & (far < 128)) < 200


def test_few_images_are_looked_at_farther_away() -> None:
    endless = one(1e6, 1e6)
    for times, expected in ((30, FARTHEST), (2, (1, 300, 300))):
        limits = farthest_steps(times)
        assert search_radius(endless, (1.0, 1.0), 1.0, farthest=limits) == expected


def test_description_is_json() -> None:
    said = json.loads(json.dumps(one().summary()))
    assert said == [
        {
            "covariance": "exponential",
            "variance": 2.0,
            "length_scale_km": [50.0, 100.0],
            "time_scale_days": 3.0,
        }
    ]
