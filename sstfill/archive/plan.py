# SPDX-License-Identifier: Apache-2.0
"""What has changed in an archive since it was last looked at, and which work units that concerns."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.archive.job import Days
from sstfill.archive.source import ArchivePass, ArchiveSource, look, touched
from sstfill.errors import InputError
from sstfill.fields import grid
from sstfill.fields.magnitude import check_usual
from sstfill.fields.patches import Patch, PatchGrid, Shape
from sstfill.fields.sea import find_sea, sea_mask
from sstfill.methods.base import Archive, Points
from sstfill.methods.common.sampling import archive, draw_points

log = logging.getLogger(__name__)


def microseconds(field: xr.DataArray) -> NDArray[np.int64]:
    """Times of a field, whole microseconds since 1970; numbers count from 0, steps without a time
    are days.

    >>> microseconds(xr.DataArray(np.zeros((2, 1, 1)), dims=("time", "y", "x"))).tolist()
    [0, 86400000000]
    """
    values = field["time"].values
    if values.dtype.kind == "M":
        return values.astype("M8[us]").astype(np.int64)
    if values.dtype == object:
        import cftime

        return np.asarray(
            cftime.date2num(values, "microseconds since 1970-01-01", values[0].calendar), np.int64
        )
    unit = str(field["time"].attrs.get("units", "days")).split(" ")[0].lower()
    return np.rint(values.astype(np.float64) * grid.DAYS.get(unit, 1.0) * 86_400e6).astype(np.int64)


def first_look(
    source: ArchiveSource, ds: xr.Dataset, name: str, sea: xr.DataArray | None, seed: int
) -> tuple[Days, Archive]:
    """Look at all of an archive, and gather what a method needs to be pinned to it."""
    obs, stats = source.field(ds, name), source.stats()
    found = look(obs)
    _check(name, found)
    given = (
        sea
        if sea is not None
        else find_sea(ds.drop_vars([n for n in grid.candidates(ds) if n in ds]))
    )
    wet = _sea(obs, given, found)
    points = draw_points(wet, obs.sizes["time"], seed)
    sample = look(obs, points, digest=False).sample
    days = Days(
        microseconds(obs),
        found.digest,
        found.image_count,
        np.zeros(len(sample), np.int32),
        sample,
        stats,
    )
    return days, archive(obs, wet, sample, points, seed)


def _sea(obs: xr.DataArray, given: xr.DataArray | None, found: ArchivePass) -> xr.DataArray:
    """Where to fill: a mask that is given or found, else what is ever observed."""
    if given is None:
        return xr.DataArray(found.pixel_count > 0, dims=obs.dims[1:], name="sea")
    wet = sea_mask(obs, given).compute()
    if not (found.pixel_count[wet.values] > 0).any():
        raise InputError(
            f"{obs.name!r}: nothing is observed at sea by the mask; give 1 at sea and 0 on land"
        )
    return xr.DataArray(wet.values, dims=obs.dims[1:], name="sea")


def _check(name: str, found: ArchivePass) -> None:
    if found.infinite:
        raise InputError(
            f"{name!r} holds {found.infinite} infinite values; make them missing: ds.where(np.isfinite(ds))"
        )
    if not found.image_count.any():
        raise InputError(
            f"{name!r}: nothing observed in {len(found.image_count)} images; check the fill value and "
            "the quality threshold"
        )
    check_usual(name, found.least, found.most)


def next_look(
    source: ArchiveSource, ds: xr.Dataset, name: str, before: Days, points: Points
) -> Days:
    """Look at what has come or changed since: the images of files that changed, and those that were
    not there.
    """
    obs, stats = source.field(ds, name), source.stats()
    times = microseconds(obs)
    same = _prefix(before.time, times)
    again = np.ones(len(times), bool)
    again[:same] = False
    at = touched(source.path, before.stats, stats, len(times))
    again[at[at < len(times)]] = True
    digest, count = np.zeros(len(times), np.uint64), np.zeros(len(times), np.int64)
    revision = np.zeros(len(times), np.int32)
    sample = np.full((len(times), len(points.rows)), np.nan, np.float32)
    for new, old in (
        (digest, before.digest),
        (count, before.count),
        (sample, before.sample),
        (revision, before.revision),
    ):
        new[:same] = old[:same]
    for slab in _slabs(obs, again):
        found = look(obs[slab], points)
        _check_later(name, found, str(source.path))
        digest[slab], count[slab], sample[slab] = found.digest, found.image_count, found.sample
    if lost := int(((count[:same] == 0) & (before.count[:same] > 0)).sum()):
        log.warning(
            "%d images of %s that held observations hold none now; they are taken as revised",
            lost,
            source.path,
        )
    return Days(times, digest, count, revision, sample, stats)


def _check_later(name: str, found: ArchivePass, path: str) -> None:
    """Refuse infinite and huge values; later days may be calm, where an archive as a whole is not."""
    if found.infinite:
        raise InputError(
            f"{name!r} of {path} now holds {found.infinite} infinite values; make them missing"
        )
    if found.image_count.any():
        check_usual(name, min(found.least, -1.0), max(found.most, 1.0))


def _slabs(obs: xr.DataArray, wanted: NDArray[np.bool_]) -> Iterator[slice]:
    """Blocks along time that hold a wanted image."""
    edges = np.cumsum([0, *obs.chunksizes["time"]]).tolist()
    yield from (slice(a, b) for a, b in pairwise(edges) if wanted[a:b].any())


def _prefix(before: NDArray[np.int64], now: NDArray[np.int64]) -> int:
    """How many days at the beginning are the same."""
    n = min(len(before), len(now))
    other = np.flatnonzero(before[:n] != now[:n])
    return int(other[0]) if other.size else n


def differing(before: Days | None, now: Days, out: str) -> NDArray[np.bool_]:
    """Days that are new, revised, or stand at another place than before; bool ``(time,)``.

    Raises `InputError` where some are gone.
    """
    found = np.ones(len(now.time), bool)
    if before is None:
        return found
    if gone := int((~np.isin(before.time, now.time)).sum()):
        raise InputError(
            f"{gone} of the {len(before.time)} images that the archive had when {out} was filled are "
            "gone: days may be added and revised, not removed; put them back, or --anew"
        )
    same = _prefix(before.time, now.time)
    found[:same] = before.digest[:same] != now.digest[:same]
    return found


def units(
    shape: Shape, core: Shape, reach: Shape, changed: NDArray[np.bool_]
) -> Iterator[tuple[int, Patch]]:
    """Number and place of each work unit that sees a changed day; numbers stay as the archive grows
    in time.
    """
    for number, patch in enumerate(PatchGrid(core=core, halo=reach).patches(shape)):
        if changed[patch.seen[0]].any():
            yield number, patch
