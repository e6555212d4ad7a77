# SPDX-License-Identifier: Apache-2.0
"""Bayesian EOFs: the stated error fits the errors made, and sampling pixels costs little skill."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sstfill.errors import InputError, OptionError
from sstfill.methods import BayesEof

N, SIDE, NOISE = 60, 16, 0.3


def model(
    make_field, days: np.ndarray | None = None, seed: int = 0
) -> tuple[xr.DataArray, xr.DataArray]:
    """What is observed of red-noise modes plus noise, and all of it (noise too)."""
    rng = np.random.default_rng(seed)
    days = np.arange(float(N)) if days is None else days
    X = 15 + NOISE * rng.normal(size=(N, SIDE * SIDE))
    for scale, size in ((15, 2.0), (6, 1.0), (3, 0.7)):
        root = np.linalg.cholesky(np.exp(-np.abs(days[:, None] - days) / scale) + 1e-9 * np.eye(N))
        X += size * np.outer(root @ rng.normal(size=N), rng.normal(size=SIDE * SIDE))
    truth = make_field(X.reshape(N, SIDE, SIDE).astype(np.float32), days)
    return truth.where(rng.random(truth.shape) < 0.5), truth


@pytest.mark.parametrize("seed", [0, 1])
def test_error_is_calibrated_on_its_own_model(make_field, all_sea, seed):
    obs, truth = model(make_field, seed=seed)
    found = BayesEof().reconstruct(obs, all_sea(obs))
    z = ((truth - found["mean"]) / found["error"]).values[obs.isnull().values]
    assert 0.8 < z.std() < 1.25
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.03)
    assert found.attrs["noise"] == pytest.approx(NOISE, rel=0.1)


def test_error_tells_good_pixels_from_bad_ones(make_field, all_sea):
    obs, truth = model(make_field)
    obs[20:26] = np.nan  # days without an image
    found = BayesEof().reconstruct(obs, all_sea(obs))
    blind = found["error"][20:26].values.mean()
    assert blind > 1.5 * found["error"][:20].values.mean()
    z = ((truth - found["mean"]) / found["error"])[20:26].values
    assert 0.5 < np.sqrt((z**2).mean()) < 1.6


def test_a_sample_of_pixels_teaches_the_amplitudes(make_field, all_sea):
    obs, truth = model(make_field)
    sampled, whole = (
        (BayesEof(sample=s).reconstruct(obs, all_sea(obs))["mean"] - truth)
        .where(obs.isnull())
        .std()
        for s in (100, 9999)
    )
    assert whole <= sampled < 1.15 * whole


@pytest.mark.parametrize("normalise", [False, True])
def test_a_window_is_filled_by_the_amplitudes_of_the_series(make_field, all_sea, normalise):
    obs, _ = model(make_field)
    if normalise:
        # another offset in a window, and another scatter of each variable
        obs = xr.concat([obs, 4 * obs**2 + 200], "variable")
    method = BayesEof(normalise=normalise).fitted_to(obs, all_sea(obs)).unchanged()
    whole = method.reconstruct(obs, all_sea(obs))
    window = {"lat": slice(2, 9), "lon": slice(5, 14)}
    part = method.reconstruct(obs.isel(window), all_sea(obs).isel(window))
    scatter = float(obs.std())
    for name in ("mean", "error"):
        np.testing.assert_allclose(part[name], whole[name].isel(window), atol=1e-3 * scatter)


def test_irregular_times(make_field, all_sea):
    days = np.cumsum(np.random.default_rng(2).uniform(0.2, 4.0, N))
    obs, truth = model(make_field, days)
    found = BayesEof().reconstruct(obs, all_sea(obs))
    z = ((truth - found["mean"]) / found["error"]).values[obs.isnull().values]
    assert 0.8 < z.std() < 1.25


def test_diagnostics_are_told(make_field, all_sea):
    obs, _ = model(make_field)
    attrs = BayesEof().reconstruct(obs, all_sea(obs)).attrs
    assert 3 <= attrs["modes"] == len(attrs["time_scale_days"]) < 30  # starts from 30


def test_too_few_images_left(make_field, all_sea):
    obs, _ = model(make_field)
    obs[2:, :, 1:] = np.nan
    with pytest.raises(OptionError, match="leaves 2 images"):
        BayesEof(min_image_coverage=0.3).reconstruct(obs, all_sea(obs))


def test_images_left_out_are_not_filled(make_field, all_sea):
    obs, _ = model(make_field)
    obs[5, :, 1:] = np.nan
    mean = BayesEof(min_image_coverage=0.3).reconstruct(obs, all_sea(obs))["mean"]
    assert mean[5].isnull().all() and mean[4].notnull().all()


def test_coverage_that_nothing_reaches(make_field, all_sea):
    obs, _ = model(make_field)
    with pytest.raises(InputError, match=r"min_pixel_coverage=0.99"):
        BayesEof(min_pixel_coverage=0.99).reconstruct(obs, all_sea(obs))


@pytest.mark.parametrize(
    "option",
    [
        {"modes": 0},
        {"modes": "many"},
        {"sample": 0},
        {"tolerance": 0},
        {"max_iterations": 0},
        {"min_pixel_coverage": 1.0},
    ],
)
def test_bad_options(option):
    with pytest.raises(OptionError, match=next(iter(option))):
        BayesEof(**option)
