# SPDX-License-Identifier: Apache-2.0
"""Read and write fitted methods: ``fitted.json`` for numbers, ``maps.zarr`` for fields on the grid.

Maps are written tile by tile and read part by part, so that none is ever in memory whole.
`write_state` comes last: a folder without ``fitted.json`` holds no fitted method.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sstfill.errors import ReadError
from sstfill.io.output.atomic import atomic_path, fail
from sstfill.io.untrusted import guard
from sstfill.io.untrusted.documents import read_json
from sstfill.methods.common import former
from sstfill.methods.common.fitted_schema import REMEDY, check_state

if TYPE_CHECKING:
    import zarr

CHUNK = 256
"""Edge of a chunk in pixels: that of a work unit, so that a unit reads few chunks."""
STATE, MAPS = "fitted.json", "maps.zarr"
_DAMAGED = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
)
"""Errors that zarr and its codecs raise for damaged metadata and chunks."""

Tile = tuple[slice, slice]


class Map(NamedTuple):
    """A field on the grid: leading dims (``()`` for one number a pixel), dtype and fill value."""

    lead: tuple[int, ...] = ()
    dtype: DTypeLike = np.float32
    fill: float = np.nan


def write_state(folder: Path, method: str, state: Mapping[str, Any]) -> None:
    """Write ``fitted.json`` atomically: the method, and plain JSON values (`sstfill.config.plain`).

    Floats keep every bit.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_state(folder, "climatology", {"options": {}, "offset": 0.1, "harmonics": 2})
    >>> read_state(folder)
    {'method': 'climatology', 'options': {}, 'offset': 0.1, 'harmonics': 2}
    """
    with atomic_path(folder / STATE) as temporary:
        temporary.write_text(
            # Python would write NaN, which is no JSON; a state with one is an error of the fit.
            json.dumps({"method": method, **state}, allow_nan=False, indent=1),
            encoding="utf-8",
        )


def read_state(folder: Path) -> dict[str, Any]:
    """Read ``fitted.json``; `ReadError` if it is missing, or not what its method needs (see
    `check_state`).
    """
    path = _state_path(folder)
    state = read_json(path, remedy=REMEDY)
    state = former.state_now(state, pinned=path.name == former.STATE)
    check_state(state, path)
    return state


def saved_method(folder: Path) -> str:
    """Return the name of the method that was saved in a folder; `ReadError` if there is none."""
    path = _state_path(folder)
    remedy = f"it holds no fitted method; {REMEDY}"
    state = read_json(path, remedy=remedy)
    name = state.get("kind" if path.name == former.STATE else "method")
    if not isinstance(name, str):
        raise ReadError(f"cannot read {path}: {remedy}")
    return name


def _state_path(folder: Path) -> Path:
    """Return the path of the state, which has its former name in folders of former versions."""
    before = folder / former.STATE
    # Where both are there, a newer version has filled the archive anew: its state counts.
    if before.exists() and not (folder / STATE).exists():
        return before
    return folder / STATE


def copy(source: Path, folder: Path) -> None:
    """Copy state and maps into a new or empty folder, the state last."""
    try:
        folder.mkdir(exist_ok=True)
        if (source / MAPS).exists():
            shutil.copytree(source / MAPS, folder / MAPS, dirs_exist_ok=True)
    except OSError as error:
        fail(folder, error)
    state = read_state(source)
    write_state(folder, state.pop("method"), state)


def create_maps(folder: Path, maps: Mapping[str, Map], y: int, x: int, chunk: int = CHUNK) -> None:
    """Create maps of shape ``(*lead, y, x)`` in ``maps.zarr`` (Zarr v3), chunks ``(*lead, chunk,
    chunk)``.

    Maps of the same names are replaced, others stay.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> create_maps(folder, {"patterns": Map((2,))}, y=4, x=6)
    >>> write_tile(folder, "patterns", (slice(0, 2), slice(3, 6)), np.ones((2, 2, 3)))
    >>> read_part(folder, "patterns", slice(1, 3), slice(2, 4))[0].tolist()
    [[nan, 1.0], [nan, nan]]
    """
    for name, (lead, dtype, fill) in maps.items():
        dims = [f"{name}_{i}" for i in range(len(lead))] + ["y", "x"]
        # All leading dims in one chunk: whoever reads a pixel needs all its modes.
        chunks = (*lead, min(chunk, y), min(chunk, x))
        _create(folder, name, (*lead, y, x), chunks, np.dtype(dtype), dims, fill)


def write_tile(folder: Path, name: str, tile: Tile, values: NDArray) -> None:
    """Write values ``(*lead, rows, columns)`` into a tile of a map. One writer at a time."""
    array = _open(folder, name, "r+")
    try:
        array[(..., *tile)] = np.asarray(values, array.dtype)
    except OSError as error:
        fail(folder / MAPS, error)


def read_part(folder: Path, name: str, rows: slice, columns: slice) -> NDArray:
    """Read part of a map, ``(*lead, rows, columns)``; reads only the chunks that it lies in."""
    array = _open(folder, name, "r")
    try:
        return np.asarray(array[(..., rows, columns)])
    except _DAMAGED as error:
        raise _unreadable(folder, name, error) from error


def write_array(folder: Path, name: str, values: NDArray) -> None:
    """Write an array that is not a field on the grid, in one chunk, beside the maps."""
    # Zarr takes no chunk of length 0, which an array without elements would have.
    chunks = tuple(max(1, n) for n in values.shape)
    dims = [f"{name}_{i}" for i in range(values.ndim)]
    _create(folder, name, values.shape, chunks, values.dtype, dims, 0)[...] = values


def read_array(folder: Path, name: str) -> NDArray:
    """Read what `write_array` wrote."""
    array = _open(folder, name, "r")
    try:
        return np.asarray(array[...])
    except _DAMAGED as error:
        raise _unreadable(folder, name, error) from error


def _create(
    folder: Path,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype,
    dims: list[str],
    fill: float,
) -> zarr.Array:
    try:
        group = guard.open_group(folder / MAPS, mode="a", zarr_format=3)
        return group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=np.asarray(fill, dtype)[()],
            dimension_names=dims,
            overwrite=True,
        )
    except OSError as error:
        fail(folder / MAPS, error)


def _open(folder: Path, name: str, mode: guard.Mode) -> zarr.Array:
    try:
        return guard.open_array(folder / MAPS / name, mode=mode, zarr_format=3)
    except ReadError as error:
        raise _unreadable(folder, name, error) from error


def _unreadable(folder: Path, name: str, error: Exception) -> ReadError:
    # Messages of codecs may have several lines, or none.
    reason = " ".join(str(error).split()) or type(error).__name__
    return ReadError(
        f"cannot read map {name!r} in {folder / MAPS}: {reason}; fill the archive anew"
    )
