# SPDX-License-Identifier: Apache-2.0
"""A folder of daily level-3 granules (GHRSST, CF) into one Zarr store in time order, missing days
as empty steps.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import dask.array
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from sstfill import io
from sstfill.checks import check_choice
from sstfill.errors import InputError
from sstfill.io.untrusted import guard
from sstfill.progress import track
from sstfill.sources.atomic_store import check_store, is_made, provenance, whole_store
from sstfill.sources.granules.columns import StoredVariable, columns
from sstfill.sources.granules.look import Granule, raw
from sstfill.sources.granules.survey import GranuleArchive, survey
from sstfill.sources.granules.times import TimeAxis, axis

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]
ENDINGS = (
    ".nc",
    ".nc4",
    ".cdf",
    ".nc.gz",
    ".nc.bz2",
    ".nc.zip",
)  # compressed: refused by name, not passed over
TOGETHER = 64e6  # bytes of all variables held and written at once
LARGE = 32e6  # bytes of an image above which it is stored in tiles
TILE = 512

Plan = dict[int, tuple[Granule, int]]
"""What each step holds: the granule and the image in it."""


def import_granules(
    paths: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    variables: str | Sequence[str] | None = None,
    quality_level: int | None = None,
    step: str = "auto",
    duplicates: Literal["refuse", "latest"] = "refuse",
    zarr_format: int = 3,
) -> xr.Dataset:
    """Bring granules into one Zarr store, one after another; it is written whole or not at all.

    Values stay as packed, bit for bit; flags, quality levels and attributes that all granules share
    are carried. Days without a granule become steps in which all is missing. What is fixed in time
    comes from the first granule.

    Parameters
    ----------
    paths
        A folder, searched with all folders in it, a glob such as ``"archive/2022*.nc"``, or files.
    out
        The store, ``.zarr``; one made from the same with the same options is returned, any other
        refused.
    variables
        The fields to keep; masks and flags stay. All by default.
    quality_level
        Lowest GHRSST quality to keep, 0 to 5 (5 is best); pixels below, or without, become gaps.
        All by default.
    step
        ``"auto"`` takes the step of which all gaps between granules are multiples, one day or the
        median gap (an hour or more); or a length such as ``"1D"`` or ``"12h"``; ``"none"`` keeps
        the times, without empty steps.
    duplicates
        Two granules of one step: ``"refuse"``, or take the ``"latest"`` (by ``date_created``, else
        by the file's time).
    zarr_format
        2 or 3.

    Returns
    -------
    xarray.Dataset
        The store opened lazily; ``granule`` names the file of each step, empty where there is none.

    Raises
    ------
    ReadError
        A granule that is missing, truncated or corrupt; nothing is written.
    InputError
        No granules, two of one step, other grids, units or fields; the error names the files.
    OptionError, WriteError
        An unknown variable or a value outside its range; an output that cannot be written.
    """
    check_choice("duplicates", duplicates, ("refuse", "latest"))
    files = found(paths)
    check_store(out, zarr_format, files)
    archive = survey(files, variables, quality_level)
    times, plan = _planned(archive.granules, step, duplicates)
    empty = len(times) - len(plan)
    if empty > 0.8 * len(times):
        log.warning("%d of %d steps are empty; give step= if this is not meant", empty, len(times))
    options = {
        "variables": archive.first.fields,
        "quality_level": quality_level,
        "step": step,
        "duplicates": duplicates,
        "granules": len(files),
        "empty_steps": empty,
    }
    if is_made(out, zarr_format, "import-granules", {"from": str(paths), **options}):
        return io.open(out, chunks={})
    with whole_store(out, zarr_format) as store:
        with io.reading(files[0]), raw(files[0]) as first:
            held = columns(archive, first, gaps=empty > 0, quality=quality_level is not None)
            together = max(
                1,
                min(64, len(times), int(TOGETHER // max(1, sum(c.empty(1).nbytes for c in held)))),
            )
            template = _template(archive, first, held, times, plan, together)
            template.attrs |= _attrs(archive, str(paths), options, times)
            encoding = {c.name: _encoding(c, together, zarr_format) for c in held}
            template.to_zarr(
                store,
                mode="w-",
                compute=False,
                consolidated=False,
                zarr_format=zarr_format,
                encoding=encoding,
            )
        _fill(store, held, plan, len(times), together, quality_level)
    return io.open(out, chunks={})


def found(paths: StrPath | Sequence[StrPath]) -> list[Path]:
    """Files of a folder, a glob or a list, each once, by name; `InputError` where there are none."""
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files = {file.resolve(): file for one in given for file in _expanded(Path(one))}
    if not files:
        named = ", ".join(map(str, given[:3])) or "an empty list"
        raise InputError(
            f"no granules in {named}; give a folder or a glob of NetCDF files ({' '.join(ENDINGS[:3])})"
        )
    return sorted(files.values(), key=lambda f: (f.name, str(f)))


def _expanded(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = [n for n in folders if not n.startswith(".") and not n.endswith(".zarr")]
            yield from (
                Path(folder) / n
                for n in names
                if n.lower().endswith(ENDINGS) and not n.startswith(".")
            )
    elif glob.has_magic(str(path)) and not path.exists():
        yield from (Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())  # noqa: PTH207
    else:
        yield path  # opening it says what is wrong with it


def _planned(granules: Sequence[Granule], step: str, duplicates: str) -> tuple[NDArray[Any], Plan]:
    images = [(granule, at) for granule in granules for at in range(len(granule.times))]
    laid = axis(np.concatenate([granule.times for granule in granules]), step)
    plan: Plan = {}
    for (granule, at), place in zip(images, laid.steps.tolist(), strict=True):
        if place in plan:
            plan[place] = _chosen(plan[place], (granule, at), duplicates)
        else:
            plan[place] = (granule, at)
    return _times(laid, plan), plan


def _times(laid: TimeAxis, plan: Plan) -> NDArray[Any]:
    times = laid.times.copy()
    for place, (granule, at) in plan.items():
        times[place] = granule.times[at]
    return times


def _chosen(
    one: tuple[Granule, int], other: tuple[Granule, int], duplicates: str
) -> tuple[Granule, int]:
    (a, at), (b, also) = one, other
    if duplicates == "refuse" or a.path == b.path:
        when = (
            f"{a.times[at]} and {b.times[also]}"
            if a.times[at] != b.times[also]
            else f"{a.times[at]}"
        )
        raise InputError(
            f"two granules of one step ({when}): {a.path} and {b.path}; remove one, take "
            "duplicates='latest', or give a shorter step"
        )
    if a.created and b.created and a.created != b.created:
        later = b.created > a.created
    else:
        later = b.path.stat().st_mtime_ns > a.path.stat().st_mtime_ns
    log.warning(
        "%s is left out for %s, made later", *((a.path, b.path) if later else (b.path, a.path))
    )
    return other if later else one


def _template(
    archive: GranuleArchive,
    packed: xr.Dataset,
    held: list[StoredVariable],
    times: NDArray[Any],
    plan: Plan,
    together: int,
) -> xr.Dataset:
    """All of the store but the values of its columns."""
    dim = archive.first.granule.time_dim or "time"
    ds = xr.Dataset()
    for column in held:
        blank = dask.array.zeros(
            (len(times), *column.shape), dtype=column.dtype, chunks=(together, *_tiles(column))
        )
        ds[column.name] = xr.Variable((dim, *column.dims), blank, column.attrs)
    for name, variable in packed.variables.items():
        if (
            name not in ds.variables
            and name != dim
            and archive.first.granule.time_dim not in variable.dims
        ):
            ds[name] = _static(variable)
    names = [plan[k][0].path.name if k in plan else "" for k in range(len(times))]
    ds["granule"] = xr.Variable(
        dim, np.array(names, dtype=object), {"long_name": "file that the step comes from"}
    )
    own = packed.variables[dim].attrs if dim in packed.variables else {}
    clock = {k: own[k] for k in ("long_name", "standard_name", "axis", "comment") if k in own}
    encoding = {"units": "seconds since 1981-01-01", "calendar": "standard", "dtype": "int64"}
    ds[dim] = xr.Variable(
        dim, times.astype("M8[ns]"), {"standard_name": "time", "axis": "T"} | clock, encoding
    )
    return ds


def _static(variable: xr.Variable) -> xr.Variable:
    """A variable that does not vary in time; one that only carries attributes (a grid mapping)
    holds zero.
    """
    if variable.dtype.kind in "iuf":
        return xr.Variable(
            variable.dims, variable.values.astype(variable.dtype.newbyteorder("=")), variable.attrs
        )
    return xr.Variable((), np.int32(0), variable.attrs)


def _tiles(column: StoredVariable) -> tuple[int, ...]:
    large = column.empty(1).nbytes > LARGE
    return tuple(min(size, TILE) if large else size for size in column.shape)


def _encoding(column: StoredVariable, together: int, zarr_format: int) -> dict[str, Any]:
    """Chunks, and for version 3 what an absent chunk holds; version 2 takes it from ``_FillValue``."""
    absent = {} if zarr_format == 2 or column.fill is None else {"fill_value": column.fill}
    return {"chunks": (together, *_tiles(column)), **absent}


def _attrs(
    archive: GranuleArchive, paths: str, options: dict[str, Any], times: NDArray[Any]
) -> dict[Hashable, Any]:
    made = provenance(
        paths, "import-granules", {"from": paths, **options}, str(archive.attrs.get("history", ""))
    )
    kept = {"source": archive.attrs["source"]} if "source" in archive.attrs else {}
    covered = {"time_coverage_start": f"{times[0]}Z", "time_coverage_end": f"{times[-1]}Z"}
    return {"Conventions": "CF-1.11", **archive.attrs, **made, **kept, **covered}


def _fill(
    store: Path,
    held: list[StoredVariable],
    plan: Plan,
    steps: int,
    together: int,
    level: int | None,
) -> None:
    """Write the values in blocks of whole chunks, one reader and one writer."""
    group = guard.open_group(store, mode="r+", use_consolidated=False)
    blocks = range(0, steps, together)
    for start in track(blocks, "steps", len(blocks)):
        stop = min(start + together, steps)
        values = {column.name: column.empty(stop - start) for column in held}
        for place in range(start, stop):
            if place in plan:
                _read(held, values, place - start, *plan[place], level)
        for name, block in values.items():
            target = group[name]
            assert isinstance(target, zarr.Array)
            target[start:stop] = block


def _read(
    held: list[StoredVariable],
    values: dict[str, NDArray[Any]],
    row: int,
    granule: Granule,
    at: int,
    level: int | None,
) -> None:
    with io.reading(granule.path), raw(granule.path) as packed:
        keep = _good(packed, granule, at, level)
        for column in held:
            image = column.read(granule, at, packed, keep)
            if image is not None:
                values[column.name][row] = image


def _good(packed: xr.Dataset, granule: Granule, at: int, level: int | None) -> xr.DataArray | None:
    """Where the quality is good enough, over the dims of an image; None where all is kept."""
    if level is None:
        return None
    quality = packed[next(n for n in packed.variables if str(n).lower() == "quality_level")]
    quality = quality.isel({granule.time_dim: at}) if granule.time_dim in quality.dims else quality
    known = quality != quality.attrs["_FillValue"] if "_FillValue" in quality.attrs else True
    return (quality >= level) & known
