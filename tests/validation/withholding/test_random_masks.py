# SPDX-License-Identifier: Apache-2.0
"""Masks from a random field are as large as the gaps, in a single image too."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill import synthetic
from sstfill.errors import InputError, OptionError
from sstfill.validation.distances import distance_to_data
from sstfill.validation.withholding.random_masks import random_masks


def image(scale_km: float = 100.0, times: int = 1, fraction: float = 0.3) -> xr.DataArray:
    """Ones under clouds of some size, on a grid of 5 km."""
    shape = (times, 60, 70)
    cloud = synthetic.clouds(shape=shape, fraction=fraction, scale_km=scale_km, seed=3)
    return xr.ones_like(cloud, dtype="f4").where(~cloud).rename("sst")


def everywhere(obs: xr.DataArray) -> xr.DataArray:
    return xr.DataArray(np.ones(obs.shape[-2:], bool), dims=obs.dims[-2:])


@pytest.mark.parametrize("scale_km", [20.0, 100.0, 800.0])
def test_hidden_pixels_of_one_image_are_as_far_from_data_as_its_gaps(scale_km):
    obs = image(scale_km)
    distance = distance_to_data(obs)[0]
    gap = float(distance.where(obs.isnull()).median())
    found = []
    for seed in range(5):
        hidden = random_masks(obs, everywhere(obs), fraction=0.2, seed=seed)
        left = distance_to_data(obs.where(~hidden))[0]
        found.append(float(left.where(hidden).median()))
    assert gap / 2 < np.mean(found) < 2 * gap


@given(fraction=st.sampled_from([0.01, 0.1, 0.4]), times=st.integers(1, 4), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_law_of_random_masks(fraction, times, seed):
    obs = image(times=times)
    sea = everywhere(obs)
    sea[:10] = False
    hidden = random_masks(obs, sea, fraction=fraction, seed=seed)
    assert hidden.dims == obs.dims and hidden.dtype == bool
    assert not (hidden & (obs.isnull() | ~sea)).any()
    seen = obs.notnull() & sea
    assert hidden.attrs["fraction"] == pytest.approx(float(hidden.sum() / seen.sum()))
    assert hidden.attrs["fraction"] == pytest.approx(fraction, rel=0.5)
    assert hidden.attrs["masks"] == "random" and hidden.attrs["seed"] == seed
    space = sea.dims
    assert ((seen & ~hidden).sum(space) >= 0.1 * seen.sum(space) - 1).all()
    assert hidden.equals(random_masks(obs.chunk(lat=7), sea, fraction=fraction, seed=seed))


def test_a_pixel_keeps_an_observation_if_all_gaps_have_one():
    obs = image(times=3)
    never = obs.isnull().all("time")
    obs = obs.where(~never, 1.0)
    for seed in range(5):
        hidden = random_masks(obs, everywhere(obs), fraction=0.4, seed=seed)
        assert obs.where(~hidden).notnull().any("time").all()


def test_variables_are_hidden_under_one_mask_and_one_without_gaps_stays_whole():
    cloudy = image(times=2)
    both = xr.concat([cloudy, cloudy.fillna(2.0), cloudy], xr.Variable("variable", ["a", "b", "c"]))
    hidden = random_masks(both, everywhere(both), fraction=0.1)
    assert hidden.dims == both.dims
    assert not hidden[1].any()
    assert hidden[0].any() and float((hidden[0] == hidden[2]).mean()) > 0.95


def test_where_only_whole_images_are_missing_parts_of_the_others_are_hidden():
    obs = image(times=3).fillna(1.0)
    obs[1] = np.nan
    hidden = random_masks(obs, everywhere(obs), fraction=0.2)
    assert hidden.attrs["fraction"] == pytest.approx(0.2, rel=0.1)


def test_what_cannot_be_hidden():
    obs = image()
    with pytest.raises(InputError, match="no gaps at sea"):
        random_masks(obs.fillna(1.0), everywhere(obs))
    with pytest.raises(InputError, match="nothing is observed"):
        random_masks(obs * np.nan, everywhere(obs))
    with pytest.raises(OptionError, match="fraction"):
        random_masks(obs, everywhere(obs), fraction=0.0)


@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 2, 2), (2, 1, 3)])
def test_tiny_images(shape):
    obs = xr.DataArray(np.ones(shape), dims=("time", "y", "x"), name="sst")
    obs[0, 0, 0] = np.nan
    hidden = random_masks(obs, everywhere(obs), fraction=0.3)
    assert hidden.any() and obs.where(~hidden).notnull().any()
