# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from peers import bold, mae, series, winners


def test_the_image_with_the_gap_stands_at_its_own_date_among_the_history(shared_data):
    data = xr.open_dataset(shared_data / "bench" / "ssgp_lst_madrid.nc")
    obs = series(data, 3)
    assert obs.dims == ("time", "y", "x")
    assert obs.indexes["time"].is_monotonic_increasing
    assert obs.sizes["time"] == data.sizes["time"] + 1
    np.testing.assert_array_equal(obs.sel(time="2019-09-03").squeeze(), data.gappy[3])
    np.testing.assert_array_equal(obs.sel(time=data.time), data.history_lst)


def test_the_peers_errors_are_those_of_their_fills(shared_data):
    data = xr.open_dataset(shared_data / "bench" / "ssgp_lst_stpetersburg.nc").isel(gap=2)
    found = [mae(fill, data.truth.values, data.gappy.isnull().values) for fill in data.peer.values]
    assert found == pytest.approx(data.peer_mae.values, abs=3e-4)


def test_the_least_error_of_a_column_is_bold_and_has_its_winner():
    errors = np.array([[1.0, 0.5, np.nan], [0.25, 2.0, 3.0]])
    assert bold(errors) == [["1", "**0.5**", "-"], ["**0.25**", "2", "**3**"]]
    assert winners(["oi", "peer"], errors, ["5 %", "8 %", "17 %"]) == "peer at 5 %, 17 %; oi at 8 %"
