# SPDX-License-Identifier: Apache-2.0
"""The error field of Beckers et al. against dense optimal interpolation."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.methods.common.matrix import ObservationMatrix
from sstfill.methods.eof.iteration import Modes, with_error

N, M, K = 9, 14, 3


def case() -> tuple[Modes, ObservationMatrix]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 4)) @ rng.normal(size=(4, M)) + 0.3 * rng.normal(size=(N, M))
    observed = rng.random(X.shape) < 0.6
    observed[4] = False  # an image without any observation
    U, s, Vt = np.linalg.svd(X.T, full_matrices=False)
    matrix = ObservationMatrix(X, observed, np.arange(M), np.arange(N), np.zeros(M), np.ones(M))
    return Modes(U[:, :K], s[:K], Vt[:K].T), matrix


@pytest.mark.parametrize("overlap", [1.0, 6.5])
def test_variance_is_that_of_dense_optimal_interpolation(overlap):
    modes, matrix = case()
    low = with_error(modes, matrix, overlap)
    covariance = (modes.U * modes.s**2) @ modes.U.T / N
    for t in range(N):
        seen = np.flatnonzero(matrix.observed[t])
        observed = covariance[np.ix_(seen, seen)] + overlap * low.noise * np.eye(len(seen))
        gain = np.linalg.solve(observed, covariance[seen]).T
        expected = np.diag(covariance - gain @ covariance[seen]) + low.noise
        np.testing.assert_allclose(low.variance(slice(t, t + 1))[0], expected, rtol=1e-9)


def test_noise_is_what_the_modes_leave_of_the_observations():
    modes, matrix = case()
    residual = matrix.values - (modes.V * modes.s) @ modes.U.T
    low = with_error(modes, matrix)
    assert low.noise == pytest.approx(np.mean(residual[matrix.observed] ** 2))


def test_mean_is_the_reconstruction():
    modes, matrix = case()
    np.testing.assert_allclose(
        with_error(modes, matrix).mean(slice(2, 5)), ((modes.V * modes.s) @ modes.U.T)[2:5]
    )


def test_what_lies_in_the_gaps_does_not_matter():
    modes, matrix = case()
    before = with_error(modes, matrix).variance(slice(0, N))
    matrix.values[~matrix.observed] = 1e3
    np.testing.assert_array_equal(with_error(modes, matrix).variance(slice(0, N)), before)


def test_errors_that_overlap_weigh_less_and_no_image_leaves_the_whole_variance():
    modes, matrix = case()
    alone, shared = (
        with_error(modes, matrix, overlap).variance(slice(0, N)) for overlap in (1.0, 20.0)
    )
    assert (shared >= alone).all() and (shared[0] > alone[0]).any()
    blind = ((modes.U * modes.s / np.sqrt(N)) ** 2).sum(1) + with_error(modes, matrix).noise
    np.testing.assert_allclose(alone[4], blind)


def test_a_perfect_fit_stays_finite():
    modes, matrix = case()
    matrix.values[:] = (modes.V * modes.s) @ modes.U.T
    variance = with_error(modes, matrix).variance(slice(0, N))
    assert np.isfinite(variance).all() and (variance >= 0).all()
