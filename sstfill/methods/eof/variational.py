# SPDX-License-Identifier: Apache-2.0
"""Variational Bayes for EOFs of gappy data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.methods.common.regression import regress, second_moments, unpack, upper
from sstfill.methods.eof.kalman_smoother import fitted_time_scale, smooth
from sstfill.progress import track

PRUNE = 1e-3
"""A mode is dropped when its variance falls below this fraction of the noise."""
LEAST_NOISE = 1e-6
"""Least variance of the noise, as a fraction of the data's: the rounding of single precision."""
LEAST = 1e-24
"""Least variance assumed of the data, so that a constant field can be fitted too."""


class Evidence(NamedTuple):
    """What the images say of their amplitudes, before these are scaled and modes are dropped.

    Attributes
    ----------
    normal
        Precision of each image alone times the noise variance, packed, ``(times, k(k+1)/2)``.
    time_scale
        E-folding time that the amplitudes were smoothed by, days, ``(k,)``.
    size, keep
        By what each amplitude was then divided, and whether it was kept, ``(k,)``.
    """

    normal: NDArray
    time_scale: NDArray
    size: NDArray
    keep: NDArray[np.bool_]


class Posterior(NamedTuple):
    """Posterior of the amplitudes, and the estimated variances.

    Attributes
    ----------
    amplitudes, covariance
        Mean ``(times, k)`` and covariance ``(times, k, k)``, scaled to unit mean square each.
    prior
        Variance of each mode's pattern values, ``(k,)``.
    noise
        Variance of an observation about the modes.
    time_scale
        E-folding time of each amplitude, days, ``(k,)``.
    iterations
        Number of iterations.
    evidence
        By which the amplitudes were smoothed last; None before the first iteration.
    """

    amplitudes: NDArray
    covariance: NDArray
    prior: NDArray
    noise: float
    time_scale: NDArray
    iterations: int
    evidence: Evidence | None = None


@dataclass(frozen=True)
class VariationalFit:
    """Estimate a `Posterior` by coordinate ascent.

    The model is ``x_it = u_i . c_t + e_it``, ``u_ik ~ N(0, prior_k)``, ``e ~ N(0, noise)`` and each
    ``c_k`` a red-noise process of unit variance. Modes that the data do not support are pruned
    (automatic relevance determination).

    References
    ----------
    Bishop (1999): Variational principal components. ICANN 99, 509-514. Ilin & Raiko (2010):
    Practical approaches to principal component analysis in the presence of missing values. Journal
    of Machine Learning Research 11, 1957-2000.
    """

    modes: int
    tolerance: float = 1e-3
    max_iterations: int = 40
    seed: int = 0

    def __call__(
        self, X: NDArray, observed: NDArray, days: NDArray, known: Posterior | None = None
    ) -> Posterior:
        """Fit anomalies `X` ``(times, pixels)``, zero where not `observed`, at times `days`; go on
        from what is `known` of their amplitudes by an earlier fit.
        """
        count = int(observed.sum())
        # A sum of squares of many pixels exceeds the digits of single precision.
        power = max(float(np.square(X, dtype=np.float64).sum()), LEAST * count)
        state = known
        # Modes are first separated: time scales of mixed modes would mislead the smoother.
        separated, settled = 0, 1
        if state is None:
            state = self._start(X, power / count, days)
            separated, settled = 3, 6
        previous = np.inf
        for i in track(range(self.max_iterations), "Bayesian EOFs", self.max_iterations):
            state = _ascend(X, observed, days, state, power, count, learn_time=i >= separated)
            if i >= settled and abs(previous - state.noise) < self.tolerance * state.noise:
                break
            previous = state.noise
        return state._replace(iterations=i + 1)

    def _start(self, X: NDArray, variance: float, days: NDArray) -> Posterior:
        """Start from the leading modes of `X`, its gaps filled with zeros, by block power steps."""
        k = min(self.modes, *X.shape)
        rng = np.random.default_rng(self.seed)
        Q = np.linalg.qr(rng.standard_normal((len(X), k)).astype(X.dtype))[0]
        for _ in range(4):
            Q = np.linalg.qr(X @ (X.T @ Q))[0]
        # Largest first, as EOFs are usually numbered.
        order = np.argsort(-np.linalg.norm(X.T @ Q, axis=0))
        amplitudes = Q[:, order] * X.dtype.type(np.sqrt(len(X)))
        # Some uncertainty from the start, or amplitudes would be taken as exact in the first round.
        spread = np.tile(0.1 * np.eye(k, dtype=X.dtype), (len(X), 1, 1))
        return Posterior(
            amplitudes,
            spread,
            np.full(k, variance / k),
            # Modes are thought to explain most of the variance; the first rounds correct it.
            0.1 * variance,
            np.full(k, 5 * np.median(np.diff(days))),
            0,
        )


def _ascend(
    X: NDArray,
    observed: NDArray,
    days: NDArray,
    state: Posterior,
    power: float,
    count: int,
    *,
    learn_time: bool,
) -> Posterior:
    """One round: update the patterns, the noise, the amplitudes, the time scales and the priors."""
    k, dtype = state.amplitudes.shape[1], X.dtype
    rows, columns = upper(k)
    # Of a packed symmetric matrix the elements off the diagonal count twice.
    twice = np.where(rows == columns, 1, 2).astype(dtype)
    moments = second_moments(state.amplitudes, state.covariance)
    normal = np.zeros((len(X), len(rows)))
    right = np.zeros((len(X), k))
    # ``E[(x - u c)^2]``, added up without forming the residual: squares, less twice x u c, plus (u
    # c)^2.
    residual = power
    pattern_power = np.zeros(k)
    for part in regress(X, observed, state.amplitudes, moments, state.noise / state.prior):
        u = part.patterns
        products = second_moments(u) + dtype.type(state.noise) * part.inverse
        normal += observed[:, part.pixels].astype(dtype) @ products
        right += X[:, part.pixels] @ u
        residual += float((products * part.normal).sum(0, dtype=np.float64) @ twice)
        residual -= 2 * float(np.vdot(u, part.right))
        pattern_power += products[:, rows == columns].sum(0, dtype=np.float64)
    # Differences of large sums may round to below zero where the modes explain everything.
    noise = max(residual, LEAST_NOISE * power) / count
    smoothed = smooth(unpack(normal, k) / noise, right / noise, days, state.time_scale)
    time_scale = state.time_scale
    if learn_time:
        time_scale = fitted_time_scale(smoothed, days)
    # Amplitudes are kept at unit mean square; their size moves to the patterns and so to the prior.
    spread = np.diagonal(smoothed.covariance, axis1=1, axis2=2)
    size = np.sqrt((smoothed.mean**2).mean(0) + spread.mean(0))
    prior = pattern_power / X.shape[1] * size**2
    # Before modes are separated, a weak one may still grow, and is kept.
    keep = prior > (PRUNE * noise if learn_time else 0)
    # At least one stays, even in pure noise.
    keep |= prior == prior.max()
    covariance = (smoothed.covariance / size / size[:, np.newaxis])[:, keep][:, :, keep]
    return Posterior(
        (smoothed.mean / size)[:, keep].astype(dtype),
        covariance.astype(dtype),
        prior[keep],
        noise,
        time_scale[keep],
        state.iterations,
        Evidence(normal, state.time_scale, size, keep),
    )
