# SPDX-License-Identifier: Apache-2.0
"""Groups of NetCDF files and Zarr stores: one is read, with what those above it lend it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from sstfill.errors import OptionError, ReadError
from sstfill.fields.reading.rules import located
from sstfill.fields.reading.variables import find_fields
from sstfill.io.error_origin import opening
from sstfill.io.untrusted import guard


def open_group(path: Path, group: str, **how: Any) -> xr.Dataset:
    """Open one group of a file or store, as `guard.open_dataset` opens the root.

    Variables of the groups above come with it where they lie on its dimensions, as coordinates and
    projections do: CF conventions, section 2.7.

    Parameters
    ----------
    path
        A NetCDF-4 file or a Zarr store.
    group
        Names with ``/`` between, such as ``"science/level3"``.
    how
        Options of `guard.open_dataset`.

    Raises
    ------
    OptionError
        There is no such group; the message names those that there are.
    ReadError
        As `guard.open_dataset`.
    """
    names = [name for name in group.split("/") if name]
    known = list(group_names(path, how.get("allow_links", False)))
    if "/".join(names) not in known:
        listed = ", ".join(known) or "none"
        raise OptionError(f"{path} has no group {group!r}; choose from: {listed}")
    return _with_inherited(path, names, how)


def _with_inherited(path: Path, names: list[str], how: dict[str, Any]) -> xr.Dataset:
    """Open the group of these names, with what those above it lend it."""
    ds = guard.open_dataset(path, group="/".join(names), **how)
    ds.encoding["group"] = "/".join(names)
    opened = contextlib.ExitStack()
    # all files stay open as long as the dataset, whose variables are lazy
    opened.callback(ds.close)
    while names:
        names.pop()
        above = guard.open_dataset(path, group="/".join(names), **how)
        opened.callback(above.close)
        inherited = {}
        for name, variable in above.variables.items():
            fits = all(ds.sizes.get(dim) == size for dim, size in variable.sizes.items())
            # the nearest definition counts: a group hides what those above call by the same name
            if name not in ds.variables and fits:
                inherited[name] = variable
        coordinates = [name for name in inherited if name in above.coords]
        ds = ds.assign(inherited).set_coords(coordinates)
    ds.set_close(opened.close)
    return ds


def open_dataset(path: Path, group: str | None, **how: Any) -> xr.Dataset:
    """Open the group that is named, else the root, or the one group that holds fields.

    Its positions and times are told already, see `located`.

    Raises
    ------
    ReadError
        Nothing in the root is a field, and several groups hold some.
    """
    if group is not None:
        return _located(path, open_group(path, group, **how))
    root = _located(path, guard.open_dataset(path, **how))
    if find_fields(root):
        return root
    holders = {}
    for name in group_names(path, how.get("allow_links", False)):
        with _with_inherited(path, name.split("/"), how) as ds:
            if fields := find_fields(located(ds)):
                holders[name] = fields
    if not holders:
        return root
    root.close()
    if len(holders) == 1:
        return _located(path, _with_inherited(path, next(iter(holders)).split("/"), how))
    listed = ", ".join(f"{name} ({', '.join(fields)})" for name, fields in holders.items())
    raise ReadError(
        f"cannot read {path}: its fields lie in several groups, {listed}; name one: "
        f"--group {next(iter(holders))}, or group={next(iter(holders))!r}"
    )


def _located(path: Path, ds: xr.Dataset) -> xr.Dataset:
    """Tell positions and times; what is returned closes the file as `ds` does."""
    try:
        with opening(path):
            found = located(ds)
    except BaseException:
        ds.close()
        raise
    if found is not ds:  # a dataset that was made of another closes nothing by itself
        found.set_close(ds.close)
    return found


def group_names(path: Path, allow_links: bool = False) -> Iterator[str]:
    """Yield the groups below the root, parents before children."""
    if guard.engine_of(path, allow_links=allow_links) == "zarr":
        marks = (".zgroup", "zarr.json")
        for folder in sorted(path.rglob("*/")):
            if any((folder / mark).is_file() for mark in marks) and _is_group(path, folder):
                yield folder.relative_to(path).as_posix()
        return
    import netCDF4

    with netCDF4.Dataset(path) as file:
        groups = list(file.groups.values())
        while groups:
            found = groups.pop(0)
            yield found.path.strip("/")
            groups += found.groups.values()


def _is_group(root: Path, folder: Path) -> bool:
    if (folder / ".zgroup").is_file():
        return True
    from sstfill.io.untrusted.zarr_metadata import read_document

    return read_document(root, folder / "zarr.json").get("node_type") == "group"
