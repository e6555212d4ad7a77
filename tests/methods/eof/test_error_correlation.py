# SPDX-License-Identifier: Apache-2.0
"""Correlated normal numbers are those of their place, and their correlation is found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.methods.common.keyed import keyed_normals, pixel_keys, pixel_places
from sstfill.methods.eof.error_correlation import UNCORRELATED, Correlogram, ErrorCorrelation

SHAPE = (40, 50)
PIXELS = pixel_keys(*np.indices(SHAPE).reshape(2, -1))


def images(correlation: ErrorCorrelation, number: int = 60) -> np.ndarray:
    return correlation.normals((3, 1), range(number), PIXELS).reshape(number, *SHAPE)


@pytest.mark.parametrize("correlation", [UNCORRELATED, ErrorCorrelation(0.7, (1.5, 4.0))])
def test_they_have_the_variance_and_the_correlation_that_is_stated(correlation):
    drawn = images(correlation)
    assert float(drawn.var()) == pytest.approx(1, abs=0.03)
    for axis, radius in enumerate(correlation.radius):
        for lag in (1, 3, 6):
            moved = np.moveaxis(drawn, axis + 1, 0)
            first, second = moved[:-lag], moved[lag:]
            expected = correlation.fraction * np.exp(-(lag**2) / (4 * radius**2))
            assert float((first * second).mean()) == pytest.approx(expected, abs=0.05)
    assert abs(float((drawn[1:] * drawn[:-1]).mean())) < 0.03


@given(
    rows=st.tuples(st.integers(0, 39), st.integers(0, 39)).map(sorted),
    columns=st.tuples(st.integers(0, 49), st.integers(0, 49)).map(sorted),
    keep=st.floats(0.1, 1),
)
@settings(max_examples=15, deadline=None)
def test_a_part_of_the_grid_has_the_numbers_of_the_whole(rows, columns, keep):
    correlation = ErrorCorrelation(0.6, (1.2, 2.5))
    whole = images(correlation, 2)
    part = np.zeros(SHAPE, bool)
    part[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    part &= np.random.default_rng(0).random(SHAPE) < keep
    found = correlation.normals((3, 1), range(2), PIXELS[part.ravel()])
    np.testing.assert_array_equal(found, whole[:, part])


def test_without_correlation_they_are_keyed_normals():
    found = UNCORRELATED.normals((3, 1), range(2), PIXELS)
    np.testing.assert_array_equal(found, keyed_normals((3, 1), range(2), PIXELS))


def test_variables_have_numbers_of_their_own():
    both = np.concatenate([PIXELS, pixel_keys(*np.indices(SHAPE).reshape(2, -1), 1)])
    rows, columns, variables = pixel_places(both)
    assert (rows.max(), columns.max(), variables.max()) == (39, 49, 1)
    found = ErrorCorrelation(0.9, (2.0, 2.0)).normals((3,), [0], both)[0].reshape(2, -1)
    assert abs(np.corrcoef(found)[0, 1]) < 0.15
    alone = ErrorCorrelation(0.9, (2.0, 2.0)).normals((3,), [0], PIXELS)[0]
    np.testing.assert_array_equal(found[0], alone)


@pytest.mark.parametrize("correlation", [ErrorCorrelation(0.8, (1.0, 3.0)), UNCORRELATED])
def test_the_correlation_is_found_again_through_gaps(correlation):
    found = Correlogram()
    rng = np.random.default_rng(0)
    for image in 3 * images(correlation):
        found.add(np.where(rng.random(SHAPE) < 0.5, image, np.nan))
    fitted = found.fit()
    assert fitted.fraction == pytest.approx(correlation.fraction, abs=0.08)
    if correlation.fraction:
        np.testing.assert_allclose(fitted.radius, correlation.radius, rtol=0.25)


def test_a_single_row_tells_of_distances_along_it_only():
    found = Correlogram()
    for image in images(ErrorCorrelation(1.0, (2.0, 2.0))):
        found.add(image[:1])
    fitted = found.fit()
    assert fitted.radius[0] == fitted.radius[1] == pytest.approx(2, rel=0.25)


@pytest.mark.parametrize("image", [np.full(SHAPE, np.nan), np.zeros(SHAPE), np.ones((2, 3))])
def test_little_knowledge_is_no_correlation(image):
    found = Correlogram()
    found.add(image)
    assert found.fit() == UNCORRELATED
