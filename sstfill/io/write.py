# SPDX-License-Identifier: Apache-2.0
"""Write a dataset to NetCDF-4 or Zarr, whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import xarray as xr

from sstfill.errors import OptionError, ReadError, WriteError
from sstfill.io.attributes import FAILURES, check_storable, storable
from sstfill.io.encoding import stored
from sstfill.io.error_origin import from_backend, one_line, while_reading
from sstfill.io.output import place
from sstfill.io.output.atomic import atomic_path, begin_work, fail
from sstfill.io.output.drain import drained
from sstfill.io.output.lock import OutputLock
from sstfill.io.packing import DoesNotFit

log = logging.getLogger(__name__)

SUFFIXES = (".nc", ".nc4", ".cdf", ".zarr")

StrPath = str | os.PathLike[str]


def write(
    ds: xr.Dataset, path: StrPath, *, source: StrPath | Iterable[StrPath] | None = None
) -> None:
    """Write a dataset under a hidden name, then move it in place; Dask blocks go one by one.

    Packed variables keep their packing, and observed values their stored integers. A value that
    would wrap or turn into a gap widens the packing (int32, then floats), and one outside the valid
    range removes that, with a logged warning and a note in ``comment``. A valid range is written in
    the type and the units of what is stored.

    Parameters
    ----------
    ds
        Dataset to write.
    path
        ``.nc``, ``.nc4`` or ``.cdf`` for NetCDF-4, ``.zarr`` for a Zarr v3 folder. An earlier
        output of sstfill is replaced, nothing else (see `sstfill.io.output.place`).
    source
        Input path or paths, which the output must not overwrite.

    Raises
    ------
    WriteError
        No such folder, no permission, no space, not storable; `path` is an input, or something that
        sstfill did not make; another process is writing it. What was there stays.
    OptionError
        Another suffix.
    ReadError
        Lazy values that cannot be read from their own file.
    """
    with claimed(path, source=source) as output:
        output.write(ds)


@contextlib.contextmanager
def claimed(
    path: StrPath, *, source: StrPath | Iterable[StrPath] | None = None
) -> Iterator[Output]:
    """Check that an output can be written, and reserve it while the work for it is done.

    A Zarr output is locked, as an archive job locks it. If another process wrote the output in the
    meantime all the same, that is not replaced.

    Parameters
    ----------
    path, source
        As in `write`.

    Raises
    ------
    OptionError, WriteError
        As in `write`, before the work.
    """
    target = Path(path)
    zarr = _is_zarr(target)
    given = [source] if isinstance(source, str | os.PathLike) else list(source or ())
    begin_work()
    with contextlib.ExitStack() as stack:
        try:
            place.check(target, given)
            if zarr:
                stack.enter_context(OutputLock(place.resolved(target)))
            output = Output(target, zarr, given, place.identity(target))
        except OSError as error:
            fail(target, error)
        yield output


class Output:
    """An output that is reserved for this process, see `claimed`."""

    def __init__(
        self, target: Path, zarr: bool, source: list[StrPath], before: tuple[int, ...]
    ) -> None:
        self.target = target
        self._zarr, self._source, self._before = zarr, source, before

    def check(self, ds: xr.Dataset) -> None:
        """Refuse before the work a dataset that the format cannot hold."""
        check_storable(ds, self.target, zarr=self._zarr)

    def write(self, ds: xr.Dataset) -> None:
        """Write `ds`, whole or not at all, see `write`."""
        ready = storable(ds, zarr=self._zarr)
        refusals: dict[str, list[str]] = {}
        while not _attempt(ready, self, self._zarr, refusals):
            pass  # each refusal is one step down a ladder of at most four
        self._before = place.identity(self.target)

    def check_unchanged(self, final: Path) -> None:
        """Refuse to replace anything but the output that was there when the work began."""
        for given in self._source:
            place.check_apart(self.target, given)
        if place.identity(final) != self._before:
            raise WriteError(
                f"cannot write {self.target}: another process has written it since this run began; "
                "what it wrote is kept: choose another output name, and run again"
            )
        place.check_replaceable(final)


def _attempt(ds: xr.Dataset, output: Output, zarr: bool, refusals: dict[str, list[str]]) -> bool:
    target = output.target
    try:
        with atomic_path(target, replaces=output.check_unchanged) as temporary, drained(ds):
            _put(stored(ds, refusals, zarr=zarr), temporary, zarr, ds)
    except DoesNotFit as misfit:
        name, reason = misfit.args
        refusals.setdefault(name, []).append(reason)
        log.warning("%s: values of %s %s; it is stored in another form", target, name, reason)
        return False
    except FAILURES as error:
        if not from_backend(error):
            raise
        if while_reading(error):
            raise ReadError(
                f"cannot write {target}: its input cannot be read: {one_line(error)}; "
                "fetch the input again"
            ) from error
        raise WriteError(
            f"cannot write {target}: {one_line(error)}; check the free space, names and attributes"
        ) from error
    return True


def _put(ds: xr.Dataset, temporary: Path, zarr: bool, original: xr.Dataset) -> None:
    if zarr:
        with warnings.catch_warnings():
            # of text labels
            warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification")
            ds.to_zarr(temporary, mode="w-", zarr_format=3, consolidated=False)
        place.mark_store(temporary)
        return
    growing = [d for d in original.encoding.get("unlimited_dims", ()) if d in ds.dims]
    ds.to_netcdf(temporary, engine="netcdf4", format="NETCDF4", unlimited_dims=growing)
    place.mark_netcdf(temporary)


def _is_zarr(target: Path) -> bool:
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(
            f"cannot tell a format from {target.name!r}; end it with {', '.join(SUFFIXES)}"
        )
    return suffix == ".zarr"
