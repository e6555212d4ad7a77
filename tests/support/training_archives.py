# SPDX-License-Identifier: Apache-2.0
"""Small cloudy archives to train on, first guesses that cost nothing, and lazy arrays that tell
what is read; as a program, one process of a training that writes which first guesses it computes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from sstfill.methods.gan.network_inputs import CHANNELS
from sstfill.training.data import cache


def archive(
    shape: tuple[int, int, int] = (18, 20, 22), *, seed: int = 0, fraction: float = 0.4
) -> xr.Dataset:
    """A daily series ``sst`` of waves under square clouds that drift, its ``truth``, and ``sea``:
    the first two rows
    are land."""
    rng = np.random.default_rng(seed)
    t, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    truth = 15 + np.sin(0.4 * x + 0.2 * y + 0.3 * t + seed) + 0.5 * np.cos(0.3 * y - 0.1 * t)
    blocks = rng.random((shape[0], -(-shape[1] // 5), -(-shape[2] // 5))) < fraction
    cloudy = blocks.repeat(5, 1).repeat(5, 2)[:, : shape[1], : shape[2]]
    sea = (y[0] >= 2) & (x[0] >= 0)
    coords = {
        "time": np.datetime64("2020-01-01", "ns") + np.arange(shape[0]) * np.timedelta64(1, "D"),
        "lat": 40 + 0.05 * np.arange(shape[1]),
        "lon": 5 + 0.05 * np.arange(shape[2]),
    }
    dims, attrs = ("time", "lat", "lon"), {"units": "degC"}
    return xr.Dataset(
        {
            "sst": (dims, np.where(cloudy | ~sea, np.nan, truth).astype("f4"), attrs),
            "truth": (dims, np.where(sea, truth, np.nan).astype("f4"), attrs),
            "sea": (dims[1:], sea),
        },
        coords,
    )


@dataclass
class Guessing:
    """Stands for `cache.compute_inputs`: the first guess is the mean of what is observed; tells how
    often it was asked.
    """

    seeds: list[int] = field(default_factory=list)

    def __call__(
        self, obs: xr.DataArray, known: NDArray, sea: xr.DataArray, seed: int
    ) -> dict[str, NDArray]:
        self.seeds.append(seed)
        mean, seen = float(np.nanmean(obs.values)), np.isfinite(obs.values)
        channels = np.zeros((len(CHANNELS), *obs.shape), cache.PRECISION)
        channels[CHANNELS.index("observed")] = seen
        channels[CHANNELS.index("anomaly")] = np.where(seen, obs.values - mean, 0)
        values = ((known - mean) / 3).astype(np.float32)
        still = np.zeros(obs.shape, np.float32)
        traits = np.array([-1.0, -0.5, 0.1 * mean - 1])
        return {
            "channels": channels,
            "values": values,
            "guess": still,
            "error": still + np.float32(0.3),
            "sea": sea.values.astype(bool),
            "traits": traits,
        }


def guess_cheaply(monkeypatch: pytest.MonkeyPatch) -> Guessing:
    found = Guessing()
    monkeypatch.setattr(cache, "compute_inputs", found)
    return found


@dataclass
class Watched:
    """A Dataset in Dask blocks, and which of them were read; as a scheduler, the most that was
    computed at once.
    """

    ds: xr.Dataset
    chunks: dict[str, int]
    read: list[tuple[int, ...]] = field(default_factory=list)
    largest: int = 0

    def lazy(self, name: str) -> xr.DataArray:
        """Return a variable, lazy, of which each block that is read is listed in `read`."""
        values = self.ds[name].values

        def block(block_info: Any = None) -> np.ndarray:
            where = block_info[None]["array-location"]
            self.read.append(tuple(start for start, _ in where))
            return values[tuple(slice(*span) for span in where)]

        chunks = self.ds[name].chunk(self.chunks).chunks
        return self.ds[name].copy(
            data=da.map_blocks(block, chunks=chunks, dtype=values.dtype, meta=values[:0])
        )

    def __call__(self, graph: Any, keys: Any, **options: Any) -> Any:
        found = dask.get(graph, keys, **options)
        self.largest = max(self.largest, _size(found))
        return found


def _size(found: Any) -> int:
    if isinstance(found, (list, tuple)):
        return sum(_size(part) for part in found)
    return int(getattr(found, "size", 1))


if __name__ == "__main__":
    import sstfill

    write = cache.write

    def counted(file: Path, arrays: dict[str, NDArray]) -> None:
        sys.stdout.write(f"{file.parent.name}/{file.stem} ")
        write(file, arrays)

    cache.compute_inputs, cache.write = Guessing(), counted
    sstfill.train(
        archive().drop_vars("truth"),
        sstfill.TrainOptions(
            base=1, frames=2, size=8, samples=4, epochs=1, device="cpu", schedule="constant"
        ),
        start="new",
        clips=4,
        out=sys.argv[1],
    )
