# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from sstfill.methods.common.kernels.cholesky import LANES, factorise, padded


@pytest.mark.parametrize("n", [0, 1, 3, LANES, LANES + 1, 30])
@pytest.mark.parametrize("right", [1, 2, LANES])
def test_factor_and_forward_solutions_are_those_of_numpy(n: int, right: int) -> None:
    rng = np.random.default_rng(n)
    root, beside = rng.normal(size=(n, n)), rng.normal(size=(n, right))
    matrix = root @ root.T + np.eye(n)
    U, pivot = np.full((n, padded(n + right)), 9.0), np.empty(n)
    U[:, :n], U[:, n : n + right] = matrix, beside
    # nothing left of the diagonal is read
    U[np.tril_indices(n, -1)] = np.nan
    factorise(U, n, U.shape[1], 0.0, pivot)
    factor = np.linalg.cholesky(matrix)
    np.testing.assert_allclose(np.triu(np.nan_to_num(U[:, :n])), factor.T, atol=1e-12)
    np.testing.assert_allclose(U[:, n : n + right], np.linalg.solve(factor, beside), atol=1e-10)
    np.testing.assert_allclose(pivot, 1 / np.diag(factor))


def test_twins_do_not_break_the_factorisation() -> None:
    U, pivot = np.array([[1.0, 1.0, 0.5, 2.0], [0.0, 1.0, 0.5, 2.0]]), np.empty(2)
    factorise(U, 2, 4, 1e-9, pivot)
    told, z = U[:, 2], U[:, 3]
    mean, variance = told @ z, 1 - told @ told
    assert (mean, variance) == (pytest.approx(1.0), pytest.approx(0.75)) and pivot[1] == 0
