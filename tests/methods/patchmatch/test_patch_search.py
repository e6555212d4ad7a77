# SPDX-License-Identifier: Apache-2.0
"""The compiled search and vote, against what brute force finds; and the pyramid and first guess
they start from.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.methods.patchmatch.pyramid import PyramidLevel, first_guess, levels_for

pytest.importorskip("numba")

from sstfill.methods.patchmatch.search import sweep, vote

KEY = np.uint64(12345)


class Case:
    """A padded random series of one channel with all its patches of side 3 to match."""

    def __init__(
        self, shape: tuple[int, ...] = (4, 9, 8), free: bool = False, gaps: float = 0.0
    ) -> None:
        rng = np.random.default_rng(1)
        self.free, self.shape = free, shape
        full = np.array(shape) + 2
        flat = np.pad(rng.normal(size=shape).astype(np.float32), 1, mode="edge").ravel()[np.newaxis]
        self.source = np.pad(np.ones(shape, bool), 1).ravel()
        seen = (rng.random(flat.shape) >= gaps) & self.source
        self.values, self.weight = flat, np.where(seen, 1, 0.1).astype(np.float32) * self.source
        self.penalty = np.where(seen, 0, 0.5).astype(np.float32)
        self.strides = np.array([full[1] * full[2], full[2], 1])
        span = np.arange(-1, 2)
        self.rows = (span[:, np.newaxis] * self.strides[0] + span * full[2] - 1).ravel()
        self.steps = (self.rows[:, np.newaxis] + np.arange(3)).ravel()
        self.targets = np.flatnonzero(self.source)
        self.match = np.full(flat.size, -1)
        self.distance = np.zeros(flat.size, np.float32)
        self.offsets = np.zeros_like(flat)

    def sweep(self, times: int) -> None:
        for i in range(times):
            new = self.match.copy()
            sweep(
                self.targets,
                self.values,
                self.weight,
                self.penalty,
                self.source,
                self.rows,
                3,
                self.free,
                self.strides,
                np.array(self.shape),
                1,
                KEY + np.uint64(i),
                self.match,
                new,
                self.distance,
                self.offsets,
            )
            self.match = new

    def brute(self, p: int, q: int) -> float:
        w = self.weight[0, p + self.steps]
        step = self.values[0, p + self.steps] - self.values[0, q + self.steps]
        if self.free:
            step = step - (w * step).sum() / w.sum()
        return float((w * (step**2 + self.penalty[0, q + self.steps])).sum() / w.sum())


class TestSweep:
    @pytest.mark.parametrize("free", [False, True])
    @pytest.mark.parametrize("gaps", [0.0, 0.5])
    def test_distance_is_that_of_the_match(self, free, gaps):
        case = Case(free=free, gaps=gaps)
        case.sweep(2)
        expected = [case.brute(p, case.match[p]) for p in case.targets]
        np.testing.assert_allclose(case.distance[case.targets], expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("free", [False, True])
    def test_comes_near_the_exact_search(self, free):
        case = Case(free=free)
        case.sweep(25)
        exact = [min(case.brute(p, q) for q in case.targets if q != p) for p in case.targets]
        found = case.distance[case.targets]
        assert (found >= np.array(exact) - 1e-5).all()
        assert found.mean() < 1.08 * np.mean(exact)

    def test_no_patch_is_matched_to_itself_nor_off_the_sources(self):
        case = Case()
        case.source[case.targets[::3]] = False
        case.sweep(3)
        at = case.match[case.targets]
        assert (at != case.targets).all() and case.source[at].all()

    def test_never_worse_from_sweep_to_sweep(self):
        case = Case()
        case.sweep(1)
        first = case.distance.copy()
        case.sweep(2)
        assert (case.distance <= first + 1e-6).all() and (case.distance < first - 1e-6).any()

    def test_a_copy_is_found(self):
        case = Case((3, 24, 24))
        images = case.values.reshape(5, 26, 26)
        images[:, 15:22, 15:22] = images[:, 4:11, 4:11]
        case.sweep(40)
        there = (
            np.ravel_multi_index((2, 18, 18), (5, 26, 26)),
            np.ravel_multi_index((2, 7, 7), (5, 26, 26)),
        )
        assert case.match[there[0]] == there[1] and case.distance[there[0]] == 0

    def test_offset_is_the_difference_of_the_means(self):
        case = Case(free=True)
        case.sweep(2)
        p = case.targets[40]
        step = case.values[0, p + case.steps] - case.values[0, case.match[p] + case.steps]
        w = case.weight[0, p + case.steps]
        assert case.offsets[0, p] == pytest.approx((w * step).sum() / w.sum(), abs=1e-5)


class TestVote:
    def voted(
        self, case: Case, pixels: np.ndarray, sharp: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = np.empty((2, 1, len(pixels)), np.float32)
        vote(
            pixels,
            case.values,
            case.weight,
            case.steps,
            sharp,
            case.match,
            case.distance,
            case.offsets,
            mean,
            variance,
        )
        return mean[0], variance[0]

    def test_is_the_weighted_mean_of_the_paper(self):
        case = Case(free=True, gaps=0.3)
        case.sweep(2)
        x = case.targets[100]
        p = [x - s for s in case.steps if case.match[x - s] >= 0]
        d = np.array([case.distance[i] for i in p], float)
        at = np.array([case.match[i] + x - i for i in p])
        w = np.exp(-d / (2 * np.sort(d)[3 * (len(d) - 1) // 4])) * case.weight[0, at]
        value = case.values[0, at] + case.offsets[0, p]
        mean, variance = self.voted(case, np.array([x]))
        expected = (w * value).sum() / w.sum()
        assert mean[0] == pytest.approx(expected, abs=1e-5)
        assert variance[0] == pytest.approx(
            (w * ((value - expected) ** 2 + d)).sum() / w.sum(), rel=1e-4
        )

    def test_sharp_takes_the_nearest_patch(self):
        case = Case()
        case.sweep(2)
        x = case.targets[100]
        p = [
            i
            for i in x - case.steps
            if case.match[i] >= 0 and case.weight[0, case.match[i] + x - i] > 0
        ]
        nearest = min(p, key=lambda i: case.distance[i])
        expected = case.values[0, case.match[nearest] + x - nearest]
        assert self.voted(case, np.array([x]), sharp=True)[0][0] == pytest.approx(
            expected, abs=1e-6
        )

    def test_nothing_lent_is_missing(self):
        case = Case()
        assert np.isnan(self.voted(case, case.targets)[0]).all()


class TestFirstGuess:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 999), fraction=st.floats(0.1, 0.95))
    def test_keeps_to_the_range_and_to_what_is_seen(self, seed, fraction):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(5, 6, 7)).astype(np.float32)
        seen = rng.random(values.shape) > fraction
        seen[2, 3, 3] = True
        found = first_guess(values, seen, np.cumsum(rng.uniform(0.1, 2, 5)))
        np.testing.assert_array_equal(found[seen], values[seen])
        low, high = values[seen].min(), values[seen].max()
        room = 0.01 * (high - low) + 1e-5
        assert (found >= low - room).all() and (found <= high + room).all()

    def test_what_rests_is_taken_from_other_images(self):
        image = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)
        values = np.repeat(image[np.newaxis], 5, 0)
        seen = np.ones(values.shape, bool)
        seen[2, 5:15, 5:15] = False
        found = first_guess(values, seen, np.arange(5.0))
        assert np.abs(found - values)[~seen].max() < 0.1 * image.std()

    def test_time_is_measured_in_days(self):
        ramp = np.array([0.0, 1.0, 9.0, 10.0])
        values = np.broadcast_to(ramp[:, np.newaxis, np.newaxis], (4, 1, 1)).astype(np.float32)
        seen = np.ones(values.shape, bool)
        seen[1] = False
        assert first_guess(values, seen, ramp)[1, 0, 0] == pytest.approx(1.0, abs=0.01)


class TestSeries:
    def series(self) -> PyramidLevel:
        rng = np.random.default_rng(3)
        values = rng.normal(size=(2, 3, 7, 6)).astype(np.float32)
        trust = (rng.random(values.shape) < 0.5).astype(np.float32)
        return PyramidLevel(values, trust, rng.random((7, 6)) < 0.8)

    def test_coarser_is_the_mean_of_what_is_seen(self):
        values = np.array([[1, 3], [100, 100]], np.float32).reshape(1, 1, 2, 2)
        trust = np.array([[1, 1], [0, 0]], np.float32).reshape(1, 1, 2, 2)
        half = PyramidLevel(
            values, trust, np.array([[True, True], [False, False]])
        ).coarser()  # what is on land is left out
        assert half.values.item() == pytest.approx(2) and half.trust.item() == 1 and half.sea.all()
        assert PyramidLevel(values, trust, np.ones((2, 2), bool)).coarser().trust.item() == 0.5

    def test_odd_sides_and_land(self):
        series = self.series()
        half = series.coarser()
        assert (
            half.values.shape == (2, 3, 4, 3)
            and half.values.dtype == half.trust.dtype == np.float32
        )
        assert half.sea[3, 0] == series.sea[6, :2].any()
        assert (half.trust >= 0).all() and (half.trust <= 1).all()

    def test_a_correction_leaves_observed_pixels(self):
        series = self.series()
        corrected = series.corrected(np.ones((2, 3, 4, 3)))
        np.testing.assert_allclose(corrected.values - series.values, 1 - series.trust, atol=1e-6)

    def test_single_pixels_need_one_level(self):
        trust = (np.random.default_rng(0).random((1, 4, 64, 64)) < 0.3).astype(np.float32)
        assert levels_for(PyramidLevel(trust, trust, np.ones((64, 64), bool)), 5) == 1

    def test_increments_without_neighbours_are_those_of_the_other_axes(self):
        values = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
        found = PyramidLevel(values, np.ones_like(values), np.ones((1, 4), bool)).increments()
        np.testing.assert_array_equal(found, [[1, 1, 1]])
