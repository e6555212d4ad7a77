# SPDX-License-Identifier: Apache-2.0
"""A series of which some observations are withheld, and windows of it."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sstfill.methods import Climatology, Interpolate
from sstfill.synthetic import ocean
from sstfill.validation.withholding.series_holdout import SeriesHoldout

pytestmark = pytest.mark.usefixtures("clouds_chosen_well")


def holdout(variables: int = 1) -> SeriesHoldout:
    sea_surface = ocean(shape=(16, 30, 26), seed=2)
    obs = sea_surface.sst
    if variables > 1:
        obs = xr.concat([obs, obs.shift(time=1)], "variable").assign_coords(variable=["a", "b"])
    return SeriesHoldout.draw(obs, sea_surface.sea.astype(bool), 0, 0.2)


@pytest.mark.parametrize("variables", [1, 2])
def test_pixels_of_a_part_are_those_of_the_whole(variables):
    whole = holdout(variables)
    part, rows = whole.part(whole.size // 4)
    in_whole, in_part = whole.predict(Climatology()), part.predict(Climatology())
    assert 0 < rows.sum() < rows.size
    for name in ("truth", "image", "layer", "distance", "lag", "weight", "odds"):
        np.testing.assert_array_equal(getattr(in_part, name), getattr(in_whole, name)[rows])
    assert 0.5 < part.size / (whole.size / 4) < 1.5


def test_only_the_middle_of_a_part_is_scored():
    part, rows = holdout().part(16 * 12 * 12)
    assert int(part.scored.sum()) == rows.sum() < int(part.hidden.sum())
    y, x = np.nonzero(part.scored.any("time").values)
    assert np.ptp(y) <= 0.6 * part.obs.shape[1] and np.ptp(x) <= 0.6 * part.obs.shape[2]


def test_a_part_as_large_as_the_whole_has_all_that_a_method_needs():
    whole = holdout()
    part, rows = whole.part(10 * whole.size)
    found = part.predict(Interpolate())
    assert found.truth.size == rows.sum() and np.isfinite(found.mean).all()
