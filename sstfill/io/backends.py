# SPDX-License-Identifier: Apache-2.0
"""The backends of xarray, with what stands for missing values declared before it is decoded.

NetCDF's default fill values and the fill values and absent chunks of Zarr arrays are missing values
that no attribute declares, so xarray takes them for data (pydata/xarray#2742, #5475).
"""

from __future__ import annotations

import functools
import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint, NetCDF4DataStore, ZarrStore
from xarray.backends.store import StoreBackendEntrypoint
from xarray.backends.zarr import FillValueCoder
from xarray.core import indexing

from sstfill.fields.reading.sentinels import (
    FLAGS,
    PACKING,
    TAKEN,
    ZARR_FILL,
    declare,
    default_fill,
    numbers_in,
    sentinels,
    viewed,
)
from sstfill.io.output.place import MARK
from sstfill.printable import printable

log = logging.getLogger(__name__)

DECODERS = (
    "drop_variables",
    "mask_and_scale",
    "decode_times",
    "concat_characters",
    "decode_coords",
    "use_cftime",
    "decode_timedelta",
)


@functools.lru_cache(maxsize=1000)
def _say(path: str, text: str) -> None:
    """Log once what was mended in a file, however often it is opened."""
    log.warning("%s: %s", path, printable(text))


class _NetCDFStore(NetCDF4DataStore):
    def open_store_variable(self, name: str, var: Any) -> xr.Variable:
        variable, notes = declare(super().open_store_variable(name, var))
        for note in notes:
            _say(str(self._filename), f"variable {name!r}: {note}")
        return variable


class _ZarrStore(ZarrStore):
    def open_store_variable(self, name: str) -> xr.Variable:
        variable = super().open_store_variable(name)
        array: Any = self.members[name]
        kept = _put_right(variable, array)
        if variable.dtype.kind not in "iuf":
            return variable
        undeclared = None
        left_at_zero = "_FillValue" not in array.attrs and variable.attrs.get("_FillValue") == 0
        has_none = "_FillValue" not in variable.attrs or left_at_zero
        if has_none and not set(FLAGS) & set(variable.attrs):
            # flags excepted: each of their numbers may have a meaning, 0 too
            undeclared = array.fill_value
        absent = None
        # a store that sstfill made misses no chunk but those that hold one value
        if MARK not in self.zarr_group.attrs and variable.ndim > 2:
            absent = _absent_chunks(variable, array, undeclared)
        if absent is not None:
            variable = absent.within(variable)
        count = 0 if absent is None else absent.count
        variable, notes = declare(variable, undeclared, count, kept)
        if array.metadata.zarr_format == 2 and "_FillValue" not in array.attrs:
            _name_origin(variable)
        for note in notes:
            _say(str(array.store_path), note)
        return variable


def _put_right(variable: xr.Variable, array: Any) -> Any:
    """Put ``_FillValue`` right, which xarray was made to take from the array; return what is kept.

    Format 3 keeps them apart. In format 2 the fill value of the array is ``_FillValue`` where
    xarray wrote it, and null where there is none. But other makers leave the 0 of Zarr. In floats,
    and beside a missing value of their own, that is as good a value as any; of whole numbers it is
    taken as xarray takes it.
    """
    own = variable.attrs.pop("_FillValue", None)
    if array.metadata.zarr_format == 3:
        variable.encoding["fill_value"] = array.fill_value
    if "_FillValue" in array.attrs:
        declared = array.attrs["_FillValue"]
        if numbers_in(declared) is None:  # as xarray codes it in JSON
            declared = FillValueCoder.decode(declared, array.dtype)
        variable.attrs["_FillValue"] = declared
    elif array.metadata.zarr_format == 2 and own is not None:
        if own == 0 and (variable.dtype.kind == "f" or "missing_value" in array.attrs):
            return own
        variable.attrs["_FillValue"] = own
    return None


def _name_origin(variable: xr.Variable) -> None:
    """Let the account tell that ``_FillValue`` is the fill value of the array, or Zarr's own 0."""
    taken, named = variable.encoding[TAKEN], []
    for sentinel in taken.sentinels:
        if sentinel.rule == "_FillValue":
            meant = bool(sentinel.number != 0)
            sentinel = replace(sentinel, rule=ZARR_FILL, declared=meant)
        named.append(sentinel)
    variable.encoding[TAKEN] = replace(taken, sentinels=tuple(named))


class AbsentChunks(BackendArray):
    """A stored array in which the values of chunks that a Zarr store does not hold are missing.

    Parameters
    ----------
    inner
        The stored array.
    present
        Which chunks the store holds, along each dimension.
    chunk
        Lengths of a chunk.
    number
        What stands for missing in the stored numbers.
    """

    def __init__(
        self, inner: Any, present: NDArray[np.bool_], chunk: tuple[int, ...], number: Any
    ) -> None:
        self._inner, self._present, self._chunk, self._number = inner, present, chunk, number
        self.shape: tuple[int, ...] = inner.shape
        self._meant = inner.dtype
        self.dtype = np.dtype(np.asarray(number).dtype)

    @property
    def count(self) -> int:
        """Number of values in absent chunks."""
        lengths = []
        for axis, size in enumerate(self.shape):
            starts = np.arange(self._present.shape[axis]) * self._chunk[axis]
            # the last chunk is cut off by the end of the array
            lengths.append(np.minimum(self._chunk[axis], size - starts))
        sizes = functools.reduce(np.multiply.outer, lengths)
        return int(sizes[~self._present].sum())

    def within(self, variable: xr.Variable) -> xr.Variable:
        """Return `variable` with the values of this array."""
        attrs = dict(variable.attrs)
        if self.dtype.itemsize > variable.dtype.itemsize:  # a wider type needs no sign bit
            self._meant = viewed(variable.dtype, attrs)
            attrs.pop("_Unsigned", None)
        data = indexing.LazilyIndexedArray(self)
        return xr.Variable(variable.dims, data, attrs, variable.encoding)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Read values, lazily as xarray asks for them."""
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray:
        basic = all(isinstance(k, int | np.integer | slice) for k in key)
        kind = indexing.BasicIndexer if basic else indexing.OuterIndexer
        values = np.asarray(self._inner[kind(key)])
        chunks = []
        for k, size, length in zip(key, self.shape, self._chunk, strict=True):
            chunks.append(np.atleast_1d(np.arange(size)[k]) // length)
        # an integer index drops a dimension of the values, and not of this
        present = self._present[np.ix_(*chunks)].reshape(values.shape)
        # first the sign as meant, then the wider type: the other way round -6 would stay -6
        values = values.view(self._meant).astype(self.dtype, copy=False)
        if present.all():
            return values
        return np.where(present, values, self._number)


def _absent_chunks(variable: xr.Variable, array: Any, undeclared: Any) -> AbsentChunks | None:
    """Find the chunks that a store does not hold, where they would pass for values."""
    if set(FLAGS) & set(variable.attrs):
        return None
    stored, fill = variable.dtype, array.fill_value
    known = sentinels(stored, variable.attrs, undeclared)
    if fill is not None and (np.isnan(fill) or any(s.number == fill for s in known)):
        return None
    if stored.kind != "f" and not known and not set(PACKING) & set(variable.attrs):
        return None  # whole numbers without gaps
    present, lengths = _present(array)
    if present.all():
        return None
    if stored.kind == "f":
        number: Any = stored.type(np.nan)
    elif known:
        number = np.asarray(known[0].number).view(stored)[()]
    else:
        number = default_fill(np.dtype(np.int16))  # one byte has no number to spare
    data: Any = variable._data
    return AbsentChunks(data.array, present, lengths, number)


def _present(array: Any) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """List which chunks of an array a store holds, and their lengths.

    Where chunks lie in shards, the index of each shard tells, if its coding is the usual one.
    """
    folder = Path(array.store.root, array.path)
    lengths = tuple(array.shards or array.chunks)
    counts = []
    for size, length in zip(array.shape, lengths, strict=True):
        counts.append(math.ceil(size / length))
    files: dict[tuple[int, ...], Path] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            # c/0/1 or 0.1: the numbers are those of the chunk
            where = os.path.relpath(Path(place, name), folder)
            numbers = tuple(map(int, re.findall(r"\d+", where)))
            if len(numbers) == array.ndim and all(map(int.__lt__, numbers, counts)):
                files[numbers] = Path(place, name)
    present = np.zeros(counts, bool)
    for numbers in files:
        present[numbers] = True
    if array.shards is None or not _is_usual(array):
        return present, lengths
    return _in_shards(array, files, counts), tuple(array.chunks)


def _is_usual(array: Any) -> bool:
    """Whether the index of the shards of an array is coded as Zarr does by default."""
    (codec,) = array.metadata.codecs if len(array.metadata.codecs) == 1 else (None,)
    if codec is None:
        return False
    coded = codec.to_dict()["configuration"]["index_codecs"]
    names = [dict(index)["name"] for index in coded]
    return names == ["bytes", "crc32c"] and coded[0]["configuration"]["endian"] == "little"


def _in_shards(
    array: Any, files: Mapping[tuple[int, ...], Path], counts: list[int]
) -> NDArray[np.bool_]:
    """List which chunks lie in the shards.

    Index: offset and length of each chunk, 8 bytes each, both 2**64 - 1 for an absent one; then a
    checksum of 4 bytes (Zarr v3, codec "sharding_indexed").
    """
    (codec,) = array.metadata.codecs
    inside = [shard // chunk for shard, chunk in zip(array.shards, array.chunks, strict=True)]
    present = np.zeros([n * k for n, k in zip(counts, inside, strict=True)], bool)
    size = 16 * math.prod(inside)
    at_end = str(codec.index_location.value) == "end"
    for numbers, file in files.items():
        with file.open("rb") as stream:
            # only the index is read: some bytes of a shard that may have gigabytes
            stream.seek(*(-(size + 4), os.SEEK_END) if at_end else (0, os.SEEK_SET))
            index = np.frombuffer(stream.read(size), "<u8").reshape(*inside, 2)
        there = (index != np.iinfo(np.uint64).max).any(axis=-1)
        box = []
        for number, count in zip(numbers, inside, strict=True):
            box.append(slice(number * count, (number + 1) * count))
        present[tuple(box)] = there
    needed = []
    for length, chunk in zip(array.shape, array.chunks, strict=True):
        needed.append(math.ceil(length / chunk))
    return present[tuple(map(slice, needed))]


class _Backend(BackendEntrypoint):
    open_dataset_parameters: ClassVar[tuple[str, ...]] = DECODERS

    def _decoded(self, store: Any, decoders: Mapping[str, Any]) -> xr.Dataset:
        try:
            return StoreBackendEntrypoint().open_dataset(store, **decoders)
        except BaseException:
            store.close()
            raise


class NetCDF(_Backend):
    """NetCDF files, with what stands for missing values declared."""

    def open_dataset(
        self, filename_or_obj: Any, *, group: str | None = None, **decoders: Any
    ) -> xr.Dataset:
        """Open a file as xarray's own backend does."""
        store = _NetCDFStore.open(filename_or_obj, group=group)
        with store._manager.acquire_context():
            return self._decoded(store, decoders)


class Zarr(_Backend):
    """Zarr folders, with what stands for missing values declared."""

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        group: str | None = None,
        consolidated: bool = False,
        **decoders: Any,
    ) -> xr.Dataset:
        """Open a folder as xarray's own backend does."""
        store = _ZarrStore.open_group(
            filename_or_obj,
            group=group,
            consolidated=consolidated,
            use_zarr_fill_value_as_mask=True,
        )
        return self._decoded(store, decoders)


BACKENDS = {"netcdf4": NetCDF, "zarr": Zarr}
