# SPDX-License-Identifier: Apache-2.0
"""Decide whether a path may be written, and whether what lies there may be replaced.

Every writer asks here twice: before the work, and again at the moment of the replace. Only what
sstfill made is replaced, which a mark in the output tells:

- A Zarr store has the global attribute ``sstfill_output``, a digest of the metadata of its arrays and, but for an
  archive that grows, of the names, sizes and first bytes of its chunks. A copy that somebody
  altered inherits the attribute and not the digest. Nothing else may lie in the store: each file is
  a metadata document, or a chunk of an array of the root group.
- A NetCDF file has the same attribute, a digest of its variables, with the size of the file.
- A picture, a JSON document and a table say so in their own way, see `OURS`.

Outputs of versions before this one have no mark and are not replaced: the user removes them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from sstfill.errors import WriteError

StrPath = str | os.PathLike[str]

MARK = "sstfill_output"
PICTURE = "drawn by sstfill"
"""Part of the metadata of a picture."""
DOCUMENT = "sstfill"
"""Key of a JSON document, with the version."""
TABLE = "# The paper's protocol on the data at hand"
COLUMNS = ("epoch,steps,", "data,kind,units,")
"""How the tables of a training and of the paper's protocol begin."""
ROOT = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")
ARRAY = ("zarr.json", ".zarray", ".zattrs")
NAMED = 3
"""So many of the things that are in the way are named."""
FIRST = 2**22
"""Bytes of chunks that go into the digest of a store."""
LARGEST = 2**28
"""Bytes of a picture or document of ours; a larger one is not looked into."""


def check(target: StrPath, inputs: StrPath | Iterable[StrPath] | None = None) -> None:
    """Refuse an output that cannot be written, or that would replace or hold something that is not
    sstfill's.

    Parameters
    ----------
    target
        File or Zarr store to be; a link is followed.
    inputs
        What is read for it: the output must not be one of them, lie in one, or hold one.

    Raises
    ------
    WriteError
        With what is in the way and what to do about it.
    """
    check_parent(target)
    for given in [inputs] if isinstance(inputs, str | os.PathLike) else inputs or ():
        check_apart(target, given)
    check_replaceable(target)


def check_parent(target: StrPath) -> None:
    """Refuse an output in a folder that does not exist."""
    final = resolved(target)
    if not final.parent.exists():
        raise WriteError(
            f"cannot write {target}: folder {final.parent} does not exist; create it: "
            f"mkdir -p {final.parent}"
        )
    if not final.parent.is_dir():
        raise WriteError(f"cannot write {target}: {final.parent} is a file; choose another folder")


def resolved(target: StrPath) -> Path:
    """Follow the links of a path; `WriteError` where they lead back to themselves."""
    try:
        return Path(target).resolve()
    except (RuntimeError, OSError, ValueError) as error:
        raise WriteError(
            f"cannot write {os.fspath(target)!r}: {error}; choose another name"
        ) from error


def check_apart(target: StrPath, given: StrPath, *, around: bool = False) -> None:
    """Refuse an output that is an input, lies in it, or holds it; with `around`, it may hold it."""
    final, source = resolved(target), Path(given).resolve()
    if not source.exists():
        return
    if _same(final, source):
        raise WriteError(
            f"cannot write {target}: it is the input itself; choose another output name"
        )
    if any(_same(folder, source) for folder in final.parents):
        raise WriteError(
            f"cannot write {target}: it lies in the input {given}; choose another folder"
        )
    if not around and any(_same(final, folder) for folder in source.parents):
        raise WriteError(
            f"cannot write {target}: it holds the input {given}; choose another output name"
        )


def check_replaceable(target: StrPath) -> None:
    """Refuse to replace what lies at a path unless sstfill made it and nothing else lies in it."""
    final = resolved(target)
    try:
        mode = (
            Path(target).stat().st_mode
        )  # by way of the links: those of /dev lead to paths that are not there
    except FileNotFoundError:
        return
    store = final.suffix.lower() == ".zarr"
    if stat.S_ISDIR(mode) and not store:
        raise WriteError(
            f"cannot write {target}: it is a folder; give a file name in it, or end it with .zarr"
        )
    if stat.S_ISDIR(mode):
        _check_store(final, target)
    elif not stat.S_ISREG(mode):
        raise WriteError(
            f"cannot write {target}: it is {kind_of(mode)}, not a file; choose another name"
        )
    elif store:
        raise WriteError(f"cannot write {target}: it is a file; remove it or choose another name")
    elif final.stat().st_size and not OURS.get(final.suffix.lower(), _is_any)(final):
        _refuse(target, "that file was not made by sstfill, or was changed since")


def check_regular(target: StrPath) -> None:
    """Refuse to write to a FIFO, a device or a socket, or to replace one."""
    try:
        mode = Path(target).stat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise WriteError(
            f"cannot write {target}: it is {kind_of(mode)}, not a file; choose another name"
        )


def identity(target: StrPath) -> tuple[int, ...]:
    """What tells one output from the one that another writer put in its place; empty where there is
    none.
    """
    final = resolved(target)
    found: list[int] = []
    for path in (final, final / "zarr.json"):
        if path.exists():
            held = path.stat()
            found += [
                held.st_dev,
                held.st_ino,
                *([] if path.is_dir() else [held.st_size, held.st_mtime_ns]),
            ]
    return tuple(found)


def mark_store(store: Path, *, grows: bool = False) -> None:
    """Mark a Zarr store as made by sstfill; with `grows`, chunks may be added and replaced without
    a new mark.
    """
    root = store / "zarr.json"
    document = root if root.is_file() else store / ".zattrs"
    held = json.loads(document.read_text("utf-8")) if document.is_file() else {}
    attributes = held.setdefault("attributes", {}) if document == root else held
    attributes[MARK] = _store_digest(store, grows=grows)
    document.write_text(json.dumps(held, indent=2), encoding="utf-8")


def mark_netcdf(file: Path) -> None:
    """Mark a NetCDF file as made by sstfill; its size goes into the mark, which has the same length
    for any size.
    """
    import netCDF4

    for _ in range(3):  # the first mark makes the file larger, the second has the size that remains
        mark, size = "", file.stat().st_size
        with netCDF4.Dataset(file, "a") as held:
            mark = f"{_netcdf_digest(held)}-{size:016d}"
            held.setncattr(MARK, mark)
        if file.stat().st_size == size:
            return


def _check_store(folder: Path, target: StrPath) -> None:
    members = list(itertools.islice(strangers(folder), NAMED + 1))
    if members:
        named = ", ".join(members[:NAMED]) + (", ..." if len(members) > NAMED else "")
        _refuse(
            target, f"that folder holds something else than a Zarr store that sstfill made: {named}"
        )
    if any(folder.iterdir()) and not is_our_store(folder):
        _refuse(
            target, "that Zarr store was not made as an output of sstfill, or was changed since"
        )


def is_our_store(folder: Path) -> bool:
    """Whether a Zarr store has a mark that fits its content."""
    try:
        held = json.loads((folder / "zarr.json").read_text("utf-8"))
        mark = str(held["attributes"].get(MARK, ""))
        return bool(mark) and mark == _store_digest(folder, grows=mark.endswith("grows"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def strangers(folder: Path) -> Iterator[str]:
    """Name what lies in a folder and does not belong to a Zarr store whose arrays lie in the root
    group.
    """
    for member in sorted(os.scandir(folder), key=lambda member: member.name):
        if member.is_symlink() or not member.is_dir():
            if member.is_symlink() or not member.is_file() or member.name not in ROOT:
                yield member.name
            continue
        dimensions = _dimensions(Path(member.path))
        if dimensions is None:
            yield f"{member.name}/"
        else:
            yield from _strangers_in_array(Path(member.path), member.name, dimensions)


def _strangers_in_array(folder: Path, name: str, dimensions: int) -> Iterator[str]:
    for at, folders, files in os.walk(folder, onerror=_raise):
        inside = Path(at).relative_to(folder)
        for link in [one for one in folders if (Path(at) / one).is_symlink()]:
            yield f"{name}/{inside / link}"
        for file in files:
            path = inside / file
            regular = stat.S_ISREG((Path(at) / file).lstat().st_mode)
            if not regular or not (str(path) in ARRAY or _is_chunk(path.as_posix(), dimensions)):
                yield f"{name}/{path}"


def _raise(error: OSError) -> NoReturn:
    raise error


def _dimensions(folder: Path) -> int | None:
    """Number of dimensions of the array in a folder; None where there is no array."""
    for document in ("zarr.json", ".zarray"):
        try:
            held = json.loads((folder / document).read_text("utf-8"))
            if document == "zarr.json" and held.get("node_type") != "array":
                return None
            return len(held["shape"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
    return None


def _is_chunk(path: str, dimensions: int) -> bool:
    """Whether a path in the folder of an array is the key of one of its chunks, as Zarr 2 and 3
    write them.

    >>> _is_chunk("c/0/12", 2), _is_chunk("0.12", 2), _is_chunk("c", 0), _is_chunk("0/notes", 2), _is_chunk("c/0", 2)
    (True, True, True, False, False)
    """
    if dimensions == 0:
        return path in ("c", "0")
    return re.fullmatch(r"(c[./])?\d+" + r"[./]\d+" * (dimensions - 1), path) is not None


def _store_digest(store: Path, *, grows: bool) -> str:
    """Digest of the arrays of a store."""
    digest = hashlib.sha256()
    left = 0 if grows else FIRST
    for folder in sorted(path for path in store.iterdir() if path.is_dir()):
        for document in ARRAY:
            path = folder / document
            if path.is_file():
                held = json.loads(path.read_text("utf-8"))
                digest.update(
                    f"{folder.name}/{document} {json.dumps(held, sort_keys=True)}\n".encode()
                )
        chunks = (
            []
            if grows
            else sorted(p for p in folder.rglob("*") if p.name not in ARRAY and p.is_file())
        )
        for path in chunks:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(store)} {size}\n".encode())
            if size <= left:
                digest.update(path.read_bytes())
                left -= size
    return digest.hexdigest() + ("-grows" if grows else "")


def _netcdf_digest(held: Any) -> str:
    """Digest of the variables of an open NetCDF file: names, dimensions, types and attributes."""
    told = [f"{name} {len(dimension)}" for name, dimension in held.dimensions.items()]
    for name, variable in held.variables.items():
        attributes = {key: str(variable.getncattr(key)) for key in variable.ncattrs()}
        told.append(
            f"{name} {variable.dimensions} {variable.dtype} {json.dumps(attributes, sort_keys=True)}"
        )
    told += [f"{name}/" for name in held.groups]
    return hashlib.sha256("\n".join(told).encode(errors="replace")).hexdigest()


def _is_netcdf(file: Path) -> bool:
    import netCDF4

    try:
        with netCDF4.Dataset(file) as held:
            mark = str(held.getncattr(MARK)) if MARK in held.ncattrs() else ""
            return mark == f"{_netcdf_digest(held)}-{file.stat().st_size:016d}"
    except (OSError, RuntimeError, UnicodeError, ValueError, TypeError, AttributeError):
        return False


def _is_document(file: Path) -> bool:
    try:
        held = json.loads(file.read_bytes()) if file.stat().st_size <= LARGEST else None
    except (ValueError, RecursionError):
        return False
    return isinstance(held, dict) and DOCUMENT in held


def _is_table(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(200).startswith(tuple(start.encode() for start in (*COLUMNS, TABLE)))


def _is_any(file: Path) -> bool:
    """Whether a file is one of our pictures, or a document or table under another suffix."""
    if file.stat().st_size > LARGEST:
        return False
    return PICTURE.encode() in file.read_bytes() or _is_document(file) or _is_table(file)


OURS: dict[str, Callable[[Path], bool]] = {
    ".nc": _is_netcdf,
    ".nc4": _is_netcdf,
    ".cdf": _is_netcdf,
    ".json": _is_document,
    ".csv": _is_table,
    ".md": _is_table,
}
"""By the suffix of a file, what tells whether sstfill made it; for others `_is_any` does."""


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one file or folder, by whatever names."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def kind_of(mode: int) -> str:
    """Name in words what a path is that is not a regular file, by the mode of its `stat`."""
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(mode), "not a regular file")


def _refuse(target: StrPath, reason: str) -> NoReturn:
    raise WriteError(f"cannot write {target}: {reason}; remove it yourself, or choose another name")
