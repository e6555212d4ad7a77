# SPDX-License-Identifier: Apache-2.0
"""The filled store: laid out whole in a hidden place, written unit by unit, and put in the place of
the old one.

Every array of one variable has chunks of one work unit, so that a unit is written by one writer and
a chunk's file can be moved as it is. What a reader sees changes in one step, when the store of a
night takes the place of the last.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.archive import swap
from sstfill.errors import WriteError
from sstfill.fields import gaps
from sstfill.fields.ancillary import error_attrs
from sstfill.fields.patches import Patch, Shape
from sstfill.io import place
from sstfill.io.atomic import flush
from sstfill.io.untrusted import guard

log = logging.getLogger(__name__)
TIMES = 4096
"""Length of a chunk of the time coordinate: fixed, so that a growing series leaves old chunks
readable.
"""
ROOT = "zarr.json"
REVISION = "sstfill_revision"
PARTS = ("", "_error", "_source")
"""What is stored of a variable ``v``: ``v``, ``v_error``, ``v_source``."""


def lay_out(
    store: Path, fields: Mapping[str, xr.DataArray], chunks: Shape, attrs: Mapping[str, Any]
) -> None:
    """Make an empty store for filled fields ``(time, y, x)``, with all their coordinates.

    Parameters
    ----------
    fields
        By name: dims, coordinates, dtype and attributes of what is to be stored.
    chunks
        Of each variable.
    attrs
        Of the store.
    """

    first = next(iter(fields.values()))
    coords = xr.Dataset(coords=first.coords)
    for field in fields.values():
        coords = coords.merge(xr.Dataset(coords=field.coords), compat="override", join="override")
    encoding = {str(n): _encoding(c, str(first.dims[0])) for n, c in coords.coords.items()}
    bare = coords.map(lambda v: v) if coords.data_vars else coords
    for variable in bare.variables.values():
        variable.encoding = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification")
        bare.assign_attrs(attrs).to_zarr(
            store, mode="w-", zarr_format=3, consolidated=False, encoding=encoding
        )
    root = guard.open_group(store, mode="r+")
    for name, field in fields.items():
        for part, dtype, empty, own in _parts(name, field):
            root.create_array(
                part,
                shape=field.shape,
                chunks=chunks,
                dtype=dtype,
                fill_value=empty,
                dimension_names=[str(d) for d in field.dims],
                attributes=own,
            )
    root.create_array(
        REVISION,
        shape=first.shape[:1],
        chunks=(TIMES,),
        dtype="i4",
        fill_value=0,
        dimension_names=[str(first.dims[0])],
        attributes={"long_name": "how often the images of this day were made", "units": "1"},
    )


def _parts(name: str, field: xr.DataArray) -> Iterator[tuple[str, np.dtype, Any, dict[str, Any]]]:
    source = {
        "long_name": "where the value comes from",
        "flag_values": list(gaps.SOURCE_FLAGS.values()),
        "flag_meanings": " ".join(gaps.SOURCE_FLAGS),
    }
    beside = [str(c) for c in field.coords if c not in field.dims]
    where = {"coordinates": " ".join(beside)} if beside else {}
    own = {k: plain(v) for k, v in field.attrs.items()}
    yield name, field.dtype, np.nan, own | where
    yield f"{name}_error", np.dtype("f4"), np.nan, error_attrs(name, field) | where
    yield f"{name}_source", np.dtype("i1"), gaps.SOURCE_FLAGS["not_filled"], source | where


def plain(value: Any) -> Any:
    """Turn a NumPy value into what JSON can hold."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _encoding(coord: xr.DataArray, time: str) -> dict[str, Any]:
    encoding: dict[str, Any] = {"chunks": (TIMES,)} if coord.dims == (time,) else {}
    if coord.dtype.kind == "M" or (
        coord.dtype == object and hasattr(coord.values.flat[0], "calendar")
    ):
        encoding |= {"units": "microseconds since 1970-01-01", "dtype": "int64"}
        encoding |= {"calendar": coord.values.flat[0].calendar} if coord.dtype == object else {}
    return encoding


def write_unit(store: Path, name: str, patch: Patch, values: Mapping[str, NDArray]) -> None:
    """Write what was made of one unit, whole chunks, and flush them to the disk.

    `values` are ``""`` (filled), ``"_error"`` and ``"_source"``, each ``(time, y, x)`` of the unit.
    """
    root = guard.open_group(store, mode="r+", use_consolidated=False)
    for part, block in values.items():
        array: Any = root[
            f"{name}{part}"
        ]  # an empty chunk is written too: else an old one would outlive it
        array.with_config({"write_empty_chunks": True})[patch.inside] = block
        flush(chunk_file(store, f"{name}{part}", patch, array.chunks))


def finish(store: Path, revision: NDArray[np.int32]) -> None:
    """Write how often each day was made, gather all metadata in the root, and flush everything to
    the disk.
    """
    import zarr

    root = guard.open_group(store, mode="r+", use_consolidated=False)
    made: Any = root[REVISION]
    made[:] = revision
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(store)
    place.mark_store(store, grows=True)
    for member in [*store.rglob("*"), store]:
        flush(member)


def adopt(draft: Path, staged: Path, keep: Collection[Path], arrays: Collection[str]) -> None:
    """Make `staged` a store laid out as `draft` is, which holds no chunks of `arrays` but those in
    `keep`.
    """
    for file in [p for name in arrays for p in (staged / name / "c").rglob("*") if p.is_file()]:
        if file not in keep:
            file.unlink()
    shutil.copytree(draft, staged, dirs_exist_ok=True)


def publish(staged: Path, out: Path, *, anew: bool = False) -> None:
    """Move what was made into `out`; can be called again after any interruption, and goes on.

    What is in `out` already is linked to what was made, and the whole is put in its place in one
    step; with `anew`, the old goes. On a file system that has no links, or cannot exchange folders,
    chunks are moved one by one, then the metadata of each array, then that of the store: until then
    a reader sees the days that were there before.
    """
    if not staged.is_dir():
        return
    if not out.exists():
        os.replace(staged, out)  # noqa: PTH105
        flush(out.parent)
        return
    if not _same(staged / ROOT, out / ROOT):
        check_in_place(out, anew=anew)
        try:
            whole = staged.with_name("whole.zarr")
            swap.linked(whole, *([] if anew else [out]), staged)
            swap.exchange(whole, out)
        except OSError as reason:
            log.info("%s is not exchanged in one step: %s", out, reason)
            _replaced(staged, out) if anew else _moved(staged, out)
            return
    os.replace(staged, staged.with_name("published.zarr"))  # noqa: PTH105


def check_in_place(out: Path, *, anew: bool) -> None:
    """Refuse to put a store in the place of one with which something would go that no job made.

    With `anew` the old store goes as a whole. Else all files in it are kept, which links, pipes and
    the like are not.

    Raises
    ------
    WriteError
        With what is in the way.
    """
    if anew and out.exists():
        place.check_replaceable(out)
    for at, folders, files in os.walk(out):
        for name in (*folders, *files):
            mode = (Path(at) / name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise WriteError(
                    f"cannot write {out}: {Path(at) / name} in it is neither a file nor a folder; remove "
                    "it, and run the same command again"
                )


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _replaced(staged: Path, out: Path) -> None:
    os.replace(out, staged.with_name("old.zarr"))  # noqa: PTH105
    os.replace(staged, out)  # noqa: PTH105
    flush(out.parent)


def _moved(staged: Path, out: Path) -> None:
    for rank in (_is_chunk, _is_array, _is_root):
        folders = set()
        for file in sorted(
            (p for p in staged.rglob("*") if p.is_file() and rank(p, staged)), key=_fields_first
        ):
            target = out / file.relative_to(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)  # noqa: PTH105
            folders.add(target.parent)
        for folder in folders:
            flush(folder)
    shutil.rmtree(staged)


def _fields_first(file: Path) -> tuple[int, Path]:
    return -len(file.parts), file


def _is_root(file: Path, staged: Path) -> bool:
    return file == staged / ROOT


def _is_array(file: Path, staged: Path) -> bool:
    return file.name == ROOT and file.parent != staged


def _is_chunk(file: Path, staged: Path) -> bool:
    return file.name != ROOT


def chunk_file(store: Path, array: str, patch: Patch, chunks: Shape) -> Path:
    """File of the chunk that holds one unit."""
    return (
        store
        / array
        / "c"
        / Path(*(str(s.start // c) for s, c in zip(patch.inside, chunks, strict=True)))
    )
