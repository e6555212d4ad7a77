# SPDX-License-Identifier: Apache-2.0
"""Hide clouds, fill them, compare: how a method is judged on the very series it is to fill."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks
from numpy.typing import NDArray
from scipy.special import ndtri

from sstfill import gaps, metrics
from sstfill.errors import InputError
from sstfill.methods import Method
from sstfill.methods.matrix import SLAB

log = logging.getLogger(__name__)
SHARE = 0.1
LEVELS = (0.5, 0.8, 0.9, 0.95)
STEPS = np.linspace(-1.5, 1.5, 601)
"""Logarithms of the factors tried for the error, half a percent apart."""
EXTREME = 1e6
"""Errors are scaled by this factor, up or down, at most."""
USUAL = 4.0
"""Beyond this factor something is amiss with the stated error, and the log says so."""


@dataclass(frozen=True)
class Hindcast:
    """What a method made of the withheld clouds of one variable.

    Attributes
    ----------
    summary
        Scores on the withheld pixels, as JSON can hold them; ``std`` is the standard deviation of what was withheld.
    sigma_scale
        Factor that makes the method's stated error hold on the withheld pixels.
    """

    summary: dict[str, Any]
    sigma_scale: float

    @property
    def rmse(self) -> float:
        """Root mean square error on the withheld pixels; NaN if the method filled none of them."""
        return float(self.summary["rmse"])

    @property
    def loss(self) -> float:
        """RMSE over the standard deviation of what was withheld; a pixel not filled counts as filled with the mean."""
        share, std = float(self.summary["filled_share"]), float(self.summary["std"])
        return float(np.sqrt(share * self.rmse**2 + (1 - share) * std**2)) / (std or 1.0)


class Answers(NamedTuple):
    """What a method said at the withheld pixels, each of shape (n,): and what is true, and which image and variable."""

    truth: NDArray
    mean: NDArray
    sigma: NDArray
    image: NDArray
    layer: NDArray


def hindcast(
    method: Method, obs: xr.DataArray, sea: xr.DataArray, seed: int, share: float = SHARE
) -> dict[str, Hindcast]:
    """Fill clouds transplanted from other dates and score each variable; nothing (but a warning) where there are none.

    The error is scaled so that it holds as well as can be at all of `LEVELS`, see `error_scale`. The coverage reported
    is an honest one: scale from every other image, tested on those between.
    """
    try:
        hidden = hide(obs, sea, seed, share)
        found = ask(method, obs, sea, hidden)
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return {}
    return judge(found, variables(obs), {"share": share, "seed": seed})


def hide(obs: xr.DataArray, sea: xr.DataArray, seed: int, share: float) -> xr.DataArray:
    """Where to hide, bool with the dims of `obs`; of several variables each where the same other date lacks it.

    Raises `InputError` if there are no clouds to transplant.
    """
    seed = int(np.random.SeedSequence([seed, 2]).generate_state(1)[0])  # clouds of their own, not those of a score
    if "variable" not in obs.dims:
        return gaps.transplant_clouds(obs, sea, share=share, seed=seed)
    return gaps.transplant_together(obs, sea, share=share, seed=seed)


def variables(obs: xr.DataArray) -> list[str]:
    """Names of the variables along ``variable``, or the one name of a field."""
    return [str(n) for n in obs["variable"].values] if "variable" in obs.dims else [str(obs.name)]


def ask(
    method: Method, obs: xr.DataArray, sea: xr.DataArray, hidden: xr.DataArray, judged: xr.DataArray | None = None
) -> Answers:
    """Fill `obs` without what is hidden, and keep what the method says there (NaN where it does not).

    With `judged`, at those of the hidden pixels only.
    """
    estimate = method.reconstruct(obs.where(~hidden), sea)
    sigma = estimate["error"] if "error" in estimate else xr.full_like(obs, np.nan)
    return Answers(*gather(hidden if judged is None else judged, obs, estimate["mean"], sigma))


def judge(answers: Answers, names: list[str], how: dict[str, Any]) -> dict[str, Hindcast]:
    """Score each variable of which something was hidden; `how` goes into the summary."""
    *columns, layer = answers
    at = {name: layer == i for i, name in enumerate(names)}
    return {name: _scored(how, *(c[here] for c in columns)) for name, here in at.items() if here.any()}


def _scored(how: dict[str, Any], truth: NDArray, mean: NDArray, sigma: NDArray, image: NDArray) -> Hindcast:
    known = np.isfinite(mean)
    filled, wanted = mean[known], truth[known]
    summary: dict[str, Any] = {
        **how, "n": truth.size, "filled_share": float(known.mean()), "mae": metrics.mae(filled, wanted),
        "rmse": metrics.rmse(filled, wanted), "bias": metrics.bias(filled, wanted),
        "correlation": metrics.correlation(filled, wanted), "std": float(truth.std()),
    }  # fmt: skip
    stated = known & np.isfinite(sigma)
    if not stated.any():
        return Hindcast(summary, 1.0)
    z = standardised(np.abs(mean - truth)[stated], sigma[stated])
    even = np.unique(image[stated], return_inverse=True)[1] % 2 == 0
    if not even.all():
        fair = np.where(even, z / error_scale(z[~even]), z / error_scale(z[even]))
        summary["coverage"] = {str(p): metrics.coverage(fair, np.ones_like(fair), p) for p in LEVELS}
    scale = summary["sigma_scale"] = error_scale(z)
    if not 1 / USUAL < scale < USUAL:
        log.warning("the stated error had to be scaled by %.3g to hold on withheld clouds; do not rely on it", scale)
    return Hindcast(summary, scale)


def standardised(error: NDArray, sigma: NDArray) -> NDArray:
    """``|error| / sigma``; where sigma is 0 (no scale can mend that) 0 or infinite."""
    error = np.abs(error)
    with np.errstate(over="ignore"):
        return np.divide(error, sigma, out=np.where(error > 0, np.inf, 0.0), where=sigma > 0)


def error_scale(z: NDArray) -> float:
    """Return the factor by which sigma must be multiplied so that its intervals hold as many errors as they promise.

    Minimises the sum over `LEVELS` of squared (share inside - level), searched around the 68.27 % quantile of
    `z` = ``|error| / sigma``, which alone would do for Gaussian errors: of heavier tails, as those of filled pixels
    are, it leaves too many outside the wide intervals; here what cannot be met is shared out. Infinite `z` are ignored.

    >>> z = np.abs(np.random.default_rng(0).normal(0, 2, 100_000))
    >>> round(error_scale(z), 1)
    2.0
    """
    known = np.sort(z[np.isfinite(z)])
    if not known.size:
        return 1.0
    start = float(np.quantile(known, 0.6827))
    if not 1 / EXTREME < start < EXTREME:
        return float(np.clip(start, 1 / EXTREME, EXTREME))
    levels = np.array(LEVELS)[:, np.newaxis]
    inside = np.searchsorted(known, start * np.exp(STEPS) * ndtri((1 + levels) / 2), side="right") / known.size
    missed = np.square(inside - levels).sum(0).round(12)
    best = np.lexsort((np.abs(STEPS), missed))[0]  # of equals the nearest to the quantile
    return float(np.clip(start * np.exp(STEPS[best]), 1 / EXTREME, EXTREME))


def gather(hidden: xr.DataArray, *fields: xr.DataArray) -> tuple[NDArray, ...]:
    """Each field at the hidden pixels, then number of image and of variable; block by block, lazy ones in one go.

    The order of the pixels is that of ``(time, variable, y, x)``, whatever the chunks.
    """
    order = ("time", *(d for d in hidden.dims if d != "time"))
    arrays = [a.transpose(*order).data for a in fields]
    where = hidden.transpose(*order).values
    parts = _lazily_picked(where, arrays) if any(map(dask.is_dask_collection, arrays)) else [
        _picked(where[block], block, where.shape, *(a[block] for a in arrays)) for block in _slabs(arrays[0])
    ]  # fmt: skip
    place, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    sort = np.argsort(place, kind="stable")
    index = np.unravel_index(place[sort], where.shape)
    layer = index[1] if where.ndim == 4 else np.zeros_like(index[0])
    return *(c[sort] for c in columns), index[0], layer


def _lazily_picked(where: NDArray, arrays: list[Any]) -> list[tuple[NDArray, ...]]:
    """Pick block by block in one graph, so that what several fields share is computed once.

    The blocks are those of the last lazy array, which is the one that took most work.
    """
    chunks = next(a.chunks for a in reversed(arrays) if dask.is_dask_collection(a))
    whole = [a if dask.is_dask_collection(a) else da.from_array(a, chunks) for a in arrays]
    delayed = [a.rechunk(chunks).to_delayed(optimize_graph=False).ravel() for a in whole]
    pick = dask.delayed(_picked, pure=False)
    blocks = zip(slices_from_chunks(chunks), *delayed, strict=True)
    return dask.compute([pick(where[block], block, where.shape, *parts) for block, *parts in blocks])[0]


def _slabs(array: NDArray) -> Iterator[tuple[slice, ...]]:
    yield from ((slice(i, i + SLAB),) for i in range(0, len(array), SLAB))


def _picked(where: NDArray, block: tuple[slice, ...], shape: tuple[int, ...], *fields: NDArray) -> tuple[NDArray, ...]:
    """Place in the whole array, raveled, of each pixel of a block that is hidden; and the fields there."""
    origin = [side.start for side in block] + [0] * (where.ndim - len(block))
    at = tuple(i + o for i, o in zip(np.nonzero(where), origin, strict=True))
    return np.ravel_multi_index(at, shape), *(field[where].astype(np.float64) for field in fields)
