# SPDX-License-Identifier: Apache-2.0
"""Random fields of a given covariance, as sums of waves: known at any place and time, so that
chunks, windows and workers see the same field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import qmc

from sstfill.errors import InputError
from sstfill.fields.patches import Box
from sstfill.fields.reading.positions import EARTH_RADIUS
from sstfill.methods.common.threads import in_threads, one_blas_thread
from sstfill.methods.oi.covariance import Component, Covariance
from sstfill.methods.oi.geometry import Domain, Positions
from sstfill.methods.oi.solver import per_day

WAVES = 2048
"""Waves of a field, shared by its components: covariances are within 1 to 2 % of the variance, and
the error of an interpolation follows within 3 %, at less than half the cost of the interpolation.
"""
FREEDOM = {"exponential": 1, "matern": 3}
"""Degrees of freedom of the t distribution that is the spectrum of a shape; that of "gauss" is
normal (Rasmussen & Williams 2006, 4.2).
"""
REGION = np.deg2rad(20.0)
"""A region of this radius is laid flat with distances off by at most 2 %; north turns less."""
WIDEST = np.deg2rad(30.0)
"""Largest radius of a region with flow, laid flat with distances off by at most 5 %."""
TILE = 16
"""Side in pixels of the tiles of the grid in which fields are evaluated."""
IMAGES = 16
"""Images that are evaluated at once in a tile."""
TOGETHER = 32
"""Members, times channels, that are evaluated at once."""
WAVE_SEED, AMPLITUDE_SEED = 711, 712
"""Purposes of the seeds of waves and of their amplitudes."""


class Flat(NamedTuple):
    """A flat space in which a component is isotropic, of scale 1.

    Attributes
    ----------
    place
        Position of the pixels, ``(y, x, 2)`` or ``(y, x, 3)``.
    drift
        Displacement per day, ``(2,)`` or ``(3,)``.
    """

    place: NDArray[np.float64]
    drift: NDArray[np.float64]


def flat(
    at: Positions,
    domain: Domain,
    length_scale: tuple[float, float],
    flow: tuple[float, float] = (0.0, 0.0),
) -> Flat:
    """Lay a grid out in a space where distances are counted in length scales.

    On the sphere without flow, where the scales along meridian and parallel are alike or the region
    is wide, this is a surface of revolution in three dimensions: its parallels have the radius ``R
    cos(lat) / lx``, its meridians the arc ``R dlat / ly``. There is none where ``ly sin(lat) >
    lx``: there the meridional scale is in effect ``lx / sin(lat)``. With flow, or where the scales
    differ in a region narrower than 40 degrees, it is the plane of the azimuthal equidistant
    projection (Snyder 1987, Map Projections, USGS Professional Paper 1395, chapter 25), where the
    direction of north and of the flow is that in the middle of the region.

    Parameters
    ----------
    at
        Positions of the pixels.
    domain
        Extent of the whole grid, of which `at` may be a part.
    length_scale
        Along the meridian and along the parallel, km.
    flow
        Eastward and northward, m/s.

    Raises
    ------
    InputError
        With flow in a region wider than 60 degrees, or where north turns by more than 30.
    """
    ly, lx = length_scale
    northward, eastward = per_day(flow)
    drift = np.array([eastward / lx, northward / ly])
    if domain.centre is None:
        return Flat(at.xyz[..., :2] / [lx, ly], drift)
    moves = bool(drift.any())
    extent = max(domain.radius, domain.turn)
    if moves and extent > WIDEST:
        raise InputError(
            f"the region reaches {np.rad2deg(domain.radius):.0f} degrees from its middle, and the "
            f"direction of north turns by {np.rad2deg(domain.turn):.0f} in it; draws with "
            f"flow={flow} need 30 or less of both: cut it, or leave out flow"
        )
    if moves or (ly != lx and extent <= REGION):
        return Flat(_projected(at, np.array(domain.centre)) / [lx, ly], drift)
    latitudes = np.linspace(-np.pi / 2, np.pi / 2, 20_001)
    slope = np.sqrt(np.maximum(ly**-2.0 - (np.sin(latitudes) / lx) ** 2, 0.0))
    height = EARTH_RADIUS * np.append(0.0, np.cumsum((slope[1:] + slope[:-1]) / 2))
    height *= latitudes[1] - latitudes[0]
    up = np.interp(at.north / EARTH_RADIUS, latitudes, height)
    return Flat(np.stack([at.xyz[..., 0] / lx, at.xyz[..., 1] / lx, up], -1), np.zeros(3))


def _projected(at: Positions, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance east and north of the centre, km, by the azimuthal equidistant projection."""
    east = np.array([-centre[1], centre[0], 0.0])
    length = np.linalg.norm(east)
    if length < 1e-9:  # at a pole
        east, length = np.array([0.0, 1.0, 0.0]), np.float64(1.0)
    east /= length
    north = np.cross(centre, east)
    up = at.xyz / EARTH_RADIUS
    beside = np.stack([up @ east, up @ north], -1)
    sine = np.linalg.norm(beside, axis=-1)
    angle = np.arctan2(sine, up @ centre)
    stretched = np.ones_like(sine)
    np.divide(angle, sine, out=stretched, where=sine > 1e-12)
    return np.asarray(EARTH_RADIUS * stretched[..., np.newaxis] * beside)


class Waves(NamedTuple):
    """Wave vectors ``(wave, dim)``, radians a length scale, and angular frequencies ``(wave,)``,
    radians a time scale.
    """

    vector: NDArray[np.float64]
    frequency: NDArray[np.float64]


def draw_waves(shape: str, count: int, dims: int, rng: np.random.Generator) -> Waves:
    """Draw waves from the spectrum of a shape in space, and independently in time.

    The mean of their cosines is ``shape(distance) * shape(lag)`` (Mantoglou & Wilson 1982, Water
    Resour. Res. 18; Hesse, Prykhodko, Schlueter & Attinger 2014, Environ. Model. Softw. 55). Sobol
    points, shifted at random (Cranley & Patterson 1976, SIAM J. Numer. Anal. 13), give every range
    of scales its share.

    Parameters
    ----------
    shape
        A key of `sstfill.methods.oi.covariance.SHAPES`.
    count
        Number of waves, a power of two.
    dims
        2 or 3 dimensions of space.
    rng
        Draws the shift.
    """
    points = qmc.Sobol(dims + 1, scramble=False).random(count) + rng.random(dims + 1)
    points = np.clip(points % 1.0, 1e-9, 1 - 1e-9)
    if shape == "gauss":
        length = np.sqrt(2 * special.gammaincinv(dims / 2, points[:, 0]))
        frequency = special.ndtri(points[:, 1])
    else:
        freedom = FREEDOM[shape]
        # the squared length of a t vector, over its dimensions, is F distributed
        length = np.sqrt(dims * special.fdtri(dims, freedom, points[:, 0]))
        frequency = special.stdtrit(freedom, points[:, 1])
    around = 2 * np.pi * points[:, 2]
    direction = np.stack([np.cos(around), np.sin(around)], -1)
    if dims == 3:
        height = 2 * points[:, 3] - 1
        direction = np.c_[np.sqrt(1 - height**2)[:, np.newaxis] * direction, height]
    return Waves(length[:, np.newaxis] * direction, frequency)


@dataclass(frozen=True)
class RandomField:
    """Independent fields of a covariance, without noise, on the grid of some positions.

    All have the same waves, whose amplitudes are independent and normal, so that given the waves
    they are exactly Gaussian. Member k is the same however many there are.

    Attributes
    ----------
    place, vector
        Position of the pixels, and wave vectors in turns, of each component.
    frequency
        Of all waves, turns a day.
    amplitude
        Of cosine and sine, ``(channel, member, 2, wave)``.
    """

    place: list[NDArray[np.float64]]
    vector: list[NDArray[np.float64]]
    frequency: NDArray[np.float64]
    amplitude: NDArray[np.float32]

    @classmethod
    def draw(
        cls,
        covariance: Covariance,
        cross: NDArray[np.float64],
        at: Positions,
        domain: Domain,
        flow: tuple[float, float],
        members: int,
        seed: int,
    ) -> RandomField:
        """Draw waves and amplitudes.

        Parameters
        ----------
        covariance
            Of each channel.
        cross
            Correlation between channels, ``(channel, channel)``.
        at, domain
            Positions of the pixels, and the extent of the whole grid.
        flow
            With which the fields drift, eastward and northward, m/s.
        members
            Number of fields.
        seed
            Equal seeds draw equal fields.
        """
        count = waves_each(covariance)
        rng = np.random.default_rng([seed, WAVE_SEED])
        places, vectors, frequencies, sizes = [], [], [], []
        for component in covariance.components:
            place, vector, frequency = _component(component, at, domain, flow, count, rng)
            places.append(place)
            vectors.append(vector)
            frequencies.append(frequency)
            sizes.append(np.full(count, np.sqrt(component.variance / count)))
        size = np.concatenate(sizes)
        mixed = np.linalg.cholesky(cross)
        amplitude = np.empty((len(cross), members, 2, len(size)), np.float32)
        for member in range(members):
            of_member = np.random.default_rng([seed, AMPLITUDE_SEED, member])
            independent = of_member.standard_normal((len(cross), 2, len(size)))
            amplitude[:, member] = size * np.tensordot(mixed, independent, axes=1)
        return cls(places, vectors, np.concatenate(frequencies), amplitude)

    @property
    def members(self) -> int:
        """Number of fields."""
        return self.amplitude.shape[1]

    def fill(
        self,
        values: NDArray[np.float32],
        row: NDArray[np.int32],
        days: NDArray[np.float64],
        box: Box,
    ) -> None:
        """Write the fields at some pixels and times, ``(site, member)``.

        Parameters
        ----------
        values
            Written in place.
        row
            Row of `values` for each channel, time, y and x; -1 where the field is not needed.
        days
            Absolute time of the images.
        box
            Which part of the whole grid these are. Tiles begin where those of the whole do, so that
            their numbers are rounded alike.
        """
        _, rows, columns = box
        tiles = []
        for y in range(rows.start - rows.start % TILE, rows.stop, TILE):
            for x in range(columns.start - columns.start % TILE, columns.stop, TILE):
                top, left = max(y - rows.start, 0), max(x - columns.start, 0)
                bottom, right = y + TILE - rows.start, x + TILE - columns.start
                tiles.append((slice(top, bottom), slice(left, right)))
        group = max(1, TOGETHER // len(self.amplitude))
        with one_blas_thread():
            for first in range(0, self.members, group):
                some = slice(first, first + group)
                coefficients = self._coefficients(days, some)

                def evaluate(
                    tile: tuple[slice, slice],
                    some: slice = some,
                    coefficients: NDArray[np.float32] = coefficients,
                ) -> None:
                    self._fill_tile(values[:, some], row[:, :, *tile], tile, coefficients)

                in_threads(evaluate, tiles)

    def _coefficients(self, days: NDArray[np.float64], some: slice) -> NDArray[np.float32]:
        """Amplitudes turned on to each time, ``(time, channel, member, 2 * wave)``.

        The phase of a wave is a part in space and a part in time, so that by the angle-sum formulas
        its values are products of these.
        """
        cosine, sine = _cosine_and_sine(np.outer(days, self.frequency))
        amplitude = self.amplitude[:, some]
        channels, members, _, waves = amplitude.shape
        turned = np.empty((len(days), channels, members, 2, waves), np.float32)
        for t in range(len(days)):
            of_cosine, of_sine = amplitude[:, :, 0], amplitude[:, :, 1]
            turned[t, :, :, 0] = of_cosine * cosine[t] + of_sine * sine[t]
            turned[t, :, :, 1] = of_sine * cosine[t] - of_cosine * sine[t]
        return turned.reshape(len(days), channels, members, 2 * waves)

    def _fill_tile(
        self,
        values: NDArray[np.float32],
        row: NDArray[np.int32],
        tile: tuple[slice, slice],
        coefficients: NDArray[np.float32],
    ) -> None:
        needed = row >= 0
        y, x = np.nonzero(needed.any(axis=(0, 1)))
        if not len(y):
            return
        turns = []
        for place, vector in zip(self.place, self.vector, strict=True):
            turns.append(vector @ place[tile][y, x].T)
        basis = np.concatenate(_cosine_and_sine(np.concatenate(turns)))
        _, channels, members, waves = coefficients.shape
        for start in range(0, row.shape[1], IMAGES):
            images = slice(start, start + IMAGES)
            at_pixels = row[:, images][:, :, y, x]
            if not needed[:, images].any():
                continue
            found = coefficients[images].reshape(-1, waves) @ basis
            found = found.reshape(-1, channels, members, len(y))
            channel, time, pixel = np.nonzero(at_pixels >= 0)
            values[at_pixels[channel, time, pixel]] = found[time, channel, :, pixel]


def waves_each(covariance: Covariance) -> int:
    """Return the number of waves of each component, a power of two."""
    share = WAVES / len(covariance.components)
    return int(2 ** np.floor(np.log2(share)))


def _component(
    component: Component,
    at: Positions,
    domain: Domain,
    flow: tuple[float, float],
    count: int,
    rng: np.random.Generator,
) -> tuple[NDArray, NDArray, NDArray]:
    """Place of the pixels, and the waves of a component in turns and turns a day."""
    place, drift = flat(at, domain, component.length_scale, flow)
    vector, frequency = draw_waves(component.shape, count, place.shape[-1], rng)
    # a field that drifts is seen at x - drift * t
    per_time = frequency / component.time_scale - vector @ drift
    return place, vector / (2 * np.pi), per_time / (2 * np.pi)


def _cosine_and_sine(turns: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Cosine and sine in single precision of phases that may be many turns."""
    phase = (2 * np.pi * (turns - np.floor(turns))).astype(np.float32)
    return np.cos(phase), np.sin(phase)
