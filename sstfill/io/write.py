# SPDX-License-Identifier: Apache-2.0
"""Write a dataset to NetCDF-4 or Zarr, whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import dask
import dask.system
import xarray as xr

from sstfill.errors import OptionError, ReadError, WriteError
from sstfill.io.atomic import atomic_path, fail
from sstfill.io.encoding import stored
from sstfill.io.packing import DoesNotFit
from sstfill.io.read import ZARR_MARKS
from sstfill.io.seam import from_backend, one_line, while_reading

log = logging.getLogger(__name__)

SUFFIXES = (".nc", ".nc4", ".cdf", ".zarr")

StrPath = str | os.PathLike[str]


def write(ds: xr.Dataset, path: StrPath, *, source: StrPath | Iterable[StrPath] | None = None) -> None:
    """Write `ds` beside `path` under a hidden name, then move it in place; Dask blocks are written one by one.

    Packed variables keep their packing, and observed values their stored integers. A value that would wrap or turn
    into a gap widens the packing (int32, then floats) with a logged warning and a note in ``comment``.

    Parameters
    ----------
    ds
        Dataset to write.
    path
        ``.nc``, ``.nc4`` or ``.cdf`` for NetCDF-4, ``.zarr`` for a Zarr v3 folder. An earlier output is replaced.
    source
        Input path or paths, which the output must not overwrite.

    Raises
    ------
    WriteError
        No such folder, no permission, no space, not storable, or `path` is an input; what was there stays.
    OptionError
        Another suffix.
    ReadError
        Lazy values that cannot be read from their own file.
    """
    target = Path(path)
    zarr = _is_zarr(target)
    try:
        _check_target(target, zarr)
        _check_source(target, source)
    except OSError as error:
        fail(target, error)
    refusals: dict[str, list[str]] = {}
    while not _attempt(ds, target, zarr, refusals):
        pass  # each refusal is one step down a ladder of at most three


def _attempt(ds: xr.Dataset, target: Path, zarr: bool, refusals: dict[str, list[str]]) -> bool:
    try:
        with atomic_path(target) as temporary, _drained(ds):
            _put(stored(ds, refusals, zarr=zarr), temporary, zarr, ds)
    except DoesNotFit as misfit:
        name, reason = misfit.args
        refusals.setdefault(name, []).append(reason)
        log.warning("%s: values of %s %s; it is stored in a wider form", target, name, reason)
        return False
    except (RuntimeError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        if not from_backend(error):
            raise
        if while_reading(error):
            raise ReadError(f"cannot write {target}: its input cannot be read: {one_line(error)}; "
                            "fetch the input again") from error  # fmt: skip
        raise WriteError(f"cannot write {target}: {one_line(error)}; "
                         "check the free space, names and attributes") from error  # fmt: skip
    return True


class _Pool(ThreadPoolExecutor):
    """Threads that know what they have under way."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.pending: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.pending.add(future)
        future.add_done_callback(self.pending.discard)
        return future


@contextlib.contextmanager
def _drained(ds: xr.Dataset) -> Iterator[None]:
    """Let blocks under way finish before their target is removed: Dask raises as soon as one of them fails."""
    if not any(v.chunks for v in ds.variables.values()) or dask.config.get("pool", None) is not None:
        yield
        return
    pool = _Pool(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)
    try:
        with dask.config.set(pool=pool):
            yield
    finally:
        wait(list(pool.pending))  # not shut down: another thread may have met it in Dask's settings


def _put(ds: xr.Dataset, temporary: Path, zarr: bool, original: xr.Dataset) -> None:
    if zarr:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification")  # text labels
            ds.to_zarr(temporary, mode="w-", zarr_format=3, consolidated=False)
        return
    growing = [d for d in original.encoding.get("unlimited_dims", ()) if d in ds.dims]
    ds.to_netcdf(temporary, engine="netcdf4", format="NETCDF4", unlimited_dims=growing)


def _is_zarr(target: Path) -> bool:
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(f"cannot tell a format from {target.name!r}; end it with {', '.join(SUFFIXES)}")
    return suffix == ".zarr"


def _check_target(target: Path, zarr: bool) -> None:
    """Refuse to replace a folder by a file, a file by a folder, or a folder that is no Zarr store."""
    if not zarr and target.is_dir():
        raise WriteError(f"cannot write {target}: it is a folder; give a file name in it, or end it with .zarr")
    if zarr and target.is_file():
        raise WriteError(f"cannot write {target}: it is a file; remove it or choose another name")
    if zarr and target.is_dir() and any(target.iterdir()) and not any((target / m).is_file() for m in ZARR_MARKS):
        raise WriteError(f"cannot write {target}: that folder holds something else than a Zarr store; choose another")


def _check_source(target: Path, source: StrPath | Iterable[StrPath] | None) -> None:
    paths = [source] if isinstance(source, str | os.PathLike) else list(source or ())
    for path in map(Path, paths):
        if path.exists() and target.exists() and path.samefile(target):
            raise WriteError(f"cannot write {target}: it is the input itself; choose another output name")
