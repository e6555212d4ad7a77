# SPDX-License-Identifier: Apache-2.0
"""What lies beside the filled variables of an archive: projection, areas, bounds, masks, flags.

All of it is in the filled store, as `sstfill.fill` keeps it in memory, decoded and with NaN in the
gaps. Small variables are written anew by each run; of large ones, only the times that changed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.archive import store
from sstfill.config import without
from sstfill.fields import grid
from sstfill.fields.ancillary import check_member_dim
from sstfill.fields.reading.sentinels import RANGES
from sstfill.fields.transform import NONE
from sstfill.io.attributes import storable
from sstfill.io.encoding import attrs_as_stored
from sstfill.io.packing import REWRITTEN
from sstfill.io.untrusted import guard

SMALL = 2**23
"""Bytes up to which a variable is read and written as a whole."""
CHUNK = 2**24
"""About how many bytes a chunk of a large variable has, all times of it."""


@dataclass(frozen=True)
class Companions:
    """The variables beside the filled ones.

    Attributes
    ----------
    small
        Those that are written as a whole, and coordinates of any; no encoding.
    large
        Those that are streamed: numbers that change in time, Dask-backed.
    time
        Name of the time dimension.
    """

    small: xr.Dataset
    large: xr.Dataset
    time: str

    @property
    def any(self) -> bool:
        """Whether there are any beside coordinates."""
        return bool(self.small.data_vars or self.large.data_vars)

    @classmethod
    def of(cls, ds: xr.Dataset, filled: Sequence[str], members: int = 0) -> Companions:
        """Find them in an archive, on the dims of its filled store, which may have `members`."""
        axes = grid.axes(ds[filled[0]]).dims
        # a depth of one level, say: the filled store is without it
        single: set[Hashable] = set()
        ours = set()
        for field in filled:
            single |= set(ds[field].dims) - set(axes)
            ours |= {f"{field}{part}" for part in store.parts(NONE, members)}
        beside = ds.isel(dict.fromkeys(single, 0)).drop_vars(
            [name for name in ds.variables if name in ours or name == store.REVISION]
        )
        if members:
            check_member_dim(beside, members)
        time = str(axes[0])
        large = []
        for name, variable in beside.data_vars.items():
            numbers = variable.dtype.kind in "fiub"
            if numbers and time in variable.dims and variable.nbytes > SMALL:
                large.append(name)
        plain = storable(beside.assign(_plain(beside)).drop_encoding(), zarr=True)
        return cls(plain.drop_vars(large), plain[large], time)

    def write(self, staged: Path, out: Path, changed: NDArray[np.bool_]) -> None:
        """Write the large variables into a staged store, block by block.

        Times that have not `changed` are left to the store `out`, which takes up the staged one,
        where that holds the variable in the same form.
        """
        import dask.array

        root = guard.open_group(staged, mode="r+", use_consolidated=False)
        for name, field in self.large.data_vars.items():
            # what an interrupted run wrote of it may be of another length
            shutil.rmtree(staged / str(name), ignore_errors=True)
            # one chunk where it has none, so that whole sides become chunks of the store
            variable = field.variable.transpose(self.time, ...).chunk()
            sides = tuple(map(max, (variable.chunks or ())[1:]))
            length = _length(sides, variable.dtype.itemsize)
            array: Any = root.create_array(
                str(name),
                shape=variable.shape,
                chunks=(length, *sides),
                dtype=variable.dtype,
                fill_value=np.nan if variable.dtype.kind == "f" else 0,
                dimension_names=list(map(str, variable.dims)),
                attributes={k: store.plain(v) for k, v in variable.attrs.items()}
                | store.linked_coordinates(field),
            )
            wanted = changed
            # other chunks or another type: no old chunk fits beside new ones
            if _form(staged / str(name)) != _form(out / str(name)):
                wanted = np.ones(len(changed), bool)
            # an empty chunk is written too: else an old one would stay in its place
            target = array.with_config({"write_empty_chunks": True})
            for times in _spans(wanted, length):
                # one task for each stored chunk, so that no two threads write the same
                block = variable[times].data.rechunk((-1, *sides))
                region = (times, *(slice(0, n) for n in variable.shape[1:]))
                dask.array.store(block, target, regions=region, lock=False, scheduler="threads")


def _length(sides: tuple[int, ...], itemsize: int) -> int:
    """Return the length of a chunk in time: the same however many times there are."""
    image = max(1, int(np.prod(sides)) * itemsize)
    return 2 ** int(np.log2(max(1, min(store.TIMES, CHUNK / image))))


def _plain(ds: xr.Dataset) -> dict[Any, xr.Variable]:
    """Return the variables as they are stored when they are not packed."""
    plain = {}
    for name, variable in ds.variables.items():
        bare = variable.copy(deep=False)
        bare.attrs = attrs_as_stored(variable)
        if variable.dtype.kind in "mMO":  # times are stored in other units, texts have no range
            bare.attrs = without(variable.attrs, RANGES)
        if variable.dtype.kind == "f" and name not in ds.coords:
            bare.attrs = without(variable.attrs, REWRITTEN)
        plain[name] = bare
    return plain


def _spans(wanted: NDArray[np.bool_], length: int) -> Iterator[slice]:
    """Yield the spans of chunks that hold a wanted time."""
    for start in range(0, len(wanted), length):
        times = slice(start, min(start + length, len(wanted)))
        if wanted[times].any():
            yield times


def _form(array: Path) -> dict[str, Any] | None:
    """Return how an array is stored, but for its attributes and its length in time."""
    try:
        found = json.loads((array / store.ROOT).read_text("utf-8"))
    except FileNotFoundError:
        return None
    form = without(found, ("attributes", "shape"))
    return form | {"sides": found["shape"][1:]}
