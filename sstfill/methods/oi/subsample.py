# SPDX-License-Identifier: Apache-2.0
"""Which part of a long or wide series the covariance of optimal interpolation is fitted on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr

EXCERPT = (366, 160, 160)
"""Largest part of a series (time, y, x) on which is fitted."""


def excerpt(obs: xr.DataArray, sea: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Load the part of the series on which to fit: the times, then the window, of most
    observations.
    """
    for dims in (("time",), sea.dims):
        if any(obs.sizes[d] > most for d, most in _most(obs, dims).items()):
            others = [d for d in obs.dims if d not in dims]
            box = _fullest((obs.notnull() & sea).sum(others), _most(obs, dims))
            obs, sea = obs.isel(box), sea.isel(box, missing_dims="ignore")
    return obs.compute(), sea


def _most(obs: xr.DataArray, dims: Sequence[Hashable]) -> dict[Hashable, int]:
    """Longest an excerpt may be along some dims."""
    most = dict(zip(obs.dims[-3:], EXCERPT, strict=True))
    return {d: min(obs.sizes[d], most[d]) for d in dims}


def _fullest(counts: xr.DataArray, size: dict[Hashable, int]) -> dict[Hashable, slice]:
    """Window that holds most; of several the one nearest to the middle."""
    inside = counts.astype(np.float64).compute()
    for d, n in size.items():
        total = inside.cumsum([d]).pad({d: (1, 0)}, constant_values=0.0)
        ends = total.sizes[d]
        inside = total.isel({d: slice(n, None)}) - total.isel({d: slice(None, ends - n)}).values
    off = sum(np.abs(np.indices(inside.shape)[i] - (m - 1) / 2) for i, m in enumerate(inside.shape))
    best = np.lexsort((off.ravel(), -inside.values.ravel()))[0]
    at = np.unravel_index(best, inside.shape)
    return {d: slice(int(a), int(a) + size[d]) for d, a in zip(inside.dims, at, strict=True)}
