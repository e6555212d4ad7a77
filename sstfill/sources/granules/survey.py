# SPDX-License-Identifier: Apache-2.0
"""Check that granules go together, and note in what they differ, before anything is written."""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.progress import track
from sstfill.sources.granules.look import Granule, GranuleLook, glance, look

log = logging.getLogger(__name__)

OF_ONE = re.compile(
    r"^(start|stop|end)_|time_coverage|date_|creation|uuid|netcdf_version|file_quality|^id$", re.I
)
"""Global attributes that belong to one granule, not to the archive."""
SAME_PLACE = 0.01
"""Fraction of a grid step by which coordinates may differ."""


@dataclass(kw_only=True)
class GranuleArchive:
    """The granules, what the first holds, and in what the others differ from it.

    Attributes
    ----------
    first
        What the first granule holds.
    attrs
        Global attributes that all share.
    granules
        The files.
    repacked, lacking, late
        Variables that are packed in several ways; that some granules lack; that the first lacks.
    """

    first: GranuleLook
    attrs: dict[Any, Any]
    granules: list[Granule] = field(default_factory=list)
    repacked: set[str] = field(default_factory=set)
    lacking: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)


def survey(
    paths: Sequence[Path], variables: str | Sequence[str] | None, quality_level: int | None
) -> GranuleArchive:
    """Describe each granule, and refuse those that do not go together.

    Raises
    ------
    ReadError
        A granule that is damaged.
    InputError
        Another grid, other units or flags, or a field that one of them lacks; the error names both
        files.
    """
    archive: GranuleArchive | None = None
    for path in track(paths, "granules", len(paths)):
        if archive is None:
            seen = look(path, variables, quality_level)
            attrs = {k: v for k, v in seen.attrs.items() if not OF_ONE.search(k)}
            archive = GranuleArchive(first=seen, attrs=attrs)
        else:
            # a glance first: nearly all granules are laid out as the first
            seen = glance(path, archive.first) or look(path, variables, quality_level)
        _agree(archive, seen)
        archive.granules.append(seen.granule)
    assert archive is not None
    for name in sorted(archive.repacked):
        log.warning("%s is packed in more than one way, and stored as floats", name)
    for name in sorted(archive.lacking):
        log.warning("%s is not in each granule, and empty where it lacks", name)
    for name in sorted(archive.late):
        log.warning("%s is not in the first granule, and left out", name)
    return archive


def _agree(archive: GranuleArchive, seen: GranuleLook) -> None:
    """Compare a granule with the first, and note in the archive in what it differs."""
    first = archive.first
    a, b = first.granule.path, seen.granule.path
    _same_grid(first, seen)
    for name in first.fields:
        if name not in seen.dims:
            raise InputError(
                f"{b} has no {name!r}, which {a} has; import them apart, or name others: variables="
            )
    for name in seen.fields:
        if name not in first.dims:
            raise InputError(
                f"{b} has {name!r}, which {a} has not; "
                "import them apart, or name others: variables="
            )
    archive.late |= set(seen.dims) - set(first.dims)
    for name, dims in first.dims.items():
        if name not in seen.dims:
            archive.lacking.add(name)
        # another order of the same dimensions is only transposed
        elif sorted(map(str, dims)) != sorted(map(str, seen.dims[name])):
            raise InputError(
                f"mixed grids: {name!r} lies on {seen.dims[name]} in {b}, on {dims} in {a}; "
                "import them apart"
            )
        elif first.units[name] != seen.units[name]:
            raise InputError(
                f"{name!r} is in {seen.units[name]!r} in {b}, in {first.units[name]!r} in {a}; "
                "import them apart"
            )
        elif first.flags[name] != seen.flags[name]:
            raise InputError(
                f"the flags of {name!r} are {_listed_flags(seen.flags[name])} in {b}, "
                f"{_listed_flags(first.flags[name])} in {a}; import them apart"
            )
        elif first.packing[name] != seen.packing[name]:
            archive.repacked.add(name)
    for key, value in list(archive.attrs.items()):
        if key not in seen.attrs or not np.array_equal(value, seen.attrs[key]):
            # what differs between granules says nothing of the archive
            del archive.attrs[key]


def _same_grid(first: GranuleLook, seen: GranuleLook) -> None:
    a, b = first.granule.path, seen.granule.path
    for dim, size in first.sizes.items():
        if dim in seen.sizes and seen.sizes[dim] != size:
            raise InputError(
                f"mixed grids: {str(dim)!r} has {seen.sizes[dim]} cells in {b}, {size} in {a}; "
                "import them apart"
            )
    if set(first.place) != set(seen.place):
        raise InputError(
            f"mixed grids: {b} is located by {_listed(seen.place)}, {a} by {_listed(first.place)}; "
            "import them apart"
        )
    for name, values in first.place.items():
        if not _close(values, seen.place[name]):
            raise InputError(
                f"mixed grids: {str(name)!r} of {b} differs from that of {a}; import them apart"
            )


def _listed_flags(flags: tuple[str, ...]) -> str:
    meanings, *numbers = flags
    return " ".join([repr(meanings), *numbers])


def _listed(place: Mapping[Hashable, Any]) -> str:
    return ", ".join(map(str, place)) or "nothing"


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether coordinates are the same but for rounding."""
    if a.shape != b.shape or a.dtype.kind not in "iuf":
        return bool(np.array_equal(a, b))
    steps = np.abs(np.diff(a.astype(np.float64), axis=-1))
    step = 0.0  # of a single value, or where all are missing
    if np.isfinite(steps).any():
        step = float(np.nanmedian(steps))
    return bool(np.allclose(a, b, rtol=0, atol=max(SAME_PLACE * step, 1e-9), equal_nan=True))
