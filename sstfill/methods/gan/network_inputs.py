# SPDX-License-Identifier: Apache-2.0
"""Inputs of the compact network: first guesses of a series, and the channels made of them.

The first guess that the network corrects is optimal interpolation, in units of its error. Where
EOFs (`BayesEof`) and the interpolation in time disagree with it, and how far a pixel is from data,
tells the network in which direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sstfill.fields import gaps
from sstfill.fields.patches import Patch
from sstfill.fields.reading.dates import days_since_first, usual_step
from sstfill.fields.reading.positions import cell_km
from sstfill.memory import return_freed_blocks
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.interpolation.background import Background
from sstfill.methods.interpolation.interpolate import Interpolate
from sstfill.methods.oi.covariance import Covariance
from sstfill.methods.oi.method import Oi

Arrays = Mapping[str, NDArray]
Features = tuple[float, float, float]
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
"""What the network sees, in this order; a checkpoint names those that it was trained with."""
SIGNED = ("anomaly", "eof", "interpolated")
"""Channels that change sign where all anomalies do."""
FAR_STEPS, FAR_PIXELS = 16, 64
"""Greatest distance to the nearest observation that the network can tell from a smaller one."""
LEAST_ERROR = 1e-4
"""Least error of optimal interpolation, as a fraction of the scatter; corrections are multiples."""
LARGEST = 30.0
"""Anomalies are clipped to so many times their scatter, either way."""
BOUND = 4.0
"""Logarithms of ratios are clipped to this, either way."""
FIELDS = ("oi", "oi_error", "eof", "eof_error", "interpolated")
"""Fields of the first guesses that the channels are made of."""


class FittedGuesses(NamedTuple):
    """The first guesses that take long to fit; once fitted, they fill a similar series for less.

    Attributes
    ----------
    oi
        Optimal interpolation; fitted, it has a covariance.
    eof
        EOFs; fitted, they begin at amplitudes.
    """

    oi: Oi
    eof: BayesEof


@dataclass(frozen=True)
class FirstGuesses:
    """First guesses of one series.

    Attributes
    ----------
    fields
        `FIELDS` and ``interpolated_error``; each ``(time, y, x)`` in the field's units.
    background
        What anomalies are taken about, and their scatter.
    features
        Of the whole series, see `series_features`.
    """

    fields: xr.Dataset
    background: Background
    features: Features

    @classmethod
    def of(
        cls,
        obs: xr.DataArray,
        sea: xr.DataArray,
        *,
        seed: int = 0,
        fitted: FittedGuesses | None = None,
    ) -> FirstGuesses:
        """Fill `obs` (time, y, x) by each; EOFs are NaN where there are too few images.

        Where optimal interpolation has no estimate (a pixel without coordinates), EOFs or else the
        interpolation replace it.

        Parameters
        ----------
        obs, sea
            The series, and True at sea.
        seed
            Of the clouds that the covariance is fitted to, and of the EOFs' sample.
        fitted
            The methods, if they have been fitted to the series, or to most of it.
        """
        if fitted is None:
            fitted = FittedGuesses(Oi(seed=seed), BayesEof(seed=seed))
        oi = fitted.oi.analyse(obs, sea)
        interpolated = Interpolate().reconstruct(obs, sea)
        if obs.sizes["time"] >= BayesEof.min_times:
            eof = fitted.eof.reconstruct(obs, sea)
        else:
            eof = xr.Dataset(dict.fromkeys(("mean", "error"), xr.full_like(obs, np.nan)))
        return_freed_blocks()  # what the EOFs left
        guess = oi.found
        # copies take as much as all guesses, and are hardly ever wanted
        if obs.chunks or bool((guess.isnull() & sea).to_array().any()):
            guess = guess.fillna(eof).fillna(interpolated)
        fields = {
            "oi": guess["mean"],
            "oi_error": guess["error"],
            "eof": eof["mean"],
            "eof_error": eof["error"],
            "interpolated": interpolated["mean"],
            "interpolated_error": interpolated["error"],
        }
        bare = {name: field.transpose(*obs.dims).drop_attrs() for name, field in fields.items()}
        step, cell = usual_step(days_since_first(obs)), cell_km(obs)
        features = series_features(oi.fitted.covariance, step, cell)
        return cls(xr.Dataset(bare), oi.backgrounds[0], features)

    def level(self, patch: Patch) -> NDArray:
        """Return what anomalies are taken about in a patch, ``(time, y, x)``."""
        times, *space = patch.seen
        pixel, image = self.background.pixel[tuple(space)], self.background.image[times]
        return image[:, np.newaxis, np.newaxis] + pixel

    def scatter(self, patch: Patch) -> NDArray:
        """Return the scatter of anomalies in a patch, ``(y, x)``."""
        return self.background.scatter[patch.seen[1:]]

    def without_fields(self) -> FirstGuesses:
        """Leave out the fields, which are passed to patches by themselves."""
        return replace(self, fields=xr.Dataset())


def channels(
    obs: NDArray,
    sea: NDArray,
    fields: Arrays,
    level: NDArray,
    scatter: NDArray,
    features: tuple[float, ...],
) -> NDArray[np.float32]:
    """Make the channels that the network sees of a patch.

    Parameters
    ----------
    obs
        ``(time, y, x)``, NaN in the gaps.
    sea
        ``(y, x)``, True at sea.
    fields
        The first guesses, `FIELDS`, each of the shape of `obs`.
    level, scatter
        See `FirstGuesses`.
    features
        See `FirstGuesses.features`.

    Returns
    -------
    ndarray
        `CHANNELS`, ``(channel, time, y, x)``, without NaN; 0 on land.
    """
    at_sea = np.broadcast_to(sea.astype(bool), obs.shape)
    observed = np.isfinite(obs) & at_sea
    guess, error = fields["oi"], unit(fields["oi_error"], scatter)
    out = np.zeros((len(CHANNELS), *obs.shape), np.float32)

    def enter(name: str, values: ArrayLike) -> None:
        """Copy a channel where it is known, so that no two are held at once in full precision."""
        np.copyto(
            out[CHANNELS.index(name)],
            values,
            where=at_sea & np.isfinite(values),
            casting="same_kind",
        )

    # Signs and ratios are kept, but logarithms and arcsinh tame the tails of differences.
    with np.errstate(invalid="ignore", divide="ignore"):
        enter("observed", observed)
        enter("sea", at_sea)
        enter("anomaly", ((guess - level) / scatter).clip(-LARGEST, LARGEST))
        enter("oi_error", np.log(error / scatter) / 2)
        enter("eof", np.arcsinh((fields["eof"] - guess) / error))
        enter("eof_error", np.log(fields["eof_error"] / error).clip(-BOUND, BOUND))
        enter("interpolated", np.arcsinh((fields["interpolated"] - guess) / error))
        enter("before", _steps_since(observed))
        enter("after", _steps_since(observed[::-1])[::-1])
        distance = np.minimum(gaps.distance_to_observed(observed), FAR_PIXELS)
        enter("distance", np.log1p(distance) / np.log1p(FAR_PIXELS))
        for name, value in zip(CHANNELS[-3:], features, strict=True):
            enter(name, value)
    return out


def unit(error: NDArray, scatter: NDArray) -> NDArray:
    """Return the error of the first guess, of which corrections are multiples; never 0 or NaN."""
    return np.maximum(np.nan_to_num(error), LEAST_ERROR * scatter)


def _steps_since(observed: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the steps since a pixel was last observed, as a fraction of `FAR_STEPS`, 1 at most."""
    step = np.arange(len(observed), dtype=np.float32)[:, np.newaxis, np.newaxis]
    last = np.maximum.accumulate(np.where(observed, step, -np.inf), axis=0)
    return np.minimum((step - last) / FAR_STEPS, 1.0).astype(np.float32)


def series_features(covariance: Covariance, step: float, cell: tuple[float, float]) -> Features:
    """Return what is alike everywhere in a series, as the network sees it.

    Parameters
    ----------
    covariance
        Of the anomalies.
    step
        Time step in days.
    cell
        Size of a pixel (y, x) in km.

    Returns
    -------
    tuple of float
        The decorrelation from one image to the next and from one pixel to the next, and the noise:
        logarithms of fractions of the variance, over 4.
    """
    dy, dx = cell
    variance = max(covariance.variance, np.finfo(float).tiny)
    north, east, lag = np.array([[0.0, dy], [0.0, dx], [step, 0.0]])
    time, space = covariance(north, east, lag).tolist()
    return (
        _quarter_log(1 - time / variance, 1e-4),
        _quarter_log(1 - space / variance, 1e-4),
        _quarter_log(covariance.noise / variance, 1e-5),
    )


def _quarter_log(fraction: float, least: float) -> float:
    return float(np.log(max(fraction, least))) / 4
