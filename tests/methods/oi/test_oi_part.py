# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation at some of the gaps: the same values as at all of them, for less."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sstfill.methods import Oi
from sstfill.methods.base import EstimatesPart
from sstfill.methods.oi.solver import Solver
from sstfill.synthetic import ocean
from sstfill.validation.withheld import withheld_score

METHOD = Oi(length_scale=30.0, time_scale=2.0, noise=0.05, covariance="exponential")
"""Nothing but the variance is fitted."""


def series(variables: int) -> tuple[xr.DataArray, xr.DataArray]:
    sea_surface = ocean(shape=(8, 24, 20), seed=3)
    obs = sea_surface.sst
    if variables > 1:
        obs = xr.concat([obs, obs + 1], "variable")
    return obs, sea_surface.sea.astype(bool)


@pytest.mark.parametrize("variables", [1, 2])
@pytest.mark.parametrize("lazy", [False, True])
def test_wanted_gaps_are_as_in_the_whole_and_the_others_stay_empty(variables, lazy):
    obs, sea = series(variables)
    gaps = obs.isnull() & sea
    drawn = np.random.default_rng(0).random(obs.shape) < 0.1
    wanted = gaps.transpose(*obs.dims) & drawn
    assert isinstance(METHOD, EstimatesPart)
    whole = METHOD.reconstruct(obs, sea)
    part = METHOD.reconstruct_at(obs.chunk(time=4) if lazy else obs, sea, wanted)
    for name in ("mean", "error"):
        kept = whole[name].where(~gaps | wanted)
        xr.testing.assert_identical(part[name].compute().drop_attrs(), kept.drop_attrs())
    assert part.attrs == whole.attrs


def test_a_score_solves_no_more_than_the_withheld_pixels(monkeypatch):
    obs, sea = series(1)
    solved = []
    solve = Solver.__call__

    def count(self, values, targets):
        solved.append(len(targets))
        return solve(self, values, targets)

    monkeypatch.setattr(Solver, "__call__", count)
    score = withheld_score(METHOD, obs, sea, seed=0)
    assert sum(solved) == score[obs.name].summary["n"]
