# SPDX-License-Identifier: Apache-2.0
"""How DINEOF finds its modes: count them by cross-validation, then fit them to all that was
observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sstfill.methods.common.matrix import ObservationMatrix, sum_squares
from sstfill.methods.common.regression import regress, second_moments
from sstfill.methods.eof.iteration import (
    Decompose,
    Exact,
    Iteration,
    Modes,
    Sweep,
    Warm,
    rmse_at,
    sweep,
)
from sstfill.methods.eof.timefilter import diffusion_filter
from sstfill.progress import track

ALPHAS = (0.0, 0.01, 0.03, 0.1, 0.3)
"""Filter strengths that ``alpha="auto"`` tries, in units of the smallest time step squared."""
RELAXATION = 1.7
SAMPLE, SAMPLE_PER_IMAGE = 5000, 25
LEAST_SAMPLE, MOST_SAMPLE = 2_000_000, 8_000_000
"""Modes are counted on so many pixels, so many per image, or so many values at least; and so many
values at most.
"""
LEAST_RIDGE = 1e-5
"""Keeps the regression of a pixel with fewer observations than modes solvable, however small the
error.
"""


class FittedModes(NamedTuple):
    """The modes kept, and how they were found."""

    modes: Modes
    cv_errors: list[float]
    cv_error: float
    alpha: float
    iterations: int
    total: float
    points: int

    def diagnostics(self) -> dict[str, Any]:
        """Return what is worth recording beside the result."""
        return {
            "modes": len(self.modes.s),
            "cv_error": self.cv_error,
            "cv_errors": self.cv_errors,
            "cv_points": self.points,
            "alpha": self.alpha,
            "iterations": self.iterations,
        }


class _Trial(NamedTuple):
    swept: Sweep
    alpha: float
    filter: sparse.csr_array
    iterations: int


@dataclass(frozen=True)
class DineofFit:
    """Options of the fit; see `sstfill.methods.Dineof`."""

    modes: int | Literal["auto"] = "auto"
    max_modes: int = 100
    alpha: float | Literal["auto"] = "auto"
    filter_iterations: int = 3
    tolerance: float = 1e-3
    max_iterations: int = 300
    exact: bool = False
    seed: int = 0

    def __call__(self, matrix: ObservationMatrix, points: NDArray, days: NDArray) -> FittedModes:
        """Fit `matrix` (its gaps are filled in place), with the values at flat positions `points`
        set aside.
        """
        X, deviation = matrix.values, matrix.deviation
        assert X.flags.c_contiguous and matrix.observed.flags.c_contiguous, (
            "flat positions need C order"
        )
        truth = X.ravel()[points]
        X.ravel()[points] = 0
        missing = np.logical_not(
            matrix.observed, out=matrix.observed
        )  # in place: one mask, not two
        missing.ravel()[points] = True
        trial, in_place = self._count(X, missing, points, truth, days, deviation)
        run, decompose = self._run(deviation), self._decompose(trial.filter)
        n = trial.swept.best if self.modes == "auto" else min(self.modes, len(trial.swept.errors))
        if in_place:
            cv_error = trial.swept.errors[n - 1]
        else:
            start(X, missing, trial.swept)
            if isinstance(decompose, Warm):
                decompose.subspace = trial.swept.modes.V
            cv_error = rmse_at(points, truth, run.converge(X, missing, n, decompose))
        X.ravel()[points] = truth
        missing.ravel()[points] = False
        modes = run.converge(X, missing, n, decompose, at_least=2)
        np.logical_not(missing, out=matrix.observed)
        done = trial.iterations + run.done
        total = max(sum_squares(X), float(np.finfo(np.float32).tiny))
        return FittedModes(
            modes, trial.swept.errors, cv_error, trial.alpha, done, total, len(points)
        )

    def _count(
        self,
        X: NDArray,
        missing: NDArray,
        points: NDArray,
        truth: NDArray,
        days: NDArray,
        deviation: float,
    ) -> tuple[_Trial, bool]:
        """Sweep the mode counts: on `X` itself for one filter and a small matrix, else on copies."""
        n, m = X.shape
        size = max(SAMPLE, min(max(SAMPLE_PER_IMAGE * n, LEAST_SAMPLE // n), MOST_SAMPLE // n))
        sampled = not self.exact and m > 1.5 * size
        alphas = self._alphas(days)
        in_place = not sampled and len(alphas) == 1
        pixels = np.arange(m)
        if sampled:
            pixels = np.sort(np.random.default_rng(self.seed).choice(m, size, replace=False))
            time, pixel = np.divmod(points, m)
            at = np.searchsorted(pixels, pixel)
            inside = pixels[np.minimum(at, size - 1)] == pixel
            points, truth = time[inside] * size + at[inside], truth[inside]
        if not in_place:
            X, missing = (np.take(a, pixels, axis=1) for a in (X, missing))
        trials: list[_Trial] = []
        for alpha in track(alphas, "DINEOF: counting modes", len(alphas)):
            trials.append(
                self._sweep(
                    X if len(alphas) == 1 else X.copy(),
                    missing,
                    points,
                    truth,
                    days,
                    alpha,
                    deviation,
                )
            )
            errors = [self._error(trial) for trial in trials[-3:]]
            if len(errors) == 3 and errors[2] > errors[1] > errors[0]:
                break  # a stronger filter only does worse
        return min(trials, key=self._error), in_place

    def _sweep(
        self,
        X: NDArray,
        missing: NDArray,
        points: NDArray,
        truth: NDArray,
        days: NDArray,
        alpha: float,
        deviation: float,
    ) -> _Trial:
        time_filter = diffusion_filter(days, alpha, self.filter_iterations)
        run = self._run(deviation)
        most = (
            min(self.max_modes, most_modes(min(X.shape)))
            if self.modes == "auto"
            else min(self.modes, *X.shape)
        )
        swept = sweep(
            X,
            missing,
            points,
            truth,
            most,
            self._decompose(time_filter),
            run,
            fixed=self.modes != "auto",
        )
        return _Trial(swept, alpha, time_filter, run.done)

    def _error(self, trial: _Trial) -> float:
        return trial.swept.errors[-1] if self.modes != "auto" else min(trial.swept.errors)

    def _alphas(self, days: NDArray) -> list[float]:
        if self.alpha != "auto":
            return [float(self.alpha)]
        return [round(float(a * np.diff(days).min() ** 2), 12) for a in ALPHAS]

    def _run(self, deviation: float) -> Iteration:
        return Iteration(
            deviation, self.tolerance, self.max_iterations, 1.0 if self.exact else RELAXATION
        )

    def _decompose(self, time_filter: sparse.csr_array) -> Decompose:
        return (
            Exact(time_filter)
            if self.exact
            else Warm(time_filter, np.random.default_rng(self.seed))
        )


def most_modes(images: int) -> int:
    """Largest count worth trying: five fewer than images (as the reference program asks), half of a
    short series.

    (Of the pixels, if there are fewer of them.)
    """
    return max(1, images - 5 if images > 10 else images // 2)


def start(X: NDArray, missing: NDArray, swept: Sweep) -> None:
    """Fill the gaps of `X` in place by regressing each pixel on the amplitudes found from a sample
    of pixels.
    """
    _, s, V = swept.modes
    sampled = len(swept.modes.U)
    ridge = (
        swept.errors[swept.best - 1] ** 2 * sampled / np.maximum(s.astype(np.float64), 1e-12) ** 2
    )
    ridge = np.maximum(ridge, LEAST_RIDGE)
    observed = np.logical_not(missing, out=missing)
    for part in regress(X, observed, V, second_moments(V), ridge):
        X[:, part.pixels] += (V @ part.patterns.T) * ~observed[:, part.pixels]
    np.logical_not(observed, out=missing)
