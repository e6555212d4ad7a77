# SPDX-License-Identifier: Apache-2.0
"""Withheld runs lie as the gaps do, in the image and in time."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill import synthetic
from sstfill.errors import InputError
from sstfill.fields import gaps
from sstfill.validation.distances import distance_to_data
from sstfill.validation.withholding.resemblance import Resemblance
from sstfill.validation.withholding.runs import withheld_runs

pytestmark = pytest.mark.usefixtures("clouds_chosen_well")


def cloudy(times: int = 40, fraction: float = 0.4, seed: int = 1) -> xr.DataArray:
    """Ones under clouds that stay for days, a day apart."""
    cloud = synthetic.clouds(
        shape=(times, 24, 30),
        fraction=fraction,
        step="1D",
        persistence="10D",
        wind=(0.0, 0.0),
        scale_km=100.0,
        seed=seed,
    )
    return xr.ones_like(cloud, dtype="f4").where(~cloud).rename("sst")


def everywhere(obs: xr.DataArray) -> xr.DataArray:
    return xr.DataArray(np.ones(obs.shape[-2:], bool), dims=obs.dims[-2:])


def alike(obs: xr.DataArray, hidden: xr.DataArray) -> float:
    """How far hidden pixels lie as the gaps do, 0 to 1."""
    gap, at = obs.isnull().values, hidden.values
    gaps = tuple(part.values[gap] for part in distance_to_data(obs))
    withheld = tuple(part.values[at] for part in distance_to_data(obs.where(~hidden)))
    return Resemblance.of(gaps, withheld).overlap


def test_hidden_pixels_lie_as_the_gaps_under_clouds_that_stay():
    obs = cloudy()
    sea = everywhere(obs)
    runs = [alike(obs, withheld_runs(obs, sea, seed=seed)) for seed in range(4)]
    dates = [alike(obs, gaps.transplant_clouds(obs, sea, seed=seed)) for seed in range(4)]
    assert np.mean(runs) > 0.75 and np.mean(runs) > np.mean(dates) + 0.2


@given(
    fraction=st.sampled_from([0.01, 0.1, 0.3]),
    cover=st.sampled_from([0.1, 0.4, 0.8]),
    seed=st.integers(0, 30),
)
@settings(max_examples=20, deadline=None)
def test_law_of_withheld_runs(fraction, cover, seed):
    obs = cloudy(16, cover, seed=seed)
    sea = everywhere(obs)
    sea[:3] = False
    obs = obs.where(obs.notnull().any("time") | (obs.time != obs.time[0]), 1.0)
    hidden = withheld_runs(obs, sea, fraction=fraction, seed=seed)
    assert hidden.dims == obs.dims and hidden.dtype == bool and hidden.attrs["masks"] == "runs"
    seen = obs.notnull() & sea
    assert not (hidden & ~seen).any()
    assert hidden.attrs["fraction"] == pytest.approx(float(hidden.sum() / seen.sum()))
    assert fraction / 2 <= hidden.attrs["fraction"] <= fraction + 1 / int(seen.sum())
    left = seen & ~hidden
    assert left.any("time").where(sea, True).all(), "a pixel lost its last observation"
    assert (left.sum(sea.dims) >= 0.1 * seen.sum(sea.dims) - 1).all(), "an image lost too much"
    assert hidden.equals(withheld_runs(obs.chunk(time=5), sea, fraction=fraction, seed=seed))
    assert hidden.equals(withheld_runs(obs.notnull(), sea, fraction=fraction, seed=seed))


def test_images_are_hidden_wholly_where_images_are_wholly_missing():
    obs = cloudy(60)
    obs[::4] = np.nan
    whole = [withheld_runs(obs, everywhere(obs), fraction=0.2, seed=seed) for seed in range(3)]
    left = xr.concat(
        [obs.where(~one).isel(time=obs.notnull().any(("lat", "lon"))) for one in whole], "seed"
    )
    assert left.isnull().all(("lat", "lon")).any()
    obs = cloudy(60)
    for seed in range(3):
        left = obs.where(~withheld_runs(obs, everywhere(obs), fraction=0.2, seed=seed))
        assert left.notnull().any(("lat", "lon")).all()


def test_a_run_lasts_as_many_days_on_other_dates_as_on_its_own():
    """Two images a day in the first half, one in ten days in the second; gaps of one day."""
    days = np.concatenate([np.arange(0, 20, 0.5), 20.0 + 10 * np.arange(20)])
    rng = np.random.default_rng(0)
    seen = np.ones((days.size, 12, 12), bool)
    for day in range(0, 18, 2):
        corner = rng.integers(0, 7, 2)
        at = (days >= day) & (days < day + 1)
        seen[at, corner[0] : corner[0] + 5, corner[1] : corner[1] + 5] = False
    time = pd.Timestamp("2020-01-01") + pd.to_timedelta(days, "D")
    obs = xr.DataArray(seen, {"time": time}, ("time", "y", "x"), name="sst")
    for seed in range(5):
        hidden = withheld_runs(obs, everywhere(obs), fraction=0.03, seed=seed)
        assert hidden.attrs["masks"] == "runs"
        # In the second half there is no second image within a day.
        late = hidden.values[days >= 20]
        assert (late[1:] & late[:-1]).sum() < 0.2 * max(1, late.sum())


def test_variables_are_hidden_where_the_same_dates_lack_them():
    one = cloudy()
    both = xr.concat([one, one, one.fillna(2.0)], xr.Variable("variable", ["a", "b", "c"]))
    hidden = withheld_runs(both, everywhere(both))
    assert hidden.dims == both.dims and not hidden[2].any()
    assert float((hidden[0] == hidden[1]).mean()) > 0.97 and hidden[0].any()
    turned = withheld_runs(both.transpose("time", "variable", "lat", "lon"), everywhere(both))
    assert turned.transpose(*hidden.dims).equals(hidden)


@pytest.mark.parametrize("case", ["one image", "few donors", "specks", "one place"])
def test_where_gaps_of_other_dates_hide_too_little_masks_are_drawn(case):
    obs = cloudy(30)
    if case == "one image":
        obs = obs[:1]
    elif case == "few donors":
        obs = obs.where(obs.isnull().cumsum("time") < 3, 1.0).where(obs.time < obs.time[3], 1.0)
    elif case == "specks":
        obs = obs.fillna(1.0)
        obs[::3, 4, 5] = np.nan
    else:
        obs = obs.fillna(1.0)
        obs[:, :6, :6] = np.nan
    hidden = withheld_runs(obs, everywhere(obs), fraction=0.1, seed=2)
    assert hidden.attrs["masks"] == "random"
    assert hidden.attrs["fraction"] == pytest.approx(0.1, rel=0.1)


def test_without_gaps_nothing_is_hidden():
    obs = cloudy().fillna(1.0)
    with pytest.raises(InputError, match="no gaps at sea"):
        withheld_runs(obs, everywhere(obs))


def test_the_mask_tells_how_far_it_resembles_the_gaps():
    obs = cloudy()
    hidden = withheld_runs(obs, everywhere(obs))
    alike = json.loads(json.dumps(hidden.attrs["resemblance"], allow_nan=False))
    assert 0.5 < alike["overlap"] <= 1
    distance, lag = distance_to_data(obs)
    gap = obs.isnull()
    assert alike["gaps"]["distance_km"] == pytest.approx(
        float(distance.where(gap).median()), rel=0.2
    )
    assert alike["gaps"]["lag_days"] == pytest.approx(float(lag.where(gap).median()), abs=1)
    one = withheld_runs(obs[:1], everywhere(obs)).attrs["resemblance"]
    assert one["gaps"]["lag_days"] is None and one["withheld"]["lag_days"] is None
    assert one["overlap"] > 0.4
