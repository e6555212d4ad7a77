# SPDX-License-Identifier: Apache-2.0
"""Interpolation in time and space: exact where it must be, with the error its variogram implies."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import OptionError
from sstfill.methods import Interpolate
from sstfill.methods.interpolation.interpolate import in_time, membrane
from sstfill.methods.interpolation.variogram import Variogram

NAN = np.nan
DAYS = np.array([0.0, 1.0, 3.0, 3.5, 9.0, 10.0])
FLAT = Variogram(np.array([0.5, 1.0, 4.0, 10.0]), np.array([0.2, 0.3, 0.8, 1.5]))


def filled(series, limit=np.inf, days=DAYS):
    return in_time(np.asarray(series, float), days=days, limit=limit, variogram=FLAT)


class TestInTime:
    def test_linear_series_at_irregular_times_is_exact(self):
        truth = np.stack([2 + 0.5 * DAYS, 300 - 0.1 * DAYS])
        gappy = truth.copy()
        gappy[0, [1, 2, 4]] = gappy[1, 1:5] = NAN
        np.testing.assert_allclose(filled(gappy)[0], truth, rtol=1e-14)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 999), fraction=st.floats(0, 1))
    def test_as_numpy_interp(self, seed, fraction):
        rng = np.random.default_rng(seed)
        series = np.where(rng.random((3, 6)) < fraction, NAN, rng.normal(size=(3, 6)))
        found = filled(series)[0]
        for row, got in zip(series, found, strict=True):
            seen = np.isfinite(row)
            expected = np.interp(DAYS, DAYS[seen], row[seen]) if seen.any() else np.full(6, NAN)
            np.testing.assert_allclose(got, expected, atol=1e-12)
            np.testing.assert_array_equal(got[seen], row[seen])

    def test_ends_hold_the_nearest(self):
        assert filled([[NAN, NAN, 5.0, 7.0, NAN, NAN]])[0].tolist() == [
            [5.0, 5.0, 5.0, 7.0, 7.0, 7.0]
        ]

    @pytest.mark.parametrize(("limit", "left"), [(2.99, [1, 2, 4]), (3.5, [4]), (6.5, [])])
    def test_longest_gap_is_measured_between_the_observations_around_it(self, limit, left):
        mean, error = filled([[0.0, NAN, NAN, 3.5, NAN, 10.0]], limit)
        assert (
            np.flatnonzero(np.isnan(mean[0])).tolist()
            == np.flatnonzero(np.isnan(error[0])).tolist()
            == left
        )

    def test_longest_gap_at_the_ends(self):
        mean, _ = filled([[NAN, NAN, 1.0, 1.0, NAN, NAN]], 2.0)
        assert np.isnan(mean[0]).tolist() == [True, False, False, False, True, True]

    def test_variance_is_the_kriging_variance_of_these_weights(self):
        error = filled([[1.0, NAN, NAN, 2.0, NAN, NAN]])[1][0]
        w = 1 / 3.5
        weights, distances = np.array([1 - w, w]), np.array([1.0, 2.5])
        expected = (
            2 * weights @ FLAT(distances)
            - weights @ np.array([[0, FLAT(3.5)], [FLAT(3.5), 0]]) @ weights
        )
        assert error[1] == pytest.approx(np.sqrt(expected), rel=1e-6)
        assert error[5] == pytest.approx(np.sqrt(2 * FLAT(6.5)), rel=1e-6)

    def test_single_precision_kelvin(self):
        series = np.array([[300.0, NAN, NAN, 301.75, NAN, 302.0]], np.float32)
        mean, _ = in_time(series, days=DAYS, limit=np.inf, variogram=FLAT)
        assert mean.dtype == np.float32
        np.testing.assert_allclose(mean[0, 1:3], [300.5, 301.5], atol=4e-5)


class TestMembrane:
    def hole(self, truth):
        fill = np.zeros(truth.shape, bool)
        fill[2:7, 3:6] = fill[3, 6] = True
        return np.where(fill, NAN, truth), fill

    def test_harmonic_function_is_exact(self):
        y, x = np.mgrid[0:9, 0:10].astype(float)
        truth = x**2 - y**2 + 3 * x * y + 2 * y - 5  # harmonic on the grid too
        np.testing.assert_allclose(membrane(*self.hole(truth)), truth, atol=1e-9)

    def test_known_values_bound_the_filled_ones(self):
        truth = np.random.default_rng(0).normal(size=(9, 10))
        image, fill = self.hole(truth)
        found = membrane(image, fill)
        assert truth[~fill].min() < found[fill].min() and found[fill].max() < truth[~fill].max()
        np.testing.assert_array_equal(found[~fill], truth[~fill])

    def test_pixel_without_a_way_to_a_known_one_stays_missing(self):
        image = np.array([[1.0, NAN, NAN, NAN], [1.0, NAN, NAN, NAN]])
        fill = np.array([[False, True, False, True], [False, True, False, True]])
        found = membrane(image, fill)
        np.testing.assert_allclose(found[:, :2], 1)
        assert np.isnan(found[:, 2:]).all()

    def test_nothing_known_and_nothing_to_fill(self):
        nothing = np.full((2, 3), NAN)
        assert np.isnan(membrane(nothing, np.ones((2, 3), bool))).all()
        assert membrane(np.ones((2, 3)), np.ones((2, 3), bool)).tolist() == np.ones((2, 3)).tolist()

    def test_does_not_leap_over_land(self):
        image = np.array([[0.0, NAN, NAN, NAN, 9.0]])  # the middle one is land
        assert membrane(image, np.array([[False, True, False, True, False]])).tolist()[0][1::2] == [
            0.0,
            9.0,
        ]


class TestInterpolate:
    def field(self, make_field):
        rng = np.random.default_rng(1)
        values = np.cumsum(rng.normal(size=(20, 6, 7)), 0).astype(np.float32)
        values[rng.random(values.shape) < 0.4] = NAN
        values[:, 2:4, 3] = NAN  # never observed
        return make_field(values)

    def test_never_observed_pixels_are_filled_in_space_if_asked(self, make_field, all_sea):
        obs = self.field(make_field)
        assert Interpolate().reconstruct(obs, all_sea(obs))["mean"].notnull().all()
        without = Interpolate(space=False).reconstruct(obs, all_sea(obs))
        assert without["mean"].isnull().sum() == without["error"].isnull().sum() == 40

    def test_land_stays_missing(self, make_field, all_sea):
        obs = self.field(make_field)
        sea = all_sea(obs)
        sea[2:4, 3] = False
        assert Interpolate().reconstruct(obs, sea)["mean"][:, 2:4, 3].isnull().all()

    @pytest.mark.parametrize("chunks", [{"time": 7}, {"time": 3, "lat": 2, "lon": 5}, {"lon": 1}])
    def test_lazy_is_the_same_whatever_the_chunks(self, make_field, all_sea, chunks):
        obs = self.field(make_field)
        lazy, eager = (Interpolate().reconstruct(o, all_sea(obs)) for o in (obs.chunk(chunks), obs))
        assert lazy["mean"].chunks and lazy["error"].chunks
        for name in ("mean", "error"):
            np.testing.assert_array_equal(lazy[name].values, eager[name].values)

    def test_one_image_is_filled_in_space(self, make_field, all_sea):
        obs = self.field(make_field)[:1]
        found = Interpolate().reconstruct(obs, all_sea(obs))
        assert found["mean"].notnull().all() and (found["error"] > 0).all()

    def test_error_is_calibrated_on_a_random_walk(self, make_field, all_sea):
        rng = np.random.default_rng(2)
        truth = np.cumsum(rng.normal(size=(40, 12, 12)), 0)
        obs = make_field(np.where(rng.random(truth.shape) < 0.5, NAN, truth))
        found = Interpolate().reconstruct(obs, all_sea(obs))
        z = ((found["mean"].values - truth) / found["error"].values)[obs.isnull().values]
        assert 0.8 < z.std() < 1.25

    @pytest.mark.parametrize("limit", [0, -1.0, NAN])
    def test_bad_limit(self, limit):
        with pytest.raises(OptionError, match="limit="):
            Interpolate(limit=limit)


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((6, 3, 12_000), slice(None)), ((6, 400, 100), slice(0, 3))],
    ids=["very wide images", "seen in three rows"],
)
@pytest.mark.parametrize("chunks", [None, {"time": 2}], ids=["eager", "lazy"])
def test_a_sparse_look_does_not_miss_the_field(shape, rows, chunks):
    rng = np.random.default_rng(0)
    values = np.full(shape, np.nan, np.float32)
    values[:, rows] = rng.normal(15, 2, values[:, rows].shape)
    values[rng.random(shape) < 0.3] = np.nan
    obs = xr.DataArray(values, dims=("time", "y", "x"))
    sea = xr.DataArray(np.ones(shape[1:], bool), dims=("y", "x"))
    given = obs if chunks is None else obs.chunk(chunks)
    error = Interpolate(space=False).reconstruct(given, sea)["error"]
    gaps = error.values[:, rows][np.isnan(values[:, rows])]
    assert 1.5 < float(np.nanmedian(gaps)) < 4
