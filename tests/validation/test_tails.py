# SPDX-License-Identifier: Apache-2.0
"""Factors that give draws their tails: smooth, and a function of member, place and day alone."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.fields.error_distribution import GAUSSIAN, ErrorDistribution
from sstfill.validation.tails import (
    DAYS,
    KM,
    LENGTH_SCALE,
    LENGTHS,
    TIME_SCALE,
    FactorField,
    tails_seed,
    with_tails,
)

MANY = 8000
SHAPE = (12, 9, 10)
STUDENT = ErrorDistribution(3.0)


def grid(kind: str) -> xr.DataArray:
    """A series on the sphere, on a plane in km, or with nothing but rows, columns and images."""
    time = np.datetime64("2021-03-01", "ns") + np.arange(SHAPE[0]) * np.timedelta64(1, "D")
    if kind == "sphere":
        coords = {
            "time": time,
            "lat": ("lat", np.linspace(41, 32, SHAPE[1]), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(5, 14, SHAPE[2]), {"units": "degrees_east"}),
        }
        return xr.DataArray(np.zeros(SHAPE, "f4"), coords, ("time", "lat", "lon"))
    coords = {}
    if kind == "km":
        for dim, size in (("y", SHAPE[1]), ("x", SHAPE[2])):
            coords[dim] = (dim, 100.0 * np.arange(size), {"units": "km"})
    return xr.DataArray(np.zeros(SHAPE, "f4"), coords, ("time", "y", "x"))


def factors(obs: xr.DataArray, members: int, seed: int = 0, origin=(0, 0, 0), **scales: float):
    """Factors themselves: deviations of 1."""
    apart = xr.DataArray(np.ones((members, *obs.shape)), dims=("member", *obs.dims))
    return with_tails(apart, [STUDENT], obs, scales, seed, origin)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["sphere", "km", "bare"]),
    start=st.tuples(st.integers(0, 11), st.integers(0, 8), st.integers(0, 9)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 10)),
    members=st.integers(1, 4),
)
def test_windows_see_what_the_whole_sees(kind, start, size, members):
    obs = grid(kind)
    box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    scales = {TIME_SCALE: 3.0, LENGTH_SCALE: 2.0}
    whole = factors(obs, 4, 7, **scales)
    window = factors(obs[box], members, 7, origin=start, **scales)
    assert float(whole.std()) > 0.1
    np.testing.assert_allclose(window.values, whole.values[:members, *box], rtol=1e-9)


def test_another_seed_has_other_factors():
    assert not np.allclose(factors(grid("sphere"), 1, 0), factors(grid("sphere"), 1, 1))


@pytest.mark.parametrize(
    ("scales", "days", "km"), [({}, DAYS, KM), ({TIME_SCALE: 3.0, LENGTH_SCALE: 40.0}, 3.0, 40.0)]
)
def test_fields_are_normal_with_the_stated_correlation(scales, days, km):
    field = FactorField.draw(MANY, 1, scales)
    lags = np.array([0.0, 0.2, 1.0, 2.0, 8.0])
    place = np.zeros((5, 3))
    everyone = np.arange(MANY)
    in_time = field.at(everyone, 18_000 + days * lags, place[:1])[:, :, 0]
    place[:, 1] = 6000 + LENGTHS * km * lags
    in_space = field.at(everyone, np.zeros(1), place)[:, 0]
    for drawn in (in_time, in_space):
        np.testing.assert_allclose(drawn.mean(0), 0, atol=0.05)
        np.testing.assert_allclose(drawn.var(0), 1, atol=0.06)
        np.testing.assert_allclose(np.corrcoef(drawn.T)[0], np.exp(-(lags**2) / 2), atol=0.07)


def test_where_a_member_has_large_errors_the_other_of_its_pair_has_small_ones():
    field = FactorField.draw(5, 3, {})
    drawn = field.at(np.arange(5), np.arange(3.0), np.ones((2, 3)))
    np.testing.assert_array_equal(drawn[1], -drawn[0])
    assert not np.allclose(abs(drawn[2]), abs(drawn[0]))


def test_a_member_does_not_jump_from_one_date_to_the_next():
    found = factors(grid("sphere"), 200)
    step = np.abs(np.diff(np.log(found.values), axis=1))
    assert np.quantile(step, 0.99) < 0.3 < np.log(found.values).std()


def test_far_off_regions_have_factors_of_their_own():
    obs = grid("km").assign_coords(x=("x", 1000.0 * np.arange(SHAPE[2]), {"units": "km"}))[:1]
    logarithm = np.log(factors(obs, 2000).values[:, 0, 0])
    correlation = np.corrcoef(logarithm.T)[0]
    assert correlation[0] == pytest.approx(1) and abs(correlation[4:]).max() < 0.15


def test_gaussian_deviations_stay():
    obs = grid("bare")
    apart = xr.DataArray(np.ones((2, *obs.shape), "f4"), dims=("member", *obs.dims))
    assert with_tails(apart, [GAUSSIAN], obs, {}, 0, (0, 0, 0)) is apart


def test_pixels_without_a_position_have_a_factor():
    obs = grid("bare")[:, :2, :3]
    lat, lon = np.meshgrid(np.linspace(1, 2, 2), np.linspace(3, 4, 3), indexing="ij")
    lat[0, 0] = lon[0, 0] = np.nan
    coords = {
        "lat": (("y", "x"), lat, {"units": "degrees_north"}),
        "lon": (("y", "x"), lon, {"units": "degrees_east"}),
    }
    assert np.isfinite(factors(obs.assign_coords(coords), 3)).all()


def test_the_layout_in_memory_does_not_matter() -> None:
    obs = grid("sphere")
    values = np.random.default_rng(0).normal(size=(3, *obs.shape))
    plain = xr.DataArray(values, dims=("member", *obs.dims))
    turned = plain.copy(data=np.ascontiguousarray(values.swapaxes(2, 3)).swapaxes(2, 3))
    assert not turned.data.flags.c_contiguous
    found = [with_tails(one, [STUDENT], obs, {}, 0, (0, 0, 0)) for one in (plain, turned)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("own,expected", [(7, 7), (None, 3), (-1, 3), ("many", 3)])
def test_a_seed_that_is_none_is_not_taken(own: object, expected: int) -> None:
    class Drawing:
        seed = own

    assert tails_seed(Drawing(), 3) == expected and tails_seed(object(), 3) == 3
