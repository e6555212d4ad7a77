# SPDX-License-Identifier: Apache-2.0
"""Strata: classes equally full, and tables between their centres."""

from __future__ import annotations

import numpy as np
import pytest

from sstfill.validation.strata import classes, interpolate


def test_classes_are_equally_full_and_unknown_distances_join_the_nearest():
    values = np.array([0.0, 1.0, 2.0, 8.0, 32.0, np.inf, np.nan])
    centres, number = classes(values)
    np.testing.assert_allclose(centres, [np.sqrt(2), 16])
    assert number.tolist() == [0, 0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("values", [np.full(4, 3.0), np.zeros(4), np.full(4, np.inf)])
def test_equal_distances_are_one_class(values):
    centres, number = classes(values)
    assert centres.shape == (1,) and not number.any()


def test_a_single_pixel_is_as_one_of_many():
    table = np.array([[[1.0, 5.0], [2.0, 6.0]], [[3.0, 7.0], [4.0, 8.0]]])
    centres = np.array([1.0, 100.0]), np.array([1.0, 4.0])
    many = interpolate(table, centres, np.array([10.0, 50.0]), np.array([2.0, 3.0]))
    for k, (distance, lag) in enumerate([(10.0, 2.0), (50.0, 3.0)]):
        one = interpolate(table, centres, np.float64(distance), np.float64(lag))
        np.testing.assert_array_equal(one, many[k])


def test_a_table_is_itself_at_the_centres_and_constant_beyond():
    table = np.random.default_rng(0).random((2, 2, 3))
    centres = (np.array([2.0, 20.0]), np.array([1.0, 5.0]))
    distance, lag = np.array([2.0, 20.0, 0.0, np.inf]), np.array([1.0, 5.0, 0.0, np.inf])
    found = interpolate(table, centres, distance, lag)
    corners = [table[0, 0], table[1, 1], table[0, 0], table[1, 1]]
    np.testing.assert_allclose(found, corners)
