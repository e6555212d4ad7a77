# SPDX-License-Identifier: Apache-2.0
"""First guesses of the compact network: three cheap fills of a series, and what the network sees of
them.

Optimal interpolation is the guess that is corrected, in units of its error. Where EOFs (`BayesEof`)
and the interpolation in time disagree with it, and how far a pixel is from data, tells the network
in which direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields import gaps, grid
from sstfill.fields.patches import Patch
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.interpolation.background import Background
from sstfill.methods.interpolation.interpolate import Interpolate
from sstfill.methods.oi.covariance import Covariance
from sstfill.methods.oi.method import Oi
from sstfill.methods.oi.solver import usual_step

Arrays = Mapping[str, NDArray]
CHANNELS = (
    "observed",
    "sea",
    "anomaly",
    "oi_error",
    "eof",
    "eof_error",
    "interpolated",
    "before",
    "after",
    "distance",
    "time_correlation",
    "space_correlation",
    "noise",
)
"""What the network sees, in this order; a checkpoint names those it was trained with."""
SIGNED = ("anomaly", "eof", "interpolated")
"""Those that change sign where all anomalies do."""
FAR_STEPS, FAR_PIXELS = 16, 64
"""Beyond so many time steps and pixels, one distance to the nearest observation is like another."""
LEAST_ERROR = 1e-4
"""Of optimal interpolation, as a share of the scatter: below it the correction has no unit."""
LARGEST = 30.0
"""Anomalies are clipped to so many times their scatter, either way."""
BOUND = 4.0
"""Logarithms of ratios are clipped to this, either way."""
FIELDS = ("oi", "oi_error", "eof", "eof_error", "interpolated")


@dataclass(frozen=True)
class FirstGuesses:
    """First guesses of one series.

    Attributes
    ----------
    fields
        `FIELDS`, which the network sees, and ``interpolated_error``; each ``(time, y, x)`` in the
        field's units.
    about
        What anomalies are taken about, and their scatter.
    traits
        What is alike everywhere: correlation one step and one pixel away, and the noise, as the
        network sees them.
    """

    fields: xr.Dataset
    about: Background
    traits: tuple[float, float, float]

    @classmethod
    def of(cls, obs: xr.DataArray, sea: xr.DataArray, *, seed: int = 0) -> FirstGuesses:
        """Fill `obs` (time, y, x) by each; EOFs are left out (NaN) where there are too few images.

        Where optimal interpolation cannot tell (a pixel without coordinates), EOFs or else the
        interpolation stand in.
        """
        oi = Oi(seed=seed).analyse(obs, sea)
        interpolated = Interpolate().reconstruct(obs, sea)
        if obs.sizes["time"] >= BayesEof.min_times:
            eof = BayesEof(seed=seed).reconstruct(obs, sea)
        else:
            eof = xr.Dataset(dict.fromkeys(("mean", "error"), xr.full_like(obs, np.nan)))
        guess = oi.found.fillna(eof).fillna(interpolated)
        fields = {
            "oi": guess["mean"],
            "oi_error": guess["error"],
            "eof": eof["mean"],
            "eof_error": eof["error"],
            "interpolated": interpolated["mean"],
            "interpolated_error": interpolated["error"],
        }
        bare = {name: field.transpose(*obs.dims).drop_attrs() for name, field in fields.items()}
        step, cell = usual_step(grid.days(obs)), grid.cell_km(obs)
        return cls(xr.Dataset(bare), oi.backgrounds[0], traits(oi.fitted.covariance, step, cell))

    def within(self, patch: Patch) -> tuple[NDArray, NDArray]:
        """What anomalies are taken about, ``(time, y, x)``, and the scatter, ``(y, x)``, where a
        patch sees them.
        """
        times, *space = patch.seen
        level = self.about.image[times, np.newaxis, np.newaxis] + self.about.pixel[tuple(space)]
        return level, self.about.scatter[tuple(space)]

    def lean(self) -> FirstGuesses:
        """Without the fields, which travel apart."""
        return FirstGuesses(xr.Dataset(), self.about, self.traits)


def channels(
    obs: NDArray,
    sea: NDArray,
    fields: Arrays,
    level: NDArray,
    scatter: NDArray,
    traits: tuple[float, ...],
) -> NDArray[np.float32]:
    """Make what the network sees of a patch.

    Parameters
    ----------
    obs
        ``(time, y, x)``, NaN in the gaps.
    sea
        ``(y, x)``, True at sea.
    fields
        The first guesses, `FIELDS`, each of the shape of `obs`.
    level, scatter
        See `FirstGuesses.within`.
    traits
        See `FirstGuesses.traits`.

    Returns
    -------
    ndarray
        `CHANNELS`, ``(channel, time, y, x)``, without NaN; 0 on land.
    """
    wet = np.broadcast_to(sea.astype(bool), obs.shape)
    seen = np.isfinite(obs) & wet
    guess, error = fields["oi"], unit(fields["oi_error"], scatter)
    before, after = _steps(seen), _steps(seen[::-1])[::-1]
    away = np.minimum(gaps.distance_to_observed(seen), FAR_PIXELS)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [
            seen,
            wet,
            ((guess - level) / scatter).clip(-LARGEST, LARGEST),
            np.log(error / scatter) / 2,
            np.arcsinh((fields["eof"] - guess) / error),
            np.log(fields["eof_error"] / error).clip(-BOUND, BOUND),
            np.arcsinh((fields["interpolated"] - guess) / error),
            before,
            after,
            np.log1p(away) / np.log1p(FAR_PIXELS),
            *traits,
        ]
    out = np.empty((len(CHANNELS), *obs.shape), np.float32)
    for k, part in enumerate(parts):
        out[k] = np.where(wet & np.isfinite(part), part, 0.0)
    return out


def unit(error: NDArray, scatter: NDArray) -> NDArray:
    """Error of the first guess that corrections are multiples of; never nothing."""
    return np.maximum(np.nan_to_num(error), LEAST_ERROR * scatter)


def _steps(seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Steps since the pixel was last observed, as a share of `FAR_STEPS`."""
    at = np.arange(len(seen), dtype=np.float32)[:, np.newaxis, np.newaxis]
    last = np.maximum.accumulate(np.where(seen, at, -np.inf), axis=0)
    return np.minimum((at - last) / FAR_STEPS, 1.0).astype(np.float32)


def traits(
    covariance: Covariance, step: float, cell: tuple[float, float]
) -> tuple[float, float, float]:
    """See `FirstGuesses.traits`; `step` in days, `cell` (y, x) in km."""
    dy, dx = cell
    variance = max(covariance.variance, np.finfo(float).tiny)
    north, east, lag = np.array([[0.0, dy], [0.0, dx], [step, 0.0]])
    time, space = covariance(north, east, lag).tolist()
    shares = (1 - time / variance, 1 - space / variance, covariance.noise / variance)
    floors = (1e-4, 1e-4, 1e-5)
    first, second, third = (
        float(np.log(max(s, f))) / 4 for s, f in zip(shares, floors, strict=True)
    )
    return first, second, third
