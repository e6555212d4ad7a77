# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import unit_fills
import xarray as xr

from sstfill import synthetic
from sstfill.fields import gaps
from sstfill.methods import Interpolate
from sstfill.methods.common.sampling import gather
from sstfill.methods.interpolation.fitted import FittedInterpolate
from sstfill.methods.registry import fit, load

CORE = (16, 24, 24)
filled = partial(unit_fills.filled, core=CORE)


@pytest.fixture(scope="module")
def scene():
    """What is seen of an ocean (a corner of it never), its sea, and the truth where clouds were
    laid.
    """
    ocean = synthetic.ocean(shape=(80, 40, 48), seed=2)
    sea = ocean["sea"].astype(bool)
    hidden = gaps.transplant_clouds(ocean["sst"], sea, fraction=0.1, seed=4)
    seen = ocean["sst"].where(~hidden)
    seen[:, 20:24, 20:26] = np.nan
    return seen, sea, ocean["sst"].where(hidden)


@pytest.mark.parametrize(
    "method", [Interpolate(), Interpolate(space=False), Interpolate(limit=1.0)]
)
def test_the_fill_is_that_of_the_method(method, scene, tmp_path):
    seen, sea, _ = scene
    archive = gather(seen, sea)
    here, there = filled(fit(method, archive, tmp_path), archive), method.reconstruct(seen, sea)
    assert (here["mean"].notnull() == there["mean"].notnull()).all()
    xr.testing.assert_allclose(here["mean"], there["mean"], rtol=1e-4)
    xr.testing.assert_allclose(here["error"], there["error"], rtol=0.05)


def test_withheld_clouds_are_filled_as_well_as_in_memory(scene, tmp_path):
    seen, sea, truth = scene
    archive = gather(seen, sea)
    here = filled(fit(Interpolate(), archive, tmp_path), archive)["mean"]
    there = Interpolate().reconstruct(seen, sea)["mean"]
    one, other = (float(np.sqrt(np.square(m - truth).mean())) for m in (here, there))
    assert one <= 1.05 * other


def test_chunks_do_not_matter(scene, tmp_path):
    seen, sea, _ = scene
    one = gather(seen.chunk(time=30), sea)
    other = gather(seen.chunk(time=7, lat=11, lon=13), sea)
    xr.testing.assert_identical(
        filled(fit(Interpolate(), one, tmp_path), one).compute(),
        filled(fit(Interpolate(), other, tmp_path), other).compute(),
    )


def test_what_was_saved_says_the_same(scene, tmp_path):
    seen, sea, _ = scene
    archive = gather(seen, sea)
    fitted = fit(Interpolate(limit=5.0), archive, tmp_path)
    again = load(tmp_path)
    assert again.method == fitted.method and again.halo == fitted.halo
    for window in archive.trials:
        xr.testing.assert_identical(again.estimate(window), fitted.estimate(window))


def test_units_that_see_the_same_observations_agree_bit_for_bit(scene, tmp_path):
    seen, sea, _ = scene
    archive = gather(seen, sea)
    fitted = fit(Interpolate(space=False), archive, tmp_path)
    xr.testing.assert_identical(filled(fitted, archive), filled(fitted, archive, core=(10, 17, 31)))


@pytest.mark.parametrize(("step", "steps"), [("1D", 30), ("6h", 120), ("1h", 240), ("8D", 30)])
def test_the_reach_covers_a_month(step, steps, tmp_path):
    ocean = synthetic.ocean(shape=(8, 12, 12), step=step)
    archive = gather(ocean["sst"], ocean["sea"].astype(bool))
    assert fit(Interpolate(), archive, tmp_path).halo == (steps, 32, 32)
    assert fit(Interpolate(space=False), archive, tmp_path).halo == (steps, 0, 0)


def test_a_window_that_shows_nothing_is_left_empty(scene, tmp_path):
    seen, sea, _ = scene
    archive = gather(seen, sea)
    window = archive.trials[0]
    fitted = fit(Interpolate(), archive, tmp_path)
    assert isinstance(fitted, FittedInterpolate)
    found = fitted.estimate(replace(window, obs=window.obs.where(False)))
    assert not found["mean"].notnull().any() and not found["error"].notnull().any()


def test_one_image_alone_is_filled_in_space(tmp_path):
    obs = xr.DataArray(np.array([[[1.0, np.nan, 3.0]]], "f4"), dims=("time", "y", "x"))
    archive = gather(obs, xr.ones_like(obs[0], bool))
    assert filled(fit(Interpolate(), archive, tmp_path), archive)["mean"].values.tolist() == [
        [[1.0, 2.0, 3.0]]
    ]
