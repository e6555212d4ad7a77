# SPDX-License-Identifier: Apache-2.0
"""A dataset that is read lazily, as the client's is, and waits, fails or loses values on demand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends.common import BackendArray
from xarray.core import indexing

from sstfill.sources.copernicus.request import CopernicusRequest

Hook = Callable[[str, tuple[slice, ...], np.ndarray], np.ndarray]


class _Lazy(BackendArray):
    def __init__(self, name: str, values: np.ndarray, service: FakeService) -> None:
        self.name, self.values, self.service = name, values, service
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[slice, ...]) -> np.ndarray:
        self.service.reads.append((self.name, key[0]))
        values = self.values[key].copy()
        for hook in self.service.hooks:
            values = hook(self.name, key, values)
        return values


@dataclass
class FakeService:
    """Opens `data` as the client would; `hooks` see each read, `opened` the requests."""

    data: xr.Dataset
    chunks: dict[str, int] = field(
        default_factory=lambda: {"time": 4, "latitude": 8, "longitude": 8}
    )
    version: str = "202406"
    hooks: list[Hook] = field(default_factory=list)
    reads: list[tuple[str, slice]] = field(default_factory=list)
    opened: list[CopernicusRequest] = field(default_factory=list)

    def __call__(self, request: CopernicusRequest) -> xr.Dataset:
        self.opened.append(request)
        lazy = {}
        for name, v in self.data.data_vars.items():
            array = indexing.LazilyIndexedArray(_Lazy(str(name), v.values, self))
            lazy[name] = xr.Variable(
                v.dims, array, v.attrs, {**v.encoding, "preferred_chunks": self.chunks}
            )
        ds = xr.Dataset(
            lazy,
            self.data.coords,
            self.data.attrs | {"dataset_version": self.version, "doi": "10.1/x"},
        )
        ds = ds.sel(time=slice(request.start_datetime, request.end_datetime))
        ds = ds.sel(latitude=slice(request.minimum_latitude, request.maximum_latitude))
        first = np.searchsorted(self.data.time.values, ds.time.values[0]) if ds.sizes["time"] else 0
        ds.encoding = {"sstfill_offset": {"time": int(first)}}
        return ds


def a_model(steps: int = 20, *, start: str = "2023-01-01", seed: int = 0) -> xr.Dataset:
    """Temperature without gaps but for land, with a depth of one level."""
    values = np.random.default_rng(seed).normal(20, 1, (steps, 1, 6, 8)).astype("f4")
    values[:, :, 0, :3] = np.nan
    coords = {
        "time": pd.date_range(start, periods=steps, freq="D"),
        "depth": [0.494],
        "latitude": np.arange(6.0, dtype="f4"),
        "longitude": np.arange(8.0, dtype="f4"),
    }
    thetao = (("time", "depth", "latitude", "longitude"), values, {"units": "degrees_C"})
    return xr.Dataset({"thetao": thetao}, coords, {"title": "a model"})


def a_cloudy(steps: int = 20) -> xr.Dataset:
    """Observations with gaps, and their quality as the client decodes it: masked integers."""
    rng = np.random.default_rng(1)
    dims = ("time", "latitude", "longitude")
    quality = rng.integers(0, 6, (steps, 6, 8)).astype("f4")
    quality[0, 0, 0] = np.nan
    sst = np.where(quality >= 4, rng.normal(290, 1, quality.shape), np.nan)
    coords = a_model(steps).drop_vars("thetao").squeeze("depth", drop=True).coords
    ds = xr.Dataset(
        {"sst": (dims, sst, {"units": "kelvin"}), "quality_level": (dims, quality)}, coords
    )
    ds["quality_level"].attrs = {
        "flag_values": np.arange(6, dtype="i1"),
        "flag_meanings": "a b c d e f",
    }
    ds["quality_level"].encoding = {"dtype": np.dtype("i1"), "_FillValue": np.int8(-128)}
    return ds


def slow(seconds: float) -> Hook:
    """Answer late."""

    def hook(name: str, key: tuple[slice, ...], values: np.ndarray) -> np.ndarray:
        time.sleep(seconds)
        return values

    return hook


def failing(times: float, error: Exception) -> Hook:
    """Fail so many times, then answer."""
    left = [times]

    def hook(name: str, key: tuple[slice, ...], values: np.ndarray) -> np.ndarray:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return values

    return hook


def losing(times: float, *, step: int = 5) -> Hook:
    """Lose all values of one step, so many times."""
    left = [times]

    def hook(name: str, key: tuple[slice, ...], values: np.ndarray) -> np.ndarray:
        if key[0].start <= step < key[0].stop and values.dtype.kind == "f":
            left[0] -= 1
            if left[0] >= 0:
                values[step - key[0].start] = np.nan
        return values

    return hook
