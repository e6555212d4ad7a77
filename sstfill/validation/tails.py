# SPDX-License-Identifier: Apache-2.0
"""Tails of draws: a random factor that is alike at pixels and dates near to each other.

Gaussian deviations times a factor ``sqrt(nu / chi2)``, where ``chi2`` has ``nu`` degrees of
freedom, have Student's t as their distribution (a scale mixture of normals: Andrews & Mallows 1974,
Journal of the Royal Statistical Society B 36, 99-102). A factor that is common to pixels makes a
multivariate t of them, whose means over patches have the tails of its pixels: where a method errs
much, it does so in a whole region and for some days.

Here the factor is a smooth field: of each member a Gaussian random field in space and time, mapped
to the factor by its probability. So each pixel has its Student's t, and a member does not jump from
one date to the next. One factor for a whole image would have all regions of an ocean go wrong
together, so that the error of a mean over it would be overstated at times; regions many length
scales apart have factors of their own. The field is a sum of waves over positions and absolute
days, so that windows, chunks, workers and updates do not matter.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtri

from sstfill.fields.ancillary import MEMBER
from sstfill.fields.error_distribution import ErrorDistribution
from sstfill.fields.patches import Shape
from sstfill.fields.reading.dates import absolute_days
from sstfill.fields.reading.positions import place_km

TIME_SCALE, LENGTH_SCALE = "time_scale_days", "length_scale_km"
"""Attributes of members: scales over which their deviations are correlated."""
DAYS, KM = 10.0, 100.0
"""These scales where a method has none."""
LENGTHS = 5.0
"""Length scale of the factor, over that of the deviations: within the reach of one it is common."""
WAVES = 64
"""Waves of the field, a power of two: its variance is exact, its correlation within 5 %."""
WAVE_SEED, AMPLITUDE_SEED = 751, 752
"""Purposes of the seeds of waves and of their amplitudes."""
VALUES = 1 << 22
"""Values of the field in memory at once."""


@dataclass(frozen=True)
class FactorField:
    """Gaussian fields of unit variance, one for each member.

    The correlation is ``exp(-(distance / length)^2 / 2 - (lag / time)^2 / 2)``. Members go in
    pairs, whose fields differ in their sign (antithetic variates: Hammersley & Morton 1956,
    Mathematical Proceedings of the Cambridge Philosophical Society 52, 449-475): where one has
    large errors the other has small ones, so that few members tell the spread better. Their
    deviations remain uncorrelated.

    Attributes
    ----------
    vector, frequency
        Of the waves, ``(wave, 3)`` in radians a km and ``(wave,)`` in radians a day.
    amplitude
        Of cosine and sine, ``(member, 2, wave)``.
    """

    vector: NDArray[np.float64]
    frequency: NDArray[np.float64]
    amplitude: NDArray[np.float64]

    @classmethod
    def draw(cls, members: int, seed: int, scales: Mapping[Hashable, Any]) -> FactorField:
        """Draw waves and amplitudes; member k is the same however many there are.

        Parameters
        ----------
        members
            Number of fields.
        seed
            Equal seeds draw equal fields.
        scales
            Of the deviations: `TIME_SCALE` and `LENGTH_SCALE`, `DAYS` and `KM` where they are
            missing.
        """
        from scipy.stats import qmc  # takes long to import

        rng = np.random.default_rng([seed, WAVE_SEED])
        # Sobol points, shifted at random: with so few waves every range of scales has its share.
        points = (qmc.Sobol(4, scramble=False).random(WAVES) + rng.random(4)) % 1.0
        wave = ndtri(np.clip(points, 1e-9, 1 - 1e-9))
        amplitude = np.empty((members, 2, WAVES))
        for member in range(members):
            # By pair, so that more members do not change those before.
            pair, second = divmod(member, 2)
            of_pair = np.random.default_rng([seed, AMPLITUDE_SEED, pair])
            amplitude[member] = of_pair.standard_normal((2, WAVES)) / np.sqrt(WAVES)
            if second:
                amplitude[member] *= -1
        length = LENGTHS * float(scales.get(LENGTH_SCALE, KM))
        return cls(
            wave[:, :3] / length, wave[:, 3] / float(scales.get(TIME_SCALE, DAYS)), amplitude
        )

    def at(
        self, number: NDArray[np.int64], days: NDArray[np.float64], place: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the fields of some members, ``(member, time, pixel)``.

        Parameters
        ----------
        number
            Of the members, ``(member,)``.
        days
            Absolute times, ``(time,)``.
        place
            Position of the pixels in km, ``(pixel, 3)``.
        """
        # By the angle-sum formulas a wave is a sum of products of a part in space and one in time.
        of_place, of_day = place @ self.vector.T, np.outer(days, self.frequency)
        of_cosine, of_sine = self.amplitude[number].swapaxes(0, 1)[:, :, np.newaxis]
        cosine, sine = np.cos(of_day), np.sin(of_day)
        turned = [of_cosine * cosine + of_sine * sine, of_sine * cosine - of_cosine * sine]
        basis = np.concatenate([np.cos(of_place), np.sin(of_place)], axis=1)
        return np.asarray(np.concatenate(turned, axis=2) @ basis.T)


def tails_seed(method: object, seed: int) -> int:
    """Return the seed of the tails of a method's members: its own if it has one, else `seed`."""
    own = getattr(method, "seed", None)
    if isinstance(own, int) and own >= 0:
        return own
    return seed


def with_tails(
    apart: xr.DataArray,
    distributions: Sequence[ErrorDistribution],
    obs: xr.DataArray,
    scales: Mapping[Hashable, Any],
    seed: int,
    origin: Shape,
) -> xr.DataArray:
    """Give Gaussian deviations of members the distribution of the errors; lazy where they are.

    Variables have one field of factors, for where one is hard to estimate so are others; each makes
    of it what its own degrees of freedom say.

    Parameters
    ----------
    apart
        Members less their mean, dims ``member`` and those of `obs`.
    distributions
        Of the variables, or the one of a field.
    obs
        Where and when the pixels are.
    scales, seed
        See `FactorField.draw`.
    origin
        Image, row and column of the whole series with which `obs` begins: where it has no times or
        positions, these are counted.
    """
    if all(distribution.is_gaussian for distribution in distributions):
        return apart
    time, y, x = map(str, obs.dims[-3:])
    order = [MEMBER, *obs.dims]
    first, row, column = origin
    days = xr.DataArray(absolute_days(obs, first), dims=time)
    # Pixels without a position share one; a method that needs to know where they are fills none.
    place = xr.DataArray(np.nan_to_num(place_km(obs, row, column)), dims=(y, x, "axis"))
    field = FactorField.draw(apart.sizes[MEMBER], seed, scales)
    number = xr.DataArray(np.arange(apart.sizes[MEMBER]), dims=MEMBER)
    parts = []
    for variable, distribution in enumerate(distributions):
        # One variable of several; a single field has no such dim.
        own = apart.isel(variable=[variable], missing_dims="ignore").transpose(*order)
        part = xr.apply_ufunc(
            _multiplied,
            own,
            number,
            days,
            place,
            input_core_dims=[[], [], [], ["axis"]],
            kwargs={"field": field, "distribution": distribution},
            dask="parallelized",
            output_dtypes=[apart.dtype],
            join="override",
        )
        parts.append(part)
    if "variable" in apart.dims:
        return xr.concat(parts, "variable")
    return parts[0]


def _multiplied(
    apart: NDArray,
    number: NDArray[np.int64],
    days: NDArray[np.float64],
    place: NDArray[np.float64],
    *,
    field: FactorField,
    distribution: ErrorDistribution,
) -> NDArray:
    """Multiply deviations ``(member, [1,] time, y, x)`` by their factors."""
    if distribution.is_gaussian:
        return apart
    days, places, number = days.ravel(), place.reshape(-1, 3), number.ravel()
    # In the order of C, so that `out` is a view of it.
    found = np.empty(apart.shape, apart.dtype)
    out = found.reshape(len(number), len(days), len(places))
    given = apart.reshape(out.shape)
    step = max(1, VALUES // (len(number) * len(days)))
    for start in range(0, len(places), step):
        some = slice(start, start + step)
        factor = distribution.factor(field.at(number, days, places[some]))
        out[..., some] = given[..., some] * factor
    return found
