# SPDX-License-Identifier: Apache-2.0
"""The texture of fields: power by wavelength, and the size of gradients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from sstfill.validation.patch_means import Places

SEGMENT = 128
"""Longest piece of a row or column that is transformed at once, in pixels."""


class Spectrum(NamedTuple):
    """Power by wavelength.

    Attributes
    ----------
    wavelength
        Pixels, decreasing, down to 2; shape ``(k,)``.
    power
        Spectral density, field units squared times pixels; shape ``(k,)``.
    """

    wavelength: NDArray
    power: NDArray


def spectrum(images: NDArray) -> Spectrum:
    """Mean power of the rows and the columns of complete images.

    Each row and column is cut into pieces that overlap by half, of the length of the shorter side
    or `SEGMENT` pixels, and a straight line is taken off each; a Hann window keeps what remains of
    long waves from leaking into short ones (Welch 1967, IEEE Transactions on Audio and
    Electroacoustics 15, 70-73).

    Parameters
    ----------
    images
        Without NaN, shape ``(..., y, x)``.

    Examples
    --------
    >>> waves = np.sin(2 * np.pi * np.arange(64) / 8) * np.ones((64, 1))
    >>> found = spectrum(waves)
    >>> float(found.wavelength[found.power.argmax()])
    8.0
    """
    length = min(*images.shape[-2:], SEGMENT)
    power = np.zeros(length // 2)
    for axis in (-1, -2):
        frequency, density = welch(
            images.astype(np.float64), window="hann", nperseg=length, detrend="linear", axis=axis
        )
        # The frequencies are along the axis that was transformed.
        density = np.moveaxis(density, axis, -1)
        # A trend was taken off, so what is left at frequency 0 means nothing.
        power += density.reshape(-1, frequency.size).mean(0)[1:] / 2
    return Spectrum(1 / frequency[1:], power)


def gradients(values: NDArray, places: Places) -> NDArray:
    """Size of the gradient, field units for a pixel, by differences to the next row and column.

    Parameters
    ----------
    values
        Shape ``(..., n)``.
    places
        Of the pixels, in the order of image, row and column.

    Returns
    -------
    ndarray
        Shape ``(..., m)``, of the `m` pixels whose neighbours in the next row and column are given
        too.

    Examples
    --------
    >>> row, column = np.indices((2, 2)).reshape(2, -1)
    >>> gradients(np.array([0.0, 3.0, 4.0, 9.0]), Places(np.zeros(4, int), row, column)).tolist()
    [5.0]
    """
    image, row, column = places
    # A row and a column more than there are, so that no pixel has a neighbour across an edge.
    height, width = int(row.max(initial=0)) + 2, int(column.max(initial=0)) + 2
    number = np.ravel_multi_index((image, row, column), (image.max(initial=0) + 1, height, width))
    last = number.size - 1
    # Numbers are in order, so a search finds each neighbour, or what stands where it would be.
    below = np.minimum(np.searchsorted(number, number + width), last)
    beside = np.minimum(np.searchsorted(number, number + 1), last)
    whole = (number[below] == number + width) & (number[beside] == number + 1)
    down = values[..., below[whole]] - values[..., whole]
    across = values[..., beside[whole]] - values[..., whole]
    return np.hypot(down, across)
