# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation in space and time: the Gaussian-process posterior of the anomaly about a
first guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.checks import check_choice, check_number
from sstfill.errors import OptionError
from sstfill.fields import grid
from sstfill.fields.patches import Patch, PatchGrid, map_patches
from sstfill.methods.base import register
from sstfill.methods.common.threads import available_cores
from sstfill.methods.interpolation.background import Background, background
from sstfill.methods.oi.covariance import reach
from sstfill.methods.oi.covariance_fit import START, FittedCovariance, Fixed, channels, fit
from sstfill.methods.oi.geometry import Positions, positions
from sstfill.methods.oi.solver import Solver, per_day, usual_step
from sstfill.nn.device import pick_device

CORE = (16, 32, 32)
"""Pixels of a patch that is interpolated at once."""
BLOCK = (64, 256, 256)
"""Of a lazy field, what is worked on at once, unless its chunks are of that order."""
KINDS = ("additive", "pixel")
FEW = 3
"""Images up to which a mean of each pixel tells nothing."""


class Analysis(NamedTuple):
    """What optimal interpolation finds: the filled field, the covariance, and a first guess for
    each variable.
    """

    found: xr.Dataset
    fitted: FittedCovariance
    guesses: list[Background]


@register
@dataclass(frozen=True, kw_only=True)
class Oi:
    """Fill by optimal interpolation in space and time, with scales fitted to clouds withheld from
    the series.

    Each gap pixel is the posterior mean of a Gaussian process about a first guess, given the
    observations around it in space and time that tell most about it (Gandin 1965; Bretherton, Davis
    & Fandry 1976, Deep-Sea Res. 23, equations 5 and 6). The error is that of a new observation
    there.

    Parameters
    ----------
    length
        Scale of the covariance in space, km; or two, northward and eastward. "auto" fits it.
    time_scale
        Scale in time, days. "auto" fits it.
    noise
        Variance of the observation error as a share of that of the anomaly. "auto" fits it.
    covariance
        Shape of the correlation in space and in time: "exponential" (rough), "matern" (smoothness
        3/2), "gauss" (very smooth), or "two-scale", the sum of a large smooth and a small rough
        part. "auto" takes the better of "exponential" and "two-scale" under withheld clouds (of
        "exponential" and "matern" where a scale is given).
    first_guess
        "mean" of all, a mean for each "pixel", or "additive": that and a mean for each image,
        smoothed in time. "auto" takes the better of the last two under withheld clouds, and the
        first for three images or less.
    flow
        Mean flow eastward and northward, m/s, with which anomalies drift (at the command line
        ``--flow=-0.2,0.1``).
    neighbours
        Number of observations used for a pixel.
    device
        Where the equations are solved: "cpu" (compiled), "cuda" (batches on a GPU, by torch), or
        "auto": a GPU if there is one. Scales are fitted on the CPU.
    seed
        Seed of the clouds withheld to fit the scales.

    Examples
    --------
    >>> Oi(length=-5)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: length=-5 must be a finite number, above 0
    """

    name: ClassVar[str] = "oi"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1

    length: float | tuple[float, float] | Literal["auto"] = "auto"
    time_scale: float | Literal["auto"] = "auto"
    noise: float | Literal["auto"] = "auto"
    covariance: Literal["auto", "exponential", "matern", "gauss", "two-scale"] = "auto"
    first_guess: Literal["auto", "mean", "pixel", "additive"] = "auto"
    flow: tuple[float, float] = (0.0, 0.0)
    neighbours: int = 50
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        lengths = self.length if isinstance(self.length, tuple | list) else (self.length,)
        for option, values in (
            ("length", lengths),
            ("time_scale", (self.time_scale,)),
            ("noise", (self.noise,)),
        ):
            for value in values:
                if value != "auto":
                    check_number(option, value, 0, above=True)
        if isinstance(self.length, tuple | list) and (len(lengths) != 2 or "auto" in lengths):
            raise OptionError(
                f"length={self.length!r}; give one number in km, two (northward, eastward), or 'auto'"
            )
        check_choice("covariance", self.covariance, ("auto", *START))
        check_choice("first_guess", self.first_guess, ("auto", "mean", *KINDS[::-1]))
        if not isinstance(self.flow, tuple | list) or len(self.flow) != 2:
            raise OptionError(
                f"flow={self.flow!r}; give two numbers in m/s, eastward and northward"
            )
        for part in self.flow:
            check_number("flow", part, -20, 20)
        object.__setattr__(self, "flow", tuple(self.flow))
        if isinstance(self.length, list):
            object.__setattr__(self, "length", tuple(self.length))
        check_number("neighbours", self.neighbours, 1, 1000, whole=True)
        check_choice("device", self.device, ("cpu", "cuda", "auto"))
        check_number("seed", self.seed, 0, whole=True)
        if self.covariance == "two-scale" and (self.length != "auto" or self.time_scale != "auto"):
            raise OptionError(
                "covariance='two-scale' fits its scales; leave out length and time_scale"
            )

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`); observed pixels come back as
        they are.
        """
        return self.analyse(obs, sea).found

    def analyse(self, obs: xr.DataArray, sea: xr.DataArray) -> Analysis:
        """Fill `obs`, and tell with which covariance and about which first guess."""
        usual: Sequence[str] = KINDS if obs.sizes["time"] > FEW else ["mean"]
        kinds = usual if self.first_guess == "auto" else [self.first_guess]
        fitted = fit(obs, sea, self.covariance, kinds, self._fixed(), self.seed)
        guesses = [background(one, sea, fitted.kind) for one in channels(obs)]
        found = self._mapped(obs, sea, fitted, guesses)
        found.attrs = {
            "first_guess": fitted.kind,
            "components": fitted.covariance.described(),
            "noise": fitted.covariance.noise / fitted.covariance.variance,
            "log_score": fitted.log_score,
        }
        return Analysis(found, fitted, guesses)

    def _fixed(self) -> Fixed:
        def number(value: Any) -> float:
            return np.nan if value == "auto" else float(value)

        both = self.length if isinstance(self.length, tuple | list) else (self.length, self.length)
        return Fixed(
            length=(number(both[0]), number(both[1])),
            time_scale=number(self.time_scale),
            noise=number(self.noise),
            flow=self.flow,
        )

    def _mapped(
        self,
        obs: xr.DataArray,
        sea: xr.DataArray,
        fitted: FittedCovariance,
        guesses: list[Background],
    ) -> xr.Dataset:
        days = grid.days(obs)
        within = reach(fitted.covariance, grid.cell_km(obs), usual_step(days), per_day(self.flow))
        patches = PatchGrid(core=CORE, halo=within)
        device = pick_device(self.device)
        job = _PatchSolver(self, fitted, guesses, positions(obs), days, within, device)
        dtypes = {"mean": obs.dtype, "error": np.dtype(np.float32)}
        threads = available_cores() if device == "cpu" else 1
        found = map_patches(
            job, _well_chunked(obs), sea, grid=patches, outputs=dtypes, threads=threads
        )
        return found.chunk(obs.chunksizes) if obs.chunks else found


def _well_chunked(obs: xr.DataArray) -> xr.DataArray:
    """Lay a lazy field out in blocks that hold several patches each: one on a border is worked out
    for each block.
    """
    if not obs.chunks:
        return obs
    dims = obs.dims[-3:]
    sizes = zip(dims, BLOCK, CORE, strict=True)
    good = {
        d: max(obs.chunksizes[d]) <= 2 * n and min(obs.chunksizes[d][:-1], default=n) >= 2 * c
        for d, n, c in sizes
    }
    return obs.chunk({d: n for d, n in zip(dims, BLOCK, strict=True) if not good[d]})


@dataclass(frozen=True)
class _PatchSolver:
    """What is done to a patch; sent whole to where it is done."""

    method: Oi
    fitted: FittedCovariance
    guesses: list[Background]
    at: Positions
    days: NDArray[np.float64]
    within: tuple[int, int, int]
    device: str

    def __call__(
        self, obs: NDArray, sea: NDArray[np.bool_], patch: Patch
    ) -> tuple[NDArray, NDArray]:
        """Mean and error of the pixels inside a patch, ``([variable,] time, y, x)``."""
        values = obs.reshape(-1, *obs.shape[-3:])
        times, *space = patch.seen
        known = sea & self.at.known[tuple(space)]
        level, scatter = self._guessed(patch.seen)
        standard = np.where(known, (values - level) / scatter, np.nan).astype(np.float32)
        inside = (slice(None), *patch.within)
        wanted = np.zeros(values.shape, bool)
        wanted[inside] = (known & np.isnan(values))[inside]
        targets = np.argwhere(wanted).astype(np.int32)
        engine = Solver(
            at=Positions(*(a[tuple(space)] for a in self.at)),
            days=self.days[times],
            covariance=self.fitted.covariance,
            flow=self.method.flow,
            cross=self.fitted.cross,
            neighbours=self.method.neighbours,
            within=self.within,
            device=self.device,
        )
        mean, variance = engine(standard, targets)
        where = tuple(targets.T)
        noise = self.fitted.covariance.noise
        filled, error = (
            values.copy(),
            np.where(np.isfinite(values), np.sqrt(noise) * scatter, np.nan),
        )
        filled[where] = level[where] + scatter[where] * mean
        error[where] = scatter[where] * np.sqrt(variance + noise)
        shape = (*obs.shape[:-3], *patch.shape)
        return filled[inside].reshape(shape), error[inside].reshape(shape)

    def _guessed(self, seen: tuple[slice, slice, slice]) -> tuple[NDArray, NDArray]:
        """First guess and scatter about it in a box, ``(channel, time, y, x)``."""
        times, *space = seen
        level = [
            g.image[times, np.newaxis, np.newaxis] + g.pixel[tuple(space)] for g in self.guesses
        ]
        n = len(range(*times.indices(len(self.days))))
        scatter = [
            np.broadcast_to(g.scatter[tuple(space)], (n, *g.scatter[tuple(space)].shape))
            for g in self.guesses
        ]
        return np.stack(level), np.stack(scatter)
