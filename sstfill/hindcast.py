# SPDX-License-Identifier: Apache-2.0
"""Hide clouds, fill them, compare: how a method is judged on the very series it is to fill."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import gaps, metrics
from sstfill.errors import InputError, SstfillError
from sstfill.methods import METHODS, Method
from sstfill.methods.matrix import time_slabs
from sstfill.progress import track

log = logging.getLogger(__name__)
SHARE = 0.1
LEVELS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Hindcast:
    """What a method made of withheld clouds.

    Attributes
    ----------
    summary
        Pooled scores on the withheld pixels, as JSON can hold them.
    sigma_scale
        Factor that makes the method's stated error hold on the withheld pixels.
    """

    summary: dict[str, Any]
    sigma_scale: float

    @property
    def rmse(self) -> float:
        """Root mean square error on the withheld pixels."""
        return float(self.summary["rmse"])


def hindcast(method: Method, obs: xr.DataArray, sea: xr.DataArray, seed: int, share: float = SHARE) -> Hindcast | None:
    """Fill clouds transplanted from other dates and score them; None (and a warning in the log) where there are none.

    The error is scaled by the 68.27 % quantile of ``|error| / sigma``. The coverage reported is an honest one: scale
    from every other image, tested on those between.
    """
    try:
        hidden = _withhold(obs, sea, seed, share)
    except InputError as reason:
        log.warning("no withheld-cloud score: %s", reason)
        return None
    return _judge(method, obs, sea, hidden, {"share": share, "seed": seed})


def choose(obs: xr.DataArray, sea: xr.DataArray, seed: int) -> tuple[Method, Hindcast | None]:
    """Return the registered method (default options) with the lowest RMSE on withheld clouds, and its score."""
    able = [cls() for cls in METHODS.values() if obs.sizes["time"] >= cls.min_times and
            (cls.multivariate or "variable" not in obs.dims)]  # fmt: skip
    tried: list[tuple[Method, Hindcast]] = []
    for method in track(able, "choosing a method on withheld clouds"):
        try:
            found = hindcast(method, obs, sea, seed)
        except SstfillError as reason:
            log.warning("%s not considered: %s", method.name, reason)
            continue
        if found is not None and np.isfinite(found.rmse):
            tried.append((method, found))
    if not tried:
        raise InputError("no method could be tried on withheld clouds; name one, such as method='interpolate'")
    best = min(tried, key=lambda pair: pair[1].rmse)
    log.info("chose %s: %s", best[0].name, {m.name: round(h.rmse, 4) for m, h in tried})
    return best


def _withhold(obs: xr.DataArray, sea: xr.DataArray, seed: int, share: float) -> xr.DataArray:
    if "variable" not in obs.dims:
        return gaps.transplant_clouds(obs, sea, share=share, seed=seed)
    parts = [gaps.transplant_clouds(obs.isel(variable=i), sea, share=share, seed=seed + i) for i in range(len(obs))]
    return xr.concat(parts, obs["variable"], join="override", combine_attrs="drop")


def _judge(method: Method, obs: xr.DataArray, sea: xr.DataArray, hidden: xr.DataArray, how: dict) -> Hindcast:
    estimate = method.reconstruct(obs.where(~hidden), sea)
    truth, mean, sigma, image = _gather(obs, estimate, hidden)
    known = np.isfinite(mean)
    truth, mean, sigma, image = truth[known], mean[known], sigma[known], image[known]
    summary: dict[str, Any] = {
        **how, "n": int(hidden.sum()), "filled_share": float(known.mean()) if known.size else 0.0,
        "mae": metrics.mae(mean, truth), "rmse": metrics.rmse(mean, truth), "bias": metrics.bias(mean, truth),
        "correlation": metrics.correlation(mean, truth), "seen_rmse": metrics.rmse(np.full_like(truth, truth.mean()
                                                                                  if truth.size else 0), truth),
    }  # fmt: skip
    if not np.isfinite(sigma).any():
        return Hindcast(summary, 1.0)
    z = np.abs(mean - truth) / np.maximum(sigma, np.finfo(np.float32).tiny)
    even = np.unique(image, return_inverse=True)[1] % 2 == 0
    if even.any() and (~even).any():
        fair = np.where(even, z / _scale(z[~even]), z / _scale(z[even]))
        summary["coverage"] = {str(p): metrics.coverage(fair, np.ones_like(fair), p) for p in LEVELS}
    summary["sigma_scale"] = _scale(z)
    return Hindcast(summary, _scale(z))


def _scale(z: NDArray) -> float:
    finite = z[np.isfinite(z)]
    return float(max(np.quantile(finite, 0.6827), 1e-6)) if finite.size else 1.0


def _gather(obs: xr.DataArray, estimate: xr.Dataset, hidden: xr.DataArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Truth, mean, error and image number of each hidden pixel, slab by slab."""
    parts: list[tuple[NDArray, ...]] = []
    order = ("time", *(d for d in obs.dims if d != "time"))
    obs, hidden = obs.transpose(*order), hidden.transpose(*order)
    fields = {k: estimate[k].transpose(*order) for k in ("mean", "error") if k in estimate}
    for slab in time_slabs(obs):
        where = hidden.isel(time=slab).values
        n = where.reshape(where.shape[0], -1).sum(1)
        truth = np.asarray(obs.isel(time=slab).data)[where].astype(np.float64)
        got = {k: np.asarray(f.isel(time=slab).data)[where].astype(np.float64) for k, f in fields.items()}
        images = np.repeat(np.arange(slab.start, slab.stop), n)
        parts.append((truth, got["mean"], got.get("error", np.full_like(truth, np.nan)), images))
    truth, mean, sigma, image = (np.concatenate(column) for column in zip(*parts, strict=True))
    return truth, mean, sigma, image
