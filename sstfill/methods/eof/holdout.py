# SPDX-License-Identifier: Apache-2.0
"""Which observations an EOF method sets aside to count its modes: single points, or clouds of other
dates.
"""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.methods.common.matrix import ObservationMatrix

log = logging.getLogger(__name__)
CLOUD_SHARE = 0.03
LEAST_IMAGES = 10
"""Clouds hide at least so many images' worth of observations (10 % of them at most), lest a few
clouds decide.
"""
MOST_CELLS = 20_000_000
"""Clouds are transplanted among so many cells at most (a sample of images), to bound the memory
they need.
"""


def random_points(matrix: ObservationMatrix, rng: np.random.Generator) -> NDArray[np.int64]:
    """Flat positions of single observed values: ``min(0.01 M N + 40, 0.03 M N)`` of them, as the
    reference program.

    (At most half of what is observed, for nearly empty data.)
    """
    size = matrix.observed.size
    there = int(matrix.observed.sum())
    wanted = min(max(int(min(0.01 * size + 40, 0.03 * size)), 1), max(there // 2, 1))
    seen = matrix.observed.reshape(-1)
    found = np.empty(0, np.int64)
    while (
        found.size < wanted
    ):  # drawn with rejection: a list of all observed positions would outweigh the data
        drawn = rng.integers(size, size=int(1.1 * wanted * size / there) + 16)
        found = np.unique(np.concatenate([found, drawn[seen[drawn]]]))
    return np.sort(rng.choice(found, wanted, replace=False))


def cloud_points(
    matrix: ObservationMatrix, obs: xr.DataArray, sea: xr.DataArray, seed: int
) -> NDArray[np.int64]:
    """Flat positions of observed values under clouds transplanted from other dates, 3 to 10 % of
    all that is observed.

    Falls back to `random_points` (and says so in the log) where the data have no clouds to
    transplant.
    """
    rng = np.random.default_rng(seed)
    n, m = matrix.observed.shape
    few = min(n, max(10, MOST_CELLS // m))
    images = np.sort(rng.choice(n, few, replace=False))
    share = min(max(CLOUD_SHARE, min(LEAST_IMAGES / n, 0.1)) * n / few, 0.3)
    parts = []
    for layer in np.unique(matrix.pixels // sea.size):
        of = np.flatnonzero(matrix.pixels // sea.size == layer)
        grid = np.zeros((few, sea.size), bool)
        grid[:, matrix.pixels[of] % sea.size] = matrix.observed[np.ix_(images, of)]
        seen = xr.DataArray(grid.reshape(few, *sea.shape), dims=("time", *sea.dims), name=obs.name)
        try:
            hidden = gaps.transplant_clouds(
                seen, sea.drop_vars(list(sea.coords)), share=share, seed=seed
            )
        except InputError as reason:
            log.warning("cross-validation on single points instead of clouds: %s", reason)
            return random_points(matrix, rng)
        image, cell = np.nonzero(hidden.values.reshape(few, -1))
        at = np.searchsorted(matrix.pixels[of] % sea.size, cell)
        parts.append(images[image] * m + of[at])
    return np.sort(np.concatenate(parts))
