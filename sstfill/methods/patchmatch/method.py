# SPDX-License-Identifier: Apache-2.0
"""Patch matching: fill gaps with values from parts of the series that look alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from sstfill.checks import check_number
from sstfill.errors import OptionError
from sstfill.fields.reading.dates import days_since_first
from sstfill.methods.common.matrix import CONSTANT
from sstfill.methods.common.threads import available_cores
from sstfill.methods.patchmatch.pyramid import PyramidLevel, first_guess, levels_for
from sstfill.methods.registry import register

FILLED = 0.1
"""Weight of a filled pixel against an observed one where patches are compared."""
LENT = 0.3
"""Weight of a vote for a value that is itself filled."""
PENALTY = 0.5
"""Cost of a filled source pixel, as a fraction of its squared distance to data."""
MOST = np.float32(1)
"""Bound of that distance, in variances of the channel; land and what lies outside cost as much."""
ERROR_GROWTH = 0.1
"""Error variance for each unit of the squared distance to data."""


@register
@dataclass(frozen=True, kw_only=True)
class PatchMatch:
    """Fill with similar patches of the series: video inpainting after Newson et al. (2014).

    Each patch in space and time that touches a gap is matched to the most similar one elsewhere in
    the series. Each missing pixel becomes the weighted mean of what the matches of the patches
    around it show at its place. The two steps alternate, from coarse images to fine. Nothing is
    trained. Gaps may have any shape, since no patch needs to be whole: observed pixels count fully
    and filled pixels count little, both where patches are compared and where they are copied. The
    search is random with a seed; results do not depend on the number of threads.

    The method suits patterns that move and recur. The series is held in memory, about 100 bytes for
    each pixel of each image, and a million of them take about a minute on one core. Observed pixels
    come back unchanged.

    Parameters
    ----------
    patch
        Side of a patch in pixels and in images, an odd number.
    levels
        Number of resolutions, each half the one before; ``"auto"`` takes as many as let a patch of
        the coarsest span a gap.
    iterations
        Rounds of matching and filling at each resolution.
    sweeps
        Sweeps of the search in each round.
    remove_mean
        Compare and copy patches less their (weighted) means; filled values stay within the observed
        range.
    sharp
        In the last round take the value of the most similar patch instead of the mean: finer
        detail, larger error.
    seed
        Seed of the search.

    References
    ----------
    Newson, Almansa, Fradet, Gousseau & Perez (2014), SIAM Journal on Imaging Sciences 7, 1993-2019;
    Barnes, Shechtman, Finkelstein & Goldman (2009), ACM Transactions on Graphics 28 (3), 24.

    Examples
    --------
    >>> PatchMatch(patch=4)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: patch=4 has no centre; give an odd number, such as 5
    """

    name: ClassVar[str] = "patchmatch"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1
    largest: ClassVar[int] = 750_000
    """Values of a series beyond which `sstfill.Auto` leaves it out, for its cost."""

    patch: int = 5
    levels: int | Literal["auto"] = "auto"
    iterations: int = 5
    sweeps: int = 2
    remove_mean: bool = True
    sharp: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("patch", self.patch, 1, 15, whole=True)
        if self.patch % 2 == 0:
            raise OptionError(
                f"patch={self.patch} has no centre; give an odd number, such as {self.patch + 1}"
            )
        if self.levels != "auto":
            check_number("levels", self.levels, 1, 12, whole=True)
        for option in ("iterations", "sweeps"):
            check_number(option, getattr(self, option), 1, whole=True)
        for option in ("remove_mean", "sharp"):
            if not isinstance(getattr(self, option), bool | np.bool_):
                raise OptionError(
                    f"{option}={getattr(self, option)!r} is not a truth value; give True or False"
                )
        check_number("seed", self.seed, 0, whole=True)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`), which is loaded if lazy."""
        order = ("variable", "time", *sea.dims)
        field = obs if "variable" in obs.dims else obs.expand_dims("variable")
        field = field.transpose(*order)
        # The random search depends on positions: with rows and columns ascending, a field and
        # its mirror image are filled alike.
        ascending = tuple(slice(None, None, _direction(obs, dim)) for dim in sea.dims)
        values = field.values[:, :, *ascending]
        at_sea = sea.values.astype(bool)[ascending]
        mean, error, levels = _filled(values, at_sea, days_since_first(obs), self)

        def laid_out(values: NDArray) -> xr.DataArray:
            full = xr.DataArray(values[:, :, *ascending], dims=order, coords=field.coords)
            if "variable" not in obs.dims:
                full = full.isel(variable=0, drop=True)
            full = full.transpose(*obs.dims)
            if obs.chunks:
                return full.chunk(obs.chunksizes)
            return full

        estimate = xr.Dataset({"mean": laid_out(mean), "error": laid_out(error)})
        estimate.attrs = {"levels": levels}
        return estimate


def _direction(obs: xr.DataArray, dim: Hashable) -> int:
    """Return -1 where a coordinate descends, else 1."""
    if dim not in obs.coords or obs.sizes[dim] < 2:
        return 1
    along = obs[dim].values
    return -1 if along[-1] < along[0] else 1


def _filled(
    raw: NDArray, sea: NDArray[np.bool_], days: NDArray, method: PatchMatch
) -> tuple[NDArray, NDArray, int]:
    """Fill ``(channels, times, y, x)``: estimate, error and number of resolutions; NaN off the sea.

    A channel without any observation stays NaN.
    """
    # A channel without any observation takes no part: it has no mean to standardise by.
    mean = np.full(raw.shape, np.nan, raw.dtype)
    error = np.full(raw.shape, np.nan, np.float32)
    present = np.isfinite(raw) & sea
    channels = present.any((1, 2, 3))
    observed, values = present[channels], raw[channels]
    over = {"axis": (1, 2, 3), "keepdims": True, "where": observed}
    offset = np.mean(values, dtype=np.float64, **over)
    scale = np.std(values, dtype=np.float64, **over)
    # Rounding leaves a constant channel a scale just above 0, by which noise would be blown up.
    scale = np.where(scale > CONSTANT * np.abs(offset), scale, 1.0)
    standard = np.where(observed, (values - offset) / scale, 0).astype(np.float32)
    guess = np.empty_like(standard)
    for channel, given in enumerate(observed):
        guess[channel] = first_guess(standard[channel], given, days)
    series = PyramidLevel(guess, observed.astype(np.float32), sea)
    levels = levels_for(series, method.patch) if method.levels == "auto" else method.levels
    filled, variance = _coarse_to_fine(series, levels, method)
    # Two estimates by different means disagree by about as much as either may be wrong; and the
    # error grows away from data, which the spread of votes does not see.
    variance += np.square(filled - guess) + ERROR_GROWTH * series.squared_distance_to_data()
    low = np.min(values, initial=np.inf, **over)
    high = np.max(values, initial=-np.inf, **over)
    # With `remove_mean`, a sum of mean and copy can leave the observed range.
    mean[channels] = np.where(observed, values, np.clip(filled * scale + offset, low, high))
    error[channels] = np.sqrt(variance) * scale
    mean[..., ~sea] = np.nan
    error[..., ~sea] = np.nan
    return mean, error, levels


def _coarse_to_fine(
    series: PyramidLevel, levels: int, method: PatchMatch
) -> tuple[NDArray, NDArray]:
    """Estimate, and its expected squared error in the gaps, both ``(channels, times, y, x)``."""
    pyramid = [series]
    # A series of one pixel a side cannot become coarser, whatever `levels` asks for.
    while len(pyramid) < levels and max(pyramid[-1].sea.shape) > 1:
        pyramid.append(pyramid[-1].coarser())
    before: _Layer | None = None
    with ThreadPoolExecutor(available_cores()) as pool:
        # From coarse to fine: the coarse estimate is the next layer's first guess.
        for level in reversed(range(len(pyramid))):
            layer = _Layer(pyramid[level], method, level, before)
            layer.solve(pool)
            before = layer
    return layer.estimate, layer.variance


class _Matches(NamedTuple):
    """The match of each padded position (-1 for none), its squared distance and its offset."""

    match: NDArray[np.int64]
    distance: NDArray[np.float32]
    offsets: NDArray[np.float32]


class _Layer:
    """One resolution: the series padded and flattened for the kernels, and its present estimate."""

    def __init__(
        self, series: PyramidLevel, method: PatchMatch, level: int, coarse: _Layer | None
    ) -> None:
        self.series, self.method, self.level = series, method, level
        start = series
        if coarse is not None:
            start = series.corrected(coarse.estimate - coarse.series.values)
        self.half = method.patch // 2
        self.channels = len(series.values)
        self.size = np.array(series.values.shape[1:])
        ny, nx = self.size[1:] + 2 * self.half
        self.strides = np.array([ny * nx, nx, 1])
        span = np.arange(-self.half, self.half + 1)
        self.rows = (span[:, np.newaxis] * self.strides[0] + span * nx - self.half).ravel()
        # Edges are repeated, so that a patch that sticks out compares with numbers of the field;
        # their weight is 0 all the same.
        self.values = self._flat(start.values, mode="edge")
        self._lay_out_trust()
        # matched are patches at sea that touch a gap; any at sea is a source
        sea = np.broadcast_to(series.sea, series.gap.shape)
        self.source = self._flat(sea)
        self.gaps = np.flatnonzero(self._flat(series.gap))
        touching = maximum_filter(series.gap, size=method.patch, mode="constant") & sea
        self.targets = np.flatnonzero(self._flat(touching))
        match = np.full(self.source.size, -1)
        if coarse is not None:
            match[self.targets] = self._matches_from(coarse)
        self.found = _Matches(
            match, np.zeros(match.size, np.float32), np.zeros(self.values.shape, np.float32)
        )
        self.estimate: NDArray = start.values
        self.variance: NDArray = np.zeros(series.values.shape)

    def _flat(self, a: NDArray, **how: str) -> NDArray:
        """Pad the last three axes by half a patch, and flatten them."""
        pad = [(0, 0)] * (a.ndim - 3) + [(self.half, self.half)] * 3
        padded = np.pad(a, pad, **how)  # type: ignore[call-overload]
        return np.ascontiguousarray(padded.reshape(*a.shape[:-3], -1))

    def _lay_out_trust(self) -> None:
        """Set the weights of pixels as target and as source, and the cost of a source pixel."""
        trust = self.series.trust
        sea = np.broadcast_to(self.series.sea, trust.shape)
        self.cost = self.series.increments().min(1).astype(np.float32)[:, np.newaxis]
        self.weight = self._flat(np.where(sea, trust + (1 - trust) * np.float32(FILLED), 0))
        self.lend = self._flat(np.where(sea, trust + (1 - trust) * np.float32(LENT), 0))
        distance = self.series.squared_distance_to_data().astype(np.float32)
        doubt = np.clip(distance, (1 - trust) * self.cost[:, :, None, None], MOST)
        # Padding with zeros before the subtraction gives land and what lies outside the full cost.
        self.penalty = np.float32(PENALTY) * (MOST - self._flat(np.where(sea, MOST - doubt, 0)))

    def _places(self, flat: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Time, y and x of padded positions."""
        t, y, x = np.unravel_index(flat, tuple(self.size + 2 * self.half))
        return t - self.half, y - self.half, x - self.half

    def _positions(self, t: NDArray, y: NDArray, x: NDArray) -> NDArray:
        return (t + self.half) * self.strides[0] + (y + self.half) * self.strides[1] + x + self.half

    def _matches_from(self, coarse: _Layer) -> NDArray:
        """Match each target as the coarser patch over it; -1 where that is no source or itself."""
        t, y, x = self._places(self.targets)
        match = coarse.found.match[coarse._positions(t, y // 2, x // 2)]
        # -1, no match, is no position; any will do, for it is dropped at the end.
        t, rows, columns = coarse._places(np.maximum(match, 0))
        rows = np.minimum(2 * rows + y % 2, self.size[1] - 1)
        # An odd last row or column has a coarse pixel of its own, of which only one half exists.
        columns = np.minimum(2 * columns + x % 2, self.size[2] - 1)
        new = self._positions(t, rows, columns)
        return np.where((match >= 0) & (new != self.targets) & self.source[new], new, -1)

    def solve(self, pool: ThreadPoolExecutor) -> None:
        """Match and fill in turn; leaves the result in `estimate` and `variance`."""
        trust = self._flat(self.series.trust)[:, self.gaps]
        known = self.values[:, self.gaps]
        spread = np.zeros(known.shape)
        for turn in range(self.method.iterations):
            for sweep in range(self.method.sweeps):
                # The first sweeps ask neighbours further off, so that good matches spread faster.
                jump = 1
                if turn == 0:
                    jump = 2 ** max(0, 2 - sweep)
                self._sweep(pool, turn * self.method.sweeps + sweep, jump)
            last = self.level == 0 and turn == self.method.iterations - 1
            votes, spread = self._vote(pool, sharp=self.method.sharp and last)
            # No match of any patch around lends anything here: the estimate stays what it was.
            votes = np.where(np.isfinite(votes), votes, self.values[:, self.gaps])
            # In a coarse layer a pixel is observed in part; that part is kept.
            self.values[:, self.gaps] = trust * known + (1 - trust) * votes
        full = np.zeros(self.values.shape)
        full[:, self.gaps] = np.where(np.isfinite(spread), spread, self.cost)
        self.estimate = self._unflat(self.values)
        self.variance = self._unflat(full)

    def _unflat(self, flat: NDArray) -> NDArray:
        """Undo `_flat`."""
        inner = tuple(slice(self.half, self.half + n) for n in self.size)
        return flat.reshape(-1, *(self.size + 2 * self.half))[:, *inner]

    def _sweep(self, pool: ThreadPoolExecutor, count: int, jump: int) -> None:
        from sstfill.methods.patchmatch.search import sweep

        # One key for each sweep: the same key would try the same random positions again.
        seeds = np.random.SeedSequence([self.method.seed, self.level, count])
        key = seeds.generate_state(1, np.uint64)[0]
        # The sweep reads the matches before and writes new ones; in place, the result would depend
        # on the order of threads.
        match = self.found.match.copy()

        def run(part: slice) -> None:
            sweep(
                self.targets[part],
                self.values,
                self.weight,
                self.penalty,
                self.source,
                self.rows,
                self.method.patch,
                bool(self.method.remove_mean),
                self.strides,
                self.size,
                jump,
                key,
                self.found.match,
                match,
                self.found.distance,
                self.found.offsets,
            )

        _in_parts(pool, run, self.targets.size)
        self.found = self.found._replace(match=match)

    def _vote(self, pool: ThreadPoolExecutor, *, sharp: bool) -> tuple[NDArray, NDArray]:
        from sstfill.methods.patchmatch.search import vote

        mean = np.empty((self.channels, self.gaps.size), np.float32)
        variance = np.empty_like(mean)
        steps = (self.rows[:, np.newaxis] + np.arange(self.method.patch)).ravel()

        def run(part: slice) -> None:
            vote(
                self.gaps[part],
                self.values,
                self.lend,
                steps,
                sharp,
                *self.found,
                mean[:, part],
                variance[:, part],
            )

        _in_parts(pool, run, self.gaps.size)
        return mean, variance


def _in_parts(pool: ThreadPoolExecutor, run: Callable[[slice], None], n: int) -> None:
    """Run over a range in a few parts for each thread."""
    # More parts than threads, for targets near land or data are done sooner than others.
    edges = np.linspace(0, n, 4 * pool._max_workers + 1).astype(int)
    # list() waits for all parts, and raises what one of them raised.
    list(pool.map(run, [slice(a, b) for a, b in pairwise(edges) if b > a]))
