# SPDX-License-Identifier: Apache-2.0
"""Withhold observations under masks from a random field, as large and as lasting as the gaps."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from sstfill.synthetic import spectrum
from sstfill.validation.resemblance import class_edges, histogram, overlap
from sstfill.validation.sightings import Bools, Hiding, Rng, Sightings

SLOPE = 3.3
"""Of the spectrum of the field: between froth and smooth blobs, as of `sstfill.synthetic.clouds`."""
SCALES = np.geomspace(2.0, 256.0, 8)
"""Outer scales of the field that are tried, pixels."""
IMAGES = 8
"""Images on which a scale is judged, at most."""
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
        As of `sstfill.validation.runs.withheld_runs`.

    Returns
    -------
    DataArray
        As of `sstfill.validation.runs.withheld_runs`.

    Raises
    ------
    InputError
        Nothing is observed at sea, there are no gaps, or less than half of `fraction` can be
        hidden.
    """
    seen = Sightings.of(obs, sea)
    rng = np.random.default_rng(seed)
    return hide_at_random(seen, seen.count(fraction), rng).result(seed=seed, masks="random")


def hide_at_random(seen: Sightings, wanted: int, rng: Rng) -> Hiding:
    """Hide pixels as `random_masks` does."""
    missing = np.count_nonzero(seen.gaps, axis=(2, 3))
    partly = np.argwhere((missing > 0) & seen.observed.any((2, 3)))
    distances = [np.empty(0)]
    for t, c in _some(partly):
        distances.append(_distances(seen, seen.observed[t, c], seen.gaps[t, c]))
    gaps = np.concatenate(distances)
    sizes = missing[partly[:, 0], partly[:, 1]]
    if not sizes.size:  # whole images are missing
        sizes = missing[missing > 0]
    largest = 2 * max(seen.observed.shape[2:])
    best, alike = Hiding(seen, wanted), -1.0
    for scale, own in zip(SCALES, rng.spawn(len(SCALES)), strict=True):
        if scale > largest and alike >= 0:
            break
        drawn = _draw(seen, wanted, scale, sizes, own)
        if (value := _likeness(drawn, gaps)) > alike:
            best, alike = drawn, value
    return best


def _draw(seen: Sightings, wanted: int, scale: float, sizes: NDArray[np.intp], rng: Rng) -> Hiding:
    """Lay masks over random stretches of dates until enough is hidden."""
    hiding = Hiding(seen, wanted)
    cloudy = seen.gaps.any((0, 2, 3))
    for _ in range(MOST):
        times = seen.stretch(seen.draw_run(rng), rng)
        field = spectrum.field(rng, seen.sea.shape, scale=scale, slope=SLOPE)
        high = np.sort(field[seen.sea])[-rng.choice(sizes)]
        mask = (field >= high) & cloudy[:, np.newaxis, np.newaxis]
        images = times.stop - times.start
        cloud = np.broadcast_to(mask, (images, *mask.shape))
        hiding.add(hiding.trimmed(cloud, times, hiding.left, rng), times)
        if not hiding.left:
            break
    return hiding


def _likeness(hiding: Hiding, gaps: NDArray[np.float32]) -> float:
    """Return how far the hidden pixels are as far from data as the gaps, 0 to 1."""
    left = hiding.seen.observed & ~hiding.hidden
    found = [np.empty(0)]
    for t, c in _some(np.argwhere(hiding.hidden.any((2, 3)))):
        found.append(_distances(hiding.seen, left[t, c], hiding.hidden[t, c]))
    edges = (class_edges(gaps), np.empty(0))
    pair = []
    for part in (gaps, np.concatenate(found)):
        pair.append(histogram((part, np.zeros(part.size)), edges))
    return overlap(*pair)


def _distances(seen: Sightings, observed: Bools, at: Bools) -> NDArray[np.float32]:
    """Distance in one image of the pixels `at` to observed ones; infinite where there are none."""
    if not observed.any():
        return np.full(np.count_nonzero(at), np.inf, np.float32)
    distance = distance_transform_edt(~observed, sampling=seen.spacing)
    return distance[at].astype(np.float32)


def _some(images: NDArray[np.intp]) -> NDArray[np.intp]:
    """Take some of many images, evenly."""
    return images[:: max(1, len(images) // IMAGES)]
