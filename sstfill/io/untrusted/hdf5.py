# SPDX-License-Identifier: Apache-2.0
"""Look at an HDF5 file before the netCDF4 library does: types that crash it, links out of the file,
groups in circles.

The library opens every group of a file when it is opened, follows external links and reads external
storage without a word. It is killed by floats that are neither of 4 nor of 8 bytes, and by a group
that holds itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sstfill.errors import ReadError
from sstfill.io.untrusted.declared import PACKING, Declared

NOT_A_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


def look(path: Path, *, allow_links: bool) -> list[Declared]:
    """Every dataset of an HDF5 file as it is described; `ReadError` for what must not be opened."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        return list(_Look(path, allow_links).group(file))


class _Look:
    """One walk through the groups of a file; each group is met once, or the file is refused."""

    def __init__(self, path: Path, allow_links: bool) -> None:
        self.path, self.allow_links = path, allow_links
        self.seen: set[tuple[int, int]] = set()

    def group(self, top: Any) -> Iterator[Declared]:
        import h5py

        groups = [top]
        while groups:
            group = groups.pop()
            info = h5py.h5o.get_info(group.id)
            if (info.fileno, info.addr) in self.seen:
                raise self._refused(
                    group.name, "a group that is reached by several ways; netCDF4 would never end"
                )
            self.seen.add((info.fileno, info.addr))
            for name in group:
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    self._check_link(name, link.filename)
                    continue  # the file that is linked to is opened by the library, as asked for
                member = group.get(name)
                if member is None:
                    raise self._refused(
                        name, f"a link to {link.path!r}, which is not there; remove it"
                    )
                if isinstance(member, h5py.Group):
                    groups.append(member)
                elif isinstance(member, h5py.Dataset):
                    yield self._dataset(member, in_root=group is top)

    def _dataset(self, held: Any, in_root: bool) -> Declared:
        import h5py

        name = held.name.rpartition("/")[2] if in_root else held.name
        layout = held.id.get_create_plist()
        if layout.get_external_count():
            self._check_link(name, layout.get_external(0)[0].decode(errors="replace"))
        if layout.get_layout() == h5py.h5d.VIRTUAL:
            self._check_link(
                name, layout.get_virtual_filename(0) if layout.get_virtual_count() else "nothing"
            )
        kind = held.id.get_type()
        self._check_type(name, kind)
        if held.shape is None:
            raise self._refused(name, "a dataset without values; remove it")
        return Declared(
            name=name,
            shape=held.shape,
            itemsize=kind.get_size(),
            chunk=held.chunks or (),
            indexed=in_root and _is_coordinate(held),
            stored=functools.partial(int, held.id.get_storage_size()),
            attrs={k: _attribute(held, k) for k in PACKING if in_root and k in held.attrs},
        )

    def _check_link(self, name: str, target: str) -> None:
        if not self.allow_links:
            raise ReadError(
                f"cannot read {self.path}: {name!r} in it is a link to another file, {target}; "
                "if you trust who made it, allow links: allow_links=True, or --allow-links"
            )

    def _check_type(self, name: str, kind: Any) -> None:
        """Refuse floats that kill the netCDF4 library, also as members of lists."""
        import h5py

        if isinstance(kind, h5py.h5t.TypeFloatID) and kind.get_size() not in (4, 8):
            raise ReadError(
                f"cannot read {self.path}: {name!r} holds floats of {8 * kind.get_size()} bits, which the netCDF4 "
                "library cannot read; store it as float32 or float64 (h5py reads it)"
            )
        if isinstance(kind, h5py.h5t.TypeVlenID):
            self._check_type(name, kind.get_super())

    def _refused(self, name: str, what: str) -> ReadError:
        return ReadError(f"cannot read {self.path}: {name!r} in it is {what}")


def _is_coordinate(held: Any) -> bool:
    """Whether a dataset holds the values of its own dimension."""
    import h5py

    if len(held.shape) != 1 or not h5py.h5ds.is_scale(held.id):
        return False
    return not h5py.h5ds.get_scale_name(held.id).startswith(NOT_A_VARIABLE)


def _attribute(held: Any, key: str) -> Any:
    try:
        return held.attrs[key]
    except (OSError, TypeError, ValueError) as error:  # a type that NumPy does not know
        return str(error)
