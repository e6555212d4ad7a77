# SPDX-License-Identifier: Apache-2.0
"""Small seeded fields as users have them, for the tests of grids and sea masks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

DIMS = ("time", "lat", "lon")


def series(steps: int = 4, ny: int = 5, nx: int = 6, **changes) -> xr.DataArray:
    """A daily series without gaps; `changes` replace its coordinates."""
    values = np.random.default_rng(0).normal(15, 2, (steps, ny, nx)).astype("f4")
    coords = {
        "time": pd.date_range("2020-01-01", periods=steps),
        "lat": ("lat", np.linspace(35, 36, ny), {"units": "degrees_north"}),
        "lon": ("lon", np.linspace(350, 361.5, nx), {"units": "degrees_east"}),
    } | changes
    return xr.DataArray(values, coords=coords, dims=DIMS, name="sst", attrs={"units": "degC"})
