# SPDX-License-Identifier: Apache-2.0
"""Check the metadata of a Zarr store, v2 or v3, before Zarr does: codecs, sizes, links.

Formats: Zarr storage specification v2, and Zarr core specification v3 with the codecs of its
extensions.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sstfill.errors import ReadError
from sstfill.io.untrusted.declared import Declared

MARKS = (".zmetadata", ".zgroup", ".zattrs", ".zarray", "zarr.json")
LARGEST = 2**26
"""Bytes of a metadata file, far more than a thousand arrays need."""
NUMERIC_CODECS = {
    "adler32",
    "astype",
    "bitround",
    "blosc",
    "bz2",
    "crc32",
    "crc32c",
    "delta",
    "fixedscaleoffset",
    "fletcher32",
    "gzip",
    "jenkins_lookup3",
    "lz4",
    "lzma",
    "packbits",
    "pcodec",
    "quantize",
    "shuffle",
    "zfpy",
    "zlib",
    "zstd",
}
"""Codecs that only turn bytes into numbers.

Those that build Python objects are missing on purpose: `pickle` runs code.
"""
TEXT_CODECS = {"vlen-utf8", "vlen-bytes"}
V3_CODECS = {"bytes", "endian", "transpose", "sharding_indexed"}
ALLOWED = NUMERIC_CODECS | TEXT_CODECS | V3_CODECS
DEEPEST_SHARDS = 4
"""Levels of shards within shards; more has no use, and recursion must end."""
WIDTHS = {"bool": 1, "string": 16, "variable_length_bytes": 16}
"""Bytes of an element, of the Zarr v3 types that NumPy does not know by the same name."""


@dataclass
class ZarrMetadata:
    """What the metadata files of a store hold, by the path of the array within it."""

    root: Path
    arrays: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    attrs: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def declared(self) -> Iterator[Declared]:
        """Describe each array; `ReadError` where a codec or a size is refused."""
        for name, metadata in self.arrays:
            if metadata.get("zarr_format") == 3:
                yield self._v3(name, metadata)
            else:
                yield self._v2(name, metadata)

    def _v2(self, name: str, metadata: Mapping[str, Any]) -> Declared:
        codecs = list(_list(self.root, name, "filters", metadata.get("filters") or []))
        # Zarr v2 has one compressor, None where chunks are stored as they are.
        codecs.append(metadata.get("compressor"))
        kinds = {_check_codec(self.root, name, c, "id") for c in codecs if c is not None}
        dtype = _dtype(self.root, name, metadata.get("dtype"))
        # An object array is decoded by its codec alone, and only those of text build nothing but
        # text.
        if dtype.hasobject and (dtype.fields or not TEXT_CODECS & kinds):
            raise _refused(
                self.root, name, "holds Python objects; store it again as numbers or text"
            )
        attrs = self.attrs.get(name, {})
        return self._array(
            name,
            shape=_lengths(self.root, name, "shape", metadata.get("shape"), least=0),
            chunk=_lengths(self.root, name, "chunks", metadata.get("chunks"), least=1),
            itemsize=dtype.itemsize,
            attrs=attrs,
            # The convention of xarray: Zarr v2 has no dimension names.
            dims=attrs.get("_ARRAY_DIMENSIONS"),
        )

    def _v3(self, name: str, metadata: Mapping[str, Any]) -> Declared:
        shape = _lengths(self.root, name, "shape", metadata.get("shape"), least=0)
        grid = _mapping(self.root, name, metadata.get("chunk_grid"))
        inner = _mapping(self.root, name, grid.get("configuration", {}))
        chunk = _lengths(self.root, name, "chunk_shape", inner.get("chunk_shape"), least=1)
        _check_codecs(self.root, name, metadata.get("codecs"), chunk)
        attrs = metadata.get("attributes") or {}
        return self._array(
            name,
            shape=shape,
            chunk=chunk,
            itemsize=_width(self.root, name, metadata.get("data_type")),
            attrs=_mapping(self.root, name, attrs),
            dims=metadata.get("dimension_names"),
        )

    def _array(
        self,
        name: str,
        *,
        shape: tuple[int, ...],
        chunk: tuple[int, ...],
        itemsize: int,
        attrs: Mapping[str, Any],
        dims: object,
    ) -> Declared:
        if len(shape) != len(chunk):
            sizes = f"shape {list(shape)} and chunks {list(chunk)}"
            raise _refused(self.root, name, f"has {sizes}; mend its metadata")
        folder = self.root / name

        def stored() -> int:
            # Asked for only of arrays larger than memory: it walks through all chunks.
            files = (file for file in folder.rglob("*") if file.is_file())
            return sum(file.stat().st_size for file in files)

        return Declared(
            name=name or self.root.name,
            shape=shape,
            itemsize=itemsize,
            chunk=chunk,
            indexed=dims == [name],
            stored=stored,
            # sstfill reads the arrays of the root group alone
            attrs={} if "/" in name else attrs,
        )


def read_all(root: Path, *, allow_links: bool) -> ZarrMetadata:
    """Read all metadata files of a store, and look at the kind of every other file in it.

    Raises
    ------
    ReadError
        A link that was not asked for; or something that is neither a file nor a folder, of which
        reading might never end.
    """
    found = ZarrMetadata(root)
    seen = {os.path.realpath(root)}  # linked folders may lead back
    folders = [root]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_folder(root, entry, allow_links):
                    real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                    if real not in seen:
                        seen.add(real)
                        folders.append(Path(entry.path))
                # Chunks are not read, only looked at for what kind of file they are.
                elif entry.name in MARKS:
                    document = read_document(root, Path(entry.path))
                    _enter(found, _within(root, folder), entry.name, document)
    return found


def check_blosc(found: ZarrMetadata) -> None:
    """Refuse chunks that Blosc wrote and that are shorter or longer than their header declares.

    The library does not compare the two: of a chunk that was cut short it decodes what lies beyond
    its end in memory, without an error. Header: bytes 12 to 16 are the compressed size (Blosc 1,
    README_CHUNK_FORMAT).
    """
    for name in sorted({name for name, metadata in found.arrays if _is_blosc(metadata)}):
        for file in (found.root / name).rglob("*"):
            if file.name in MARKS or not file.is_file():
                continue
            with file.open("rb") as stream:
                # No more than the header: chunks may be many and large.
                head = stream.read(16)
            declared, size = int.from_bytes(head[12:16], "little"), file.stat().st_size
            if len(head) < 16 or declared != size:
                where = os.path.relpath(file, found.root)
                raise ReadError(
                    f"cannot read {found.root}: chunk {where} has {size} bytes, its header "
                    f"declares {declared}; it is damaged, fetch it again"
                )


def _is_blosc(metadata: Mapping[str, Any]) -> bool:
    """Whether the files of an array's chunks are what Blosc made; shards begin otherwise."""
    compressor = metadata.get("compressor")
    if isinstance(compressor, dict):
        return compressor.get("id") == "blosc"
    codecs = metadata.get("codecs")
    # The last codec makes the bytes of the file; one inside a shard does not.
    last = codecs[-1] if isinstance(codecs, list) and codecs else None
    return isinstance(last, dict) and str(last.get("name")).removeprefix("numcodecs.") == "blosc"


def read_own(root: Path) -> ZarrMetadata:
    """Read the metadata files of a store that sstfill made, without a list of its chunks."""
    found = ZarrMetadata(root)
    folders = [root]
    folders += [path for path in root.iterdir() if path.is_dir()]
    for folder in folders:
        for mark in MARKS:
            file = folder / mark
            if file.is_file():
                _enter(found, _within(root, folder), mark, read_document(root, file))
    return found


def _within(root: Path, folder: Path) -> str:
    return "" if folder == root else folder.relative_to(root).as_posix()


def _is_folder(root: Path, entry: os.DirEntry[str], allow_links: bool) -> bool:
    """Whether an entry is a folder; links only where they are asked for."""
    if entry.is_symlink():
        if not allow_links:
            where = os.path.relpath(entry.path, root)
            target = os.readlink(entry.path)  # noqa: PTH115
            raise ReadError(
                f"cannot read {root}: {where} in it is a link to {target}; "
                "if you trust who made it, allow links: allow_links=True, or --allow-links"
            )
        if not Path(entry.path).exists():
            return False  # Zarr takes it for an absent chunk
    if entry.is_dir():
        return True
    if not entry.is_file():
        kind = stat.filemode(entry.stat().st_mode)
        where = os.path.relpath(entry.path, root)
        raise ReadError(f"cannot read {root}: {where} in it is no file ({kind}); remove it")
    return False


def read_document(root: Path, file: Path) -> dict[str, Any]:
    """Read one metadata file of a store; `ReadError` if it does not hold a JSON object."""
    size = file.stat().st_size
    where = os.path.relpath(file, root)
    if size > LARGEST:
        raise ReadError(
            f"cannot read {root}: {where} has {size / 1e6:,.0f} MB, too much for metadata; "
            "fetch it again"
        )
    # not documents.parse_json: attributes of Zarr v2 may hold NaN, and integers of any size
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ReadError(
            f"cannot read {root}: {where} is not valid JSON (it is nested too deep); fetch it again"
        ) from error
    except ValueError as error:
        raise ReadError(
            f"cannot read {root}: {where} is not valid JSON ({str(error)[:200]}); fetch it again"
        ) from error
    return _mapping(root, where, document)


def _enter(found: ZarrMetadata, prefix: str, mark: str, document: dict[str, Any]) -> None:
    """Put a metadata document where it belongs; consolidated ones hold those of many arrays."""
    if mark == ".zarray":
        found.arrays.append((prefix, document))
    elif mark == ".zattrs":
        # The array's own file or the consolidated copy, whichever was met first.
        found.attrs.setdefault(prefix, document)
    elif mark == ".zmetadata":
        for key, copy in _mapping(found.root, mark, document.get("metadata", {})).items():
            # Keys are paths of files, as "sst/.zarray".
            name, _, kind = key.rpartition("/")
            path = _joined(found.root, prefix, name)
            if kind in (".zarray", ".zattrs"):
                _enter(found, path, kind, _mapping(found.root, key, copy))
    elif mark == "zarr.json" and document.get("node_type") == "array":
        # Consolidated copies are entered too: Zarr may read either, so both are checked.
        found.arrays.append((prefix, {**document, "zarr_format": 3}))
    elif mark == "zarr.json" and document.get("consolidated_metadata") is not None:
        consolidated = _mapping(found.root, mark, document["consolidated_metadata"])
        for name, copy in _mapping(found.root, mark, consolidated.get("metadata", {})).items():
            inner = _mapping(found.root, name, copy)
            _enter(found, _joined(found.root, prefix, name), mark, inner)


def _joined(root: Path, prefix: str, name: str) -> str:
    """Join the path of a group and a name in its metadata, which must not lead out of the store."""
    # On Windows a backslash leads out as well.
    parts = name.replace("\\", "/").split("/")
    if name and any(part in ("", ".", "..") for part in parts):
        raise ReadError(
            f"cannot read {root}: its metadata name {name!r}, which leads out of it; fetch it again"
        )
    return "/".join(part for part in (prefix, name) if part)


def _check_codecs(
    root: Path, name: str, codecs: object, chunk: tuple[int, ...], depth: int = 0
) -> None:
    """Check a chain of Zarr v3 codecs, and those inside of its shards."""
    if depth > DEEPEST_SHARDS:
        raise _refused(root, name, "has shards within shards within shards; store it again")
    for codec in _list(root, name, "codecs", codecs):
        kind = _check_codec(root, name, codec, "name")
        if kind != "sharding_indexed":
            continue
        inner = _mapping(root, name, codec.get("configuration", {}))
        shape = _lengths(root, name, "chunk_shape", inner.get("chunk_shape"), least=1)
        # the size of the shard is compared with memory, so that no chunk in it may be larger
        if math.prod(shape) > math.prod(chunk):
            sizes = f"chunks {list(shape)} in shards {list(chunk)}"
            raise _refused(root, name, f"has {sizes}; mend its metadata")
        _check_codecs(root, name, inner.get("codecs", []), shape, depth + 1)
        _check_codecs(root, name, inner.get("index_codecs", []), shape, depth + 1)


def _check_codec(root: Path, name: str, codec: object, key: str) -> str:
    """Return the name of a codec, if it is one of `ALLOWED`."""
    given = codec.get(key) if isinstance(codec, dict) else codec
    kind = given.removeprefix("numcodecs.") if isinstance(given, str) else ""
    if kind not in ALLOWED:
        raise _refused(
            root,
            name,
            f"is stored with the codec {str(given)[:60]!r}, which sstfill does not run; "
            "store it again with zstd, blosc or zlib",
        )
    if key == "id" and kind in V3_CODECS:
        raise _refused(
            root, name, f"names the codec {kind!r}, which Zarr v2 does not know; fetch it again"
        )
    return kind


def _dtype(root: Path, name: str, given: object) -> np.dtype[Any]:
    if isinstance(given, str):
        try:
            return np.dtype(given)
        except (TypeError, ValueError, SyntaxError):
            pass
    raise _refused(root, name, f"has the type {str(given)[:60]!r}; store it again as numbers")


def _width(root: Path, name: str, given: object) -> int:
    """Return the bytes of an element of a Zarr v3 type; Zarr itself refuses names unknown to it."""
    if isinstance(given, dict):
        inner = _mapping(root, name, given.get("configuration", {}))
        length = inner.get("length_bytes", 8)
        return _lengths(root, name, "length_bytes", [length], least=0)[0]
    if not isinstance(given, str):
        raise _refused(root, name, f"has the type {str(given)[:60]!r}; store it again as numbers")
    if given in WIDTHS:
        return WIDTHS[given]
    digits = "".join(c for c in given if c.isdigit())
    # The types are named by bits: int16, float64. Of a name without digits Zarr decides.
    return int(digits[:9]) // 8 if digits else 8


def _lengths(root: Path, name: str, key: str, value: object, *, least: int) -> tuple[int, ...]:
    """Return a list of lengths as a tuple; they are whole numbers from `least` on."""
    # Anything but a list fails as a list of one thing that is no length.
    lengths = value if isinstance(value, list) else [None]
    for length in lengths:
        # true becomes a bool, which Python takes for an int.
        if not isinstance(length, int) or isinstance(length, bool) or not least <= length < 2**63:
            raise _refused(
                root,
                name,
                f"has {key} {json.dumps(value)[:60]}; "
                f"they are whole numbers, {least} or more: mend its metadata",
            )
    return tuple(lengths)


def _mapping(root: Path, name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refused(root, name, f"has {str(value)[:60]!r} for metadata; fetch it again")
    return value


def _list(root: Path, name: str, key: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise _refused(root, name, f"has {key} {str(value)[:60]!r}, not a list; fetch it again")
    return value


def _refused(root: Path, name: str, what: str) -> ReadError:
    return ReadError(f"cannot read {root}: {name or root.name!r} {what}")
