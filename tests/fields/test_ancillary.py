# SPDX-License-Identifier: Apache-2.0
"""The error, the source and the modes of a variable have attributes of their own."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from small_fields import series

from sstfill.fields.ancillary import OF_THE_VALUES
from sstfill.fill import fill
from sstfill.methods import Climatology, Dineof, Interpolate


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "method", [Interpolate(), Climatology(harmonics=0), Dineof(modes=1, return_modes=True)]
)
def test_nothing_of_the_values_is_inherited(method, lazy):
    da = series(steps=12)
    da[::3, :2] = np.nan
    da.attrs |= {"valid_min": np.float32(-3), "missing_value": -999.0, "comment": "skin"}
    da.attrs["actual_range"] = np.array([0, 30], "f4")
    da.encoding = {"dtype": "i2", "scale_factor": 0.01, "_FillValue": np.int16(-32768)}
    ds = da.to_dataset()
    filled = fill(ds.chunk(time=4) if lazy else ds, method, score=False)
    for name in filled.data_vars:
        if str(name).startswith("sst_"):
            assert not set(OF_THE_VALUES) & set(filled[name].attrs), name
            assert not {"dtype", "scale_factor", "_FillValue"} & set(filled[name].encoding), name
    assert filled["sst"].attrs["comment"].startswith("skin")
    xr.testing.assert_equal(filled["sst"].where(da.notnull()), da)
