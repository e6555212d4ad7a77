# SPDX-License-Identifier: Apache-2.0
"""What has changed in an archive since it was last read, and which work units that concerns."""

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
from sstfill.fields.magnitude import check_usual
from sstfill.fields.patches import Patch, PatchGrid, Shape
from sstfill.fields.reading.dates import in_days
from sstfill.fields.reading.sea import locate_sea
from sstfill.fields.reading.variables import find_fields, without_trouble
from sstfill.fields.transform import NONE, Transform, count, total, warn_of_floor
from sstfill.methods.base import Archive, Points
from sstfill.methods.common.sampling import archive, draw_points

log = logging.getLogger(__name__)


def microseconds(field: xr.DataArray) -> NDArray[np.int64]:
    """Return the times of a field in whole microseconds since 1970.

    Numbers count from 0 in the unit of their `units`; images without times are days.

    >>> microseconds(xr.DataArray(np.zeros((2, 1, 1)), dims=("time", "y", "x"))).tolist()
    [0, 86400000000]
    """
    values = field["time"].values
    if values.dtype.kind == "M":
        return values.astype("M8[us]").astype(np.int64)
    if values.dtype == object:
        import cftime

        since_1970 = "microseconds since 1970-01-01"
        # in its own calendar: 30 February is a day in one of 360 days alone
        return np.asarray(cftime.date2num(values, since_1970, values[0].calendar), np.int64)
    return np.rint(in_days(field["time"], values) * 86_400e6).astype(np.int64)


def fillable(source: ArchiveSource, ds: xr.Dataset, names: list[str]) -> list[str]:
    """Pass over the variables that could not be filled, such as empty ones, if others can be.

    Reads each variable once, unless there is only one.

    Raises
    ------
    InputError
        None can be filled.
    """
    if len(names) == 1:
        return names
    return list(
        without_trouble(names, lambda n: _check(n, look(source.field(ds, n), digest=False)))
    )


def first_look(
    source: ArchiveSource,
    ds: xr.Dataset,
    name: str,
    sea: xr.DataArray | None,
    lakes: bool | None,
    seed: int,
) -> tuple[Days, Archive]:
    """Read all of an archive, and gather what a method is fitted to."""
    obs, stats = source.field(ds, name), source.stats()
    found = look(obs)
    _check(name, found)
    mask = _sea(obs, ds, sea, lakes, found)
    # A second pass, because the points lie at sea, which the first pass may have to find.
    points = draw_points(mask, obs.sizes["time"], seed)
    sample = look(obs, points, digest=False).sample
    days = Days(
        time=microseconds(obs),
        digest=found.digest,
        count=found.image_count,
        revision=np.zeros(len(sample), np.int32),
        sample=sample,
        stats=stats,
    )
    return days, archive(obs, mask, sample, points, seed)


def _sea(
    obs: xr.DataArray,
    ds: xr.Dataset,
    given: xr.DataArray | None,
    lakes: bool | None,
    found: ArchivePass,
) -> xr.DataArray:
    """Return where to fill, by the rules of `sstfill.fill`."""
    fields = [name for name in find_fields(ds) if name in ds]
    sea = locate_sea(obs, ds.drop_vars(fields), found.pixel_count > 0, given, lakes=lakes)
    if not (found.pixel_count[sea.mask.values] > 0).any():
        raise InputError(
            f"{obs.name!r}: nothing is observed at sea by the mask; give 1 at sea and 0 on land"
        )
    return xr.DataArray(sea.mask.values, dims=obs.dims[1:], name="sea")


def _check(name: str, found: ArchivePass) -> None:
    if found.infinite:
        raise InputError(
            f"{name!r} holds {found.infinite} infinite values; make them missing: "
            "ds.where(np.isfinite(ds))"
        )
    if not found.image_count.any():
        raise InputError(
            f"{name!r}: nothing observed in {len(found.image_count)} images; check the fill value "
            "and the quality threshold"
        )
    check_usual(name, found.least, found.most)


def next_look(
    source: ArchiveSource,
    ds: xr.Dataset,
    name: str,
    before: Days,
    points: Points,
    transform: Transform = NONE,
) -> Days:
    """Read what has come or changed since `before`: new images, and images whose files changed.

    A warning counts values there that lie outside the bounds of the transform of the output.
    """
    obs, stats = source.field(ds, name), source.stats()
    times = microseconds(obs)
    # times are added in the middle, too: from there on every image has another index
    same = _prefix(before.time, times)
    # A day that moved to another index is read again: files tell of indices only.
    stale = np.ones(len(times), bool)
    stale[:same] = False
    changed = touched(source.root, before.stats, stats, len(times))
    stale[changed[changed < len(times)]] = True
    digest = np.zeros(len(times), np.uint64)
    digest[:same] = before.digest[:same]
    observed = np.zeros(len(times), np.int64)
    observed[:same] = before.count[:same]
    revision = np.zeros(len(times), np.int32)
    revision[:same] = before.revision[:same]
    sample = np.full((len(times), len(points.rows)), np.nan, np.float32)
    sample[:same] = before.sample[:same]
    outside = []
    for slab in _slabs(obs, stale):
        found = look(obs[slab], points)
        _check_later(name, found, str(source.path))
        if transform.is_outside(found.least, found.most):
            outside.append(count(obs[slab], transform.upper))
        digest[slab] = found.digest
        observed[slab] = found.image_count
        sample[slab] = found.sample
    lost = int(((observed[:same] == 0) & (before.count[:same] > 0)).sum())
    if lost:
        log.warning(
            "%d images of %s that held observations hold none now; they are taken as revised",
            lost,
            source.path,
        )
    if outside:
        warn_of_floor(name, transform, total(outside))
    return Days(times, digest, observed, revision, sample, stats)


def _check_later(name: str, found: ArchivePass, path: str) -> None:
    """Refuse infinite and huge values of new days, which may be few and alike."""
    if found.infinite:
        raise InputError(
            f"{name!r} of {path} now holds {found.infinite} infinite values; make them missing"
        )
    if found.image_count.any():
        # at least -1 to 1: new days that are all near 0 are not of an odd magnitude
        check_usual(name, min(found.least, -1.0), max(found.most, 1.0))


def _slabs(obs: xr.DataArray, wanted: NDArray[np.bool_]) -> Iterator[slice]:
    """Yield the blocks along time that hold a wanted image."""
    edges = np.cumsum([0, *obs.chunksizes["time"]]).tolist()
    for start, stop in pairwise(edges):
        if wanted[start:stop].any():
            yield slice(start, stop)


def _prefix(before: NDArray[np.int64], now: NDArray[np.int64]) -> int:
    """Count how many days at the beginning are the same."""
    n = min(len(before), len(now))
    other = np.flatnonzero(before[:n] != now[:n])
    return int(other[0]) if other.size else n


def differing(before: Days | None, now: Days, out: str) -> NDArray[np.bool_]:
    """Return which days are new, revised, or at another index than before; bool ``(time,)``.

    Raises
    ------
    InputError
        Days that the archive had before are gone.
    """
    found = np.ones(len(now.time), bool)
    if before is None:
        return found
    gone = int((~np.isin(before.time, now.time)).sum())
    if gone:
        raise InputError(
            f"{gone} of the {len(before.time)} images that the archive had when {out} was filled "
            "are gone: days may be added and revised, not removed; put them back, or --refit"
        )
    same = _prefix(before.time, now.time)
    # a day at another index lies in another unit, and is filled again whatever it holds
    found[:same] = before.digest[:same] != now.digest[:same]
    return found


def units(
    shape: Shape, core: Shape, reach: Shape, changed: NDArray[np.bool_]
) -> Iterator[tuple[int, Patch]]:
    """Yield number and place of each work unit that sees a changed day.

    Numbers count along time last, so that they stay as the archive grows.
    """
    for number, patch in enumerate(PatchGrid(core=core, halo=reach).patches(shape)):
        if changed[patch.seen[0]].any():
            yield number, patch
