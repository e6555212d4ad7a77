# SPDX-License-Identifier: Apache-2.0
"""Count the missing values of a file by the rules that make them so, block by block."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.grid import axes
from sstfill.fields.reading.account import MissingValues, Tally
from sstfill.fields.reading.missing import declared_range, valid_range
from sstfill.fields.reading.sentinels import TAKEN, Taken, unwritten_number, viewed
from sstfill.fields.reading.variables import find_fields, pick_fields
from sstfill.io.error_origin import reading
from sstfill.io.ghrsst import flags_kept, quality_kept
from sstfill.io.read import open
from sstfill.io.untrusted import guard

BLOCK = 8e6
"""About how many stored bytes are read at once."""


def missing_values(
    path: str | os.PathLike[str],
    *,
    variables: str | Sequence[str] | None = None,
    quality_level: int | None = None,
    l2p_flags: str | Sequence[str] | None = None,
    group: str | None = None,
    allow_links: bool = False,
) -> dict[str, MissingValues]:
    """Count the values that `sstfill.io.open` takes as missing in each field, by rule.

    Rules, the first that holds counts: chunks that a Zarr store does not hold, ``_FillValue``,
    ``missing_value``, the fill value of a Zarr array, NetCDF's default fill value, NaN, the valid
    range, quality, flags. The stored numbers are read once, in blocks of about 8 MB.

    Parameters
    ----------
    path, variables, quality_level, l2p_flags, group, allow_links
        As for `sstfill.io.open`.

    Returns
    -------
    dict
        By the name of the field. Each account prints as one line, such as ``1,234 by _FillValue
        -999, 56 by valid_range [0, 30]``; its ``warnings`` name what nobody declared.

    Raises
    ------
    ReadError, InputError, OptionError
        As `sstfill.io.open` does.
    """
    location = Path(path)
    opened = open(path, variables=variables, chunks={}, group=group, allow_links=allow_links)
    with reading(location), opened as ds:
        names = find_fields(ds) if variables is None else pick_fields(ds, variables)
        keep = {}
        if quality_level is not None:
            keep[f"quality_level below {quality_level}"] = quality_kept(ds, quality_level)
        if l2p_flags is not None:
            shown = l2p_flags if isinstance(l2p_flags, str) else ", ".join(l2p_flags)
            keep[f"l2p_flags {shown}"] = flags_kept(ds, l2p_flags)
        # opened a second time, packed: the rules are about the stored numbers, which decoding turns
        # to NaN
        stored = guard.open_dataset(
            location,
            group=ds.encoding.get("group", ""),
            allow_links=allow_links,
            declared=True,
            mask_and_scale=False,
            decode_times=False,
            decode_coords=False,
        )
        with stored:
            counted = {}
            for name in names:
                if ds[name].ndim:
                    counted[name] = _count(stored[name].variable, ds[name], keep)
            return counted


def _count(
    stored: xr.Variable, field: xr.DataArray, keep: dict[str, xr.DataArray]
) -> MissingValues:
    taken = stored.encoding.get(TAKEN, Taken())
    meant = viewed(stored.dtype, stored.attrs)
    unwritten = unwritten_number(field)
    # any dimension will do where images do not matter
    time = str(stored.dims[0] if unwritten is None else axes(field).dims[0])
    tally = Tally(
        sentinels=taken.sentinels,
        bounds=valid_range(field),
        declared=declared_range(field),
        unwritten=unwritten,
        kept=taken.kept,
        axis=stored.dims.index(time),
        images=stored.sizes[time],
    )

    def decode(values: NDArray) -> NDArray:
        # viewed back: the decoder applies _Unsigned itself
        block = xr.Variable(stored.dims, values.view(stored.dtype), stored.attrs)
        return xr.conventions.decode_cf_variable(field.name, block, decode_times=False).values

    for box in _boxes(stored):
        block = stored.isel(box)
        kept = {}
        for rule, da in keep.items():
            inside = da.isel({dim: span for dim, span in box.items() if dim in da.dims})
            kept[rule] = inside.variable.set_dims(block.sizes).values
        tally.add(block.values.view(meant), decode, box[time].start, kept)
    return tally.account(str(field.name), absent=taken.absent)


def _boxes(variable: xr.Variable) -> Iterator[dict[str, slice]]:
    """Cut a variable in boxes of about `BLOCK` bytes, whole stored chunks, several in time."""
    preferred = variable.encoding.get("preferred_chunks", {})
    lengths = {}
    for number, (dim, size) in enumerate(variable.sizes.items()):
        # without chunks the values lie image by image
        contiguous = 1 if number == 0 else size
        lengths[dim] = max(1, min(size, preferred.get(dim, contiguous)))
    for dim, size in variable.sizes.items():
        wanted = BLOCK / (math.prod(lengths.values()) * variable.dtype.itemsize)
        lengths[dim] = min(size, lengths[dim] * max(1, int(wanted)))
    spans = []
    for dim, size in variable.sizes.items():
        starts = range(0, size, max(1, lengths[dim]))
        spans.append([slice(start, min(size, start + lengths[dim])) for start in starts])
    for box in itertools.product(*spans):
        yield {str(dim): span for dim, span in zip(variable.dims, box, strict=True)}
