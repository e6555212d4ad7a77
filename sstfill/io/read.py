# SPDX-License-Identifier: Apache-2.0
"""Open a NetCDF file or a Zarr store, with missing values as NaN."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from sstfill.errors import ReadError
from sstfill.fields import grid
from sstfill.fields.reading import missing
from sstfill.fields.reading.variables import find_fields, pick_fields
from sstfill.io import groups
from sstfill.io.error_origin import opening, reading
from sstfill.io.ghrsst import flags_kept, keep_where, quality_kept
from sstfill.io.output.place import MARK
from sstfill.io.untrusted import guard

ZARR_MARKS = guard.MARKS
IMAGE_COPIES = 4
"""Images in memory at once, whatever is done with them: one read, its mask, its counts, its sum."""
MASKED_COPIES = 2
"""Times the size of a field without chunks: its values, and those with missing ones masked."""

__all__ = ["ZARR_MARKS", "open", "reading"]


def open(
    path: str | os.PathLike[str],
    *,
    variables: str | Sequence[str] | None = None,
    quality_level: int | None = None,
    l2p_flags: str | Sequence[str] | None = None,
    chunks: int | str | Mapping[str, int | str] | None = None,
    group: str | None = None,
    allow_links: bool = False,
) -> xr.Dataset:
    """Open a gridded series: NetCDF 3 or 4, or a Zarr v2 or v3 folder, whatever its name.

    Values equal to a declared fill or missing value, or outside the declared valid range, are NaN
    in the fields.

    Parameters
    ----------
    path
        A local file or Zarr folder.
    variables
        The fields to keep; other fields are left out, masks and flags stay. All by default.
    quality_level
        Lowest GHRSST quality to keep, 0 to 5 (5 is best); pixels below, or without, are gaps.
    l2p_flags
        GHRSST flags that make a pixel a gap: ``microwave``, ``land``, ``ice``, ``lake``, ``river``.
    chunks
        As in `xarray.open_dataset`: ``{}`` or sizes give Dask arrays, for data larger than memory.
    group
        The group to read, such as ``"science/level3"``, with the coordinates of those above it. By
        default the root, or the one group that holds fields.
    allow_links
        Follow links in it to other files: symbolic links in a Zarr folder, external links, external
        storage and virtual datasets of HDF5. They show what this process may read, so ask only for
        files of a maker you trust.

    Raises
    ------
    ReadError
        Missing, empty, truncated, not NetCDF or Zarr; a download that is not finished; a codec that
        sstfill does not run, a link that was not asked for, sizes that memory cannot hold, a
        packing that means nothing.
    InputError, OptionError
        Quality or flags asked for that the file does not hold; an unknown variable, flag or group.
    """
    location = Path(path)
    stored = groups.open_dataset(
        location,
        group,
        chunks=chunks,
        allow_links=allow_links,
        declared=True,
        decode_timedelta=False,
    )
    try:
        with opening(location):
            # in a download that is not finished, the windows to come would pass for gaps
            if location.is_dir() and stored.attrs.get("sstfill_state") == "incomplete":
                raise ReadError(
                    f"cannot read {location}: it is an unfinished download; run the same "
                    "`sstfill download` again"
                )
            # the mark identifies this very file, not what is made from it
            stored.attrs.pop(MARK, None)
            return _prepared(stored, location, variables, quality_level, l2p_flags)
    except BaseException:
        stored.close()
        raise


def _prepared(
    ds: xr.Dataset,
    path: Path,
    variables: str | Sequence[str] | None,
    quality_level: int | None,
    l2p_flags: str | Sequence[str] | None,
) -> xr.Dataset:
    close = ds.close
    if variables is not None:
        ds = ds.drop_vars(set(find_fields(ds)) - set(pick_fields(ds, variables)))
    fields = find_fields(ds)
    _check_held(ds, path, fields)
    ds = missing.complete(missing.mask_missing(ds, fields), fields)
    if quality_level is not None:
        ds = keep_where(ds, fields, quality_kept(ds, quality_level))
    if l2p_flags is not None:
        ds = keep_where(ds, fields, flags_kept(ds, l2p_flags))
    ds.set_close(close)
    return ds


def _check_held(ds: xr.Dataset, path: Path, fields: Sequence[str]) -> None:
    """Refuse coordinates, and single images of a field, that memory cannot hold."""
    coordinates = sum(c.nbytes for c in ds.coords.values())
    guard.check_memory(path, "its coordinates", coordinates)
    for name in fields:
        image = ds[name].nbytes // max(1, ds[name].sizes[grid.axes(ds[name]).dims[0]])
        # an archive may be larger than memory, one image may not
        guard.check_memory(path, f"one image of {name!r}", IMAGE_COPIES * image)
        if ds[name].chunks is None and missing.is_masked(ds[name]):
            what = f"{name!r}, whose missing values are masked as it is opened,"
            guard.check_memory(path, what, MASKED_COPIES * ds[name].nbytes)
