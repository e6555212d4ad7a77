# SPDX-License-Identifier: Apache-2.0
"""A series packed as the reference program packs it, with the points that it would set aside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from fortran_random import reference_points
from numpy.typing import NDArray

from sstfill.fields import grid
from sstfill.fields.reading.dates import days_since_first
from sstfill.methods.common.matrix import ObservationMatrix, pack

SEED = 243435


def packed(
    path: Path, variable: str = "sst", dtype: type = np.float32
) -> tuple[ObservationMatrix, NDArray, NDArray]:
    """Matrix (pixels with longitude outermost), flat positions of the reference's points, days.

    The reference draws among all sea pixels, ours drop those never observed, so the points are
    renumbered.
    """
    with xr.open_dataset(path) as ds:
        days = days_since_first(grid.standardise(ds[variable]))
        field = ds[variable].transpose("time", "lon", "lat").values
        sea = xr.DataArray(ds["mask"].transpose("lon", "lat").values > 0, dims=("lon", "lat"))
    obs = xr.DataArray(field, dims=("time", "lon", "lat"))
    matrix = pack(obs, sea, dtype=dtype)
    at_sea = np.flatnonzero(sea.values.ravel())
    time, pixel = np.divmod(
        reference_points(np.isfinite(field.reshape(len(obs), -1)[:, at_sea]), SEED), at_sea.size
    )
    return matrix, time * len(matrix.pixels) + np.searchsorted(matrix.pixels, at_sea[pixel]), days
