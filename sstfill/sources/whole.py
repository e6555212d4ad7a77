# SPDX-License-Identifier: Apache-2.0
"""A Zarr store that is filled piece by piece under a hidden name and put in place whole, with where it came from."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zarr

from sstfill.errors import OptionError, WriteError
from sstfill.io.atomic import atomic_path
from sstfill.io.read import ZARR_MARKS
from sstfill.version import __version__

FORMATS = (2, 3)


def check_store(out: str | os.PathLike[str], zarr_format: int, inputs: Iterable[Path] = ()) -> None:
    """Refuse before the work a target that is no ``.zarr``, holds something else, or holds an input.

    >>> check_store("kth.nc", 3)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: cannot write 'kth.nc' as Zarr; end its name with .zarr
    """
    target = Path(out)
    if zarr_format not in FORMATS or isinstance(zarr_format, bool):
        raise OptionError(f"zarr_format={zarr_format!r}; choose from 2, 3")
    if target.suffix.lower() != ".zarr":
        raise OptionError(f"cannot write {target.name!r} as Zarr; end its name with .zarr")
    if not target.resolve().parent.is_dir():
        raise WriteError(f"cannot write {target}: folder {target.resolve().parent} does not exist; create it: mkdir -p")
    if target.is_file():
        raise WriteError(f"cannot write {target}: it is a file; remove it or choose another name")
    if target.is_dir() and any(target.iterdir()) and not any((target / mark).is_file() for mark in ZARR_MARKS):
        raise WriteError(f"cannot write {target}: that folder holds something else than a Zarr store; choose another")
    within = target.resolve()
    if any(within in (path := given.resolve(), *path.parents) for given in inputs):
        raise WriteError(f"cannot write {target}: it holds an input; choose another output name")


@contextlib.contextmanager
def whole_store(out: str | os.PathLike[str], zarr_format: int) -> Iterator[Path]:
    """Yield a hidden path to build a Zarr store at; it takes the place of `out` when the body ends without an error."""
    with atomic_path(out) as temporary:
        yield temporary
        if zarr_format == 2:  # version 3 has no consolidated metadata yet
            zarr.consolidate_metadata(temporary)


def provenance(source: str, made: str, options: Mapping[str, Any], history: str = "") -> dict[str, str]:
    """Global attributes that say what a store was made from, with which options, by what and when (UTC)."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = f"{now} sstfill {__version__}: {made}"
    return {
        "source": source,
        "date_created": now,
        "sstfill_version": __version__,
        "sstfill_import": json.dumps({"made": made, **options}, default=str),
        "history": f"{history}\n{line}" if history else line,
    }
