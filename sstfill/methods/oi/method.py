# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation: the Gaussian-process posterior of the anomaly about a background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import config
from sstfill.checks import check_choice, check_number
from sstfill.errors import OptionError
from sstfill.fields.patches import Box, Patch, PatchGrid, Shape, map_patches
from sstfill.fields.reading.dates import days_since_first, usual_step
from sstfill.fields.reading.positions import cell_km
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.common.threads import available_cores
from sstfill.methods.interpolation.background import FEW, Background, fit_background
from sstfill.methods.oi.covariance import farthest_steps, search_radius
from sstfill.methods.oi.covariance_fit import (
    START,
    FittedCovariance,
    Fixed,
    channels,
    fit_covariance,
)
from sstfill.methods.oi.geometry import Positions, positions
from sstfill.methods.oi.solver import Solver, per_day
from sstfill.methods.registry import register
from sstfill.nn.device import pick_device

CORE = (32, 64, 64)
"""Pixels of a patch that is interpolated at once: whole tiles. What a patch sees around it, and
must standardise, is of that order.
"""
BLOCK = (64, 256, 256)
"""Block of a lazy field that is filled at once, unless its chunks are of that order."""
CORE_OF_FEW = (32, 128, 128)
"""The same in few images, where more is seen around a patch."""
BACKGROUNDS = ("additive", "pixel")
"""Kinds of background that "auto" compares."""
KINDS = ("mean", "trend", "pixel", "additive")
"""All kinds of background."""


class Analysis(NamedTuple):
    """The result of an optimal interpolation: the filled field, the covariance, and a background
    for each variable.
    """

    found: xr.Dataset
    fitted: FittedCovariance
    backgrounds: list[Background]


@register
@dataclass(frozen=True, kw_only=True)
class Oi:
    """Fill by optimal interpolation in space and time, with scales fitted to clouds withheld from
    the series.

    Each gap pixel is the posterior mean of a Gaussian process about a background, given the
    observations around it in space and time that covary most with it (Gandin 1965; Bretherton,
    Davis & Fandry 1976, Deep-Sea Res. 23, equations 5 and 6). The error is that of a new
    observation there.

    Parameters
    ----------
    length_scale
        Scale of the covariance in space, km; or two, northward and eastward. "auto" fits it.
    time_scale
        Scale in time, days. "auto" fits it.
    noise
        Variance of the observation error as a fraction of that of the anomaly. "auto" fits it.
    covariance
        Shape of the correlation in space and in time: "exponential" (rough), "matern" (smoothness
        3/2), "gauss" (very smooth), or "two-scale", the sum of a large smooth and a small rough
        component. "auto" takes the better of "exponential" and "two-scale" under withheld clouds,
        or of "exponential" and "matern" where a scale is given.
    background
        The field that anomalies are taken from (also called the first guess): the "mean" of all, a
        "trend" (a plane), a mean for each "pixel", or "additive": that and a mean for each image,
        smoothed in time. "auto" takes the better of the last two under withheld clouds, and the
        trend for three images or fewer.
    flow
        Mean flow eastward and northward, m/s, with which anomalies drift (at the command line
        ``--flow=-0.2,0.1``).
    neighbours
        Number of observations used for the gaps in a tile of 4 x 4 pixels: those that covary most
        with one of its pixels; in three images or fewer an eighth of them from each quadrant around
        it, if there are.
    device
        Where the equations are solved: "cpu" (compiled), "cuda" (batches on a GPU, by torch), or
        "auto": a GPU if there is one. Scales are fitted on the CPU.
    seed
        Seed of the clouds withheld to fit the scales.

    Examples
    --------
    >>> Oi(length_scale=-5)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: length_scale=-5 must be a finite number, above 0
    """

    name: ClassVar[str] = "oi"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1

    length_scale: float | tuple[float, float] | Literal["auto"] = "auto"
    time_scale: float | Literal["auto"] = "auto"
    noise: float | Literal["auto"] = "auto"
    covariance: Literal["auto", "exponential", "matern", "gauss", "two-scale"] = "auto"
    background: Literal["auto", "mean", "trend", "pixel", "additive"] = "auto"
    flow: tuple[float, float] = (0.0, 0.0)
    neighbours: int = 80
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        for option in ("length_scale", "flow"):
            if isinstance(getattr(self, option), list):  # as JSON and TOML have them
                object.__setattr__(self, option, tuple(getattr(self, option)))
        lengths = (
            self.length_scale if isinstance(self.length_scale, tuple) else (self.length_scale,)
        )
        for option, values in (
            ("length_scale", lengths),
            ("time_scale", (self.time_scale,)),
            ("noise", (self.noise,)),
        ):
            for value in values:
                if value != "auto":
                    check_number(option, value, 0, above=True)
        if isinstance(self.length_scale, tuple) and (len(lengths) != 2 or "auto" in lengths):
            raise OptionError(
                f"length_scale={self.length_scale!r}; give one number in km, two (northward, "
                "eastward), or 'auto'"
            )
        check_choice("covariance", self.covariance, ("auto", *START))
        check_choice("background", self.background, ("auto", *KINDS))
        if not isinstance(self.flow, tuple) or len(self.flow) != 2:
            raise OptionError(
                f"flow={self.flow!r}; give two numbers in m/s, eastward and northward"
            )
        for speed in self.flow:
            check_number("flow", speed, -20, 20)
        check_number("neighbours", self.neighbours, 1, 1000, whole=True)
        check_choice("device", self.device, ("cpu", "cuda", "auto"))
        check_number("seed", self.seed, 0, whole=True)
        fixed_scale = self.length_scale != "auto" or self.time_scale != "auto"
        if self.covariance == "two-scale" and fixed_scale:
            raise OptionError(
                "covariance='two-scale' fits its scales; leave out length_scale and time_scale"
            )

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`); observed pixels come back as
        they are.
        """
        return self.analyse(obs, sea).found

    def reconstruct_at(
        self, obs: xr.DataArray, sea: xr.DataArray, wanted: xr.DataArray
    ) -> xr.Dataset:
        """Fill some of the gaps (see `sstfill.methods.base.EstimatesPart`): those tiles cost time
        in which a gap is wanted, and the fit.
        """
        return self._interpolated(self._fitted(obs, sea), obs, sea, wanted)

    def simulate(self, obs: xr.DataArray, sea: xr.DataArray, members: int) -> xr.Dataset:
        """Fill `obs`, and draw members (see `sstfill.methods.base.Simulates.simulate`).

        Draws are conditional simulations by residual substitution: see
        `sstfill.methods.oi.simulation`. Observed pixels are as observed in each. The draws are made
        on the CPU, whatever the `device`.
        """
        from sstfill.methods.oi import simulation  # SciPy's statistics take long to import

        check_number("members", members, 1, whole=True)
        solver = self._fitted(obs, sea)
        found = simulation.simulate(solver, obs, sea, members, solver.core)
        found["members"].attrs = solver.fitted.covariance.mean_scales()
        found.attrs = solver.fitted.summary()
        return found

    def fitted_to(self, obs: xr.DataArray, sea: xr.DataArray) -> OiOfKnownCovariance:
        """Fit covariance and kind of background (see `sstfill.methods.base.FitsOnce`)."""
        known = self._covariance(obs, sea)
        return OiOfKnownCovariance(**config.values(Oi, self), known=known)

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        """Fit to an archive larger than memory (see `sstfill.methods.registry.fit`)."""
        from sstfill.methods.oi.fitted import FittedOi

        return FittedOi.fit(self, archive, folder)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        """Read what `fit` wrote."""
        from sstfill.methods.oi.fitted import FittedOi

        return FittedOi.load(folder)

    def analyse(self, obs: xr.DataArray, sea: xr.DataArray) -> Analysis:
        """Fill `obs`, and return also the covariance and the backgrounds that were used."""
        solver = self._fitted(obs, sea)
        found = self._interpolated(solver, obs, sea, xr.ones_like(sea))
        return Analysis(found, solver.fitted, solver.backgrounds)

    def _interpolated(
        self, solver: PatchSolver, obs: xr.DataArray, sea: xr.DataArray, wanted: xr.DataArray
    ) -> xr.Dataset:
        """Fill the gaps that are `wanted`, dims of `obs` or `sea`, patch by patch."""
        found = map_patches(
            solver,
            _well_chunked(obs),
            sea,
            wanted,
            grid=PatchGrid(core=solver.core, halo=solver.halo),
            outputs={"mean": obs.dtype, "error": np.dtype(np.float32)},
            threads=available_cores() if solver.device == "cpu" else 1,
        )
        if obs.chunks:
            found = found.chunk(obs.chunksizes)
        return found.assign_attrs(solver.fitted.summary())

    def backgrounds(self, times: int) -> Sequence[str]:
        """Return the kinds of background to compare for a series of so many images."""
        if self.background != "auto":
            return [self.background]
        if times > FEW:
            return BACKGROUNDS
        return ["trend"]

    @property
    def fixed(self) -> Fixed:
        """The parameters that are not to be fitted."""
        length_scale = self.length_scale
        if not isinstance(length_scale, tuple):
            length_scale = (np.nan, np.nan) if length_scale == "auto" else (length_scale,) * 2
        return Fixed(
            length_scale=(float(length_scale[0]), float(length_scale[1])),
            time_scale=np.nan if self.time_scale == "auto" else float(self.time_scale),
            noise=np.nan if self.noise == "auto" else float(self.noise),
            flow=self.flow,
        )

    def _covariance(self, obs: xr.DataArray, sea: xr.DataArray) -> FittedCovariance:
        kinds = self.backgrounds(obs.sizes["time"])
        return fit_covariance(obs, sea, self.covariance, kinds, self.fixed, self.seed)

    def _fitted(self, obs: xr.DataArray, sea: xr.DataArray) -> PatchSolver:
        """Fit covariance and backgrounds; return what interpolates a patch by them."""
        fitted = self._covariance(obs, sea)
        backgrounds = [fit_background(one, sea, fitted.background) for one in channels(obs)]
        days = days_since_first(obs)
        # one search radius for all patches, or seams between them would show
        within = search_radius(
            fitted.covariance,
            cell_km(obs),
            usual_step(days),
            per_day(self.flow),
            farthest_steps(len(days)),
        )
        device = pick_device(self.device)
        return PatchSolver(self, fitted, backgrounds, positions(obs), days, within, device)


@dataclass(frozen=True, kw_only=True, eq=False)
class OiOfKnownCovariance(Oi):
    """Optimal interpolation by a covariance that was fitted before.

    Parameters
    ----------
    known
        The covariance, and the kind of background it belongs to.
    """

    known: FittedCovariance

    def _covariance(self, obs: xr.DataArray, sea: xr.DataArray) -> FittedCovariance:
        return self.known


def _well_chunked(obs: xr.DataArray) -> xr.DataArray:
    """Rechunk a lazy field to blocks of several patches: a patch on a border is solved in each
    block that it touches.
    """
    if not obs.chunks:
        return obs
    chunks = {}
    for dim, block, core in zip(obs.dims[-3:], BLOCK, CORE, strict=True):
        sizes = obs.chunksizes[dim]
        smallest = min(sizes[:-1], default=block)  # the last one is what is left over
        if max(sizes) > 2 * block or smallest < 2 * core:
            chunks[dim] = block
    return obs.chunk(chunks)


@dataclass(frozen=True)
class PatchSolver:
    """Interpolate one patch; pickled whole to the worker that does it."""

    method: Oi
    fitted: FittedCovariance
    backgrounds: list[Background]
    at: Positions
    days: NDArray[np.float64]
    within: tuple[int, int, int]
    device: str

    @property
    def core(self) -> Shape:
        """Pixels of a patch."""
        return CORE if len(self.days) > FEW else CORE_OF_FEW

    @property
    def halo(self) -> Shape:
        """Farthest steps from a pixel to what its tile sees."""
        time, y, x = self.within
        side = self.fitted.side
        return time, y + side - 1, x + side - 1

    def __call__(
        self, obs: NDArray, sea: NDArray[np.bool_], wanted: NDArray[np.bool_], patch: Patch
    ) -> tuple[NDArray, NDArray]:
        """Mean and error of the pixels inside a patch, ``([variable,] time, y, x)``; NaN in the
        gaps that are not `wanted`.
        """
        values = obs.reshape(-1, *obs.shape[-3:])
        targets = self.targets(values, sea, patch)
        targets = targets[np.broadcast_to(wanted, values.shape)[tuple(targets.T)]]
        solve = self.solver(patch.seen)
        mean, variance = solve(self.standardised(values, sea, patch.seen), targets)
        filled, error = self.restored(values, targets, mean, variance, patch)
        shape = (*obs.shape[:-3], *patch.shape)
        return filled.reshape(shape), error.reshape(shape)

    def targets(self, values: NDArray, sea: NDArray[np.bool_], patch: Patch) -> NDArray[np.int32]:
        """Channel, time, y, x in what is seen, of the gaps inside a patch, ``(n, 4)``."""
        _, rows, columns = patch.seen
        inside = (slice(None), *patch.within)
        wanted = np.zeros(values.shape, bool)
        wanted[inside] = (sea & self.at.known[rows, columns] & np.isnan(values))[inside]
        return np.ascontiguousarray(np.argwhere(wanted), np.int32)

    def solver(self, seen: Box) -> Solver:
        """Return the solver of the patch that sees a box."""
        times, rows, columns = seen
        return Solver(
            at=self.at.part(rows, columns),
            days=self.days[times],
            covariance=self.fitted.covariance,
            flow=self.method.flow,
            cross=self.fitted.cross,
            neighbours=self.method.neighbours,
            within=self.within,
            first=(rows.start, columns.start),
            side=self.fitted.side,
            spread=len(self.days) <= FEW,
            device=self.device,
        )

    def standardised(
        self, values: NDArray, sea: NDArray[np.bool_], box: Box
    ) -> NDArray[np.float32]:
        """Anomalies over their scatter in a box, ``(channel, time, y, x)``: NaN in the gaps, on
        land and where the grid has no position.
        """
        times, rows, columns = box
        known = sea & self.at.known[rows, columns]
        standard = np.empty(values.shape, np.float32)
        for channel, one in enumerate(self.backgrounds):
            pixel, scatter = one.pixel[rows, columns], one.scatter[rows, columns]
            for t, mean in enumerate(one.image[times]):
                anomaly = (values[channel, t] - (mean + pixel)) / scatter
                standard[channel, t] = np.where(known, anomaly, np.nan)
        return standard

    def restored(
        self,
        values: NDArray,
        targets: NDArray[np.int32],
        mean: NDArray[np.float64],
        variance: NDArray[np.float64],
        patch: Patch,
    ) -> tuple[NDArray, NDArray]:
        """Field and its error inside a patch from posterior mean and variance at the targets."""
        noise = self.fitted.covariance.noise
        level, scatter = self.background(targets, patch.seen)
        filled = values[:, *patch.within].copy()
        error = np.empty(filled.shape)
        for channel, one in enumerate(self.backgrounds):
            observed = np.isfinite(filled[channel])
            known = np.sqrt(noise) * one.scatter[patch.inside[1:]]
            error[channel] = np.where(observed, known, np.nan)
        first = [0, *(part.start for part in patch.within)]
        where = tuple((targets - np.array(first)).T)
        filled[where] = level + scatter * mean
        error[where] = scatter * np.sqrt(variance + noise)
        return filled, error

    def background(self, targets: NDArray[np.int32], box: Box) -> tuple[NDArray, NDArray]:
        """Background, and scatter about it, at targets in a box, ``(target,)`` each."""
        channel, t, y, x = targets.T
        image = np.stack([one.image[box[0]] for one in self.backgrounds])
        pixel = np.stack([one.pixel[box[1:]] for one in self.backgrounds])
        scatter = np.stack([one.scatter[box[1:]] for one in self.backgrounds])
        return image[channel, t] + pixel[channel, y, x], scatter[channel, y, x]
