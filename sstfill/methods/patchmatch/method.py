# SPDX-License-Identifier: Apache-2.0
"""Patch matching: gaps are filled with what the rest of the series shows in places that look alike."""

from __future__ import annotations

from collections.abc import Callable
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
from sstfill.fields import grid
from sstfill.methods.common.matrix import CONSTANT
from sstfill.methods.common.threads import available_cores
from sstfill.methods.patchmatch.pyramid import Series, first_guess, levels_for
from sstfill.methods.registry import register

FILLED = 0.1
"""Weight of a filled pixel against an observed one where patches are compared."""
LENT = 0.3
"""Weight of a vote for a value that is itself filled."""
PENALTY = 0.5
"""What a source pixel that is filled adds to the distance, as a share of `Series.drift`."""
MOST = np.float32(1)
"""Bound of that drift, in variances of the channel; land and what lies outside cost as much."""
DRIFT = 0.1
"""Error variance grows by this share of the squared distance to an observation, in rms increments
per step.
"""


@register
@dataclass(frozen=True, kw_only=True)
class PatchMatch:
    """Fill with what similar patches of the series show: video inpainting after Newson et al.
    (2014).

    Each patch in space and time that touches a gap is matched to the most similar one elsewhere in
    the series; each missing pixel is the weighted mean of what the matches of the patches around it
    show at its place; and so on in turn, from coarse images to fine. Nothing is trained. Gaps may
    have any shape, for no patch needs to be whole: what is observed counts fully, what is filled so
    far counts little, in what is compared and in what is copied. The search is random, with a seed:
    results do not depend on the number of threads.

    Made for what moves and recurs. The series is held in memory, about 100 bytes for each pixel of
    each image, and a million of them take about a minute on one core. Observed pixels come back as
    they are.

    Parameters
    ----------
    patch
        Side of a patch in pixels and in images, an odd number.
    levels
        Number of resolutions, each half the one before; ``"auto"`` has a patch of the coarsest
        reach across a gap.
    iterations
        How often matching and filling take turns at each resolution.
    sweeps
        Sweeps of the search in each turn.
    remove_mean
        Compare and copy patches less their (weighted) means; filled values keep within the observed
        range.
    sharp
        At the end take the value of the most similar patch instead of the mean: finer detail,
        larger error.
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
                    f"{option}={getattr(self, option)!r} is no truth value; give True or False"
                )
        check_number("seed", self.seed, 0, whole=True)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`); read and filled at once, also
        where lazy.
        """
        order = ("variable", "time", *sea.dims)
        field = (obs if "variable" in obs.dims else obs.expand_dims("variable")).transpose(*order)
        up = tuple(
            slice(None, None, -1 if _descends(obs, dim) else 1) for dim in sea.dims
        )  # one way for all, whichever
        mean, error, levels = _filled(
            field.values[:, :, *up], sea.values.astype(bool)[up], grid.days(obs), self
        )

        def placed(values: NDArray) -> xr.DataArray:
            full = xr.DataArray(values[:, :, *up], dims=order, coords=field.coords)
            like = full if "variable" in obs.dims else full.isel(variable=0, drop=True)
            like = like.transpose(*obs.dims)
            return like.chunk(obs.chunksizes) if obs.chunks else like

        found = xr.Dataset({"mean": placed(mean), "error": placed(error)})
        found.attrs = {"levels": levels}
        return found


def _descends(obs: xr.DataArray, dim: object) -> bool:
    if dim not in obs.coords or obs.sizes[dim] < 2:
        return False
    along = obs[dim].values
    return bool(along[-1] < along[0])


def _filled(
    raw: NDArray, sea: NDArray[np.bool_], days: NDArray, method: PatchMatch
) -> tuple[NDArray, NDArray, int]:
    """Fill ``(channels, times, y, x)``: estimate, error and number of resolutions; NaN off the sea.

    A channel without any observation stays NaN.
    """
    mean, error = np.full(raw.shape, np.nan, raw.dtype), np.full(raw.shape, np.nan, np.float32)
    everywhere = np.isfinite(raw) & sea
    some = everywhere.any((1, 2, 3))
    observed, values = everywhere[some], raw[some]
    over = {"axis": (1, 2, 3), "keepdims": True, "where": observed}
    offset = np.mean(values, dtype=np.float64, **over)
    scale = np.std(values, dtype=np.float64, **over)
    scale = np.where(scale > CONSTANT * np.abs(offset), scale, 1.0)
    standard = np.where(observed, (values - offset) / scale, 0).astype(np.float32)
    guess = np.stack([first_guess(v, o, days) for v, o in zip(standard, observed, strict=True)])
    video = Series(guess, observed.astype(np.float32), sea)
    levels = levels_for(video, method.patch) if method.levels == "auto" else method.levels
    filled, variance = _coarse_to_fine(video, levels, method)
    variance += np.square(filled - guess) + DRIFT * video.drift()
    low, high = (f(values, initial=i, **over) for f, i in ((np.min, np.inf), (np.max, -np.inf)))
    mean[some] = np.where(observed, values, np.clip(filled * scale + offset, low, high))
    error[some] = np.sqrt(variance) * scale
    mean[..., ~sea] = error[..., ~sea] = np.nan
    return mean, error, levels


def _coarse_to_fine(video: Series, levels: int, method: PatchMatch) -> tuple[NDArray, NDArray]:
    """Estimate, and its expected squared error in the gaps, both ``(channels, times, y, x)``."""
    pyramid = [video]
    while len(pyramid) < levels and max(pyramid[-1].sea.shape) > 1:
        pyramid.append(pyramid[-1].coarser())
    before: _Layer | None = None
    with ThreadPoolExecutor(available_cores()) as pool:
        for level in reversed(range(len(pyramid))):
            layer = _Layer(pyramid[level], method, level, before)
            layer.solve(pool)
            before = layer
    return layer.estimate, layer.variance


class _Matches(NamedTuple):
    """What the search found of each padded position: the match (-1 for none), its squared distance
    and offset.
    """

    match: NDArray[np.int64]
    distance: NDArray[np.float32]
    offsets: NDArray[np.float32]


class _Layer:
    """One resolution: the video padded and flattened for the kernels, and the state of its filling."""

    def __init__(
        self, video: Series, method: PatchMatch, level: int, coarse: _Layer | None
    ) -> None:
        self.video, self.method, self.level = video, method, level
        start = video if coarse is None else video.moved(coarse.estimate - coarse.video.values)
        self.half = method.patch // 2
        self.channels = len(video.values)
        self.size = np.array(video.values.shape[1:])
        ny, nx = self.size[1:] + 2 * self.half
        self.strides = np.array([ny * nx, nx, 1])
        span = np.arange(-self.half, self.half + 1)
        self.rows = (span[:, np.newaxis] * self.strides[0] + span * nx - self.half).ravel()
        self.values = self._flat(start.values, mode="edge")
        self._lay_out_trust()
        self._choose_targets()
        match = np.full(self.source.size, -1)
        if coarse is not None:
            match[self.targets] = self._handed_down(coarse)
        self.found = _Matches(
            match, np.zeros(match.size, np.float32), np.zeros(self.values.shape, np.float32)
        )
        self.estimate: NDArray = start.values
        self.variance: NDArray = np.zeros(video.values.shape)

    def _flat(self, a: NDArray, **how: str) -> NDArray:
        """Pad the last three axes by half a patch, and flatten them."""
        pad = [(0, 0)] * (a.ndim - 3) + [(self.half, self.half)] * 3
        return np.ascontiguousarray(np.pad(a, pad, **how).reshape(*a.shape[:-3], -1))  # type: ignore[call-overload]

    def _lay_out_trust(self) -> None:
        """Set what pixels count as target, lend as source, and cost as source."""
        trust = self.video.trust
        wet = np.broadcast_to(self.video.sea, trust.shape)
        self.cost = self.video.increments().min(1).astype(np.float32)[:, np.newaxis]
        self.weight = self._flat(np.where(wet, trust + (1 - trust) * np.float32(FILLED), 0))
        self.lend = self._flat(np.where(wet, trust + (1 - trust) * np.float32(LENT), 0))
        doubt = np.clip(
            self.video.drift().astype(np.float32), (1 - trust) * self.cost[:, :, None, None], MOST
        )
        self.penalty = np.float32(PENALTY) * (MOST - self._flat(np.where(wet, MOST - doubt, 0)))

    def _choose_targets(self) -> None:
        """Choose the patches to match: centre at sea, a gap in reach; sources have their centre at
        sea.
        """
        gap = self.video.gap
        wet = np.broadcast_to(self.video.sea, gap.shape)
        self.source = self._flat(wet)
        self.gaps = np.flatnonzero(self._flat(gap))
        self.targets = np.flatnonzero(
            self._flat(maximum_filter(gap, size=self.method.patch, mode="constant") & wet)
        )

    def _places(self, flat: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Time, y and x of padded positions."""
        return tuple(
            flat // s % n - self.half
            for s, n in zip(self.strides, self.size + 2 * self.half, strict=True)
        )

    def _positions(self, t: NDArray, y: NDArray, x: NDArray) -> NDArray:
        return (t + self.half) * self.strides[0] + (y + self.half) * self.strides[1] + x + self.half

    def _handed_down(self, coarse: _Layer) -> NDArray:
        """Match each target as the coarser patch over it is matched; -1 where that leads nowhere."""
        t, y, x = self._places(self.targets)
        match = coarse.found.match[coarse._positions(t, y // 2, x // 2)]
        t, ys, xs = coarse._places(np.maximum(match, 0))
        ys, xs = (
            np.minimum(2 * ys + y % 2, self.size[1] - 1),
            np.minimum(2 * xs + x % 2, self.size[2] - 1),
        )
        new = self._positions(t, ys, xs)
        return np.where((match >= 0) & (new != self.targets) & self.source[new], new, -1)

    def solve(self, pool: ThreadPoolExecutor) -> None:
        """Match and fill in turn; leaves the result in `estimate` and `variance`."""
        trust = self._flat(self.video.trust)[:, self.gaps]
        known = self.values[:, self.gaps]
        spread = np.zeros(known.shape)
        for turn in range(self.method.iterations):
            for sweep in range(self.method.sweeps):
                self._sweep(
                    pool,
                    turn * self.method.sweeps + sweep,
                    2 ** max(0, 2 - sweep) if turn == 0 else 1,
                )
            last = self.level == 0 and turn == self.method.iterations - 1
            votes, spread = self._vote(pool, sharp=self.method.sharp and last)
            votes = np.where(np.isfinite(votes), votes, self.values[:, self.gaps])
            self.values[:, self.gaps] = trust * known + (1 - trust) * votes
        full = np.zeros(self.values.shape)
        full[:, self.gaps] = np.where(np.isfinite(spread), spread, self.cost)
        self.estimate, self.variance = self._cut(self.values), self._cut(full)

    def _cut(self, flat: NDArray) -> NDArray:
        """Undo `_flat`."""
        inner = tuple(slice(self.half, self.half + n) for n in self.size)
        return flat.reshape(-1, *(self.size + 2 * self.half))[:, *inner]

    def _sweep(self, pool: ThreadPoolExecutor, count: int, jump: int) -> None:
        from sstfill.methods.patchmatch.search import sweep

        key = np.random.SeedSequence([self.method.seed, self.level, count]).generate_state(
            1, np.uint64
        )[0]
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

        shape = (self.channels, self.gaps.size)
        mean, variance = np.empty(shape, np.float32), np.empty(shape, np.float32)
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
    edges = np.linspace(0, n, 4 * pool._max_workers + 1).astype(int)
    list(pool.map(run, [slice(a, b) for a, b in pairwise(edges) if b > a]))
