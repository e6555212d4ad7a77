# SPDX-License-Identifier: Apache-2.0
"""What several methods said at the same withheld pixels: which is best, how to blend them, how good
that really is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.validation import blend_weights, metrics
from sstfill.validation.calibration import error_scale, standardised
from sstfill.validation.withheld_estimates import WithheldEstimates

GAIN = 0.005
"""Share by which a blend must beat the best single method, to be worth the filling by several."""


class BlendRecipe(NamedTuple):
    """How to make one field of what several methods say.

    Attributes
    ----------
    weights
        Of all methods tried.
    scale
        Factors of their stated errors, shape ``(variables, methods)``.
    """

    weights: blend_weights.Weights
    scale: NDArray


class Decision(NamedTuple):
    """A recipe from all withheld pixels, what it makes of each half when taken from the other one,
    and the reason.
    """

    recipe: BlendRecipe
    fair: WithheldEstimates
    why: str


@dataclass(frozen=True)
class CrossValidation:
    """Answers of methods at n withheld pixels.

    Attributes
    ----------
    names
        Of the methods.
    mean, sigma
        What they said, shape ``(n, methods)``.
    truth, image, layer
        Shape ``(n,)``; the layer is the number of the variable.
    distance, lag
        How far the pixels are from data, see `reach`; shape ``(n,)``.
    layers
        How many variables there are.
    """

    names: tuple[str, ...]
    mean: NDArray
    sigma: NDArray
    truth: NDArray
    image: NDArray
    layer: NDArray
    distance: NDArray
    lag: NDArray
    layers: int = 1

    @classmethod
    def of(
        cls, answers: dict[str, WithheldEstimates], layers: int, distance: NDArray, lag: NDArray
    ) -> CrossValidation:
        """Put the answers of all methods side by side."""
        first = next(iter(answers.values()))
        mean, sigma = (
            np.stack([getattr(a, k) for a in answers.values()], 1) for k in ("mean", "sigma")
        )
        return cls(
            tuple(answers),
            mean,
            sigma,
            first.truth,
            first.image,
            first.layer,
            distance,
            lag,
            layers,
        )

    def without(self, name: str) -> CrossValidation:
        """Leave one method out."""
        kept = [k for k, n in enumerate(self.names) if n != name]
        names = tuple(self.names[k] for k in kept)
        return replace(self, names=names, mean=self.mean[:, kept], sigma=self.sigma[:, kept])

    def missed(self, mean: NDArray) -> NDArray:
        """Errors over the variable's standard deviation; what was not filled counts as filled with
        its mean.
        """
        centre, std = self._moments
        shape = (-1, *(1,) * (mean.ndim - 1))
        truth, middle, unit = (
            a.reshape(shape) for a in (self.truth, centre[self.layer], std[self.layer])
        )
        return (np.where(np.isfinite(mean), mean, middle) - truth) / unit

    def loss(self, mean: NDArray) -> NDArray:
        """Root mean square of `missed`, each variable counting the same; one number, or one for
        each method.
        """
        return np.sqrt(np.average(np.square(self.missed(mean)), axis=0, weights=self.part))

    def rmse(self) -> list[list[float]]:
        """RMSE of each method for each variable, where it filled; NaN where it filled nothing."""
        known = np.isfinite(self.mean)
        each = [(k, v) for k in range(len(self.names)) for v in range(self.layers)]
        at = [(k, known[:, k] & (self.layer == v)) for k, v in each]
        found = [metrics.rmse(self.mean[here, k], self.truth[here]) for k, here in at]
        return np.reshape(found, (len(self.names), self.layers)).tolist()

    @cached_property
    def part(self) -> NDArray:
        """How much each pixel counts: variables count the same, however many of their pixels were
        withheld.
        """
        return 1 / np.bincount(self.layer, minlength=self.layers)[self.layer]

    @cached_property
    def _moments(self) -> tuple[NDArray, NDArray]:
        of = [self.truth[self.layer == v] for v in range(self.layers)]
        std = np.array([t.std() if t.size else 0.0 for t in of])
        return np.array([t.mean() if t.size else 0.0 for t in of]), np.where(std > 0, std, 1.0)

    @cached_property
    def half(self) -> NDArray:
        """True in every other image of those with withheld pixels; of a single one, in its upper
        half; ``(n,)``.
        """
        number = np.unique(self.image, return_inverse=True)[1]
        return number % 2 == 0 if number.max() > 0 else np.arange(number.size) < number.size // 2

    def verdict(self, blending: bool) -> Decision:
        """Decide between the best method and the blend, which must prove better on pixels that it
        was not fitted to.
        """
        one, errors = self.best(slice(None)), self.loss(self.mean)
        order = np.argsort(errors, kind="stable")
        told = f"{self.names[order[0]]}: {self._told(errors[order[0]])} on withheld clouds"
        rest = (
            f", next {self.names[order[1]]} {self._number(errors[order[1]])}"
            if len(order) > 1
            else ", the only one"
        )
        if blending and len(self.names) > 1 and 0 < self.half.sum() < self.half.size:
            several, fair = self.blended(slice(None)), self.crossed(CrossValidation.blended)
            loss = float(self.loss(fair.mean))
            if several.weights.used.size > 1 and loss < (1 - GAIN) * errors[order[0]]:
                *most, last = (self.names[k] for k in several.weights.used)
                who = f"{', '.join(most)} and {last}"
                single = f"best single {self.names[order[0]]} {self._number(errors[order[0]])}"
                return Decision(
                    several,
                    fair,
                    f"blend of {who}: {self._told(loss)} on withheld clouds, {single}",
                )
            rest += f", a blend {self._number(loss)}"
        return Decision(one, self.crossed(CrossValidation.best), told + rest)

    def best(self, rows: NDArray | slice) -> BlendRecipe:
        """All weight for the method of least error at some of the pixels."""
        square = np.square(self.missed(self.mean)[rows])
        first = int(np.argmin(np.average(square, axis=0, weights=self.part[rows])))
        return BlendRecipe(blend_weights.Weights.alone(first, len(self.names)), self._scale(rows))

    def blended(self, rows: NDArray | slice) -> BlendRecipe:
        """Weights of least error at some of the pixels."""
        error = self.missed(self.mean)[rows]
        weights = blend_weights.fit(
            error, self.part[rows], self.image[rows], self.distance[rows], self.lag[rows]
        )
        return BlendRecipe(weights, self._scale(rows))

    def crossed(self, rule: object) -> WithheldEstimates:
        """What a rule makes of each half of the pixels when it has seen the other half only."""
        assert callable(rule)
        mean, sigma = np.empty(self.truth.shape), np.empty(self.truth.shape)
        for here in (self.half, ~self.half):
            weights, scale = rule(self, ~here if (~here).any() else slice(None))
            used = weights.used
            w = weights.among(used).at(self.distance[here], self.lag[here])
            stated = self.sigma[here][:, used] * scale[self.layer[here]][:, used]
            mean[here], sigma[here] = blend_weights.mix(w, self.mean[here][:, used], stated)
        return WithheldEstimates(self.truth, mean, sigma, self.image, self.layer)

    def _scale(self, rows: NDArray | slice) -> NDArray:
        z = standardised(self.mean[rows] - self.truth[rows][:, np.newaxis], self.sigma[rows])
        layer = self.layer[rows]
        each = [
            [error_scale(z[layer == v, k]) for k in range(len(self.names))]
            for v in range(self.layers)
        ]
        return np.array(each)

    def _told(self, loss: float) -> str:
        return f"RMSE {'over standard deviation ' if self.layers > 1 else ''}{self._number(loss)}"

    def _number(self, loss: float) -> str:
        return f"{loss * (self._moments[1][0] if self.layers == 1 else 1.0):.3g}"
