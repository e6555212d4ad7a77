# SPDX-License-Identifier: Apache-2.0
"""Fit background and covariance of optimal interpolation on clouds withheld from the series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.fields.reading.dates import days_since_first, usual_step
from sstfill.fields.reading.positions import cell_km
from sstfill.methods.common.threads import in_threads
from sstfill.methods.interpolation.background import (
    FEW,
    Background,
    TimePart,
    fit_background,
    fit_time_part,
)
from sstfill.methods.oi.covariance import Component, Covariance, farthest_steps, search_radius
from sstfill.methods.oi.geometry import Positions, positions
from sstfill.methods.oi.solver import SIDE, Solver, per_day, tile_side
from sstfill.methods.oi.subsample import excerpt
from sstfill.validation.withholding.runs import withheld_runs

FRACTION = 0.2
"""Fraction of the observed pixels to withhold: more than for a score, to meet more clouds."""
FRACTION_IN_FEW = 0.4
"""The same in few images, where the gaps to fill are whole regions."""
PARTS = 4
"""Parts in which scores of withheld pixels are summed: other parts would round otherwise."""
WIDE = 6.0
"""How far the logarithms of the parameters may go from where they start."""
PRIOR = 0.002
"""Weight of the prior that the logarithms of the parameters are where they start."""
LEAST_NOISE = {"exponential": 1e-5, "matern": 2e-4, "gauss": 1e-3}
"""Least noise as a fraction of the variance: below, the equations lose their digits."""
START = {
    "exponential": (Component("exponential", 0.9, (12.0, 12.0), 4.0),),
    "matern": (Component("matern", 0.9, (8.0, 8.0), 3.0),),
    "gauss": (Component("gauss", 0.9, (8.0, 8.0), 3.0),),
    "two-scale": (
        Component("matern", 0.6, (20.0, 20.0), 4.0),
        Component("exponential", 0.35, (6.0, 6.0), 1.0),
    ),
}
"""Where the fit of each covariance starts: length scales in pixels, time scales in steps."""
NOISE = 0.03
"""Where the fit of the noise starts, as a fraction of the variance."""
LogScore = Callable[[Covariance], tuple[float, NDArray[np.float64]]]
"""Mean negative log score of a covariance, and its gradient."""


@dataclass(frozen=True, kw_only=True)
class FitEffort:
    """How much work a fit does.

    Attributes
    ----------
    draws
        Of withheld clouds, over which the fit is pooled: a few clouds are not typical of all.
    targets
        Withheld pixels of each draw on which a covariance is scored.
    neighbours
        Observations around each of them; the cost of a score grows with the cube of their number.
    rounds
        Of the fit; each looks for the neighbours of the targets again, since scales change.
    iterations
        Of the minimiser in each round, at most.
    """

    draws: int = 6
    targets: int = 200
    neighbours: int = 30
    rounds: int = 2
    iterations: int = 25


EFFORT = FitEffort()
"""Of a fit that is not told another."""


@dataclass(frozen=True, kw_only=True)
class FittedCovariance:
    """A fitted covariance.

    Attributes
    ----------
    background
        Kind of the background: ``"mean"``, ``"trend"``, ``"pixel"`` or ``"additive"``.
    covariance
        Of the standardised anomalies.
    cross
        Correlation between the channels, ``(channel, channel)``.
    log_score
        Mean negative log score of withheld observations, by which this fit was chosen; NaN where
        none could be withheld.
    side
        Of the tiles, pixels; archives keep it beside the fit.
    """

    background: str
    covariance: Covariance
    cross: NDArray[np.float64]
    log_score: float
    side: int = SIDE

    def summary(self) -> dict[str, Any]:
        """Describe the fit by plain values, for the attributes of a result."""
        return {
            "background": self.background,
            "components": self.covariance.summary(),
            "noise": self.covariance.noise / self.covariance.variance,
            "log_score": self.log_score,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        covariance = {
            "components": [list(component) for component in self.covariance.components],
            "noise": self.covariance.noise,
        }
        return {
            "background": self.background,
            "covariance": covariance,
            "cross": self.cross.tolist(),
            "log_score": None if np.isnan(self.log_score) else self.log_score,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> FittedCovariance:
        """Build it from what `to_dict` returned."""
        components = []
        for shape, variance, (ly, lx), time_scale in state["covariance"]["components"]:
            components.append(Component(shape, variance, (float(ly), float(lx)), time_scale))
        noise, log_score = state["covariance"]["noise"], state["log_score"]
        return cls(
            background=state["background"],
            covariance=Covariance(components=tuple(components), noise=noise),
            cross=np.array(state["cross"]),
            log_score=np.nan if log_score is None else log_score,
        )


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Parameters that the user has set; NaN leaves one to the fit."""

    length_scale: tuple[float, float] = (np.nan, np.nan)
    time_scale: float = np.nan
    noise: float = np.nan
    flow: tuple[float, float] = (0.0, 0.0)


def channels(obs: xr.DataArray) -> list[xr.DataArray]:
    """Split a field into its variables, if it has several."""
    if "variable" not in obs.dims:
        return [obs]
    return [obs.isel(variable=i, drop=True) for i in range(obs.sizes["variable"])]


def standardised(
    obs: xr.DataArray, backgrounds: list[Background], sea: NDArray[np.bool_], at: Positions
) -> NDArray[np.float32]:
    """Return anomalies over their scatter, ``(channel, time, y, x)``: NaN in the gaps, on land and
    where the grid has no position.
    """
    known = sea & at.known
    out = np.empty((len(backgrounds), *obs.shape[-3:]), np.float32)
    for c, (one, about) in enumerate(zip(channels(obs), backgrounds, strict=True)):
        for t, image in enumerate(one.values):
            anomaly = image - about.pixel - about.image[t]
            out[c, t] = np.where(known, anomaly / about.scatter, np.nan)
    return out


def withheld(obs: xr.DataArray, sea: xr.DataArray, seed: int) -> NDArray[np.bool_]:
    """Choose observed pixels on which to score a covariance.

    One half is withheld in runs of dates, as the gaps lie, the other under clouds of other dates:
    by runs alone a covariance is told well at long lags only, and by clouds alone at short ones. In
    few images random masks hide whole regions. If there are no gaps, pixels are scattered.
    """
    few = obs.sizes["time"] <= FEW
    hidden = np.zeros(obs.shape, bool)
    try:
        fraction = FRACTION_IN_FEW if few else FRACTION / 2
        hidden |= withheld_runs(obs, sea, fraction=fraction, seed=seed).values
        if not few:
            together = "variable" in obs.dims
            transplant = gaps.transplant_together if together else gaps.transplant_clouds
            seen = obs.where(~hidden)
            hidden |= transplant(seen, sea, fraction=FRACTION / 2, seed=seed).values
    except InputError:
        if not hidden.any():
            observed = obs.notnull().values & sea.values
            return observed & (np.random.default_rng(seed).random(observed.shape) < FRACTION)
    return hidden


@dataclass(frozen=True, kw_only=True)
class WithheldTrial:
    """Standardised anomalies of which some are withheld, and the values of those.

    Attributes
    ----------
    background
        Its kind.
    values
        ``(channel, time, y, x)``, NaN in the gaps and where withheld.
    targets
        Channel, time, y, x of withheld observations, ``(n, 4)``.
    truth
        Their values, ``(n,)``.
    log_scatter
        Mean logarithm of the scatter there: it makes log scores of backgrounds comparable.
    cross
        Correlation between the channels.
    at, days
        Positions of the pixels and days of the images.
    cell
        Size of a cell along y and x, km.
    """

    background: str
    values: NDArray[np.float32]
    targets: NDArray[np.int32]
    truth: NDArray[np.float64]
    log_scatter: float
    cross: NDArray[np.float64]
    at: Positions
    days: NDArray[np.float64]
    cell: tuple[float, float]

    @classmethod
    def draw(
        cls,
        obs: xr.DataArray,
        sea: xr.DataArray,
        kind: str,
        seed: int,
        hidden: NDArray[np.bool_] | None = None,
        time_parts: Sequence[TimePart] | None = None,
        most: int = EFFORT.targets,
    ) -> WithheldTrial:
        """Withhold some observations of an excerpt, and take the rest about its background.

        Parameters
        ----------
        obs, sea
            The excerpt.
        kind
            Of the background.
        seed
            Of what is withheld, and of the targets among it.
        hidden
            The observations to withhold, where they are known.
        time_parts
            Of the background of each channel, where they are known.
        most
            Targets.
        """
        parts = channels(obs)
        if hidden is None:
            hidden = withheld(obs, sea, seed)
        hidden = hidden.reshape(len(parts), *obs.shape[-3:])
        backgrounds = []
        for c, part in enumerate(parts):
            shown = part.where(~hidden[c])
            if not shown.notnull().any():  # then the background must come from what is withheld
                shown = part
            known = None
            if time_parts is not None:
                known = time_parts[c]
            backgrounds.append(fit_background(shown, sea, kind, known))
        at = positions(obs)
        values = standardised(obs, backgrounds, sea.values.astype(bool), at)
        rng = np.random.default_rng(seed)
        # `argwhere` lays out its transpose, for which each kernel would be compiled once more
        targets = np.ascontiguousarray(np.argwhere(hidden & np.isfinite(values)), np.int32)
        targets = targets[np.sort(rng.permutation(len(targets))[:most])]
        truth = values[tuple(targets.T)].astype(np.float64)
        values[hidden] = np.nan
        scatter = [backgrounds[c].scatter[y, x] for c, _, y, x in targets]
        return cls(
            background=kind,
            values=values,
            targets=targets,
            truth=truth,
            cross=_correlation(values),
            at=at,
            log_scatter=float(np.log(scatter).mean()) if scatter else 0.0,
            days=days_since_first(obs),
            cell=cell_km(obs),
        )

    def score(
        self,
        first: Covariance,
        flow: tuple[float, float] = (0.0, 0.0),
        neighbours: int = EFFORT.neighbours,
    ) -> LogScore:
        """Return the function that scores a covariance by the withheld values.

        The neighbours of each target are those that `first` ranks highest, so that the score is a
        smooth function of the parameters.
        """
        from sstfill.methods.oi import likelihood, solver_kernels  # Numba takes long to import

        step, farthest = usual_step(self.days), farthest_steps(len(self.days))
        solver = Solver(
            at=self.at,
            days=self.days,
            covariance=first,
            flow=flow,
            cross=self.cross,
            neighbours=neighbours,
            within=search_radius(first, self.cell, step, per_day(flow), farthest),
            spread=len(self.days) <= FEW,
            side=1,
        )
        space = solver.space()
        parts = []
        for part in np.array_split(np.arange(len(self.targets)), PARTS):
            targets = self.targets[part]
            parts.append((targets, self.truth[part], solver.tiles(self.values, targets)))

        def score(covariance: Covariance) -> tuple[float, NDArray[np.float64]]:
            kernel = solver_kernels.Kernel(*covariance.arrays(), self.cross)
            scored = []
            for part in parts:
                scored.append(likelihood.log_scores(self.values, *part, space, kernel))
            totals, by_component, by_noise = zip(*scored, strict=True)
            n = len(self.truth)
            gradient = np.append(sum(by_component).ravel(), sum(by_noise))
            return sum(totals) / n, gradient / n

        return score


def fit_parameters(
    draws: Sequence[WithheldTrial],
    start: tuple[Component, ...],
    noise: float,
    fixed: Fixed,
    effort: FitEffort = EFFORT,
) -> FittedCovariance:
    """Fit variances, scales and noise from a start, by the log score of the values withheld in
    several draws.
    """
    from scipy.optimize import minimize  # SciPy's optimisers take long to import

    layout = ParameterLayout(start, fixed)
    x = first = layout.pack(start, noise)
    log_score = np.inf
    for _ in range(effort.rounds):
        scores = []
        for draw in draws:
            scores.append(draw.score(layout.covariance(x), fixed.flow, effort.neighbours))

        def loss(
            x: NDArray[np.float64], scores: list[LogScore] = scores
        ) -> tuple[float, NDArray[np.float64]]:
            covariance = layout.covariance(x)
            scored = in_threads(lambda score: score(covariance), scores)
            values, gradients = zip(*scored, strict=True)
            gradient = layout.gradient(np.mean(gradients, axis=0))
            gradient = gradient + 2 * PRIOR * (x - first) / x.size
            return float(np.mean(values)) + PRIOR * np.square(x - first).mean(), gradient

        found = minimize(
            loss,
            x,
            jac=True,
            method="L-BFGS-B",
            bounds=[(v - WIDE, v + WIDE) for v in first],
            options={"maxiter": effort.iterations, "ftol": 1e-5},
        )
        x, log_score = found.x, float(found.fun)
    log_scatter = float(np.mean([draw.log_scatter for draw in draws]))
    return FittedCovariance(
        background=draws[0].background,
        covariance=layout.covariance(x),
        cross=draws[0].cross,
        log_score=log_score + log_scatter,
    )


def _correlation(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Correlation between the channels where both are observed, made positive definite."""
    n = len(values)
    cross = np.eye(n)
    for i in range(n):
        for j in range(i):
            both = np.isfinite(values[i]) & np.isfinite(values[j])
            if both.sum() > 10:
                a, b = values[i][both].astype(np.float64), values[j][both].astype(np.float64)
                r = (a @ b) / max(np.sqrt((a @ a) * (b @ b)), 1e-30)
                cross[i, j] = cross[j, i] = np.clip(r, -0.999, 0.999)
    roots, vectors = np.linalg.eigh(cross)
    positive = (vectors * np.maximum(roots, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(positive))
    return positive / np.outer(scale, scale)


@dataclass(frozen=True)
class ParameterLayout:
    """Which parameters are fitted, as logarithms in one vector.

    Of each component variance, zonal length scale and time scale, then the noise, as far as `fixed`
    leaves them free; and last the ratio of the meridional to the zonal length scale, the same for
    all components, unless length scales are fixed.
    """

    components: tuple[Component, ...]
    fixed: Fixed

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which of each component's variance, meridional, zonal and time scale, and of the noise,
        have an entry of their own in the vector.
        """
        free_time = np.isnan(self.fixed.time_scale)
        component = [True, False, self.free_length, free_time]
        return np.array([*component * len(self.components), np.isnan(self.fixed.noise)])

    @property
    def free_length(self) -> bool:
        """Whether length scales are fitted."""
        return bool(np.isnan(self.fixed.length_scale[0]))

    def pack(self, components: tuple[Component, ...], noise: float) -> NDArray[np.float64]:
        """Return the vector of the free parameters of these components."""
        numbers: list[float] = []
        for component in components:
            numbers += [component.variance, *component.length_scale, component.time_scale]
        free = np.array([*numbers, noise])[self.free]
        if self.free_length:
            meridional, zonal = components[0].length_scale
            free = np.append(free, meridional / zonal)
        return np.log(free)

    def gradient(self, by_number: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the gradient by the vector from the one by the logarithms of all numbers."""
        by_component = by_number[:-1].reshape(-1, 4).copy()
        by_ratio = by_component[:, 1].sum()
        # the meridional length scale is the zonal one times the ratio
        by_component[:, 2] += by_component[:, 1]
        free = np.append(by_component.ravel(), by_number[-1])[self.free]
        if self.free_length:
            return np.append(free, by_ratio)
        return free

    def covariance(self, x: NDArray[np.float64]) -> Covariance:
        """Build the covariance of a vector."""
        ratio = 1.0
        if self.free_length:
            ratio = float(np.exp(x[-1]))
        numbers = np.full(self.free.size, np.nan)
        numbers[self.free] = np.exp(x[:-1] if self.free_length else x)
        components = []
        for component, (variance, _, zonal, time_scale) in zip(
            self.components, numbers[:-1].reshape(-1, 4), strict=True
        ):
            length_scale = self.fixed.length_scale
            if self.free_length:
                length_scale = (float(zonal * ratio), float(zonal))
            if not np.isnan(self.fixed.time_scale):
                time_scale = self.fixed.time_scale
            components.append(
                Component(component.shape, float(variance), length_scale, float(time_scale))
            )
        total = sum(component.variance for component in components)
        noise = float(numbers[-1])
        if not np.isnan(self.fixed.noise):
            noise = self.fixed.noise * total
        least = max(LEAST_NOISE[component.shape] for component in components) * total
        return Covariance(components=tuple(components), noise=max(noise, least))


def starts(
    covariance: str, cell: tuple[float, float], step: float, fixed: Fixed
) -> list[tuple[Component, ...]]:
    """Return the starts of the fits to be tried, in km and days.

    Where a scale is fixed, only covariances of one scale are tried.
    """
    names = [covariance]
    if covariance == "auto":
        one_scale = np.isfinite(fixed.length_scale).all() or np.isfinite(fixed.time_scale)
        names = ["exponential", "matern"] if one_scale else ["exponential", "two-scale"]
    pixel = float(np.sqrt(cell[0] * cell[1]))
    found = []
    for name in names:
        components = []
        for shape, variance, (ly, lx), time_scale in START[name]:
            components.append(
                Component(shape, variance, (ly * pixel, lx * pixel), time_scale * step)
            )
        found.append(tuple(components))
    return found


def fit_covariance(
    obs: xr.DataArray,
    sea: xr.DataArray,
    covariance: str,
    kinds: Sequence[str],
    fixed: Fixed,
    seed: int,
    time_parts: Mapping[str, TimePart] | None = None,
    effort: FitEffort | None = None,
) -> FittedCovariance:
    """Choose a background by a quick fit of a simple covariance, then fit the covariances to
    anomalies from it, and return the best.

    Parameters
    ----------
    obs, sea
        The series, of which an excerpt is used.
    covariance
        ``"auto"`` or a key of `START`.
    kinds
        Of backgrounds to compare.
    fixed
        Parameters that are not fitted.
    seed
        Of the withheld clouds.
    time_parts
        Of the backgrounds by kind, of a single variable, where they are known.
    effort
        By default `EFFORT`.
    """
    effort = effort or EFFORT
    numbered = obs.assign_coords(step=("time", np.arange(obs.sizes["time"])))
    part, part_sea = excerpt(numbered, sea)
    steps = part["step"].values
    part = part.drop_vars("step")
    side = tile_side(part, part_sea)
    cell, step = cell_km(part), usual_step(days_since_first(part))
    candidates = starts(covariance, cell, step, fixed)
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(effort.draws)]
    masks = [withheld(part, part_sea, s) for s in seeds]
    known: dict[str, list[TimePart] | None] = dict.fromkeys(kinds)
    # the background of the fill is fitted to the whole, so that of an excerpt must be, too
    if part.shape != obs.shape:
        for kind in kinds:
            whole = (time_parts or {}).get(kind)
            every = [whole] if whole else [fit_time_part(one, sea, kind) for one in channels(obs)]
            known[kind] = [TimePart(level, image[steps]) for level, image in every]

    def drawn(kind: str, some: slice) -> list[WithheldTrial]:
        trials = []
        for own, mask in zip(seeds[some], masks[some], strict=True):
            trial = WithheldTrial.draw(part, part_sea, kind, own, mask, known[kind], effort.targets)
            if len(trial.targets):
                trials.append(trial)
        return trials

    noise = NOISE if np.isnan(fixed.noise) else fixed.noise
    kind, draws = kinds[0], drawn(kinds[0], slice(0, None, 2))
    if len(kinds) > 1 and draws:
        # half of the draws, and a covariance of one scale, tell which background is better
        best = np.inf
        for candidate in kinds:
            quick = draws if candidate == kinds[0] else drawn(candidate, slice(0, None, 2))
            once = replace(effort, rounds=1)
            log_score = fit_parameters(quick, candidates[0], noise, fixed, once).log_score
            if log_score < best:
                best, kind, draws = log_score, candidate, quick
    draws = draws + drawn(kind, slice(1, None, 2))
    if not draws:
        # nothing can be withheld: the start of the fit stands
        layout = ParameterLayout(candidates[0], fixed)
        return FittedCovariance(
            background=kinds[0],
            covariance=layout.covariance(layout.pack(candidates[0], NOISE)),
            cross=np.eye(len(channels(part))),
            log_score=np.nan,
            side=side,
        )
    # a sum of two components includes each of them alone
    most = max(map(len, candidates))
    finals = []
    for start in candidates:
        if len(start) == most:
            finals.append(fit_parameters(draws, start, noise, fixed, effort))
    return replace(min(finals, key=lambda one: one.log_score), side=side)
