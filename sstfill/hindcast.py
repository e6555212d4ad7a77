# SPDX-License-Identifier: Apache-2.0
"""Hide clouds, fill them, compare: how a method is judged on the very series it is to fill."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks
from numpy.typing import NDArray

from sstfill import gaps, metrics
from sstfill.errors import InputError, SstfillError
from sstfill.methods import METHODS, Interpolate, Method
from sstfill.methods.base import seeded
from sstfill.methods.matrix import SLAB
from sstfill.progress import track

log = logging.getLogger(__name__)
SHARE = 0.1
LEVELS = (0.5, 0.8, 0.9, 0.95)
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


def hindcast(
    method: Method, obs: xr.DataArray, sea: xr.DataArray, seed: int, share: float = SHARE
) -> dict[str, Hindcast]:
    """Fill clouds transplanted from other dates and score each variable; nothing (but a warning) where there are none.

    The error is scaled by the 68.27 % quantile of ``|error| / sigma``. The coverage reported is an honest one: scale
    from every other image, tested on those between.
    """
    try:
        hidden = _withhold(obs, sea, seed, share)
        return _judge(method, obs, sea, hidden, {"share": share, "seed": seed})
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return {}


def choose(obs: xr.DataArray, sea: xr.DataArray, seed: int) -> tuple[Method, dict[str, Hindcast]]:
    """Return the registered method (default options) of the least `Hindcast.loss`, and its scores.

    Where there are no clouds to withhold, `Interpolate` and no score, with a warning.
    """
    able = [seeded(cls, seed) for cls in METHODS.values() if obs.sizes["time"] >= cls.min_times and
            (cls.multivariate or "variable" not in obs.dims)]  # fmt: skip
    try:
        hidden = _withhold(obs, sea, seed, SHARE)
    except InputError as reason:
        if "variable" in obs.dims or obs.sizes["time"] == 1:
            name = "dineof" if "variable" in obs.dims else "interpolate"  # one that can do with such data
            raise InputError(
                f"no method could be tried on withheld clouds; name one, such as method={name!r} ({reason})"
            ) from None
        log.warning("interpolating, since no method can be tried on withheld clouds: %s", reason)
        return Interpolate(), {}
    tried: list[tuple[float, Method, dict[str, Hindcast]]] = []
    for method in track(able, "choosing a method on withheld clouds"):
        try:
            found = _judge(method, obs, sea, hidden, {"share": SHARE, "seed": seed})
        except SstfillError as reason:
            log.warning("%s not considered: %s", method.name, reason)
            continue
        loss = float(np.mean([h.loss for h in found.values()])) if found else np.nan
        if np.isfinite(loss):
            tried.append((loss, method, found))
    if not tried:
        raise InputError("no method could be tried on withheld clouds; name one, such as method='interpolate'")
    best = min(tried, key=lambda trial: trial[0])
    log.info("chose %s by RMSE over standard deviation: %s", best[1].name, {m.name: round(e, 4) for e, m, _ in tried})
    return best[1:]


def _names(obs: xr.DataArray) -> list[str]:
    return [str(n) for n in obs["variable"].values] if "variable" in obs.dims else [str(obs.name)]


def _withhold(obs: xr.DataArray, sea: xr.DataArray, seed: int, share: float) -> xr.DataArray:
    """Where to hide; of several variables, those without clouds to transplant are left whole."""
    seed = int(np.random.SeedSequence([seed, 2]).generate_state(1)[0])  # clouds of their own, not those of a score
    if "variable" not in obs.dims:
        return gaps.transplant_clouds(obs, sea, share=share, seed=seed)
    parts, reasons = [], []
    for i, name in enumerate(_names(obs)):
        one = obs.isel(variable=i, drop=True).rename(name)
        try:
            parts.append(gaps.transplant_clouds(one, sea, share=share, seed=seed + i))
        except InputError as reason:
            reasons.append(reason)
            parts.append(xr.zeros_like(one, dtype=bool).compute())
    if len(reasons) == len(parts):
        raise reasons[0]
    return xr.concat(parts, obs["variable"], join="override", combine_attrs="drop")


def _judge(
    method: Method, obs: xr.DataArray, sea: xr.DataArray, hidden: xr.DataArray, how: dict[str, Any]
) -> dict[str, Hindcast]:
    estimate = method.reconstruct(obs.where(~hidden), sea)
    *columns, layer = _gather(obs, estimate, hidden)
    at = {name: layer == i for i, name in enumerate(_names(obs))}
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
    z = _standardised(np.abs(mean - truth)[stated], sigma[stated])
    even = np.unique(image[stated], return_inverse=True)[1] % 2 == 0
    if not even.all():
        fair = np.where(even, z / _scale(z[~even]), z / _scale(z[even]))
        summary["coverage"] = {str(p): metrics.coverage(fair, np.ones_like(fair), p) for p in LEVELS}
    scale = summary["sigma_scale"] = _scale(z)
    if not 1 / USUAL < scale < USUAL:
        log.warning("the stated error had to be scaled by %.3g to hold on withheld clouds; do not rely on it", scale)
    return Hindcast(summary, scale)


def _standardised(error: NDArray, sigma: NDArray) -> NDArray:
    """``|error| / sigma``; where sigma is 0 (no scale can mend that) 0 or infinite."""
    with np.errstate(over="ignore"):
        return np.divide(error, sigma, out=np.where(error > 0, np.inf, 0.0), where=sigma > 0)


def _scale(z: NDArray) -> float:
    finite = z[np.isfinite(z)]
    return float(np.clip(np.quantile(finite, 0.6827), 1 / EXTREME, EXTREME)) if finite.size else 1.0


def _gather(obs: xr.DataArray, estimate: xr.Dataset, hidden: xr.DataArray) -> tuple[NDArray, ...]:
    """Truth, mean, error, number of image and of variable of each hidden pixel; block by block, lazy ones in one go."""
    order = ("time", *(d for d in obs.dims if d != "time"))
    sigma = estimate["error"] if "error" in estimate else xr.full_like(obs, np.nan)
    fields = [a.transpose(*order).data for a in (obs, estimate["mean"], sigma)]
    where = hidden.transpose(*order).values
    pick = dask.delayed(_picked) if any(map(dask.is_dask_collection, fields)) else _picked
    blocks = [(b, [side.start for side in b]) for b in _blocks(fields[1])]
    parts = dask.compute([pick(where[b], origin, *(f[b] for f in fields)) for b, origin in blocks])[0]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _blocks(field: Any) -> Iterator[tuple[slice, ...]]:
    if hasattr(field, "chunks"):
        yield from slices_from_chunks(field.chunks)
    else:
        yield from ((slice(i, i + SLAB), slice(0, None)) for i in range(0, len(field), SLAB))


def _picked(where: NDArray, origin: list[int], *fields: NDArray) -> tuple[NDArray, ...]:
    at = np.nonzero(where)
    layer = origin[1] + at[1] if where.ndim == 4 else np.zeros_like(at[0])
    return *(field[where].astype(np.float64) for field in fields), origin[0] + at[0], layer
