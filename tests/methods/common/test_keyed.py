# SPDX-License-Identifier: Apache-2.0
"""Numbers that are functions of their keys: normal, independent, the same in every part."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sstfill.methods.common.keyed import keyed_normals, pixel_keys


def test_they_are_normal_and_independent():
    x = keyed_normals((3, 1), np.arange(300), np.arange(300))
    assert stats.kstest(x.ravel(), "norm").pvalue > 0.001
    other_seed = keyed_normals((4, 1), np.arange(300), np.arange(300))
    swapped = keyed_normals((1, 3), np.arange(300), np.arange(300))
    for other in (x.T, other_seed, swapped):
        pairs = (x - np.diag(np.diag(x))).ravel() @ (other - np.diag(np.diag(other))).ravel()
        assert abs(pairs) / x.size < 0.02
    for neighbour in (x[1:].ravel() @ x[:-1].ravel(), x[:, 1:].ravel() @ x[:, :-1].ravel()):
        assert abs(neighbour) / x.size < 0.02


@settings(max_examples=30, deadline=None)
@given(
    keys=st.lists(st.integers(0, 2**62), min_size=1, max_size=4),
    rows=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=6),
    columns=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=6),
)
def test_they_depend_on_their_keys_alone(keys, rows, columns):
    whole = keyed_normals(keys, rows, columns)
    assert whole.dtype == np.float32 and np.isfinite(whole).all()
    np.testing.assert_array_equal(keyed_normals(keys, rows[::-1], columns[:1]), whole[::-1, :1])


def test_each_pixel_has_a_key_of_its_own():
    variable, rows, columns = np.meshgrid([0, 1, 7], [0, 1, 40_000], [0, 1, 80_000])
    assert len(np.unique(pixel_keys(rows, columns, variable))) == rows.size
