# SPDX-License-Identifier: Apache-2.0
"""The filled store: laid out beside the output, written unit by unit, then put in its place.

Every array of one variable has chunks of one work unit, so that a unit is written by one writer and
a chunk's file can be moved as it is. What a reader sees changes in one step, when the store of a
run takes the place of the last.
"""

from __future__ import annotations

import json
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
from sstfill.fields.ancillary import (
    MEMBER,
    error_attrs,
    limit_attrs,
    member_coordinate,
    members_attrs,
)
from sstfill.fields.error_distribution import GAUSSIAN, ErrorDistribution
from sstfill.fields.patches import Patch, Shape
from sstfill.fields.transform import Transform
from sstfill.io.output import place
from sstfill.io.output.atomic import flush
from sstfill.io.untrusted import guard

log = logging.getLogger(__name__)
TIMES = 4096
"""Length of a chunk of the time coordinate; fixed, so that old chunks stay valid as it grows."""
ROOT = "zarr.json"
REVISION = "sstfill_revision"
PARTS = ("", "_error", "_source")
"""What is stored of a variable ``v``: ``v``, ``v_error``, ``v_source``."""
LIMITS = ("lower", "upper")
"""What is stored besides of one that was transformed: ``v_lower``, ``v_upper``."""
MEMBERS = "_members"
"""What is stored besides where members are drawn: ``v_members``."""


def parts(transform: Transform, members: int = 0) -> tuple[str, ...]:
    """Suffixes of what is stored of a variable."""
    found: tuple[str, ...] = PARTS
    if transform.kind != "none":
        found += tuple(f"_{limit}" for limit in LIMITS)
    if members:
        found += (MEMBERS,)
    return found


def lay_out(
    store: Path,
    fields: Mapping[str, xr.DataArray],
    chunks: Shape,
    attrs: Mapping[str, Any],
    beside: xr.Dataset,
    limited: Collection[str] = (),
    members: int = 0,
    distributions: Mapping[str, ErrorDistribution] | None = None,
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
    beside
        Coordinates, and other variables that are written whole.
    limited
        Names of the fields that have limits besides an error.
    members
        Drawn of each field. All of a unit lie in one shard, of one chunk for each member.
    distributions
        Of the errors, by name of the field; Gaussian where none is given.
    """
    stated = distributions or {}
    if members:
        beside = beside.assign_coords({MEMBER: member_coordinate(members)})
    first = next(iter(fields.values()))
    time = str(first.dims[0])
    # Dask chunks would have to agree with the chunks of the store
    whole = {n: v.compute() for n, v in beside.data_vars.items() if time in v.dims}
    beside = beside.assign(whole)
    encoding = {str(n): _encoding(v, time) for n, v in beside.variables.items()}
    # An empty chunk is written too: else an old one would stay in its place.
    with warnings.catch_warnings(), zarr_config().set({"array.write_empty_chunks": True}):
        # texts of one length, as of a coordinate of names
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification")
        beside.drop_attrs(deep=False).assign_attrs(attrs).to_zarr(
            store, mode="w-", zarr_format=3, consolidated=False, encoding=encoding
        )
    # Fields are made by zarr itself: xarray would have to be given values, which there are none.
    root = guard.open_group(store, mode="r+")
    for name, field in fields.items():
        distribution = stated.get(name, GAUSSIAN)
        for part, dtype, empty, own in _parts(name, field, distribution, limited=name in limited):
            root.create_array(
                part,
                shape=field.shape,
                chunks=chunks,
                dtype=dtype,
                fill_value=empty,
                dimension_names=list(map(str, field.dims)),
                attributes=own,
            )
        if members:
            root.create_array(
                f"{name}{MEMBERS}",
                shape=(members, *field.shape),
                chunks=(1, *chunks),
                # one file a unit, which can be moved as it is; members are still read one by one
                shards=(members, *chunks),
                dtype=field.dtype,
                fill_value=np.nan,
                dimension_names=[MEMBER, *map(str, field.dims)],
                attributes={**members_attrs(name, field), **linked_coordinates(field)},
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


def _parts(
    name: str, field: xr.DataArray, distribution: ErrorDistribution, *, limited: bool
) -> Iterator[tuple[str, np.dtype, Any, dict[str, Any]]]:
    source = {
        "long_name": "where the value comes from",
        "flag_values": list(gaps.SOURCE_FLAGS.values()),
        "flag_meanings": " ".join(gaps.SOURCE_FLAGS),
    }
    coordinates = linked_coordinates(field)
    own = {k: plain(v) for k, v in field.attrs.items()}
    yield name, field.dtype, np.nan, own | coordinates
    error = error_attrs(name, field, distribution) | coordinates
    yield f"{name}_error", np.dtype("f4"), np.nan, error
    if limited:
        for limit in LIMITS:
            own = limit_attrs(name, field, limit) | coordinates
            yield f"{name}_{limit}", np.dtype("f4"), np.nan, own
    yield f"{name}_source", np.dtype("i1"), gaps.SOURCE_FLAGS["not_filled"], source | coordinates


def linked_coordinates(field: xr.DataArray) -> dict[str, str]:
    """Return the attribute that names, by CF, the coordinates that are not dimensions."""
    auxiliary = [str(c) for c in field.coords if c not in field.dims]
    return {"coordinates": " ".join(auxiliary)} if auxiliary else {}


def plain(value: Any) -> Any:
    """Return a NumPy value as what JSON can hold."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value


def zarr_config() -> Any:
    """Return the configuration of Zarr, which takes long to import."""
    import zarr

    return zarr.config


def _encoding(coord: xr.Variable, time: str) -> dict[str, Any]:
    encoding: dict[str, Any] = {}
    if coord.dims[:1] == (time,):
        encoding["chunks"] = (TIMES, *coord.shape[1:])
    calendar = None
    if coord.dtype == object and coord.size:
        calendar = getattr(coord.values.flat[0], "calendar", None)
    if coord.dtype.kind == "M" or calendar is not None:
        # the same units in each run, so that chunks of earlier days stay as they are
        encoding |= {"units": "microseconds since 1970-01-01", "dtype": "int64"}
    if calendar is not None:
        encoding["calendar"] = calendar
    return encoding


def write_unit(store: Path, name: str, patch: Patch, values: Mapping[str, NDArray]) -> None:
    """Write the chunks of one unit, and flush them to the disk.

    `values` are ``""`` (filled), ``"_error"``, ``"_source"`` and so on (`parts`), each
    ``(time, y, x)`` of the unit, and ``(member, time, y, x)`` where they are members.
    """
    root = guard.open_group(store, mode="r+", use_consolidated=False)
    for part, block in values.items():
        array: Any = root[f"{name}{part}"]
        # An empty chunk is written too: else an old one would stay in its place.
        array.with_config({"write_empty_chunks": True})[..., *patch.inside] = block
        flush(chunk_file(store, f"{name}{part}", patch, array.shards or array.chunks))


def finish(store: Path, revision: NDArray[np.int32]) -> None:
    """Write how often each day was made, consolidate the metadata, and flush all to the disk."""
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
    """Lay `staged` out as `draft` is; of the chunks of `arrays` it holds only those in `keep`."""
    for name in arrays:
        for path in list((staged / name / "c").rglob("*")):
            if path.is_file() and path not in keep:
                path.unlink()
    shutil.copytree(draft, staged, dirs_exist_ok=True)


def publish(staged: Path, out: Path, *, replace: bool = False) -> None:
    """Put a staged store in place; called again after any interruption, it goes on.

    The files of `out` and of `staged` are linked into one folder, which is exchanged with `out` in
    one step; with `replace`, the old files go. On a file system that has no links, or cannot
    exchange folders, chunks are moved one by one, then the metadata of each array, then that of the
    store: until then a reader sees the days that were there before.
    """
    if not staged.is_dir():
        return
    if not out.exists():
        os.replace(staged, out)  # noqa: PTH105
        flush(out.parent)
        return
    # The same file: a run that was killed had exchanged the folders already.
    if not _same(staged / ROOT, out / ROOT):
        check_in_place(out, replace=replace)
        try:
            whole = staged.with_name("whole.zarr")
            if replace:
                swap.linked(whole, staged)
            else:
                # old chunks first: what the run made takes their place
                swap.linked(whole, out, staged)
                _drop_gone(whole)
            swap.exchange(whole, out)
        except OSError as reason:
            log.info("%s is not exchanged in one step: %s", out, reason)
            if replace:
                os.replace(out, staged.with_name("old.zarr"))  # noqa: PTH105
                os.replace(staged, out)  # noqa: PTH105
                flush(out.parent)
            else:
                _moved(staged, out)
            return
    # whoever goes on after a kill sees by the name that nothing is left to publish
    os.replace(staged, staged.with_name("published.zarr"))  # noqa: PTH105


def check_in_place(out: Path, *, replace: bool) -> None:
    """Refuse to replace a store together with anything that no job made.

    With `replace` the old store goes as a whole. Else all files in it are kept, but links, pipes
    and the like would be lost.

    Raises
    ------
    WriteError
        Something else is in the store; the message names it.
    """
    if replace and out.exists():
        place.check_replaceable(out)
    for at, folders, files in os.walk(out):
        for name in (*folders, *files):
            mode = (Path(at) / name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise WriteError(
                    f"cannot write {out}: {Path(at) / name} in it is neither a file nor a folder; "
                    "remove it, and run the same command again"
                )


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _drop_gone(store: Path) -> None:
    """Remove the arrays that the metadata of a store do not list: the archive has them no more."""
    listed = json.loads((store / ROOT).read_text("utf-8"))["consolidated_metadata"]["metadata"]
    for path in store.iterdir():
        if path.is_dir() and path.name not in listed:
            shutil.rmtree(path)


def _moved(staged: Path, out: Path) -> None:
    """Move the files of `staged` into `out`, chunks first, the metadata of the store last."""
    files = [path for path in staged.rglob("*") if path.is_file()]
    # Deepest first: the chunks of fields before those of coordinates.
    files.sort(key=lambda path: (-len(path.parts), path))
    chunks = [path for path in files if path.name != ROOT]
    arrays = [path for path in files if path.name == ROOT and path.parent != staged]
    root = [path for path in files if path == staged / ROOT]
    for group in (chunks, arrays, root):
        folders = set()
        for file in group:
            target = out / file.relative_to(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)  # noqa: PTH105
            folders.add(target.parent)
        for folder in folders:
            flush(folder)
    _drop_gone(out)
    shutil.rmtree(staged)


def chunk_file(store: Path, array: str, patch: Patch, chunks: tuple[int, ...]) -> Path:
    """Return the file of the chunk that holds one unit; of members, the shard that holds all."""
    folder = store / array / "c"
    # the 0 is for members, all of which lie in one shard; other arrays have no such dimension
    starts = (0, *(side.start for side in patch.inside))
    for start, length in zip(starts[-len(chunks) :], chunks, strict=True):
        folder /= str(start // length)
    return folder


def unit_files(
    store: Path, name: str, parts: Collection[str], patch: Patch, core: Shape
) -> dict[str, Path]:
    """Return the file of each part of a unit, by the name of the array."""
    files = {}
    for part in parts:
        chunks = (1, *core) if part == MEMBERS else core
        files[f"{name}{part}"] = chunk_file(store, f"{name}{part}", patch, chunks)
    return files
