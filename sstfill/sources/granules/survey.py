# SPDX-License-Identifier: Apache-2.0
"""Whether granules go together, and in what they differ, found out before anything is written."""

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
SAME_PLACE = 0.01  # of a grid step


@dataclass(kw_only=True)
class GranuleArchive:
    """The granules, what the first holds, and in what the others differ from it."""

    first: GranuleLook
    attrs: dict[Any, Any]  # that all share
    granules: list[Granule] = field(default_factory=list)
    repacked: set[str] = field(default_factory=set)
    lacking: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)


def survey(
    paths: Sequence[Path], variables: str | Sequence[str] | None, quality_level: int | None
) -> GranuleArchive:
    """Look at each granule, and refuse those that do not go together.

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
        seen = glance(path, archive.first) if archive else None
        seen = seen or look(path, variables, quality_level)
        archive = archive or GranuleArchive(
            first=seen, attrs={k: v for k, v in seen.attrs.items() if not OF_ONE.search(k)}
        )
        _agree(archive, seen)
        archive.granules.append(seen.granule)
    assert archive is not None
    for names, what in (
        (archive.repacked, "is packed in more than one way, and stored as floats"),
        (archive.lacking, "is not in each granule, and empty where it lacks"),
        (archive.late, "is not in the first granule, and left out"),
    ):
        for name in sorted(names):
            log.warning("%s %s", name, what)
    return archive


def _agree(archive: GranuleArchive, seen: GranuleLook) -> None:
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
                f"{b} has {name!r}, which {a} has not; import them apart, or name others: variables="
            )
    archive.late |= set(seen.dims) - set(first.dims)
    for name, dims in first.dims.items():
        if name not in seen.dims:
            archive.lacking.add(name)
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
                f"the flags of {name!r} are {_told(seen.flags[name])} in {b}, {_told(first.flags[name])} "
                f"in {a}; import them apart"
            )
        elif first.packing[name] != seen.packing[name]:
            archive.repacked.add(name)
    archive.attrs = {
        k: v
        for k, v in archive.attrs.items()
        if k in seen.attrs and np.array_equal(v, seen.attrs[k])
    }


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


def _told(flags: tuple[str, ...]) -> str:
    return f"{flags[0]!r} {' '.join(flags[1:])}"


def _listed(place: Mapping[Hashable, Any]) -> str:
    return ", ".join(map(str, place)) or "nothing"


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether coordinates are the same but for rounding."""
    if a.shape != b.shape or a.dtype.kind not in "iuf":
        return bool(np.array_equal(a, b))
    steps = np.abs(np.diff(a.astype(np.float64), axis=-1))
    step = np.nanmedian(steps) if np.isfinite(steps).any() else 0.0
    return bool(np.allclose(a, b, rtol=0, atol=max(SAME_PLACE * step, 1e-9), equal_nan=True))
