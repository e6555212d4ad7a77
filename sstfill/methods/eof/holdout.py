# SPDX-License-Identifier: Apache-2.0
"""Observations that an EOF method withholds to choose its number of modes."""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.methods.common.matrix import ObservationMatrix

log = logging.getLogger(__name__)
CLOUD_FRACTION = 0.03
"""Least fraction of the observations that transplanted clouds hide."""
LEAST_IMAGES = 10
"""Clouds hide the observations of at least so many images, but 10 % at most.

Otherwise a few clouds would decide the number of modes of a short series.
"""
MOST_CELLS = 20_000_000
"""Largest number of cells among which clouds are transplanted, to bound memory."""


def random_points(matrix: ObservationMatrix, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw flat positions of single observed values.

    There are ``min(0.01 M N + 40, 0.03 M N)`` of them, as in the reference program, but at most
    half of the observations.
    """
    size = matrix.observed.size
    available = int(matrix.observed.sum())
    # Half at most, so that a series of few observations keeps some to fit.
    wanted = min(max(int(min(0.01 * size + 40, 0.03 * size)), 1), max(available // 2, 1))
    observed = matrix.observed.reshape(-1)
    found = np.empty(0, np.int64)
    # Drawn with rejection: a list of all observed positions would be larger than the data.
    while found.size < wanted:
        # A tenth more than needed by the fraction observed, so that one round mostly does.
        drawn = rng.integers(size, size=int(1.1 * wanted * size / available) + 16)
        found = np.unique(np.concatenate([found, drawn[observed[drawn]]]))
    return np.sort(rng.choice(found, wanted, replace=False))


def cloud_points(
    matrix: ObservationMatrix,
    obs: xr.DataArray,
    sea: xr.DataArray,
    seed: int,
    *,
    most_cells: int = MOST_CELLS,
) -> NDArray[np.int64]:
    """Draw flat positions of observed values under clouds transplanted from other dates.

    They are 3 to 10 % of all observations. Where the data have no clouds to transplant, falls back
    to `random_points` with a warning in the log. Clouds are transplanted among `most_cells` cells
    at most, but in ten images at least.
    """
    rng = np.random.default_rng(seed)
    n, m = matrix.observed.shape
    # Transplanting needs whole images in memory, so a large series lends some of its images only.
    few = min(n, max(10, most_cells // m))
    images = np.sort(rng.choice(n, few, replace=False))
    # Scaled up where only some images are used, to reach the same number of points in all.
    fraction = min(max(CLOUD_FRACTION, min(LEAST_IMAGES / n, 0.1)) * n / few, 0.3)
    # The grids below have no coordinates, and xarray would align by them.
    bare_sea = sea.drop_vars(list(sea.coords))
    variables, cells = np.divmod(matrix.pixels, sea.size)
    parts = []
    # Variables have clouds of their own, so each is a series of images for itself.
    for variable in np.unique(variables):
        columns = np.flatnonzero(variables == variable)
        grid = np.zeros((few, sea.size), bool)
        grid[:, cells[columns]] = matrix.observed[np.ix_(images, columns)]
        observed = xr.DataArray(
            grid.reshape(few, *sea.shape), dims=("time", *sea.dims), name=obs.name
        )
        try:
            hidden = gaps.transplant_clouds(observed, bare_sea, fraction=fraction, seed=seed)
        except InputError as reason:
            log.warning("cross-validation on single points instead of clouds: %s", reason)
            return random_points(matrix, rng)
        image, cell = np.nonzero(hidden.values.reshape(few, -1))
        # Cells rise within a variable, so a sorted search finds the column of each hidden one.
        column = columns[np.searchsorted(cells[columns], cell)]
        parts.append(images[image] * m + column)
    return np.sort(np.concatenate(parts))
