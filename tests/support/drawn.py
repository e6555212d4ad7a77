# SPDX-License-Identifier: Apache-2.0
"""Ensembles of known spread and correlation, and the truth that they are drawn about."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SHAPE = (24, 40, 48)
SCALE = 2.0
"""Pixels over which errors are smoothed: their correlation is exp(-(distance / (2 SCALE))^2)."""
MEMBERS = 20


def correlated(rng: np.random.Generator, number: int, scale: float = SCALE) -> NDArray:
    """Gaussian fields ``(number, time, y, x)`` of variance 1, correlated in space."""
    noise = rng.normal(size=(number, *SHAPE))
    smooth = gaussian_filter(noise, (0, 0, scale, scale), mode="wrap")
    return smooth / smooth.std()


def ensemble(
    *, spread: float = 1.0, scale: float = SCALE, members: int = MEMBERS, seed: int = 0
) -> tuple[xr.DataArray, xr.Dataset, xr.DataArray]:
    """Truth, an estimate with members, and where it is hidden.

    Errors have deviation 0.5 and scale `SCALE`; members are drawn with `spread` times that
    deviation and another `scale`.
    """
    rng = np.random.default_rng(seed)
    coords = {
        "time": np.datetime64("2020-06-01", "ns") + np.arange(SHAPE[0]) * np.timedelta64(1, "D"),
        "lat": 36 + 0.05 * np.arange(SHAPE[1]),
        "lon": -3 + 0.05 * np.arange(SHAPE[2]),
    }
    dims = tuple(coords)
    mean = 18 + 2 * correlated(rng, 1, 6.0)[0]
    truth = mean + 0.5 * correlated(rng, 1)[0]
    drawn = mean + 0.5 * spread * correlated(rng, members, scale)
    hidden = correlated(rng, 1, 4.0)[0] > -0.3
    estimate = xr.Dataset(
        {
            "mean": (dims, mean),
            "error": (dims, np.full(SHAPE, 0.5 * spread)),
            "members": (("member", *dims), drawn),
        },
        coords,
    )
    field = xr.DataArray(truth, coords, dims, name="sst", attrs={"units": "degree_Celsius"})
    return field, estimate, field.copy(data=hidden)
