# SPDX-License-Identifier: Apache-2.0
"""Withheld pixels weighed by how like the gaps their surroundings are."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.synthetic import ocean
from sstfill.validation.withholding.likeness import GapSample, Likeness, Surroundings, weights
from sstfill.validation.withholding.series_holdout import SeriesHoldout
from sstfill.validation.withholding.sightings import Sightings


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
@settings(max_examples=25, deadline=None)
def test_surroundings_are_those_that_a_search_of_each_pixel_finds(seed, observed):
    rng = np.random.default_rng(seed)
    left = rng.random((6, 2, 3, 4)) < observed
    days = np.cumsum(rng.integers(1, 5, 6)).astype(float)
    pixels = np.nonzero(~left)
    nothing = np.zeros(pixels[0].size)
    found = Surroundings.of(left, days, pixels, nothing, nothing)
    for number, (t, *place) in enumerate(zip(*pixels, strict=True)):
        seen = days[left[:, *place]] - days[t]
        since = -seen[seen < 0].max(initial=-np.inf)
        until = seen[seen > 0].min(initial=np.inf)
        assert found.farther[number] == max(since, until)
        assert found.dates[number] == seen.size


def around(rng: np.random.Generator, n: int, dates: float) -> Surroundings:
    lag, farther = np.sort(rng.integers(1, 20, (2, n)).astype(float), axis=0)
    farther[::7] = np.inf
    return Surroundings(rng.uniform(1, 9, n), lag, farther, 1 + rng.poisson(dates, n))


def test_pixels_of_one_kind_count_the_same():
    rng = np.random.default_rng(0)
    withheld, gaps = around(rng, 3000, 4.0), around(rng, 5000, 4.0)
    odds = Likeness.fit(withheld, gaps).odds(withheld)
    np.testing.assert_allclose(weights(odds), 1, atol=0.35)
    assert weights(odds).mean() == pytest.approx(1)


def test_weights_give_withheld_pixels_the_dates_of_the_gaps():
    rng = np.random.default_rng(0)
    withheld, gaps = around(rng, 3000, 2.0), around(rng, 5000, 5.0)
    likeness = Likeness.fit(withheld, gaps)
    weight = weights(likeness.odds(withheld))
    wanted, plain = np.log(gaps.dates).mean(), np.log(withheld.dates).mean()
    weighed = np.average(np.log(withheld.dates), weights=weight)
    assert abs(weighed - wanted) < 0.25 * abs(plain - wanted)
    # and of both kinds, each by the odds of the other, the same mean
    here, there = likeness.odds(withheld), likeness.odds(gaps)
    ours = np.average(np.log(withheld.dates), weights=here / (1 + here))
    theirs = np.average(np.log(gaps.dates), weights=1 / (1 + there))
    assert ours == pytest.approx(theirs, abs=0.1 * abs(plain - wanted))


@pytest.mark.parametrize("same", [Surroundings(*[np.full(3, v) for v in (np.inf, 0.0, np.inf, 0)])])
def test_pixels_that_are_all_alike_are_told_apart_by_nothing(same):
    one = same.at(np.arange(1))
    np.testing.assert_allclose(Likeness.fit(same, one).odds(same), 1)


def test_withheld_pixels_of_a_cloudy_series_become_more_like_its_gaps():
    """Where clouds stay, what is withheld leaves pixels with fewer dates than gaps have."""
    sea_surface = ocean(shape=(24, 30, 26), seed=2)
    sea = sea_surface.sea.astype(bool)
    held = SeriesHoldout.draw(sea_surface.sst, sea, 0, 0.2)
    seen = Sightings.of(sea_surface.sst, sea)
    often = np.count_nonzero(seen.observed, axis=0)
    in_gaps = np.log1p(np.broadcast_to(often, seen.gaps.shape)[seen.gaps]).mean()
    left = seen.observed & ~seen.laid_out(held.hidden)
    *_, rows, columns = np.nonzero(seen.laid_out(held.scored))
    dates = np.log1p(np.count_nonzero(left, axis=0)[0, rows, columns])
    off = abs(np.average(dates, weights=weights(held.odds)) - in_gaps)
    assert off < 0.5 * abs(np.average(dates, weights=held.weight) - in_gaps)


@pytest.mark.parametrize("chunks", [{"time": 2}, {"time": 5, "lat": 3, "lon": 2}])
def test_a_sample_of_gaps_is_picked_alike_from_a_lazy_field(chunks):
    rng = np.random.default_rng(1)
    field = xr.DataArray(rng.random((7, 5, 6)), dims=("time", "lat", "lon"))
    at = rng.random(field.shape) < 0.2
    at[3] = False
    sample = GapSample(*np.nonzero(at), np.ones(np.count_nonzero(at)))
    np.testing.assert_array_equal(sample.pick(field), field.values[at])
    np.testing.assert_array_equal(sample.pick(field.chunk(chunks)), field.values[at])
