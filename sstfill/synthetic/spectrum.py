# SPDX-License-Identifier: Apache-2.0
"""Random fields with a power-law spectrum, cropped from a larger periodic domain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft

WIDEST_DETOUR = 1024
"""Most cells added upwind, so that a strong wind on a fine grid stays affordable."""


def wavenumbers(shape: tuple[int, int], spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return ``ky`` (ny, 1) and ``kx`` (1, nx // 2 + 1) of ``rfft2``, radians per unit length."""
    ky = 2 * np.pi * scipy.fft.fftfreq(shape[0], spacing)[:, None]
    kx = 2 * np.pi * scipy.fft.rfftfreq(shape[1], spacing)[None, :]
    return ky, kx


def multiplicity(shape: tuple[int, int]) -> np.ndarray:
    """Return the number of modes that each column of ``rfft2`` stands for, (1, nx // 2 + 1)."""
    count = np.full((1, shape[1] // 2 + 1), 2.0, dtype="float32")
    count[:, 0] = 1
    if shape[1] % 2 == 0:
        count[:, -1] = 1
    return count


def periodic_size(size: int, margin: float) -> int:
    """Return an even, FFT-friendly size of at least `size` plus `margin` cells."""
    wanted = size + int(np.ceil(margin))
    return 2 * scipy.fft.next_fast_len((wanted + 1) // 2, real=True)


def noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return the ``rfft2`` of white noise of unit variance, complex64."""
    return scipy.fft.rfft2(rng.standard_normal(shape, dtype="float32"), workers=1)


def amplitude(shape: tuple[int, int], *, scale: float, slope: float) -> np.ndarray:
    """Return the factors that give white noise a power-law spectrum and unit variance.

    The power is ``(k**2 + (2 pi / scale)**2) ** (-slope / 2)``, with `scale` in cells. The mean and
    the Nyquist modes (which a shift would not leave real) are left out.
    """
    ky, kx = wavenumbers(shape, 1.0)
    power = (ky**2 + kx**2 + (2 * np.pi / scale) ** 2) ** (-slope / 2)
    power[0, 0] = 0
    power[shape[0] // 2] = 0  # the size is even
    power[:, -1] = 0
    total = float((power * multiplicity(shape)).sum())
    return np.sqrt(power * (shape[0] * shape[1] / total)).astype("float32")


def field(
    rng: np.random.Generator, shape: tuple[int, int], *, scale: float, slope: float
) -> np.ndarray:
    """Return one random field, float32, variance about 1, not periodic; `scale` in cells."""
    margin = min(scale, max(shape)) + 8
    whole = (periodic_size(shape[0], margin), periodic_size(shape[1], margin))
    spectrum = noise(rng, whole) * amplitude(whole, scale=scale, slope=slope)
    return scipy.fft.irfft2(spectrum, s=whole, workers=1)[: shape[0], : shape[1]]


def evolving(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    scale: float,
    slope: float,
    memory: float,
    drift: tuple[float, float] = (0.0, 0.0),
) -> Iterator[np.ndarray]:
    """Yield the images of a drifting random field, (ny, nx), float32, variance about 1, for ever.

    Each mode is an Ornstein-Uhlenbeck process in the frame that moves with the drift. Its memory is
    `memory` at `scale` and falls as ``k ** (-2/3)`` below it, as eddy turnover does in the inertial
    range of Kolmogorov.

    Parameters
    ----------
    rng
        Source of randomness.
    shape
        Size of an image, cells.
    scale
        Outer scale, cells.
    slope
        Power of the two-dimensional spectrum below `scale`.
    memory
        Decorrelation time of the outer scale, images.
    drift
        Northward and eastward motion, cells an image.
    """
    # What leaves on one side comes back on the other, so it should decorrelate on the way.
    margin = 8 + min(scale, max(shape))
    detour_y = min(2 * memory * abs(drift[0]), WIDEST_DETOUR)
    detour_x = min(2 * memory * abs(drift[1]), WIDEST_DETOUR)
    whole = (periodic_size(shape[0], margin + detour_y), periodic_size(shape[1], margin + detour_x))
    ky, kx = wavenumbers(whole, 1.0)
    k_outer = 2 * np.pi / scale
    keep = np.exp(-((1 + (ky**2 + kx**2) / k_outer**2) ** (1 / 3)) / memory).astype("float32")
    refresh = np.sqrt(1 - keep**2)
    # a shift in space is a turn of each mode's phase, also by fractions of a cell
    shift = (keep * np.exp(-1j * (ky * drift[0] + kx * drift[1]))).astype("complex64")
    weight = amplitude(whole, scale=scale, slope=slope)
    state = noise(rng, whole)
    while True:
        yield scipy.fft.irfft2(state * weight, s=whole, workers=1)[: shape[0], : shape[1]]
        state = state * shift + refresh * noise(rng, whole)
