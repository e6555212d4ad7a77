# SPDX-License-Identifier: Apache-2.0
"""The fit of DINEOF: choose the number of modes by cross-validation, then fit all observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sstfill.methods.common.matrix import ObservationMatrix, sum_squares
from sstfill.methods.common.regression import regress, second_moments
from sstfill.methods.eof.iteration import (
    CLEARLY,
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
"""How many times as far as the decomposition implies missing values move.

Over-relaxation halves the iterations. The exact solver does without, as the reference program does.
"""
FEWER = 2
SAMPLE, SAMPLE_PER_IMAGE = 5000, 25
LEAST_SAMPLE, MOST_SAMPLE = 1_000_000, 8_000_000
"""Bounds of the sample that modes are counted on.

It has at least 5000 pixels, 25 pixels per image and a million values, at most eight million. On
m_20k_200 two million led to as many modes and the same filter, and to an RMSE 0.5 % less, in
almost twice the time.
"""
COARSER = 4
"""The first search on a sample starts from one on every so many of its pixels."""
LEAST_RIDGE = 1e-5
"""Keeps the regression solvable where a pixel has fewer observations than modes."""


class FittedModes(NamedTuple):
    """A fitted decomposition, and the record of its fit.

    Attributes
    ----------
    modes
        The modes kept.
    cv_errors, cv_error
        Error at the withheld points with `fewest` modes, one more, and so on, and with those kept.
    alpha
        Strength of the time filter, days squared.
    iterations
        Number of iterations of all fits together.
    total
        Sum of squares of the filled matrix.
    points
        Number of withheld points.
    fewest
        Least number of modes that was tried with this time filter.
    """

    modes: Modes
    cv_errors: list[float]
    cv_error: float
    alpha: float
    iterations: int
    total: float
    points: int
    fewest: int

    def diagnostics(self) -> dict[str, Any]:
        """Return the part of the record that is stored with the result."""
        return {
            "modes": len(self.modes.s),
            "cv_error": self.cv_error,
            "cv_errors": self.cv_errors,
            "cv_fewest_modes": self.fewest,
            "cv_points": self.points,
            "alpha": self.alpha,
            "iterations": self.iterations,
        }


class _Withheld(NamedTuple):
    """Flat positions of the withheld observations in the matrix, and their values."""

    points: NDArray
    truth: NDArray


class _Trial(NamedTuple):
    """The search for the number of modes with one time filter."""

    swept: Sweep
    alpha: float
    time_filter: sparse.csr_array
    iterations: int


@dataclass(frozen=True)
class DineofFit:
    """Options of the fit; see `sstfill.methods.Dineof`.

    `fewer` is how many modes fewer than the best time filter so far has the next one is tried with.
    """

    modes: int | Literal["auto"] = "auto"
    max_modes: int = 100
    alpha: float | Literal["auto"] = "auto"
    filter_iterations: int = 3
    tolerance: float = 1e-3
    max_iterations: int = 300
    exact: bool = False
    seed: int = 0
    fewer: int = FEWER

    def __call__(self, matrix: ObservationMatrix, points: NDArray, days: NDArray) -> FittedModes:
        """Fit `matrix`, whose gaps are filled in place.

        `points` are flat positions of the observations to withhold, `days` the times of the images.
        """
        X, deviation = matrix.values, matrix.deviation
        assert X.flags.c_contiguous and matrix.observed.flags.c_contiguous, (
            "flat positions need C order"
        )
        # Withheld points become gaps like any other, until the number of modes is known.
        withheld = _Withheld(points, X.ravel()[points])
        X.ravel()[points] = 0
        # In place, so that there is one mask of the size of the data, not two.
        missing = np.logical_not(matrix.observed, out=matrix.observed)
        missing.ravel()[points] = True
        trial, in_place = self._count(X, missing, withheld, days, deviation)
        n = trial.swept.best
        run = self._iteration(deviation)
        decompose = self._decompose(trial.time_filter)
        # The search has already converged on all pixels with these modes.
        if in_place:
            (cv_error,) = trial.swept.errors_of(n)
        else:
            start(X, missing, trial.swept)
            if isinstance(decompose, Warm):
                # Amplitudes are of images, so those of the sample start the fit of all pixels.
                decompose.subspace = trial.swept.modes.V
            modes = run.converge(X, missing, n, decompose)
            cv_error = rmse_at(points, withheld.truth, modes)
        X.ravel()[points] = withheld.truth
        missing.ravel()[points] = False
        # At least two steps: the first hardly changes the gaps, although observations have come
        # back.
        modes = run.converge(X, missing, n, decompose, at_least=2)
        np.logical_not(missing, out=matrix.observed)
        done = trial.iterations + run.done
        total = max(sum_squares(X), float(np.finfo(np.float32).tiny))
        errors, fewest = trial.swept.errors, trial.swept.first
        return FittedModes(modes, errors, cv_error, trial.alpha, done, total, len(points), fewest)

    def _count(
        self, X: NDArray, missing: NDArray, withheld: _Withheld, days: NDArray, deviation: float
    ) -> tuple[_Trial, bool]:
        """Search the number of modes with each time filter; return the best, and if `X` changed.

        A small matrix with one filter is searched in place, so that the work is not lost; else a
        sample of its pixels, or copies. The fast solver starts each filter from what the best one
        so far has filled, with about as many modes; the first one, on a sample, from a part of it.
        """
        n, m = X.shape
        size = max(SAMPLE, min(max(SAMPLE_PER_IMAGE * n, LEAST_SAMPLE // n), MOST_SAMPLE // n))
        # The reference program uses all pixels. A sample that is most of them saves nothing.
        sampled = not self.exact and m > 1.5 * size
        if self.alpha == "auto":
            shortest = np.diff(days).min()
            # Rounded, so that diagnostics show 0.03 and not 0.030000000000000002.
            alphas = [round(float(alpha * shortest**2), 12) for alpha in ALPHAS]
        else:
            alphas = [float(self.alpha)]
        in_place = not sampled and len(alphas) == 1
        if sampled:
            # Sorted, for `_at_pixels` searches in them.
            pixels = np.sort(np.random.default_rng(self.seed).choice(m, size, replace=False))
            X, missing, withheld = _at_pixels(pixels, X, missing, withheld)
        best: _Trial | None = None
        known: Sweep | None = None
        filled, errors = X, []
        if sampled:
            part = _at_pixels(np.arange(0, size, COARSER), X, missing, withheld)
            if part[-1].points.size:
                known = self._try(*part, days, alphas[0], deviation).swept
                filled = X.copy()
                start(filled, missing, known)
        for alpha in track(alphas, "DINEOF: counting modes", len(alphas)):
            # Each filter starts from the same filling, of which it gets a copy.
            own = X if in_place else filled.copy()
            rival = None if best is None else best.swept
            trial = self._try(
                own, missing, withheld, days, alpha, deviation, known=known, rival=rival
            )
            errors.append(self._error(trial))
            if best is None or errors[-1] < self._error(best):
                best = trial
                if not self.exact:
                    # The best filling so far is a better start for the next filter than none.
                    filled, known = own, trial.swept
            if len(errors) > 2 and errors[-1] > errors[-2] > errors[-3]:
                break  # a stronger filter would do worse still
        assert best is not None
        return best, in_place

    def _try(
        self,
        X: NDArray,
        missing: NDArray,
        withheld: _Withheld,
        days: NDArray,
        alpha: float,
        deviation: float,
        *,
        known: Sweep | None = None,
        rival: Sweep | None = None,
    ) -> _Trial:
        """Search the number of modes with one time filter; `X` is changed in place.

        It starts from the modes that are `known`, by which `X` is filled, and is given up where it
        is clearly behind a `rival`.
        """
        time_filter = diffusion_filter(days, alpha, self.filter_iterations)
        if self.modes == "auto":
            most = min(self.max_modes, most_modes(min(X.shape)))
        else:
            most = min(self.modes, *X.shape)
        run = self._iteration(deviation)
        decompose = self._decompose(time_filter)
        first = 1
        if known is not None and isinstance(decompose, Warm):
            # A stronger filter needs about as many modes, so the search does not start from one.
            first = max(1, known.best - self.fewer)
            decompose.subspace = known.modes.V
        fixed = self.modes != "auto"
        matrix = X, missing, withheld.points, withheld.truth
        swept = sweep(*matrix, most, decompose, run, fixed=fixed, rival=rival, first=first)
        enough = np.inf
        if rival is not None:
            enough = CLEARLY * min(rival.errors)
        # The least number that was tried did best: fewer may do better still, but not by so much
        # that a filter which is clearly behind would win.
        while swept.best == first > 1 and min(swept.errors) <= enough:
            first = max(1, first - self.fewer)
            swept = sweep(*matrix, most, decompose, run, fixed=fixed, rival=rival, first=first)
        return _Trial(swept, alpha, time_filter, run.done)

    def _error(self, trial: _Trial) -> float:
        errors = trial.swept.errors
        if self.modes == "auto":
            return min(errors)
        # With a fixed number of modes only the last was meant.
        return errors[-1]

    def _iteration(self, deviation: float) -> Iteration:
        relaxation = 1.0 if self.exact else RELAXATION
        return Iteration(deviation, self.tolerance, self.max_iterations, relaxation)

    def _decompose(self, time_filter: sparse.csr_array) -> Decompose:
        if self.exact:
            return Exact(time_filter)
        return Warm(time_filter, np.random.default_rng(self.seed))


def _at_pixels(
    pixels: NDArray, X: NDArray, missing: NDArray, withheld: _Withheld
) -> tuple[NDArray, NDArray, _Withheld]:
    """Take some pixels, in rising order, of a matrix, its mask and what is withheld of it."""
    time, pixel = np.divmod(withheld.points, X.shape[1])
    # Beyond the last pixel the search returns its end, which `minimum` takes back into bounds.
    at = np.searchsorted(pixels, pixel)
    inside = pixels[np.minimum(at, pixels.size - 1)] == pixel
    points = time[inside] * pixels.size + at[inside]
    some = _Withheld(points, withheld.truth[inside])
    return np.take(X, pixels, axis=1), np.take(missing, pixels, axis=1), some


def most_modes(images: int) -> int:
    """Largest number of modes to try, for so many images or, if these are fewer, pixels.

    Five fewer than images, as the reference program asks, or half of a short series.
    """
    return max(1, images - 5 if images > 10 else images // 2)


def start(X: NDArray, missing: NDArray, swept: Sweep) -> None:
    """Fill the gaps of `X` in place by a regression of each pixel on the amplitudes of a sample."""
    U, s, V = swept.modes
    (error,) = swept.errors_of(swept.best)
    # Noise over prior variance: a unit amplitude's pattern values have mean square ``s^2 /
    # len(U)``.
    ridge = error**2 * len(U) / np.maximum(s.astype(np.float64), 1e-12) ** 2
    ridge = np.maximum(ridge, LEAST_RIDGE)
    # In place and back again below: a second mask would be a quarter of the data.
    observed = np.logical_not(missing, out=missing)
    for part in regress(X, observed, V, second_moments(V), ridge, compiled=False):
        X[:, part.pixels] += (V @ part.patterns.T) * ~observed[:, part.pixels]
    np.logical_not(observed, out=missing)
