# SPDX-License-Identifier: Apache-2.0
"""Decide whether a path may be written, and whether what lies there may be replaced.

Every writer checks twice: before the work, and again at the moment of the replacement. Only outputs
of sstfill are replaced, which a mark identifies:

- A Zarr store has the global attribute ``sstfill_output``, a digest of the metadata of its arrays
  and, except for an archive that grows, of the names, sizes and first bytes of its chunks. A copy
  that somebody altered inherits the attribute but not the digest. Nothing else may lie in the
  store: each file is a metadata document, or a chunk of an array of the root group.
- A NetCDF file has the same attribute, a digest of its variables, with the size of the file.
- Pictures, pages, JSON documents and tables are recognised by their content, see `OURS`.

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
PAGE = "sstfill"
"""How the generator that a page of HTML names begins."""
DOCUMENT = "sstfill"
"""Key of a JSON document, with the version."""
TABLE = "# The paper's protocol on the data at hand"
COLUMNS = ("epoch,steps,", "data,kind,units,")
"""How the tables of a training and of the paper's protocol begin."""
ROOT = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")
ARRAY = ("zarr.json", ".zarray", ".zattrs")
NAMED = 3
"""Most files in the way that an error names."""
FIRST = 2**22
"""Most bytes of chunks that go into the digest of a store."""
LARGEST = 2**28
"""Bytes of a picture or document of ours; a larger file is not opened."""


def check(target: StrPath, inputs: StrPath | Iterable[StrPath] | None = None) -> None:
    """Refuse an output that cannot be written, or would replace what sstfill did not make.

    Parameters
    ----------
    target
        File or Zarr store to write; a link is followed.
    inputs
        What is read for it: the output must not be one of them, lie in one, or hold one.

    Raises
    ------
    WriteError
        With what is in the way and what to do about it.
    """
    check_parent(target)
    if isinstance(inputs, str | os.PathLike):
        inputs = [inputs]
    for given in inputs or ():
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
    """Refuse an output that is an input, lies in a store that is, or holds it.

    With `around`, it may hold it.
    """
    final = resolved(target)
    try:
        source = Path(given).resolve()
        if not source.exists():
            return
    except (OSError, RuntimeError, ValueError):  # what cannot be found is told by whoever reads it
        return
    if _same(final, source):
        raise WriteError(
            f"cannot write {target}: it is the input itself; choose another output name"
        )
    # a folder of granules may hold the store that is made of them; a store or a fill job holds
    # its own files only
    is_store = any((source / name).exists() for name in ROOT) or source.suffix in (".zarr", ".job")
    if is_store and any(_same(folder, source) for folder in final.parents):
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
        # not of `final`: the links of /dev resolve to paths that do not exist
        mode = Path(target).stat().st_mode
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
    """Return numbers that change when another writer replaces an output; none if there is none."""
    final = resolved(target)
    numbers: list[int] = []
    for path in (final, final / "zarr.json"):
        if path.exists():
            status = path.stat()
            numbers += [status.st_dev, status.st_ino]
            if not path.is_dir():  # a folder has a new time whenever a chunk is added
                numbers += [status.st_size, status.st_mtime_ns]
    return tuple(numbers)


def mark_store(store: Path, *, grows: bool = False) -> None:
    """Mark a Zarr store as made by sstfill.

    With `grows`, chunks may be added and replaced without a new mark.
    """
    digest = _store_digest(store, grows=grows)
    document = store / "zarr.json"
    if document.is_file():
        metadata = json.loads(document.read_text("utf-8"))
        metadata.setdefault("attributes", {})[MARK] = digest
    else:  # Zarr v2
        document = store / ".zattrs"
        metadata = json.loads(document.read_text("utf-8")) if document.is_file() else {}
        metadata[MARK] = digest
    document.write_text(json.dumps(metadata, indent=2), encoding="utf-8")


def mark_netcdf(file: Path) -> None:
    """Mark a NetCDF file as made by sstfill; the mark holds the size of the file."""
    import netCDF4

    # The first mark makes the file larger, the second holds the size that remains: all marks have
    # one length.
    for _ in range(3):
        size = file.stat().st_size
        with netCDF4.Dataset(file, "a") as dataset:
            dataset.setncattr(MARK, f"{_netcdf_digest(dataset)}-{size:016d}")
        if file.stat().st_size == size:
            return


def _check_store(folder: Path, target: StrPath) -> None:
    members = list(itertools.islice(foreign_members(folder), NAMED + 1))
    if members:
        named = ", ".join(members[:NAMED])
        if len(members) > NAMED:
            named += ", ..."
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
        metadata = json.loads((folder / "zarr.json").read_text("utf-8"))
        mark = str(metadata["attributes"].get(MARK, ""))
        return bool(mark) and mark == _store_digest(folder, grows=mark.endswith("grows"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def foreign_members(folder: Path) -> Iterator[str]:
    """Name what lies in a folder and is not part of a Zarr store with arrays in its root group."""
    for member in sorted(os.scandir(folder), key=lambda member: member.name):
        if member.is_symlink():
            yield member.name
        elif not member.is_dir():
            if not member.is_file() or member.name not in ROOT:
                yield member.name
        else:
            dimensions = _dimensions(Path(member.path))
            if dimensions is None:
                yield f"{member.name}/"
            else:
                yield from _foreign_in_array(Path(member.path), member.name, dimensions)


def _foreign_in_array(folder: Path, name: str, dimensions: int) -> Iterator[str]:
    for current, folders, files in os.walk(folder, onerror=_raise):
        inside = Path(current).relative_to(folder)
        for one in folders:
            if (Path(current) / one).is_symlink():  # os.walk does not enter it
                yield f"{name}/{inside / one}"
        for file in files:
            path = inside / file
            regular = stat.S_ISREG((Path(current) / file).lstat().st_mode)
            if not regular or not (str(path) in ARRAY or _is_chunk(path.as_posix(), dimensions)):
                yield f"{name}/{path}"


def _raise(error: OSError) -> NoReturn:
    raise error


def _dimensions(folder: Path) -> int | None:
    """Return the number of dimensions of the array in a folder; None if there is no array."""
    # v3, then v2
    for document in ("zarr.json", ".zarray"):
        try:
            metadata = json.loads((folder / document).read_text("utf-8"))
            if document == "zarr.json" and metadata.get("node_type") != "array":
                return None
            return len(metadata["shape"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
    return None


def _is_chunk(path: str, dimensions: int) -> bool:
    """Whether a path in the folder of an array is the key of a chunk, in Zarr v2 or v3.

    >>> _is_chunk("c/0/12", 2), _is_chunk("0.12", 2), _is_chunk("c", 0)
    (True, True, True)
    >>> _is_chunk("0/notes", 2), _is_chunk("c/0", 2)
    (False, False)
    """
    if dimensions == 0:
        return path in ("c", "0")
    return re.fullmatch(r"(c[./])?\d+" + r"[./]\d+" * (dimensions - 1), path) is not None


def _store_digest(store: Path, *, grows: bool) -> str:
    """Return the digest of the arrays of a store."""
    digest = hashlib.sha256()
    left = FIRST
    for folder in sorted(path for path in store.iterdir() if path.is_dir()):
        for document in ARRAY:
            path = folder / document
            if path.is_file():
                # sorted: other programs write the same metadata in another order
                metadata = json.dumps(json.loads(path.read_text("utf-8")), sort_keys=True)
                digest.update(f"{folder.name}/{document} {metadata}\n".encode())
        # an archive gains chunks each night, without a new mark
        if grows:
            continue
        for path in sorted(p for p in folder.rglob("*") if p.name not in ARRAY and p.is_file()):
            size = path.stat().st_size
            # names and sizes of all chunks, contents of the first 4 MB: reading a large store for
            # its mark would take as long as writing it
            digest.update(f"{path.relative_to(store)} {size}\n".encode())
            if size <= left:
                digest.update(path.read_bytes())
                left -= size
    return digest.hexdigest() + ("-grows" if grows else "")


def _netcdf_digest(dataset: Any) -> str:
    """Return the digest of an open NetCDF file: dimensions, variables, attributes and groups."""
    lines = [f"{name} {len(dimension)}" for name, dimension in dataset.dimensions.items()]
    for name, variable in dataset.variables.items():
        values = {key: str(variable.getncattr(key)) for key in variable.ncattrs()}
        attributes = json.dumps(values, sort_keys=True)
        lines.append(f"{name} {variable.dimensions} {variable.dtype} {attributes}")
    lines += [f"{name}/" for name in dataset.groups]
    return hashlib.sha256("\n".join(lines).encode(errors="replace")).hexdigest()


def _is_netcdf(file: Path) -> bool:
    import netCDF4

    try:
        with netCDF4.Dataset(file) as dataset:
            if MARK not in dataset.ncattrs():
                return False
            mark = f"{_netcdf_digest(dataset)}-{file.stat().st_size:016d}"
            return str(dataset.getncattr(MARK)) == mark
    except (OSError, RuntimeError, UnicodeError, ValueError, TypeError, AttributeError):
        return False


def _is_document(file: Path) -> bool:
    if file.stat().st_size > LARGEST:
        return False
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and DOCUMENT in document


def _is_table(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(200).startswith(tuple(start.encode() for start in (*COLUMNS, TABLE)))


def _is_page(file: Path) -> bool:
    with file.open("rb") as stream:
        return f'<meta name="generator" content="{PAGE} '.encode() in stream.read(1000)


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
    ".html": _is_page,
    ".htm": _is_page,
}
"""Whether sstfill made a file, by its suffix; `_is_any` for every other suffix."""


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
