# SPDX-License-Identifier: Apache-2.0
"""Blends: weighted means of several methods' estimates, with weights by distance to data.

In the NumPy functions an estimate is a column: means, errors and weights have shape
``(..., methods)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.validation import strata
from sstfill.validation.calibration import StratifiedScale
from sstfill.validation.distances import Distances, distance_to_data

RIDGE = 1e-3
"""Fraction of the mean squared error added to that of each method, so that methods that hardly
differ get similar weights.
"""
NEGLIGIBLE = 0.03
"""A method that weighs less in every stratum is left out: it would change little, for a fill."""
BARELY = 1e-9
"""Least weight of a method at pixels where no method with a weight has an estimate."""


@dataclass(frozen=True)
class BlendWeights:
    """Convex weights of methods, by distance to data.

    Attributes
    ----------
    distance, lag
        Centres of the strata, increasing, shapes ``(a,)`` and ``(b,)``, in km and days.
    table
        Weights of the methods, shape ``(a, b, methods)``: none negative, their sum 1. Between the
        centres they are linear in the logarithms, beyond the outermost constant.
    """

    distance: NDArray
    lag: NDArray
    table: NDArray

    @classmethod
    def single(cls, method: int, methods: int) -> BlendWeights:
        """Give all weight to one of several methods."""
        return cls(np.ones(1), np.ones(1), np.eye(methods)[method][np.newaxis, np.newaxis])

    @classmethod
    def fit(
        cls, error: NDArray, part: NDArray, image: NDArray, distance: NDArray, lag: NDArray
    ) -> BlendWeights:
        """Find the weights of least squared error in each stratum.

        In each stratum ``w' S w`` is minimised over convex ``w`` (Bates & Granger 1969, Operational
        Research Quarterly 20, 451-468). ``S`` are the second moments of the errors there, shrunk
        towards those of all pixels by `sstfill.validation.strata.PRIOR`.

        Parameters
        ----------
        error
            Errors, shape ``(n, methods)``, finite.
        part
            How much each pixel counts, shape ``(n,)``.
        image
            Number of the image that each pixel lies in, shape ``(n,)``.
        distance, lag
            Distance of the pixels to data, shape ``(n,)``; not finite where it is unknown.

        Returns
        -------
        BlendWeights
            For all methods; those of a weight below `NEGLIGIBLE` in every stratum have none.
        """
        methods = np.arange(error.shape[1])
        while True:
            found = cls._fit(error[:, methods], part, image, distance, lag)
            # A method may matter in one stratum alone, so the largest of its weights decides.
            strong = found.table.max((0, 1)) >= NEGLIGIBLE
            if strong.all() or not strong.any():
                table = np.zeros((*found.table.shape[:2], error.shape[1]))
                table[:, :, methods] = found.table
                return cls(found.distance, found.lag, table)
            # The remaining weights change once the weak methods are gone.
            methods = methods[strong]

    @classmethod
    def _fit(
        cls, error: NDArray, part: NDArray, image: NDArray, distance: NDArray, lag: NDArray
    ) -> BlendWeights:
        distances, i = strata.classes(distance)
        lags, j = strata.classes(lag)
        prior = second_moments(error, part)
        table = np.empty((distances.size, lags.size, error.shape[1]))
        for a, b in np.ndindex(distances.size, lags.size):
            here = (i == a) & (j == b)
            # An image counts as one piece of evidence, however many of its pixels are withheld.
            images = np.unique(image[here]).size
            own = prior
            if images:
                own = second_moments(error[here], part[here])
            moments = (images * own + strata.PRIOR * prior) / (images + strata.PRIOR)
            table[a, b] = convex_weights(moments)
        return cls(distances, lags, table)

    @property
    def used(self) -> NDArray:
        """Indices of the methods that have a weight in some stratum."""
        return np.flatnonzero(self.table.max((0, 1)) > 0)

    def at(self, distance: NDArray, lag: NDArray) -> NDArray:
        """Interpolate the weights to pixels; shape ``(*distance.shape, methods)``.

        >>> table = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
        >>> weights = BlendWeights(np.array([1.0, 100.0]), np.ones(1), table)
        >>> weights.at(np.array([0.0, 10.0, np.inf]), np.zeros(3)).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
        """
        return strata.interpolate(self.table, (self.distance, self.lag), distance, lag)


@dataclass(frozen=True)
class Blend:
    """How the estimates of several methods become one field with a calibrated error.

    Attributes
    ----------
    names
        Of the estimates, in the order of the columns of `weights` and `scale`.
    weights
        By distance to data.
    scale
        Factors of the methods' errors, shape ``(variables, methods)``.
    strata
        Factors of the error of the blend by distance to data; None leaves it as it is.
    why
        The reason for this blend, in words.
    """

    names: tuple[str, ...]
    weights: BlendWeights
    scale: NDArray
    strata: StratifiedScale | None = None
    why: str = ""

    def trimmed(self) -> Blend:
        """Leave out the methods without weight."""
        # A method without weight need not be asked for an estimate at all.
        used = self.weights.used
        return replace(
            self,
            names=tuple(self.names[k] for k in used),
            weights=replace(self.weights, table=self.weights.table[:, :, used]),
            scale=self.scale[:, used],
        )

    @property
    def depends_on_distance(self) -> bool:
        """Whether the distance of a pixel to data matters."""
        return len(self.names) > 1 or self.strata is not None

    def apply(
        self,
        estimates: Mapping[str, xr.Dataset],
        obs: xr.DataArray,
        distances: Distances | None = None,
    ) -> xr.Dataset:
        """Blend estimates of `obs`; lazy where `obs` is.

        Parameters
        ----------
        estimates
            By name: ``mean`` and maybe ``error``, dims of `obs`.
        obs
            The observations that they were made from.
        distances
            Distance of each pixel to data, if known, for example from more than `obs` shows; by
            default that of `obs`.

        Returns
        -------
        Dataset
            ``mean`` and, if one of the methods states an error, ``error``.
        """
        if distances is None and self.depends_on_distance:
            distances = distance_to_data(obs)
        parts = [estimates[name] for name in self.names]
        # The kernels go by position, so all fields must have their dims in one order. Variables
        # have no coordinates: those that differ by rounding would drop pixels, and aligning copies.
        means = [part["mean"].variable.transpose(*obs.dims) for part in parts]
        errors = [_error(part).variable.transpose(*obs.dims) for part in parts]
        scales = [_factor(self.scale[:, k], obs) for k in range(len(parts))]
        if len(parts) == 1:
            mean, error = means[0], (errors[0] * scales[0]).transpose(*obs.dims)
        else:
            assert distances is not None
            fields = [*(distance.variable for distance in distances), *means, *errors]
            mean, error = xr.apply_ufunc(
                _blend_images,
                *_chunked_like(obs, *fields),
                *scales,
                kwargs={"weights": self.weights},
                output_core_dims=[[], []],
                dask="parallelized",
                output_dtypes=[obs.dtype, np.float32],
            )
        if not any("error" in part for part in parts):
            return xr.Dataset({"mean": mean}, obs.coords)
        if self.strata is not None:
            assert distances is not None
            error = xr.apply_ufunc(
                _rescale_images,
                *_chunked_like(obs, error, *(distance.variable for distance in distances)),
                kwargs={"scale": self.strata},
                dask="parallelized",
                output_dtypes=[np.float32],
            )
        return xr.Dataset({"mean": mean, "error": error}, obs.coords)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        scale = self.strata
        strata_lists = None
        if scale is not None:
            strata_lists = [a.tolist() for a in (scale.distance, scale.lag, scale.logarithm)]
        weights = self.weights
        return {
            "names": list(self.names),
            "why": self.why,
            "scale": self.scale.tolist(),
            "weights": [a.tolist() for a in (weights.distance, weights.lag, weights.table)],
            "strata": strata_lists,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Blend:
        """Read what `to_dict` returned."""
        scale = None
        if values["strata"] is not None:
            distance, lag, logarithm = map(np.array, values["strata"])
            scale = StratifiedScale(distance, lag, logarithm)
        weights = BlendWeights(*map(np.array, values["weights"]))
        names = tuple(values["names"])
        return cls(names, weights, np.array(values["scale"]), scale, values["why"])


class BlendedValues(NamedTuple):
    """Mean and standard deviation of a blend."""

    mean: NDArray
    sigma: NDArray


def blend_values(weights: NDArray, mean: NDArray, sigma: NDArray) -> BlendedValues:
    """Blend estimates ``(..., methods)``; one that is NaN leaves its weight to the others.

    The variance is that of a mixture, ``sum w sigma^2 + sum w (mean_i - mean)^2``: the errors that
    the methods state, and how much they disagree. It is NaN where no method with an estimate states
    an error.
    """
    known = np.isfinite(mean)
    # NaN times a weight of 0 would still be NaN.
    w = _renormalised(weights, known)
    values = np.where(known, mean, 0.0)
    blended = np.where(known.any(-1), (w * values).sum(-1), np.nan)
    spread = (w * np.square(values - blended[..., np.newaxis])).sum(-1)
    # Methods that state no error leave their part of it to those that do.
    stated = known & np.isfinite(sigma)
    # The square of an absurd error is infinite, which says what it should.
    with np.errstate(over="ignore"):
        squares = np.square(np.where(stated, sigma, 0.0))
        variance = (_renormalised(weights, stated) * squares).sum(-1) + spread
    return BlendedValues(blended, np.where(stated.any(-1), np.sqrt(variance), np.nan))


def convex_weights(moments: NDArray) -> NDArray:
    """Minimise ``w' S w`` over ``w >= 0`` of sum 1, exactly, for positive definite moments ``S``.

    This is a problem of non-negative least squares: the ``w`` of least
    ``|L' w|^2 + (1' w - 1)^2``, ``S = L L'``, differs from the solution by a factor only, for
    ``w' S w`` is homogeneous.

    >>> convex_weights(np.diag([1.0, 3.0])).round(2).tolist()
    [0.75, 0.25]
    """
    from scipy.optimize import nnls  # SciPy's optimisers take long to import

    k = len(moments)
    size = np.trace(moments) / k
    # In units of their own size, so that the ridge does not depend on the units of the field.
    scaled = moments / size if size > 0 else np.zeros_like(moments)
    # With the ridge, moments of methods that are alike have full rank too.
    root = np.linalg.cholesky(scaled + RIDGE * np.eye(k)).T
    w, _ = nnls(np.vstack([root, np.ones(k)]), np.append(np.zeros(k), 1.0))
    return w / w.sum()


def second_moments(error: NDArray, part: NDArray) -> NDArray:
    """Mean products of errors ``(n, methods)``; each pixel counts by its `part`, ``(n,)``."""
    return (error * (part / part.sum())[:, np.newaxis]).T @ error


def _renormalised(weights: NDArray, there: NDArray) -> NDArray:
    """Weights of the methods that are there, of sum 1; 0 where none is."""
    # A method without weight still fills where no other has an estimate.
    w = np.where(there, weights + BARELY, 0.0)
    total = w.sum(-1, keepdims=True)
    return np.divide(w, total, out=np.zeros_like(w), where=total > 0)


def _error(estimate: xr.Dataset) -> xr.DataArray:
    """Return the error that a method states; NaN where it states none."""
    if "error" in estimate:
        return estimate["error"]
    return xr.full_like(estimate["mean"], np.nan, dtype=np.float32)


def _factor(scale: NDArray, obs: xr.DataArray) -> xr.Variable:
    """Return the factor of a method's error, by variable where there are several."""
    if "variable" in obs.dims:
        return xr.Variable("variable", scale.astype(np.float32))
    return xr.Variable((), np.float32(scale[0]))


def _chunked_like(obs: xr.DataArray, *fields: xr.Variable) -> list[xr.Variable]:
    """Give fields the chunks of `obs`, if it has any."""
    if not obs.chunks:
        return list(fields)
    return [field.chunk(obs.chunksizes) for field in fields]


def _blend_images(
    distance: NDArray, lag: NDArray, *fields: NDArray, weights: BlendWeights
) -> tuple[NDArray, NDArray]:
    """Blend whole fields; `fields` are all means, then all errors, then the factors of these."""
    k = len(fields) // 3
    mean = np.empty(distance.shape, fields[0].dtype)
    sigma = np.empty(distance.shape, np.float32)
    errors = fields[k : 2 * k]
    scales = [np.broadcast_to(scale, distance.shape) for scale in fields[2 * k :]]
    # Image by image, to spare memory: the weights alone are as large as all the means together.
    for image in np.ndindex(distance.shape[:-2]):
        means = [field[image] for field in fields[:k]]
        sigmas = [e[image] * scale[image] for e, scale in zip(errors, scales, strict=True)]
        w = weights.at(distance[image], lag[image])
        mean[image], sigma[image] = blend_values(w, _last(means), _last(sigmas))
    return mean, sigma


def _last(images: list[NDArray]) -> NDArray:
    """Stack images of several methods along a last axis, each as it lies in memory."""
    return np.moveaxis(np.stack(images), 0, -1)


def _rescale_images(
    error: NDArray, distance: NDArray, lag: NDArray, *, scale: StratifiedScale
) -> NDArray:
    scaled = np.empty(error.shape, np.float32)
    for image in np.ndindex(error.shape[:-2]):
        scaled[image] = error[image] * scale.at(distance[image], lag[image])
    return scaled
