# SPDX-License-Identifier: Apache-2.0
"""A Zarr store that is filled piece by piece under a hidden name and put in place whole, with where
it came from.
"""

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
from sstfill.io import place
from sstfill.io.atomic import atomic_path
from sstfill.io.drain import drained
from sstfill.io.ledger import ledger_path
from sstfill.io.untrusted.documents import parse_json
from sstfill.sources.store import attributes
from sstfill.version import __version__

log = logging.getLogger(__name__)

FORMATS = (2, 3)


def check_store(out: str | os.PathLike[str], zarr_format: int, inputs: Iterable[Path] = ()) -> None:
    """Refuse before the work a target that is no ``.zarr``, holds what no import made, or holds an
    input.

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
        return  # an import, which is returned as it is where it is the same, and else refused
    place.check(target, inputs)


def is_made(
    out: str | os.PathLike[str], zarr_format: int, made: str, options: Mapping[str, Any]
) -> bool:
    """Whether `out` is there, made by the same import with the same options; `WriteError` if it is
    anything else.
    """
    target = Path(out)
    held = _import_of(target)
    if held is None:
        return False
    wanted = json.loads(
        json.dumps({"made": made, **options, "zarr_format": zarr_format}, default=str)
    )
    different = [key for key in wanted if held.get(key) != wanted[key]]
    if different:
        k = different[0]
        raise WriteError(
            f"{target} was made by another import ({k}: {held.get(k)!r} there, {wanted[k]!r} here); "
            "choose another name, or remove it"
        )
    log.info("%s is there already, made from the same with the same options", target)
    return True


def _import_of(target: Path) -> dict[str, Any] | None:
    """What a store was imported from and how, None where there is none; `WriteError` for a store of
    something else.
    """
    if ledger_path(target).exists():
        raise WriteError(
            f"cannot write {target}: a download into it is under way ({ledger_path(target).name} is "
            "beside it); choose another name, or remove both"
        )
    attrs = attributes(target)
    if attrs is None:
        return None
    held: Any = None
    with contextlib.suppress(ReadError):
        held = parse_json(str(attrs.get("sstfill_import", "null")), target, remedy="")
    last = str(attrs.get("history", "")).rpartition("\n")[
        2
    ]  # of a filled copy this tells something else
    imported = isinstance(held, dict) and "made" in held and last.endswith(f": {held['made']}")
    if "sstfill_request" in attrs or not imported:
        raise WriteError(
            f"cannot write {target}: it is a Zarr store of something else; choose another name, or remove "
            "it"
        )
    return {**held, "zarr_format": 2 if (target / ".zgroup").is_file() else 3}


@contextlib.contextmanager
def whole_store(out: str | os.PathLike[str], zarr_format: int) -> Iterator[Path]:
    """Yield a hidden path to build a Zarr store at; it takes the place of `out` when the body ends
    without an error.

    With an `OSError` of the body it is removed only when nothing is being written to it any more.
    """
    with atomic_path(out, replaces=place.check_replaceable) as temporary, drained():
        yield temporary
        if zarr_format == 2:  # version 3 has no consolidated metadata yet
            import zarr

            zarr.consolidate_metadata(temporary)


def provenance(
    source: str, made: str, options: Mapping[str, Any], history: str = ""
) -> dict[str, str]:
    """Global attributes that say what a store was made from, with which options, by what and when
    (UTC).
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = f"{now} sstfill {__version__}: {made}"
    return {
        "source": source,
        "date_created": now,
        "sstfill_version": __version__,
        "sstfill_import": json.dumps({"made": made, **options}, default=str),
        "history": f"{history}\n{line}" if history else line,
    }
