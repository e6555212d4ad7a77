# SPDX-License-Identifier: Apache-2.0
"""The compiled kernels: which observations they gather, and the log score and its gradient."""

from __future__ import annotations

import gaussian
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sstfill.methods.oi import solver_kernels
from sstfill.methods.oi.covariance import Component, Covariance, ranked_offsets
from sstfill.methods.oi.geometry import positions
from sstfill.methods.oi.likelihood import log_scores
from sstfill.methods.oi.solver import Solver

CROSS = np.array([[1.0, 0.6], [0.6, 1.0]])
START = np.log([0.6, 160.0, 110.0, 3.0, 0.4, 60.0, 80.0, 1.5, 0.2])
"""Logarithms of variance, meridional, zonal and time scale of two parts, and of the noise."""


def covariance(logarithms: np.ndarray) -> Covariance:
    *numbers, noise = np.exp(logarithms).tolist()
    shapes = ("matern", "exponential")
    parts = (
        Component(s, v, (y, x), t)
        for s, (v, y, x, t) in zip(shapes, (numbers[:4], numbers[4:]), strict=True)
    )
    return Covariance(components=tuple(parts), noise=noise)


class Case:
    """Two channels of scattered values, half of those seen withheld."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.days = np.array([0.0, 1.0, 2.5])
        lat, lon = np.linspace(41, 44, 5), np.linspace(5, 9, 6)
        self.at = gaussian.sphere(*np.meshgrid(lat, lon, indexing="ij"))
        field = xr.DataArray(np.zeros((3, 5, 6)), {"lat": lat, "lon": lon}, ("time", "lat", "lon"))
        self.values = rng.normal(size=(2, 3, 5, 6)).astype(np.float32)
        apart = rng.random((3, 5, 6)) < 0.5  # each place is seen in one channel: all of it is used
        self.values[0][apart] = self.values[1][~apart] = np.nan
        withheld = np.isfinite(self.values) & (rng.random(self.values.shape) < 0.4)
        # laid out as those of a fit, for which the kernels are compiled
        self.targets = np.ascontiguousarray(np.argwhere(withheld), np.int32)
        self.truth = self.values[tuple(self.targets.T)].astype(float)
        self.values[tuple(self.targets.T)] = np.nan
        solver = Solver(
            at=positions(field),
            days=self.days,
            covariance=covariance(START),
            flow=(0.1, 0.0),
            cross=CROSS,
            neighbours=200,
            within=(3, 5, 6),
            side=1,
        )
        self.space = solver.space()
        self.tiles = solver.tiles(self.values, self.targets)

    def scored(self, one: Covariance) -> tuple[float, np.ndarray, float]:
        return log_scores(
            self.values,
            self.targets,
            self.truth,
            self.tiles,
            self.space,
            solver_kernels.Kernel(*one.arrays(), CROSS),
        )


CASE = Case()
NO_SPARSE = np.zeros((0, 4), np.int32)
SIDE = 24
"""Pixels along a side of an image of which parts are hidden."""


def nearest_and_spread(seen: np.ndarray, target: tuple[int, int], most: int) -> list[np.ndarray]:
    """Neighbours ``(n, 2)``, row and column, of a pixel: the nearest, and those by quadrant."""
    values = np.where(seen, 1.0, np.nan)[np.newaxis, np.newaxis].astype(np.float32)
    part = Component("exponential", 1.0, (10.0, 10.0), 1.0)
    order = Covariance(components=(part,), noise=0.1)
    km = ((1.0, 0.0), (0.0, 1.0))
    near, sparse = ranked_offsets(order, km, (0.0,), (0.0, 0.0), (0, SIDE, SIDE))
    found = []
    for more in (NO_SPARSE, sparse):
        lists = (near, np.array([0, len(near)]), np.zeros(1, int), more, np.array([0, len(more)]))
        at, (n,) = solver_kernels.gather(
            values, np.array([[0, 0, *target]], np.int32), 1, *lists, most
        )
        found.append(at[0, :n, 2:])
    return found


def by_quadrant(steps: np.ndarray) -> np.ndarray:
    """How many steps ``(n, 2)`` lie in each of the quadrants."""
    angle = np.degrees(np.arctan2(steps[:, 0], steps[:, 1])) % 360
    return np.bincount((angle // 90).astype(int), minlength=4)


@given(
    seed=st.integers(0, 10**6),
    missing=st.sampled_from([0.2, 0.6, 0.95, 1.0]),
    hole=st.tuples(*[st.integers(0, SIDE)] * 4),
    target=st.tuples(*[st.integers(0, SIDE - 1)] * 2),
    most=st.sampled_from([1, 8, 24, 50]),
)
def test_each_quadrant_has_its_share_of_the_neighbours(seed, missing, hole, target, most) -> None:
    seen = np.random.default_rng(seed).random((SIDE, SIDE)) >= missing
    seen[min(hole[:2]) : max(hole[:2]), min(hole[2:]) : max(hole[2:])] = False
    seen[target] = False
    nearest, spread = nearest_and_spread(seen, target, most)
    assert len({tuple(p) for p in spread}) == len(spread) == min(most, seen.sum()) == len(nearest)
    assert seen[tuple(spread.T)].all()
    share = most // solver_kernels.SHARE
    before, after = by_quadrant(nearest - target), by_quadrant(spread - target)
    if (before >= share).all():
        np.testing.assert_array_equal(spread, nearest)
    assert (after >= np.minimum(before, share)).all()
    kept = {tuple(p) for p in nearest} & {tuple(p) for p in spread}
    assert len(kept) >= min(len(nearest), most - 4 * share)


def test_a_gap_at_one_side_of_the_observations_is_seen_across() -> None:
    seen = np.ones((SIDE, SIDE), bool)
    seen[:, 6:-2] = False
    nearest, spread = nearest_and_spread(seen, (12, 7), 16)
    assert nearest[:, 1].max() < 6 and (by_quadrant(spread - (12, 7)) >= 2).all()
    assert (spread[:, 1] >= SIDE - 2).any()


def test_every_observation_is_gathered_once_those_that_tell_most_first() -> None:
    seen = {tuple(p) for p in np.argwhere(np.isfinite(CASE.values))}
    near, count = CASE.tiles.neighbours, CASE.tiles.known
    how = {
        "at": CASE.at,
        "days": CASE.days,
        "covariance": covariance(START),
        "cross": np.ones((2, 2)),
    }
    for target, found, n in zip(CASE.tiles.corner, near, count, strict=True):
        assert {tuple(p) for p in found[:n]} == seen and n == len(seen)
        told = gaussian.matrix(
            target[np.newaxis], found[:n].astype(int), target=target, flow=(0.1, 0.0), **how
        )
        assert (np.diff(told[0]) < 0.06).all()  # the order knows typical distances only


def test_own_channel_comes_before_another() -> None:
    values = np.zeros((3, 1, 1, 2), np.float32)
    values[1, 0, 0, 0] = np.nan
    steps = np.array([[0, 0, 0], [0, 0, 1]], np.int32)
    target, begin = np.array([[1, 0, 0, 0]], np.int32), np.array([0, 2])
    order = solver_kernels.NeighbourOffsets(steps, begin, np.zeros(1, int), NO_SPARSE, 0 * begin)
    near, count = solver_kernels.gather(values, target, 1, *order, 5)
    assert count[0] == 2 and near[0, :2].tolist() == [[0, 0, 0, 0], [1, 0, 0, 1]]


def test_log_score_is_that_of_the_dense_posterior() -> None:
    one = covariance(START)
    exact = 0.0
    for target, truth in zip(CASE.targets, CASE.truth, strict=True):
        mean, variance = gaussian.posterior(
            CASE.values, target, CASE.at, CASE.days, one, CROSS, flow=(0.1, 0.0)
        )
        spread = variance + one.noise
        exact += 0.5 * np.log(spread) + 0.5 * (truth - mean) ** 2 / spread
    assert CASE.scored(one)[0] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("number", range(len(START)))
def test_gradient_equals_differences(number) -> None:
    step = 0.02 * np.eye(len(START))[number]
    up, down = (CASE.scored(covariance(START + s))[0] for s in (step, -step))
    _, by_part, by_noise = CASE.scored(covariance(START))
    gradient = np.append(by_part.ravel(), by_noise)
    assert (up - down) / 0.04 == pytest.approx(gradient[number], rel=0.02, abs=0.02)
    assert np.abs(gradient).min() > 0.05


@given(seed=st.integers(0, 10**6), missing=st.sampled_from([0.2, 0.6, 0.9]))
def test_a_tile_has_what_tells_most_of_each_of_its_pixels(seed, missing) -> None:
    """Nothing left out covaries more with a pixel than the last of the neighbours does with any."""
    seen = np.random.default_rng(seed).random((1, 3, SIDE, SIDE)) >= missing
    values = np.where(seen, 1.0, np.nan).astype(np.float32)
    km = {d: (d, np.arange(float(SIDE)), {"units": "km"}) for d in "yx"}
    part = Component("exponential", 1.0, (5.0, 5.0), 4.0)
    solver = Solver(
        at=positions(xr.DataArray(np.zeros((3, SIDE, SIDE)), km, ("time", "y", "x"))),
        days=np.arange(3.0),
        covariance=Covariance(components=(part,), noise=0.1),
        flow=(0.0, 0.0),
        cross=np.eye(1),
        neighbours=40,
        within=(3, SIDE, SIDE),
    )
    targets, places = np.argwhere(~seen).astype(np.int32)[::61], np.argwhere(seen)
    tiles = solver.tiles(values, targets)

    def told(target: np.ndarray, at: np.ndarray) -> np.ndarray:
        t, y, x = np.abs(at - target)[:, 1:].T
        return np.exp(-np.hypot(y, x) / 5 - t / 4)

    side = range(solver.side)
    inside = np.array([(0, 0, y, x) for y in side for x in side])
    for i, members in enumerate(tiles.members):
        near = tiles.neighbours[i, : tiles.known[i]]
        among = {tuple(place) for place in near}
        last = max(told(tiles.corner[i] + pixel, near[-1:])[0] for pixel in inside)
        for target in targets[members[members >= 0]]:
            more = places[told(target, places) > last + 1e-6]
            assert {tuple(place) for place in more} <= among
