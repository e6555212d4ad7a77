# SPDX-License-Identifier: Apache-2.0
"""DINEOF as a method: its options, its modes on the grid, its error, its two solvers."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.errors import OptionError
from sstfill.methods import Dineof
from sstfill.methods.eof.dineof import overlap
from sstfill.synthetic import eof_series, ocean


@pytest.fixture(scope="module")
def case():
    ds = ocean(shape=(25, 18, 20), seed=2, land=0.2)
    return ds.sst, ds.sea == 1, ds.truth


class TestModes:
    def test_reconstruction_is_offset_plus_modes(self, case):
        obs, sea, _ = case
        found = Dineof(return_modes=True).reconstruct(obs, sea)
        product = (found["spatial_mode"] * found["singular_value"] * found["temporal_mode"]).sum(
            "mode", skipna=False
        )
        left = (found["mean"] - product).values
        left = left[np.isfinite(left)]
        assert left.std() < 1e-5 and left.mean() == pytest.approx(float(obs.mean()), abs=1e-3)

    def test_orthonormal_without_a_filter_and_fractions_of_the_variance(self, case):
        obs, sea, _ = case
        found = Dineof(return_modes=True, alpha=0, solver="reference", modes=4).reconstruct(
            obs, sea
        )
        V, U = (
            found[n].stack(z=[d for d in found[n].dims if d != "mode"]).dropna("z").values
            for n in ("temporal_mode", "spatial_mode")
        )
        np.testing.assert_allclose(V @ V.T, np.eye(4), atol=1e-10)
        np.testing.assert_allclose(U @ U.T, np.eye(4), atol=1e-10)
        fraction = found["explained_variance"]
        assert (np.diff(fraction) < 0).all() and fraction.min() > 0 and 50 < fraction.sum() <= 100

    @pytest.mark.parametrize("options", [{}, {"alpha": 0.0}, {"alpha": 0.003, "normalise": True}])
    def test_fast_fractions_stay_below_all_of_it(self, case, options):
        obs, sea, _ = case
        fraction = Dineof(return_modes=True, **options).reconstruct(obs, sea)["explained_variance"]
        assert fraction.sum() <= 100.1

    def test_lie_on_the_grid_of_the_field(self, case):
        obs, sea, _ = case
        found = Dineof(return_modes=True, modes=2).reconstruct(obs, sea)
        assert found["spatial_mode"].dims == ("mode", "lat", "lon") and found[
            "temporal_mode"
        ].dims == ("mode", "time")
        np.testing.assert_array_equal(
            found["spatial_mode"][0].notnull(), obs.notnull().any("time") & sea
        )
        assert found["mode"].values.tolist() == [1, 2]

    @pytest.mark.parametrize(
        ("options", "units"), [({}, "degree_Celsius"), ({"normalise": True}, "1")]
    )
    def test_say_their_units(self, case, options, units):
        obs, sea, _ = case
        obs = obs.assign_attrs(units="degree_Celsius")
        found = Dineof(return_modes=True, modes=2, **options).reconstruct(obs, sea)
        assert found["spatial_mode"].attrs["units"] == found["temporal_mode"].attrs["units"] == "1"
        assert found["singular_value"].attrs["units"] == units

    def test_of_a_field_without_units(self, case):
        obs, sea, _ = case
        found = Dineof(return_modes=True, modes=2).reconstruct(obs.drop_attrs(), sea)
        assert "units" not in found["singular_value"].attrs


class TestError:
    def test_error_fits_the_errors_made_on_independent_errors(self, make_field, all_sea):
        rng = np.random.default_rng(0)
        days = np.arange(40.0)
        waves = np.stack([3 * np.sin(days / 5), np.cos(days / 3)], 1)
        clean = np.einsum("tk,kyx->tyx", waves, rng.normal(size=(2, 15, 15)))
        truth = 15 + clean + 0.3 * rng.normal(size=clean.shape)
        obs = make_field(np.where(rng.random(truth.shape) < 0.5, np.nan, truth))
        found = Dineof(error_length=0.0).reconstruct(obs, all_sea(obs))
        z = ((found["mean"].values - truth) / found["error"].values)[obs.isnull().values]
        assert 0.85 < z.std() < 1.25

    def test_grows_with_the_length_over_which_errors_agree(self, case):
        obs, sea, _ = case
        near, far = (
            Dineof(error_length=km, modes=3, alpha=0).reconstruct(obs, sea)["error"]
            for km in (0.0, 100.0)
        )
        assert float(far.mean()) > float(near.mean())

    def test_overlap_is_a_number_of_cells(self):
        assert overlap(25.0, 5.0, 5.0) == 25.0
        assert overlap(0.0, 5.0, 5.0) == overlap(1.0, 5.0, 5.0) == 1.0


class TestSolvers:
    def test_fast_and_reference_agree(self, case):
        obs, sea, truth = case
        gap = (obs.isnull() & sea).values
        fast, slow = (
            Dineof(solver=s, alpha=0.003, modes=4).reconstruct(obs, sea)["mean"]
            for s in ("fast", "reference")
        )
        assert np.nanstd((fast - slow).values[gap]) < 0.02 * float(truth.std())

    def test_random_cross_validation_flatters(self, case):
        obs, sea, _ = case
        clouds, points = (
            Dineof(cross_validation=c, alpha=0).reconstruct(obs, sea).attrs
            for c in ("clouds", "random")
        )
        assert points["cv_error"] < clouds["cv_error"]

    def test_the_time_filter_helps_under_clouds(self):
        ds = eof_series(pixels=400, times=60, truth=True, seed=1)
        gap = (ds.sst.isnull() & (ds.sea == 1)).values
        raw, smooth = (
            np.std(
                (Dineof(alpha=a).reconstruct(ds.sst, ds.sea == 1)["mean"] - ds.truth).values[gap]
            )
            for a in (0.0, 0.03)
        )
        assert smooth < 0.9 * raw


class TestCoverage:
    def test_images_left_out_are_not_filled(self, case):
        obs, sea, _ = case
        obs = obs.copy()
        obs[4] = np.nan
        found = Dineof(min_image_coverage=0.02, return_modes=True, modes=2).reconstruct(obs, sea)
        assert found["mean"][4].isnull().all() and found["temporal_mode"][:, 4].isnull().all()
        assert Dineof(modes=2).reconstruct(obs, sea)["mean"][4].notnull().any()

    def test_too_few_images_left(self, case):
        obs, sea, _ = case
        obs = obs.where(obs["time"] <= obs["time"][1])
        with pytest.raises(OptionError, match="leaves 2 images"):
            Dineof(min_image_coverage=0.05).reconstruct(obs, sea)


BAD = [
    {"modes": 0},
    {"modes": "all"},
    {"max_modes": 0},
    {"alpha": -0.1},
    {"alpha": "some"},
    {"alpha": float("nan")},
    {"filter_iterations": -1},
    {"cross_validation": "stripes"},
    {"tolerance": 0.0},
    {"max_iterations": 0},
    {"min_pixel_coverage": 1.0},
    {"min_image_coverage": -0.1},
    {"error_length": -1.0},
    {"solver": "slow"},
]


@pytest.mark.parametrize("option", BAD, ids=str)
def test_bad_options(option):
    with pytest.raises(OptionError, match=next(iter(option))):
        Dineof(**option)


def test_unstable_alpha_says_the_limit(case):
    obs, sea, _ = case  # six-hourly
    with pytest.raises(OptionError, match=r"alpha <= 0\.03125"):
        Dineof(alpha=0.04).reconstruct(obs, sea)
