# SPDX-License-Identifier: Apache-2.0
"""Write a series of liquid water path frame by frame into a Zarr store, whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.io.untrusted import guard
from sstfill.progress import track
from sstfill.sources.atomic_store import whole_store

CHUNK = 4e6
"""Bytes of a chunk, of whole frames."""
HEAVIEST = 30_000.0
"""Largest plausible liquid water path, g m-2; a thunderstorm holds some 10,000."""
LWP = {
    "standard_name": "atmosphere_mass_content_of_cloud_liquid_water",
    "long_name": "liquid water path",
    "units": "g m-2",
}


def frames_in_chunk(frames: int, shape: tuple[int, ...]) -> int:
    """Number of frames ``(y, x)`` in a chunk of float32.

    >>> frames_in_chunk(10800, (64, 64))
    244
    """
    return max(1, min(frames, int(CHUNK / (4 * math.prod(shape)))))


def write_series(
    target: Path,
    blocks: Iterable[NDArray[Any]],
    coords: xr.Dataset,
    shape: tuple[int, int, int],
    zarr_format: int,
) -> None:
    """Write LWP, g m-2, float32 ``(time, y, x)``, in memory of one block.

    Parameters
    ----------
    target
        What `check_store` returned; an earlier store is replaced when the new one is whole.
    blocks
        Its frames in order, in blocks of `frames_in_chunk`, the last maybe smaller.
    coords
        Coordinates and attributes of the store.
    shape
        Of the whole.
    zarr_format
        3 or 2.

    Raises
    ------
    InputError
        A value that is not finite, or too large to be liquid water in g m-2.
    WriteError
        No such folder, no permission, no space; an earlier store is left as it was.
    """
    import dask.array

    size = frames_in_chunk(shape[0], shape[1:])
    empty = dask.array.zeros(shape, chunks=(size, *shape[1:]), dtype="f4")
    layout = coords.assign(LWP=(("time", "y", "x"), empty, LWP))
    encoding: dict[str, Any] = {"LWP": {"_FillValue": np.float32("nan")}}
    for name in coords.coords:
        # CF allows no missing values in coordinates
        encoding[str(name)] = {"_FillValue": None}
    with whole_store(target, zarr_format) as temporary:
        layout.to_zarr(
            temporary,
            mode="w-",
            zarr_format=zarr_format,
            consolidated=False,
            compute=False,
            encoding=encoding,
        )
        stored = guard.open_array(temporary / "LWP", mode="r+")
        start = 0
        for block in track(blocks, f"writing {target.name}", -(-shape[0] // size)):
            check_block(block, start)
            stored[start : start + len(block)] = block.astype(np.float32)
            start += len(block)
        assert start == shape[0], f"{start} of {shape[0]} frames were given"


def check_block(block: NDArray[Any], start: int) -> None:
    """Refuse LWP, g m-2, that is not finite or too large; the first frame has number `start`."""
    if not np.isfinite(block).all():
        bad = int(np.flatnonzero(~np.isfinite(block).all(axis=(1, 2)))[0]) + start
        raise InputError(
            f"frame {bad} has values that are not finite; remove the frames from there on and try "
            "again"
        )
    if block.size and block.max() > HEAVIEST:
        bad = start + int(block.argmax()) // block[0].size
        raise InputError(
            f"frame {bad} has a liquid water path of {block.max():.3g} g m-2: the source was taken "
            "as kg m-2; if it is in g m-2 there, divide it by 1000"
        )
