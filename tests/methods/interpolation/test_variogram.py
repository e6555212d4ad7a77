# SPDX-License-Identifier: Apache-2.0
"""The semivariogram in time of series whose variogram is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.methods.interpolation.interpolate import in_time
from sstfill.methods.interpolation.variogram import LAGS, Variogram

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
    estimated = Variogram.of(kelvin, np.arange(float(N)))
    for found in (estimated, estimated.valid()):
        np.testing.assert_allclose(found(lag), expected, rtol=0.06)


def test_lags_are_days():
    series = red_noise(6.0)
    daily, hourly = (Variogram.of(series, step * np.arange(float(N))) for step in (1.0, 1 / 24))
    np.testing.assert_allclose(daily.lags / 24, hourly.lags)
    np.testing.assert_array_equal(daily.gamma, hourly.gamma)


def test_never_decreases_and_is_constant_outside():
    found = Variogram.of(red_noise(2.0)[:5], np.arange(float(N)))
    assert (np.diff(found.gamma) >= 0).all() and (np.diff(found.lags) > 0).all()
    assert found(np.array([0.0, 1e9])).tolist() == [found.gamma[0], found.gamma[-1]]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), images=st.integers(2, 2000), step=st.sampled_from([1 / 24, 1.0, 8.0]))
def test_whatever_the_estimates_the_model_is_a_semivariogram(data, images, step):
    """The variance of no linear interpolation between two times is negative."""
    lags = step * np.unique(np.geomspace(1, images, LAGS).astype(int))
    increments = st.lists(st.floats(0, 1e9), min_size=len(lags), max_size=len(lags))
    found = Variogram(lags, np.cumsum(data.draw(increments))).valid()
    assert (np.diff(found.gamma) >= 0).all()
    back, ahead = step * np.mgrid[1:40:3, 1:40:3]
    w = back / (back + ahead)
    variance = (1 - w) * found(back) + w * found(ahead) - w * (1 - w) * found(back + ahead)
    assert (variance >= -1e-6 * found.gamma[-1]).all()


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_smooth_field_is_interpolated_with_an_error_that_holds(noise):
    """By lags estimated from other pairs each, 60 % of these errors were zero."""
    rng = np.random.default_rng(84)
    t, pixel = np.mgrid[:24, :144]
    truth = 15 + np.sin(2 * np.pi * t / 60 + pixel / 9) + noise * rng.normal(size=t.shape)
    obs = truth.copy()
    for first, place, length in zip(
        rng.integers(0, 24, 86), rng.integers(0, 144, 86), rng.integers(1, 12, 86), strict=True
    ):
        obs[first : first + length, place : place + 4] = np.nan
    days = np.arange(24.0)
    variogram = Variogram.of(obs.T, days).valid()
    mean, error = in_time(obs.T, days=days, limit=np.inf, variogram=variogram)
    filled = np.isnan(obs.T) & np.isfinite(mean)
    z = np.abs(mean - truth.T)[filled] / error[filled]
    assert 0.3 < np.median(z) < 1.5 and np.quantile(z, 0.95) < 3


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
