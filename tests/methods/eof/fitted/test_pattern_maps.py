# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sstfill.methods.eof.fitted.pattern_maps import since_1970


@pytest.mark.parametrize("calendar", ["noleap", "standard"])
def test_days_count_from_1970(calendar):
    time = xr.date_range(
        "1970-02-01", periods=3, freq="2D", calendar=calendar, use_cftime=calendar == "noleap"
    )
    assert since_1970(xr.DataArray(np.zeros(3), {"time": time}, "time"), 5).tolist() == [31, 33, 35]


def test_days_count_from_the_first_step_without_a_calendar():
    assert since_1970(xr.DataArray(np.zeros(2), dims="time"), 5).tolist() == [5, 6]
    hours = xr.DataArray(np.zeros(2), {"time": ("time", [48, 60], {"units": "hours"})}, "time")
    assert since_1970(hours, 5).tolist() == [2, 2.5]
