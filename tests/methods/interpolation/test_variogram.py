# SPDX-License-Identifier: Apache-2.0
"""The semivariogram in time of series whose variogram is known."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.methods.interpolation.variogram import Variogram

N, PIXELS = 120, 800


def red_noise(scale: float, nugget: float = 0.0) -> np.ndarray:
    rng, phi = np.random.default_rng(0), np.exp(-1 / scale)
    x = np.empty((PIXELS, N))
    x[:, 0] = rng.normal(size=PIXELS)
    for t in range(1, N):
        x[:, t] = phi * x[:, t - 1] + np.sqrt(1 - phi**2) * rng.normal(size=PIXELS)
    return x + nugget * rng.normal(size=x.shape)


@pytest.mark.parametrize("nugget", [0.0, 0.5])
def test_red_noise_with_gaps(nugget):
    scale = 6.0
    series = red_noise(scale, nugget)
    series[np.random.default_rng(1).random(series.shape) < 0.6] = np.nan
    lag = np.array([1.0, 2.0, 5.0, 20.0, 60.0])
    expected = 1 - np.exp(-lag / scale) + nugget**2
    kelvin = (300 + series).astype(np.float32)
    np.testing.assert_allclose(Variogram.of(kelvin, np.arange(float(N)))(lag), expected, rtol=0.06)


def test_lags_are_days():
    series = red_noise(6.0)
    daily, hourly = (Variogram.of(series, step * np.arange(float(N))) for step in (1.0, 1 / 24))
    np.testing.assert_allclose(daily.lags / 24, hourly.lags)
    np.testing.assert_array_equal(daily.gamma, hourly.gamma)


def test_never_decreases_and_is_constant_outside():
    found = Variogram.of(red_noise(2.0)[:5], np.arange(float(N)))
    assert (np.diff(found.gamma) >= 0).all() and (np.diff(found.lags) > 0).all()
    assert found(np.array([0.0, 1e9])).tolist() == [found.gamma[0], found.gamma[-1]]


@pytest.mark.parametrize(
    ("series", "gamma"),
    [
        (np.array([[1.0], [3.0]]), 1.0),
        (np.array([[np.nan, 1.0, np.nan], [3.0, np.nan, np.nan]]), 1.0),
        (np.full((2, 3), np.nan), 0.0),
    ],
    ids=["one image", "no pair", "nothing"],
)
def test_without_pairs_the_spread_stands_in(series, gamma):
    assert Variogram.of(series, np.arange(float(series.shape[1]))).gamma.tolist() == [gamma]
