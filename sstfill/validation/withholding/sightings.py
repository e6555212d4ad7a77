# SPDX-License-Identifier: Apache-2.0
"""Where a series is observed, and what of it is hidden so far: the ground of withheld masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.checks import check_number
from sstfill.errors import InputError
from sstfill.fields.gaps import nearest_part
from sstfill.fields.reading.dates import days_since_first, usual_step
from sstfill.fields.reading.positions import cell_km
from sstfill.validation.withholding.resemblance import Resemblance

KEEP = 0.1
"""Fraction of its observed pixels that each image keeps at least, unless it is hidden wholly."""
SAMPLE = (32, 400)
"""Images, and pixels in each of them, by which gaps and hidden pixels are compared."""
Bools = NDArray[np.bool_]
Pixels = tuple[NDArray[np.intp], ...]
Rng = np.random.Generator


@dataclass(frozen=True)
class Sightings:
    """Where a series is observed.

    Attributes
    ----------
    observed, gaps
        True at sea where there is an observation, and where there is none: ``(time, variable, y,
        x)``, also of a single variable.
    sea
        True at sea, ``(y, x)``.
    days
        Since the first image, ``(time,)``.
    spacing
        Size of a pixel along y and x, km.
    like
        The field.
    """

    observed: Bools
    gaps: Bools
    sea: Bools
    days: NDArray[np.floating]
    spacing: tuple[float, float]
    like: xr.DataArray

    @classmethod
    def of(cls, obs: xr.DataArray, sea: xr.DataArray) -> Sightings:
        """Look where a field is observed; a lazy one is read.

        Parameters
        ----------
        obs
            Observations (NaN in the gaps) or a bool array, True where observed; dims time, y, x and
            maybe variable.
        sea
            True at sea, the two spatial dims of `obs`.

        Raises
        ------
        InputError
            Nothing is observed at sea, or there are no gaps there.
        """
        space = obs.dims[-2:]
        at_sea = sea.transpose(*space).values.astype(bool)
        seen = obs if obs.dtype == bool else obs.notnull()
        observed = _laid_out(seen) & at_sea
        if not observed.any():
            raise InputError(
                f"nothing is observed at sea in {obs.name!r}; check the sea mask and the fill value"
            )
        gaps = ~observed & at_sea
        if not gaps.any():
            raise InputError(
                f"{obs.name!r} has no gaps at sea, so that none can hide observations elsewhere; "
                "hide some yourself, by withheld= of fill or clouds= of score"
            )
        one = obs.isel(variable=0, missing_dims="ignore")
        return cls(observed, gaps, at_sea, days_since_first(one), cell_km(one), obs)

    def laid_out(self, mask: xr.DataArray) -> Bools:
        """Return a mask of the field as ``(time, variable, y, x)``."""
        return _laid_out(mask.transpose(*self.like.dims))

    def count(self, fraction: float) -> int:
        """Return how many pixels `fraction` of the observed ones are, at least one."""
        check_number("fraction", fraction, 0, 1, above=True)
        return max(1, round(fraction * int(np.count_nonzero(self.observed))))

    def draw_gap(self, rng: Rng) -> tuple[int, int]:
        """Draw a gap pixel: its image, and its place in the image ``(variable, y, x)``, flat.

        Each gap pixel is as likely as any other, so that long gaps are drawn as often as they fill
        pixels.
        """
        # By the cumulative number of gap pixels: no list of them all, which may exceed memory.
        image = int(np.searchsorted(self._chances, rng.random(), side="right"))
        return image, int(rng.choice(np.flatnonzero(self.gaps[image])))

    def run(self, image: int, place: int) -> slice:
        """Return the dates around an image on which a gap pixel is missing without a break."""
        seen = np.flatnonzero(~self.gaps.reshape(len(self.gaps), -1)[:, place])
        following = int(np.searchsorted(seen, image))
        first, end = 0, len(self.gaps)
        if following > 0:
            first = int(seen[following - 1]) + 1
        if following < seen.size:
            end = int(seen[following])
        return slice(first, end)

    def runs(self, image: int) -> tuple[slice, Bools]:
        """Return the run of every gap pixel of an image: the dates of the longest, and a mask of
        all, ``(time, variable, y, x)``.
        """
        parts = [self.gaps[image]]
        first, last = image, image
        # Each date keeps the pixels that have been missing since `image`; the run ends when none is
        # left.
        while last + 1 < len(self.gaps) and (parts[-1] & self.gaps[last + 1]).any():
            last += 1
            parts.append(parts[-1] & self.gaps[last])
        while first > 0 and (parts[0] & self.gaps[first - 1]).any():
            first -= 1
            parts.insert(0, parts[0] & self.gaps[first])
        return slice(first, last + 1), np.stack(parts)

    def laid(self, run: slice, image: int, target: int) -> tuple[slice, NDArray[np.intp]]:
        """Lay a run over other dates, so that one of its images comes to lie on another.

        Returns
        -------
        times, sources
            The other dates, as far as the series goes, and for each of them the number in the run
            of the date that lies there, as many days away from `image`.
        """
        offset = self.days[run] - self.days[image]
        away = self.days - self.days[target]
        # By days, not by number: dates may be missing from the series. Half a step is the
        # tolerance.
        within = (away > offset[0] - self.step / 2) & (away < offset[-1] + self.step / 2)
        within[target] = True
        numbers = np.flatnonzero(within)
        times = slice(int(numbers[0]), int(numbers[-1]) + 1)
        return times, np.abs(away[times, np.newaxis] - offset).argmin(1)

    def other_image(self, image: int, rng: Rng) -> int:
        """Draw another image, if there is one."""
        number = int(rng.integers(max(1, len(self.days) - 1)))
        # One image is left out of the draw by shifting those from it on.
        return number + (number >= image and len(self.days) > 1)

    def distances(self, left: Bools, pixels: Pixels) -> tuple[NDArray, NDArray]:
        """Measure how far some pixels are from observations.

        Parameters
        ----------
        left
            True where there still is one, ``(time, variable, y, x)``.
        pixels
            Indices of the pixels in these four dimensions, ``(n,)`` each.

        Returns
        -------
        distance, lag
            As of `sstfill.validation.distances.distance_to_data`, ``(n,)``.
        """
        times, variables, rows, columns = pixels
        distance, lag = np.empty(times.size, np.float32), np.empty(times.size, np.float32)
        image = times * left.shape[1] + variables
        places = np.ravel_multi_index((variables, rows, columns), left.shape[1:])
        series = left.reshape(len(left), -1)
        # image by image, for the processor's cache holds the series of a few hundred pixels
        for number in np.unique(image):
            here = image == number
            time, variable = divmod(int(number), left.shape[1])
            shown = left[time, variable]
            distance[here] = _distance_to(shown, rows[here], columns[here], self.spacing)
            apart = np.abs(self.days - self.days[time])[:, np.newaxis]
            # a date counts only where the pixel was observed on it; not by `where` of the minimum,
            # which takes twice as long
            lag[here] = np.where(series.take(places[here], axis=1), apart, np.inf).min(axis=0)
        return distance, lag

    def gap_distances(self, rng: Rng) -> tuple[NDArray, NDArray]:
        """Return distance and lag of a random sample of the gaps."""
        return self.distances(self.observed, some(self.gaps, *SAMPLE, rng))

    @cached_property
    def step(self) -> float:
        """Usual time from one image to the next, days."""
        return usual_step(self.days)

    @cached_property
    def _chances(self) -> NDArray[np.floating]:
        """Cumulative chance of each image to have the next gap pixel drawn, ``(time,)``."""
        counts = np.cumsum(np.count_nonzero(self.gaps, axis=(1, 2, 3)))
        return counts / counts[-1]


class Hiding:
    """What is hidden so far.

    Attributes
    ----------
    hidden
        True there, ``(time, variable, y, x)``.
    wanted, left
        How many pixels are to be hidden, and how many of them still are.
    """

    def __init__(self, seen: Sightings, wanted: int) -> None:
        self.seen = seen
        self.hidden = np.zeros_like(seen.observed)
        self.wanted = self.left = wanted
        self._shown = np.count_nonzero(seen.observed, axis=(2, 3))
        # How many pixels of each image may still be hidden, and how often each pixel is observed.
        self._spare = ((1 - KEEP) * self._shown).astype(np.intp)
        self._often = np.count_nonzero(seen.observed, axis=0)
        # Pixels may be hidden in whole images, and pixels may lose their last observation, as far
        # as gaps lie in such images and at such pixels.
        missing = np.count_nonzero(seen.gaps, axis=(2, 3))
        whole = missing[self._shown == 0].sum() / missing.sum()
        never = np.count_nonzero(seen.gaps & (self._often == 0)) / missing.sum()
        self._whole, self._never = wanted * whole, wanted * never

    def trimmed(self, cloud: Bools, times: slice, most: int, rng: Rng) -> Bools:
        """Return the part of a cloud that may be hidden.

        Parameters
        ----------
        cloud
            True at pixels to hide, ``(time, variable, y, x)``. An image that it hides wholly stays
            so where such images are due; another keeps some of its observations.
        times
            The dates to hide it on.
        most
            Pixels to hide at most.
        rng
            Of the point about which a cloud too large is trimmed.
        """
        fresh = cloud & self.seen.observed[times] & ~self.hidden[times]
        places = np.flatnonzero(fresh)
        if not places.size:
            return fresh
        *_, y, x = np.unravel_index(rng.choice(places), fresh.shape)
        centre = int(y), int(x)
        whole, left = np.zeros_like(fresh), self.left
        covered = (cloud | ~self.seen.sea).all(axis=(2, 3))
        for t, c in np.argwhere(covered):
            size = int(self._shown[times][t, c])
            # An image hidden whole counts for many pixels; drawn by chance, so that in the mean as
            # many are due as in the gaps.
            due = 0 < size <= min(left, self.wanted / 2)
            if due and rng.random() < self._whole / size:
                whole[t, c] = fresh[t, c]
                left -= size
        # What is too much goes from the edge, so that the rest is still one cloud.
        part = nearest_part(fresh & ~whole, min(most, left), centre)
        spare = self._spare[times]
        for t, c in np.argwhere(np.count_nonzero(part, axis=(2, 3)) > spare):
            part[t, c] = nearest_part(part[t, c], int(spare[t, c]), centre)
        part |= whole
        count = np.count_nonzero(part, axis=0)
        last = (count > 0) & (count == self._often)
        if count[last].sum() > self._never and len(self.hidden) > 1:
            # The first or the last observation of the pixel stays.
            ends = part if rng.random() < 0.5 else part[::-1]
            kept = ends.argmax(0)[last]
            ends[(kept, *np.nonzero(last))] = False
        return part

    def add(self, cloud: Bools, times: slice) -> None:
        """Hide what `trimmed` returned."""
        count = np.count_nonzero(cloud, axis=0)
        self._never -= count[(count > 0) & (count == self._often)].sum()
        sizes = np.count_nonzero(cloud, axis=(2, 3))
        self._whole -= sizes[sizes > self._spare[times]].sum()
        self._often -= count
        self._spare[times] = np.maximum(self._spare[times] - sizes, 0)
        self.hidden[times] |= cloud
        self.left -= int(sizes.sum())

    def result(self, rng: Rng, **attrs: object) -> xr.DataArray:
        """Return the hidden pixels as a mask with the dims of the field.

        Its attributes are ``fraction``, the fraction of the observed pixels hidden,
        ``resemblance``, see `sstfill.validation.withholding.resemblance.Resemblance.summary`, and
        `attrs`.

        Raises
        ------
        InputError
            Less than half of what was wanted is hidden.
        """
        reached = self.wanted - self.left
        observed = int(self._shown.sum())
        if reached < self.wanted / 2:
            raise InputError(
                f"the gaps of {len(self.hidden)} images hide {reached / observed:.1%} of the "
                f"observed pixels, not {self.wanted / observed:.1%}; ask for a smaller fraction"
            )
        left = self.seen.observed & ~self.hidden
        alike = Resemblance.of(
            self.seen.gap_distances(rng), self.seen.distances(left, some(self.hidden, *SAMPLE, rng))
        )
        like = self.seen.like
        mask = xr.DataArray(self.hidden, dims=("time", "variable", *like.dims[-2:]))
        if "variable" not in like.dims:
            mask = mask.isel(variable=0)
        mask = mask.transpose(*like.dims).assign_coords(like.coords).rename("withheld")
        return mask.assign_attrs(
            long_name="hidden from the method",
            fraction=reached / observed,
            resemblance=alike.summary(),
            **attrs,
        )


def _laid_out(mask: xr.DataArray) -> Bools:
    if "variable" not in mask.dims:
        mask = mask.expand_dims("variable")
    found: Bools = mask.transpose("time", "variable", *mask.dims[-2:]).values
    return found


def _distance_to(
    shown: Bools, rows: NDArray[np.intp], columns: NDArray[np.intp], spacing: tuple[float, float]
) -> NDArray[np.floating]:
    """Distance of some pixels of an image to the nearest one shown; infinite if none is.

    For a few pixels this takes a quarter of the time of a distance transform of the image.
    """
    place = np.arange(len(shown), dtype=np.float64)[:, np.newaxis]
    before = np.maximum.accumulate(np.where(shown, place, -np.inf))
    after = np.minimum.accumulate(np.where(shown, place, np.inf)[::-1])[::-1]
    # of each column the pixel that is nearest along it, then of all columns the nearest
    along = np.minimum(place - before, after - place)[rows]
    across = np.arange(shown.shape[1]) - columns[:, np.newaxis]
    square = (spacing[0] * along) ** 2 + (spacing[1] * across) ** 2
    return np.sqrt(square.min(axis=1))


def some(at: Bools, images: int, pixels: int, rng: Rng) -> Pixels:
    """Choose pixels of a mask ``(time, variable, y, x)``: of some images, evenly, and some of each.

    Returns
    -------
    tuple of ndarray
        Their indices in the four dimensions, ``(n,)`` each.
    """
    having = np.flatnonzero(at.any((1, 2, 3)))
    parts = [np.empty((at.ndim, 0), np.intp)]
    for t in having[:: max(1, having.size // images)]:
        places = np.flatnonzero(at[t])
        drawn = np.sort(rng.permutation(places)[:pixels])
        parts.append(np.stack([np.full(drawn.size, t), *np.unravel_index(drawn, at.shape[1:])]))
    return tuple(np.concatenate(parts, axis=1))
