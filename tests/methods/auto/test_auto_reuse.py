# SPDX-License-Identifier: Apache-2.0
"""`Auto` fills by what methods fitted in their trial; that hardly changes the fill."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sstfill import Auto, fill
from sstfill.methods import BayesEof, Oi
from sstfill.methods.base import FitsOnce
from sstfill.methods.eof.variational import VariationalFit
from sstfill.methods.oi import method as oi
from sstfill.synthetic import ocean

pytestmark = pytest.mark.usefixtures("clouds_chosen_well")


def series() -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """An ocean, and its observations with and without a tenth of the images."""
    sea_surface = ocean(shape=(24, 20, 22), seed=4)
    obs = sea_surface.sst
    fewer = obs.where(np.random.default_rng(0).random(obs.shape) < 0.85)
    return sea_surface, obs, fewer


@pytest.mark.parametrize("method", [Oi(), BayesEof()], ids=lambda method: method.name)
def test_a_fit_to_fewer_observations_fills_as_well(method):
    sea_surface, obs, fewer = series()
    sea = sea_surface.sea.astype(bool)
    gaps = obs.isnull() & sea
    assert isinstance(method, FitsOnce)
    known = method.fitted_to(fewer, sea)
    assert known.name == method.name and isinstance(known, type(method))
    rmse = []
    for one in (method, known):
        error = one.reconstruct(obs, sea)["mean"].where(gaps) - sea_surface.truth
        rmse.append(float(np.sqrt(np.square(error).mean())))
    assert rmse[1] == pytest.approx(rmse[0], rel=0.05)


def test_bayes_eof_goes_on_from_its_fit_in_few_rounds():
    sea_surface, obs, fewer = series()
    sea = sea_surface.sea.astype(bool)
    alone = BayesEof().reconstruct(obs, sea)
    known = BayesEof().fitted_to(fewer, sea).reconstruct(obs, sea)
    assert known.attrs["iterations"] < alone.attrs["iterations"] / 2
    assert known.attrs["noise"] == pytest.approx(alone.attrs["noise"], rel=0.05)


def test_other_images_are_fitted_anew():
    sea_surface, obs, fewer = series()
    sea = sea_surface.sea.astype(bool)
    known = BayesEof().fitted_to(fewer, sea)
    later = slice(2, None)
    xr.testing.assert_identical(
        known.reconstruct(obs[later], sea), BayesEof().reconstruct(obs[later], sea)
    )


def test_auto_fits_oi_and_bayes_eof_once(monkeypatch):
    fits = []
    fit_covariance, start = oi.fit_covariance, VariationalFit._start
    monkeypatch.setattr(
        oi, "fit_covariance", lambda *given: fits.append("oi") or fit_covariance(*given)
    )
    monkeypatch.setattr(
        VariationalFit, "_start", lambda *given: fits.append("bayes_eof") or start(*given)
    )
    out = fill(series()[0], Auto(methods=("bayes_eof", "oi")), variables="sst")
    assert "auto (" in out.attrs["history"] and sorted(fits) == ["bayes_eof", "oi"]


def test_errors_of_draws_are_correlated_by_a_fit_that_has_not_seen_them():
    sea_surface, obs, _ = series()
    sea = sea_surface.sea.astype(bool)
    known = BayesEof().fitted_to(obs, sea).error_correlation(obs, sea)
    assert known == BayesEof().error_correlation(obs, sea)
