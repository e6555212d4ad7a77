# SPDX-License-Identifier: Apache-2.0
"""A series of a few pixels, for tests of what is written."""

from __future__ import annotations

import numpy as np
import xarray as xr


def series(steps: int = 3, seed: int = 0) -> xr.Dataset:
    """Noise on 4 x 5 pixels, one of them land, a day apart."""
    values = np.random.default_rng(seed).normal(15, 2, (steps, 4, 5)).astype("f4")
    values[:, 0, 0] = np.nan
    coords = {
        "time": np.datetime64("2024-01-01", "ns") + np.arange(steps) * np.timedelta64(1, "D"),
        "lat": np.linspace(40, 41, 4),
        "lon": np.linspace(5, 6, 5),
    }
    return xr.Dataset({"sst": (("time", "lat", "lon"), values, {"units": "degC"})}, coords)
