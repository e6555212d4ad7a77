# SPDX-License-Identifier: Apache-2.0
"""Small seeded fields that the tests of the methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields import gaps
from sstfill.methods.oi import fitted as oi
from sstfill.methods.oi import method as in_memory

Field = Callable[..., xr.DataArray]


def field(values: NDArray, days: NDArray | None = None) -> xr.DataArray:
    """Values ``(time, y, x)`` as a standardised field on a grid of 0.1 degrees; daily unless `days`
    are given.
    """
    n, ny, nx = values.shape
    days = np.arange(n) if days is None else days
    time = np.datetime64("2020-01-01", "ns") + (np.asarray(days) * 86400e9).astype("m8[ns]")
    coords = {"time": time, "lat": 40 + 0.1 * np.arange(ny), "lon": 0.1 * np.arange(nx)}
    return xr.DataArray(values, coords, ("time", "lat", "lon"), name="sst", attrs={"units": "degC"})


def sea_of(obs: xr.DataArray) -> xr.DataArray:
    """Sea everywhere."""
    return xr.ones_like(
        obs.isel(time=0, variable=0, missing_dims="ignore"), dtype=bool
    ).reset_coords(drop=True)


@pytest.fixture(scope="session")
def make_field() -> Field:
    return field


@pytest.fixture(scope="session")
def all_sea() -> Callable[[xr.DataArray], xr.DataArray]:
    return sea_of


@pytest.fixture(scope="module")
def sea(surface) -> xr.DataArray:
    return surface.sea.astype(bool)


@pytest.fixture(scope="module")
def hidden(surface, sea) -> NDArray[np.bool_]:
    return gaps.transplant_clouds(surface.sst, sea, fraction=0.1, seed=5).values


@pytest.fixture(scope="module")
def seen(surface, hidden) -> xr.DataArray:
    return surface.sst.where(~hidden)


@pytest.fixture(scope="module")
def settled(seen, sea) -> Iterator[None]:
    """One fit of the covariance serves all."""
    fitted = in_memory.fit_covariance(seen, sea, "auto", ["additive"], in_memory.Oi().fixed, 0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(in_memory, "fit_covariance", lambda *_: fitted)
        patched.setattr(oi, "fit_covariance", lambda *_: fitted)
        yield
