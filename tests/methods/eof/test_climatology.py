# SPDX-License-Identifier: Apache-2.0
"""Climatology: a seasonal cycle that is there is found, one that cannot be known is not made up."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.errors import OptionError
from sstfill.methods import Climatology
from sstfill.methods.eof.climatology import YEAR

DAYS = np.arange(0.0, 731.0, 5.0)


def season(rng, noise=0.0):
    """Two harmonics of the year, of each pixel's own size and phase, about its own mean; (times, 5,
    6).
    """
    mean, a, b, c = rng.normal(size=(4, 5, 6)) * np.array([3, 2, 2, 0.5])[:, None, None]
    phase = 2 * np.pi * DAYS[:, None, None] / YEAR
    clean = 15 + mean + a * np.sin(phase) + b * np.cos(phase) + c * np.sin(2 * phase + 1)
    return clean, clean + noise * rng.normal(size=clean.shape)


def observed(rng, values, fraction=0.4):
    return np.where(rng.random(values.shape) < fraction, np.nan, values)


def test_harmonic_signal_over_two_years_is_recovered(make_field, all_sea):
    rng = np.random.default_rng(0)
    clean, _ = season(rng)
    obs = make_field(observed(rng, clean), DAYS)
    mean = Climatology().reconstruct(obs, all_sea(obs))["mean"].values
    assert (
        np.abs(mean - clean).max() < 0.1
    )  # the prior that the cycle is nil weighs half an observation
    assert np.sqrt(np.mean((mean - clean) ** 2)) < 0.01 * clean.std()


def test_error_is_the_scatter_about_the_cycle(make_field, all_sea):
    rng = np.random.default_rng(0)
    _, noisy = season(rng, noise=0.5)
    obs = make_field(observed(rng, noisy), DAYS)
    found = Climatology().reconstruct(obs, all_sea(obs))
    z = ((found["mean"].values - noisy) / found["error"].values)[obs.isnull().values]
    assert 0.9 < z.std() < 1.1


def test_less_than_a_year_gives_each_pixel_its_mean(make_field, all_sea):
    rng = np.random.default_rng(0)
    values = observed(rng, season(rng)[0])[:60]
    obs = make_field(values, DAYS[:60])
    found = Climatology().reconstruct(obs, all_sea(obs))
    assert found.attrs == {"harmonics": 0}
    np.testing.assert_allclose(
        found["mean"], np.broadcast_to(np.nanmean(values, 0), values.shape), atol=1e-4
    )


def test_a_pixel_seen_in_one_season_stays_near_what_was_seen(make_field, all_sea):
    rng = np.random.default_rng(0)
    values = observed(rng, season(rng)[0])
    values[:, 0, 0] = np.nan
    values[20:24, 0, 0] = [14.0, 14.1, 14.2, 14.3]
    mean = (
        Climatology()
        .reconstruct(obs := make_field(values, DAYS), all_sea(obs))["mean"][:, 0, 0]
        .values
    )
    assert np.abs(mean - 14.15).max() < 1.0


def test_error_of_a_pixel_seen_once_is_that_of_the_field(make_field, all_sea):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 4, 4))
    values[1:, 0, 0] = np.nan
    error = Climatology().reconstruct(obs := make_field(values), all_sea(obs))["error"].values
    assert error[3, 0, 0] > 1.2 * error[3, 1:, 1:].mean()


@pytest.mark.parametrize("harmonics", [-1, 7])
def test_bad_option(harmonics):
    with pytest.raises(OptionError, match=f"harmonics={harmonics}"):
        Climatology(harmonics=harmonics)
