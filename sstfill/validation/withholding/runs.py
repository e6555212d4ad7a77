# SPDX-License-Identifier: Apache-2.0
"""Withhold observations in runs of dates, as the gaps of a series lie: as large and as lasting."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sstfill.validation.withholding.random_masks import hide_at_random
from sstfill.validation.withholding.resemblance import class_edges, histogram, overlap
from sstfill.validation.withholding.sightings import Bools, Hiding, Rng, Sightings, some

DONORS = 4
"""Images with gaps that it takes to hide under gaps of other dates; with fewer, masks are drawn."""
LEAST_COVER = 0.02
"""An image that lacks less than this fraction of the sea, or all of it, does not count as one."""
PIECES = 12
"""A run hides at most one part in so many of what is to be hidden: one cloud is not typical."""
CANDIDATES = 6
"""Runs of which the one is taken under which hidden pixels resemble the gaps most."""
MOST = 120
"""Times that candidates are drawn, at most."""
HOPELESS = 16
"""After so many times it is seen whether they will hide enough."""
SAMPLE = (3, 150)
"""Images, and pixels in each of them, by which a candidate is measured."""


def withheld_runs(
    obs: xr.DataArray, sea: xr.DataArray, *, fraction: float = 0.1, seed: int = 0
) -> xr.DataArray:
    """Choose observed pixels to hide, under gaps of other stretches of dates.

    A gap pixel is drawn at random, so that long gaps are drawn as often as they fill pixels. The
    dates on which it is missing without a break, or a part of them, are the donor; what they lack
    is hidden on other dates, as many days in a row, from a random one on. Of a few such draws the
    one is taken under which the hidden pixels lie most as the gaps do: as far from data, in the
    image and in time. An image keeps a part of its observations unless the donor's is wholly
    missing.

    Where fewer than `DONORS` images have gaps, or where the gaps lie they hide too little, masks
    are drawn from a random field, see `sstfill.validation.withholding.random_masks.random_masks`.

    Parameters
    ----------
    obs
        Observations (NaN in the gaps) or a bool array, True where observed; dims time, y, x and
        maybe variable. Each variable is hidden where the same donor dates lack it.
    sea
        True at sea, the two spatial dims of `obs`.
    fraction
        Of the observed pixels to hide, between 0 and 1.
    seed
        Equal seeds hide equal pixels.

    Returns
    -------
    DataArray
        bool, dims of `obs`: True at observed sea pixels to hide. Attributes ``fraction``, the
        fraction hidden, ``seed``, ``masks``, which is ``"runs"`` or ``"random"``, and
        ``resemblance``: medians of distance and lag of gaps and of hidden pixels, and the overlap
        of their histograms, see `sstfill.validation.withholding.resemblance.Resemblance`.

    Raises
    ------
    InputError
        Nothing is observed at sea, there are no gaps, or less than half of `fraction` can be
        hidden.
    """
    seen = Sightings.of(obs, sea)
    wanted = seen.count(fraction)
    rng = np.random.default_rng(seed)
    if _donors(seen) >= DONORS:
        hiding = _hide_runs(seen, wanted, rng)
        if hiding.left <= wanted / 2:
            return hiding.result(rng, seed=seed, masks="runs")
    return hide_at_random(seen, wanted, rng).result(rng, seed=seed, masks="random")


def _donors(seen: Sightings) -> int:
    """Count the images that have gaps, but not only gaps."""
    missing = np.count_nonzero(seen.gaps, axis=(1, 2, 3))
    # Of the sea of all variables: gaps and observations together are the sea.
    cover = missing / (missing + np.count_nonzero(seen.observed, axis=(1, 2, 3)))
    return int(np.count_nonzero((cover >= LEAST_COVER) & (cover < 1)))


def _hide_runs(seen: Sightings, wanted: int, rng: Rng) -> Hiding:
    """Lay gaps over other dates until enough is hidden, or nothing more can be."""
    hiding = Hiding(seen, wanted)
    gaps = seen.gap_distances(rng)
    edges = (class_edges(gaps[0]), class_edges(gaps[1]))
    like = histogram(gaps, edges)
    so_far = np.zeros_like(like)
    # What is still observed, kept beside `hiding` so that a candidate can be tried on it.
    left = seen.observed.copy()
    for number in range(MOST):
        best, alike = None, -1.0
        for _ in range(CANDIDATES):
            image, place = seen.draw_gap(rng)
            run, gap = _donor(seen, image, place, rng)
            times, sources = seen.laid(run, image, seen.other_image(image, rng))
            # No more than is still wanted, and not all of it under one cloud.
            most = min(hiding.left, max(1, wanted // PIECES))
            cloud = hiding.trimmed(gap[sources], times, most, rng)
            size = np.count_nonzero(cloud)
            if not size:
                continue
            t, *rest = some(cloud, *SAMPLE, rng)
            left[times] ^= cloud  # for this look only: all of it is left so far
            found = seen.distances(left, (t + times.start, *rest))
            left[times] |= cloud
            # Judged with all that is hidden already, so that runs make up for each other.
            total = so_far + size * histogram(found, edges)
            value = overlap(like, total / total.sum())
            if value > alike:
                best, alike = (cloud, times, total), value
        if best is not None:
            cloud, times, so_far = best
            hiding.add(cloud, times)
            left[times] ^= cloud
        # Extrapolated to all the draws: a series whose gaps hardly overlap its data is given up
        # early.
        done = wanted - hiding.left
        hopeless = number >= HOPELESS and done / (number + 1) * MOST < wanted / 2
        if hiding.left <= 0 or hopeless:
            break
    return hiding


def _donor(seen: Sightings, image: int, place: int, rng: Rng) -> tuple[slice, Bools]:
    """Return a run of dates around a gap pixel, and what to hide: one of two kinds of gap.

    Either the whole images of the run of that pixel, or of a part of it; or each gap pixel of its
    image for as long as its own run lasts.
    """
    if rng.random() < 0.5:
        return seen.runs(image)
    run = seen.run(image, place)
    if rng.random() < 0.5:
        first = int(rng.integers(run.start, image + 1))
        run = slice(first, int(rng.integers(image + 1, run.stop + 1)))
    return run, seen.gaps[run]
