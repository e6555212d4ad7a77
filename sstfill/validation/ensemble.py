# SPDX-License-Identifier: Apache-2.0
"""Scores of an ensemble against truth: CRPS, energy score, rank histogram; one formula each.

Members have shape ``(members, n)``, truth ``(n,)``, free of NaN. An empty truth gives NaN,
silently: nothing was there to score. CRPS and energy score are those of the library scoringrules;
it is imported where it is used, for it compiles itself when it is imported.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def crps(truth: ArrayLike, members: ArrayLike) -> float:
    """Mean continuous ranked probability score; smaller is better, in the units of the field.

    The fair estimator (Ferro 2014, Quarterly Journal of the Royal Meteorological Society 140,
    1917-1923): its expectation does not depend on the number of members.

    Parameters
    ----------
    truth, members
        Shapes ``(n,)`` and ``(members, n)``, two members at least.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> round(crps(rng.normal(size=20_000), rng.normal(size=(10, 20_000))), 2)  # 1 / sqrt(pi)
    0.56
    """
    from scoringrules import crps_ensemble

    wanted, drawn = _float64(truth), _float64(members)
    if not wanted.size:
        return math.nan
    return float(np.mean(crps_ensemble(wanted, drawn, m_axis=0, estimator="fair")))


def energy_score(truth: ArrayLike, members: ArrayLike, image: ArrayLike) -> float:
    """Mean energy score of images, over the square root of the number of their pixels.

    ``E|X - y| - E|X - X'| / 2`` with Euclidean norms over the pixels of an image (Gneiting &
    Raftery 2007, JASA 102, equation 22), fair as `crps` is. It is proper for the joint distribution
    of the pixels, but tells a wrong correlation much less clearly than a wrong mean or spread. The
    division gives it the units of the field, and images of few and of many pixels count alike.

    Parameters
    ----------
    truth, members
        Shapes ``(n,)`` and ``(members, n)``, two members at least.
    image
        Number of the image of each pixel, shape ``(n,)``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth, members = rng.normal(size=4000), rng.normal(size=(10, 4000))
    >>> image = np.repeat(np.arange(40), 100)
    >>> right, narrow = (energy_score(truth, spread * members, image) for spread in (1.0, 0.3))
    >>> right < narrow
    True
    """
    from scoringrules import es_ensemble

    wanted, drawn, number = _float64(truth), _float64(members), np.asarray(image)
    scores = []
    # An image is one vector; images differ in their number of pixels, so they go one by one.
    for one in np.unique(number):
        here = number == one
        score = es_ensemble(wanted[here], drawn[:, here], estimator="fair")
        scores.append(float(score) / math.sqrt(here.sum()))
    if not scores:
        return math.nan
    return float(np.mean(scores))


def rank_histogram(truth: ArrayLike, members: ArrayLike, seed: int = 0) -> NDArray[np.float64]:
    """Fraction of the truths by how many members lie below them, shape ``(members + 1,)``.

    Flat where truth and members are drawn from one distribution; high at both ends where the
    members differ too little, high in the middle where they differ too much (Hamill 2001, Monthly
    Weather Review 129, 550-560). Of members equal to the truth a random number lies below it.

    Parameters
    ----------
    truth, members
        Shapes ``(n,)`` and ``(members, n)``.
    seed
        Of the ranks among equals.

    Examples
    --------
    >>> rank_histogram([0.5, 5.0], [[1.0, 1.0], [0.0, 2.0]]).tolist()
    [0.0, 0.5, 0.5]
    """
    wanted, drawn = _float64(truth), _float64(members)
    below, equal = (drawn < wanted).sum(0), (drawn == wanted).sum(0)
    # Rounded values tie often; a fixed rank among equals would bend the histogram.
    rank = below + np.random.default_rng(seed).integers(0, equal + 1)
    count = np.bincount(rank, minlength=len(drawn) + 1)
    if not wanted.size:
        return np.full(count.shape, np.nan)
    return count / wanted.size


def rank_deviation(histogram: ArrayLike) -> float:
    """Sum of the distances of a rank histogram from a flat one: 0 is flat, 2 the most.

    The reliability index of Delle Monache et al. (2006), Journal of Geophysical Research 111,
    D24307. It does not grow with the number of pixels, as chi-square does, which takes pixels as
    independent.

    >>> rank_deviation([0.25, 0.25, 0.25, 0.25]), rank_deviation([0.5, 0.0, 0.0, 0.5])
    (0.0, 1.0)
    """
    fractions = _float64(histogram)
    return float(np.abs(fractions - 1 / fractions.size).sum())


def _float64(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
