# SPDX-License-Identifier: Apache-2.0
"""The fixed-point iteration of DINEOF, and the search for the number of modes.

Each iteration decomposes the series and replaces its missing values by the leading modes. `Exact`
decomposes as the reference program does (all eigenpairs of the N x N covariance, double precision);
a series with fewer pixels than images by the singular values of the matrix, which are the same at a
fraction of the cost. `Warm` carries the leading subspace from one iteration to the next, which
needs products with a few vectors only. `with_error` states the expected error of what is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sstfill.methods.common.lowrank import LowRank
from sstfill.methods.common.matrix import ObservationMatrix
from sstfill.methods.common.regression import second_moments, unpack

BLOCK = 2048
"""Pixels handled at once, so that a block of the matrix stays in the processor's cache."""
POINTS = 16_384
"""Withheld points compared at once."""
MOST_RISES = 5
"""Times that the change from one iteration to the next may grow while it is over-relaxed."""
CLEARLY = 1.02
"""Times a rival's error from which on a fit is given up."""
FAR = 1.25
"""Times a rival's error with as many modes, from which on a fit that wanders is hopeless."""
PATIENCE = 20
"""Iterations without a change less than all before, after which missing values only wander, as they
may under a strong time filter.
"""


class Modes(NamedTuple):
    """A truncated decomposition ``X^T = U diag(s) V^T``.

    Shapes are U ``(pixels, modes)``, s ``(modes,)`` and V ``(times, modes)``.
    """

    U: NDArray
    s: NDArray
    V: NDArray


class Decompose(Protocol):
    """Leading modes of a gap-free matrix ``(times, pixels)``."""

    def __call__(self, X: NDArray, n: int) -> Modes:
        """Return `n` modes."""
        ...


@dataclass
class Exact:
    """Eigenpairs of ``F X X^T F^T`` by LAPACK; ``u_k`` is the normalised projection on ``v_k``.

    So does the reference program.
    """

    time_filter: sparse.csr_array

    def __call__(self, X: NDArray, n: int) -> Modes:
        """Return the `n` leading modes."""
        images, pixels = X.shape
        # The covariance of the images has no more rank than there are pixels: the matrix itself is
        # smaller.
        if pixels < images:
            vectors, singular, _ = np.linalg.svd(self.time_filter @ X, full_matrices=False)
            return _modes(X, vectors[:, :n], singular[:n] ** 2)
        B = self.time_filter @ (X @ X.T) @ self.time_filter.T
        # Rounding makes the product slightly unsymmetric, of which eigh would see one half only.
        eigenvalues, vectors = np.linalg.eigh((B + B.T) / 2)
        # eigh sorts in rising order.
        V = vectors[:, ::-1][:, :n]
        return _modes(X, V, eigenvalues[::-1][:n])


@dataclass
class Warm:
    """One block power step per call, from the subspace of the call before.

    The subspace is a few guard vectors wider than asked for, so that the last mode converges too.
    """

    time_filter: sparse.csr_array
    rng: np.random.Generator
    subspace: NDArray | None = None
    guard: int = 2
    first_steps: int = 5
    _filters: dict[np.dtype, tuple[Any, Any]] = field(default_factory=dict)

    def __call__(self, X: NDArray, n: int) -> Modes:
        """Return the `n` leading modes."""
        if X.dtype not in self._filters:  # to make them takes as long as a product, if X is small
            own = self.time_filter.astype(X.dtype)
            self._filters[X.dtype] = own, own.T
        F, transposed = self._filters[X.dtype]
        width = min(n + self.guard, len(X))
        steps = 1
        if self.subspace is None:
            self.subspace = np.empty((len(X), 0), X.dtype)
        known = self.subspace.shape[1]
        if known < width:
            # A new direction starts from noise, and needs some steps to turn to the next mode.
            fresh = self.rng.standard_normal((len(X), width - known)).astype(X.dtype)
            self.subspace = np.concatenate([self.subspace, fresh], 1)
            steps = self.first_steps
        Q = np.linalg.qr(self.subspace[:, :width])[0]
        # From right to left, each product is with a few vectors; the covariance is never formed.
        for _ in range(steps):
            Q = np.linalg.qr(F @ (X @ (X.T @ (transposed @ Q))))[0]
        Y = X.T @ (transposed @ Q)
        # Within the subspace the modes are still mixed; a small eigenproblem turns them apart.
        eigenvalues, rotation = np.linalg.eigh(gram(Y))
        self.subspace = Q @ rotation[:, ::-1].astype(X.dtype)
        del Y  # it is as large as the patterns that come next
        return _modes(X, self.subspace[:, :n], eigenvalues[::-1][:n])


def gram(Y: NDArray) -> NDArray[np.float64]:
    """``Y^T Y`` in double precision, block by block to save memory."""
    total = np.zeros((Y.shape[1],) * 2)
    for start in range(0, len(Y), BLOCK):
        block = Y[start : start + BLOCK].astype(np.float64)
        total += block.T @ block
    return total


def _modes(X: NDArray, V: NDArray, eigenvalues: NDArray) -> Modes:
    U = X.T @ V
    norm = np.sqrt(np.einsum("ij,ij->j", U, U, dtype=np.float64))
    s = np.sqrt(np.maximum(eigenvalues, 0))
    # A mode of a constant field has no length.
    U /= np.where(norm > 0, norm, 1).astype(X.dtype)
    return Modes(U, s.astype(X.dtype), np.ascontiguousarray(V))


@dataclass
class Iteration:
    """The fixed-point iteration: its stopping rule, its step length and a count of its steps.

    Attributes
    ----------
    deviation
        Root mean square of the observed anomalies, the scale of convergence (``s0``).
    tolerance
        Stop when the missing values change by less, relative to `deviation`.
    max_iterations
        Largest number of iterations in one call.
    relaxation
        Step length: 1 is plain substitution; between 1 and 2 goes faster to the same fixed point.
    done
        Number of iterations of all calls.
    """

    deviation: float
    tolerance: float = 1e-3
    max_iterations: int = 300
    relaxation: float = 1.0
    done: int = field(default=0, init=False)

    def converge(
        self,
        X: NDArray,
        missing: NDArray,
        n: int,
        decompose: Decompose,
        *,
        at_least: int = 1,
        hopeless: Callable[[Modes], bool] | None = None,
    ) -> Modes:
        """Iterate with `n` modes; `X` ``(times, pixels)`` is changed in place where `missing`.

        Where the missing values wander, they do so to the end, unless the modes are `hopeless`.
        """
        # A series without gaps still goes through one iteration, for its modes.
        count = max(1, int(missing.sum()))
        relaxation = self.relaxation
        last, rises = np.inf, 0
        least, waited = np.inf, 0
        modes: Modes | None = None
        for i in range(self.max_iterations):
            modes = None  # free the last patterns before the next are computed
            modes = decompose(X, n)
            squares = substitute(X, missing, modes, relaxation)
            change = np.sqrt(squares / count) / self.deviation
            self.done += 1
            if change < self.tolerance and i + 1 >= at_least:
                break
            if change > last:
                rises += 1
            # Over-relaxation diverges, or goes in circles: fall back to plain substitution.
            if change > 1.5 * last or rises > MOST_RISES:
                relaxation = 1.0
            last = change
            waited += 1
            if change < least:
                least, waited = change, 0
            if hopeless is not None and waited == PATIENCE:
                if hopeless(modes):
                    break
                waited = 0
        assert modes is not None
        return modes


def substitute(X: NDArray, missing: NDArray, modes: Modes, relaxation: float = 1.0) -> float:
    """Move the missing values of `X` towards the decomposition, in place.

    Returns the sum of the squared changes, for a `relaxation` of 1.
    """
    amplitudes = modes.V * modes.s
    total = 0.0
    buffer = np.empty((len(X), min(BLOCK, X.shape[1])), X.dtype)
    for start in range(0, X.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        patterns = modes.U[block]
        # The last block is narrower, and `out` takes only its exact shape.
        if len(patterns) == buffer.shape[1]:
            change = np.matmul(amplitudes, patterns.T, out=buffer)
        else:
            change = amplitudes @ patterns.T
        change -= X[:, block]
        change *= missing[:, block]
        total += float(np.vdot(change, change))
        if relaxation != 1.0:
            change *= change.dtype.type(relaxation)
        X[:, block] += change
    return total


class Sweep(NamedTuple):
    """Errors of growing numbers of modes.

    Attributes
    ----------
    errors
        Of `first` modes, of one more, and so on.
    best
        The number of modes of least error.
    modes
        Its decomposition.
    first
        The least number that was tried.
    """

    errors: list[float]
    best: int
    modes: Modes
    first: int = 1

    def errors_of(self, *numbers: int) -> list[float]:
        """Return the errors of these numbers of modes, as far as they were tried."""
        tried = dict(enumerate(self.errors, self.first))
        return [tried[n] for n in numbers if n in tried]


def sweep(
    X: NDArray,
    missing: NDArray,
    points: NDArray,
    truth: NDArray,
    most: int,
    decompose: Decompose,
    run: Iteration,
    *,
    fixed: bool = False,
    rival: Sweep | None = None,
    first: int = 1,
) -> Sweep:
    """Try `first` to `most` modes; stop when the cross-validation error rose three times in a row.

    It stops, too, where a rival was clearly better with as many modes, twice in a row.

    Parameters
    ----------
    X
        Anomalies ``(times, pixels)``, where `missing` zero, or with a `first` above 1 the estimate
        to start from. Changed in place: each number of modes starts from the missing values of the
        one before; on return those of the best.
    missing
        True in the gaps and at the cross-validation points.
    points, truth
        Flat positions in `X` of the cross-validation points, and the values withheld there.
    fixed
        Keep `most` modes, whatever the error.
    rival
        What another fit has reached.
    first
        The least number of modes to try.
    """
    if first == 1:
        substitute(X, missing, decompose(X, 1))
    hopeless = None
    if rival is not None and not fixed:
        tried = rival

        def hopeless(modes: Modes) -> bool:
            others = tried.errors_of(len(modes.s))
            return bool(others) and rmse_at(points, truth, modes) > FAR * others[0]

    errors: list[float] = []
    best: tuple[int, Modes] | None = None
    for n in range(first, most + 1):
        modes = run.converge(X, missing, n, decompose, hopeless=hopeless)
        errors.append(rmse_at(points, truth, modes))
        # Only an error below all before counts, so that of equal ones the fewest modes are kept.
        if fixed or errors[-1] < min(errors[:-1], default=np.inf):
            best = (n, modes)
        if fixed:
            continue
        if len(errors) > 3 and errors[-1] > errors[-2] > errors[-3] > errors[-4]:
            break
        # Twice in a row, for one error alone may be chance.
        if rival and n > 2 and _behind(errors[-2:], rival.errors_of(n - 1, n)):
            break
    assert best is not None
    substitute(X, missing, best[1])
    return Sweep(errors, *best, first)


def _behind(errors: Sequence[float], rival: Sequence[float]) -> bool:
    """Whether each of two errors is clearly larger than the rival's."""
    if not len(errors) == len(rival) == 2:
        return False
    return all(own > CLEARLY * other for own, other in zip(errors, rival, strict=True))


def rmse_at(points: NDArray, truth: NDArray, modes: Modes) -> float:
    """Root mean square error of the truncated decomposition at flat positions of the matrix."""
    times, pixels = np.divmod(points, len(modes.U))
    squares = 0.0
    for start in range(0, len(points), POINTS):
        some = slice(start, start + POINTS)
        amplitudes = modes.V[times[some]].astype(np.float64) * modes.s
        estimate = np.einsum("ij,ij->i", amplitudes, modes.U[pixels[some]])
        squares += float(np.square(estimate - truth[some]).sum())
    return float(np.sqrt(squares / len(points)))


def with_error(
    modes: Modes, matrix: ObservationMatrix, overlap: float = 1.0, cv_error: float = 0.0
) -> LowRank:
    """Attach the error estimate of Beckers, Barth & Alvera-Azcárate (2006) to a decomposition.

    It is the error of an optimal interpolation with the covariance of the modes. With ``L = U
    diag(s) / sqrt(N)``, its rows ``L_p`` at the pixels present in an image and ``mu2`` the variance
    that the modes leave unexplained, the amplitudes have covariance ``C = mu2' (L_p^T L_p + mu2'
    I)^-1`` with ``mu2' = overlap * mu2``. The error variance of a pixel is ``L_i C L_i^T
    + mu2``: that of the modes, plus the variance they do not resolve, which their error map leaves
    out although it is part of the error at a withheld observation.

    Parameters
    ----------
    modes
        The reconstruction.
    matrix
        The packed field; only its observed values are used.
    overlap
        Number of neighbouring pixels that share one observation error, ``Lc²/(dx dy)``.
    cv_error
        Error at the withheld observations. ``mu2`` is at least its square: the residual of fitted
        observations vanishes as modes are added, that of withheld ones does not.
    """
    n = len(modes.V)
    # Amplitudes of unit mean square, for which the identity is the prior of their covariance.
    patterns = modes.U * (modes.s / np.sqrt(n)).astype(modes.U.dtype)
    amplitudes = modes.V * modes.V.dtype.type(np.sqrt(n))
    k = patterns.shape[1]
    normal = np.zeros((n, k * (k + 1) // 2))
    squares = 0.0
    for start in range(0, len(patterns), BLOCK):
        block = slice(start, start + BLOCK)
        observed = matrix.observed[:, block]
        normal += observed.astype(patterns.dtype) @ second_moments(patterns[block])
        residual = (amplitudes @ patterns[block].T - matrix.values[:, block]) * observed
        squares += float(np.vdot(residual, residual))
    fitted = squares / max(int(matrix.observed.sum()), 1)
    # Above zero, so that a field fitted perfectly can still be inverted.
    mu2 = max(fitted, cv_error**2, float(np.finfo(np.float32).tiny))
    noise = overlap * mu2
    covariance = noise * np.linalg.inv(unpack(normal, k) + noise * np.eye(k))
    return LowRank(patterns, amplitudes, covariance.astype(patterns.dtype), None, mu2)
