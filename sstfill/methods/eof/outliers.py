# SPDX-License-Identifier: Apache-2.0
"""Suspect observations, by the modes, the neighbours and the distance to a cloud."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

WEIGHTS = (0.25, 0.5, 0.25)  # EOF test, nearness of a gap, median test
THRESHOLD = 2.0
BOX = 20
"""Side of the tiles of the median test, and the width of the frame around a tile, in pixels."""


def outliers(
    obs: xr.DataArray, mean: xr.DataArray, sigma: xr.DataArray, sea: xr.DataArray
) -> xr.DataArray:
    """Flag suspect observations.

    The index of an observation is ``1/4 EOF test + 1/2 proximity + 1/4 median test``. The EOF test
    is the distance from the reconstruction in units of its expected distance (`sigma`),
    standardised by median and MAD over the image. Proximity is 3 beside a gap at sea (a cloud, not
    the coast), else 0. The median test is the distance from the median of a box, in units of the
    box's MAD; the box is the tile of `BOX` x `BOX` pixels of the observation and `BOX` pixels all
    around it.

    Parameters
    ----------
    obs, mean, sigma
        Observations, their reconstruction, and its expected distance from them.
    sea
        True at sea, ``(y, x)``.

    Returns
    -------
    DataArray
        int8, dims of `obs`: 1 where the index is at least 2, else 0; 2 in gaps and on land. Lazy
        where `obs` is. Observations of images that were not reconstructed cannot be tested and are
        accepted.

    References
    ----------
    Beckers, Barth & Alvera-Azcárate (2006), Ocean Science 2, 183-199; Alvera-Azcárate, Sirjacobs,
    Barth & Beckers (2012), Remote Sensing of Environment 119, 84-91.
    """
    space = [d for d in obs.dims if d not in ("time", "variable")]
    whole_images = []
    for array in (obs, mean, sigma, sea):
        # Medians are of whole images, so an image must lie in one block.
        if array.chunks:
            array = array.chunk({d: -1 for d in space})
        whole_images.append(array)
    index = xr.apply_ufunc(
        outlier_index,
        *whole_images,
        input_core_dims=[space] * 4,
        output_core_dims=[space],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    # Comparisons with NaN are False, so what could not be tested is accepted.
    suspect = (index >= THRESHOLD).astype(np.int8).transpose(*obs.dims)
    flag = suspect.where(obs.notnull() & sea, np.int8(2)).drop_attrs(deep=False)
    flag.attrs["long_name"] = "suspect observation"
    if standard := obs.attrs.get("standard_name"):
        flag.attrs["standard_name"] = f"{standard} status_flag"
    flag.attrs["flag_values"] = np.array([0, 1, 2], np.int8)
    flag.attrs["flag_meanings"] = "accepted suspect not_observed"
    return flag


def outlier_index(
    obs: NDArray, mean: NDArray, sigma: NDArray, sea: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Index of one image ``(y, x)``; NaN where not observed, not reconstructed, or on land."""
    observed = np.isfinite(obs) & sea
    known = observed & np.isfinite(mean)
    if not known.any():
        return np.full(obs.shape, np.nan, np.float32)
    departure = np.abs(np.where(known, obs - mean, np.nan)) / sigma
    eof = np.abs(departure - np.nanmedian(departure)) / _mad(departure)
    # The outside of the image is no cloud.
    proximity = 3.0 * binary_dilation(~observed & sea, np.ones((3, 3)), border_value=0)
    median = _median_test(np.where(observed, obs, np.nan))
    index = WEIGHTS[0] * eof + WEIGHTS[1] * proximity + WEIGHTS[2] * median
    return np.where(known, index, np.nan).astype(np.float32)


def _mad(values: NDArray) -> float:
    # This factor makes the MAD of normal numbers their standard deviation.
    spread = 1.4826 * float(np.nanmedian(np.abs(values - np.nanmedian(values))))
    # More than half of the values equal: the distance is then no measure, and counts as 0.
    return spread if spread > 0 else np.inf


def _median_test(image: NDArray) -> NDArray:
    """Distance from the median of a tile and a frame around it, in units of their MAD."""
    out = np.zeros_like(image)
    for i in range(0, image.shape[0], BOX):
        for j in range(0, image.shape[1], BOX):
            here = (slice(i, i + BOX), slice(j, j + BOX))
            box = image[max(0, i - BOX) : i + 2 * BOX, max(0, j - BOX) : j + 2 * BOX]
            # A tile of gaps has no median, and NumPy would warn.
            if np.isfinite(image[here]).any():
                out[here] = np.abs(image[here] - np.nanmedian(box)) / _mad(box)
    return out
