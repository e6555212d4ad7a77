# SPDX-License-Identifier: Apache-2.0
"""Import a folder of daily level-3 granules (GHRSST, CF) into one Zarr store in time order."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dask.array
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from sstfill import io
from sstfill.checks import check_choice
from sstfill.config import only
from sstfill.errors import InputError
from sstfill.io.untrusted import guard
from sstfill.progress import track
from sstfill.sources.atomic_store import check_store, is_made, provenance, whole_store
from sstfill.sources.granules.columns import StoredVariable, columns
from sstfill.sources.granules.look import Granule, raw
from sstfill.sources.granules.survey import GranuleArchive, survey
from sstfill.sources.granules.times import axis

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]
ENDINGS = (".nc", ".nc4", ".cdf", ".nc.gz", ".nc.bz2", ".nc.zip")
"""Endings of granules; compressed ones are refused with an error, not passed over."""
Plan = dict[int, tuple[Granule, int]]
"""What each step holds: the granule and the image in it."""


@dataclass(frozen=True, kw_only=True)
class ChunkSizes:
    """Into what chunks granules are written.

    Parameters
    ----------
    block_bytes
        Bytes of all variables that are held in memory and written at once.
    most_steps
        Steps in a chunk at most.
    large_image
        Bytes of an image above which it is stored in tiles.
    tile
        Pixels along the side of a tile.
    """

    block_bytes: float = 64e6
    most_steps: int = 64
    large_image: float = 32e6
    tile: int = 512

    def steps(self, total: int, step_bytes: int) -> int:
        """Return the number of steps in a chunk, of `total` steps."""
        return max(min(self.most_steps, total, int(self.block_bytes // step_bytes)), 1)

    def sides(self, column: StoredVariable) -> tuple[int, ...]:
        """Return the shape of the part of an image in a chunk."""
        if column.empty(1).nbytes <= self.large_image:
            return column.shape
        return tuple(min(size, self.tile) for size in column.shape)


USUAL_SIZES = ChunkSizes()


def import_granules(
    paths: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    variables: str | Sequence[str] | None = None,
    quality_level: int | None = None,
    step: str = "auto",
    duplicates: Literal["refuse", "latest"] = "refuse",
    zarr_format: int = 3,
    chunk_sizes: ChunkSizes = USUAL_SIZES,
) -> xr.Dataset:
    """Import granules into one Zarr store, one after another; it is written whole or not at all.

    Values stay as packed, bit for bit; flags, quality levels and attributes that all granules share
    are kept. Days without a granule become steps in which all is missing. Variables without time
    come from the first granule.

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
    chunk_sizes
        Of a store that is made.

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
            stored = columns(archive, first, gaps=empty > 0, quality=quality_level is not None)
            step_bytes = max(1, sum(variable.empty(1).nbytes for variable in stored))
            # a chunk holds several images, for a method reads series of a pixel; a block is what is
            # written at once
            together = chunk_sizes.steps(len(times), step_bytes)
            chunks = {v.name: (together, *chunk_sizes.sides(v)) for v in stored}
            template = _template(archive, first, stored, times, plan, chunks)
            template.attrs |= _attrs(archive, str(paths), options, times)
            encoding: dict[str, dict[str, Any]] = {}
            for each in stored:
                encoding[each.name] = {"chunks": chunks[each.name]}
                if zarr_format == 3 and each.fill is not None:  # v2 takes it from _FillValue
                    encoding[each.name]["fill_value"] = each.fill
            # metadata and coordinates alone; the values follow chunk by chunk, in `_fill`
            template.to_zarr(
                store,
                mode="w-",
                compute=False,
                consolidated=False,
                zarr_format=zarr_format,
                encoding=encoding,
            )
        _fill(store, stored, plan, len(times), together, quality_level)
    return io.open(out, chunks={})


def found(paths: StrPath | Sequence[StrPath]) -> list[Path]:
    """List the files of a folder, a glob or a list, each once, by name.

    Raises
    ------
    InputError
        There are none.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    given = list(paths)
    files = {}
    for one in given:
        for file in _expanded(Path(one)):
            files[file.resolve()] = file
    if not files:
        named = ", ".join(map(str, given[:3])) or "an empty list"
        raise InputError(
            f"no granules in {named}; give a folder or a glob of NetCDF files "
            f"({' '.join(ENDINGS[:3])})"
        )
    # by name, for names of granules begin with the date, whatever folder they lie in
    return sorted(files.values(), key=lambda f: (f.name, str(f)))


def _expanded(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            # in place, so that os.walk does not enter the others
            folders[:] = [n for n in folders if not n.startswith(".") and not n.endswith(".zarr")]
            for name in names:
                if name.lower().endswith(ENDINGS) and not name.startswith("."):
                    yield Path(folder) / name
    elif glob.has_magic(str(path)) and not path.exists():
        for match in glob.glob(str(path), recursive=True):  # noqa: PTH207
            if Path(match).is_file():
                yield Path(match)
    else:
        yield path  # opening it says what is wrong with it


def _planned(granules: Sequence[Granule], step: str, duplicates: str) -> tuple[NDArray[Any], Plan]:
    """Return the time of each step, and the image that each step with a granule holds."""
    images = []
    for granule in granules:
        images += [(granule, at) for at in range(len(granule.times))]
    laid = axis(np.concatenate([granule.times for granule in granules]), step)
    plan: Plan = {}
    for image, number in zip(images, laid.steps.tolist(), strict=True):
        if number in plan:
            image = _chosen(plan[number], image, duplicates)
        plan[number] = image
    times = laid.times.copy()
    for number, (granule, at) in plan.items():
        times[number] = granule.times[at]  # of the granule that was chosen among duplicates
    return times, plan


def _chosen(
    one: tuple[Granule, int], other: tuple[Granule, int], duplicates: str
) -> tuple[Granule, int]:
    (a, at), (b, also) = one, other
    if duplicates == "refuse" or a.path == b.path:
        when = str(a.times[at])
        if a.times[at] != b.times[also]:
            when += f" and {b.times[also]}"
        raise InputError(
            f"two granules of one step ({when}): {a.path} and {b.path}; remove one, take "
            "duplicates='latest', or give a shorter step"
        )
    # a copied file has the time of the copy: what the producer states counts first
    if a.created and b.created and a.created != b.created:
        later = b.created > a.created
    else:
        later = b.path.stat().st_mtime_ns > a.path.stat().st_mtime_ns
    kept, dropped = one, other
    if later:
        kept, dropped = other, one
    log.warning("%s is left out for %s, made later", dropped[0].path, kept[0].path)
    return kept


def _template(
    archive: GranuleArchive,
    packed: xr.Dataset,
    stored: list[StoredVariable],
    times: NDArray[Any],
    plan: Plan,
    chunks: dict[str, tuple[int, ...]],
) -> xr.Dataset:
    """Return all of the store but the values that vary in time."""
    time_dim = archive.first.granule.time_dim
    dim = time_dim or "time"
    ds = xr.Dataset()
    for each in stored:
        shape = (len(times), *each.shape)
        # lazy zeros take no memory: only their shape and chunks are written
        blank = dask.array.zeros(shape, dtype=each.dtype, chunks=chunks[each.name])
        ds[each.name] = xr.Variable((dim, *each.dims), blank, each.attrs)
    for name, variable in packed.variables.items():
        if name not in ds.variables and name != dim and time_dim not in variable.dims:
            if variable.dtype.kind in "iuf":
                values = variable.values.astype(variable.dtype.newbyteorder("="))
                ds[name] = xr.Variable(variable.dims, values, variable.attrs)
            else:  # of text, such as a grid mapping's, the attributes count
                ds[name] = xr.Variable((), np.int32(0), variable.attrs)
    names = np.full(len(times), "", dtype=object)
    for number, (granule, _) in plan.items():
        names[number] = granule.path.name
    ds["granule"] = xr.Variable(dim, names, {"long_name": "file that the step comes from"})
    attrs = {"standard_name": "time", "axis": "T"}
    if dim in packed.variables:
        own = packed.variables[dim].attrs
        attrs |= only(own, ("long_name", "standard_name", "axis", "comment"))
    # the epoch of GHRSST; 64 bits, for 32 end in 2049
    encoding = {"units": "seconds since 1981-01-01", "calendar": "standard", "dtype": "int64"}
    ds[dim] = xr.Variable(dim, times.astype("M8[ns]"), attrs, encoding)
    return ds


def _attrs(
    archive: GranuleArchive, paths: str, options: dict[str, Any], times: NDArray[Any]
) -> dict[Hashable, Any]:
    history = str(archive.attrs.get("history", ""))
    made = provenance(paths, "import-granules", {"from": paths, **options}, history)
    if "source" in archive.attrs:  # the producer's own, not the path of the files
        made["source"] = archive.attrs["source"]
    covered = {"time_coverage_start": f"{times[0]}Z", "time_coverage_end": f"{times[-1]}Z"}
    return {"Conventions": "CF-1.11", **archive.attrs, **made, **covered}


def _fill(
    store: Path,
    stored: list[StoredVariable],
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
        values = {variable.name: variable.empty(stop - start) for variable in stored}
        for number in range(start, stop):
            if number not in plan:
                continue
            granule, at = plan[number]
            with io.reading(granule.path), raw(granule.path) as packed:
                keep = _good(packed, granule, at, level)
                for variable in stored:
                    image = variable.read(granule, at, packed, keep)
                    if image is not None:
                        values[variable.name][number - start] = image
        for name, block in values.items():
            target = group[name]
            assert isinstance(target, zarr.Array)
            # whole chunks, so that none is read back and written twice
            target[start:stop] = block


def _good(packed: xr.Dataset, granule: Granule, at: int, level: int | None) -> xr.DataArray | None:
    """Return where the quality suffices, over the dims of an image; None if all is kept."""
    if level is None:
        return None
    quality = packed[next(n for n in packed.variables if str(n).lower() == "quality_level")]
    if granule.time_dim in quality.dims:
        quality = quality.isel({granule.time_dim: at})
    good = quality >= level
    if "_FillValue" in quality.attrs:
        # compared as stored, where the fill value may be above the best quality
        good &= quality != quality.attrs["_FillValue"]
    return good
