# SPDX-License-Identifier: Apache-2.0
"""DINEOF's iteration: decomposition, substitution, fixed point, and the sweep over mode counts."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.methods.eof.iteration import (
    PATIENCE,
    Exact,
    Iteration,
    Modes,
    Warm,
    rmse_at,
    substitute,
    sweep,
)
from sstfill.methods.eof.timefilter import diffusion_filter

N, M, RANK = 30, 400, 3
IRREGULAR = np.cumsum(np.random.default_rng(9).uniform(0.5, 3.0, N))


def low_rank(noise: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(N, RANK)) * [3, 2, 1], rng.normal(size=(RANK, M))
    return factors[0] @ factors[1] + noise * rng.normal(size=(N, M))


def with_gaps(X: np.ndarray, fraction: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    missing = np.random.default_rng(seed).random(X.shape) < fraction
    return np.where(missing, 0, X), missing


def reconstruction(modes: Modes) -> np.ndarray:
    return (modes.V * modes.s) @ modes.U.T


class TestDecompositions:
    def test_exact_is_the_singular_value_decomposition_without_a_filter(self):
        X = low_rank(0.3)
        modes = Exact(np.eye(N))(X, 5)
        U, s, Vt = np.linalg.svd(X.T, full_matrices=False)
        np.testing.assert_allclose(modes.s, s[:5], rtol=1e-10)
        np.testing.assert_allclose(
            reconstruction(modes), ((U[:, :5] * s[:5]) @ Vt[:5]).T, atol=1e-10
        )

    @pytest.mark.parametrize("days", [np.arange(float(N)), IRREGULAR], ids=["even", "irregular"])
    def test_warm_tends_to_exact_under_the_filter(self, days):
        F = diffusion_filter(days, 0.1, 3)
        X = low_rank(0.05)
        exact, warm = Exact(F), Warm(F, np.random.default_rng(0))
        for _ in range(8):
            modes = warm(X, RANK)
        expected = exact(X, RANK)
        np.testing.assert_allclose(modes.s, expected.s, rtol=1e-9)
        np.testing.assert_allclose(reconstruction(modes), reconstruction(expected), atol=1e-7)

    def test_the_filter_leaves_unit_patterns_and_damps_the_singular_values(self):
        X = low_rank(0.1)
        modes = Exact(diffusion_filter(np.arange(float(N)), 0.3, 3))(X, RANK)
        np.testing.assert_allclose(np.linalg.norm(modes.U, axis=0), 1)
        np.testing.assert_allclose(modes.V.T @ modes.V, np.eye(RANK), atol=1e-12)
        assert (modes.s < np.linalg.norm(X.T @ modes.V, axis=0)).all()

    def test_fewer_pixels_than_images_give_the_same_modes_by_the_shorter_side(self):
        X, F = low_rank(0.3)[:, :8], diffusion_filter(IRREGULAR, 0.1, 3)
        modes = Exact(F)(X, 5)
        smoothed = F @ X @ X.T @ F.T
        eigenvalues, vectors = np.linalg.eigh(smoothed)
        V = vectors[:, ::-1][:, :5]
        np.testing.assert_allclose(modes.s, np.sqrt(eigenvalues[::-1][:5]), rtol=1e-10)
        np.testing.assert_allclose(np.abs(modes.V.T @ V), np.eye(5), atol=1e-10)

    def test_warm_keeps_single_precision(self):
        modes = Warm(np.eye(N), np.random.default_rng(0))(low_rank(0.1).astype(np.float32), 2)
        assert {a.dtype for a in modes} == {np.dtype(np.float32)}

    @pytest.mark.parametrize(
        "decompose", [Exact(np.eye(N)), Warm(np.eye(N), np.random.default_rng(0))]
    )
    def test_nothing_but_zeros(self, decompose):
        modes = decompose(np.zeros((N, 7)), 2)
        assert not modes.s.any() and not reconstruction(modes).any()


class TestSubstitute:
    def test_moves_the_missing_values_only_and_says_how_far(self):
        X, missing = with_gaps(low_rank(0.1), 0.4)
        modes, before = Exact(np.eye(N))(X, 2), X.copy()
        moved = substitute(X, missing, modes)
        np.testing.assert_array_equal(X[~missing], before[~missing])
        np.testing.assert_allclose(X[missing], reconstruction(modes)[missing], atol=1e-12)
        assert moved == pytest.approx(((X - before) ** 2).sum())

    def test_relaxation_stretches_the_step_not_the_change_told(self):
        X, missing = with_gaps(low_rank(0.1), 0.4)
        modes, plain, far = Exact(np.eye(N))(X, 2), X.copy(), X.copy()
        assert substitute(plain, missing, modes) == substitute(far, missing, modes, relaxation=1.7)
        np.testing.assert_allclose(far - X, 1.7 * (plain - X), atol=1e-12)


class TestIteration:
    def test_recovers_a_low_rank_matrix_from_two_fifths_of_it(self):
        truth = low_rank()
        X, missing = with_gaps(truth, 0.6)
        Iteration(truth.std(), tolerance=1e-9, max_iterations=3000).converge(
            X, missing, RANK, Exact(np.eye(N))
        )
        np.testing.assert_allclose(X, truth, atol=1e-4)

    def test_fast_solver_reaches_the_fixed_point_of_the_exact_one(self):
        F = diffusion_filter(IRREGULAR, 0.02, 3)
        X, missing = with_gaps(low_rank(0.2), 0.5)
        slow, fast = X.copy(), X.copy()
        plain, relaxed = (Iteration(X.std(), 1e-9, 3000, relaxation=r) for r in (1.0, 1.7))
        plain.converge(slow, missing, RANK, Exact(F))
        relaxed.converge(fast, missing, RANK, Warm(F, np.random.default_rng(0)))
        np.testing.assert_allclose(fast, slow, atol=1e-6)
        assert relaxed.done < plain.done

    def test_over_relaxation_that_goes_in_circles_falls_back(self):
        slope = 0.188  # a step 1.7 times too long grows by 2 % each time, a plain one shrinks

        def decompose(X, n):
            return Modes(np.ones((1, 1)), 1 - slope * X[0], np.ones((1, 1)))

        X, run = np.zeros((1, 1)), Iteration(1.0, 1e-6, 300, relaxation=1.7)
        run.converge(X, np.ones((1, 1), bool), 1, decompose)
        assert run.done < 40 and X[0, 0] == pytest.approx(1 / (1 + slope), abs=1e-5)

    @pytest.mark.parametrize(("hopeless", "done"), [(True, PATIENCE + 1), (False, 300)])
    def test_missing_values_that_wander_do_so_to_the_end_unless_hopeless(self, hopeless, done):
        def decompose(X, n):
            return Modes(np.ones((1, 1)), 1 - X[0], np.ones((1, 1)))

        X, run = np.zeros((1, 1)), Iteration(1.0)
        missing = np.ones((1, 1), bool)
        run.converge(X, missing, 1, decompose, hopeless=lambda modes: hopeless)
        assert run.done == done

    def test_stops_at_the_most_iterations_and_counts_them(self):
        X, missing = with_gaps(low_rank(0.2), 0.5)
        run = Iteration(1.0, 1e-12, max_iterations=4)
        run.converge(X, missing, 2, Exact(np.eye(N)))
        assert run.done == 4

    def test_at_least_so_many_iterations(self):
        X, missing = with_gaps(low_rank(), 0.0)
        run = Iteration(1.0)
        run.converge(X, missing, 2, Exact(np.eye(N)), at_least=2)
        assert run.done == 2


class TestSweep:
    def setup_method(self):
        self.X, self.missing = with_gaps(low_rank(0.3), 0.3)
        present = np.flatnonzero(~self.missing)
        self.points = np.random.default_rng(2).choice(present, 300, replace=False)
        self.truth = self.X.ravel()[self.points].copy()
        self.X.ravel()[self.points] = 0
        self.missing.ravel()[self.points] = True
        self.run = Iteration(self.X.std(), 1e-4)

    def swept(self, most, **kwargs):
        return sweep(
            self.X,
            self.missing,
            self.points,
            self.truth,
            most,
            Exact(np.eye(N)),
            self.run,
            **kwargs,
        )

    def test_finds_the_rank_and_stops_soon_after(self):
        found = self.swept(20)
        assert found.best == RANK == int(np.argmin(found.errors)) + 1
        assert len(found.errors) == RANK + 3
        assert found.errors[RANK - 1] < 0.4

    def test_leaves_the_missing_values_of_the_best_count(self):
        found = self.swept(20)
        expected = reconstruction(found.modes)[self.missing]
        np.testing.assert_allclose(self.X[self.missing], expected, atol=1e-12)
        assert rmse_at(self.points, self.truth, found.modes) == pytest.approx(
            found.errors[found.best - 1]
        )

    def test_begins_with_more_modes_from_what_another_fit_has_filled(self):
        found = self.swept(20)
        again = self.swept(20, first=RANK - 1, rival=found)
        assert (again.first, again.best) == (RANK - 1, RANK)
        assert again.errors_of(1, RANK) == [again.errors[1]]
        assert again.errors_of(RANK)[0] == pytest.approx(found.errors[RANK - 1], rel=5e-3)

    def test_is_given_up_where_a_rival_is_clearly_better_with_as_many_modes(self):
        found = self.swept(20)
        better = found._replace(errors=[0.9 * error for error in found.errors])
        again = self.swept(20, first=RANK, rival=better)
        assert len(again.errors) == 2
        assert len(self.swept(20, first=RANK, rival=better._replace(first=9)).errors) > 2

    def test_iterates_no_further_where_it_wanders_far_behind_a_rival(self):
        found = self.swept(20)
        self.run.tolerance = 0.0  # nothing settles: all iterations count as wandering in the end
        self.run.max_iterations = 200
        done = []
        for factor in (0.9, 0.5):
            rival = found._replace(errors=[factor * error for error in found.errors])
            before = self.run.done
            assert len(self.swept(20, first=RANK, rival=rival).errors) == 2
            done.append(self.run.done - before)
        assert done[0] == 400 > done[1]

    def test_a_fixed_count_is_kept_whatever_the_error(self):
        found = self.swept(9, fixed=True)
        assert found.best == len(found.errors) == len(found.modes.s) == 9
