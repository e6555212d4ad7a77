# SPDX-License-Identifier: Apache-2.0
"""Open a NetCDF file or a Zarr store, told by content, with missing values as NaN."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import xarray as xr

from sstfill import grid
from sstfill.errors import ReadError, SstfillError
from sstfill.io.ghrsst import keep_quality, unflagged
from sstfill.io.missing import mask_missing
from sstfill.io.netcdf3 import expected_size
from sstfill.io.place import MARK
from sstfill.io.seam import from_backend, one_line

HDF5 = b"\x89HDF\r\n\x1a\n"
ZARR_MARKS = (".zmetadata", ".zgroup", ".zattrs", ".zarray", "zarr.json")
NOT_DATA = {
    b"\x1f\x8b": "it is gzip-compressed; gunzip it first",
    b"PK\x03\x04": "it is a zip archive; unzip it first",
    b"GRIB": "it is GRIB; convert it to NetCDF first",
    b"\x0e\x03\x13\x01": "it is HDF4; convert it to NetCDF first",
    b"<": "it is a web page or XML, often a failed download; fetch it again",
}


def open(
    path: str | os.PathLike[str],
    *,
    variables: str | Sequence[str] | None = None,
    quality_level: int | None = None,
    l2p_flags: str | Sequence[str] | None = None,
    chunks: int | str | Mapping[str, int | str] | None = None,
) -> xr.Dataset:
    """Open a gridded series: NetCDF 3 or 4, or a Zarr v2 or v3 folder, whatever its name.

    Values equal to a declared fill or missing value, or outside the declared valid range, are NaN in the fields.

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

    Raises
    ------
    ReadError
        Missing, empty, truncated, not NetCDF or Zarr; a download that is not finished.
    InputError, OptionError
        Quality or flags asked for that the file does not hold; an unknown variable or flag.
    """
    location = Path(path)
    with reading(location), warnings.catch_warnings():
        warnings.simplefilter("ignore", xr.SerializationWarning)  # several fill values: all are decoded to NaN
        stored = _open(location, chunks)
        try:
            _check_finished(stored, location)
            stored.attrs.pop(MARK, None)  # it tells of this very file, and of nothing made from it
            return _prepared(stored, variables, quality_level, l2p_flags)
        except BaseException:
            stored.close()
            raise


def _check_finished(ds: xr.Dataset, path: Path) -> None:
    """Refuse a store that sstfill.sources has laid out and not filled yet: what is to come would pass for gaps."""
    if path.is_dir() and ds.attrs.get("sstfill_state") == "incomplete":
        raise ReadError(f"cannot read {path}: it is an unfinished download; run the same `sstfill download` again")


def _prepared(
    ds: xr.Dataset,
    variables: str | Sequence[str] | None,
    quality_level: int | None,
    l2p_flags: str | Sequence[str] | None,
) -> xr.Dataset:
    close = ds.close
    ds = ds.set_coords([n for n in ds.data_vars if _is_position(ds[n])])
    if variables is not None:
        ds = ds.drop_vars(set(grid.candidates(ds)) - set(grid.pick(ds, variables)))
    ds = mask_missing(ds)
    fields = grid.candidates(ds)
    if quality_level is not None:
        ds = keep_quality(ds, fields, quality_level)
    if l2p_flags is not None:
        ds = unflagged(ds, fields, l2p_flags)
    ds.set_close(close)
    return ds


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn failures of the storage libraries into one-line `ReadError`s; use it also where lazy values are computed.

    >>> with reading("sst.nc"):
    ...     raise RuntimeError("NetCDF: HDF error")
    Traceback (most recent call last):
    ...
    sstfill.errors.ReadError: cannot read sst.nc: NetCDF: HDF error; it is damaged or cut short, fetch it again
    """
    try:
        yield
    except SstfillError:
        raise
    except Exception as error:
        if not from_backend(error):
            raise
        raise _read_error(path, error) from error


def _read_error(path: str | os.PathLike[str], error: Exception) -> ReadError:
    name = os.fspath(path)
    if isinstance(error, PermissionError):
        return ReadError(f"cannot read {name}: permission denied; ask its owner, or chmod +r it")
    if "decode" in str(error) and isinstance(error, ValueError | OverflowError):
        return ReadError(f"cannot read {name}: {one_line(error)}; mend its time units, or open it with "
                         "xarray.open_dataset(decode_times=False) and set time")  # fmt: skip
    return ReadError(f"cannot read {name}: {one_line(error)}; it is damaged or cut short, fetch it again")


def _open(path: Path, chunks: int | str | Mapping[str, int | str] | None) -> xr.Dataset:
    engine = _engine(path)
    options = {"consolidated": _is_consolidated(path)} if engine == "zarr" else {}
    return xr.open_dataset(path, engine=engine, chunks=chunks, decode_timedelta=False, **options)  # type: ignore[arg-type]


def _is_consolidated(path: Path) -> bool:
    """Whether a store has a copy of all its metadata in one file, which shows it as it was when that was written."""
    if (path / ".zmetadata").is_file():
        return True
    try:
        found = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or damaged, which opening it tells
        return False
    return isinstance(found, dict) and found.get("consolidated_metadata") is not None


def _engine(path: Path) -> str:
    """Name of the xarray engine for a path, by content; `ReadError` says what else it is."""
    try:
        if path.is_dir():
            return _zarr_engine(path)
        return _file_engine(path)
    except FileNotFoundError as error:
        remote = "://" in os.fspath(path) or ":/" in os.fspath(path)
        raise ReadError(f"cannot read {path}: {'download it first' if remote else 'no such file; check the name'}"
                        ) from error  # fmt: skip
    except PermissionError as error:
        raise _read_error(path, error) from error
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror or error}; check the path") from error


def _zarr_engine(path: Path) -> str:
    if not any((path / mark).is_file() for mark in ZARR_MARKS):
        raise ReadError(f"cannot read {path}: a folder, but no Zarr store; give the store or a NetCDF file in it")
    return "zarr"


def _file_engine(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        offsets = [0, *(2**k for k in range(9, 22))]  # an HDF5 file may begin after a block of the user's
        hdf5 = any(stream.seek(o) == o and stream.read(8) == HDF5 for o in offsets if o < size)
    if size == 0:
        raise ReadError(f"cannot read {path}: it is empty, often a failed download; fetch it again")
    if hdf5:
        return "netcdf4"
    if head[:3] == b"CDF" and head[3:4] in (b"\x01", b"\x02", b"\x05"):
        _check_classic(path, size)
        return "netcdf4"
    hint = next(
        (h for mark, h in NOT_DATA.items() if head.startswith(mark)), f"it begins with {head!r}; check the name"
    )
    raise ReadError(f"cannot read {path}: neither NetCDF nor Zarr; {hint}")


def _check_classic(path: Path, size: int) -> None:
    try:
        promised = expected_size(path)
    except ValueError as error:
        raise ReadError(f"cannot read {path}: {error}; fetch it again") from error
    if size < promised:
        raise ReadError(f"cannot read {path}: cut short, {size} of {promised} bytes; fetch it again")


def _is_position(da: xr.DataArray) -> bool:
    """Whether a variable is a latitude or longitude that its file does not declare as a coordinate."""
    named = str(da.name).lower() in (*grid.LAT, *grid.LON)
    return da.dtype.kind == "f" and 0 < da.ndim <= 2 and (
        named or da.attrs.get("standard_name") in ("latitude", "longitude")
    )  # fmt: skip
