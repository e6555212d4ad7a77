# SPDX-License-Identifier: Apache-2.0
"""What a valid range means: packed units, unpacked ones, or left over from another packing."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import xarray as xr

from sstfill.fields.reading.missing import mask_missing, settled, valid_range


def field(values, attrs, encoding=None) -> xr.DataArray:
    box = np.broadcast_to(np.asarray(values, "f4")[:, None, None], (len(values), 2, 2)).copy()
    da = xr.DataArray(box, dims=("time", "lat", "lon"), name="v", attrs=attrs)
    da.encoding = encoding or {}
    return da


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("values", "bounds", "outside", "removed"),
    [
        ([-0.05, 0.0, 0.3, 0.85], (0, 250), 4, 0),  # packed NDVI
        ([-1.0, 5, 10, 30, -1000], (-2, 45), 4, 4),  # true, with junk
        ([28.0, 29, 30, 29, -999], (-2, 45), 4, 4),  # true, of a narrow field
        ([-3.0, 5, 10, 30, -2.5], (-2, 45), 8, 0),  # nobody can tell: nothing is lost
        ([271.0, 280, 290, 300], (0, 100), 16, 0),  # bytes of kelvin
        ([10.0, 20, 30], (0, 45), 0, 0),
        ([1.0, 5, 10, 30, -1000], (-2, None), 4, 4),
    ],
)
def test_whole_bounds_on_floats_are_decided_by_the_values(
    caplog, lazy, values, bounds, outside, removed
):
    low, high = bounds
    attrs = {"valid_min": low} if high is None else {"valid_range": [low, high]}
    da = field(values, attrs | {"units": "1"})
    da.encoding["dtype"] = da.dtype  # as a decoder leaves it
    da = da.chunk(time=2) if lazy else da
    with caplog.at_level(logging.WARNING, "sstfill"):
        masked = mask_missing(settled(da).to_dataset())["v"]
    assert int(masked.isnull().sum()) == removed
    assert (f"leave out {outside} of" in caplog.text) == bool(outside)
    assert masked.attrs["units"] == "1"
    left = [np.asarray(masked.attrs[key]).dtype for key in attrs if key in masked.attrs]
    assert all(kind == np.float32 for kind in left)
    assert da.attrs == attrs | {"units": "1"}  # the caller's is as it was


def test_short_integers_on_floats_are_left_over():
    da = field([-1000.0, 1, 2], {"valid_min": np.int16(0), "valid_max": np.int16(5)})
    assert settled(da).attrs == {}


@pytest.mark.parametrize("kind", ["i2", "i4", "i8"])
@pytest.mark.parametrize(
    ("encoding", "bounds", "expected"),
    [
        ({"dtype": "i2", "scale_factor": 0.01}, (-300, 4500), (-3.005, 45.005)),
        ({"dtype": "i2", "scale_factor": -0.01}, (-300, 4500), (-45.005, 3.005)),
        ({"dtype": "i2", "scale_factor": 0.1, "_Unsigned": "true"}, (0, -6), (-0.05, 6553.05)),
        ({"dtype": "i2", "scale_factor": "0.01", "add_offset": "20"}, (0, 100), (19.995, 21.005)),
    ],
)
def test_whole_bounds_of_packed_values_are_packed(kind, encoding, bounds, expected):
    da = field([1.0], {"valid_range": np.array(bounds, kind)}, encoding)
    assert valid_range(da) == pytest.approx(expected)


def test_floating_bounds_of_packed_values_are_unpacked():
    da = field([1.0], {"valid_min": -2.0}, {"dtype": "i2", "scale_factor": 0.01})
    assert valid_range(da) == (pytest.approx(-2.005), None)
