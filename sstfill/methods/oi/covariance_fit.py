# SPDX-License-Identifier: Apache-2.0
"""Fit first guess and covariance of optimal interpolation on clouds withheld from the series
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import minimize

from sstfill.errors import InputError
from sstfill.fields import gaps, grid
from sstfill.methods.common.threads import in_threads
from sstfill.methods.interpolation.background import Background, TimePart, background, time_part
from sstfill.methods.oi.covariance import Component, Covariance, reach
from sstfill.methods.oi.geometry import Positions, positions
from sstfill.methods.oi.solver import Solver, per_day, usual_step
from sstfill.methods.oi.subsample import excerpt

SHARE = 0.2
"""Part of the observed pixels that are withheld: more than for a score, for the sake of more
different clouds.
"""
DRAWS = 6
"""How often clouds are withheld: the fit is pooled over draws, for a few clouds are not typical of
all.
"""
TARGETS = 200
"""Withheld pixels of each draw on which a covariance is judged."""
SHARES = 4
"""Parts in which they are judged at once: fixed, or the sums would depend on the number of cores.
"""
NEIGHBOURS = 30
ROUNDS = 2
"""How often the observations for each target are gathered anew, as the scales change."""
ITERATIONS = 25
"""Of the minimiser in each round, at most."""
WIDE = 6.0
"""How far the logarithms of the parameters may go from where they start."""
PRIOR = 0.002
"""Weight of the prior that the logarithms of the parameters are where they start."""
LEAST_NOISE = {"exponential": 1e-5, "matern": 2e-4, "gauss": 1e-3}
"""Of the variance: below, the equations lose their digits."""
START = {
    "exponential": (Component("exponential", 0.9, (12.0, 12.0), 4.0),),
    "matern": (Component("matern", 0.9, (8.0, 8.0), 3.0),),
    "gauss": (Component("gauss", 0.9, (8.0, 8.0), 3.0),),
    "two-scale": (
        Component("matern", 0.6, (20.0, 20.0), 4.0),
        Component("exponential", 0.35, (6.0, 6.0), 1.0),
    ),
}
"""Where the fit of each covariance starts: lengths in pixels, time scales in steps."""
NOISE = 0.03
Judge = Callable[[Covariance], tuple[float, NDArray[np.float64]]]


@dataclass(frozen=True, kw_only=True)
class FittedCovariance:
    """First guess by channel, covariance of the standardised anomalies, and the log score that
    chose them.
    """

    kind: str
    covariance: Covariance
    cross: NDArray[np.float64]
    log_score: float


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What the user has decided: NaN where the fit is to."""

    length: tuple[float, float] = (np.nan, np.nan)
    time_scale: float = np.nan
    noise: float = np.nan
    flow: tuple[float, float] = (0.0, 0.0)


def channels(obs: xr.DataArray) -> list[xr.DataArray]:
    """Split a field into its variables, if it has several."""
    if "variable" not in obs.dims:
        return [obs]
    return [obs.isel(variable=i, drop=True) for i in range(obs.sizes["variable"])]


def standardised(
    obs: xr.DataArray, guesses: list[Background], sea: NDArray[np.bool_], at: Positions
) -> NDArray[np.float32]:
    """Anomalies over their scatter, ``(channel, time, y, x)``, NaN in the gaps, on land and where
    no position is.
    """
    known = sea & at.known
    out = np.empty((len(guesses), *obs.shape[-3:]), np.float32)
    for i, (one, guess) in enumerate(zip(channels(obs), guesses, strict=True)):
        for t, image in enumerate(one.values):
            out[i, t] = np.where(
                known, (image - guess.pixel - guess.image[t]) / guess.scatter, np.nan
            )
    return out


def withheld(obs: xr.DataArray, sea: xr.DataArray, seed: int) -> NDArray[np.bool_]:
    """Observed pixels to judge a covariance by: under clouds of other dates; of its own turned
    about if there are none.

    Where that hides nothing either, scattered pixels.
    """
    transplant = gaps.transplant_together if "variable" in obs.dims else gaps.transplant_clouds
    for turn in (None, (-2, -1), (-2,), (-1,)):
        try:
            masks = None if turn is None else _turned(obs, turn)
            return transplant(obs, sea, share=SHARE, seed=seed, clouds=masks).values
        except InputError:
            continue
    observed = obs.notnull().values & sea.values
    drawn: NDArray[np.bool_] = np.random.default_rng(seed).random(observed.shape) < SHARE
    return observed & drawn


def _turned(obs: xr.DataArray, axes: tuple[int, ...]) -> xr.DataArray:
    """Gaps of the series, mirrored."""
    return obs.isnull().copy(data=np.flip(obs.isnull().values, axes))


@dataclass(frozen=True, kw_only=True)
class WithheldTrial:
    """Standardised anomalies with some withheld, and what those are."""

    kind: str
    values: NDArray[np.float32]
    targets: NDArray[np.int32]
    truth: NDArray[np.float64]
    log_scatter: float
    cross: NDArray[np.float64]
    at: Positions
    days: NDArray[np.float64]
    cell: tuple[float, float]

    @classmethod
    def of(
        cls,
        obs: xr.DataArray,
        sea: xr.DataArray,
        kind: str,
        seed: int,
        hidden: NDArray[np.bool_] | None = None,
        given: Sequence[TimePart | None] | None = None,
    ) -> WithheldTrial:
        """Withhold some of an excerpt (`hidden`, if that is known), and take the rest about its
        first guess.
        """
        parts = channels(obs)
        hidden = (withheld(obs, sea, seed) if hidden is None else hidden).reshape(
            len(parts), *obs.shape[-3:]
        )
        seen = [one.where(~hide) for one, hide in zip(parts, hidden, strict=True)]
        left = [one if one.notnull().any() else full for one, full in zip(seen, parts, strict=True)]
        guesses = [
            background(one, sea, kind, g)
            for one, g in zip(left, given or [None] * len(left), strict=True)
        ]
        at, wet = positions(obs), sea.values.astype(bool)
        values = standardised(obs, guesses, wet, at)
        rng = np.random.default_rng(seed)
        targets = np.argwhere(hidden & np.isfinite(values)).astype(np.int32)
        targets = targets[np.sort(rng.permutation(len(targets))[:TARGETS])]
        truth = values[tuple(targets.T)].astype(np.float64)
        values[hidden] = np.nan
        scatter = [guesses[c].scatter[y, x] for c, _, y, x in targets]
        return cls(
            kind=kind,
            values=values,
            targets=targets,
            truth=truth,
            cross=_cross(values),
            at=at,
            log_scatter=float(np.log(scatter).mean()) if scatter else 0.0,
            days=grid.days(obs),
            cell=grid.cell_km(obs),
        )

    def judge(self, first: Covariance, flow: tuple[float, float] = (0.0, 0.0)) -> Judge:
        """Mean negative log score of a covariance and its gradient, with the observations that
        `first` would use.
        """
        from sstfill.methods.oi import likelihood, solver_kernels

        within = reach(first, self.cell, usual_step(self.days), per_day(flow))
        engine = Solver(
            at=self.at,
            days=self.days,
            covariance=first,
            flow=flow,
            cross=self.cross,
            neighbours=NEIGHBOURS,
            within=within,
        )
        space, order = engine.space(), engine.order(self.targets)
        shares = np.array_split(np.arange(len(self.targets)), SHARES)
        jobs = [
            (
                self.targets[i],
                self.truth[i],
                *solver_kernels.gather(self.values, self.targets[i], *order, NEIGHBOURS),
            )
            for i in shares
        ]

        def score(covariance: Covariance) -> tuple[float, NDArray[np.float64]]:
            kernel = (*covariance.arrays(), self.cross, covariance.slopes())
            scored = in_threads(
                lambda job: likelihood.log_scores(self.values, *job, *space, *kernel), jobs
            )
            total, by_part, by_noise = (sum(column) for column in zip(*scored, strict=True))
            return total / len(self.truth), np.append(by_part.ravel(), by_noise) / len(self.truth)

        return score


def fitted(
    draws: Sequence[WithheldTrial],
    parts: tuple[Component, ...],
    noise: float,
    fixed: Fixed,
    rounds: int = ROUNDS,
) -> FittedCovariance:
    """Fit variances, scales and noise from a start, by the log score of the values withheld in
    several draws.
    """
    layout = ParameterLayout(parts, fixed)
    x = start = layout.packed(parts, noise)
    score = np.inf
    for _ in range(rounds):
        judges = [draw.judge(layout.covariance(x), fixed.flow) for draw in draws]

        def loss(
            v: NDArray[np.float64], judges: list[Judge] = judges
        ) -> tuple[float, NDArray[np.float64]]:
            covariance = layout.covariance(v)
            values, slopes = zip(*(judge(covariance) for judge in judges), strict=True)
            slope = layout.gathered(np.mean(slopes, axis=0), v) + 2 * PRIOR * (v - start) / v.size
            return float(np.mean(values)) + PRIOR * np.square(v - start).mean(), slope

        found = minimize(
            loss,
            x,
            jac=True,
            method="L-BFGS-B",
            bounds=[(v - WIDE, v + WIDE) for v in start],
            options={"maxiter": ITERATIONS, "ftol": 1e-5},
        )
        x, score = found.x, float(found.fun)
    log_scatter = float(np.mean([draw.log_scatter for draw in draws]))
    return FittedCovariance(
        kind=draws[0].kind,
        covariance=layout.covariance(x),
        cross=draws[0].cross,
        log_score=score + log_scatter,
    )


def _cross(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Correlation between the channels where both are seen, made a correlation matrix."""
    n = len(values)
    cross = np.eye(n)
    for i in range(n):
        for j in range(i):
            both = np.isfinite(values[i]) & np.isfinite(values[j])
            if both.sum() > 10:
                a, b = values[i][both].astype(np.float64), values[j][both].astype(np.float64)
                cross[i, j] = cross[j, i] = np.clip(
                    (a @ b) / max(np.sqrt((a @ a) * (b @ b)), 1e-30), -0.999, 0.999
                )
    roots, vectors = np.linalg.eigh(cross)
    fair = (vectors * np.maximum(roots, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(fair))
    return fair / np.outer(scale, scale)


@dataclass(frozen=True)
class ParameterLayout:
    """Which logarithms are fitted: those of `numbers` that are not fixed, and one ratio of lengths
    for all parts.
    """

    parts: tuple[Component, ...]
    fixed: Fixed

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which of each part's variance, meridional, zonal and time scale, and last of the noise,
        are fitted.
        """
        sized, timed = np.isfinite(self.fixed.length[0]), np.isfinite(self.fixed.time_scale)
        part = [True, False, not sized, not timed]
        return np.array([*part * len(self.parts), not np.isfinite(self.fixed.noise)])

    @property
    def _sized(self) -> bool:
        return bool(np.isfinite(self.fixed.length[0]))

    def packed(self, parts: tuple[Component, ...], noise: float) -> NDArray[np.float64]:
        """Logarithms of what is free of these parts."""
        numbers = np.array(
            [v for p in parts for v in (p.variance, *p.length, p.time_scale)] + [noise]
        )
        ratio = [] if self._sized else [parts[0].length[0] / parts[0].length[1]]
        return np.log(np.append(numbers[self.free], ratio))

    def gathered(
        self, gradient: NDArray[np.float64], x: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Gradient by `x` of one by the logarithms of all numbers, part by part, noise last."""
        by_part = gradient[:-1].reshape(-1, 4).copy()
        by_ratio = by_part[:, 1].sum()
        by_part[:, 2] += by_part[:, 1]  # the meridional length is the zonal one times the ratio
        whole = np.append(by_part.ravel(), gradient[-1])
        return np.append(whole[self.free], [] if self._sized else [by_ratio])

    def covariance(self, x: NDArray[np.float64]) -> Covariance:
        """Covariance of such logarithms."""
        ratio = 1.0 if self._sized else float(np.exp(x[-1]))
        numbers = np.full(self.free.size, np.nan)
        numbers[self.free] = np.exp(x if self._sized else x[:-1])
        parts = []
        for part, (variance, _, zonal, lasting) in zip(
            self.parts, numbers[:-1].reshape(-1, 4), strict=True
        ):
            length = self.fixed.length if self._sized else (float(zonal * ratio), float(zonal))
            lasting = lasting if np.isnan(self.fixed.time_scale) else self.fixed.time_scale
            parts.append(Component(part.shape, float(variance), length, float(lasting)))
        total = sum(p.variance for p in parts)
        noise = float(numbers[-1]) if np.isnan(self.fixed.noise) else self.fixed.noise * total
        least = max(LEAST_NOISE[p.shape] for p in parts) * total
        return Covariance(parts=tuple(parts), noise=max(noise, least))


def candidates(
    shapes: str, cell: tuple[float, float], step: float, fixed: Fixed
) -> Iterator[tuple[Component, ...]]:
    """Starts of the fits to be tried, in km and days; where a length is given there is one scale
    only.
    """
    one = np.isfinite(fixed.length).all() or np.isfinite(fixed.time_scale)
    names = {"auto": ["exponential", "matern"] if one else ["exponential", "two-scale"]}.get(
        shapes, [shapes]
    )
    size = float(np.sqrt(cell[0] * cell[1]))
    for name in names:
        yield tuple(
            p._replace(
                length=(p.length[0] * size, p.length[1] * size), time_scale=p.time_scale * step
            )
            for p in START[name]
        )


def fit(
    obs: xr.DataArray,
    sea: xr.DataArray,
    shapes: str,
    kinds: Sequence[str],
    fixed: Fixed,
    seed: int,
    known: Mapping[str, TimePart] | None = None,
) -> FittedCovariance:
    """Compare the first guesses of `kinds` with a simple covariance; fit the others about the best,
    return the best.

    Parameters
    ----------
    shapes
        ``"auto"`` or a key of `START`.
    known
        Time parts of the first guesses by kind, of a single variable, where they need not be worked
        out.
    """
    numbered = obs.assign_coords(step=("time", np.arange(obs.sizes["time"])))
    part, wet = excerpt(numbered, sea)
    whole = (
        part.shape == obs.shape
    )  # else what all pixels have in common is that of the whole, as in the fill
    steps = part["step"].values
    given = {
        kind: None if whole else _common(obs, sea, kind, steps, (known or {}).get(kind))
        for kind in kinds
    }
    part = part.drop_vars("step")
    cell = grid.cell_km(part)
    step = usual_step(grid.days(part))
    starts = list(candidates(shapes, cell, step, fixed))
    seeds = np.random.SeedSequence(seed).generate_state(DRAWS)
    masks = {int(s): withheld(part, wet, int(s)) for s in seeds}
    trials = [
        [WithheldTrial.of(part, wet, kind, s, mask, given[kind]) for s, mask in masks.items()]
        for kind in kinds
    ]
    trials = [[draw for draw in draws if len(draw.targets)] for draws in trials]
    if not trials[0]:
        return _unfitted(part, kinds[0], starts[0], fixed)
    noise = NOISE if np.isnan(fixed.noise) else fixed.noise
    draws = trials[0]
    if len(trials) > 1:  # a first look suffices to compare first guesses
        draws = min(
            trials, key=lambda some: fitted(some[::2], starts[0], noise, fixed, rounds=1).log_score
        )
    most = max(map(len, starts))  # a sum of two parts holds what either may be alone
    finals = [fitted(draws, start, noise, fixed) for start in starts if len(start) == most]
    return min(finals, key=lambda one: one.log_score)


def _common(
    obs: xr.DataArray,
    sea: xr.DataArray,
    kind: str,
    steps: NDArray[np.int64],
    known: TimePart | None,
) -> list[TimePart | None]:
    """Time parts of the first guesses of a whole series, at some of its times."""
    found = [time_part(one, sea, kind) for one in channels(obs)] if known is None else [known]
    return [TimePart(level, image[steps]) for level, image in found]


def _unfitted(
    obs: xr.DataArray, kind: str, start: tuple[Component, ...], fixed: Fixed
) -> FittedCovariance:
    """Where nothing can be withheld: what the fit would have started from."""
    layout, n = ParameterLayout(start, fixed), len(channels(obs))
    covariance = layout.covariance(layout.packed(start, NOISE))
    return FittedCovariance(kind=kind, covariance=covariance, cross=np.eye(n), log_score=np.nan)
