# SPDX-License-Identifier: Apache-2.0
"""Members of a field of modes: draws of amplitudes, patterns and noise from their posterior.

Amplitudes are drawn by residual substitution (Durbin & Koopman 2002, Biometrika 89, 603-616): red
noise is drawn that knows of no observations, evidence about it is made with the precision that the
images have, and what the smoother makes of that is taken off. Patterns are drawn pixel by pixel
with the variances that `LowRank` states, and noise is added, so that the spread of the members is
the error that is stated; both are correlated in space as errors at withheld pixels are
(`sstfill.methods.eof.error_correlation`). Every number is a function of the seed, the member, and
the mode, pixel or time that it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.ancillary import MEMBER
from sstfill.methods.common.keyed import keyed_normals, time_keys
from sstfill.methods.common.lowrank import LowRank, lay_out
from sstfill.methods.common.matrix import ObservationMatrix
from sstfill.methods.common.regression import unpack
from sstfill.methods.eof.error_correlation import UNCORRELATED, ErrorCorrelation
from sstfill.methods.eof.kalman_smoother import smooth_draws
from sstfill.methods.eof.variational import Posterior

RED_NOISE, EVIDENCE, PATTERNS, NOISE = 721, 722, 723, 724
"""What is drawn: keys of its numbers."""
LEVELS = 21
"""Red noise is known at 2^21 times of each span of at least 32 e-folding times."""


def red_noise(
    days: NDArray[np.float64], time_scale: float, keys: tuple[int, ...]
) -> NDArray[np.float64]:
    """Draw an AR(1) process of unit variance at any times, ``(times,)``.

    It is a function of the absolute time, found by bisection: at the ends of spans so long that the
    process has forgotten itself the numbers are independent, and halfway between two known ones it
    is drawn from its distribution given these, until the time is reached.

    Parameters
    ----------
    days
        Absolute times, in any order.
    time_scale
        E-folding time, days: the correlation over ``dt`` is ``exp(-dt / time_scale)``.
    keys
        Of the process, see `keyed_normals`.

    Examples
    --------
    >>> days = np.array([0.0, 1.5, 300.0])
    >>> whole = red_noise(days, 5.0, (1, 2))
    >>> bool((red_noise(days[1:], 5.0, (1, 2)) == whole[1:]).all())
    True
    """

    def drawn(at: NDArray[np.int64]) -> NDArray[np.float64]:
        return keyed_normals(keys, [0], at)[0].astype(np.float64)

    # a power of two, so that times which are whole numbers of it stay so
    step = 2.0 ** (np.ceil(np.log2(32 * time_scale)) - LEVELS)
    ticks = np.rint(days / step).astype(np.int64)
    length = 2**LEVELS
    # Bisection from the span's ends takes `LEVELS` rounds for any date, however far apart they are.
    left = ticks // length * length
    before, after = drawn(left), drawn(left + length)
    while (ticks != left).any():
        length //= 2
        over = length * step / time_scale
        # Mean and variance of an AR(1) process halfway between two known values, each `over` away.
        middle = (before + after) / (2 * np.cosh(over))
        middle += np.sqrt(np.tanh(over)) * drawn(left + length)
        later = ticks >= left + length
        before, after = np.where(later, middle, before), np.where(later, after, middle)
        left = np.where(later, left + length, left)
    return before


def amplitude_deviations(
    precision: NDArray, days: NDArray[np.float64], time_scale: NDArray, members: int, seed: int
) -> NDArray[np.float32]:
    """Draw by how much the amplitudes differ from their posterior mean, ``(members, times, k)``.

    Parameters
    ----------
    precision, time_scale
        As in `sstfill.methods.eof.kalman_smoother.smooth`.
    days
        Absolute times.
    """
    times, k = len(days), len(time_scale)
    # Members last, so that the smoother takes them all as sets of evidence with one gain.
    free = np.empty((times, k, members))
    noise = np.empty_like(free)
    stamps = time_keys(days)
    for member in range(members):
        for mode, scale in enumerate(time_scale):
            free[:, mode, member] = red_noise(days, float(scale), (seed, RED_NOISE, member, mode))
        noise[:, :, member] = keyed_normals((seed, EVIDENCE, member), stamps, np.arange(k))
    value, vector = np.linalg.eigh(precision)
    # This root is the one that does not depend on the signs and the order of the eigenvectors.
    root = (vector * np.sqrt(np.maximum(value, 0))[:, np.newaxis]) @ vector.transpose(0, 2, 1)
    # Evidence that the true amplitudes would give: its error has the covariance ``J``.
    right = precision @ free + root @ noise
    deviations = free - smooth_draws(precision, right, days, time_scale)
    return np.asarray(deviations.transpose(2, 0, 1), np.float32)


def posterior_deviations(
    posterior: Posterior, days: NDArray[np.float64], members: int, seed: int
) -> NDArray[np.float32]:
    """Draw as `amplitude_deviations`, of a `Posterior` at absolute times."""
    evidence = posterior.evidence
    assert evidence is not None
    precision = unpack(evidence.normal, len(evidence.size)) / posterior.noise
    found = amplitude_deviations(precision, days, evidence.time_scale, members, seed)
    # The smoother ran before the amplitudes were scaled and modes dropped, so both are done here.
    scaled = found / evidence.size
    return np.asarray(scaled[:, :, evidence.keep], np.float32)


@dataclass(frozen=True)
class ModeDraws:
    """Draws of a field of modes, in units of the anomaly.

    Attributes
    ----------
    low_rank
        The posterior.
    deviations
        Of the amplitudes from their mean, ``(members, times, k)``.
    days
        Absolute times, ``(times,)``.
    pixels
        Keys of the pixels, see `pixel_keys`, ``(pixels,)``.
    seed
        Of all that is random.
    correlation
        Of patterns and noise, in space.
    """

    low_rank: LowRank
    deviations: NDArray[np.float32]
    days: NDArray[np.float64]
    pixels: NDArray[np.int64]
    seed: int
    correlation: ErrorCorrelation = UNCORRELATED

    def patterns(self, member: int) -> NDArray:
        """Draw patterns, ``(pixels, k)``."""
        mean, variance = self.low_rank.patterns, self.low_rank.pattern_variance
        if variance is None:
            return mean
        modes = np.arange(mean.shape[1])
        normal = self.correlation.normals((self.seed, PATTERNS, member), modes, self.pixels).T
        return mean + np.sqrt(np.maximum(variance, 0)) * normal

    def values(self, member: int, times: slice, patterns: NDArray | None = None) -> NDArray:
        """Draw a member of some images, ``(times, pixels)``; `patterns` are drawn if not given."""
        if patterns is None:
            patterns = self.patterns(member)
        low = self.low_rank
        # A posterior draw is the mean plus a deviation that has the covariance of the posterior.
        amplitudes = (low.amplitudes + self.deviations[member])[times].astype(patterns.dtype)
        stamps = time_keys(self.days[times])
        noise = self.correlation.normals((self.seed, NOISE, member), stamps, self.pixels)
        noise *= np.sqrt(np.asarray(low.noise, np.float32))
        noise += amplitudes @ patterns.T
        return noise


def members_as_field(
    draws: ModeDraws, matrix: ObservationMatrix, obs: xr.DataArray
) -> xr.DataArray:
    """Lay members out on the grid of `obs`, dims ``("member", *obs.dims)``; lazy where `obs` is."""
    dtype = obs.dtype
    offset, scale = matrix.offset.astype(dtype), matrix.scale.astype(dtype)
    lazy = obs.chunks is not None

    def evaluate(times: slice, member: int, patterns: NDArray | None) -> NDArray:
        values = draws.values(member, times, patterns)
        return (values * scale + offset).astype(dtype, copy=False)

    def field(member: int) -> xr.DataArray:
        # Tasks of Dask draw patterns anew, which takes less room than to send them about.
        patterns = None if lazy else draws.patterns(member)
        of_member = partial(evaluate, member=member, patterns=patterns)
        return lay_out(of_member, dtype, matrix, obs)

    members = len(draws.deviations)
    if lazy:
        return xr.concat([field(member) for member in range(members)], MEMBER)
    values = np.empty((members, *obs.shape), dtype)
    for member in range(members):
        values[member] = field(member).values
    return xr.DataArray(values, dims=(MEMBER, *obs.dims))
