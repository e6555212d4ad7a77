# SPDX-License-Identifier: Apache-2.0
"""Zarr stores of imports: written under a hidden name, put in place whole, with provenance."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sstfill.errors import OptionError, ReadError, WriteError
from sstfill.io.ledger import ledger_path
from sstfill.io.output import place
from sstfill.io.output.atomic import atomic_path
from sstfill.io.output.drain import drained
from sstfill.io.untrusted.documents import parse_json
from sstfill.sources.store import attributes
from sstfill.version import __version__

log = logging.getLogger(__name__)

FORMATS = (2, 3)


def check_store(out: str | os.PathLike[str], zarr_format: int, inputs: Iterable[Path] = ()) -> None:
    """Refuse before the work a target that an import cannot write.

    It is not called ``.zarr``, it holds something that no import made, or it holds an input.

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
    for given in inputs:
        place.check_apart(target, given)
    _import_of(target)
    if target.is_dir() and any(target.iterdir()):
        return  # an earlier import, which `is_made` compares
    place.check(target, inputs)


def is_made(
    out: str | os.PathLike[str], zarr_format: int, made: str, options: Mapping[str, Any]
) -> bool:
    """Whether `out` exists, made by the same import with the same options.

    Raises
    ------
    WriteError
        It is another import, or something else.
    """
    target = Path(out)
    earlier = _import_of(target)
    if earlier is None:
        return False
    wanted = {"made": made, **options, "zarr_format": zarr_format}
    # through JSON, as the store has them: tuples become lists, paths text
    for key, value in json.loads(json.dumps(wanted, default=str)).items():
        if earlier.get(key) != value:
            raise WriteError(
                f"{target} was made by another import ({key}: {earlier.get(key)!r} there, "
                f"{value!r} here); choose another name, or remove it"
            )
    log.info("%s is there already, made from the same with the same options", target)
    return True


def _import_of(target: Path) -> dict[str, Any] | None:
    """Return what a store was imported from and how; None if there is no store.

    Raises
    ------
    WriteError
        The store was not imported, or a download into it is under way.
    """
    ledger = ledger_path(target)
    if ledger.exists():
        raise WriteError(
            f"cannot write {target}: a download into it is under way ({ledger.name} is beside it); "
            "choose another name, or remove both"
        )
    attrs = attributes(target)
    if attrs is None:
        return None
    options: Any = None
    with contextlib.suppress(ReadError):
        options = parse_json(str(attrs.get("sstfill_import", "null")), target, remedy="")
    # a filled copy keeps the attribute, but its history ends with the fill
    last = str(attrs.get("history", "")).rpartition("\n")[2]
    imported = isinstance(options, dict) and "made" in options
    # a store with a request was downloaded
    if "sstfill_request" in attrs or not imported or not last.endswith(f": {options['made']}"):
        raise WriteError(
            f"cannot write {target}: it is a Zarr store of something else; choose another name, "
            "or remove it"
        )
    zarr_format = 3
    # the options do not hold the format; Zarr v2 alone has this file
    if (target / ".zgroup").is_file():
        zarr_format = 2
    return {**options, "zarr_format": zarr_format}


@contextlib.contextmanager
def whole_store(out: str | os.PathLike[str], zarr_format: int) -> Iterator[Path]:
    """Yield a hidden path to build a Zarr store at; it replaces `out` if the body succeeds.

    If the body fails, it is removed as soon as nothing is being written to it any more.
    """
    with atomic_path(out, replaces=place.check_replaceable) as temporary, drained():
        yield temporary
        if zarr_format == 2:  # version 3 has no consolidated metadata yet
            import zarr

            zarr.consolidate_metadata(temporary)


def provenance(
    source: str, made: str, options: Mapping[str, Any], history: str = ""
) -> dict[str, str]:
    """Return global attributes: what a store was made from, how, by what and when (UTC)."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = f"{now} sstfill {__version__}: {made}"
    if history:
        line = f"{history}\n{line}"
    return {
        "source": source,
        "date_created": now,
        "sstfill_version": __version__,
        "sstfill_import": json.dumps({"made": made, **options}, default=str),
        "history": line,
    }
