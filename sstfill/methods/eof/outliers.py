# SPDX-License-Identifier: Apache-2.0
"""Suspect observations: those that the modes, their neighbours and the nearness of a cloud speak
against.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

WEIGHTS = (0.25, 0.5, 0.25)  # EOF test, nearness of a gap, median test
THRESHOLD = 2.0
BOX = 20
"""Side of the median test's tiles, and its reach around a tile, in pixels."""


def outliers(
    obs: xr.DataArray, mean: xr.DataArray, sigma: xr.DataArray, sea: xr.DataArray
) -> xr.DataArray:
    """Flag suspect observations: 1 where the weighted index reaches 2, else 0; 2 in gaps and on
    land.

    Dims are those of `obs`, of `sea` ``(y, x)``; lazy where `obs` is. What is observed but not
    reconstructed, in images that took no part, cannot be tested and is accepted.

    The index is ``1/4 EOF test + 1/2 proximity + 1/4 median test``: how far the observation lies
    from the reconstruction in units of its expected distance (`sigma`), standardised by median and
    MAD over the image; 3 beside a gap at sea (a cloud, not the coast), else 0; how far it lies from
    the median of a box, in units of the box's MAD. The box reaches `BOX` pixels beyond the tile of
    `BOX` x `BOX` pixels that holds the observation.

    References
    ----------
    Beckers, Barth & Alvera-Azcárate (2006), Ocean Science 2, 183-199; Alvera-Azcárate, Sirjacobs,
    Barth & Beckers (2012), Remote Sensing of Environment 119, 84-91.
    """
    space = [d for d in obs.dims if d not in ("time", "variable")]
    whole = [a.chunk({d: -1 for d in space}) if a.chunks else a for a in (obs, mean, sigma, sea)]
    index = xr.apply_ufunc(
        outlier_index,
        *whole,
        input_core_dims=[space] * 4,
        output_core_dims=[space],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    suspect = (index >= THRESHOLD).astype(np.int8).transpose(*obs.dims)
    flag = suspect.where(obs.notnull() & sea, np.int8(2)).drop_attrs(deep=False)
    standard = obs.attrs.get("standard_name")
    return flag.assign_attrs(
        long_name="suspect observation",
        **({"standard_name": f"{standard} status_flag"} if standard else {}),
        flag_values=np.array([0, 1, 2], np.int8),
        flag_meanings="accepted suspect not_observed",
    )


def outlier_index(
    obs: NDArray, mean: NDArray, sigma: NDArray, sea: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Index of one image ``(y, x)``; NaN on land, and where nothing is observed or reconstructed."""
    seen = np.isfinite(obs) & sea
    known = seen & np.isfinite(mean)
    if not known.any():
        return np.full(obs.shape, np.nan, np.float32)
    departure = np.abs(np.where(known, obs - mean, np.nan)) / sigma
    eof = np.abs(departure - np.nanmedian(departure)) / _mad(departure)
    proximity = 3.0 * binary_dilation(~seen & sea, np.ones((3, 3)), border_value=0)
    index = (
        WEIGHTS[0] * eof
        + WEIGHTS[1] * proximity
        + WEIGHTS[2] * _median_test(np.where(seen, obs, np.nan))
    )
    return np.where(known, index, np.nan).astype(np.float32)


def _mad(values: NDArray) -> float:
    spread = 1.4826 * float(np.nanmedian(np.abs(values - np.nanmedian(values))))
    return spread if spread > 0 else np.inf


def _median_test(image: NDArray) -> NDArray:
    """Distance from the median of a box, a tile and `BOX` pixels all around it, in units of the
    box's MAD.
    """
    out = np.zeros_like(image)
    for i in range(0, image.shape[0], BOX):
        for j in range(0, image.shape[1], BOX):
            here = (slice(i, i + BOX), slice(j, j + BOX))
            box = image[max(0, i - BOX) : i + 2 * BOX, max(0, j - BOX) : j + 2 * BOX]
            if np.isfinite(image[here]).any():
                out[here] = np.abs(image[here] - np.nanmedian(box)) / _mad(box)
    return out
