# SPDX-License-Identifier: Apache-2.0
"""Observations far from the rest of a field: warn of them, or refuse the field."""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtri

from sstfill.errors import InputError
from sstfill.fields.transform import NONE, Transform

log = logging.getLogger(__name__)
FAR = 20.0
"""An observation more spreads than this from the middle of the field is reported."""
FARTHEST = 2.0**24
"""Further away than this, single precision (24 bits) could not resolve the other values."""
LEAST_PIXELS = 10
"""Of fewer pixels the spread is not estimated."""
FLOOR = 1e-3
"""The spread is at least this fraction of the middle."""
WIDE = 30.0
"""Positive values that vary by this factor, as chlorophyll does, are tested in logarithms too."""


def warn_of_strays(
    name: str, found: xr.Dataset, sea: xr.DataArray, transform: Transform = NONE
) -> None:
    """Log one line where observations lie more than `FAR` spreads from the middle of their field.

    The middle is the median over pixels of the middle of each pixel's range. The spread joins two
    parts: the standard deviation in time, by the range of the median pixel and the number of its
    observations; and that in space, by the median absolute deviation of the pixels' middles. A few
    strays change neither.

    Parameters
    ----------
    name
        Variable, for the message.
    found
        A `sstfill.fields.gaps.survey`.
    sea
        True at sea.
    transform
        Distances are those in the space that the field is filled in.

    Raises
    ------
    InputError
        If they are more than `FARTHEST` spreads away.
    """
    there = (found.pixel_count.values > 0) & sea.values
    if np.count_nonzero(there) < LEAST_PIXELS:
        return
    least = found["least"].values[there].astype(np.float64)
    most = found["most"].values[there].astype(np.float64)
    count = found["pixel_count"].values[there]
    away = _distances(transform.apply(least), transform.apply(most), count)
    positive = transform.kind == "none" and least.min() > 0
    if positive and np.quantile(most, 0.95) > WIDE * np.quantile(least, 0.05):
        # a bloom of chlorophyll is far in units and near in logarithms
        away = np.minimum(away, _distances(np.log(least), np.log(most), count))
    if away.max() <= FAR:
        return
    number = int((away.max(0) > FAR).sum())
    worst = int(away.max(0).argmax())
    value = (least if away[0, worst] > away[1, worst] else most)[worst]
    usual = f"{np.median(least):.4g} to {np.median(most):.4g}"
    place = _place(found, np.argwhere(there)[worst])
    if away.max() > FARTHEST:
        raise InputError(
            f"{name!r} holds {value:g} at {place}, where a pixel usually holds {usual}: too far "
            "apart to compute with; set values that are not observations to NaN"
        )
    log.warning(
        "%s: %d pixels hold observations more than %g spreads outside the field, such as %g at %s "
        "(a pixel usually holds %s); set them to NaN if they are wrong",
        name,
        number,
        FAR,
        value,
        place,
        usual,
    )


def _distances(least: NDArray, most: NDArray, count: NDArray) -> NDArray[np.float64]:
    """Distance of each pixel's least and most value from the middle, in spreads, ``(2, pixel)``.

    0 where the field does not vary.
    """
    middles = least + (most - least) / 2
    middle = float(np.median(middles))
    often = count > 1
    in_time = 0.0
    if often.any():
        # The expected range of so many normal values (Blom 1958).
        expected = 2 * ndtri((count[often] - 0.375) / (count[often] + 0.25))
        in_time = float(np.median((most - least)[often] / expected))
    # by this factor the median absolute deviation of normal values is their standard deviation
    in_space = 1.4826 * float(np.median(np.abs(middles - middle)))
    spread = float(np.hypot(in_time, in_space))
    if spread == 0:
        return np.zeros((2, len(least)))
    return np.array([middle - least, most - middle]) / max(spread, FLOOR * abs(middle))


def _place(found: xr.Dataset, at: NDArray[np.int64]) -> str:
    """Where a pixel lies, by its coordinates or else its position."""
    dims = found.pixel_count.dims
    parts = []
    for dim, i in zip(dims, at.tolist(), strict=True):
        known = dim in found.coords
        parts.append(f"{dim} {float(found[dim].values[i]):.5g}" if known else f"{dim} index {i}")
    return ", ".join(parts)
