# SPDX-License-Identifier: Apache-2.0
"""Find what data are at hand for the paper's protocol, by content, and say of each file how it is
used or why not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from sstfill import io, occlusion
from sstfill.errors import ReadError, SstfillError
from sstfill.evaluation.paper.sequences import (
    Clip,
    CloudScene,
    LwpClouds,
    Series,
    SyntheticOcean,
    TruthSource,
    decoded,
)
from sstfill.fields import grid
from sstfill.io.read import ZARR_MARKS
from sstfill.io.untrusted import guard
from sstfill.occlusion.lwp import is_lwp, published

SHARES = (0.799, 0.696, 0.559, 0.395, 0.245, 0.134)
"""Occluded shares of the paper's six thresholds, 55 to 80 g m-2 (Table 2a)."""
FRAMES, STRIDE, LEAST = 24, 10, 40
"""Of the paper: frames of a sequence, LWP frames from one mask to the next. Ours: least edge of a
field, pixels.
"""
STRAY = 0.01  # share of the sea that may be missing from a truth: such pixels count as land
NUMPY, SURVEY_BYTES = b"\x93NUMPY", 64e6


class Note(NamedTuple):
    """What was found at a path, and how it is used (or why it is not)."""

    path: str
    used: bool
    how: str


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What the protocol runs on: true sequences, clouds, scenes; and a note on each file met."""

    sources: tuple[TruthSource, ...] = (SyntheticOcean(),)
    clouds: tuple[LwpClouds, ...] = ()
    scenes: tuple[CloudScene, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass
class _DatasetChoice:
    sources: list[TruthSource] = field(default_factory=lambda: [SyntheticOcean()])
    clouds: list[LwpClouds] = field(default_factory=list)
    scenes: list[CloudScene] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def find(folders: Sequence[str | os.PathLike[str]] = ()) -> Materials:
    """Search folders recursively; the synthetic ocean is always there.

    Parameters
    ----------
    folders
        Folders (or single files, Zarr stores). Used are liquid water path (time, y, x), images of
        cloud classes, series without gaps of at least 24 images and 40 x 40 pixels, and video
        clips; see `Note` for the rest.

    Raises
    ------
    ReadError
        A folder does not exist.

    >>> [source.name for source in find().sources]
    ['synthetic ocean']
    """
    found, others = _DatasetChoice(), 0
    for folder in map(Path, folders):
        if not folder.exists():
            raise ReadError(f"cannot read {folder}: no such folder; check the name given as --data")
        for path in _members(folder):
            name = str(path.relative_to(folder)) if path != folder else path.name
            notes = _look(path, name, found)
            found.notes += notes
            others += not notes
    if others:
        found.notes.append(
            Note(f"{others} other files", False, "neither NetCDF, Zarr, NumPy nor video")
        )
    return Materials(
        sources=tuple(found.sources),
        clouds=tuple(found.clouds),
        scenes=tuple(found.scenes),
        notes=tuple(found.notes),
    )


def _members(path: Path) -> Iterator[Path]:
    """Files and Zarr stores below a path, in order of their names."""
    if path.is_dir() and not any((path / mark).is_file() for mark in ZARR_MARKS):
        for member in sorted(path.iterdir()) if os.access(path, os.R_OK | os.X_OK) else ():
            if not member.name.startswith(".") and not (member.is_symlink() and member.is_dir()):
                yield from _members(member)
    elif path.is_dir() or path.is_file():
        yield path


def _head(path: Path) -> bytes:
    with io.reading(path), path.open("rb") as stream:
        return stream.read(16)


def _is_clip(head: bytes) -> bool:
    return head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")


def _look(path: Path, name: str, found: _DatasetChoice) -> list[Note]:
    """Enter what a path holds into `found`, and tell; nothing of a file of another kind."""
    try:
        head = b"" if path.is_dir() else _head(path)
        if _is_clip(head):
            return [_clip(path, name, found)]
        if head.startswith(NUMPY):
            mapped = published(path)
            guard.check_memory(path, "its series", 2 * 4 * mapped.size)
            return [_clouds(mapped.astype("float32"), name, found)]
        if not path.is_dir() and not head.startswith((b"CDF", b"\x89HDF")):
            return []
        with io.reading(path), io.open(path, chunks={}) as ds:
            return _dataset(ds, path, name, found)
    except (
        SstfillError,
        ValueError,
        TypeError,
    ) as error:  # the last two: attributes that are not what they should be
        return [Note(name, False, str(error))]


def _dataset(ds: xr.Dataset, path: Path, name: str, found: _DatasetChoice) -> list[Note]:
    lwp = next((v for v in ds.data_vars.values() if is_lwp(v)), None)
    if lwp is not None:
        guard.check_memory(path, f"{lwp.name!r}", 2 * lwp.nbytes)
        return [_clouds(lwp.load(), name, found)]
    classes = next((v for v in ds.data_vars.values() if _is_scene(v)), None)
    if classes is not None:
        guard.check_memory(path, f"{classes.name!r}", 2 * classes.nbytes)
        return [_scene(classes.load(), name, found)]
    fields = grid.candidates(ds)
    if not fields:
        held = (
            ", ".join(f"{n} {v.dtype}" for n, v in ds.data_vars.items())
            or "no variables in the root group"
        )
        return [Note(name, False, f"no floating field on time and two spatial dims: {held}")]
    main = next(
        (
            n
            for n in fields
            if "sea_surface_temperature" in str(ds[n].attrs.get("standard_name", ""))
        ),
        None,
    )
    chosen = main or fields[0]
    trouble, missing = _gaps(grid.standardise(ds[chosen]))
    if trouble:
        return [Note(name, False, f"{chosen}: {trouble}")]
    label = f"{name}: {chosen}" if len(fields) > 1 else name
    units = str(ds[chosen].attrs.get("units", "1"))
    units = "°C" if grid.temperature_unit(units) == "°C" else units
    found.sources.append(Series(name=label, path=path, variable=chosen, units=units))
    left = f"; pixels with gaps ({missing:.2%}) count as land" if missing else ""
    left += (
        f"; not its other fields {', '.join(n for n in fields if n != chosen)}"
        if len(fields) > 1
        else ""
    )
    return [Note(name, True, f"gap-free series {chosen} ({_spacing(ds[chosen])}): truth{left}")]


def _gaps(field: xr.DataArray) -> tuple[str, float]:
    """Why a standardised field cannot serve as truth, and what share is missing of its sea.

    Judged on some of its images where it is large.
    """
    times, ny, nx = field.shape
    if times < FRAMES or min(ny, nx) < LEAST:
        return f"{times} images of {ny}x{nx} pixels; {FRAMES} of {LEAST}x{LEAST} are needed", 0.0
    count = int(np.clip(SURVEY_BYTES / (ny * nx * field.dtype.itemsize), 2, times))
    known = (
        field.isel(time=np.unique(np.linspace(0, times - 1, count).astype(int))).notnull().values
    )
    sea = known.any(0)
    if not sea.any():
        return "nothing observed", 0.0
    missing = float(1 - known[:, sea].mean())
    return (
        f"{missing:.1%} of the sea is missing; a truth has no gaps" if missing > STRAY else "",
        missing,
    )


def _spacing(da: xr.DataArray) -> str:
    days = float(np.median(np.diff(grid.days(grid.standardise(da)))))
    return (
        "daily"
        if abs(days - 1) < 0.01
        else f"every {days * 24:.3g} h"
        if days < 1
        else f"every {days:.3g} days"
    )


def _clouds(lwp: xr.DataArray, name: str, found: _DatasetChoice) -> Note:
    """Set the thresholds to the paper's occluded shares, which depend on how deep the clouds are."""
    settled = lwp.sizes["time"] - occlusion.SPIN_UP
    stride = min(STRIDE, (settled - 1) // (FRAMES - 1))
    if stride < 1:
        return Note(
            name,
            False,
            f"LWP of {lwp.sizes['time']} frames; {occlusion.SPIN_UP + FRAMES} are needed",
        )
    thresholds = {share: occlusion.threshold_for(lwp, share) for share in SHARES}
    found.clouds.append(
        LwpClouds(
            name=name, lwp=lwp, thresholds=thresholds, stride=stride, start_after=occlusion.SPIN_UP
        )
    )
    said = ", ".join(f"{t:.1f}" for t in thresholds.values())
    return Note(
        name, True, f"liquid water path: clouds, thresholds {said} g m-2, every {stride}th frame"
    )


def _is_scene(da: xr.DataArray) -> bool:
    classes = da.dtype.kind in "iub" or "flag_meanings" in da.attrs
    return "cloud" in str(da.name).lower() and da.ndim == 2 and classes


def _scene(da: xr.DataArray, name: str, found: _DatasetChoice) -> Note:
    """Read the classes by their meanings; without them 0 is clear."""
    meanings = str(da.attrs.get("flag_meanings", "clear cloudy")).lower().split()
    stated = da.attrs.get("flag_values", range(len(meanings)))
    flags = (
        stated.replace(",", " ").split()
        if isinstance(stated, str)
        else np.ravel(np.asarray(stated))
    )
    kinds = {m: int(str(f).rstrip("bBsSuU")) for m, f in zip(meanings, flags, strict=False)}
    land, unseen = (
        [v for m, v in kinds.items() if word in m.split("_")] for word in ("land", "no")
    )
    values = da.values
    clear = np.isin(values, [v for m, v in kinds.items() if m.startswith("clear")] or [0])
    on_land = np.isin(values, land)
    found.scenes.append(
        CloudScene(name=name, hidden=~clear & ~on_land, outside=on_land | np.isin(values, unseen))
    )
    ny, nx = values.shape
    return Note(
        name,
        True,
        f"cloud classes of {ny}x{nx} pixels: a window moving across is a sequence of masks",
    )


def _clip(path: Path, name: str, found: _DatasetChoice) -> Note:
    count = len(decoded(path, LEAST, True))
    if count < FRAMES:
        return Note(name, False, f"a clip of {count} frames, {FRAMES} are needed")
    found.sources += [
        Clip(name=f"{name} (grey)", path=path),
        Clip(name=f"{name} (RGB)", path=path, channels=("r", "g", "b")),
    ]
    return Note(
        name, True, f"a clip of {count} frames: truth, in grey and in colour, resized to a square"
    )
