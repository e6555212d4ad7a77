# SPDX-License-Identifier: Apache-2.0
"""Small ARCO stores: what a dataset looks like in Zarr v2, as a mapping from key to bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dask.array
import numcodecs
import numpy as np
import pandas as pd
import xarray as xr
import zarr
from zarr.core.buffer import Buffer

TIMES = {"units": "seconds since 1970-01-01", "calendar": "standard", "dtype": "int64"}
# the corner that is never sea; in the geoChunked store a chunk that does not exist
LAND = np.s_[..., :3, :4]


def axes(
    steps: int, freq: str, ny: int, nx: int, start: str = "2024-01-01"
) -> dict[str, xr.Variable]:
    """Return coordinates as ARCO has them: float32, ascending, 1/12 degree apart."""
    time = xr.Variable("time", pd.date_range(start, periods=steps, freq=freq), {"axis": "T"}, TIMES)
    lat = (35 + np.arange(ny) / 12).astype("f4")
    lon = (-40 + np.arange(nx) / 12).astype("f4")
    return {
        "time": time,
        "latitude": xr.Variable("latitude", lat, {"units": "degrees_north", "axis": "Y"}),
        "longitude": xr.Variable("longitude", lon, {"units": "degrees_east", "axis": "X"}),
    }


def a_model(
    *,
    steps: int = 12,
    freq: str = "h",
    ny: int = 6,
    nx: int = 8,
    start: str = "2024-01-01",
    seed: int = 0,
) -> xr.Dataset:
    """Temperature of a model at two levels, as float32: `thetao(time, elevation, latitude,
    longitude)`, land NaN.
    """
    values = np.random.default_rng(seed).normal(15, 3, (steps, 2, ny, nx)).astype("f4")
    values[LAND] = np.nan
    levels = np.array([-1.541375, -0.494025], dtype="f4")
    up = xr.Variable("elevation", levels, {"units": "m", "positive": "up", "axis": "Z"})
    attrs = {
        "standard_name": "sea_water_potential_temperature",
        "long_name": "Temperature",
        "units": "degrees_C",
        "valid_min": -10.0,
        "valid_max": 40.0,
    }
    thetao = xr.Variable(
        ("time", "elevation", "latitude", "longitude"),
        values,
        attrs,
        {"_FillValue": np.float32(np.nan)},
    )
    return xr.Dataset(
        {"thetao": thetao},
        axes(steps, freq, ny, nx, start) | {"elevation": up},
        {"Conventions": "CF-1.8"},
    )


def a_level3(
    *,
    steps: int = 10,
    freq: str = "D",
    ny: int = 6,
    nx: int = 8,
    start: str = "2024-01-01",
    seed: int = 0,
) -> xr.Dataset:
    """Cloudy level-3 SST packed as int16 with its quality as int8; date 3 has no observation at
    all.
    """
    rng = np.random.default_rng(seed)
    shape, dims = (steps, ny, nx), ("time", "latitude", "longitude")
    kelvin = 273.15 + rng.integers(0, 3000, shape) * 0.01
    hidden = rng.random(shape) < 0.4
    hidden[LAND] = True
    hidden[3:4] = True
    quality = np.where(hidden, 0, rng.integers(2, 6, shape)).astype("i1")
    packed = {
        "dtype": "int16",
        "scale_factor": 0.01,
        "add_offset": 273.15,
        "_FillValue": np.int16(-32768),
    }
    attrs = {"standard_name": "sea_surface_temperature", "long_name": "SST", "units": "kelvin"}
    flags = {
        "long_name": "quality level of SST pixel",
        "flag_values": list(range(6)),
        "flag_meanings": "no_data bad_data worst_quality low_quality acceptable_quality "
        "best_quality",
    }
    sst = xr.Variable(dims, np.where(hidden, np.nan, kelvin), attrs, packed)
    level = xr.Variable(dims, quality, flags, {"_FillValue": np.int8(-128)})
    return xr.Dataset(
        {"sea_surface_temperature": sst, "quality_level": level}, axes(steps, freq, ny, nx, start)
    )


def repeated(tile: xr.Dataset, **times: int) -> xr.Dataset:
    """The tile laid side by side so many times in each dimension named, lazily; coordinates go on
    at their step.

    >>> dict(repeated(a_model(steps=4), time=3).sizes)
    {'time': 12, 'elevation': 2, 'latitude': 6, 'longitude': 8}
    """
    coords = {str(d): _longer(c.variable, times.get(str(d), 1)) for d, c in tile.coords.items()}
    large = {}
    for name, field in tile.data_vars.items():
        lazy = dask.array.tile(
            dask.array.from_array(field.values), [times.get(str(d), 1) for d in field.dims]
        )
        large[name] = xr.Variable(field.dims, lazy, field.attrs, field.encoding)
    return xr.Dataset(large, coords, tile.attrs)


def _longer(axis: xr.Variable, times: int) -> xr.Variable:
    if times == 1:
        return axis
    first, step = axis.values[0], axis.values[1] - axis.values[0]
    values = (first + step * np.arange(axis.size * times)).astype(axis.dtype)
    return xr.Variable(axis.dims, values, axis.attrs, axis.encoding)


class Repeated(Mapping[str, bytes]):
    """The store of a `repeated` dataset in the memory of one chunk; chunks are whole tiles and
    divide the dataset.
    """

    def __init__(self, ds: xr.Dataset, chunks: Mapping[str, int]) -> None:
        first = encoded(
            ds.isel({d: slice(n) for d, n in chunks.items() if d in ds.dims}).compute(), chunks
        )
        self._chunks = {
            key: first.get(f"{key}/{'.'.join('0' * v.ndim)}") for key, v in ds.data_vars.items()
        }
        self._files = encoded(ds, chunks, compute=False)

    def __getitem__(self, key: str) -> bytes:
        variable, _, index = key.partition("/")
        body = self._chunks.get(variable) if index[:1].isdigit() else None
        return self._files[key] if body is None else body

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def encoded(ds: xr.Dataset, chunks: Mapping[str, int], *, compute: bool = True) -> dict[str, bytes]:
    """The dataset as the files of a consolidated Zarr v2 store; chunks of nothing but fill values
    are absent.
    """
    blosc = numcodecs.Blosc(cname="lz4", clevel=5)
    encoding = {
        str(name): {
            "chunks": tuple(min(chunks[str(d)], n) for d, n in v.sizes.items()),
            "compressors": blosc,
        }
        for name, v in ds.data_vars.items()
    }
    files: dict[str, Buffer] = {}
    target: Any = zarr.storage.MemoryStore(files)
    options: dict[str, Any] = {"encoding": encoding, "compute": compute, "safe_chunks": compute}
    ds.to_zarr(target, zarr_format=2, consolidated=True, **options)
    return {key: value.to_bytes() for key, value in files.items()}


def decoded(files: Mapping[str, bytes]) -> xr.Dataset:
    """What a reader without faults and without a network finds in such a store."""
    buffers: dict[str, Buffer] = {
        key: zarr.core.buffer.cpu.Buffer.from_bytes(value) for key, value in files.items()
    }
    store = zarr.storage.MemoryStore(buffers)
    return xr.open_zarr(store, zarr_format=2, chunks=None, decode_timedelta=True).load()
