# SPDX-License-Identifier: Apache-2.0
"""Packing a gappy field into a matrix and back: nothing is lost, moved or rounded away."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.errors import InputError
from sstfill.methods.common.matrix import SLAB, pack, sum_squares, time_slabs

DIMS = ("time", "y", "x")
NAN = np.nan


def array(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("variable", *DIMS)[-values.ndim :])


def gappy(
    seed: int, shape: tuple[int, ...], fraction: float = 0.4, mean: float = 15.0
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = mean + rng.normal(size=shape)
    values[rng.random(shape) < fraction] = NAN
    values.flat[0] = mean  # never all missing
    return values


def unpacked(matrix, shape: tuple[int, ...]) -> np.ndarray:
    """Field from a matrix, dims ([variable,] time, y, x): the observed values only."""
    times = shape[-3]
    flat = np.full((times, int(np.prod(shape)) // times), NAN)
    whole = matrix.offset + matrix.scale * matrix.values
    flat[np.ix_(matrix.times, matrix.pixels)] = np.where(matrix.observed, whole, NAN)
    images = flat.reshape(times, *shape[:-3], *shape[-2:])
    return np.moveaxis(images, 0, -3)


shapes = st.tuples(st.integers(1, 2 * SLAB), st.integers(1, 5), st.integers(1, 5))


@settings(max_examples=25, deadline=None)
@given(
    shape=shapes,
    seed=st.integers(0, 99),
    fraction=st.floats(0, 0.9),
    normalise=st.booleans(),
    land=st.floats(0, 0.5),
)
def test_round_trip(shape, seed, fraction, normalise, land):
    values = gappy(seed, shape, fraction)
    sea = np.random.default_rng(seed).random(shape[1:]) >= land
    sea.flat[0] = True
    matrix = pack(array(values), array(sea), dtype=np.float64, normalise=normalise)
    np.testing.assert_allclose(unpacked(matrix, shape), np.where(sea, values, NAN), rtol=1e-12)
    assert matrix.values.flags.c_contiguous and matrix.observed.flags.c_contiguous
    assert not matrix.values[~matrix.observed].any()
    assert abs(matrix.values[matrix.observed].mean()) < 1e-9
    assert matrix.observed.any(0).all()


@pytest.mark.parametrize("pixel_coverage", [0.0, 0.5])
def test_flat_positions_hold_after_columns_are_taken_out(pixel_coverage):
    values = gappy(1, (9, 4, 6))
    values[:, 1] = (
        NAN  # indexing by columns alone hands back Fortran order, where ravel() is a copy
    )
    matrix = pack(array(values), array(np.ones((4, 6), bool)), min_pixel_coverage=pixel_coverage)
    assert matrix.values.flags.c_contiguous and matrix.observed.flags.c_contiguous
    matrix.values.ravel()[3] = 77
    assert matrix.values[0, 3] == 77


@pytest.mark.parametrize("chunks", [{"time": 5}, {"time": (1, 30, 9), "y": 3, "x": 2}])
def test_lazy_is_the_same(chunks):
    obs, sea = array(gappy(2, (40, 4, 6))), array(np.ones((4, 6), bool))
    eager, lazy = pack(obs, sea), pack(obs.chunk(chunks), sea)
    for a, b in zip(vars(eager).values(), vars(lazy).values(), strict=True):
        np.testing.assert_array_equal(a, b)


class TestCoverage:
    sea = array(np.ones((1, 4), bool))

    def field(self):
        values = gappy(3, (100, 1, 4), fraction=0.0)
        values[7:, 0, 1] = NAN  # 7 % observed
        values[:, 0, 2] = NAN  # never
        values[20, 0, [0, 3]] = NAN  # an image without any observation
        return array(values)

    @pytest.mark.parametrize(
        ("coverage", "pixels"), [(0.0, [0, 1, 3]), (0.07, [0, 1, 3]), (0.0701, [0, 3])]
    )
    def test_pixels(self, coverage, pixels):
        assert pack(self.field(), self.sea, min_pixel_coverage=coverage).pixels.tolist() == pixels

    def test_images_are_measured_on_the_pixels_that_take_part(self):
        matrix = pack(self.field(), self.sea, min_pixel_coverage=0.5, min_image_coverage=1.0)
        assert matrix.pixels.tolist() == [0, 3]
        assert matrix.times.tolist() == [t for t in range(100) if t != 20]

    def test_a_pixel_seen_only_in_images_left_out_goes_too(self):
        values = np.full((5, 1, 4), NAN)
        values[:4, 0, 1:] = np.arange(12.0).reshape(4, 3)
        values[4, 0, 0] = 50.0
        matrix = pack(array(values), self.sea, min_image_coverage=0.5)
        assert matrix.times.tolist() == [0, 1, 2, 3] and matrix.pixels.tolist() == [1, 2, 3]

    @pytest.mark.parametrize(
        "option", [{"min_pixel_coverage": 0.999}, {"min_image_coverage": 0.999}]
    )
    def test_nothing_left(self, option):
        values = gappy(4, (10, 1, 4))
        values[np.arange(10), 0, np.arange(10) % 4] = NAN
        with pytest.raises(InputError, match="no observation is left"):
            pack(array(values), self.sea, **option)


class TestCentre:
    sea = array(np.ones((6, 7), bool))

    def test_deviation_is_the_root_mean_square_of_the_anomalies(self):
        values = gappy(5, (8, 6, 7))
        matrix = pack(array(values), self.sea, dtype=np.float64)
        assert matrix.deviation == pytest.approx(np.nanstd(values))
        assert sum_squares(matrix.values) == pytest.approx(
            np.nansum((values - np.nanmean(values)) ** 2)
        )

    def test_variables_are_stacked_and_normalised_each_by_itself(self):
        values = np.stack([gappy(6, (8, 6, 7), mean=290.0), 0.01 * gappy(7, (8, 6, 7), mean=0.0)])
        matrix = pack(array(values), self.sea, dtype=np.float64, normalise=True)
        assert len(matrix.pixels) == len(np.unique(matrix.pixels)) == 84
        for layer, own in zip(values, (matrix.pixels < 42, matrix.pixels >= 42), strict=True):
            anomaly = matrix.values[:, own][matrix.observed[:, own]]
            assert anomaly.std() == pytest.approx(1) and abs(anomaly.mean()) < 1e-9
            np.testing.assert_allclose(matrix.scale[own], np.nanstd(layer))
        np.testing.assert_allclose(unpacked(matrix, values.shape), values, rtol=1e-12, atol=1e-14)

    def test_variable_dim_may_come_anywhere(self):
        obs = array(np.stack([gappy(6, (8, 6, 7)), gappy(7, (8, 6, 7))]))
        one, other = (
            pack(obs, self.sea),
            pack(obs.transpose("time", "variable", "y", "x"), self.sea),
        )
        np.testing.assert_array_equal(one.values, other.values)

    def test_one_mean_for_all_without_normalising(self):
        values = np.stack([gappy(6, (8, 6, 7), mean=20.0), gappy(7, (8, 6, 7), mean=0.0)])
        matrix = pack(array(values), self.sea)
        assert np.unique(matrix.offset).tolist() == [pytest.approx(np.nanmean(values))]

    @pytest.mark.parametrize("normalise", [False, True])
    def test_kelvin_in_single_precision(self, normalise):
        celsius = gappy(8, (50, 6, 7), mean=0.0).astype(np.float32) * np.float32(0.05)
        kelvin = (celsius + np.float32(300)).astype(np.float32)
        warm, cold = (pack(array(v), self.sea, normalise=normalise) for v in (kelvin, celsius))
        ulp = np.spacing(np.float32(300)) / (0.05 if normalise else 1)
        np.testing.assert_allclose(warm.values, cold.values, atol=1.5 * ulp)
        np.testing.assert_allclose(warm.scale, cold.scale, rtol=1e-4)
        exact = (warm.offset + warm.scale * warm.values.astype(float))[warm.observed]
        # what was taken off is put back: half a unit of rounding of the anomaly, none of the mean
        np.testing.assert_allclose(exact, unpack_flat(kelvin, warm), atol=1e-6)

    @pytest.mark.parametrize("normalise", [False, True])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_constant_field(self, normalise, dtype):
        values = np.where(np.isnan(gappy(9, (8, 6, 7))), NAN, 300.1).astype(dtype)
        matrix = pack(array(values), self.sea, normalise=normalise)
        assert np.isfinite(matrix.values).all() and np.abs(matrix.values).max() < 1e-4
        assert 0 < matrix.deviation < 1e-4 and matrix.scale.tolist() == [1] * len(matrix.scale)


def unpack_flat(values: np.ndarray, matrix) -> np.ndarray:
    return values.reshape(len(values), -1)[:, matrix.pixels][matrix.observed].astype(float)


def test_slabs_cover_time_once():
    obs = array(np.zeros((2 * SLAB + 3, 1, 1)))
    assert [s.stop - s.start for s in time_slabs(obs)] == [SLAB, SLAB, 3]
    assert [(s.start, s.stop) for s in time_slabs(obs[:7].chunk(time=(2, 4, 1)))] == [
        (0, 2),
        (2, 6),
        (6, 7),
    ]
