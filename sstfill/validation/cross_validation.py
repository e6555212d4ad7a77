# SPDX-License-Identifier: Apache-2.0
"""Compare methods at the same withheld pixels: take the best, or blend them, cross-validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.validation import metrics
from sstfill.validation.blend import (
    Blend,
    BlendWeights,
    blend_values,
    convex_weights,
    second_moments,
)
from sstfill.validation.calibration import StratifiedScale, error_scale, standardised
from sstfill.validation.withheld_estimates import WithheldEstimates, halves, stretches

GAIN = 0.005
"""Fraction by which a blend must beat the best single method, to be worth the fill by several."""
CLEARLY = 3.0
"""Standard errors of a paired difference by which a method must be behind, to be left out early."""
FEWEST = 4
"""Stretches of images that tell how sure a difference is; of fewer none is."""
ALL = slice(None)

Rows = NDArray | slice


class Decision(NamedTuple):
    """The best method or a blend, and how good it is out of sample.

    Attributes
    ----------
    blend
        From all withheld pixels.
    cross_fitted
        Estimates at each half of the withheld pixels by a blend that was fitted to the other half.
    """

    blend: Blend
    cross_fitted: WithheldEstimates


@dataclass(frozen=True)
class CrossValidation:
    """Estimates of several methods at n withheld pixels.

    Attributes
    ----------
    names
        Of the methods.
    mean, sigma
        Their estimates and stated errors, shape ``(n, methods)``.
    truth, image, layer
        Observed value, number of the image and number of the variable, shape ``(n,)``.
    distance, lag
        Distance of the pixels to data, see `sstfill.validation.distances.distance_to_data`; shape
        ``(n,)``.
    weight
        How much each pixel counts, ``(n,)``.
    odds
        Of each pixel to be a gap, see `sstfill.validation.withholding.likeness`; ``(n,)``.
    layers
        Number of variables.
    """

    names: tuple[str, ...]
    mean: NDArray
    sigma: NDArray
    truth: NDArray
    image: NDArray
    layer: NDArray
    distance: NDArray
    lag: NDArray
    weight: NDArray
    odds: NDArray
    layers: int = 1

    @classmethod
    def of(cls, estimates: Mapping[str, WithheldEstimates], layers: int) -> CrossValidation:
        """Put the estimates of all methods side by side."""
        mean = np.stack([one.mean for one in estimates.values()], 1)
        sigma = np.stack([one.sigma for one in estimates.values()], 1)
        truth, _, _, image, layer, distance, lag, weight, odds = next(iter(estimates.values()))
        places = image, layer, distance, lag, weight, odds
        return cls(tuple(estimates), mean, sigma, truth, *places, layers)

    def without(self, name: str) -> CrossValidation:
        """Leave one method out."""
        kept = [k for k, n in enumerate(self.names) if n != name]
        names = tuple(self.names[k] for k in kept)
        return replace(self, names=names, mean=self.mean[:, kept], sigma=self.sigma[:, kept])

    def standardised_error(self, mean: NDArray) -> NDArray:
        """Return errors over the variable's standard deviation.

        A pixel without an estimate counts as filled with the mean of the variable: a method must
        not gain by leaving out the difficult pixels.
        """
        centre, std = self._moments
        # The mean is of one method ``(n,)`` or of several ``(n, methods)``.
        shape = (-1, *(1,) * (mean.ndim - 1))
        truth = self.truth.reshape(shape)
        filled = np.where(np.isfinite(mean), mean, centre[self.layer].reshape(shape))
        return (filled - truth) / std[self.layer].reshape(shape)

    def loss(self, mean: NDArray) -> NDArray:
        """Return the root mean square of `standardised_error`: a number, or one for each method.

        Each variable counts the same.
        """
        squares = np.square(self.standardised_error(mean))
        return np.sqrt(np.average(squares, axis=0, weights=self.part))

    def is_behind(self, name: str) -> bool:
        """Whether a method is clearly worse than the best, and would not improve it in a blend.

        It is clearly worse if the mean difference of squared errors, pixel by pixel, is more than
        `CLEARLY` standard errors. These follow from the differences of whole stretches of images,
        for errors under one cloud are correlated. Weights of a blend with the best are tested on
        pixels that they were not fitted to.
        """
        error = self.standardised_error(self.mean)
        own, best = self.names.index(name), int(np.argmin(self.loss(self.mean)))
        stretch = stretches(self.image)
        count = int(stretch.max(initial=0)) + 1
        if own == best or count < FEWEST:
            return False
        excess = np.square(error[:, own]) - np.square(error[:, best])
        # A ratio estimate: each stretch has its own part of the pixels as well as of the
        # difference.
        share = np.bincount(stretch, self.part) / self.part.sum()
        sums = np.bincount(stretch, self.part * excess) / self.part.sum()
        mean = sums.sum()
        # The jackknife's factor corrects for few stretches.
        squares = np.square(sums - share * mean).sum() * count / (count - 1)
        if mean <= CLEARLY * np.sqrt(squares):
            return False
        # A worse method whose errors are independent still improves a blend, so that is tried too.
        pair, blended = error[:, [best, own]], np.empty(stretch.size)
        for here in (self.half, ~self.half):
            weights = convex_weights(second_moments(pair[~here], self.part[~here]))
            blended[here] = pair[here] @ weights
        alone = np.average(np.square(pair[:, 0]), weights=self.part)
        together = np.average(np.square(blended), weights=self.part)
        # The gain is of the root mean square, these are mean squares.
        return bool(together > (1 - GAIN) ** 2 * alone)

    def leader(self) -> str:
        """Say which method has the least error, and how much."""
        losses = self.loss(self.mean)
        best = int(np.argmin(losses))
        return f"{self.names[best]}: {self._rmse_text(losses[best])}"

    def rmse(self) -> list[list[float]]:
        """RMSE of each method for each variable where it has estimates; NaN where it has none."""
        rows = []
        for k in range(len(self.names)):
            known = np.isfinite(self.mean[:, k])
            row = []
            for variable in range(self.layers):
                here = known & (self.layer == variable)
                found = metrics.rmse(self.mean[here, k], self.truth[here], self.weight[here])
                row.append(found)
            rows.append(row)
        return rows

    @cached_property
    def part(self) -> NDArray:
        """How much each pixel counts: a variable counts the same, however many pixels it has."""
        total = np.bincount(self.layer, self.weight, minlength=self.layers)
        return self.weight / total[self.layer]

    @cached_property
    def _moments(self) -> tuple[NDArray, NDArray]:
        """Mean and standard deviation of each variable, ``(variables,)``."""
        centre, std = np.zeros(self.layers), np.ones(self.layers)
        for variable in range(self.layers):
            truth = self.truth[self.layer == variable]
            if truth.size:
                centre[variable] = truth.mean()
                # Withheld values that are all equal have no spread to divide by.
                std[variable] = truth.std() or 1.0
        return centre, std

    @cached_property
    def half(self) -> NDArray:
        """True in the one of the two `halves` of the pixels, ``(n,)``."""
        return halves(self.image)

    def decision(
        self, *, blending: bool, strata: bool = False, gain: float = GAIN, sparing: bool = False
    ) -> Decision:
        """Decide between the best method and a blend.

        The blend must prove better on pixels that it was not fitted to.

        Parameters
        ----------
        blending
            False takes the best method in any case.
        strata
            Calibrate the error by distance to data, on the cross-fitted estimates.
        gain
            Fraction by which a blend must beat the best method.
        sparing
            Leave methods out of a blend that would be as good without them but for `gain`: each
            costs a fill.
        """
        losses = self.loss(self.mean)
        # Stable, so that among equals the first named wins.
        order = np.argsort(losses, kind="stable")
        least = losses[order[0]]
        best = self.names[order[0]]
        why = f"{self.leader()} on withheld clouds"
        if len(order) > 1:
            why += f", next {self.names[order[1]]} {self._number(losses[order[1]])}"
        else:
            why += ", the only one"
        # Without two halves a blend could only be judged on the pixels that it was fitted to.
        if blending and len(self.names) > 1 and 0 < self.half.sum() < self.half.size:
            tried = self
            if sparing:
                tried = self._needed(gain)
            blend = tried.fit_blend(ALL)
            cross_fitted = tried.cross_fit(tried.fit_blend)
            loss = float(self.loss(cross_fitted.mean))
            # The blend is compared out of sample; the best method was not fitted to these pixels at
            # all.
            if len(blend.names) > 1 and loss < (1 - gain) * least:
                *most, last = blend.names
                why = (
                    f"blend of {', '.join(most)} and {last}: {self._rmse_text(loss)} "
                    f"on withheld clouds, best single {best} {self._number(least)}"
                )
                return self._decision(blend, cross_fitted, why, strata)
            why += f", a blend {self._number(loss)}"
        return self._decision(self.fit_best(ALL), self.cross_fit(self.fit_best), why, strata)

    def _needed(self, gain: float) -> CrossValidation:
        """Leave methods out, the one of least weight first, until the blend would be worse by
        `gain`. (To try which of them is best left out would make a choice by chance.)
        """
        blend = self.fit_blend(ALL)
        full = float(self.loss(self.cross_fit(self.fit_blend).mean))
        tried = self
        while len(blend.names) > 2:
            # Over all strata alike: how many pixels are filled in each is not known here.
            least = blend.names[int(np.argmin(blend.weights.table.mean((0, 1))))]
            fewer = tried.without(least)
            if full < (1 - gain) * float(fewer.loss(fewer.cross_fit(fewer.fit_blend).mean)):
                break
            tried, blend = fewer, fewer.fit_blend(ALL)
        return tried

    def _decision(
        self, blend: Blend, cross_fitted: WithheldEstimates, why: str, strata: bool
    ) -> Decision:
        scale = None
        if strata:
            # From estimates out of sample, since errors at pixels a blend was fitted to are too
            # small.
            z = standardised(cross_fitted.mean - cross_fitted.truth, cross_fitted.sigma)
            scale = StratifiedScale.fit(z, self.image, self.distance, self.lag, self.weight)
        return Decision(replace(blend, strata=scale, why=why), cross_fitted)

    def fit_best(self, rows: Rows) -> Blend:
        """Give all weight to the method of least error at some of the pixels."""
        squares = np.square(self.standardised_error(self.mean)[rows])
        best = int(np.argmin(np.average(squares, axis=0, weights=self.part[rows])))
        weights = BlendWeights.single(best, len(self.names))
        return Blend(self.names, weights, self._scale(rows)).trimmed()

    def fit_blend(self, rows: Rows) -> Blend:
        """Find the weights of least error at some of the pixels."""
        error = self.standardised_error(self.mean)[rows]
        weights = BlendWeights.fit(
            error, self.part[rows], self.image[rows], self.distance[rows], self.lag[rows]
        )
        return Blend(self.names, weights, self._scale(rows)).trimmed()

    def cross_fit(self, fit: Callable[[Rows], Blend]) -> WithheldEstimates:
        """Blend the estimates of each half of the pixels as fitted to the other half."""
        mean, sigma = np.empty(self.truth.shape), np.empty(self.truth.shape)
        for here in (self.half, ~self.half):
            others = ~here
            # A single pixel has no other half; it is not out of sample then.
            blend = fit(others if others.any() else ALL)
            columns = [self.names.index(name) for name in blend.names]
            weights = blend.weights.at(self.distance[here], self.lag[here])
            stated = self.sigma[here][:, columns] * blend.scale[self.layer[here]]
            mean[here], sigma[here] = blend_values(weights, self.mean[here][:, columns], stated)
        places = self.image, self.layer, self.distance, self.lag, self.weight, self.odds
        return WithheldEstimates(self.truth, mean, sigma, *places)

    def _scale(self, rows: Rows) -> NDArray:
        """Error scale of each method for each variable, ``(variables, methods)``."""
        z = standardised(self.mean[rows] - self.truth[rows][:, np.newaxis], self.sigma[rows])
        scale = np.empty((self.layers, len(self.names)))
        for variable, method in np.ndindex(scale.shape):
            # One factor per method and variable, so that the errors that are mixed mean the same.
            here = self.layer[rows] == variable
            scale[variable, method] = error_scale(z[here, method], self.weight[rows][here])
        return scale

    def _rmse_text(self, loss: float) -> str:
        if self.layers > 1:
            return f"RMSE over standard deviation {self._number(loss)}"
        return f"RMSE {self._number(loss)}"

    def _number(self, loss: float) -> str:
        """Write a loss in the units of the field; of several variables it has none."""
        if self.layers == 1:
            loss = loss * self._moments[1][0]
        return f"{loss:.3g}"
