# SPDX-License-Identifier: Apache-2.0
"""Withhold observations under masks from a random field, as large and as lasting as the gaps."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.synthetic import spectrum
from sstfill.validation.withholding.resemblance import class_edges, histogram, overlap
from sstfill.validation.withholding.sightings import Hiding, Rng, Sightings, some

SLOPE = 3.3
"""Of the spectrum of the field, as in `sstfill.synthetic.clouds`: between froth and blobs."""
SCALES = np.geomspace(2.0, 256.0, 8)
"""Outer scales of the field that are tried, pixels."""
SAMPLE = (8, 1000)
"""Images, and pixels in each of them, by which gaps and hidden pixels are compared."""
TRIAL = 8
"""Masks drawn to try a scale."""
MOST = 1000
"""Masks drawn, at most."""


def random_masks(
    obs: xr.DataArray, sea: xr.DataArray, *, fraction: float = 0.1, seed: int = 0
) -> xr.DataArray:
    """Choose observed pixels to hide where a random field is high, in one image or in several.

    The scale of the field is the one under which hidden pixels are as far from data as the gaps of
    the image are; each mask covers as much of an image as the gaps do where there are any, and is
    held for as many dates.

    Parameters
    ----------
    obs, sea, fraction, seed
        As of `sstfill.validation.withholding.runs.withheld_runs`.

    Returns
    -------
    DataArray
        As of `sstfill.validation.withholding.runs.withheld_runs`.

    Raises
    ------
    InputError
        Nothing is observed at sea, there are no gaps, or less than half of `fraction` can be
        hidden.
    """
    seen = Sightings.of(obs, sea)
    rng = np.random.default_rng(seed)
    return hide_at_random(seen, seen.count(fraction), rng).result(rng, seed=seed, masks="random")


def hide_at_random(seen: Sightings, wanted: int, rng: Rng) -> Hiding:
    """Hide pixels as `random_masks` does."""
    missing = np.count_nonzero(seen.gaps, axis=(2, 3))
    partly = (missing > 0) & seen.observed.any((2, 3))
    sizes = missing[partly]
    if not sizes.size:  # whole images are missing
        sizes = missing[missing > 0]
    in_part = seen.gaps & partly[:, :, np.newaxis, np.newaxis]
    gaps, _ = seen.distances(seen.observed, some(in_part, *SAMPLE, rng))
    # Masks as small as specks would never hide enough.
    sizes = np.maximum(sizes, round(wanted / seen.observed.sum() * seen.sea.sum()))
    # By distance alone: how long a mask lasts is that of a gap by construction.
    edges = (class_edges(gaps), np.empty(0))
    like = histogram((gaps, np.zeros(gaps.size)), edges)
    best, alike = SCALES[0], -1.0
    # One scale beyond the size of the image is enough: under larger ones it is a slope all the
    # same.
    for scale in SCALES[: 1 + np.searchsorted(SCALES, max(seen.sea.shape))]:
        drawn = _draw(seen, wanted, scale, sizes, TRIAL, rng)
        left = seen.observed & ~drawn.hidden
        found, _ = seen.distances(left, some(drawn.hidden, *SAMPLE, rng))
        value = overlap(like, histogram((found, np.zeros(found.size)), edges))
        if value > alike:
            best, alike = scale, value
    return _draw(seen, wanted, best, sizes, MOST, rng)


def _draw(
    seen: Sightings, wanted: int, scale: float, sizes: NDArray[np.intp], masks: int, rng: Rng
) -> Hiding:
    """Lay up to so many masks over random stretches of dates, until enough is hidden."""
    hiding = Hiding(seen, wanted)
    cloudy = seen.gaps.any((0, 2, 3)).reshape(-1, 1, 1)
    rows, columns = seen.sea.shape
    for _ in range(masks):
        image, place = seen.draw_gap(rng)
        times, _ = seen.laid(seen.run(image, place), image, seen.other_image(image, rng))
        field = spectrum.field(rng, (rows, columns), scale=scale, slope=SLOPE)
        # The threshold above which as many sea pixels lie as a gap of the series has.
        high = np.sort(field[seen.sea])[-rng.choice(sizes)]
        mask = cloudy & (field >= high)
        # The mask stands still for as many dates as the gap lasts.
        cloud = np.broadcast_to(mask, (times.stop - times.start, *mask.shape))
        hiding.add(hiding.trimmed(cloud, times, hiding.left, rng), times)
        if not hiding.left:
            break
    return hiding
