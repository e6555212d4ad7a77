# SPDX-License-Identifier: Apache-2.0
"""Check an HDF5 file before the netCDF4 library opens it.

The library opens every group of a file when it is opened, and follows external links and external
storage silently. Floats that have neither 4 nor 8 bytes crash it, and so does a group that holds
itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sstfill.errors import ReadError
from sstfill.io.untrusted.declared import PACKING, Declared

SCALES = "DIMENSION_LIST"
DIMENSION = "_Netcdf4Dimid"
"""Attribute by which the netCDF4 library numbers the dimensions, in a list that long."""
NOT_A_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


def declared_arrays(path: Path, *, allow_links: bool) -> list[Declared]:
    """Describe every dataset of an HDF5 file; `ReadError` for what must not be opened."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        walk = _Walk(path, allow_links)
        found = list(walk.datasets(file))
        walk.check_all_dimensions(len(found))
        return found


class _Walk:
    """One walk through the groups of a file."""

    def __init__(self, path: Path, allow_links: bool) -> None:
        self.path, self.allow_links = path, allow_links
        self.numbers: dict[str, int] = {}
        """Numbers of dimensions by dataset."""

    def datasets(self, root: Any) -> Iterator[Declared]:
        import h5py

        groups = [root]
        seen = set()
        while groups:
            group = groups.pop()
            info = h5py.h5o.get_info(group.id)
            if (info.fileno, info.addr) in seen:
                raise self._refused(
                    group.name, "a group that is reached by several ways; netCDF4 would never end"
                )
            seen.add((info.fileno, info.addr))
            for name in group:
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    self._check_link(name, link.filename)
                    continue  # the library opens the other file, as the user asked for
                member = group.get(name)
                if member is None:
                    raise self._refused(
                        name, f"a link to {link.path!r}, which does not exist; remove it"
                    )
                if isinstance(member, h5py.Group):
                    groups.append(member)
                elif isinstance(member, h5py.Dataset):
                    yield self._dataset(member, in_root=group is root)

    def _dataset(self, dataset: Any, in_root: bool) -> Declared:
        import h5py

        name = dataset.name.rpartition("/")[2] if in_root else dataset.name
        layout = dataset.id.get_create_plist()
        if layout.get_external_count():
            self._check_link(name, layout.get_external(0)[0].decode(errors="replace"))
        if layout.get_layout() == h5py.h5d.VIRTUAL:
            target = layout.get_virtual_filename(0) if layout.get_virtual_count() else "nothing"
            self._check_link(name, target)
        kind = dataset.id.get_type()
        self._check_type(name, kind)
        self._check_dimension(name, dataset)
        self._check_scales(name, dataset)
        if dataset.shape is None:
            raise self._refused(name, "a dataset without values; remove it")
        attrs = {}
        for key in PACKING:
            if in_root and key in dataset.attrs:
                attrs[key] = _attribute(dataset, key)
        return Declared(
            name=name,
            shape=dataset.shape,
            itemsize=kind.get_size(),
            chunk=dataset.chunks or (),
            indexed=in_root and _is_coordinate(dataset),
            stored=functools.partial(int, dataset.id.get_storage_size()),
            attrs=attrs,
        )

    def _check_link(self, name: str, target: str) -> None:
        if not self.allow_links:
            raise ReadError(
                f"cannot read {self.path}: {name!r} in it is a link to another file, {target}; "
                "if you trust who made it, allow links: allow_links=True, or --allow-links"
            )

    def _check_type(self, name: str, kind: Any) -> None:
        """Refuse floats that crash the netCDF4 library, also as members of lists."""
        import h5py

        if isinstance(kind, h5py.h5t.TypeFloatID) and kind.get_size() not in (4, 8):
            raise ReadError(
                f"cannot read {self.path}: {name!r} holds floats of {8 * kind.get_size()} bits, "
                "which the netCDF4 library cannot read; store it as float32 or float64 (h5py reads "
                "it)"
            )
        if isinstance(kind, h5py.h5t.TypeVlenID):
            self._check_type(name, kind.get_super())

    def _check_dimension(self, name: str, dataset: Any) -> None:
        """Refuse numbers of dimensions for which the netCDF4 library would end the process.

        It keeps the dimensions of a file in a list by these numbers.
        """
        if DIMENSION not in dataset.attrs:
            return
        number = _attribute(dataset, DIMENSION)
        if not isinstance(number, np.integer) or number < 0:
            raise self._refused(
                name, f"numbered {number} among the dimensions, which cannot be; write it again"
            )
        self.numbers[name] = int(number)

    def _check_scales(self, name: str, dataset: Any) -> None:
        """Refuse a list of dimensions that is none, by which the netCDF4 library crashes."""
        import h5py

        if SCALES not in dataset.attrs:
            return
        held = dataset.attrs.get_id(SCALES)
        kind = held.get_type()
        refers = isinstance(kind, h5py.h5t.TypeVlenID) and isinstance(
            kind.get_super(), h5py.h5t.TypeReferenceID
        )
        if not refers or held.shape != (len(dataset.shape or ()),):
            raise self._refused(
                name, f"a dataset whose {SCALES} lists no dimensions; write it again"
            )

    def check_all_dimensions(self, datasets: int) -> None:
        """Refuse a number beyond those of all dimensions, each of which is a dataset."""
        for name, number in self.numbers.items():
            if number >= datasets:
                raise self._refused(
                    name, f"dimension number {number} of {datasets} datasets; write it again"
                )

    def _refused(self, name: str, what: str) -> ReadError:
        return ReadError(f"cannot read {self.path}: {name!r} in it is {what}")


def _is_coordinate(dataset: Any) -> bool:
    """Whether a dataset holds the values of its own dimension."""
    import h5py

    if len(dataset.shape) != 1 or not h5py.h5ds.is_scale(dataset.id):
        return False
    return not h5py.h5ds.get_scale_name(dataset.id).startswith(NOT_A_VARIABLE)


def _attribute(dataset: Any, key: str) -> Any:
    try:
        return dataset.attrs[key]
    except (OSError, TypeError, ValueError) as error:  # a type that NumPy does not know
        return str(error)
