# SPDX-License-Identifier: Apache-2.0
"""A series in memory of which some observations are withheld, to try methods on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.gaps import derived_seed
from sstfill.validation.distances import distance_to_data
from sstfill.validation.withheld_estimates import WithheldEstimates, gather
from sstfill.validation.withholding.likeness import GapSample, Likeness, Surroundings
from sstfill.validation.withholding.resemblance import Resemblance
from sstfill.validation.withholding.runs import withheld_runs
from sstfill.validation.withholding.sightings import SAMPLE, Sightings, some

if TYPE_CHECKING:
    from sstfill.methods.base import Method


def hide(obs: xr.DataArray, sea: xr.DataArray, seed: int, fraction: float) -> xr.DataArray:
    """Draw the pixels to withhold, in runs of dates as the gaps have them.

    Parameters
    ----------
    obs
        Of several variables, each is hidden where the same other dates lack it.
    sea
        True at sea.
    seed
        Of the draw. The pixels differ from those of `sstfill.score` with the same seed, so that a
        method is not tuned on the pixels that it is scored on.
    fraction
        Of the observed pixels to hide.

    Returns
    -------
    DataArray
        See `sstfill.validation.withholding.runs.withheld_runs`.

    Raises
    ------
    InputError
        If there are no gaps whose like could be hidden.
    """
    return withheld_runs(obs, sea, fraction=fraction, seed=derived_seed(seed, 2))


def variables(obs: xr.DataArray) -> list[str]:
    """Names of the variables along ``variable``, or the one name of a field."""
    if "variable" in obs.dims:
        return list(map(str, obs["variable"].values))
    return [str(obs.name)]


@dataclass(frozen=True)
class SeriesHoldout:
    """A series in memory of which some observations are withheld.

    Attributes
    ----------
    obs, sea
        The whole series.
    hidden
        True where withheld, dims of `obs`.
    scored
        Those of the withheld pixels at which methods are scored.
    distance, lag
        Of the scored pixels to what is left, see `sstfill.validation.distances`; ``(n,)``.
    weight
        How much each of them counts; with these weights they resemble the gaps more. ``(n,)``, of
        mean 1 for each variable.
    odds
        Of each of them to be a gap, by all that is known of its surroundings; ``(n,)``.
    gaps
        By variable, a sample of its gaps.
    resemblance
        By variable, how far the pixels resemble its gaps without weights.
    """

    obs: xr.DataArray
    sea: xr.DataArray
    hidden: xr.DataArray
    scored: xr.DataArray
    distance: NDArray
    lag: NDArray
    weight: NDArray
    odds: NDArray
    gaps: Mapping[str, GapSample]
    resemblance: Mapping[str, dict[str, Any]]

    @classmethod
    def draw(
        cls, obs: xr.DataArray, sea: xr.DataArray, seed: int, fraction: float, most: float = np.inf
    ) -> SeriesHoldout:
        """Withhold observations of a series, see `hide`.

        Parameters
        ----------
        most
            Pixels to score at most: of more, a random part.

        Raises
        ------
        InputError
            If there are no gaps whose like could be hidden.
        """
        # The mask is asked for often, and a lazy field is read for it once.
        seen = obs.notnull().compute()
        hidden = hide(seen, sea, seed, fraction)
        scored, part = hidden, most / max(int(hidden.sum()), 1)
        if part < 1:
            # One number for each pixel of the grid, so that the draw does not depend on the chunks.
            drawn = np.random.default_rng(seed).random(hidden.shape, np.float32) < part
            scored = hidden.copy(data=hidden.values & drawn)
        left = seen & ~hidden
        if obs.chunks:
            left = left.chunk(obs.chunksizes)
        distance, lag, _, layer = gather(scored, *distance_to_data(left))
        rng = np.random.default_rng(seed)
        sightings = Sightings.of(seen, sea)
        pixels = some(sightings.gaps, *SAMPLE, rng)
        observed, days = sightings.observed, sightings.days
        far, late = sightings.distances(observed, pixels)
        around_gaps = Surroundings.of(observed, days, pixels, far, late)
        places = np.nonzero(sightings.laid_out(scored))
        shown = observed & ~sightings.laid_out(hidden)
        around = Surroundings.of(shown, days, places, distance, lag)
        weight, odds = np.ones(distance.size), np.ones(distance.size)
        resemblance, gaps = {}, {}
        for number, name in enumerate(variables(obs)):
            here, like = layer == number, pixels[1] == number
            # A variable without gaps has nothing that its withheld pixels could resemble.
            if here.any() and like.any():
                alike = Resemblance.of((far[like], late[like]), (distance[here], lag[here]))
                weight[here] = alike.weights(distance[here], lag[here])
                resemblance[name] = alike.summary()
                likeness = Likeness.fit(around.at(here), around_gaps.at(like))
                odds[here] = likeness.odds(around.at(here))
                image, row, column = pixels[0][like], pixels[2][like], pixels[3][like]
                own = likeness.odds(around_gaps.at(like))
                gaps[name] = GapSample(image, row, column, own)
        return cls(obs, sea, hidden, scored, distance, lag, weight, odds, gaps, resemblance)

    @property
    def variables(self) -> list[str]:
        """Names of the variables."""
        return variables(self.obs)

    @property
    def size(self) -> int:
        """How many values a method is given in a trial."""
        return int(self.obs.size)

    def part(self, values: int) -> tuple[SeriesHoldout, NDArray[np.bool_]]:
        """Cut out a window of about so many values; only its middle is scored, whose surroundings
        are known as well as in the whole. Of windows side by side it is the one with most to score.

        Returns
        -------
        part
            All images of the window, with what is withheld there.
        rows
            Which of the scored pixels lie in its middle, ``(n,)``.
        """
        scored = self.scored.transpose("time", ...).values
        # Half the side of the window: its surroundings take the other half, a quarter on either
        # side.
        share = min(1.0, np.sqrt(values / self.size)) / 2
        height = int(np.ceil(share * scored.shape[-2]))
        width = int(np.ceil(share * scored.shape[-1]))
        counts = scored.reshape(-1, *scored.shape[-2:]).sum(0)
        # Sums over tiles side by side; reduceat takes a last tile that is smaller, too.
        by_row = np.add.reduceat(counts, np.arange(0, counts.shape[0], height), axis=0)
        sums = np.add.reduceat(by_row, np.arange(0, counts.shape[1], width), axis=1)
        row, column = map(int, np.unravel_index(sums.argmax(), sums.shape))
        *_, y, x = np.nonzero(scored)
        rows = (y // height == row) & (x // width == column)
        middle = np.zeros(counts.shape, bool)
        middle[row * height : (row + 1) * height, column * width : (column + 1) * width] = True
        space = self.scored.dims[-2:]
        window = dict(zip(space, (_around(row, height), _around(column, width)), strict=True))
        part = replace(
            self,
            obs=self.obs.isel(window),
            sea=self.sea.isel(window),
            hidden=self.hidden.isel(window),
            scored=(self.scored & xr.DataArray(middle, dims=space)).isel(window),
            distance=self.distance[rows],
            lag=self.lag[rows],
            weight=self.weight[rows],
            odds=self.odds[rows],
            gaps={},  # those are of the whole
        )
        return part, rows

    def fitted(self, method: Method) -> Method:
        """Fit a method without the hidden pixels, if it can keep its fit for several fills."""
        if hasattr(method, "fitted_to"):
            # The fit must not see what the method is scored on.
            known: Method = method.fitted_to(self.obs.where(~self.hidden), self.sea)
            return known
        return method

    def predict(self, method: Method) -> WithheldEstimates:
        """Fill the series without the hidden pixels, and return the estimates at those scored."""
        left = self.obs.where(~self.hidden)
        # Scores need the withheld pixels only, which some methods estimate for far less.
        if hasattr(method, "reconstruct_at"):
            estimate = method.reconstruct_at(left, self.sea, self.scored)
        else:
            estimate = method.reconstruct(left, self.sea)
        sigma = xr.full_like(self.obs, np.nan)
        if "error" in estimate:
            sigma = estimate["error"]
        truth, mean, stated, image, layer = gather(self.scored, self.obs, estimate["mean"], sigma)
        places = image, layer, self.distance, self.lag, self.weight, self.odds
        return WithheldEstimates(truth, mean, stated, *places)


def _around(number: int, length: int) -> slice:
    """Pixels of a stretch of so many, and half as many on either side."""
    return slice(max(0, number * length - length // 2), (number + 1) * length + length // 2)
